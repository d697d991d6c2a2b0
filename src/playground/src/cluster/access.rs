//! Who may do what: three accounts with a token each, and a small table in place of RBAC objects.
//! The table says what deploy/ grants to the two service accounts, and nothing more.

use std::path::{Path, PathBuf};

use constant_time_eq::constant_time_eq;

use super::request::Attributes;
use crate::{StartError, private_file, random};

/// Namespaces in which the executor may read and evict.
pub const OPTED_IN: [&str; 2] = ["shop", "payments"];
pub const SERVER_NAMESPACE: &str = "countersign";
pub const EXECUTOR_NAMESPACE: &str = "countersign-executor";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    Server,
    Executor,
    Admin,
}

impl Account {
    const ALL: [Self; 3] = [Self::Server, Self::Executor, Self::Admin];

    pub fn user(self) -> &'static str {
        match self {
            Self::Server => "system:serviceaccount:countersign:countersign-server",
            Self::Executor => "system:serviceaccount:countersign-executor:countersign-executor",
            Self::Admin => "playground-admin",
        }
    }

    fn kubeconfig_name(self) -> &'static str {
        match self {
            Self::Server => "server.kubeconfig",
            Self::Executor => "executor.kubeconfig",
            Self::Admin => "admin.kubeconfig",
        }
    }

    pub fn may(self, request: &Attributes) -> bool {
        if request.resource.is_empty() {
            return self == Self::Admin || is_discovery(&request.path);
        }
        match self {
            Self::Admin => true,
            Self::Server => server_may(request),
            Self::Executor => executor_may(request),
        }
    }
}

/// What `system:discovery` and `system:public-info-viewer` grant to everyone.
fn is_discovery(path: &str) -> bool {
    path.starts_with("/api")
        || matches!(
            path,
            "/version" | "/healthz" | "/livez" | "/readyz" | "/openapi/v2"
        )
}

/// The read-only account: everything it shows, in all namespaces; no secrets, no write.
fn server_may(request: &Attributes) -> bool {
    let resource = (&*request.group, &*request.resource, &*request.subresource);
    match resource {
        ("", "pods", "log") => request.verb == "get",
        ("", "pods" | "events" | "namespaces" | "nodes" | "replicationcontrollers", "")
        | (
            "apps",
            "replicasets" | "deployments" | "statefulsets" | "daemonsets" | "controllerrevisions",
            "",
        )
        | ("batch", "jobs" | "cronjobs", "")
        | ("policy", "poddisruptionbudgets", "")
        | ("autoscaling", "horizontalpodautoscalers", "") => {
            matches!(request.verb, "get" | "list" | "watch")
        }
        _ => false,
    }
}

/// The executor: reads what it decides on and evicts, in opted-in namespaces; the name of its
/// cluster (the UID of kube-system); and its spent register, which it can extend, not rewrite.
fn executor_may(request: &Attributes) -> bool {
    let opted_in = OPTED_IN.contains(&&*request.namespace);
    let resource = (&*request.group, &*request.resource, &*request.subresource);
    match (resource, request.verb) {
        (("", "namespaces", ""), "get") => request.name == "kube-system",
        (
            ("", "pods" | "replicationcontrollers", "")
            | ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets", "")
            | ("batch", "jobs" | "cronjobs", "")
            | ("policy", "poddisruptionbudgets", ""),
            "get" | "list",
        ) => opted_in,
        (("", "pods", "eviction"), "create") => opted_in,
        (("coordination.k8s.io", "leases", ""), "create" | "get" | "list") => {
            request.namespace == EXECUTOR_NAMESPACE
        }
        _ => false,
    }
}

/// The tokens of this run.
pub struct Tokens([(Account, String); 3]);

impl Tokens {
    pub fn random() -> Self {
        Self(Account::ALL.map(|account| (account, random::token())))
    }

    /// The account of an `Authorization` header; `None` is a 401.
    pub fn account(&self, authorization: Option<&http::HeaderValue>) -> Option<Account> {
        let presented = authorization?.to_str().ok()?;
        let (scheme, presented) = presented.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let presented = presented.trim().as_bytes();
        self.0
            .iter()
            .find(|(_, token)| constant_time_eq(token.as_bytes(), presented))
            .map(|(account, _)| *account)
    }

    /// Writes one kubeconfig per account and returns their paths: server, executor, admin.
    pub fn write_kubeconfigs(&self, dir: &Path, url: &str) -> Result<[PathBuf; 3], StartError> {
        let write = |account: Account| {
            let (_, token) = &self.0[account as usize];
            private_file::write(
                dir,
                account.kubeconfig_name(),
                &kubeconfig(account, url, token),
            )
        };
        Ok([
            write(Account::Server)?,
            write(Account::Executor)?,
            write(Account::Admin)?,
        ])
    }
}

fn kubeconfig(account: Account, url: &str, token: &str) -> String {
    let user = match account {
        Account::Server => "countersign-server",
        Account::Executor => "countersign-executor",
        Account::Admin => "playground-admin",
    };
    format!(
        "# SIMULATED cluster of countersign-playground; the token is valid for this run only.\n\
         apiVersion: v1\n\
         kind: Config\n\
         clusters:\n\
         - name: playground\n\
         \x20 cluster:\n\
         \x20   server: {url}\n\
         users:\n\
         - name: {user}\n\
         \x20 user:\n\
         \x20   token: {token}\n\
         contexts:\n\
         - name: playground\n\
         \x20 context:\n\
         \x20   cluster: playground\n\
         \x20   user: {user}\n\
         \x20   namespace: default\n\
         current-context: playground\n"
    )
}
