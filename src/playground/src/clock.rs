//! The playground's only reading of the wall clock, and the three spellings of time that its
//! protocols use. It depends on no other crate of the workspace, so it cannot use the domain's
//! clock; nothing here takes part in a decision about an approval.

use jiff::Timestamp;

#[expect(
    clippy::disallowed_methods,
    reason = "a stand-in for outside systems, which keep their own time"
)]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Kubernetes `metav1.Time`: whole seconds, `2026-01-02T03:04:05Z`.
pub fn kubernetes(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Kubernetes `metav1.MicroTime`, used by audit events and leases.
pub fn kubernetes_micro(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// Jira Cloud: milliseconds and a numeric offset without a colon, `2026-01-02T03:04:05.678+0000`.
pub fn jira(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%3f+0000").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spells_time_as_each_protocol_does() {
        let at: Timestamp = "2026-01-02T03:04:05.678901Z".parse().unwrap();
        assert_eq!(kubernetes(at), "2026-01-02T03:04:05Z");
        assert_eq!(kubernetes_micro(at), "2026-01-02T03:04:05.678901Z");
        assert_eq!(jira(at), "2026-01-02T03:04:05.678+0000");
    }
}
