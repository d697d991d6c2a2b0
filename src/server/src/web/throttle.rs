//! How often somebody may try to log in. Failures are counted for each name at a peer and for each
//! peer, so that nobody locks others out from elsewhere; tries are counted in all, those from where
//! somebody logged in before apart from those of strangers. What is refused by one of the three counts
//! for none.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_listener::network_of;
use tokio::time::Instant;

/// So many at once; one of them is forgotten after each `every`.
struct Rate {
    at_once: u32,
    every: Duration,
}

/// Failures for one name from one peer.
const NAME: Rate = Rate {
    at_once: 10,
    every: Duration::from_secs(6),
};
/// Failures from one peer, whatever the names.
const PEER: Rate = Rate {
    at_once: 20,
    every: Duration::from_secs(2),
};
/// All tries, right ones included: each costs a core's time. Also bounds what is remembered of names
/// and peers.
const ALL: Rate = Rate {
    at_once: 60,
    every: Duration::from_millis(200),
};
/// So many peers from where somebody logged in are remembered, the latest.
const FRIENDS: usize = 1000;
/// Failures of names that nobody has are noted no more often than this.
const NOTED_EVERY: Duration = Duration::from_secs(60);

impl Rate {
    /// Until when it is remembered what was counted, after one more. `Err`: how long to wait for it.
    fn one_more(&self, until: Option<Instant>, now: Instant) -> Result<Instant, Duration> {
        let counted = until.map_or(now, |until| until.max(now)) + self.every;
        let over = counted.saturating_duration_since(now + self.every * self.at_once);
        if over.is_zero() {
            Ok(counted)
        } else {
            Err(over)
        }
    }
}

#[derive(Default)]
pub(super) struct Throttle {
    /// Under a key of this process: nobody can choose a name that falls together with another.
    hasher: RandomState,
    counted: Mutex<Counted>,
}

/// Until when what was counted is remembered.
#[derive(Default)]
struct Counted {
    names: HashMap<u64, Instant>,
    peers: HashMap<u64, Instant>,
    strangers: Option<Instant>,
    friends: Option<Instant>,
    /// When somebody last logged in from there.
    logged_in: HashMap<u64, Instant>,
    unknown: Unknown,
}

/// Failures of names that nobody has.
#[derive(Default)]
struct Unknown {
    noted: Option<Instant>,
    since: u64,
}

impl Throttle {
    /// Counts a try as a failure until [`forgive`](Self::forgive). `Err`: how long to wait for one.
    pub(super) fn count(
        &self,
        name: &str,
        peer: Option<IpAddr>,
        now: Instant,
    ) -> Result<(), Duration> {
        let (name, peer) = self.keys(name, peer);
        let counted = &mut *self.lock();
        let names = NAME.one_more(counted.names.get(&name).copied(), now)?;
        let peers = PEER.one_more(counted.peers.get(&peer).copied(), now)?;
        let all = match counted.logged_in.contains_key(&peer) {
            true => &mut counted.friends,
            false => &mut counted.strangers,
        };
        *all = Some(ALL.one_more(*all, now)?);
        if counted.names.len() + counted.peers.len() > 1000 {
            counted.names.retain(|_, until| *until > now);
            counted.peers.retain(|_, until| *until > now);
        }
        counted.names.insert(name, names);
        counted.peers.insert(peer, peers);
        Ok(())
    }

    /// A try that proved right was no failure, and whoever else tries from there is no stranger.
    pub(super) fn forgive(&self, name: &str, peer: Option<IpAddr>, now: Instant) {
        let (name, peer) = self.keys(name, peer);
        let mut counted = self.lock();
        counted.logged_in.insert(peer, now);
        if counted.logged_in.len() > FRIENDS {
            let oldest = counted.logged_in.iter().min_by_key(|(_, at)| **at);
            if let Some(oldest) = oldest.map(|(peer, _)| *peer) {
                counted.logged_in.remove(&oldest);
            }
        }
        let sooner = |until: &mut Instant, rate: &Rate| {
            *until = until.checked_sub(rate.every).unwrap_or(*until);
        };
        if let Some(until) = counted.names.get_mut(&name) {
            sooner(until, &NAME);
        }
        if let Some(until) = counted.peers.get_mut(&peer) {
            sooner(until, &PEER);
        }
    }

