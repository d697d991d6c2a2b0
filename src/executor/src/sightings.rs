//! In which order this process saw pods for the first time. Of several pods that one workload made
//! within the same second, their creation times do not tell the older one; but what an earlier look
//! showed is older than what only a later one shows.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use countersign_integrations::kubernetes::PodRecord;

/// Pods remembered. An outcome is looked for among those of the last minutes.
const REMEMBERED: usize = 4096;

/// Shared by all that look, so that a pod which stood before one action's write comes before those that
/// only that action's write made.
#[derive(Default)]
pub struct Sightings(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    looks: u64,
    first: HashMap<String, u64>,
    order: VecDeque<String>,
}

impl Sightings {
    /// One look at the pods of a controller: each with the number of the look that showed it first.
    pub fn saw(&self, pods: Vec<PodRecord>) -> Vec<(u64, PodRecord)> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.looks += 1;
        let numbered = pods
            .into_iter()
            .map(|pod| (seen.number(&pod.uid), pod))
            .collect();
        seen.forget();
        numbered
    }
}

impl Seen {
    fn number(&mut self, uid: &str) -> u64 {
        if let Some(number) = self.first.get(uid) {
            return *number;
        }
        self.first.insert(uid.to_owned(), self.looks);
        self.order.push_back(uid.to_owned());
        self.looks
    }

    fn forget(&mut self) {
        while self.order.len() > REMEMBERED {
            if let Some(uid) = self.order.pop_front() {
                self.first.remove(&uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample_pod::pod;

    fn saw(sightings: &Sightings, uids: &[&str]) -> Vec<u64> {
        let seen = sightings.saw(uids.iter().map(|uid| pod(uid)).collect());
        seen.into_iter().map(|(number, _)| number).collect()
    }

    #[test]
    fn a_pod_keeps_the_number_of_the_look_that_showed_it_first() {
        let sightings = Sightings::default();
        assert_eq!(saw(&sightings, &["b", "c"]), [1, 1]);
        assert_eq!(saw(&sightings, &["a", "b"]), [2, 1]);
        assert_eq!(saw(&sightings, &["a", "b", "c"]), [2, 1, 1]);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let sightings = Sightings::default();
        let many: Vec<String> = (0..REMEMBERED + 1).map(|n| format!("pod-{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        saw(&sightings, &many);
        assert_eq!(saw(&sightings, &["pod-0", "pod-1"]), [2, 1]);
        let seen = sightings.0.lock().unwrap();
        assert_eq!(
            (seen.first.len(), seen.order.len()),
            (REMEMBERED, REMEMBERED)
        );
    }
}
