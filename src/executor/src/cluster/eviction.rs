//! The body of an eviction. Serialised here because kube's own misspells `deleteOptions`, so that
//! preconditions get lost. What this module makes is always a dry run.

use countersign_domain::ActionId;
use serde_json::{Value, json};

/// Which object exactly.
pub struct Target<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub uid: &'a str,
    pub resource_version: &'a str,
}

impl Target<'_> {
    pub fn path(&self) -> String {
        format!(
            "/api/v1/namespaces/{}/pods/{}/eviction",
            self.namespace, self.name
        )
    }

    /// A dry run with both preconditions. The annotation lets admission policies and the audit
    /// log name the action.
    pub fn dry_run(&self, action: ActionId) -> Value {
        json!({
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "annotations": {"countersign.dev/action-id": action.to_string()},
            },
            "deleteOptions": {
                "dryRun": ["All"],
                "preconditions": {"uid": self.uid, "resourceVersion": self.resource_version},
            },
        })
    }
}