    /// A name that nobody has failed. When it is to be noted again: how often that was since the last
    /// note.
    pub(super) fn unknown(&self, now: Instant) -> Option<u64> {
        let unknown = &mut self.lock().unknown;
        unknown.since += 1;
        let due = unknown.noted.is_none_or(|noted| noted + NOTED_EVERY <= now);
        due.then(|| {
            unknown.noted = Some(now);
            std::mem::take(&mut unknown.since)
        })
    }

    fn keys(&self, name: &str, peer: Option<IpAddr>) -> (u64, u64) {
        let peer = peer.map(network_of);
        (
            self.hasher.hash_one((name, peer)),
            self.hasher.hash_one(peer),
        )
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn failures_are_counted_by_name_and_peer_and_forgotten() {
        let throttle = Throttle::default();
        let (here, there) = (at("10.0.0.1"), at("10.0.0.2"));
        let now = Instant::now();
        for _ in 0..NAME.at_once {
            throttle.count("li", here, now).unwrap();
        }
        let wait = throttle.count("li", here, now).unwrap_err();
        assert_eq!(wait, NAME.every);
        throttle.count("li", there, now).unwrap();
        throttle.count("omar", here, now).unwrap();
        let later = now + NAME.every;
        throttle.count("li", here, later).unwrap();
        throttle.count("li", here, later).unwrap_err();
        throttle.forgive("li", here, later);
        throttle.count("li", here, later).unwrap();

        let neighbours = (at("2001:db8::1"), at("2001:db8::2"));
        for _ in 0..NAME.at_once {
            throttle.count("li", neighbours.0, now).unwrap();
        }
        throttle.count("li", neighbours.1, now).unwrap_err();
    }

    #[test]
    fn one_peer_uses_up_its_own_tries_and_not_those_of_all() {
        let throttle = Throttle::default();
        let now = Instant::now();
        let tries = |peer: Option<IpAddr>| {
            let names = (0..100).map(|number| format!("name-{number}"));
            names
                .filter(|name| throttle.count(name, peer, now).is_ok())
                .count()
        };
        assert_eq!(tries(at("10.0.0.1")), PEER.at_once as usize);
        assert_eq!(tries(at("10.0.0.2")), PEER.at_once as usize);
        throttle.forgive("name-0", at("10.0.0.2"), now);
        throttle.count("somebody", at("10.0.0.2"), now).unwrap();
        // What is remembered is as little as may be tried.
        (3..90).for_each(|last| {
            tries(at(&format!("10.0.0.{last}")));
        });
        {
            let counted = throttle.lock();
            let most = 2 * ALL.at_once as usize;
            assert!(counted.names.len() <= most && counted.peers.len() <= most);
        }
        // Many strangers keep strangers out, and nobody who was here before.
        throttle.count("ann", at("10.0.1.1"), now).unwrap_err();
        let minute = now + Duration::from_secs(60);
        (3..90).for_each(|last| {
            throttle
                .count("name-0", at(&format!("10.0.2.{last}")), minute)
                .ok();
        });
        throttle.count("ann", at("10.0.1.1"), minute).unwrap_err();
        throttle.count("ann", at("10.0.0.2"), minute).unwrap();
    }

    #[test]
    fn of_those_who_logged_in_the_latest_are_remembered() {
        let throttle = Throttle::default();
        let now = Instant::now();
        for number in 0..1100 {
            let peer = IpAddr::from([10, 0, (number / 256) as u8, (number % 256) as u8]);
            let now = now + Duration::from_secs(number);
            throttle.forgive("li", Some(peer), now);
        }
        let counted = throttle.lock();
        assert_eq!(counted.logged_in.len(), FRIENDS);
        let oldest = counted.logged_in.values().min().copied();
        assert_eq!(oldest, Some(now + Duration::from_secs(100)));
    }

    #[test]
    fn unknown_names_are_noted_once_a_minute_with_their_number() {
        let throttle = Throttle::default();
        let now = Instant::now();
        assert_eq!(throttle.unknown(now), Some(1));
        for second in 1..=50 {
            assert_eq!(throttle.unknown(now + Duration::from_secs(second)), None);
        }
        assert_eq!(throttle.unknown(now + NOTED_EVERY), Some(51));
        assert_eq!(throttle.unknown(now + NOTED_EVERY), None);
    }
}
