//! The executor's own look at a ticket, with its own token. The server's word that somebody moved
//! it is not used at all; its pointer to the issue is held against the configuration and against
//! the text that the statement renders to.

use countersign_domain::{Code, JiraMove, Reason, Registry, SKEW_OF_A_NO, Signed, Statement, Verb};
use countersign_integrations::jira::ticket::{TicketText, render_ticket};
use countersign_integrations::jira::{
    ChangeEntry, IssueRecord, JiraError, JiraReader, edited_after_creation, latest_status_move,
    status_moves,
};
use countersign_store::Ticket;
use jiff::Timestamp;

use crate::config::Jira;

/// Can look at tickets.
pub struct TicketLook {
    reader: JiraReader,
    expected: Expected,
}

/// What a ticket of ours is like.
struct Expected {
    project_id: String,
    issue_type_id: String,
    bot_account_id: String,
    approving: Vec<String>,
    declining: Vec<String>,
}

/// What the ticket says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub moved: Option<JiraMove>,
    /// All moves to a declining status since the question was asked, also those that somebody
    /// undid.
    pub declined: Vec<JiraMove>,
    /// Why a move that is there does not count, for people.
    pub note: Option<String>,
}

impl Answer {
    fn note(sentence: impl Into<String>) -> Self {
        Self {
            note: Some(sentence.into()),
            ..Self::default()
        }
    }

    /// What counts: a person's "no", whatever became of the ticket afterwards; else the latest
    /// move.
    pub fn said(&self, registry: &Registry) -> Option<&JiraMove> {
        let person = |moved: &&JiraMove| {
            let owner = registry.valid_jira_account(&moved.account, moved.at);
            owner.is_some() && !registry.is_jira_bot(&moved.account)
        };
        self.declined.iter().find(person).or(self.moved.as_ref())
    }
}

impl TicketLook {
    /// Connects on the first look.
    pub fn new(config: &Jira) -> anyhow::Result<Self> {
        Ok(Self {
            reader: JiraReader::new(&config.base_url, &config.email, config.token()?)?,
            expected: Expected {
                project_id: config.project_id.clone(),
                issue_type_id: config.issue_type_id.clone(),
                bot_account_id: config.bot_account_id.clone(),
                approving: config.approving_status_ids.clone(),
                declining: config.declining_status_ids.clone(),
            },
        })
    }

    /// Looks. An unreachable Jira is a reason to hold: a "no" could stand there.
    pub async fn look(
        &self,
        ticket: &Ticket,
        statement: &Signed<Statement>,
    ) -> Result<Answer, Reason> {
        let id = &ticket.issue_id;
        let looked = self.reader.look(id).await;
        let (issue, log) = looked.map_err(|error| unreachable(&error))?;
        let text = render_ticket(statement.body(), &statement.digest());
        let asked_at = statement.body().admitted_at;
        self.expected.judge(id, &issue, &log, &text, asked_at)
    }
}

fn unreachable(error: &JiraError) -> Reason {
    Reason::new(
        Code::SourceUnreachable,
        format!("the ticket cannot be checked now: {error}"),
    )
}

impl Expected {
    fn judge(
        &self,
        id: &str,
        issue: &IssueRecord,
        log: &[ChangeEntry],
        text: &TicketText,
        asked_at: Timestamp,
    ) -> Result<Answer, Reason> {
        let ours = issue.id == id
            && issue.project_id == self.project_id
            && issue.issue_type_id == self.issue_type_id
            && issue.creator_account_id.as_deref() == Some(&self.bot_account_id);
        let mut answer = self.standing(issue, log, text, ours)?;
        if ours {
            answer.declined = self.declined(log, asked_at);
        }
        Ok(answer)
    }

    fn declined(&self, log: &[ChangeEntry], asked_at: Timestamp) -> Vec<JiraMove> {
        status_moves(log)
            .into_iter()
            .filter(|moved| self.declining.contains(&moved.to_status_id))
            .filter(|moved| asked_at.duration_since(moved.at) <= SKEW_OF_A_NO)
            .filter_map(|moved| {
                let account = moved.author_account_id?;
                (account != self.bot_account_id).then_some(JiraMove {
                    verb: Verb::Reject,
                    account,
                    at: moved.at,
                })
            })
            .collect()
    }

