//! The names, and how a snapshot becomes samples of them.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Unit;

use super::Snapshot;
use crate::histogram::Histogram;
use crate::stats::Stats;

/// A metric that is one number of [`Stats`].
struct Number {
    /// The field's name, so that a test can tell that none was forgotten.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the test"))]
    field: &'static str,
    /// Without the unit and without `_total`.
    name: &'static str,
    help: &'static str,
    kind: Kind,
    value: fn(&Stats) -> u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    CounterOfBytes,
    Gauge,
    GaugeOfBytes,
}

macro_rules! number {
    ($field:ident, $kind:ident, $name:literal, $help:literal) => {
        Number {
            field: stringify!($field),
            name: concat!("mainspring_", $name),
            help: $help,
            kind: Kind::$kind,
            value: |stats| stats.$field,
        }
    };
}

const NUMBERS: &[Number] = &[
    number!(accepted, Counter, "connections_accepted", "Connections that were opened for a client."),
    number!(connected, Counter, "connections_dialed", "Dials that succeeded."),
    number!(open, Gauge, "connections_open", "Connections open now."),
    number!(refused, Counter, "connections_refused", "Clients that were turned away."),
    number!(
        proxy_refused,
        Counter,
        "connections_refused_by_proxy_header",
        "Those of them whose header of the PROXY protocol was missing, wrong, late or not trusted."
    ),
    number!(
        handshakes_failed,
        Counter,
        "handshakes_failed",
        "Those of them with whom no TLS could be agreed on."
    ),
    number!(dials_failed, Counter, "dials_failed", "Dials that failed."),
    number!(
        accept_errors,
        Counter,
        "accept_errors",
        "Errors of accept: no descriptors, or clients that were gone."
    ),
    number!(frames_in, Counter, "frames_received", "Whole messages handed to the handler."),
    number!(frames_out, Counter, "frames_sent", "Messages handed to the kernel whole."),
    number!(
        frames_dropped,
        Counter,
        "frames_dropped",
        "Messages that were sent to a connection and dropped."
    ),
    number!(
        frames_overflowed,
        Counter,
        "frames_overflowed",
        "Those of them that an overflow policy has dropped."
    ),
    number!(bytes_in, CounterOfBytes, "received", "Bytes of the streams that were read."),
    number!(bytes_out, CounterOfBytes, "sent", "Bytes that the kernel took."),
    number!(
        bytes_skipped,
        CounterOfBytes,
        "skipped",
        "Bytes of frames longer than the maximum that were skipped."
    ),
    number!(buffered_bytes, GaugeOfBytes, "buffered", "Bytes held for connections now, both ways."),
    number!(stale_events, Counter, "stale_events", "Events for connections that were gone."),
    number!(turns, Counter, "turns", "Turns of the loop."),
    number!(
        stalls,
        Counter,
        "stalls",
        "Callbacks that have held the loop for longer than the stall threshold."
    ),
    number!(panics, Counter, "panics", "Panics that were caught."),
    number!(wakeups, Counter, "wakeups", "How often other threads have woken the loop."),
    number!(busy_polls, Counter, "busy_polls", "Waits that began with asking again and again."),
    number!(
        busy_poll_hits,
        Counter,
        "busy_poll_hits",
        "Those of them to which an event came before they slept."
    ),
];

/// The upper bounds of the histograms' buckets, in nanoseconds: 1 us to 10 s, three in each decade.
const BOUNDS: [u64; 22] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// Snapshots that were taken, as a registry's contents.
#[derive(Debug)]
pub(super) struct Taken(pub(super) Vec<Snapshot>);

impl Collector for Taken {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        encode(&mut encoder, &self.0)
    }
}

/// All metrics of all snapshots: what each one is, then its samples.
pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, snapshots: &[Snapshot]) -> fmt::Result {
    for number in NUMBERS {
        let (metric_type, unit) = match number.kind {
            Kind::Counter => (MetricType::Counter, None),
            Kind::CounterOfBytes => (MetricType::Counter, Some(Unit::Bytes)),
            Kind::Gauge => (MetricType::Gauge, None),
            Kind::GaugeOfBytes => (MetricType::Gauge, Some(Unit::Bytes)),
        };
        let mut metric = encoder.encode_descriptor(number.name, number.help, unit.as_ref(), metric_type)?;
        for snapshot in snapshots {
            let value = (number.value)(&snapshot.stats);
            let labels = Labels::of(snapshot);
            let mut sample = metric.encode_family(&labels)?;
            match metric_type {
                MetricType::Counter => counter(&mut sample, value)?,
                _ => gauge(&mut sample, value)?,
            }
        }
    }
    encode_closes(encoder, snapshots)?;
    let lag = "How long turns have taken: an event that comes in the meantime waits for so long.";
    encode_histogram(encoder, snapshots, "mainspring_loop_lag", lag, |snapshot| &snapshot.loop_lag)?;
    let dispatch = "How long dispatches of callbacks have taken, with the system calls around them.";
    encode_histogram(encoder, snapshots, "mainspring_dispatch", dispatch, |snapshot| &snapshot.dispatch_times)
}

