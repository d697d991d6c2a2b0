//! Plain calls to a Kubernetes API, as method, path and JSON.
//!
//! Tests must see what the API server said, down to the status code and the
//! `Status` body, so nothing here retries, decodes into types or turns a refusal
//! into an error on its own.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use futures::io::Lines;
use futures::{AsyncBufRead, AsyncBufReadExt, StreamExt};
use http::{HeaderMap, Method, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

/// No single call may outlast this; a frozen API server must fail a test, not hang it.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Server-side apply merges by field owner; all manifests of tests have this owner.
const FIELD_MANAGER: &str = "control-plane-tests";

/// Kinds that [`Api::apply`] knows: kind, plural of the path, whether it lives in a namespace.
const KINDS: &[(&str, &str, bool)] = &[
    ("ClusterRole", "clusterroles", false),
    ("ClusterRoleBinding", "clusterrolebindings", false),
    ("ConfigMap", "configmaps", true),
    ("CronJob", "cronjobs", true),
    ("DaemonSet", "daemonsets", true),
    ("Deployment", "deployments", true),
    ("Endpoints", "endpoints", true),
    ("HorizontalPodAutoscaler", "horizontalpodautoscalers", true),
    ("Job", "jobs", true),
    ("Lease", "leases", true),
    ("LimitRange", "limitranges", true),
    ("Namespace", "namespaces", false),
    ("NetworkPolicy", "networkpolicies", true),
    ("Node", "nodes", false),
    ("PersistentVolume", "persistentvolumes", false),
    ("PersistentVolumeClaim", "persistentvolumeclaims", true),
    ("Pod", "pods", true),
    ("PodDisruptionBudget", "poddisruptionbudgets", true),
    ("PriorityClass", "priorityclasses", false),
    ("ReplicaSet", "replicasets", true),
    ("ResourceQuota", "resourcequotas", true),
    ("Role", "roles", true),
    ("RoleBinding", "rolebindings", true),
    ("Secret", "secrets", true),
    ("Service", "services", true),
    ("ServiceAccount", "serviceaccounts", true),
    ("StatefulSet", "statefulsets", true),
    (
        "ValidatingAdmissionPolicy",
        "validatingadmissionpolicies",
        false,
    ),
    (
        "ValidatingAdmissionPolicyBinding",
        "validatingadmissionpolicybindings",
        false,
    ),
];

/// One account's view of one cluster.
///
/// A `kube::Client` belongs to the tokio runtime it was made on, and every
/// `#[tokio::test]` has its own: make an `Api` where it is used, do not share it.
#[derive(Clone)]
pub struct Api {
    client: kube::Client,
}

/// What the API server answered, refusals included.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    /// Empty for a refused watch.
    pub headers: HeaderMap,
    /// The JSON body; a string when the body was not JSON (`/readyz` says `ok`).
    pub body: Value,
}

impl Reply {
    /// The body of a 2xx answer; anything else as an error with the server's reason and message.
    pub fn success(self) -> Result<Value> {
        if (200..300).contains(&self.status) {
            Ok(self.body)
        } else {
            bail!("{self}")
        }
    }
}

impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let reason = self.body["reason"].as_str().unwrap_or("no reason");
        match self.body["message"].as_str() {
            Some(message) => write!(f, "{} {reason}: {message}", self.status),
            None => {
                let body = self.body.to_string();
                write!(
                    f,
                    "{} {}",
                    self.status,
                    &body[..body.floor_char_boundary(300)]
                )
            }
        }
    }
}

/// How a PATCH body is to be read.
#[derive(Clone, Copy, Debug)]
pub enum Patch {
    Apply,
    Merge,
    StrategicMerge,
    Json,
}

impl Patch {
    fn content_type(self) -> &'static str {
        match self {
            Self::Apply => "application/apply-patch+yaml",
            Self::Merge => "application/merge-patch+json",
            Self::StrategicMerge => "application/strategic-merge-patch+json",
            Self::Json => "application/json-patch+json",
        }
    }
}

