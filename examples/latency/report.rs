//! What came of a measurement, for a person and for a machine.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::json;

use crate::options::Options;

#[derive(Debug)]
pub(crate) struct Outcome {
    /// In nanoseconds, of the replies that count.
    pub(crate) latencies: Histogram<u64>,
    /// For how long; none when it never came to that.
    pub(crate) measured: Option<Duration>,
    /// Replies that are wrong or missing.
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
}

impl Outcome {
    pub(crate) fn new() -> Outcome {
        Outcome {
            // Up to an hour: whatever takes longer is counted as that.
            latencies: Histogram::new_with_bounds(1, 3_600_000_000_000, 3).expect("3 digits are allowed"),
            measured: None,
            errors: 0,
            first_error: None,
        }
    }

    pub(crate) fn error(&mut self, count: u64, what: impl FnOnce() -> String) {
        self.errors += count;
        self.first_error.get_or_insert_with(what);
    }

    fn seconds(&self) -> f64 {
        self.measured.unwrap_or_default().as_secs_f64()
    }

    fn per_second(&self, count: u64) -> f64 {
        let seconds = self.seconds();
        if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
    }

    pub(crate) fn json(&self, options: &Options) -> String {
        let messages = self.latencies.len();
        let us = |quantile| micros(self.latencies.value_at_quantile(quantile));
        let report = json!({
            "messages": messages,
            "messages_per_s": self.per_second(messages),
            "bytes_per_s": self.per_second(messages * options.size),
            "p50_us": us(0.5),
            "p90_us": us(0.9),
            "p99_us": us(0.99),
            "p999_us": us(0.999),
            "max_us": us(1.0),
            "errors": self.errors,
            "connections": options.connections,
            "size": options.size,
            "pipeline": options.pipeline,
            "duration_s": self.seconds(),
        });
        report.to_string()
    }

    pub(crate) fn table(&self, options: &Options) -> String {
        let Options { connections, size, pipeline, .. } = *options;
        let messages = self.latencies.len();
        let us = |quantile| micros(self.latencies.value_at_quantile(quantile));
        format!(
            "{connections} connection(s), {pipeline} message(s) of {size} bytes under way on each, {:.1} s\n\n\
             {:>12} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>8}\n\
             {:>12.0} {:>10.2} {:>10.1} {:>10.1} {:>10.1} {:>10.1} {:>10.1} {:>8}",
            self.seconds(),
            "messages/s",
            "MB/s",
            "p50 us",
            "p90 us",
            "p99 us",
            "p99.9 us",
            "max us",
            "errors",
            self.per_second(messages),
            self.per_second(messages * size) / 1e6,
            us(0.5),
            us(0.9),
            us(0.99),
            us(0.999),
            us(1.0),
            self.errors,
        )
    }
}

fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}
