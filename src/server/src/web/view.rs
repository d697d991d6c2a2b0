//! One action as its page shows it: everything is a string by then, and only the template decides
//! where it goes.

use std::collections::BTreeMap;

use countersign_domain::{
    ActionKind, Channel, Code, Count, Inverse, Predicate, RecordKind, Registry, Requirement, Risk,
    Seat, Signed, StateName, Statement, Success, Verb, eligible, one_line, seats_missing, visible,
};
use countersign_store::{ActionDetail, Heartbeat, Ticket};
use jiff::Timestamp;

use super::Web;
use super::live::Look;
use super::notes::{self, FactRow, Note, Piece};
use super::present::{Ago, Moment, and_list, name_of, words};
use super::session::SignedIn;
use super::statement::Shown;
use super::story::{self, Headline, Line, Step};
use crate::app::Rules;
use crate::evidence::{self, Standing};
use crate::workers::verdict;

/// Longest text of an AI that is shown.
const CLAIM_CAP: usize = 2000;

pub(super) struct ActionView {
    pub id: String,
    pub state: StateName,
    /// The state in a word, or that nobody vouches for it.
    pub state_word: &'static str,
    pub verb: &'static str,
    pub name: String,
    pub namespace: String,
    pub cluster: String,
    pub simulated: bool,
    pub risk: Option<Risk>,
    pub headline: Headline,
    pub steps: Vec<Step>,
    pub agent: String,
    pub people: String,
    pub asked: Moment,
    pub ticket: Option<TicketLink>,
    pub notes: Vec<Note>,
    pub facts: Vec<FactRow>,
    pub seen: SeenNow,
    pub looked: Option<Moment>,
    pub claim: String,
    pub change: Option<Change>,
    pub policy: Option<PolicyView>,
    pub form: Option<Form>,
    pub why_not: String,
    pub outcome: Vec<(String, Vec<Piece>)>,
    pub timeline: Vec<Line>,
    /// Whether anything can still happen: the page then follows.
    pub follows: bool,
}

impl ActionView {
    /// Whether the page loads itself again where there is no script. It would erase a half-written
    /// reason: while there is something to decide, it does not.
    pub(super) fn reloads(&self) -> bool {
        self.follows && (self.form.is_none() || self.state != StateName::Pending)
    }
}

/// Our own look, for its label.
pub(super) enum SeenNow {
    Live(Ago),
    Gone,
    Unknown(String),
    /// The action is over: the present says nothing about it.
    Over,
}

impl SeenNow {
    pub(super) const fn is_live(&self) -> bool {
        matches!(self, Self::Live(..))
    }
}

pub(super) struct TicketLink {
    pub key: String,
    pub url: String,
}

/// What exactly would be, or was, done.
pub(super) struct Change {
    /// For the first look: what happens, without a uid in the way.
    pub brief: String,
    /// The sentence that ticket and AI are shown, too.
    pub sentence: String,
    pub uid: String,
    pub kube_system_uid: String,
    pub params: Vec<(String, String)>,
    pub checks: Vec<String>,
    pub success: String,
    pub inverse: String,
    pub digest: String,
    pub short: String,
    pub raw: String,
    pub kid: String,
    pub signature: String,
    pub decide_by: Moment,
    pub execute_by: Moment,
}

pub(super) struct PolicyView {
    pub rule: String,
    pub hash: String,
    pub needs: Vec<String>,
    pub missing: usize,
    pub given: Vec<Given>,
    /// Names, the reader's own first.
    pub who: Vec<(String, bool)>,
    pub executor: String,
}

pub(super) struct Given {
    pub name: String,
    pub verb: &'static str,
    pub place: &'static str,
    pub at: Moment,
    pub reason: String,
    /// An approval that cannot count any more.
    pub past: bool,
}

/// What this person may answer now.
pub(super) struct Form {
    pub csrf: String,
    pub digest: String,
    pub version: i64,
    pub approve: Option<Approve>,
    pub reject: bool,
    pub withdraw: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Approve {
    /// Low risk: one tap.
    AtOnce,
    /// A second step, on a page of its own.
    Confirm,
}

/// Everything a view is made of; read once.
pub(super) struct Material<'a> {
    pub detail: &'a ActionDetail,
    pub shown: &'a Shown,
    pub heartbeats: &'a [Heartbeat],
    pub look: &'a Look,
    pub rules: &'a Rules,
    pub who: &'a SignedIn,
    pub now: Timestamp,
}

