//! Images that do not come: the registry's and the node's messages told apart.

use super::words::{count, named, quote};
use super::{Cause, Situation};
use crate::kubernetes::failing::Failing;
use crate::kubernetes::records::ContainerRecord;

pub(super) fn pull(situation: &Situation, failing: &Failing, container: &ContainerRecord) -> Cause {
    let start = format!(
        "{} has been unable to pull image {} for {}",
        named(container),
        container.image,
        situation.ago(failing.since)
    );
    let Some(words) = registry_words(situation, failing) else {
        return Cause::unexplained(format!("{start}; the cluster does not say why"));
    };
    // The image's own name must not be mistaken for a cause.
    let plain = words.replace(&container.image, " ").to_ascii_lowercase();
    match refusal(&plain) {
        Some(Refusal::Credentials) => {
            let secrets = match situation.detail {
                None => String::new(),
                Some(detail) if detail.image_pull_secrets.is_empty() => {
                    "; the pod names no imagePullSecrets".to_owned()
                }
                Some(detail) => format!(
                    "; the pod uses the {} {}",
                    match detail.image_pull_secrets.len() {
                        1 => "imagePullSecret",
                        _ => "imagePullSecrets",
                    },
                    detail.image_pull_secrets.join(", ")
                ),
            };
            Cause::explained(format!(
                "{start}: the registry refuses it for want of valid credentials{secrets}"
            ))
        }
        Some(refusal) => Cause::explained(format!(
            "{start}: {}",
            refusal.text(situation.node_name().as_str())
        )),
        None => Cause::explained(format!("{start}: {}", quote(&words))),
    }
}

pub(super) fn invalid_name(container: &ContainerRecord) -> Cause {
    Cause::explained(format!(
        "{} cannot start: {} is not a valid image name",
        named(container),
        quote(&container.image)
    ))
}

/// Waiting reasons beside those of the definition, of this or of later releases.
pub(super) fn other_waiting(
    situation: &Situation,
    failing: &Failing,
    container: &ContainerRecord,
    reason: &str,
) -> Cause {
    let (name, node) = (named(container), situation.node_name());
    if reason == "ErrImageNeverPull" {
        return Cause::explained(format!(
            "{name} cannot start: image {} is not on {node}, and imagePullPolicy Never forbids to \
             pull it",
            container.image
        ));
    }
    let restarts = match container.restart_count {
        0 => String::new(),
        many => format!(" after {}", count(many.into(), "restart")),
    };
    let text = format!("{name} waits with {reason}{restarts}");
    match &failing.message {
        Some(message) => Cause::explained(format!("{text}: {}", quote(message))),
        None => Cause::unexplained(text),
    }
}

/// The reason behind a back-off: newer kubelets put it into the status, older ones only into
/// events.
fn registry_words(situation: &Situation, failing: &Failing) -> Option<String> {
    let of_status = failing.message.as_deref().filter(|message| {
        // `Back-off pulling image "x"` alone says nothing.
        !message.starts_with("Back-off pulling image") || message.contains("\": ")
    });
    let of_event = || {
        let mut failures: Vec<_> = situation
            .events
            .iter()
            .filter(|event| event.reason == "Failed" && event.message.contains("pull"))
            .collect();
        failures.sort_by_key(|event| std::cmp::Reverse(event.last_seen));
        failures.first().map(|event| event.message.as_str())
    };
    of_status.or_else(of_event).map(str::to_owned)
}

enum Refusal {
    RateLimit,
    Dns,
    Certificate,
    Unreachable,
    DiskFull,
    Platform,
    /// Registries that do not tell whether it is missing or secret.
    MissingOrSecret,
    Credentials,
    NotFound,
}

impl Refusal {
    fn text(&self, node: &str) -> String {
        match self {
            Self::RateLimit => "the registry's rate limit is reached (429): pulls go on when it \
                                resets, or with credentials of a larger limit"
                .to_owned(),
            Self::Dns => format!("the registry's name does not resolve on {node} (DNS)"),
            Self::Certificate => {
                format!("{node} does not trust the registry's certificate (x509)")
            }
            Self::Unreachable => {
                format!("the registry does not answer {node} (timeout or refused connection)")
            }
            Self::DiskFull => format!("the disk of {node} is full"),
            Self::Platform => format!("the image has no variant for the platform of {node}"),
            Self::MissingOrSecret => "the registry says that it does not exist or needs \
                                      credentials: check the name first, then imagePullSecrets"
                .to_owned(),
            Self::Credentials => "the registry refuses it for want of valid credentials".to_owned(),
            Self::NotFound => "the registry has no such image or tag".to_owned(),
        }
    }
}

/// `plain` is in lower case.
fn refusal(plain: &str) -> Option<Refusal> {
    let says = |words: &[&str]| words.iter().any(|word| plain.contains(word));
    Some(
        if says(&[
            "toomanyrequests",
            "too many requests",
            "rate limit",
            "status code: 429",
        ]) {
            Refusal::RateLimit
        } else if says(&["no such host", "name resolution", "server misbehaving"]) {
            Refusal::Dns
        } else if says(&["x509", "certificate signed by unknown"]) {
            Refusal::Certificate
        } else if says(&["no space left on device"]) {
            Refusal::DiskFull
        } else if says(&[
            "no match for platform",
            "no matching manifest",
            "exec format",
        ]) {
            Refusal::Platform
        } else if says(&["may require", "repository does not exist or"]) {
            Refusal::MissingOrSecret
        } else if says(&[
            "unauthorized",
            "401",
            "403 forbidden",
            "authentication required",
            "no basic auth",
            "authorization failed",
            "denied",
        ]) {
            Refusal::Credentials
        } else if says(&[
            "not found",
            "manifest unknown",
            "name unknown",
            "does not exist",
        ]) {
            Refusal::NotFound
        } else if says(&[
            "i/o timeout",
            "connection refused",
            "deadline exceeded",
            "handshake timeout",
            "no route to host",
            "connection reset",
            "network is unreachable",
            "request canceled",
        ]) {
            Refusal::Unreachable
        } else {
            return None;
        },
    )
}
