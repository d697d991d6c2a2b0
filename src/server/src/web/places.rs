//! Who holds how many of something that is short.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// So many places in all, and so many of them for each.
#[derive(Clone)]
pub(super) struct Places<K> {
    in_all: usize,
    each: usize,
    taken: Arc<Mutex<Taken<K>>>,
}

struct Taken<K> {
    all: usize,
    by_holder: HashMap<K, usize>,
}

/// One place; given back when it is dropped.
pub(super) struct Place<K: Eq + Hash> {
    taken: Arc<Mutex<Taken<K>>>,
    holder: K,
}

impl<K: Clone + Eq + Hash> Places<K> {
    pub(super) fn new(in_all: usize, each: usize) -> Self {
        let taken = Taken {
            all: 0,
            by_holder: HashMap::new(),
        };
        Self {
            in_all,
            each,
            taken: Arc::new(Mutex::new(taken)),
        }
    }

    /// `None`: there are too many.
    pub(super) fn enter(&self, holder: K) -> Option<Place<K>> {
        let mut taken = lock(&self.taken);
        let own = taken.by_holder.get(&holder).copied().unwrap_or(0);
        if taken.all >= self.in_all || own >= self.each {
            return None;
        }
        taken.all += 1;
        taken.by_holder.insert(holder.clone(), own + 1);
        Some(Place {
            taken: Arc::clone(&self.taken),
            holder,
        })
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.all -= 1;
        if let Some(own) = taken.by_holder.get_mut(&self.holder) {
            *own -= 1;
            if *own == 0 {
                taken.by_holder.remove(&self.holder);
            }
        }
    }
}

fn lock<K>(taken: &Mutex<Taken<K>>) -> MutexGuard<'_, Taken<K>> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_all_and_for_each_and_given_back() {
        let places = Places::new(3, 2);
        let first = places.enter("li").unwrap();
        let second = places.enter("li").unwrap();
        assert!(places.enter("li").is_none(), "both of hers are taken");
        let third = places.enter("omar").unwrap();
        assert!(places.enter("ann").is_none(), "no more in all");
        drop(third);
        let third = places.enter("ann").unwrap();
        drop(first);
        assert!(places.enter("li").is_some());
        drop(third);
        drop(second);
        let taken = lock(&places.taken);
        assert!(taken.by_holder.is_empty() && taken.all == 0);
    }
}