/// Their sum over the reasons is [`Stats::closed`].
fn encode_closes(encoder: &mut DescriptorEncoder<'_>, snapshots: &[Snapshot]) -> fmt::Result {
    let (name, help) = ("mainspring_connections_closed", "Connections that have ended, by the reason.");
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for snapshot in snapshots {
        // Those that have not occurred too, so that the first occurrence is an increase.
        for (reason, count) in snapshot.stats.closes() {
            let labels = Labels { reason: Some(reason), ..Labels::of(snapshot) };
            counter(&mut metric.encode_family(&labels)?, count)?;
        }
    }
    Ok(())
}

fn encode_histogram(
    encoder: &mut DescriptorEncoder<'_>,
    snapshots: &[Snapshot],
    name: &str,
    help: &str,
    of: fn(&Snapshot) -> &Histogram,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
    for snapshot in snapshots {
        let histogram = of(snapshot);
        let labels = Labels::of(snapshot);
        let mut sample = metric.encode_family(&labels)?;
        let sum = histogram.sum().as_secs_f64();
        sample.encode_histogram::<NoLabelSet>(sum, histogram.count(), &buckets(histogram), None)?;
    }
    Ok(())
}

/// How many durations each bucket has that the one before has not.
fn buckets(histogram: &Histogram) -> Vec<(f64, u64)> {
    let up_to = |bound: &u64| (*bound as f64 / 1e9, histogram.count_up_to(Duration::from_nanos(*bound)));
    let all = BOUNDS.iter().map(up_to).chain([(f64::INFINITY, histogram.count())]);
    let mut below = 0;
    all.map(|(bound, count)| (bound, count - std::mem::replace(&mut below, count))).collect()
}

fn counter(sample: &mut MetricEncoder<'_>, value: u64) -> fmt::Result {
    sample.encode_counter(&value, None::<&Exemplar<NoLabelSet, f64>>)
}

fn gauge(sample: &mut MetricEncoder<'_>, value: u64) -> fmt::Result {
    sample.encode_gauge(&value)
}

/// What a sample is of.
#[derive(Debug, Clone, Copy)]
struct Labels {
    reactor: Option<usize>,
    reason: Option<&'static str>,
}

impl Labels {
    fn of(snapshot: &Snapshot) -> Labels {
        Labels { reactor: snapshot.reactor, reason: None }
    }
}

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        if let Some(reactor) = self.reactor {
            ("reactor", reactor).encode(encoder.encode_label())?;
        }
        if let Some(reason) = self.reason {
            ("reason", reason).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `closed` is the sum of `closes`, which has a label.
    #[test]
    fn every_number_of_the_stats_is_a_metric() {
        let said = format!("{:?}", Stats::default());
        let inner = said.trim_start_matches("Stats {");
        let fields: Vec<_> =
            inner.split(", ").filter_map(|field| Some(field.split_once(':')?.0.trim())).collect();
        assert!(fields.len() > 20, "{fields:?}");
        for field in fields.iter().filter(|field| !["closed", "closes"].contains(field)) {
            assert!(NUMBERS.iter().any(|number| number.field == *field), "{field} is no metric");
        }
    }

    #[test]
    fn a_bucket_has_what_the_one_before_has_not() {
        let mut histogram = Histogram::default();
        for micros in [1, 2, 2, 2_000_000, 60_000_000] {
            histogram.record(Duration::from_micros(micros));
        }
        let buckets = buckets(&histogram);
        let of = |bound: f64| buckets.iter().find(|bucket| bucket.0 == bound).map(|bucket| bucket.1);
        assert_eq!(of(2.5e-6), Some(3), "one of exactly a microsecond is known to an eighth");
        assert_eq!((of(2.5), of(10.0), of(f64::INFINITY)), (Some(1), Some(0), Some(1)));
        assert_eq!(buckets.iter().map(|bucket| bucket.1).sum::<u64>(), 5);
        assert!(buckets.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
