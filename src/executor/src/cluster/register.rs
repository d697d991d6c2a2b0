//! The register of spent actions: one coordination.k8s.io Lease an action, in the executor's own
//! namespace of the target cluster. Creating an object is atomic, and nobody here may update or
//! delete one, so an action has one chance, whatever a restored or hostile database says. In the same
//! way, and beside it, each new pod that an outcome names counts for one action only.

use std::time::Duration;

use countersign_domain::{ActionId, Authorized, Clock, Digest, Entropy, random_token};
use http::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::connection::Connection;
use crate::timing::Deadline;

/// Prefix of the holder in a record that only shuts the door: nothing was ever sent under it.
const BURNT: &str = "burnt-by-";
/// Prefix of the name of a record about a new pod; its UID follows. No action's id begins so.
pub(super) const REPLACEMENT: &str = "replacement-";
/// Label of every record, as a selector: `key=value`.
pub(super) const MANAGED_BY: &str = "app.kubernetes.io/managed-by=countersign-executor";
const STATEMENT: &str = "countersign.dev/statement";
/// Between two tries to spend.
const PAUSE: Duration = Duration::from_millis(250);

/// Can read and create spent records.
pub struct Register {
    connection: Connection,
    namespace: String,
}

/// Proof that this process spent this action's one chance. Made by [`Register::spend`] alone,
/// consumed by the writer.
#[derive(Debug)]
pub struct Spent {
    action: ActionId,
    statement: Digest,
}

impl Spent {
    /// Whether it was spent for exactly this permission.
    pub(super) fn belongs_to(&self, authorized: &Authorized) -> bool {
        self.action == authorized.statement().action_id && self.statement == authorized.digest()
    }
}

/// A claim's own secretless name: the holder of the record that it creates. One claim makes one,
/// and spending uses it up.
#[derive(Debug)]
pub struct Nonce(String);

impl Nonce {
    pub fn new(entropy: &dyn Entropy) -> Self {
        Self(random_token(entropy))
    }

    /// For the intent's record.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What shutting the door found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Burn {
    /// There was no record: nothing was sent, and nothing ever can be.
    Shut,
    /// A record was there already, made at that time by somebody who may have sent.
    SpentBefore(Timestamp),
}

/// A record that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// A claim's nonce, or who shut the door.
    pub holder: String,
    /// By the API server's clock, whole seconds.
    pub created_at: Timestamp,
}

impl Record {
    /// It only shut the door: nothing was ever sent under it.
    pub fn is_burnt(&self) -> bool {
        self.holder.starts_with(BURNT)
    }
}

/// For which action a new pod counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credit {
    Ours,
    /// For the one named.
    Anothers(String),
}

/// The register gives no answer, or not one that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    #[error("the spent record cannot be read or created: {0}")]
    Unreachable(String),
    /// A definite answer: the record was not created.
    #[error("the cluster refuses the spent record: {0}")]
    Refused(String),
}

/// Why there is no [`Spent`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotSpent {
    #[error("this action has had its one chance already")]
    Before,
    #[error(transparent)]
    Register(#[from] RegisterError),
}

#[derive(Deserialize)]
struct LeaseObject {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    creation_timestamp: Timestamp,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    holder_identity: String,
}

/// What creating a record came to.
enum Created {
    Now,
    /// The record that was there.
    Before(Record),
}

impl Register {
    pub(super) fn new(connection: Connection, namespace: String) -> Self {
        Self {
            connection,
            namespace,
        }
    }

