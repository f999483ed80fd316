//! Token buckets: how much may come in a time. Pure: the present is an argument.

use std::time::{Duration, Instant};

/// Tokens are counted in thousand-millionths, so that a refill is an exact multiplication of nanoseconds.
const WHOLE: i128 = 1_000_000_000;
/// One that waits is woken when so much time's worth of tokens is there, not for each single one.
const QUANTUM: Duration = Duration::from_millis(10);

/// How much may come, or go, in a time: bytes, messages or both, as a token bucket. What is not used is saved up for a
/// [`burst`](Rate::burst), and no longer.
///
/// ```
/// use mainspring::Rate;
/// use std::time::Duration;
///
/// // Ten messages a second, of which two seconds' worth may come at once, and 64 KiB/s.
/// let rate = Rate::default().messages_per_second(10).bytes_per_second(64 * 1024).burst(Duration::from_secs(2));
/// # let _ = rate;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    bytes: Option<u64>,
    messages: Option<u64>,
    burst: Duration,
}

impl Default for Rate {
    /// No limit, and a burst of one second.
    fn default() -> Rate {
        Rate { bytes: None, messages: None, burst: Duration::from_secs(1) }
    }
}

impl Rate {
    /// Limits the bytes of the stream, prefixes and delimiters included. Zero is taken for one.
    #[must_use]
    pub fn bytes_per_second(mut self, bytes: u64) -> Rate {
        self.bytes = Some(bytes.max(1));
        self
    }

    /// Limits whole messages. Zero is taken for one.
    #[must_use]
    pub fn messages_per_second(mut self, messages: u64) -> Rate {
        self.messages = Some(messages.max(1));
        self
    }

    /// How much may be saved up: what the rate brings in this time, and at least one message or byte. Defaults to 1 s.
    #[must_use]
    pub fn burst(mut self, burst: Duration) -> Rate {
        self.burst = burst;
        self
    }
}

/// What is left of one limit.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    per_second: u64,
    capacity: i128,
    /// Below zero after something was longer than what was left: a debt.
    level: i128,
    since: Instant,
}

impl Bucket {
    fn full(per_second: u64, burst: Duration, now: Instant) -> Bucket {
        let capacity =
            i128::from(per_second).saturating_mul(burst.as_nanos().min(1 << 62) as i128).max(WHOLE);
        Bucket { per_second, capacity, level: capacity, since: now }
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since).as_nanos().min(1 << 62) as i128;
        self.since = self.since.max(now);
        self.level = (self.level + i128::from(self.per_second) * passed).min(self.capacity);
    }

    fn whole(&self) -> u64 {
        u64::try_from(self.level.max(0) / WHOLE).unwrap_or(u64::MAX)
    }

    fn take(&mut self, tokens: u64) {
        self.level -= i128::from(tokens) * WHOLE;
    }

    /// How long until there is a quantum of tokens, or as many as it can hold.
    fn ready_in(&self) -> Duration {
        let quantum = (i128::from(self.per_second) * QUANTUM.as_nanos() as i128).clamp(WHOLE, self.capacity);
        let lacks = (quantum - self.level).max(0);
        let nanos = (lacks + i128::from(self.per_second) - 1) / i128::from(self.per_second);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// What may come at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allowance {
    pub(crate) bytes: u64,
    pub(crate) messages: u64,
}

impl Allowance {
    pub(crate) const ALL: Allowance = Allowance { bytes: u64::MAX, messages: u64::MAX };

    pub(crate) fn is_none(self) -> bool {
        self.bytes == 0 || self.messages == 0
    }

    pub(crate) fn and(self, other: Allowance) -> Allowance {
        Allowance { bytes: self.bytes.min(other.bytes), messages: self.messages.min(other.messages) }
    }
}

/// The buckets of one [`Rate`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Buckets {
    bytes: Option<Bucket>,
    messages: Option<Bucket>,
}

impl Buckets {
    /// They begin full.
    pub(crate) fn new(rate: Rate, now: Instant) -> Buckets {
        let bucket = |per_second: Option<u64>| per_second.map(|n| Bucket::full(n, rate.burst, now));
        Buckets { bytes: bucket(rate.bytes), messages: bucket(rate.messages) }
    }

