//! Takes old records out of the register. Not part of the executor's work: its account may not
//! delete, and `run` never makes a [`Collector`]. `register collect` does, under an account of its own.
//!
//! A spent record guards its action while somebody could still be made to carry it out: an approval
//! dies with its statement, 24 h after admission at the latest, and a pod that was evicted never
//! comes back under its UID. A record about a new pod counts while an action that began before that
//! pod is still watched: 24 h more. What is younger than [`SHORTEST`] is never taken, by the API
//! server's own clock.

use countersign_domain::ActionId;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::json;

use super::connection::{Answer, Connection};
use super::register::{MANAGED_BY, REPLACEMENT, collection};

/// No record younger than this is collected: both lives above, and a day for clocks and crashes.
pub const SHORTEST: SignedDuration = SignedDuration::from_hours(3 * 24);
/// Records in a page of the list.
const PAGE: usize = 500;

/// Can list and delete records.
pub struct Collector {
    connection: Connection,
    namespace: String,
}

/// What a pass came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Collected {
    pub seen: usize,
    pub old: usize,
    /// Nought in a dry run; less than `old` where somebody else was faster.
    pub deleted: usize,
}

/// A pass that ended early. What was deleted until then stays deleted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CollectError {
    #[error("records younger than {} days are kept, whatever is asked for", SHORTEST.as_hours() / 24)]
    TooSoon,
    #[error("the register cannot be {verb}: {problem}")]
    Refused { verb: &'static str, problem: String },
}

#[derive(Deserialize)]
struct LeaseList {
    #[serde(default)]
    metadata: ListMetadata,
    items: Vec<LeaseObject>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ListMetadata {
    r#continue: String,
}

#[derive(Deserialize)]
struct LeaseObject {
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    uid: String,
    resource_version: String,
    creation_timestamp: Timestamp,
}

impl Collector {
    pub(super) fn new(connection: Connection, namespace: String) -> Self {
        Self {
            connection,
            namespace,
        }
    }

    /// Deletes the records that are older than `keep`; with `dry_run` only counts them. `now` is the
    /// API server's time, as it made their times.
    pub async fn collect(
        &self,
        keep: SignedDuration,
        now: Timestamp,
        dry_run: bool,
    ) -> Result<Collected, CollectError> {
        if keep < SHORTEST {
            return Err(CollectError::TooSoon);
        }
        let mut done = Collected::default();
        let mut from = String::new();
        loop {
            let list = self.page(&from).await?;
            done.seen += list.items.len();
            for LeaseObject { metadata: record } in list.items {
                if is_ours(&record.name) && now.duration_since(record.creation_timestamp) > keep {
                    done.old += 1;
                    if !dry_run && self.delete(&record).await? {
                        done.deleted += 1;
                    }
                }
            }
            let next = list.metadata.r#continue;
            if next.is_empty() {
                return Ok(done);
            }
            if next == from {
                let problem = "a page of the list leads to itself".to_owned();
                return Err(refused("listed", problem));
            }
            from = next;
        }
    }

    async fn page(&self, from: &str) -> Result<LeaseList, CollectError> {
        let path = collection(&self.namespace);
        let more = match from {
            "" => String::new(),
            token => format!("&continue={token}"),
        };
        let uri = format!("{path}?labelSelector={MANAGED_BY}&limit={PAGE}{more}");
        let answer = self.connection.get(&uri).await;
        let answer = answer.map_err(|lost| refused("listed", lost.0))?;
        if !answer.status.is_success() {
            return Err(refused("listed", sentence(&answer)));
        }
        serde_json::from_value(answer.body)
            .map_err(|_| refused("listed", "the list cannot be understood".to_owned()))
    }

    /// Deletes exactly what was looked at. False: it is gone, or another one by now.
    async fn delete(&self, record: &Metadata) -> Result<bool, CollectError> {
        let path = format!("{}/{}", collection(&self.namespace), record.name);
        let body = json!({
            "apiVersion": "v1", "kind": "DeleteOptions",
            "preconditions": {"uid": record.uid, "resourceVersion": record.resource_version},
        });
        let answer = self.connection.delete(&path, &body).await;
        let answer = answer.map_err(|lost| refused("cleared", lost.0))?;
        match answer.status {
            status if status.is_success() => Ok(true),
            StatusCode::NOT_FOUND | StatusCode::CONFLICT => Ok(false),
            _ => Err(refused("cleared", sentence(&answer))),
        }
    }
}

/// A name that the register gives. Whatever else carries its label is left alone.
fn is_ours(name: &str) -> bool {
    name.starts_with(REPLACEMENT) || name.parse::<ActionId>().is_ok()
}

fn sentence(answer: &Answer) -> String {
    let (status, said) = answer.judged();
    format!("{} ({})", said.sentence(), status.as_u16())
}

fn refused(verb: &'static str, problem: String) -> CollectError {
    CollectError::Refused { verb, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_the_register_gives_are_taken() {
        assert!(is_ours("01939c5e-7b1a-7c44-9d1e-2f6a0c4b8d10"));
        assert!(is_ours("replacement-8eb04a14-5d98-4ed9-99ad-1a30188c3026"));
        for other in ["leader", "countersign-executor", "", "replacement"] {
            assert!(!is_ours(other), "{other}");
        }
    }

    #[test]
    fn a_pass_is_refused_that_could_take_what_still_guards() {
        let told = CollectError::TooSoon.to_string();
        assert!(told.starts_with("records younger than 3 days"), "{told}");
        let life = countersign_domain::Statement::LIFETIME_CAP;
        assert!(SHORTEST >= life + life);
    }
}
