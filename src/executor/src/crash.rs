//! Named points at which a test makes the process die, as a power cut would.
//!
//! `COUNTERSIGN_CRASH_AT=spent.after` aborts at the first pass of that point, `spent.after:3` at
//! the third. Inert without the variable. The points, in the order of an action's life:
//! `admission.before`, `admission.after`, `claim.before`, `claim.after`, `intent.after`,
//! `spent.before`, `spent.after`, `evict.before`, `evict.after`, `outcome.before`, `outcome.after`.
//! `claim.before` is passed each time the store is asked for approved work, also when there is none.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

const VARIABLE: &str = "COUNTERSIGN_CRASH_AT";

struct Plan {
    name: String,
    left: AtomicU32,
}

static PLAN: OnceLock<Option<Plan>> = OnceLock::new();

/// Aborts the process if the environment says so.
pub fn point(name: &str) {
    let plan = PLAN.get_or_init(|| std::env::var(VARIABLE).ok().and_then(|text| parse(&text)));
    if let Some(plan) = plan
        && plan.name == name
        && plan.left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        // Not through the logger: it could be buffered, and a crash says nothing anyway.
        std::process::abort();
    }
}

fn parse(text: &str) -> Option<Plan> {
    let (name, count) = text.split_once(':').unwrap_or((text, "1"));
    let left = count.parse().ok().filter(|count| *count > 0)?;
    Some(Plan {
        name: name.to_owned(),
        left: AtomicU32::new(left),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_has_a_name_and_a_count() {
        let plan = parse("spent.after:3").unwrap();
        assert_eq!(
            (plan.name.as_str(), plan.left.into_inner()),
            ("spent.after", 3)
        );
        assert_eq!(parse("evict.before").unwrap().left.into_inner(), 1);
        assert!(parse("evict.before:0").is_none());
    }
}