    /// Spends the action's one chance. The nonce is used up here, so a record that holds it was
    /// made by this very call, and nothing was sent under it yet. Where no answer comes it is tried
    /// again, under the same nonce, until the permission ends.
    pub async fn spend(
        &self,
        authorized: &Authorized,
        nonce: Nonce,
        deadline: Deadline,
        clock: &dyn Clock,
    ) -> Result<Spent, NotSpent> {
        let action = authorized.statement().action_id;
        let statement = authorized.digest();
        loop {
            let creating = self.create_spent(action, &statement, nonce.as_str());
            let lost = match tokio::time::timeout(deadline.left(clock.now()), creating).await {
                Ok(Ok(Created::Now)) => return Ok(Spent { action, statement }),
                Ok(Ok(Created::Before(record))) if record.holder == nonce.0 => {
                    return Ok(Spent { action, statement });
                }
                Ok(Ok(Created::Before(_))) => return Err(NotSpent::Before),
                Ok(Err(refused @ RegisterError::Refused(_))) => return Err(refused.into()),
                Ok(Err(lost)) => lost,
                Err(_) => RegisterError::Unreachable("no answer in time".to_owned()),
            };
            if deadline.left(clock.now()) <= PAUSE {
                return Err(lost.into());
            }
            tracing::warn!(%action, error = %lost, "not spent yet; again");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Shuts the door for an action whose executor went away: whoever still runs with an older
    /// claim cannot spend any more, and so cannot send.
    pub async fn burn(
        &self,
        action: ActionId,
        statement: &Digest,
        entropy: &dyn Entropy,
    ) -> Result<Burn, RegisterError> {
        let holder = format!("{BURNT}{}", random_token(entropy));
        Ok(match self.create_spent(action, statement, &holder).await? {
            Created::Now => Burn::Shut,
            Created::Before(found) if found.is_burnt() => Burn::Shut,
            Created::Before(found) => Burn::SpentBefore(found.created_at),
        })
    }

    /// Makes a new pod count as this action's replacement, once and for all; again with the same
    /// answer after a crash.
    pub async fn credit(&self, pod_uid: &str, action: ActionId) -> Result<Credit, RegisterError> {
        let holder = action.to_string();
        let name = format!("{REPLACEMENT}{pod_uid}");
        Ok(match self.create(&name, &json!({}), &holder).await? {
            Created::Before(found) if found.holder != holder => Credit::Anothers(found.holder),
            Created::Now | Created::Before(_) => Credit::Ours,
        })
    }

    /// The record that says who had an action's one chance.
    async fn create_spent(
        &self,
        action: ActionId,
        statement: &Digest,
        holder: &str,
    ) -> Result<Created, RegisterError> {
        let annotations = json!({STATEMENT: statement.to_string()});
        self.create(&action.to_string(), &annotations, holder).await
    }

    /// Creates the record. A lost answer is followed by another try: creating is atomic, and the
    /// holder tells whose it is.
    async fn create(
        &self,
        name: &str,
        annotations: &Value,
        holder: &str,
    ) -> Result<Created, RegisterError> {
        let path = collection(&self.namespace);
        let body = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": name,
                "namespace": self.namespace,
                "labels": {"app.kubernetes.io/managed-by": "countersign-executor"},
                "annotations": annotations,
            },
            "spec": {"holderIdentity": holder},
        });
        let mut last = String::new();
        for _ in 0..2 {
            let answer = match self.connection.post(&path, "", None, &body).await {
                Ok(answer) => answer,
                Err(lost) => {
                    last = lost.0;
                    continue;
                }
            };
            let (status, said) = answer.judged();
            match status {
                StatusCode::CREATED => return Ok(Created::Now),
                StatusCode::CONFLICT => {
                    let record = self.look_at(name).await?;
                    // A record that is there and then not cannot be: nobody may delete one.
                    return record.map(Created::Before).ok_or_else(|| {
                        RegisterError::Unreachable("the record vanished again".to_owned())
                    });
                }
                status if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                    return Err(RegisterError::Refused(format!(
                        "{} ({})",
                        said.sentence(),
                        status.as_u16()
                    )));
                }
                status => last = format!("the API server answered {status}"),
            }
        }
        Err(RegisterError::Unreachable(last))
    }

    /// The action's record, if there is one.
    pub async fn look(&self, action: ActionId) -> Result<Option<Record>, RegisterError> {
        self.look_at(&action.to_string()).await
    }

    async fn look_at(&self, name: &str) -> Result<Option<Record>, RegisterError> {
        let path = format!("{}/{name}", collection(&self.namespace));
        let answer = self
            .connection
            .get(&path)
            .await
            .map_err(|lost| RegisterError::Unreachable(lost.0))?;
        let (status, said) = answer.judged();
        match status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => {
                let lease: LeaseObject = serde_json::from_value(answer.body).map_err(|_| {
                    RegisterError::Unreachable("the record cannot be understood".to_owned())
                })?;
                Ok(Some(Record {
                    holder: lease.spec.holder_identity,
                    created_at: lease.metadata.creation_timestamp,
                }))
            }
            status => Err(RegisterError::Unreachable(format!(
                "{} ({})",
                said.sentence(),
                status.as_u16()
            ))),
        }
    }
}

/// Where the records are.
pub(super) fn collection(namespace: &str) -> String {
    format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases")
}
