//! The names of all metrics, so that code, dashboards and alerts agree on them.
//!
//! Record with the macros of the `metrics` crate: `gauge!(metric::ACTIONS_PENDING).set(3.0)`.
//! Labels take values from closed sets only (codes, tool names), never text from a caller.

/// Gauge: actions that wait for a decision.
pub const ACTIONS_PENDING: &str = "countersign_actions_pending";
/// Gauge, seconds: age of the oldest action that waits for a decision; 0 without one.
pub const ACTION_OLDEST_PENDING_SECONDS: &str = "countersign_action_oldest_pending_seconds";
/// Histogram, seconds: from admission to the last decision.
pub const DECISION_LATENCY_SECONDS: &str = "countersign_decision_latency_seconds";
/// Histogram, seconds: from claim to outcome.
pub const EXECUTION_LATENCY_SECONDS: &str = "countersign_execution_latency_seconds";
/// Gauge, seconds: time since the executor was last heard of.
pub const EXECUTOR_HEARTBEAT_AGE_SECONDS: &str = "countersign_executor_heartbeat_age_seconds";
/// Gauge, seconds: age of the oldest undelivered message; 0 without one.
pub const OUTBOX_OLDEST_SECONDS: &str = "countersign_outbox_oldest_seconds";
/// Counter, label `code`: refusals by the server or the executor.
pub const REFUSALS_TOTAL: &str = "countersign_refusals_total";
/// Counter, labels `tool`, `outcome`: MCP tool calls.
pub const TOOL_CALLS_TOTAL: &str = "countersign_tool_calls_total";
/// Histogram, seconds, label `tool`: duration of MCP tool calls.
pub const TOOL_CALL_SECONDS: &str = "countersign_tool_call_seconds";

/// Seconds a person takes: a decision is between a tap and the decide-by deadline.
pub(crate) const PERSON_BUCKETS: [f64; 9] =
    [5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0, 1800.0, 3600.0];
/// Seconds an execution takes, watching the replacement included.
pub(crate) const EXECUTION_BUCKETS: [f64; 9] = [0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0];
/// Seconds a tool call takes; long polls end below 60.
pub(crate) const CALL_BUCKETS: [f64; 10] =
    [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0];
