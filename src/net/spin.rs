//! When to ask the kernel again and again in the place of a sleep.
//!
//! A sleep has its price: from the event to the thread that waits for it there are a wake-up and a core that may have gone to
//! rest. Who asks all the time pays none of it, with a core that does nothing else. So the window follows what has paid off, as
//! Linux does it for guests that halt (`Documentation/virt/kvm/halt-polling.rst`): waits that end within the maximum make it
//! grow, longer ones shrink it, down to nothing.

use std::time::{Duration, Instant};

/// A window begins with this, and one that would be less is none.
const START: Duration = Duration::from_micros(20);
/// To ask takes a microsecond. Whoever was away for so long was made to wait for the core: others want it.
const AWAY: Duration = Duration::from_micros(100);
/// A core that others want is left to them for so long.
const REST: Duration = Duration::from_millis(100);

/// How long the next wait spins.
#[derive(Debug)]
pub(crate) struct Spin {
    max: Duration,
    window: Duration,
    resting_until: Option<Instant>,
    /// Waits that began with spinning, and those that it has ended.
    pub(super) begun: u64,
    pub(super) hits: u64,
}

impl Spin {
    pub(super) fn new(max: Duration) -> Spin {
        Spin { max, window: Duration::ZERO, resting_until: None, begun: 0, hits: 0 }
    }

    pub(super) fn is_off(&self) -> bool {
        self.max.is_zero()
    }

    /// Whether the next wait may spin.
    pub(super) fn pays(&self) -> bool {
        !self.window.is_zero()
    }

    /// For how long a wait that begins at `now`, and lasts `timeout` at most, spins first. `None` when it does not pay.
    pub(super) fn begin(&mut self, now: Instant, timeout: Duration) -> Option<Duration> {
        if self.resting_until.is_some_and(|until| now < until) || self.window.is_zero() || timeout.is_zero() {
            return None;
        }
        self.resting_until = None;
        self.begun += 1;
        Some(self.window.min(timeout))
    }

    /// The kernel was asked at `last` and is asked again at `now`. False when somebody else has had the core in the meantime:
    /// then there is no spinning for a while.
    pub(super) fn goes_on(&mut self, last: Instant, now: Instant) -> bool {
        if now.saturating_duration_since(last) < AWAY {
            return true;
        }
        self.resting_until = now.checked_add(REST);
        self.window = Duration::ZERO;
        false
    }

    /// An event has come while it was spinning, after so long.
    pub(super) fn hit(&mut self, total: Duration) {
        self.hits += 1;
        self.waited(total);
    }

    /// A wait has taken so long, spinning included.
    pub(super) fn waited(&mut self, total: Duration) {
        if total >= self.max {
            self.window /= 2;
            if self.window < START {
                self.window = Duration::ZERO;
            }
        } else if total >= self.window {
            self.window = self.window.saturating_mul(2).max(START).min(self.max);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::clock;
    use proptest::prelude::*;

    fn us(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    const LONG: Duration = Duration::from_secs(1);

    #[test]
    fn the_window_grows_while_waits_are_short_and_shrinks_to_nothing() {
        let now = clock::now();
        let mut spin = Spin::new(us(200));
        assert_eq!(spin.begin(now, LONG), None, "nothing has paid off yet");
        let mut windows = Vec::new();
        for _ in 0..6 {
            spin.waited(us(190));
            windows.extend(spin.begin(now, LONG));
        }
        assert_eq!(windows, [us(20), us(40), us(80), us(160), us(200), us(200)]);
        let mut waits = 0;
        while spin.begin(now, LONG).is_some() {
            spin.waited(us(5_000));
            waits += 1;
        }
        assert_eq!(waits, 4, "a loop with nothing to do soon sleeps at once");
    }

    #[test]
    fn a_window_that_is_enough_stays() {
        let now = clock::now();
        let mut spin = Spin::new(us(1_000));
        spin.waited(us(30));
        spin.waited(us(30));
        for _ in 0..100 {
            spin.waited(us(30));
        }
        assert_eq!(spin.begin(now, LONG), Some(us(40)));
        assert_eq!(spin.begin(now, us(15)), Some(us(15)), "never longer than the wait itself");
        assert_eq!(spin.begin(now, Duration::ZERO), None);
    }

    #[test]
    fn a_core_that_others_want_is_left_to_them() {
        let now = clock::now();
        let mut spin = Spin::new(us(200));
        spin.waited(us(100));
        assert!(spin.begin(now, LONG).is_some());
        assert!(spin.goes_on(now, now + us(99)));
        assert!(!spin.goes_on(now, now + us(100)));
        spin.waited(us(150));
        assert_eq!(spin.begin(now + REST, LONG), None, "it was away until 100 us after that");
        assert_eq!(spin.begin(now + us(100) + REST, LONG), Some(us(20)));
    }

    #[test]
    fn a_maximum_of_less_than_the_start_holds() {
        let now = clock::now();
        let mut spin = Spin::new(us(5));
        spin.waited(us(4));
        assert_eq!(spin.begin(now, LONG), Some(us(5)));
        spin.waited(us(5));
        assert_eq!(spin.begin(now, LONG), None);
    }

    proptest! {
        #[test]
        fn no_window_is_longer_than_the_maximum(max in 0u64..2_000, waits in prop::collection::vec(0u64..4_000, 0..200)) {
            let now = clock::now();
            let mut spin = Spin::new(us(max));
            for wait in waits {
                spin.waited(us(wait));
                prop_assert!(spin.window <= us(max));
                prop_assert!(spin.begin(now, LONG).is_none_or(|window| window <= us(max) && !window.is_zero()));
            }
        }
    }
}
