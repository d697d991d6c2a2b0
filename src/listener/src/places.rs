//! Who has how many connections.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Bounds, network_of};

#[derive(Clone)]
pub(crate) struct Places {
    bounds: Bounds,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_peer: HashMap<IpAddr, usize>,
}

/// One connection's place; given back when it ends.
pub(crate) struct Place {
    places: Places,
    peer: IpAddr,
}

impl Places {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            taken: Arc::default(),
        }
    }

    /// `None`: there are too many.
    pub(crate) fn enter(&self, peer: IpAddr) -> Option<Place> {
        let peer = network_of(peer);
        let mut taken = self.lock();
        let own = taken.by_peer.get(&peer).copied().unwrap_or(0);
        if taken.all >= self.bounds.connections || own >= self.bounds.per_peer {
            return None;
        }
        taken.all += 1;
        taken.by_peer.insert(peer, own + 1);
        Some(Place {
            places: self.clone(),
            peer,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all -= 1;
        if let Some(own) = taken.by_peer.get_mut(&self.peer) {
            *own -= 1;
            if *own == 0 {
                taken.by_peer.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_all_and_of_each_peer_and_given_back() {
        let places = Places::new(Bounds {
            connections: 3,
            per_peer: 2,
            ..Bounds::default()
        });
        let enter = |peer: &str| places.enter(peer.parse().unwrap());
        let first = enter("2001:db8::1").unwrap();
        let second = enter("2001:db8::2").unwrap();
        assert!(enter("2001:db8::3").is_none(), "one network, one peer");
        let third = enter("10.0.0.1").unwrap();
        assert!(enter("10.0.0.2").is_none(), "no more in all");
        drop(third);
        let third = enter("::ffff:10.0.0.2").unwrap();
        drop(first);
        assert!(enter("2001:db8::3").is_some());
        drop(third);
        drop(second);
        assert!(places.lock().by_peer.is_empty() && places.lock().all == 0);
    }
}
