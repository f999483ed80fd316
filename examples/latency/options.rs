//! What it is asked to do.

use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use crate::common::framing::FramingOptions;
use crate::common::tls::DialTls;
use crate::common::values;
use crate::figures::{grouped, plural};

/// Measures an echo server: messages a second, and how long each takes there and back
///
/// Without --rate each connection keeps --pipeline messages under way, and each reply sends the next one. With --rate messages go
/// out by the clock, and their delays are counted from when they were due. Every reply is compared with what was sent. A reply
/// that is wrong or missing makes the exit status 1.
#[derive(Debug, Clone, Parser)]
#[command(name = "latency", version)]
pub(crate) struct Options {
    /// The server: HOST:PORT, [V6]:PORT or unix:PATH. Without it, one is started in this process, on a thread of its own
    #[arg(value_name = "ADDR", value_parser = values::address)]
    pub(crate) address: Option<String>,
    /// So many connections, all from one thread
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..1 << 20))]
    pub(crate) connections: u32,
    /// The length of each message
    #[arg(long, value_name = "SIZE", default_value = "64", value_parser = values::size)]
    pub(crate) size: u64,
    /// Messages that each connection keeps under way; with --rate, has under way at most [default: 1, with --rate any number]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..1 << 20))]
    pipeline: Option<u32>,
    /// Send so many messages a second, over all connections together, whether or not replies come
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=RATE_MAX))]
    pub(crate) rate: Option<u64>,
    /// Measure for so long [default: 3s, with --compare 1s a round]
    #[arg(long, value_name = "DUR", value_parser = values::positive_duration)]
    duration: Option<Duration>,
    /// Run for so long before that [default: 500ms, with --compare 200ms]
    #[arg(long, value_name = "DUR", value_parser = values::duration)]
    warmup: Option<Duration>,
    /// No connection, or no reply, within this time is an error
    #[arg(long, value_name = "DUR", default_value = "5s", value_parser = values::positive_duration)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) framing: FramingOptions,
    /// Measure this server and the one of --with in turn, and print the ratios of this one by that one
    #[arg(long, value_name = "ADDR", requires = "with", conflicts_with = "address", value_parser = values::address)]
    compare: Option<String>,
    /// The server that --compare is held against
    #[arg(long, value_name = "ADDR", requires = "compare", value_parser = values::address)]
    with: Option<String>,
    /// Measure each server of --compare so often
    #[arg(long, value_name = "N", requires = "compare", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    #[command(flatten)]
    pub(crate) tls: DialTls,
    /// Draw the percentile curve
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) plot: Option<PathBuf>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

impl Options {
    /// What was asked for, or the end of the program with what is wrong about it.
    pub(crate) fn from_command_line() -> Options {
        let options = Options::parse();
        if let Err(what) = options.check() {
            Options::command().error(ErrorKind::ValueValidation, what).exit();
        }
        options
    }

    /// What no option can see alone.
    fn check(&self) -> Result<(), String> {
        if self.tls.is_asked_for() && self.address.is_none() && self.compare.is_none() {
            return Err("--tls needs an ADDR: the server of this process speaks none".to_owned());
        }
        let longest = self.framing.longest().min(MESSAGE_MAX);
        let shortest = u64::from(self.framing.is_raw());
        if self.size > longest || self.size < shortest {
            let size = self.size;
            return Err(format!(
                "--size {size} does not go with this framing: {shortest} to {longest} bytes do"
            ));
        }
        Ok(())
    }

    /// The two servers of --compare.
    pub(crate) fn pair(&self) -> Option<(&str, &str)> {
        self.compare.as_deref().zip(self.with.as_deref())
    }

    pub(crate) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(5)
    }

    /// What each connection keeps under way in a closed loop.
    pub(crate) fn pipeline(&self) -> u32 {
        self.pipeline.unwrap_or(1)
    }

    /// How many messages one connection may have under way.
    pub(crate) fn under_way_max(&self) -> usize {
        match (self.rate, self.pipeline) {
            (Some(_), None) => usize::MAX,
            _ => self.pipeline() as usize,
        }
    }

    /// How long to measure: each round, when there are several.
    pub(crate) fn duration(&self) -> Duration {
        let default = if self.compare.is_some() { 1000 } else { 3000 };
        self.duration.unwrap_or(Duration::from_millis(default))
    }

    pub(crate) fn warmup(&self) -> Duration {
        let default = if self.compare.is_some() { 200 } else { 500 };
        self.warmup.unwrap_or(Duration::from_millis(default))
    }

    /// What a server has to bear, in words.
    pub(crate) fn load(&self) -> String {
        let connections = plural(self.connections, "connection");
        let messages = match self.rate {
            Some(rate) => {
                let bound =
                    self.pipeline.map(|most| format!(", {} under way on each at most", grouped(most.into())));
                format!("{} messages/s by the clock{}", grouped(rate as f64), bound.unwrap_or_default())
            }
            None => format!("{} under way on each", plural(self.pipeline(), "message")),
        };
        format!("{connections}, {messages}, {} bytes there and back", grouped(self.size as f64))
    }
}

/// More than any machine sends, and the schedule counts nanoseconds.
const RATE_MAX: u64 = 1_000_000_000;
/// Every message is compared with a copy in memory.
const MESSAGE_MAX: u64 = 1 << 30;
