//! Logs and metrics are global to a process, so one test holds all that needs them.

use countersign_telemetry::{LogFormat, Metrics, TelemetryError, init, metric};

#[test]
fn sets_up_once_and_renders_what_was_recorded() {
    let error = init(LogFormat::Text, "info,[[[").unwrap_err().to_string();
    assert!(error.contains("info,countersign=debug"), "{error}");
    init(LogFormat::Json, "info").unwrap();
    assert!(matches!(
        init(LogFormat::Json, "info"),
        Err(TelemetryError::LogsTwice)
    ));

    let metrics = Metrics::install().unwrap();
    assert!(matches!(
        Metrics::install(),
        Err(TelemetryError::MetricsTwice)
    ));
    metrics::gauge!(metric::ACTIONS_PENDING).set(3.0);
    metrics::counter!(metric::REFUSALS_TOTAL, "code" => "target_changed").increment(1);
    metrics::histogram!(metric::TOOL_CALL_SECONDS, "tool" => "get_action").record(0.02);
    metrics::histogram!(metric::DECISION_LATENCY_SECONDS).record(41.0);
    let text = metrics.render();
    for line in [
        "# HELP countersign_actions_pending Actions that wait for a decision",
        "# TYPE countersign_actions_pending gauge",
        "countersign_actions_pending 3",
        "countersign_refusals_total{code=\"target_changed\"} 1",
        "countersign_tool_call_seconds_bucket{tool=\"get_action\",le=\"0.05\"} 1",
        "countersign_decision_latency_seconds_bucket{le=\"60\"} 1",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
}