pub(super) const fn verb(kind: ActionKind) -> &'static str {
    match kind {
        ActionKind::RestartPod => "Restart pod",
    }
}

impl ActionView {
    pub(super) fn of(web: &Web, material: &Material<'_>) -> Self {
        let Material {
            detail,
            shown,
            heartbeats,
            look,
            rules,
            who,
            now,
        } = *material;
        let action = &detail.action;
        let state = action.state.name();
        let proposal = &action.proposal;
        let registry = &rules.registry;
        let signed = shown.verified();
        let statement = signed.map(Signed::body);
        // The statement's words go before the server's own.
        let (cluster, namespace, name) = match statement {
            Some(s) => (&s.cluster.id, &s.namespace, &s.name),
            None => (
                &proposal.target.cluster,
                &proposal.target.namespace,
                &proposal.target.name,
            ),
        };
        let heartbeat = heartbeats
            .iter()
            .filter(|beat| beat.cluster == *cluster)
            .max_by_key(|beat| beat.at);
        let mut notes = Vec::new();
        if let Shown::Broken(why) = shown {
            notes.push(Note {
                class: "bad",
                text: format!(
                    "The stored statement is not one that the executor signed: {why}. Somebody may \
                     have altered the database. Nothing can be decided here."
                ),
            });
        }
        let keys = &web.app.executor_keys;
        let told = Standing::of(detail, keys);
        if let Some(record) = evidence::contradiction(detail, keys) {
            notes.push(Note {
                class: "bad",
                text: evidence::contradiction_sentence(&record),
            });
        }
        notes.extend(notes::target_notes(shown, state, look, now));
        if let Some(statement) = statement {
            notes.extend(notes::readiness(
                statement,
                state,
                heartbeat,
                &rules.policy,
                now,
            ));
        }
        let over = state.is_terminal();
        let over_look = Look::Unknown { why: String::new() };
        let empty = BTreeMap::new();
        let then = statement.map_or(&empty, |statement| &statement.facts);
        let (form, why_not) = form(detail, signed, registry, who, now);
        Self {
            id: action.id.to_string(),
            state,
            state_word: if told.is_unsigned() {
                "not signed"
            } else {
                state.as_str()
            },
            verb: verb(statement.map_or(proposal.kind, |statement| statement.kind)),
            name: one_line(name, 253),
            namespace: one_line(namespace, 63),
            cluster: one_line(cluster, 63),
            simulated: web
                .app
                .clusters
                .get(cluster)
                .is_some_and(|cluster| cluster.simulated),
            risk: statement.map(|statement| statement.risk),
            headline: story::headline(detail, shown, &told, registry, now),
            steps: story::steps(&action.state, told.is_unsigned()),
            agent: one_line(statement.map_or(&proposal.agent, |s| &s.agent), 64),
            people: people(statement, &proposal.agent, registry),
            asked: Moment {
                at: action.created_at,
                now,
            },
            ticket: detail.ticket.as_ref().and_then(link),
            notes,
            facts: notes::rows(then, if over { &over_look } else { look }, now),
            seen: seen(look, over, now),
            looked: statement.map(|statement| Moment {
                at: statement.admitted_at,
                now,
            }),
            claim: visible(&proposal.reason, CLAIM_CAP),
            change: signed.map(|signed| change(signed, now)),
            policy: statement
                .map(|statement| policy(statement, detail, registry, who, heartbeat, now)),
            form,
            why_not,
            outcome: outcome(&told, now),
            timeline: story::timeline(action.id, &detail.timeline, keys, registry, now),
            follows: !over,
        }
    }
}

fn people(statement: Option<&Statement>, agent: &str, registry: &Registry) -> String {
    let ids: Vec<String> = match statement {
        Some(statement) => statement.on_behalf_of.clone(),
        None => registry
            .agent(agent)
            .map(|agent| agent.people.clone())
            .unwrap_or_default(),
    };
    and_list(
        &ids.iter()
            .map(|id| name_of(registry, id))
            .collect::<Vec<_>>(),
    )
}

/// A ticket's address comes from outside: only a web address becomes a link.
fn link(ticket: &Ticket) -> Option<TicketLink> {
    let url: url::Url = ticket.url.parse().ok()?;
    matches!(url.scheme(), "http" | "https").then(|| TicketLink {
        key: one_line(&ticket.key, 40),
        url: url.to_string(),
    })
}

