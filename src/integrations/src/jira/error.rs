//! What can go wrong with Jira, sorted by what the caller may do next.

use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JiraError {
    /// The base URL, an id or a label cannot be sent.
    #[error("{problem}")]
    Invalid { problem: String },
    #[error("Jira does not accept our e-mail address and token (401): renew the token")]
    Unauthorized,
    #[error("our Jira account may not do this (403): {message}")]
    Forbidden { message: String },
    /// Also what Jira answers to an account that may not see the object, or is not logged in.
    #[error("{what} does not exist in Jira, or our account may not see it")]
    NotFound { what: String },
    /// Always safe to repeat, also for a write: nothing was done.
    #[error("Jira asks us to slow down (429); wait {} s", retry_after.as_secs())]
    RateLimited { retry_after: Duration },
    /// A write was sent and its result is not known: look for it before sending it again.
    #[error("Jira may or may not have done it: {problem}")]
    Ambiguous { problem: String },
    /// Jira refuses the content; repeating it unchanged is useless.
    #[error("Jira refuses this: {}", sentence(messages, fields))]
    Rejected {
        messages: Vec<String>,
        fields: Vec<(String, String)>,
    },
    /// Two writers at once (409): read, then decide anew.
    #[error("somebody else changed the issue at the same moment (409)")]
    Conflict,
    /// The workflow offers us no way to the status.
    #[error(
        "no transition leads from status {from} to status {to}: our account needs one in the \
         workflow (offered: {})",
        if offered.is_empty() { "none".to_owned() } else { offered.join(", ") }
    )]
    NoTransition {
        from: String,
        to: String,
        offered: Vec<String>,
    },
    /// Nothing was done: no connection, or a read without an answer. Worth trying again.
    #[error("Jira cannot be reached or did not answer in time: {problem}")]
    Unavailable { problem: String },
    /// The answer is not what Jira's API promises, or too large.
    #[error("Jira's answer for {what} cannot be used: {problem}")]
    Unexpected { what: String, problem: String },
}

impl JiraError {
    /// Repeating the same call later may succeed and cannot do it twice.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::RateLimited { .. } | Self::Unavailable { .. } | Self::Conflict
        )
    }

    /// A short stable word for metrics and audit.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden { .. } => "forbidden",
            Self::NotFound { .. } => "not_found",
            Self::RateLimited { .. } => "rate_limited",
            Self::Ambiguous { .. } => "ambiguous",
            Self::Rejected { .. } => "rejected",
            Self::Conflict => "conflict",
            Self::NoTransition { .. } => "no_transition",
            Self::Unavailable { .. } => "unavailable",
            Self::Unexpected { .. } => "unexpected",
        }
    }
}

fn sentence(messages: &[String], fields: &[(String, String)]) -> String {
    let fields = fields
        .iter()
        .map(|(field, problem)| format!("{field}: {problem}"));
    let all: Vec<String> = messages.iter().cloned().chain(fields).collect();
    if all.is_empty() {
        "no reason given".to_owned()
    } else {
        all.join("; ")
    }
}
