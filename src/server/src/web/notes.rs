//! What must be known before the tap: whether an approval can take effect, and what has changed
//! since the executor looked.

use std::collections::BTreeMap;

use countersign_domain::{Policy, StateName, Statement, one_line};
use countersign_store::Heartbeat;
use jiff::{SignedDuration, Timestamp};

use super::live::Look;
use super::present::{Moment, words};
use super::statement::Shown;

/// An executor that was not heard of for this long may be gone.
const SILENT: SignedDuration = SignedDuration::from_secs(10);

/// One note above the fold.
pub(super) struct Note {
    /// `bad`: an approval would not lead anywhere. `warn`: think twice. `info`: just so you know.
    pub class: &'static str,
    pub text: String,
}

impl Note {
    fn new(class: &'static str, text: impl Into<String>) -> Self {
        Self {
            class,
            text: text.into(),
        }
    }
}

/// One line of what was observed.
pub(super) struct FactRow {
    pub label: String,
    pub value: Vec<Piece>,
    /// What it was when the executor looked, if that differs.
    pub before: Option<Vec<Piece>>,
    /// Known from the executor's look only, not from ours.
    pub only_then: bool,
}

/// A piece of a fact: words, or an instant that is shown in the reader's zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    At(Moment),
}

/// Everything about the executor and the policy, worst first.
pub(super) fn readiness(
    statement: &Statement,
    state: StateName,
    heartbeat: Option<&Heartbeat>,
    policy: &Policy,
    now: Timestamp,
) -> Vec<Note> {
    let mut notes = Vec::new();
    if !matches!(state, StateName::Pending | StateName::Approved) {
        return notes;
    }
    match heartbeat {
        None => notes.push(Note::new(
            "bad",
            format!(
                "No executor has ever reported for cluster {}: an approval would wait and expire.",
                statement.cluster.id
            ),
        )),
        Some(beat) => {
            let silent = now.duration_since(beat.at);
            if silent > SILENT {
                notes.push(Note::new(
                    "bad",
                    format!(
                        "The executor was last heard of {} ago: an approval waits until it is \
                         back, and ends at the deadline.",
                        words(silent)
                    ),
                ));
            } else if beat.status != "ok" {
                notes.push(Note::new(
                    "warn",
                    format!("The executor says: {}", one_line(&beat.status, 300)),
                ));
            }
            if !beat.policy_hash.is_empty() && beat.policy_hash != policy.hash().to_string() {
                notes.push(Note::new(
                    "warn",
                    "The executor uses another policy than this server. The executor's counts.",
                ));
            }
        }
    }
    if let Some(freeze) = &policy.freeze {
        notes.push(Note::new(
            "warn",
            format!(
                "Changes are frozen: {}. An approval waits.",
                one_line(&freeze.reason, 300)
            ),
        ));
    }
    if statement.self_approval_allowed() {
        notes.push(Note::new(
            "info",
            "The rule lets the person behind the AI approve: there is no second pair of eyes.",
        ));
    }
    if heartbeat.is_some_and(|beat| beat.cluster_lock == "absent") {
        notes.push(Note::new(
            "info",
            "Cluster lock: absent. Only the executor's own checks hold it to this change.",
        ));
    }
    notes
}

/// What our own look says about the target: worth a note when it speaks against approving.
pub(super) fn target_notes(
    shown: &Shown,
    state: StateName,
    look: &Look,
    now: Timestamp,
) -> Vec<Note> {
    let mut notes = Vec::new();
    if !matches!(state, StateName::Pending | StateName::Approved) {
        return notes;
    }
    let Some(signed) = shown.verified() else {
        return notes;
    };
    let statement = signed.body();
    match look {
        Look::Gone => notes.push(Note::new(
            "bad",
            format!("Pod {} is gone. The executor would refuse to act.", statement.name),
        )),
        Look::Seen { uid, .. } if *uid != statement.uid => notes.push(Note::new(
            "bad",
            format!(
                "Pod {} was replaced: the name now belongs to another pod (uid {uid}). The executor \
                 would refuse to act.",
                statement.name
            ),
        )),
        Look::Seen {
            facts, terminating, ..
        } => {
            let changed: Vec<String> = rows(&statement.facts, look, now)
                .into_iter()
                .filter_map(|row| {
                    Some(format!("{} {} → {}", row.label, plain(&row.before?), plain(&row.value)))
                })
                .collect();
            if !changed.is_empty() {
                notes.push(Note::new(
                    "warn",
                    format!("Changed since asked: {}", changed.join("; ")),
                ));
            }
            if *terminating {
                notes.push(Note::new("bad", "The pod is already being deleted."));
            }
            if facts.get("budget").is_some_and(|budget| budget.contains("no room")) {
                notes.push(Note::new(
                    "warn",
                    "A disruption budget has no room now: after an approval the executor holds and \
                     tries again until the deadline.",
                ));
            }
        }
        Look::Unknown { .. } => {}
    }
    notes
}

