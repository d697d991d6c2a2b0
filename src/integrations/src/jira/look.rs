//! What an issue's history says about its status and its text. Facts only: whether a move
//! approves anything is decided by the policy and the registry.

use jiff::Timestamp;
use serde::Serialize;

use super::records::{ChangeEntry, ChangeItem, IssueRecord};

/// One status change of an issue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StatusMove {
    pub to_status_id: String,
    /// Unknown authors approve nothing.
    pub author_account_id: Option<String>,
    pub at: Timestamp,
    pub entry_id: String,
}

/// A change of the issue's summary or description.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Edit {
    pub field: String,
    pub author_account_id: Option<String>,
    pub at: Timestamp,
    pub entry_id: String,
}

/// The move that gave `issue` the status it has.
///
/// Nothing if the status never changed, or if the latest change does not lead to the issue's
/// status: then the two were not read at one moment, and the caller looks again.
#[must_use]
pub fn latest_status_move(issue: &IssueRecord, changelog: &[ChangeEntry]) -> Option<StatusMove> {
    let entry = changelog
        .iter()
        .filter(|entry| entry.items.iter().any(|item| is_field(item, "status")))
        .max_by(|a, b| a.order().cmp(&b.order()))?;
    let to = entry
        .items
        .iter()
        .rfind(|item| is_field(item, "status"))?
        .to
        .as_ref()?;
    (*to == issue.status_id).then(|| StatusMove {
        to_status_id: to.clone(),
        author_account_id: entry.author_account_id.clone(),
        at: entry.created,
        entry_id: entry.id.clone(),
    })
}

/// All status changes, oldest first, whatever the order of the list. Also those that were undone:
/// a "no" that somebody moved away was said all the same.
#[must_use]
pub fn status_moves(changelog: &[ChangeEntry]) -> Vec<StatusMove> {
    let mut entries: Vec<&ChangeEntry> = changelog.iter().collect();
    entries.sort_by(|a, b| a.order().cmp(&b.order()));
    entries
        .into_iter()
        .flat_map(|entry| {
            let changes = entry.items.iter().filter(|item| is_field(item, "status"));
            changes.filter_map(|item| {
                Some(StatusMove {
                    to_status_id: item.to.clone()?,
                    author_account_id: entry.author_account_id.clone(),
                    at: entry.created,
                    entry_id: entry.id.clone(),
                })
            })
        })
        .collect()
}

/// The latest edit of summary or description, if there is any: creation itself leaves no entry.
#[must_use]
pub fn edited_after_creation(changelog: &[ChangeEntry]) -> Option<Edit> {
    changelog
        .iter()
        .filter_map(|entry| {
            let item = entry
                .items
                .iter()
                .find(|item| is_field(item, "summary") || is_field(item, "description"))?;
            Some((entry, item))
        })
        .max_by(|(a, _), (b, _)| a.order().cmp(&b.order()))
        .map(|(entry, item)| Edit {
            field: item.field.clone(),
            author_account_id: entry.author_account_id.clone(),
            at: entry.created,
            entry_id: entry.id.clone(),
        })
}

/// By id where there is one: a custom field may be called `status`, too.
fn is_field(item: &ChangeItem, field: &str) -> bool {
    match &item.field_id {
        Some(id) => id == field,
        None => item.field.eq_ignore_ascii_case(field),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn issue(status: &str) -> IssueRecord {
        IssueRecord {
            id: "10001".into(),
            key: "OPS-1".into(),
            project_id: "1".into(),
            project_key: "OPS".into(),
            issue_type_id: "1".into(),
            status_id: status.into(),
            status_name: String::new(),
            creator_account_id: None,
            created_at: Timestamp::UNIX_EPOCH,
            summary: String::new(),
            description: Value::Null,
            labels: vec![],
        }
    }

    fn entry(
        id: &str,
        second: i64,
        author: &str,
        items: &[(&str, Option<&str>, &str)],
    ) -> ChangeEntry {
        ChangeEntry {
            id: id.into(),
            created: Timestamp::from_second(second).unwrap(),
            author_account_id: (!author.is_empty()).then(|| author.into()),
            items: items
                .iter()
                .map(|(field, field_id, to)| ChangeItem {
                    field: (*field).into(),
                    field_id: field_id.map(Into::into),
                    from: None,
                    to: Some((*to).into()),
                    from_string: None,
                    to_string: None,
                })
                .collect(),
        }
    }

    #[test]
    fn the_latest_status_change_counts_whatever_the_order_of_the_list() {
        let log = [
            entry("12", 30, "maria", &[("status", Some("status"), "5")]),
            entry("10", 10, "li", &[("status", Some("status"), "5")]),
            entry(
                "11",
                20,
                "omar",
                &[("status", None, "4"), ("resolution", None, "1")],
            ),
            entry(
                "13",
                40,
                "li",
                &[
                    ("status", Some("customfield_1"), "9"),
                    ("labels", None, "x"),
                ],
            ),
        ];
        let found = latest_status_move(&issue("5"), &log).unwrap();
        assert_eq!(
            (found.entry_id.as_str(), found.author_account_id.as_deref()),
            ("12", Some("maria"))
        );
        assert_eq!(
            latest_status_move(&issue("4"), &log),
            None,
            "read at different moments"
        );
        assert_eq!(latest_status_move(&issue("5"), &[]), None);
        let unknown = [entry("1", 1, "", &[("status", None, "5")])];
        assert_eq!(
            latest_status_move(&issue("5"), &unknown)
                .unwrap()
                .author_account_id,
            None
        );
    }

    #[test]
    fn moves_that_were_undone_are_in_the_list() {
        let log = [
            entry("3", 30, "omar", &[("status", None, "5")]),
            entry("2", 20, "li", &[("labels", None, "6")]),
            entry("1", 10, "maria", &[("status", Some("status"), "6")]),
        ];
        let moves: Vec<(String, Option<String>)> = status_moves(&log)
            .into_iter()
            .map(|moved| (moved.to_status_id, moved.author_account_id))
            .collect();
        let known = |who: &str| Some(who.to_owned());
        assert_eq!(
            moves,
            [("6".into(), known("maria")), ("5".into(), known("omar"))]
        );
    }

    #[test]
    fn equal_moments_are_ordered_by_number() {
        let log = [
            entry("9", 10, "li", &[("status", None, "5")]),
            entry("10", 10, "omar", &[("status", None, "5")]),
        ];
        assert_eq!(
            latest_status_move(&issue("5"), &log).unwrap().entry_id,
            "10"
        );
    }

    #[test]
    fn edits_of_the_text_are_found() {
        let moves = [entry(
            "1",
            1,
            "li",
            &[("status", None, "5"), ("Rank", None, "x")],
        )];
        assert_eq!(edited_after_creation(&moves), None);
        let edits = [
            entry(
                "2",
                2,
                "eve",
                &[("description", Some("description"), "new")],
            ),
            entry("1", 1, "li", &[("summary", None, "new")]),
        ];
        assert_eq!(edited_after_creation(&edits).unwrap().entry_id, "2");
    }
}
