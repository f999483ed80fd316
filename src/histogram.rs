//! Durations counted by their size: cheap enough to stay on.

use std::fmt;
use std::time::Duration;

/// Each power of two is cut into so many buckets: a value is known to an eighth of itself.
const PARTS: usize = 8;
/// The largest power of two that has buckets of its own: 2^40 ns, some 18 minutes.
const TOP: usize = 40;
const BUCKETS: usize = (TOP - 1) * PARTS;

/// How often durations of each size have occurred. Recording is an addition; a value read back is right to an eighth of it.
#[derive(Clone)]
pub struct Histogram {
    counts: Box<[u64; BUCKETS]>,
    count: u64,
    /// In nanoseconds, as `max`. Saturates.
    sum: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: Box::new([0; BUCKETS]), count: 0, sum: 0, max: 0 }
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram")
            .field("count", &self.count)
            .field("p50", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .field("max", &self.max())
            .finish()
    }
}

/// The bucket of a value in nanoseconds: small ones have a bucket each, then [`PARTS`] for each power of two.
#[inline]
fn bucket(nanos: u64) -> usize {
    if nanos < PARTS as u64 {
        return nanos as usize;
    }
    let power = nanos.ilog2() as usize;
    let part = (nanos >> (power - 3)) as usize & (PARTS - 1);
    ((power - 2) * PARTS + part).min(BUCKETS - 1)
}

/// The largest value of a bucket.
fn top_of(bucket: usize) -> u64 {
    if bucket < PARTS {
        return bucket as u64;
    }
    let (power, part) = (bucket / PARTS + 2, bucket % PARTS);
    (((PARTS + part + 1) as u64) << (power - 3)) - 1
}

impl Histogram {
    #[inline]
    pub(crate) fn record(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanos)] += 1;
        self.count += 1;
        self.sum = self.sum.saturating_add(nanos);
        self.max = self.max.max(nanos);
    }

    /// How many durations were recorded.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// All of them together, exactly, up to some 584 years.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum)
    }

    /// How many of them are known not to exceed `most`. One that is shorter by less than an eighth may be missing, and none
    /// that is longer is counted: so the answer never falls as `most` grows, and from [`max`](Histogram::max) on it is all.
    pub fn count_up_to(&self, most: Duration) -> u64 {
        let most = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
        if most >= self.max {
            return self.count;
        }
        // The last bucket has no end.
        let below = self.counts[..BUCKETS - 1].iter().enumerate();
        below.take_while(|(bucket, _)| top_of(*bucket) <= most).map(|(_, count)| count).sum()
    }

    /// The longest of them, exactly. Zero when there are none.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max)
    }

    /// The duration that a share `q` of all does not exceed: 0.99 for the 99th percentile. `q` is held to 0 to 1. Zero when
    /// there are none.
    pub fn quantile(&self, q: f64) -> Duration {
        let rank = (q.clamp(0.0, 1.0) * self.count as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(top_of(bucket).min(self.max));
            }
        }
        self.max()
    }

    /// Adds what another one has recorded.
    pub fn add(&mut self, other: &Histogram) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts.iter()) {
            *mine += theirs;
        }
        self.count += other.count;
        self.sum = self.sum.saturating_add(other.sum);
        self.max = self.max.max(other.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_empty_one_answers_zero() {
        let empty = Histogram::default();
        assert_eq!((empty.count(), empty.max(), empty.quantile(0.99)), (0, Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn the_longest_duration_has_a_bucket() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::MAX);
        histogram.record(Duration::from_secs(3600));
        assert_eq!(histogram.max(), Duration::from_nanos(u64::MAX));
        assert_eq!(histogram.count(), 2);
        assert_eq!(histogram.sum(), Duration::from_nanos(u64::MAX));
        assert_eq!(
            histogram.count_up_to(Duration::from_secs(7200)),
            0,
            "they are somewhere above the last bucket's beginning"
        );
        assert_eq!(histogram.count_up_to(Duration::MAX), 2);
        assert_eq!(histogram.quantile(f64::NAN), histogram.quantile(0.0));
    }

    proptest! {
        /// Against the sorted values.
        #[test]
        fn a_quantile_is_right_to_an_eighth(
            mut nanos in prop::collection::vec(0u64..1 << 40, 1..200),
            q in 0.0f64..=1.0,
            cut in 0usize..200,
        ) {
            let (mut one, mut two) = (Histogram::default(), Histogram::default());
            for (at, n) in nanos.iter().enumerate() {
                if at < cut { &mut one } else { &mut two }.record(Duration::from_nanos(*n));
            }
            one.add(&two);
            nanos.sort_unstable();
            let rank = ((q * nanos.len() as f64).ceil() as usize).max(1);
            let exact = nanos[rank - 1];
            let read = one.quantile(q).as_nanos() as u64;
            prop_assert!(read >= exact && read <= exact + exact / 8 + 1, "{read} for {exact}");
            prop_assert_eq!(one.max().as_nanos() as u64, nanos[nanos.len() - 1]);
            prop_assert_eq!(one.count(), nanos.len() as u64);
            prop_assert_eq!(one.sum().as_nanos(), nanos.iter().map(|n| u128::from(*n)).sum::<u128>());
        }

        /// Against the values themselves: none that is longer, and all that are shorter by an eighth.
        #[test]
        fn a_count_up_to_a_bound_is_right_to_an_eighth(
            nanos in prop::collection::vec(0u64..1 << 34, 0..200),
            most in 0u64..1 << 35,
        ) {
            let mut histogram = Histogram::default();
            nanos.iter().for_each(|n| histogram.record(Duration::from_nanos(*n)));
            let counted = histogram.count_up_to(Duration::from_nanos(most));
            let within = |bound: u64| nanos.iter().filter(|n| **n <= bound).count() as u64;
            prop_assert!(counted <= within(most) && counted >= within(most - most / 8), "{counted} up to {most}");
            prop_assert!(histogram.count_up_to(Duration::from_nanos(most + most / 3)) >= counted);
        }
    }
}
