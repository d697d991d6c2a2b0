//! What can go wrong when reading a cluster, as sentences. Never a token, a credential
//! plugin's output or a line of a kubeconfig.

/// Why a read failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KubeError {
    /// The name or argument cannot be sent, or the API server refused it (400, 422).
    #[error("{problem}")]
    Invalid { problem: String },
    /// No kubeconfig, no such context, no service account.
    #[error("no usable access to the cluster: {problem}")]
    Access { problem: String },
    #[error("the cluster does not accept our credentials (401): renew them")]
    Unauthorized,
    #[error("our account may not read {what} (403): {message}")]
    Forbidden { what: String, message: String },
    #[error("{what} does not exist")]
    NotFound { what: String },
    /// A continue token expired (410) twice in a row.
    #[error("the list of {what} changed faster than it could be read: ask for less at once")]
    Gone { what: String },
    /// Timeout, no connection, throttled (429) or a server error (5xx): worth trying again.
    #[error("the cluster's API cannot be reached or did not answer in time: {problem}")]
    Unavailable { problem: String },
    /// Our own limit: each list takes memory.
    #[error(
        "too many lists of this cluster are being read just now: wait 5 s and try again, for one \
         namespace if you can"
    )]
    Busy,
    /// The answer is not what the Kubernetes API promises, or too large.
    #[error("the answer for {what} cannot be used: {problem}")]
    Unexpected { what: String, problem: String },
}

impl KubeError {
    /// The same call may succeed a little later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Gone { .. })
    }

    /// A short stable word for metrics and audit.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid",
            Self::Access { .. } => "no_access",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden { .. } => "forbidden",
            Self::NotFound { .. } => "not_found",
            Self::Gone { .. } => "gone",
            Self::Unavailable { .. } => "unavailable",
            Self::Unexpected { .. } => "unexpected",
            Self::Busy => "busy",
        }
    }
}
