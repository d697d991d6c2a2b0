//! Which admissions are under way: one agent's proposals, however slow the cluster is with them,
//! always leave a place for another agent's.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Admissions at once.
pub const PLACES: usize = 4;
/// Of these, for one agent.
const OF_ONE_AGENT: usize = 3;
/// An admission that takes longer than this is slow.
const SLOW: Duration = Duration::from_secs(1);
/// When a proposal that found no place is offered again: behind all that were not.
const SOON: Duration = Duration::from_millis(50);

/// All admissions under way.
pub struct Admitting {
    places: Arc<Semaphore>,
    agents: Arc<Mutex<Vec<Entry>>>,
}

struct Entry {
    agent: String,
    since: Instant,
}

/// Any place. Of which agent is found out by claiming.
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

/// A place taken by an agent; given back when dropped.
pub struct Taken {
    agents: Arc<Mutex<Vec<Entry>>>,
    agent: String,
    since: Instant,
    _place: Place,
}

impl Admitting {
    pub fn new() -> Self {
        Self {
            places: Arc::new(Semaphore::new(PLACES)),
            agents: Arc::default(),
        }
    }

    /// A place, if one is free.
    pub fn place(&self) -> Option<Place> {
        let permit = Arc::clone(&self.places).try_acquire_owned();
        permit.ok().map(|permit| Place { _permit: permit })
    }

    /// Takes the place for an agent. Where it has its share already: the place again, and how long
    /// its proposal waits.
    pub fn take(
        &self,
        place: Place,
        agent: &str,
        now: Instant,
    ) -> Result<Taken, (Place, Duration)> {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        let own = || agents.iter().filter(|entry| entry.agent == agent);
        if own().count() >= OF_ONE_AGENT {
            let slow = own().any(|entry| now.saturating_duration_since(entry.since) >= SLOW);
            return Err((place, if slow { SLOW } else { SOON }));
        }
        agents.push(Entry {
            agent: agent.to_owned(),
            since: now,
        });
        Ok(Taken {
            agents: Arc::clone(&self.agents),
            agent: agent.to_owned(),
            since: now,
            _place: place,
        })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        let own = |entry: &Entry| entry.agent == self.agent && entry.since == self.since;
        if let Some(index) = agents.iter().position(own) {
            agents.swap_remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_agent_leaves_a_place_for_another() {
        let admitting = Admitting::new();
        let now = Instant::now();
        let take = |agent, now| admitting.take(admitting.place().unwrap(), agent, now);
        let mut taken: Vec<_> = (0..OF_ONE_AGENT)
            .map(|_| take("a", now).ok().unwrap())
            .collect();
        assert_eq!(take("a", now).err().unwrap().1, SOON);
        assert_eq!(take("a", now + SLOW).err().unwrap().1, SLOW);
        let other = take("b", now).ok().unwrap();
        assert!(admitting.place().is_none(), "all places are taken");
        drop(other);
        taken.pop();
        assert!(take("a", now).is_ok());
    }
}
