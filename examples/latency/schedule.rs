//! When each message of an open loop is due: by the clock, whatever has become of those before it.

use std::time::Duration;

const SECOND: u64 = 1_000_000_000;

/// Message `k` is due `k` parts of a second after the start, of which a second has `rate`, down to the nanosecond. All times
/// are nanoseconds after the start.
///
/// It is a sum with its rest carried on, and not a division for each message: neither drifts.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    rate: u64,
    /// When the next message is due.
    next: u64,
    /// What `next` has lost by being whole, in parts of a nanosecond of which one has `rate`.
    ///
    /// Invariant: less than `rate`.
    rest: u64,
    /// Nothing is due from here on.
    end: u64,
}

impl Schedule {
    /// `rate` messages a second, for so long.
    ///
    /// # Panics
    /// The rate is zero.
    pub(crate) fn new(rate: u64, length: Duration) -> Schedule {
        assert!(rate > 0, "a schedule has messages");
        Schedule { rate, next: 0, rest: 0, end: nanos(length) }
    }

    /// The next message that is due at `now`, if there is one: when it was.
    #[inline]
    pub(crate) fn next_due(&mut self, now: u64) -> Option<u64> {
        let due = self.next;
        if due > now || due >= self.end {
            return None;
        }
        self.next += SECOND / self.rate;
        self.rest += SECOND % self.rate;
        if self.rest >= self.rate {
            self.rest -= self.rate;
            self.next += 1;
        }
        Some(due)
    }

    /// For how long after `now` nothing is to be done: up to the next message, or to the end. `None` when the end is over.
    pub(crate) fn idle(&self, now: u64) -> Option<Duration> {
        let until = self.next.min(self.end);
        if now >= self.end && until == self.end {
            return None;
        }
        Some(Duration::from_nanos(until.saturating_sub(now)))
    }
}

/// Half a thousand years are more than any measurement takes.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2).min(u64::MAX / 2)
}

// Run by `tests/programs`: cargo runs no tests of examples.
#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(rate: u64, length: Duration) -> Vec<u64> {
        let mut schedule = Schedule::new(rate, length);
        std::iter::from_fn(|| schedule.next_due(u64::MAX)).collect()
    }

    #[test]
    fn a_message_is_due_at_its_part_of_the_second() {
        assert_eq!(all(4, Duration::from_secs(1)), [0, 250_000_000, 500_000_000, 750_000_000]);
        assert_eq!(all(3, Duration::from_secs(1)), [0, 333_333_333, 666_666_666]);
        assert_eq!(all(1, Duration::from_millis(1)), [0]);
        assert_eq!(all(1_000_000_000, Duration::from_nanos(3)), [0, 1, 2]);
        assert_eq!(all(20_000, Duration::from_secs(3)).len(), 60_000);
    }

    #[test]
    fn nothing_is_due_before_its_time_and_what_is_late_comes_one_by_one() {
        let mut schedule = Schedule::new(1000, Duration::from_millis(4));
        assert_eq!(schedule.next_due(0), Some(0));
        assert_eq!(schedule.next_due(999_999), None);
        assert_eq!(schedule.idle(999_999), Some(Duration::from_nanos(1)));
        // A stall: none is left out, and each has the time at which it should have gone.
        assert_eq!(schedule.next_due(3_500_000), Some(1_000_000));
        assert_eq!(schedule.idle(3_500_000), Some(Duration::ZERO));
        assert_eq!(schedule.next_due(3_500_000), Some(2_000_000));
        assert_eq!(schedule.next_due(3_500_000), Some(3_000_000));
        assert_eq!(schedule.next_due(u64::MAX), None);
        assert_eq!(schedule.idle(3_500_000), Some(Duration::from_micros(500)));
        assert_eq!(schedule.idle(4_000_000), None);
    }

    #[test]
    fn the_end_is_not_reached_while_messages_are_left() {
        let mut schedule = Schedule::new(1000, Duration::from_millis(2));
        assert_eq!(schedule.idle(9_000_000), Some(Duration::ZERO));
        assert_eq!(schedule.next_due(9_000_000), Some(0));
        assert_eq!(schedule.idle(9_000_000), Some(Duration::ZERO));
        assert_eq!(schedule.next_due(9_000_000), Some(1_000_000));
        assert_eq!(schedule.idle(9_000_000), None);
    }

    proptest! {
        #[test]
        fn the_sum_never_drifts_from_the_division(rate in 1..=SECOND, count in 1..3000_u64) {
            let mut schedule = Schedule::new(rate, Duration::MAX);
            for number in 0..count {
                let due = u128::from(number) * u128::from(SECOND) / u128::from(rate);
                prop_assert_eq!(schedule.next_due(u64::MAX).map(u128::from), Some(due));
            }
        }

        #[test]
        fn steps_of_any_size_give_what_one_step_gives(
            rate in 1..100_000_u64,
            steps in prop::collection::vec(0..5_000_000_u64, 0..40),
        ) {
            let length = Duration::from_millis(30);
            let (mut schedule, mut now, mut dues) = (Schedule::new(rate, length), 0, Vec::new());
            for step in steps {
                now += step;
                while let Some(due) = schedule.next_due(now) {
                    prop_assert!(due <= now);
                    dues.push(due);
                }
                // What is said to be idle is idle, and not for longer.
                if let Some(idle) = schedule.idle(now) {
                    prop_assert!(!idle.is_zero());
                    let before = now + nanos(idle) - 1;
                    prop_assert_eq!(schedule.clone().next_due(before), None);
                    prop_assert!(before + 1 == nanos(length) || schedule.clone().next_due(before + 1).is_some());
                }
            }
            dues.extend(std::iter::from_fn(|| schedule.next_due(u64::MAX)));
            prop_assert_eq!(dues, all(rate, length));
        }
    }
}