impl Api {
    /// Reads the kubeconfig's current context. Connects on the first call, not here.
    pub async fn from_kubeconfig(path: &Path) -> Result<Self> {
        let kubeconfig = Kubeconfig::read_from(path)
            .with_context(|| format!("kubeconfig {}", path.display()))?;
        let mut config =
            kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .with_context(|| format!("kubeconfig {}", path.display()))?;
        // The client would repeat writes on 429, and 429 is an answer that tests look for.
        config.default_retry = false;
        Ok(Self {
            client: kube::Client::try_from(config)?,
        })
    }

    /// The same account as a `kube::Client`, without its retries.
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    pub async fn get(&self, path: &str) -> Result<Reply> {
        self.call(Method::GET, path, None, None).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Reply> {
        self.call(Method::POST, path, Some("application/json"), Some(body))
            .await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Result<Reply> {
        self.call(Method::PUT, path, Some("application/json"), Some(body))
            .await
    }

    pub async fn patch(&self, path: &str, patch: Patch, body: &Value) -> Result<Reply> {
        self.call(Method::PATCH, path, Some(patch.content_type()), Some(body))
            .await
    }

    /// `options` is a `DeleteOptions`, or `json!({})`.
    pub async fn delete(&self, path: &str, options: &Value) -> Result<Reply> {
        self.call(
            Method::DELETE,
            path,
            Some("application/json"),
            Some(options),
        )
        .await
    }

    /// Any request; errors are failures of the connection only.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Reply> {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(content_type) = content_type {
            request = request.header(http::header::CONTENT_TYPE, content_type);
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        self.send(request.body(body.into_bytes())?).await
    }

    /// A request with headers of the caller's own.
    pub async fn send(&self, request: Request<Vec<u8>>) -> Result<Reply> {
        let context = format!("{} {}", request.method(), request.uri());
        let request = request.map(kube::client::Body::from);
        let exchange = async {
            let response = self.client.send(request).await?;
            let status = response.status().as_u16();
            let headers = response.headers().clone();
            Ok::<_, kube::Error>((status, headers, response.into_body().collect_bytes().await?))
        };
        let (status, headers, bytes) = tokio::time::timeout(CALL_TIMEOUT, exchange)
            .await
            .with_context(|| format!("{context}: no answer in {CALL_TIMEOUT:?}"))?
            .with_context(|| context)?;
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Ok(Reply {
            status,
            headers,
            body,
        })
    }

    /// Opens a watch: `path` is a collection with `watch=true` and a `resourceVersion`.
    ///
    /// An answer other than 200 comes back as `Err(Reply)` in the inner result.
    pub async fn watch(&self, path: &str) -> Result<std::result::Result<Watch, Reply>> {
        let request = Request::get(path).body(Vec::new())?;
        let opened = tokio::time::timeout(CALL_TIMEOUT, self.client.request_stream(request))
            .await
            .with_context(|| format!("GET {path}: no answer in {CALL_TIMEOUT:?}"))?;
        match opened {
            Ok(stream) => {
                let stream: Box<dyn AsyncBufRead + Send + Unpin> = Box::new(stream);
                Ok(Ok(Watch {
                    lines: stream.lines(),
                }))
            }
            Err(kube::Error::Api(status)) => Ok(Err(Reply {
                status: status.code,
                headers: HeaderMap::new(),
                body: json!({
                    "kind": "Status", "code": status.code,
                    "reason": status.reason, "message": status.message,
                }),
            })),
            Err(error) => Err(error).with_context(|| format!("GET {path}")),
        }
    }

    /// Server-side apply of one object; answers the object as stored.
    ///
    /// An object of a namespaced kind without a namespace goes to `default`.
    pub async fn apply(&self, object: &Value) -> Result<Value> {
        let path = object_path(object)?;
        let path = format!("{path}?fieldManager={FIELD_MANAGER}&force=true");
        self.patch(&path, Patch::Apply, object)
            .await?
            .success()
            .with_context(|| format!("apply {}", describe(object)))
    }

    /// Server-side apply of every document in `yaml`, in order.
    ///
    /// After a Namespace it waits for the `default` service account, without
    /// which the API server refuses pods.
    pub async fn apply_yaml(&self, yaml: &str) -> Result<Vec<Value>> {
        let mut applied = Vec::new();
        for object in documents(yaml)? {
            let stored = self.apply(&object).await?;
            if object["kind"] == "Namespace" {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                let account = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
                eventually(CALL_TIMEOUT, &format!("{account} exists"), async || {
                    Ok((self.get(&account).await?.status == 200).then_some(()))
                })
                .await?;
            }
            applied.push(stored);
        }
        Ok(applied)
    }
}

/// The lines of a watch, each a watch event (`type`, `object`).
pub struct Watch {
    lines: Lines<Box<dyn AsyncBufRead + Send + Unpin>>,
}

impl Watch {
    /// The next event; `None` when the server ended the watch.
    pub async fn next(&mut self) -> Result<Option<Value>> {
        match self.lines.next().await {
            None => Ok(None),
            Some(line) => Ok(Some(serde_json::from_str(&line.context("watch broken")?)?)),
        }
    }
}

/// Polls until `probe` has an answer, for conditions that a controller brings about.
///
/// # Errors
/// The first error of `probe`, or `what` did not happen within `limit`.
pub async fn eventually<T>(
    limit: Duration,
    what: &str,
    mut probe: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        if let Some(answer) = probe().await? {
            return Ok(answer);
        }
        if tokio::time::Instant::now() > deadline {
            bail!("not within {limit:?}: {what}");
        }
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
}

/// The objects of a multi-document YAML text; empty documents are skipped.
pub fn documents(yaml: &str) -> Result<Vec<Value>> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(yaml).map_err(|error| anyhow!("manifest: {error}"))?;
    Ok(documents
        .into_iter()
        .filter(|document| !document.is_null())
        .collect())
}

