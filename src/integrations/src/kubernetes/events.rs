//! Events, newest first, and repeated ones folded into one line.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Serialize;

use super::records::{EventRecord, ObjectRef};

/// Events of one object with one reason and messages of one shape.
#[derive(Clone, Debug, Serialize)]
pub struct FoldedEvent {
    pub object: ObjectRef,
    #[serde(rename = "type")]
    pub kind: String,
    pub reason: String,
    /// The newest message.
    pub message: String,
    pub source: Option<String>,
    /// Sightings of all events folded here.
    pub count: u64,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
}

/// Sorts by the last sighting, newest first; equal times by name, so that the order is stable.
pub fn newest_first(events: &mut [EventRecord]) {
    events.sort_by(|a, b| {
        b.last_seen
            .cmp(&a.last_seen)
            .then_with(|| a.name.cmp(&b.name))
    });
}

/// Folds `events`, newest first. Messages that differ only in numbers, hashes and durations
/// count as one.
#[must_use]
pub fn fold_events(events: &[EventRecord]) -> Vec<FoldedEvent> {
    let mut folded: Vec<FoldedEvent> = Vec::new();
    let mut places: HashMap<(&ObjectRef, &str, String), usize> = HashMap::new();
    for event in events {
        let key = (&event.object, event.reason.as_str(), shape(&event.message));
        match places.get(&key) {
            Some(&place) => {
                let line = &mut folded[place];
                line.count += u64::from(event.count);
                line.first_seen = line.first_seen.min(event.first_seen);
                if event.last_seen > line.last_seen {
                    line.last_seen = event.last_seen;
                    line.message.clone_from(&event.message);
                }
            }
            None => {
                places.insert(key, folded.len());
                folded.push(FoldedEvent {
                    object: event.object.clone(),
                    kind: event.kind.clone(),
                    reason: event.reason.clone(),
                    message: event.message.clone(),
                    source: event.source.clone(),
                    count: u64::from(event.count),
                    first_seen: event.first_seen,
                    last_seen: event.last_seen,
                });
            }
        }
    }
    folded.sort_by_key(|line| std::cmp::Reverse(line.last_seen));
    folded
}

/// The message with every word that contains a digit replaced: what stays is its shape.
fn shape(message: &str) -> String {
    message
        .split_whitespace()
        .map(|word| {
            if word.contains(|c: char| c.is_ascii_digit()) {
                "#"
            } else {
                word
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, message: &str, count: u32, first: i64, last: i64) -> EventRecord {
        EventRecord {
            namespace: "shop".into(),
            name: name.into(),
            uid: name.into(),
            kind: "Warning".into(),
            reason: "BackOff".into(),
            message: message.into(),
            object: ObjectRef {
                kind: "Pod".into(),
                namespace: Some("shop".into()),
                name: "web".into(),
                uid: Some("u".into()),
            },
            count,
            first_seen: Timestamp::from_second(first).unwrap(),
            last_seen: Timestamp::from_second(last).unwrap(),
            source: None,
        }
    }

    #[test]
    fn repeats_fold_with_their_count_and_span() {
        let mut events = [
            event("a", "back-off 10s restarting pod web-7d9f", 2, 100, 200),
            event("c", "liveness probe failed", 1, 150, 260),
            event("b", "back-off 5m0s restarting pod web-7d9f", 3, 200, 300),
        ];
        newest_first(&mut events);
        assert_eq!(
            events.iter().map(|e| e.name.as_str()).collect::<String>(),
            "bca"
        );
        let folded = fold_events(&events);
        assert_eq!(folded.len(), 2);
        assert_eq!(folded[0].count, 5);
        assert_eq!(folded[0].message, "back-off 5m0s restarting pod web-7d9f");
        assert_eq!(folded[0].first_seen.as_second(), 100);
        assert_eq!(folded[0].last_seen.as_second(), 300);
    }
}
