//! How long things may take, and when nobody can still be sending.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// A claim's lease; renewed at a third of it.
pub const LEASE: SignedDuration = SignedDuration::from_secs(30);
/// After this the client gives up on an answer and drops the connection.
pub const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);
/// Sent along as `timeout=`: after this the API server gives up.
pub const API_TIMEOUT: Duration = Duration::from_secs(10);
/// By how much clocks may differ.
pub const SKEW: SignedDuration = SignedDuration::from_secs(5);

/// Nothing may be sent at or after it. Held against a monotonic clock, which nobody can set back,
/// and against the wall clock, which goes on while the machine sleeps.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    monotonic: Instant,
    wall: Timestamp,
}

impl Deadline {
    /// `at` on the wall clock, seen from `now`.
    pub fn at(at: Timestamp, now: Timestamp) -> Self {
        let left = Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO);
        Self {
            monotonic: Instant::now() + left,
            wall: at,
        }
    }

    pub fn is_over(&self, now: Timestamp) -> bool {
        Instant::now() >= self.monotonic || now >= self.wall
    }

    pub fn wall(&self) -> Timestamp {
        self.wall
    }
}

/// From when on a write that could be sent until `send_before` is either visible in the cluster or
/// will never be.
pub fn settled_at(send_before: Timestamp) -> Timestamp {
    let in_flight = CLIENT_TIMEOUT + API_TIMEOUT;
    send_before + SignedDuration::try_from(in_flight).unwrap_or(SignedDuration::MAX) + SKEW
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
        let deadline = Deadline::at(at("2026-11-22T02:00:15Z"), now);
        assert!(!deadline.is_over(now));
        assert!(deadline.is_over(at("2026-11-22T02:00:15Z")));
        assert!(Deadline::at(now, now).is_over(now));
        assert!(Deadline::at(at("2026-11-22T01:00:00Z"), now).is_over(now));
    }

    #[test]
    fn nobody_can_still_send_after_both_timeouts_and_the_skew() {
        let settled = settled_at(at("2026-11-22T02:00:15Z"));
        assert_eq!(settled, at("2026-11-22T02:00:40Z"));
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
