//! What came of a measurement, for a person and for a machine.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::figures::{grouped, time};
use crate::options::Options;

#[derive(Debug)]
pub(crate) struct Outcome {
    /// In nanoseconds, of the replies that count.
    pub(crate) latencies: Histogram<u64>,
    /// For how long; none when it never came to that.
    pub(crate) measured: Option<Duration>,
    /// How late the open loop has sent a message at most, in nanoseconds: this program's own fault, and counted all the same.
    pub(crate) late_max: u64,
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
            late_max: 0,
            errors: 0,
            first_error: None,
        }
    }

    pub(crate) fn error(&mut self, count: u64, what: impl FnOnce() -> String) {
        self.errors += count;
        self.first_error.get_or_insert_with(what);
    }

    pub(crate) fn per_second(&self) -> f64 {
        let seconds = self.seconds();
        if seconds > 0.0 { self.latencies.len() as f64 / seconds } else { 0.0 }
    }

    pub(crate) fn micros(&self, quantile: f64) -> f64 {
        self.latencies.value_at_quantile(quantile) as f64 / 1e3
    }

    fn seconds(&self) -> f64 {
        self.measured.unwrap_or_default().as_secs_f64()
    }

    /// With a rate there are two keys more.
    pub(crate) fn json(&self, options: &Options) -> Value {
        let mut report = json!({
            "messages": self.latencies.len(),
            "messages_per_s": self.per_second(),
            "bytes_per_s": self.per_second() * options.size as f64,
            "p50_us": self.micros(0.5),
            "p90_us": self.micros(0.9),
            "p99_us": self.micros(0.99),
            "p999_us": self.micros(0.999),
            "max_us": self.micros(1.0),
            "errors": self.errors,
            "connections": options.connections,
            "size": options.size,
            "pipeline": options.pipeline(),
            "duration_s": self.seconds(),
        });
        if let Some(rate) = options.rate {
            report["rate"] = rate.into();
            report["late_max_us"] = (self.late_max as f64 / 1e3).into();
        }
        report
    }

    pub(crate) fn table(&self, options: &Options, address: &str) -> String {
        let mut head = format!("{address}: {}, {:.1} s", options.load(), self.seconds());
        if options.rate.is_some() {
            let late = time(self.late_max);
            head += &format!(
                "\ndelays are counted from when a message was due; it was sent {late} later at most"
            );
        }
        let names = ["messages/s", "MB/s", "p50", "p90", "p99", "p99.9", "max", "errors"];
        let quantile = |quantile| time(self.latencies.value_at_quantile(quantile));
        let values = [
            grouped(self.per_second()),
            format!("{:.2}", self.per_second() * options.size as f64 / 1e6),
            quantile(0.5),
            quantile(0.9),
            quantile(0.99),
            quantile(0.999),
            quantile(1.0),
            grouped(self.errors as f64),
        ];
        let line = |words: &[String]| words.iter().map(|word| format!("{word:>12}")).collect::<String>();
        format!("{head}\n\n{}\n{}", line(&names.map(str::to_owned)), line(&values))
    }
}
