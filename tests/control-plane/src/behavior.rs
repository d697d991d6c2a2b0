//! What the fake kubelet makes a pod do, and the small language to say it in
//! annotations.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;

/// On a pod template: one behaviour, or several separated by commas. The n-th
/// pod of the workload gets the n-th, and every later pod the last: `crashloop,
/// ready` is one crashing pod whose replacement, by eviction or rollout, is fine.
/// Set on a live pod, the annotation changes what that pod does.
pub const ANNOTATION: &str = "fake.countersign.dev/behavior";

/// Written `<outcome> [after=<duration>] [since=<duration>]`, as in
/// `crashloop since=20m`, or `slow-ready=3s` for `ready after=3s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behavior {
    pub outcome: Outcome,
    /// Time from the pod's start to the outcome. Until then a pod that will be
    /// ready is not, and one that will fail is ready.
    pub after: Duration,
    /// How far back the status dates the outcome; for thresholds of minutes in tests of seconds.
    pub since: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Ready,
    /// Running, Ready=False.
    NeverReady,
    /// Waiting in CrashLoopBackOff, last exit code 1, phase Running.
    CrashLoop,
    /// Waiting in CrashLoopBackOff, last exit OOMKilled (137), phase Running.
    OomKilled,
    /// Ready now, after several restarts, the last one just now.
    Restarting,
    /// Waiting in ImagePullBackOff, phase Pending.
    ImagePull,
    /// Waiting in CreateContainerConfigError, phase Pending.
    CreateConfigError,
    /// Waiting in ContainerCreating, phase Pending.
    ContainerCreating,
    /// The first init container in CrashLoopBackOff, phase Pending.
    InitCrashLoop,
    /// Phase Failed, reason Evicted.
    Evicted,
    /// Phase Failed, exit code 1.
    Failed,
    /// Phase Succeeded, as a Job's pod.
    Succeeded,
    /// Ready, but once deleted it never goes away.
    StuckTerminating,
    /// The kubelet never reports on the pod: also for tests that write the status themselves.
    Silent,
}

const NAMES: &[(&str, Outcome)] = &[
    ("ready", Outcome::Ready),
    ("never-ready", Outcome::NeverReady),
    ("crashloop", Outcome::CrashLoop),
    ("oomkilled", Outcome::OomKilled),
    ("restarting", Outcome::Restarting),
    ("imagepull", Outcome::ImagePull),
    ("create-config-error", Outcome::CreateConfigError),
    ("container-creating", Outcome::ContainerCreating),
    ("init-crashloop", Outcome::InitCrashLoop),
    ("evicted", Outcome::Evicted),
    ("failed", Outcome::Failed),
    ("succeeded", Outcome::Succeeded),
    ("stuck-terminating", Outcome::StuckTerminating),
    ("silent", Outcome::Silent),
];

impl Behavior {
    pub const fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            after: Duration::ZERO,
            since: Duration::ZERO,
        }
    }

    #[must_use]
    pub const fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }

    #[must_use]
    pub const fn since(self, since: Duration) -> Self {
        Self { since, ..self }
    }

    /// What the `index`-th pod (from 0) does under an annotation's value.
    pub(crate) fn nth(annotation: &str, index: usize) -> Result<Self, UnknownBehavior> {
        let entries: Vec<&str> = annotation.split(',').collect();
        entries[index.min(entries.len() - 1)].parse()
    }
}

impl From<Outcome> for Behavior {
    fn from(outcome: Outcome) -> Self {
        Self::new(outcome)
    }
}

/// The text that is no behaviour.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownBehavior(String);

impl fmt::Display for UnknownBehavior {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
        write!(
            f,
            "{ANNOTATION}: `{}` is not one of {}",
            self.0,
            names.join(", ")
        )?;
        f.write_str(", slow-ready=<duration>, with after= or since= a duration such as 3s or 10m")
    }
}

impl std::error::Error for UnknownBehavior {}

impl FromStr for Behavior {
    type Err = UnknownBehavior;

    fn from_str(text: &str) -> Result<Self, UnknownBehavior> {
        let unknown = || UnknownBehavior(text.trim().to_owned());
        let mut words = text.split_whitespace();
        let first = words.next().ok_or_else(unknown)?;
        let mut behavior = match first.split_once('=') {
            Some(("slow-ready", delay)) => {
                Self::new(Outcome::Ready).after(duration(delay).ok_or_else(unknown)?)
            }
            _ => {
                let known = NAMES
                    .iter()
                    .find(|(name, _)| *name == first)
                    .ok_or_else(unknown)?;
                Self::new(known.1)
            }
        };
        for word in words {
            match word.split_once('=') {
                Some(("after", value)) => behavior.after = duration(value).ok_or_else(unknown)?,
                Some(("since", value)) => behavior.since = duration(value).ok_or_else(unknown)?,
                _ => return Err(unknown()),
            }
        }
        Ok(behavior)
    }
}

fn duration(text: &str) -> Option<Duration> {
    text.parse::<SignedDuration>().ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_sequences_and_repeats_the_last() {
        let annotation = "crashloop since=20m, slow-ready=3s";
        assert_eq!(
            Behavior::nth(annotation, 0),
            Ok(Behavior::new(Outcome::CrashLoop).since(Duration::from_secs(1200)))
        );
        for index in [1, 7] {
            assert_eq!(
                Behavior::nth(annotation, index),
                Ok(Behavior::new(Outcome::Ready).after(Duration::from_secs(3)))
            );
        }
    }

    #[test]
    fn says_what_it_does_not_know() {
        for text in [
            "",
            "explode",
            "ready after=soon",
            "ready since=-3s",
            "crashloop,",
        ] {
            let error = Behavior::nth(text, 9).unwrap_err().to_string();
            assert!(error.contains("crashloop"), "{error}");
        }
    }
}
