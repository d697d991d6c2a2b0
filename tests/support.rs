//! Support for tests, the demo and the walkthrough: the whole product as separate processes, the
//! people around it (an AI client, approvers in a browser's stead, Jira users), each speaking only
//! the real protocols, and the scenarios of the main story.

pub mod scenarios;
pub mod stack;

/// `cargo xtask test --fast`: what needs minutes is left out, and says so.
pub fn fast() -> bool {
    let fast = std::env::var_os("COUNTERSIGN_TEST_FAST").is_some();
    if fast {
        eprintln!(
            "NOT RUN in --fast: {}",
            std::thread::current().name().unwrap_or_default()
        );
    }
    fast
}
