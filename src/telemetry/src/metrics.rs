//! The registry behind `/metrics`.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::{TelemetryError, metric};

/// The process's metrics, to be rendered for Prometheus. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
}

impl Metrics {
    /// The content type of [`render`](Self::render).
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    /// Installs the registry for the whole process.
    ///
    /// # Errors
    /// A second call in one process.
    pub fn install() -> Result<Self, TelemetryError> {
        let buckets: [(&str, &[f64]); 3] = [
            (metric::DECISION_LATENCY_SECONDS, &metric::PERSON_BUCKETS),
            (
                metric::EXECUTION_LATENCY_SECONDS,
                &metric::EXECUTION_BUCKETS,
            ),
            (metric::TOOL_CALL_SECONDS, &metric::CALL_BUCKETS),
        ];
        let mut builder = PrometheusBuilder::new();
        for (name, values) in buckets {
            builder = builder
                .set_buckets_for_metric(Matcher::Full(name.to_owned()), values)
                .expect("only an empty list is refused, and none of them is empty");
        }
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(|_| TelemetryError::MetricsTwice)?;
        describe();
        Ok(Self { handle })
    }

    /// All metrics in the Prometheus text format.
    #[must_use]
    pub fn render(&self) -> String {
        // Moves what the histograms gathered since the last scrape; without it they only grow.
        self.handle.run_upkeep();
        self.handle.render()
    }
}

fn describe() {
    describe_gauge!(metric::ACTIONS_PENDING, "Actions that wait for a decision");
    describe_gauge!(
        metric::ACTION_OLDEST_PENDING_SECONDS,
        Unit::Seconds,
        "Age of the oldest action that waits for a decision"
    );
    describe_histogram!(
        metric::DECISION_LATENCY_SECONDS,
        Unit::Seconds,
        "Time from admission to the last decision"
    );
    describe_histogram!(
        metric::EXECUTION_LATENCY_SECONDS,
        Unit::Seconds,
        "Time from claim to outcome"
    );
    describe_gauge!(
        metric::EXECUTOR_HEARTBEAT_AGE_SECONDS,
        Unit::Seconds,
        "Time since the executor was last heard of"
    );
    describe_gauge!(
        metric::OUTBOX_OLDEST_SECONDS,
        Unit::Seconds,
        "Age of the oldest undelivered message"
    );
    describe_counter!(
        metric::REFUSALS_TOTAL,
        "Refusals by the server or the executor, by code"
    );
    describe_counter!(
        metric::TOOL_CALLS_TOTAL,
        "MCP tool calls, by tool and outcome"
    );
    describe_histogram!(
        metric::TOOL_CALL_SECONDS,
        Unit::Seconds,
        "Duration of MCP tool calls, by tool"
    );
}
