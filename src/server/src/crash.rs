//! Named points at which a test may kill this process, to see that nothing is lost or done twice.
//! Inert unless `COUNTERSIGN_CRASH_AT` names the point: one environment look-up a process.

use std::sync::OnceLock;

/// The environment variable that names the point.
pub const VARIABLE: &str = "COUNTERSIGN_CRASH_AT";

/// Ends the process at once, without unwinding and without a destructor, when this point is the one
/// that was asked for.
pub fn point(name: &str) {
    static WANTED: OnceLock<Option<String>> = OnceLock::new();
    let wanted = WANTED.get_or_init(|| std::env::var(VARIABLE).ok());
    if wanted.as_deref() == Some(name) {
        std::process::abort();
    }
}
