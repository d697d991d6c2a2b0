//! The store's verb `propose` beside one bare commit of the same engine on the same disk.

use anyhow::{Result, anyhow};
use countersign_store::testing::bench::{self, Measured};

use crate::report::{Line, Samples, Target};

const ROUNDS: usize = 3;
const COMMITS: usize = 1_000;

pub async fn measure() -> Result<Vec<Line>> {
    let mut rounds: Vec<Vec<Measured>> = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push(bench::run(COMMITS).await.map_err(|error| anyhow!(error))?);
    }
    let mut lines = Vec::new();
    for (engine, at_least) in [("sqlite", 1.0), ("postgres", 0.6)] {
        let median = |pick: fn(&Measured) -> f64| {
            let of_engine = rounds
                .iter()
                .flatten()
                .filter(|measured| measured.engine == engine);
            of_engine.map(pick).collect::<Samples>().median()
        };
        let alone = Line::new(
            format!("store.propose, 1 client, {engine}"),
            "us",
            median(|measured| measured.propose_p50_us),
        );
        let together = Line::new(
            format!("store.propose, 16 clients, {engine}"),
            "1/s",
            median(|measured| measured.propose_per_second),
        );
        lines.push(
            alone
                .beside(median(|measured| measured.bare_p50_us))
                .wanted(Target::Ratio { at_most: 1.5 }),
        );
        lines.push(
            together
                .beside(median(|measured| measured.bare_per_second))
                .wanted(Target::RatioFrom { at_least }),
        );
    }
    Ok(lines)
}