    /// What may come at `now`.
    pub(crate) fn allow(&mut self, now: Instant) -> Allowance {
        let whole = |bucket: &mut Option<Bucket>| {
            bucket.as_mut().map_or(u64::MAX, |bucket| {
                bucket.refill(now);
                bucket.whole()
            })
        };
        Allowance { bytes: whole(&mut self.bytes), messages: whole(&mut self.messages) }
    }

    /// So much has come, be it more than was allowed: that is paid back before anything else comes.
    pub(crate) fn take(&mut self, used: Allowance) {
        if let Some(bucket) = &mut self.bytes {
            bucket.take(used.bytes);
        }
        if let Some(bucket) = &mut self.messages {
            bucket.take(used.messages);
        }
    }

    /// How long after the last look until something worth a wake-up is allowed.
    pub(crate) fn ready_in(&self) -> Duration {
        let of = |bucket: &Option<Bucket>| bucket.map_or(Duration::ZERO, |bucket| bucket.ready_in());
        of(&self.bytes).max(of(&self.messages))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn start() -> Instant {
        crate::net::clock::now()
    }

    #[test]
    fn a_bucket_begins_full_and_saves_up_no_more_than_a_burst() {
        let now = start();
        let rate = Rate::default().messages_per_second(10).burst(Duration::from_millis(500));
        let mut buckets = Buckets::new(rate, now);
        assert_eq!(buckets.allow(now), Allowance { bytes: u64::MAX, messages: 5 });
        buckets.take(Allowance { bytes: 1 << 40, messages: 5 });
        assert!(buckets.allow(now).is_none());
        assert_eq!(buckets.ready_in(), Duration::from_millis(100));
        assert_eq!(buckets.allow(now + Duration::from_millis(99)).messages, 0);
        assert_eq!(buckets.allow(now + Duration::from_millis(100)).messages, 1);
        assert_eq!(buckets.allow(now + Duration::from_secs(3600)).messages, 5);
    }

    #[test]
    fn a_burst_too_short_for_one_token_still_holds_one() {
        let now = start();
        let mut buckets = Buckets::new(Rate::default().messages_per_second(0).burst(Duration::ZERO), now);
        assert_eq!(buckets.allow(now).messages, 1);
    }

    #[test]
    fn extreme_rates_do_not_overflow() {
        let now = start();
        let rate =
            Rate::default().bytes_per_second(u64::MAX).messages_per_second(u64::MAX).burst(Duration::MAX);
        let mut buckets = Buckets::new(rate, now);
        buckets.take(Allowance::ALL);
        buckets.take(Allowance::ALL);
        buckets.allow(now + Duration::from_secs(1 << 30));
        buckets.ready_in();
    }

    proptest! {
        /// Whatever is asked when: what has come in all is at most the burst and what the time brought, and one who takes
        /// all that is allowed gets it all but for a token.
        #[test]
        fn the_sum_is_that_of_the_rate(
            per_second in 1u64..1_000_000,
            burst_ms in 0u64..3_000,
            steps in prop::collection::vec(0u64..50_000_000, 1..60),
        ) {
            let begin = start();
            let burst = Duration::from_millis(burst_ms);
            let mut buckets = Buckets::new(Rate::default().bytes_per_second(per_second).burst(burst), begin);
            let capacity = (per_second as f64 * burst.as_secs_f64()).max(1.0);
            let (mut now, mut total) = (begin, 0u64);
            for nanos in steps {
                now += Duration::from_nanos(nanos);
                let allowed = buckets.allow(now).bytes;
                prop_assert!(allowed as f64 <= capacity + 1.0);
                buckets.take(Allowance { bytes: allowed, messages: 0 });
                total += allowed;
            }
            let brought = per_second as f64 * (now - begin).as_secs_f64();
            prop_assert!(total as f64 <= capacity + brought + 1.0);
            let wait = buckets.ready_in();
            prop_assert!(buckets.allow(now + wait).bytes > 0);
        }
    }
}
