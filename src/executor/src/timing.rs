//! How long things may take, and when nobody can still be sending.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// A claim's lease; renewed at a third of it.
pub const LEASE: SignedDuration = SignedDuration::from_secs(30);
/// After this the client gives up on an answer and drops the connection.
pub const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);
/// Sent along as `timeout=`: after this the API server gives up.
pub const API_TIMEOUT: Duration = Duration::from_secs(10);
/// By how much a clock may differ from the API server's.
pub const SKEW: SignedDuration = SignedDuration::from_secs(5);
/// Longest life of a permission, as `authorize` gives it.
pub const SENT_WITHIN: Duration = Duration::from_secs(15);
/// With less than this left of a permission nothing is begun.
pub const ROOM: Duration = Duration::from_secs(5);
/// For how long a request may be stuck on its way and still arrive.
const STRAY: SignedDuration = SignedDuration::from_secs(90);

/// Nothing may be sent at or after it. Held against a monotonic clock, which nobody can set back,
/// and against the wall clock, which goes on while the machine sleeps.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    monotonic: Instant,
    wall: Timestamp,
}

impl Deadline {
    /// `at` on the wall clock, seen from `now`. In case the wall clock was set back meanwhile: no
    /// later than [`SENT_WITHIN`] after `since`, an instant before `at` was reckoned.
    pub fn at(at: Timestamp, now: Timestamp, since: Instant) -> Self {
        let left = Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO);
        Self {
            monotonic: (Instant::now() + left.min(SENT_WITHIN)).min(since + SENT_WITHIN),
            wall: at,
        }
    }

    /// How much is left, by the clock that says less.
    pub fn left(&self, now: Timestamp) -> Duration {
        let wall = Duration::try_from(self.wall.duration_since(now)).unwrap_or(Duration::ZERO);
        wall.min(self.monotonic.saturating_duration_since(Instant::now()))
    }

    pub fn is_over(&self, now: Timestamp) -> bool {
        Instant::now() >= self.monotonic || now >= self.wall
    }

    pub fn wall(&self) -> Timestamp {
        self.wall
    }
}

/// From when on both sides have given up on a write that could be sent until `send_before`. Whoever
/// sent it and whoever judges may both be [`SKEW`] from the API server, in opposite directions.
pub fn settled_at(send_before: Timestamp) -> Timestamp {
    let in_flight = SignedDuration::try_from(CLIENT_TIMEOUT + API_TIMEOUT);
    later(
        send_before,
        in_flight.unwrap_or(SignedDuration::MAX) + SKEW * 2,
    )
}

/// From when on such a write will not arrive any more either, where nothing else (a precondition
/// that cannot hold again) shuts it out: it could be stuck in a proxy or in a partition.
pub fn certain_at(send_before: Timestamp) -> Timestamp {
    later(send_before, STRAY)
}

/// [`certain_at`] for a write whose permission is not known, from when its chance was spent.
pub fn certain_after_spending(spent_at: Timestamp) -> Timestamp {
    let longest = SignedDuration::try_from(SENT_WITHIN).unwrap_or(SignedDuration::MAX);
    certain_at(later(spent_at, longest))
}

/// Such an instant may come from outside: it must not overflow.
fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// Lets a number of things happen per minute: so many at once, then one after the other.
#[derive(Debug)]
pub struct PerMinute {
    limit: u32,
    tokens: f64,
    filled: Instant,
}

impl PerMinute {
    pub fn new(limit: u32) -> Self {
        Self {
            limit,
            tokens: f64::from(limit),
            filled: Instant::now(),
        }
    }

    /// Whether one more may happen now; does not take it.
    pub fn allows(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        let limit = f64::from(self.limit);
        self.tokens = (self.tokens + passed * limit / 60.0).min(limit);
        self.filled = now;
        self.tokens >= 1.0
    }

    pub fn take(&mut self) {
        self.tokens -= 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_deadline_ends_by_either_clock() {
        let now = at("2026-11-22T02:00:00Z");
        let since = Instant::now();
        let deadline = Deadline::at(at("2026-11-22T02:00:15Z"), now, since);
        assert!(!deadline.is_over(now));
        assert!(deadline.is_over(at("2026-11-22T02:00:15Z")));
        assert!(Deadline::at(now, now, since).is_over(now));
        assert!(Deadline::at(at("2026-11-22T01:00:00Z"), now, since).is_over(now));
    }

    #[test]
    fn a_wall_clock_that_is_set_back_gives_no_more_time() {
        let end = at("2026-11-22T02:00:15Z");
        let set_back = at("2026-11-22T01:00:00Z");
        let since = Instant::now();
        let left = Deadline::at(end, set_back, since).left(set_back);
        assert!(left <= SENT_WITHIN, "{left:?}");
        let long_ago = since.checked_sub(SENT_WITHIN).unwrap();
        assert!(Deadline::at(end, set_back, long_ago).is_over(set_back));
    }

    #[test]
    fn what_is_left_is_told_by_the_clock_that_says_less() {
        let now = at("2026-11-22T02:00:00Z");
        let deadline = Deadline::at(at("2026-11-22T02:00:15Z"), now, Instant::now());
        assert!(deadline.left(now) > ROOM);
        assert!(deadline.left(at("2026-11-22T02:00:11Z")) < ROOM);
        assert_eq!(deadline.left(at("2026-11-22T02:01:00Z")), Duration::ZERO);
    }

    #[test]
    fn nobody_can_still_send_after_both_timeouts_and_the_skew_of_both() {
        let settled = settled_at(at("2026-11-22T02:00:15Z"));
        assert_eq!(settled, at("2026-11-22T02:00:45Z"));
        assert_eq!(
            certain_after_spending(at("2026-11-22T02:00:00Z")),
            at("2026-11-22T02:01:45Z")
        );
        assert_eq!(certain_after_spending(Timestamp::MAX), Timestamp::MAX);
    }

    #[test]
    fn so_many_at_once_and_then_by_time() {
        let mut limit = PerMinute::new(2);
        let now = Instant::now();
        for _ in 0..2 {
            assert!(limit.allows(now));
            limit.take();
        }
        assert!(!limit.allows(now));
        assert!(!limit.allows(now + Duration::from_secs(29)));
        assert!(limit.allows(now + Duration::from_secs(31)));
    }
}