/// The API path of an object by its apiVersion, kind, namespace and name.
pub fn object_path(object: &Value) -> Result<String> {
    let kind = object["kind"].as_str().context("object without kind")?;
    let version = object["apiVersion"]
        .as_str()
        .context("object without apiVersion")?;
    let name = object["metadata"]["name"]
        .as_str()
        .context("object without metadata.name")?;
    let (_, plural, namespaced) = KINDS
        .iter()
        .find(|(known, ..)| *known == kind)
        .with_context(|| {
            format!("kind {kind} is not in the table of kinds in tests/control-plane/src/api.rs")
        })?;
    let root = if version.contains('/') { "apis" } else { "api" };
    Ok(if *namespaced {
        let namespace = object["metadata"]["namespace"]
            .as_str()
            .unwrap_or("default");
        format!("/{root}/{version}/namespaces/{namespace}/{plural}/{name}")
    } else {
        format!("/{root}/{version}/{plural}/{name}")
    })
}

fn describe(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    format!(
        "{} {}/{}",
        text(&object["kind"]),
        object["metadata"]["namespace"].as_str().unwrap_or("-"),
        text(&object["metadata"]["name"])
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_follow_kind_version_and_scope() {
        let objects = documents(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a, namespace: shop}\n---\n\
             apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n\
             apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n",
        )
        .unwrap();
        let paths: Vec<_> = objects
            .iter()
            .map(|object| object_path(object).unwrap())
            .collect();
        assert_eq!(
            paths,
            [
                "/apis/apps/v1/namespaces/shop/deployments/a",
                "/api/v1/namespaces/shop",
                "/api/v1/namespaces/default/pods/p",
            ]
        );
    }

    #[test]
    fn an_unknown_kind_is_named() {
        let object = json!({"apiVersion": "v1", "kind": "Gadget", "metadata": {"name": "x"}});
        assert!(
            object_path(&object)
                .unwrap_err()
                .to_string()
                .contains("Gadget")
        );
    }
}
