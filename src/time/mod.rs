//! Deadlines. Pure: the present is an argument.

mod backoff;
mod rate;
mod timers;

pub use backoff::Reconnect;
pub(crate) use backoff::{Backoff, Random};
pub use rate::Rate;
pub(crate) use rate::{Allowance, Buckets};
pub(crate) use timers::{TimerKey, Timers};

use std::time::{Duration, Instant};

/// Longer than any process lives, and short enough that no clock overflows.
const NEVER: Duration = Duration::from_secs(50 * 365 * 24 * 3600);

/// `now + after`. A delay that the clock cannot say means never.
pub(crate) fn deadline(now: Instant, after: Duration) -> Instant {
    now.checked_add(after.min(NEVER)).unwrap_or(now)
}

/// A moment in milliseconds since some start, modulo 2^32: a quarter of an [`Instant`]'s size, for what every connection
/// keeps. Ages are right up to 49 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tick(u32);

impl Tick {
    /// `now`, counted from `start`.
    #[inline]
    pub(crate) fn new(start: Instant, now: Instant) -> Tick {
        Tick(now.saturating_duration_since(start).as_millis() as u32)
    }

    /// How long ago that was, at `now`.
    pub(crate) fn age(self, now: Tick) -> Duration {
        Duration::from_millis(u64::from(now.0.wrapping_sub(self.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_right_over_the_wrap() {
        let start = crate::net::clock::now();
        let before = Tick::new(start, start + Duration::from_millis((1 << 32) - 300));
        let after = Tick::new(start, start + Duration::from_millis((1 << 32) + 200));
        assert_eq!(before.age(after), Duration::from_millis(500));
    }

    #[test]
    fn a_huge_delay_is_never_and_not_at_once() {
        let now = crate::net::clock::now();
        assert!(deadline(now, Duration::MAX) > now + Duration::from_secs(3600 * 24 * 365));
    }
}
