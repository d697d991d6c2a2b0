//! Log lines on STDERR.

use std::str::FromStr;

use tracing_subscriber::EnvFilter;

use crate::TelemetryError;

/// The shape of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line, for collectors.
    #[default]
    Json,
    /// For a person at a terminal.
    Text,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            _ => Err("the log format is `json` or `text`".to_owned()),
        }
    }
}

/// The HTTP stack's own failure lines are muted unless the filter names them: a failure is
/// logged once, where it is handled, and kube logs whole response bodies that do not decode.
const QUIET: [&str; 3] = [
    "kube_client=off",
    "hyper_util=warn",
    "rustls_platform_verifier=warn",
];

/// Starts logging for the whole process.
///
/// `filter` is a level (`info`) or `target=level` pairs separated by commas.
///
/// # Errors
/// A filter that does not parse, or a second call in one process.
pub fn init(format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    let mut directives: Vec<&str> = QUIET
        .into_iter()
        .filter(|quiet| !filter.contains(quiet.split('=').next().unwrap_or(quiet)))
        .collect();
    directives.push(filter);
    let filter = EnvFilter::builder()
        .parse(directives.join(","))
        .map_err(|error| TelemetryError::Filter {
            problem: error.to_string(),
        })?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .try_init(),
        LogFormat::Text => {
            use std::io::IsTerminal as _;
            lines.with_ansi(std::io::stderr().is_terminal()).try_init()
        }
    };
    started.map_err(|_| TelemetryError::LogsTwice)
}
