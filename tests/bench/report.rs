//! What a bench has to say: one line for each number that was asked for, as a table and as JSON.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// Measured values of one kind.
#[derive(Debug, Default, Clone)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub fn median(&self) -> f64 {
        self.rank(0.5)
    }

    /// The nearest rank: of fewer than a hundred values this is the largest.
    pub fn p99(&self) -> f64 {
        self.rank(0.99)
    }

    fn rank(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted
            .get(rank.saturating_sub(1))
            .copied()
            .unwrap_or(f64::NAN)
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

/// What is wanted of a line.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    Ratio { at_most: f64 },
    RatioFrom { at_least: f64 },
    Median { at_most: f64 },
    P99 { below: f64 },
}

/// One number. `unit` is that of `median`, `p99` and `baseline`; a ratio is median to baseline.
#[derive(Debug, Clone)]
pub struct Line {
    name: String,
    unit: &'static str,
    median: f64,
    p99: Option<f64>,
    baseline: Option<f64>,
    target: Option<Target>,
}

impl Line {
    pub fn new(name: impl Into<String>, unit: &'static str, median: f64) -> Self {
        Self {
            name: name.into(),
            unit,
            median,
            p99: None,
            baseline: None,
            target: None,
        }
    }

    /// Median and p99 of these.
    pub fn of(name: impl Into<String>, unit: &'static str, samples: &Samples) -> Self {
        Self {
            p99: Some(samples.p99()),
            ..Self::new(name, unit, samples.median())
        }
    }

    #[must_use]
    pub fn beside(mut self, baseline: f64) -> Self {
        self.baseline = Some(baseline);
        self
    }

    #[must_use]
    pub fn wanted(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    fn ratio(&self) -> Option<f64> {
        self.baseline.map(|baseline| self.median / baseline)
    }

    /// `None`: nothing is wanted, the number is only stated. A number that is missing misses.
    pub fn met(&self) -> Option<bool> {
        let ratio = self.ratio().unwrap_or(f64::NAN);
        Some(match self.target? {
            Target::Ratio { at_most } => ratio <= at_most,
            Target::RatioFrom { at_least } => ratio >= at_least,
            Target::Median { at_most } => self.median <= at_most,
            Target::P99 { below } => self.p99.is_some_and(|p99| p99 < below),
        })
    }

    fn target_text(&self) -> String {
        match self.target {
            None => String::new(),
            Some(Target::Ratio { at_most }) => format!("ratio <= {at_most}"),
            Some(Target::RatioFrom { at_least }) => format!("ratio >= {at_least}"),
            Some(Target::Median { at_most }) => format!("median <= {at_most}"),
            Some(Target::P99 { below }) => format!("p99 < {below}"),
        }
    }

    fn cells(&self) -> [String; 8] {
        let number = |value: Option<f64>| value.map_or(String::new(), short);
        [
            self.name.clone(),
            self.unit.to_owned(),
            short(self.median),
            number(self.p99),
            number(self.baseline),
            self.ratio()
                .map_or(String::new(), |ratio| format!("{ratio:.2}")),
            self.target_text(),
            self.met()
                .map_or("", |met| if met { "yes" } else { "NO" })
                .to_owned(),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name, "unit": self.unit, "median": self.median, "p99": self.p99,
            "baseline": self.baseline, "ratio": self.ratio(),
            "target": self.target.map(|_| self.target_text()), "met": self.met(),
        })
    }
}

/// Three digits that count.
fn short(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A Markdown table, padded so that it reads well in a terminal, too.
pub fn table(lines: &[Line]) -> String {
    const HEAD: [&str; 8] = [
        "bench", "unit", "median", "p99", "baseline", "ratio", "target", "met",
    ];
    let rows: Vec<[String; 8]> = std::iter::once(HEAD.map(str::to_owned))
        .chain(lines.iter().map(Line::cells))
        .collect();
    let width: [usize; 8] = std::array::from_fn(|column| {
        rows.iter()
            .map(|row| row[column].len())
            .max()
            .unwrap_or_default()
    });
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        for (column, cell) in row.iter().enumerate() {
            let width = width[column];
            match column {
                2..=5 => text.push_str(&format!("| {cell:>width$} ")),
                _ => text.push_str(&format!("| {cell:<width$} ")),
            }
        }
        text.push_str("|\n");
        if index == 0 {
            for (column, width) in width.iter().enumerate() {
                let dashes = "-".repeat(width + 1);
                let end = if (2..=5).contains(&column) { ":" } else { "-" };
                text.push_str(&format!("|{dashes}{end}"));
            }
            text.push_str("|\n");
        }
    }
    text
}

/// Writes the lines, and what the machine was like, for programs.
pub fn write(path: &Path, machine: &Value, lines: &[Line]) -> Result<()> {
    let lines: Vec<Value> = lines.iter().map(Line::json).collect();
    let text = serde_json::to_string_pretty(&json!({"machine": machine, "lines": lines}))?;
    std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
}
