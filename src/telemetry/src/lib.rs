//! Logs and metrics for both binaries.
//!
//! Logs go to STDERR and nowhere else: on stdio, STDOUT is the MCP pipe. Metrics are rendered by
//! whoever serves `/metrics`; nothing here opens a port.

mod logs;
pub mod metric;
mod metrics;

pub use logs::{LogFormat, init};
pub use metrics::Metrics;

/// Why logs or metrics could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error(
        "the log filter is not valid ({problem}): use a level such as `info`, or \
         `target=level` pairs such as `info,countersign=debug`"
    )]
    Filter { problem: String },
    #[error("logging was already set up in this process")]
    LogsTwice,
    #[error("metrics were already set up in this process")]
    MetricsTwice,
}