    /// What the ticket's present status says.
    fn standing(
        &self,
        issue: &IssueRecord,
        log: &[ChangeEntry],
        text: &TicketText,
        ours: bool,
    ) -> Result<Answer, Reason> {
        let verb = match &issue.status_id {
            status if self.approving.contains(status) => Verb::Approve,
            status if self.declining.contains(status) => Verb::Reject,
            _ => return Ok(Answer::default()),
        };
        if !ours {
            return Ok(Answer::note(
                "the ticket was not opened by the bot in the configured project and type",
            ));
        }
        let Some(moved) = latest_status_move(issue, log) else {
            return Err(Reason::new(
                Code::SourceUnreachable,
                "the ticket's status and its history do not fit together yet",
            ));
        };
        let Some(account) = moved.author_account_id else {
            return Ok(Answer::note(
                "the ticket was moved by an account that Jira does not name",
            ));
        };
        if account == self.bot_account_id {
            return Ok(Answer::note(
                "the ticket was moved by the bot that opened it: no human said anything",
            ));
        }
        let moved = JiraMove {
            verb,
            account,
            at: moved.at,
        };
        // A "no" counts on an edited ticket, too: it cannot do harm.
        if verb == Verb::Approve {
            if let Some(edit) = edited_after_creation(log) {
                return Ok(Answer::note(format!(
                    "the ticket's {} was edited at {}, so its move approves nothing",
                    if edit.field.eq_ignore_ascii_case("summary") {
                        "summary"
                    } else {
                        "description"
                    },
                    edit.at
                )));
            }
            if !text.is_said_by(&issue.summary, &issue.description) {
                return Ok(Answer::note(
                    "the ticket does not say what the signed statement says, so its move approves \
                     nothing",
                ));
            }
        }
        Ok(Answer {
            moved: Some(moved),
            ..Answer::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use countersign_integrations::jira::ChangeItem;
    use serde_json::json;

    use super::*;

    fn expected() -> Expected {
        Expected {
            project_id: "10000".into(),
            issue_type_id: "10001".into(),
            bot_account_id: "bot".into(),
            approving: vec!["5".into()],
            declining: vec!["6".into()],
        }
    }

    fn text() -> TicketText {
        TicketText {
            summary: "s".into(),
            description: json!({"type": "doc", "content": []}),
        }
    }

    fn issue(status: &str) -> IssueRecord {
        IssueRecord {
            id: "7".into(),
            key: "OPS-7".into(),
            project_id: "10000".into(),
            project_key: "OPS".into(),
            issue_type_id: "10001".into(),
            status_id: status.into(),
            status_name: String::new(),
            creator_account_id: Some("bot".into()),
            created_at: "2026-11-22T02:00:00Z".parse().unwrap(),
            summary: "s".into(),
            description: text().description,
            labels: vec![],
        }
    }

    fn change(field: &str, to: &str) -> ChangeEntry {
        ChangeEntry {
            id: "1".into(),
            created: "2026-11-22T02:01:00Z".parse().unwrap(),
            author_account_id: Some("li".into()),
            items: vec![ChangeItem {
                field: field.into(),
                field_id: Some(field.into()),
                from: None,
                to: Some(to.into()),
                from_string: None,
                to_string: None,
            }],
        }
    }

    fn judge(issue: &IssueRecord, log: &[ChangeEntry]) -> Result<Answer, Reason> {
        expected().judge("7", issue, log, &text(), asked_at())
    }

    fn asked_at() -> Timestamp {
        "2026-11-22T02:00:00Z".parse().unwrap()
    }

    /// A move by that account, so many seconds after the question.
    fn moved(to: &str, account: &str, seconds: i64) -> ChangeEntry {
        ChangeEntry {
            id: (100 + seconds).to_string(),
            created: asked_at() + jiff::SignedDuration::from_secs(seconds),
            author_account_id: Some(account.into()),
            ..change("status", to)
        }
    }

    #[test]
    fn a_move_of_our_ticket_counts() {
        let answer = judge(&issue("5"), &[change("status", "5")]).unwrap();
        let moved = answer.moved.unwrap();
        assert_eq!((moved.verb, moved.account.as_str()), (Verb::Approve, "li"));
        assert_eq!(judge(&issue("3"), &[]).unwrap(), Answer::default());
    }

    #[test]
    fn a_status_without_its_move_is_looked_at_again() {
        assert_eq!(
            judge(&issue("5"), &[]).unwrap_err().code,
            Code::SourceUnreachable
        );
        let older = [change("status", "4")];
        assert_eq!(
            judge(&issue("5"), &older).unwrap_err().code,
            Code::SourceUnreachable
        );
    }

    #[test]
    fn whoever_made_another_ticket_or_another_text_approves_nothing() {
        let log = [change("status", "5")];
        for spoil in [
            (|issue: &mut IssueRecord| issue.project_id = "1".into()) as fn(&mut IssueRecord),
            |issue| issue.issue_type_id = "1".into(),
            |issue| issue.creator_account_id = Some("eve".into()),
            |issue| issue.creator_account_id = None,
            |issue| issue.id = "8".into(),
            |issue| issue.summary = "t".into(),
            |issue| issue.description = json!(null),
        ] {
            let mut issue = issue("5");
            spoil(&mut issue);
            let answer = judge(&issue, &log).unwrap();
            assert!(answer.moved.is_none() && answer.note.is_some(), "{issue:?}");
        }
    }

    #[test]
    fn an_edited_ticket_can_still_say_no_and_never_yes() {
        let edit = ChangeEntry {
            id: "2".into(),
            ..change("description", "x")
        };
        let yes = [change("status", "5"), edit.clone()];
        assert!(
            judge(&issue("5"), &yes)
                .unwrap()
                .note
                .unwrap()
                .contains("edited")
        );
        let no = [change("status", "6"), edit];
        assert_eq!(
            judge(&issue("6"), &no).unwrap().moved.unwrap().verb,
            Verb::Reject
        );
    }

    #[test]
    fn a_no_that_somebody_moved_away_is_still_a_no() {
        let registry = "[[person]]\nid=\"maria\"\ngroups=[]\njira=[\"maria\"]\n\
            [[person]]\nid=\"bob\"\ngroups=[]\njira=[\"bob\"]\n\
            [[person]]\nid=\"left\"\ngroups=[]\njira=[\"left\"]\n\
            valid_until=\"2026-11-22T02:00:30Z\"\n";
        let registry = Registry::from_toml(registry).unwrap();
        let said = |status: &str, log: &[ChangeEntry]| {
            let answer = judge(&issue(status), log).unwrap();
            answer
                .said(&registry)
                .map(|moved| (moved.verb, moved.account.clone()))
        };
        let no = Some((Verb::Reject, "maria".to_owned()));
        let undone = [moved("6", "maria", 60), moved("5", "bob", 120)];
        assert_eq!(said("5", &undone), no);
        let reopened = [moved("6", "maria", 60), moved("3", "bob", 120)];
        assert_eq!(said("3", &reopened), no);
        // Also of one who left afterwards, and though Jira's clock is behind.
        let left = [moved("6", "left", 20), moved("5", "bob", 120)];
        assert_eq!(said("5", &left), Some((Verb::Reject, "left".to_owned())));
        let behind = [moved("6", "maria", -60), moved("5", "bob", 120)];
        assert_eq!(said("5", &behind), no);

        // Nobody's account, the bot's, one of who has left, or from before the question: only what
        // stands counts.
        let yes = Some((Verb::Approve, "bob".to_owned()));
        for (account, seconds) in [("stranger", 60), ("bot", 60), ("left", 60), ("maria", -600)] {
            let log = [moved("6", account, seconds), moved("5", "bob", 120)];
            assert_eq!(said("5", &log), yes, "{account}");
        }
        let mut other = issue("5");
        other.creator_account_id = Some("eve".into());
        assert!(judge(&other, &undone).unwrap().declined.is_empty());
    }

    #[test]
    fn the_bot_that_opened_the_ticket_answers_nothing() {
        for status in ["5", "6"] {
            let answer = judge(&issue(status), &[moved(status, "bot", 60)]).unwrap();
            assert!(answer.moved.is_none() && answer.declined.is_empty());
            assert!(answer.note.unwrap().contains("bot"));
        }
    }

    #[test]
    fn a_move_without_an_author_counts_for_nothing() {
        let log = [ChangeEntry {
            author_account_id: None,
            ..change("status", "5")
        }];
        let answer = judge(&issue("5"), &log).unwrap();
        assert!(answer.moved.is_none() && answer.note.is_some());
    }
}