fn seen(look: &Look, over: bool, now: Timestamp) -> SeenNow {
    match look {
        _ if over => SeenNow::Over,
        Look::Seen { at, .. } => SeenNow::Live(Ago { at: *at, now }),
        Look::Gone => SeenNow::Gone,
        Look::Unknown { why } => SeenNow::Unknown(why.clone()),
    }
}

fn change(signed: &Signed<Statement>, now: Timestamp) -> Change {
    let statement = signed.body();
    let digest = signed.digest();
    Change {
        brief: brief(statement),
        sentence: one_line(&statement.change(), 1000),
        uid: statement.uid.clone(),
        kube_system_uid: statement.cluster.kube_system_uid.clone(),
        params: shown_pairs(&statement.params),
        checks: statement.predicates.iter().map(check).collect(),
        success: success(statement),
        inverse: match &statement.inverse {
            Inverse::None { because } => {
                format!(
                    "none, because {}.",
                    one_line(because, 300).trim_end_matches('.')
                )
            }
        },
        short: digest.short(),
        digest: digest.to_string(),
        raw: visible(&signed.sealed().json, 20_000),
        kid: signed.sealed().kid.clone(),
        signature: signed.sealed().signature.clone(),
        decide_by: Moment {
            at: statement.decide_by,
            now,
        },
        execute_by: Moment {
            at: statement.execute_by,
            now,
        },
    }
}

fn brief(statement: &Statement) -> String {
    match statement.kind {
        ActionKind::RestartPod => {
            let next = statement.owner().map_or_else(String::new, |owner| {
                let name = one_line(&owner.name, 253);
                format!(
                    " {} {name} makes its replacement.",
                    one_line(&owner.kind, 63)
                )
            });
            format!("This one pod is evicted.{next}")
        }
    }
}

fn shown_pairs(map: &BTreeMap<String, String>) -> Vec<(String, String)> {
    map.iter()
        .map(|(key, value)| (one_line(key, 60), one_line(value, 300)))
        .collect()
}

fn check(predicate: &Predicate) -> String {
    match predicate {
        Predicate::Uid { .. } => "It is still this very pod, by its uid.".to_owned(),
        Predicate::Owner { owner } => {
            format!(
                "It still belongs to {} {}.",
                owner.kind,
                one_line(&owner.name, 253)
            )
        }
        Predicate::Unhealthy {
            window_seconds: Count(seconds),
        } => {
            format!(
                "It is still unhealthy: not Ready, or failed in the last {} min.",
                seconds / 60
            )
        }
    }
}

pub(super) fn success(statement: &Statement) -> String {
    match statement.success {
        Success::ReplacementReady { .. } => format!(
            "A new pod of the same controller is Ready within {}.",
            words(statement.success_deadline())
        ),
    }
}

fn policy(
    statement: &Statement,
    detail: &ActionDetail,
    registry: &Registry,
    who: &SignedIn,
    heartbeat: Option<&Heartbeat>,
    now: Timestamp,
) -> PolicyView {
    let may = |person: &str| {
        [Channel::Web, Channel::Jira]
            .into_iter()
            .any(|channel| eligible(statement, person, channel, registry, now).is_ok())
    };
    let mut list: Vec<(String, bool)> = registry
        .people()
        .filter(|person| may(&person.id))
        .map(|person| (one_line(&person.name, 64), person.id == who.person))
        .collect();
    list.sort_by_key(|(_, you)| !you);
    let standing = verdict::standing(&detail.decisions);
    PolicyView {
        rule: one_line(&statement.rule, 63),
        hash: statement.policy_hash.short(),
        needs: statement.require.iter().map(need).collect(),
        missing: seats_missing(&statement.require, &seats(statement, detail, registry, now)),
        given: detail
            .decisions
            .iter()
            .map(|row| Given {
                name: name_of(registry, &row.person),
                verb: story::past(row.verb),
                place: story::place(row.channel),
                at: Moment {
                    at: row.decided_at,
                    now,
                },
                reason: visible(&row.reason, 500),
                past: row.verb == Verb::Approve
                    && !standing.iter().any(|counts| std::ptr::eq(*counts, row)),
            })
            .collect(),
        who: list,
        executor: heartbeat.map_or_else(
            || "never seen".to_owned(),
            |beat| {
                format!(
                    "{}, seen {} ago",
                    one_line(&beat.executor, 64),
                    words(now.duration_since(beat.at))
                )
            },
        ),
    }
}

