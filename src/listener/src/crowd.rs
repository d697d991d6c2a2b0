//! Who is connected, and who goes when somebody else is to be let in.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The open connections: so many in all, and so many of each peer.
pub(crate) struct Crowd {
    in_all: usize,
    each: usize,
    seats: Arc<Mutex<Seats>>,
}

#[derive(Default)]
struct Seats {
    last: u64,
    taken: HashMap<u64, Taken>,
}

struct Taken {
    peer: IpAddr,
    /// `None` while a request is being answered.
    idle_since: Option<Instant>,
    leave: CancellationToken,
}

/// One connection's; given back when it is dropped.
pub(crate) struct Seat {
    seats: Arc<Mutex<Seats>>,
    number: u64,
    /// Cancelled when somebody else was let in instead.
    pub leave: CancellationToken,
}

/// While it lasts, the connection is of use and is not asked to leave.
pub(crate) struct Busy {
    seats: Arc<Mutex<Seats>>,
    number: u64,
}

impl Crowd {
    pub fn new(in_all: usize, each: usize) -> Self {
        Self {
            in_all,
            each,
            seats: Arc::default(),
        }
    }

    /// When there are too many, whoever has been idle for longest goes: of the same peer where that
    /// has its share, else of the peer that has most. `None`: nobody is idle.
    pub fn enter(&self, peer: IpAddr) -> Option<Seat> {
        let mut seats = lock(&self.seats);
        let own = seats.taken.values().filter(|taken| taken.peer == peer);
        if own.count() >= self.each {
            seats.make_room(Some(peer))?;
        } else if seats.taken.len() >= self.in_all {
            seats.make_room(None)?;
        }
        seats.last += 1;
        let (number, leave) = (seats.last, CancellationToken::new());
        let taken = Taken {
            peer,
            idle_since: Some(Instant::now()),
            leave: leave.clone(),
        };
        seats.taken.insert(number, taken);
        Some(Seat {
            seats: Arc::clone(&self.seats),
            number,
            leave,
        })
    }
}

impl Seats {
    fn make_room(&mut self, of: Option<IpAddr>) -> Option<()> {
        let mut count: HashMap<IpAddr, usize> = HashMap::new();
        for taken in self.taken.values() {
            *count.entry(taken.peer).or_default() += 1;
        }
        let candidates = self.taken.iter().filter_map(|(number, taken)| {
            let since = taken.idle_since?;
            let may_go = of.is_none_or(|peer| taken.peer == peer);
            may_go.then(|| (count.get(&taken.peer), Reverse((since, *number))))
        });
        let (_, Reverse((_, number))) = candidates.max()?;
        self.taken.remove(&number)?.leave.cancel();
        Some(())
    }
}

impl Seat {
    pub fn busy(&self) -> Busy {
        if let Some(taken) = lock(&self.seats).taken.get_mut(&self.number) {
            taken.idle_since = None;
        }
        Busy {
            seats: Arc::clone(&self.seats),
            number: self.number,
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(taken) = lock(&self.seats).taken.get_mut(&self.number) {
            taken.idle_since = Some(Instant::now());
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.seats).taken.remove(&self.number);
    }
}

fn lock(seats: &Mutex<Seats>) -> MutexGuard<'_, Seats> {
    seats.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_idle_for_longest_leaves_of_those_who_have_most() {
        let crowd = Crowd::new(4, 2);
        let mut seats = Vec::new();
        for peer in [1, 2, 2, 3] {
            seats.push(crowd.enter(from(peer)).unwrap());
            tokio::time::advance(std::time::Duration::from_secs(1)).await;
        }
        let left = |seats: &[Seat]| -> Vec<bool> {
            seats.iter().map(|seat| seat.leave.is_cancelled()).collect()
        };
        let fourth = crowd.enter(from(4)).unwrap();
        assert_eq!(left(&seats), [false, true, false, false]);
        // Each has one now; whoever is busy stays.
        let busy = seats[0].busy();
        let fifth = crowd.enter(from(5)).unwrap();
        assert_eq!(left(&seats), [false, true, true, false]);
        drop(busy);
        // Its own share: its own go, although others have been idle for longer.
        let second = crowd.enter(from(4)).unwrap();
        assert!(crowd.enter(from(4)).is_some() && fourth.leave.is_cancelled());
        assert!(!fifth.leave.is_cancelled() && !second.leave.is_cancelled());
    }

    #[test]
    fn nobody_who_is_busy_makes_room() {
        let crowd = Crowd::new(3, 2);
        let seats: Vec<Seat> = [1, 1, 2]
            .map(|peer| crowd.enter(from(peer)).unwrap())
            .into();
        let busy: Vec<Busy> = seats.iter().map(Seat::busy).collect();
        assert!(crowd.enter(from(1)).is_none(), "its share");
        assert!(crowd.enter(from(3)).is_none(), "all");
        drop((busy, seats));
        assert!(lock(&crowd.seats).taken.is_empty());
    }
}
