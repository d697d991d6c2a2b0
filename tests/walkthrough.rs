//! `cargo demo --walkthrough`: the story without a person. Exit code 0 only if all of it happened.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use countersign_tests::scenarios::{self, Scene};
use countersign_tests::stack::{Options, Stack};

#[tokio::main]
async fn main() -> ExitCode {
    let start = Instant::now();
    match play().await {
        Ok(()) => {
            println!("\nAll of it happened, in {} s.", start.elapsed().as_secs());
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("\nNOT all of it happened: {error:#}");
            ExitCode::FAILURE
        }
    }
}

macro_rules! play {
    ($stack:expr, $tell:expr, $($title:literal => $scenario:path),+ $(,)?) => {{
        $(
            println!("\n{}", $title);
            let scene = Scene::new($stack, $tell).await?;
            $scenario(&scene).await?;
        )+
    }};
}

async fn play() -> Result<()> {
    let tell = |evidence: &str| println!("   {evidence}");
    println!("Countersign walkthrough. Cluster and Jira are SIMULATED; the rest is the product.");
    let mut stack =
        Stack::start_with(Options::default(), |step| println!("   starting {step}")).await?;
    play!(&stack, &tell,
        "1. Asked by the AI, countersigned on the page, executed, verified" => scenarios::page_approval,
        "2. Countersigned by moving the ticket" => scenarios::ticket_approval,
        "3. Two people answer at once" => scenarios::two_answers_at_once,
        "4. Rejected, with a reason" => scenarios::rejection,
        "5. The pod is replaced between proposal and approval" => scenarios::pod_replaced,
        "6. A replacement that never becomes ready" => scenarios::replacement_never_ready,
        "7. A disruption budget without room" => scenarios::budget_without_room,
        "8. A decision forged by SQL" => scenarios::forged_decision,
        "9. A state forged by SQL" => scenarios::forged_state,
    );
    println!("\n10. An old copy of the database, from before the execution");
    scenarios::database_from_before_execution(&mut stack, &tell).await?;
    println!("\n11. An old copy of the database, from before the admission");
    scenarios::database_from_before_admission(&mut stack, &tell).await?;
    stack.stop().await
}
