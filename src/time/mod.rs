//! Deadlines. Pure: the present is an argument.

mod timers;

pub(crate) use timers::{TimerKey, Timers};

use std::time::{Duration, Instant};

/// Longer than any process lives, and short enough that no clock overflows.
const NEVER: Duration = Duration::from_secs(50 * 365 * 24 * 3600);

/// `now + after`. A delay that the clock cannot say means never.
pub(crate) fn deadline(now: Instant, after: Duration) -> Instant {
    now.checked_add(after.min(NEVER)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_huge_delay_is_never_and_not_at_once() {
        let now = crate::net::clock::now();
        assert!(deadline(now, Duration::MAX) > now + Duration::from_secs(3600 * 24 * 365));
    }
}