/// The order in which people want to know. Anything else follows by name.
const ORDER: [&str; 12] = [
    "reason",
    "phase",
    "ready",
    "restarts",
    "since",
    "last exit",
    "siblings",
    "owner",
    "budget",
    "dry run",
    "warnings",
    "node",
];
/// These move all the time without meaning anything new.
const RESTLESS: [&str; 2] = ["since", "last exit"];

/// The facts then and now, side by side.
pub(super) fn rows(then: &BTreeMap<String, String>, look: &Look, now: Timestamp) -> Vec<FactRow> {
    let empty = BTreeMap::new();
    let today = match look {
        Look::Seen { facts, .. } => facts,
        Look::Gone | Look::Unknown { .. } => &empty,
    };
    let mut keys: Vec<&String> = then.keys().chain(today.keys()).collect();
    keys.sort_by_key(|key| {
        (
            ORDER
                .iter()
                .position(|known| known == key)
                .unwrap_or(ORDER.len()),
            key.as_str(),
        )
    });
    keys.dedup();
    keys.into_iter()
        .filter_map(|key| {
            let (before, after) = (then.get(key), today.get(key));
            let value = pieces(after.or(before)?, now);
            let before = before.map(|before| pieces(before, now));
            let only_then = after.is_none();
            let differs = before.as_ref().is_some_and(|before| {
                !RESTLESS.contains(&key.as_str())
                    && essence(key, &plain(before)) != essence(key, &plain(&value))
            });
            let label = one_line(key, 60);
            Some(FactRow {
                label,
                value,
                before: before.filter(|_| differs),
                only_then,
            })
        })
        .collect()
}

/// What must differ for a change: our account may read fewer of the controllers above a pod than
/// the executor's.
fn essence<'a>(key: &str, value: &'a str) -> &'a str {
    match value.split_once(" of ") {
        Some((controller, _)) if key == "owner" => controller,
        _ => value,
    }
}

/// Instants inside a fact become instants; "(3 min ago)" was true when it was written only.
pub(super) fn pieces(value: &str, now: Timestamp) -> Vec<Piece> {
    let shown = one_line(value, 400);
    let mut text = shown.as_str();
    if let Some((before, after)) = text.rsplit_once(" (")
        && after.ends_with(" ago)")
    {
        text = before;
    }
    let mut pieces = Vec::new();
    let mut words = String::new();
    for word in text.split_inclusive(' ') {
        let bare = word.trim_end_matches([' ', ',']);
        match bare.parse::<Timestamp>() {
            Ok(at) if bare.len() >= 20 => {
                pieces.push(Piece::Text(std::mem::take(&mut words)));
                pieces.push(Piece::At(Moment { at, now }));
                words.push_str(&word[bare.len()..]);
            }
            _ => words.push_str(word),
        }
    }
    pieces.push(Piece::Text(words));
    pieces.retain(|piece| !matches!(piece, Piece::Text(text) if text.is_empty()));
    pieces
}

/// The same as one string, with times of day in UTC.
fn plain(pieces: &[Piece]) -> String {
    pieces
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::At(moment) => moment.at.strftime("%H:%M:%S UTC").to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn facts_say_what_changed_and_leave_restless_ones_alone() {
        let then = BTreeMap::from([
            ("restarts".to_owned(), "1".to_owned()),
            (
                "since".to_owned(),
                "2026-11-22T02:16:01Z (3 min ago)".to_owned(),
            ),
            ("dry run".to_owned(), "accepted".to_owned()),
        ]);
        let look = Look::Seen {
            at: "2026-11-22T02:19:00Z".parse().unwrap(),
            uid: "u".into(),
            terminating: false,
            facts: BTreeMap::from([
                ("restarts".to_owned(), "3".to_owned()),
                ("since".to_owned(), "2026-11-22T02:18:01Z".to_owned()),
            ]),
        };
        let rows = rows(&then, &look, at("2026-11-22T02:19:00Z"));
        let labels: Vec<&str> = rows.iter().map(|row| row.label.as_str()).collect();
        assert_eq!(labels, ["restarts", "since", "dry run"]);
        assert_eq!(rows[0].before.as_deref().map(plain).as_deref(), Some("1"));
        assert_eq!(plain(&rows[1].value), "02:18:01 UTC");
        assert!(rows[1].before.is_none());
        assert!(rows[2].only_then);
    }

    #[test]
    fn instants_inside_facts_become_times_of_day() {
        let shown = pieces(
            "OOMKilled, code 137, 2026-11-22T02:16:01Z (40 s ago)",
            at("2026-11-22T02:19:00Z"),
        );
        assert_eq!(plain(&shown), "OOMKilled, code 137, 02:16:01 UTC");
        assert_eq!(shown.len(), 2);
    }
}
