//! When to try again: later each time, and not all at the same moment.

use std::time::Duration;

use super::NEVER;

/// The shortest delay: shorter ones would only spin.
const DELAY_MIN: Duration = Duration::from_millis(1);

/// Dials again after the end of a connection that we dialed, see [`Dial::reconnect`](crate::Dial::reconnect).
///
/// Any end leads to the next dial: a failed dial, the peer's end, a reset, a timeout, a bad frame. Only these do not:
/// [`close`](crate::Context::close) and [`abort`](crate::Context::abort), a socket that was handed out, a shutdown, and text
/// that is no address.
///
/// The delay before a dial doubles from [`delay_min`](Reconnect::delay_min) to [`delay_max`](Reconnect::delay_max), and a
/// random part of it is left out, so that a thousand clients of a server that has restarted do not come back all at once.
///
/// Each new connection has a name of its own, because a name of the past never reaches a connection of the present. It is
/// there when the old one's `on_close` or `on_dial_failed` is called, and
/// [`Context::successor`](crate::Context::successor) tells it. It is a dial like any other: it can be sent to, closed (then
/// nothing is dialed any more), has a session and a clone of the codec as it was given to `connect`, and gets one answer. The
/// groups and timers of the old one are not handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reconnect {
    /// The first delay, jitter aside. Defaults to 100 ms, because most restarts take longer and nobody waits for less. Below
    /// a millisecond it is taken for one.
    pub delay_min: Duration,
    /// The longest delay. Defaults to 30 s, because a server that is back should not wait for much longer for its clients.
    pub delay_max: Duration,
    /// Up to so many percent of each delay are left out, at random. Defaults to 50. More than 100 is taken for 100.
    pub jitter_percent: u32,
    /// A connection that was open for so long lets the next delay be the first one again. Defaults to 10 s, because a server
    /// that takes connections and drops them at once is no better than one that refuses them.
    pub stable_after: Duration,
}

impl Default for Reconnect {
    fn default() -> Reconnect {
        Reconnect {
            delay_min: Duration::from_millis(100),
            delay_max: Duration::from_secs(30),
            jitter_percent: 50,
            stable_after: Duration::from_secs(10),
        }
    }
}

/// Where one row of dials stands.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    policy: Reconnect,
    /// Ends since the last stable connection.
    ends: u32,
}

impl Backoff {
    pub(crate) fn new(policy: Reconnect) -> Backoff {
        Backoff { policy, ends: 0 }
    }

    /// A connection has ended that was open for so long, zero when it never was. Answers when to dial next; `random` is any
    /// number, each as likely as the other.
    pub(crate) fn next(&mut self, open: Duration, random: u64) -> Duration {
        if !open.is_zero() && open >= self.policy.stable_after {
            self.ends = 0;
        }
        let Reconnect { delay_min, delay_max, jitter_percent, .. } = self.policy;
        let doubled = delay_min.max(DELAY_MIN).saturating_mul(1 << self.ends.min(31));
        self.ends = self.ends.saturating_add(1);
        let full = doubled.min(delay_max).min(NEVER);
        let part = f64::from(jitter_percent.min(100)) / 100.0 * (random as f64 / u64::MAX as f64);
        full.saturating_sub(full.mul_f64(part)).max(DELAY_MIN)
    }
}

/// A row of numbers that looks random (splitmix64): the whole of it follows from the seed, which comes from outside.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut n = self.0;
        n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        n ^ (n >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ZERO: Duration = Duration::ZERO;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn policy(delay_min: Duration, delay_max: Duration, jitter_percent: u32) -> Reconnect {
        Reconnect { delay_min, delay_max, jitter_percent, ..Reconnect::default() }
    }

    #[test]
    fn delays_double_up_to_the_longest() {
        let mut backoff = Backoff::new(policy(ms(100), ms(1_000), 0));
        let delays: Vec<_> = (0..6).map(|_| backoff.next(ZERO, u64::MAX)).collect();
        assert_eq!(delays, [ms(100), ms(200), ms(400), ms(800), ms(1_000), ms(1_000)]);
    }

    #[test]
    fn only_a_stable_connection_begins_anew() {
        let mut backoff = Backoff::new(policy(ms(100), ms(60_000), 0));
        for _ in 0..3 {
            backoff.next(ZERO, 0);
        }
        assert_eq!(backoff.next(ms(9_999), 0), ms(800), "it was not open for long enough");
        assert_eq!(backoff.next(ms(10_000), 0), ms(100));
        assert_eq!(backoff.next(ZERO, 0), ms(200));
    }

    #[test]
    fn a_dial_that_failed_is_not_stable_whatever_the_policy_says() {
        let mut policy = policy(ms(100), ms(60_000), 0);
        policy.stable_after = ZERO;
        let mut backoff = Backoff::new(policy);
        assert_eq!([backoff.next(ZERO, 0), backoff.next(ZERO, 0)], [ms(100), ms(200)]);
        assert_eq!(backoff.next(ms(1), 0), ms(100));
    }

    #[test]
    fn a_policy_without_a_delay_does_not_spin() {
        let mut backoff = Backoff::new(policy(ZERO, ZERO, 100));
        assert_eq!(backoff.next(ZERO, u64::MAX), DELAY_MIN);
    }

    #[test]
    fn numbers_follow_from_the_seed_and_fill_the_range() {
        let row = |seed| {
            let mut random = Random::new(seed);
            (0..1_000).map(|_| random.next()).collect::<Vec<_>>()
        };
        assert_eq!(row(7), row(7));
        assert_ne!(row(7), row(8));
        let low = row(7).iter().filter(|n| **n < u64::MAX / 2).count();
        assert!((400..600).contains(&low), "{low}");
    }

    proptest! {
        #[test]
        fn a_delay_is_within_its_bounds(min in any::<u64>(), max in any::<u64>(), jitter in 0u32..200, randoms in prop::collection::vec(any::<u64>(), 1..80)) {
            let (min, max) = (Duration::from_micros(min), Duration::from_micros(max));
            let mut backoff = Backoff::new(policy(min, max, jitter));
            let mut full = min.max(DELAY_MIN);
            for random in randoms {
                let delay = backoff.next(ZERO, random);
                let most = full.min(max).min(NEVER).max(DELAY_MIN);
                prop_assert!(delay <= most, "{delay:?} of {most:?}");
                let least = most.mul_f64(1.0 - f64::from(jitter.min(100)) / 100.0);
                // As good as floating point says it.
                prop_assert!(delay + most.mul_f64(1e-9) + ms(1) >= least, "{delay:?} of at least {least:?}");
                full = full.saturating_mul(2);
            }
        }
    }
}