/// The approvals that count today, as seats.
pub(super) fn seats(
    statement: &Statement,
    detail: &ActionDetail,
    registry: &Registry,
    now: Timestamp,
) -> Vec<Seat> {
    verdict::standing(&detail.decisions)
        .into_iter()
        .filter_map(|row| eligible(statement, &row.person, row.channel, registry, now).ok())
        .collect()
}

/// `1 of sre, on this page or in Jira`.
pub(super) fn need(entry: &Requirement) -> String {
    let places: Vec<&str> = entry
        .channels
        .iter()
        .map(|channel| story::place(*channel))
        .collect();
    format!(
        "{} of {}, {}",
        entry.count,
        one_line(&entry.group, 64),
        places.join(" or ")
    )
}

/// Approved as far as the server knows, and the executor does not see enough: an approval on the
/// page can still help.
pub(super) fn misses_evidence(detail: &ActionDetail) -> bool {
    let state = &detail.action.state;
    let held = state.held().map(|held| held.reason.code);
    state.name() == StateName::Approved && held == Some(Code::MissingEvidence)
}

/// Whether this person said so on the page: a move of the ticket is only a pointer.
pub(super) fn has_attested(detail: &ActionDetail, person: &str, verb: Verb) -> bool {
    detail.decisions.iter().any(|row| {
        row.person == person
            && row.verb == verb
            && row.channel == Channel::Web
            && row.sealed.is_some()
    })
}

/// Whether an approval of this person is asked for now. `Err` says why not; it is empty where
/// nobody's is.
pub(super) fn may_approve(
    detail: &ActionDetail,
    statement: &Statement,
    person: &str,
    registry: &Registry,
    now: Timestamp,
) -> Result<(), String> {
    let missing = misses_evidence(detail);
    if detail.action.state.name() != StateName::Pending && !missing {
        return Err(String::new());
    }
    if now >= statement.decide_by {
        return Err("The time to decide is over.".to_owned());
    }
    let counts = if missing {
        has_attested(detail, person, Verb::Approve)
    } else {
        let standing = verdict::standing(&detail.decisions);
        standing.iter().any(|row| row.person == person)
    };
    if verdict::took_back(&detail.decisions, person) {
        return Err("You withdrew your approval, which is final.".to_owned());
    }
    if counts {
        return Err("You have approved it. It waits for others.".to_owned());
    }
    eligible(statement, person, Channel::Web, registry, now)
        .map(drop)
        .map_err(|reason| {
            format!(
                "You cannot approve this: {}.",
                one_line(&reason.message, 400)
            )
        })
}

/// What this person may answer, or why they may not approve.
fn form(
    detail: &ActionDetail,
    signed: Option<&Signed<Statement>>,
    registry: &Registry,
    who: &SignedIn,
    now: Timestamp,
) -> (Option<Form>, String) {
    let Some(signed) = signed else {
        return (None, String::new());
    };
    let statement = signed.body();
    let state = detail.action.state.name();
    let (approve, why_not) = match may_approve(detail, statement, &who.person, registry, now) {
        Ok(()) if statement.risk == Risk::Low => (Some(Approve::AtOnce), String::new()),
        Ok(()) => (Some(Approve::Confirm), String::new()),
        Err(why_not) => (None, why_not),
    };
    let stands = verdict::standing(&detail.decisions)
        .iter()
        .any(|row| row.person == who.person);
    let open = matches!(state, StateName::Pending | StateName::Approved);
    // Anyone in the registry may say no, also those who may not say yes: the executor counts it.
    let reject = open && registry.valid_person(&who.person, now).is_some();
    let withdraw = open && stands;
    let form = (approve.is_some() || reject || withdraw).then(|| Form {
        csrf: who.csrf.text().to_owned(),
        digest: signed.digest().to_string(),
        version: detail.action.version,
        approve,
        reject,
        withdraw,
    });
    (form, why_not)
}

/// What the executor's signed record says it saw.
fn outcome(told: &Standing, now: Timestamp) -> Vec<(String, Vec<Piece>)> {
    let Some(record) = told
        .signed()
        .filter(|record| record.record != RecordKind::Intent)
    else {
        return Vec::new();
    };
    record
        .details
        .iter()
        .map(|(key, value)| {
            (
                one_line(key, 60).replace('_', " "),
                notes::pieces(value, now),
            )
        })
        .collect()
}
