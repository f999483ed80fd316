//! Measures an echo server: how long each message takes there and back, and how many do so in a second.
//!
//! ```text
//! cargo run --release --example latency
//! cargo run --release --example latency -- 127.0.0.1:7000 --connections 50 --pipeline 16
//! cargo run --release --example latency -- 127.0.0.1:7000 --rate 20000 --plot curve.svg
//! cargo run --release --example latency -- --compare 127.0.0.1:7000 --with 127.0.0.1:7001
//! ```
//!
//! - Without `--rate` it is a closed loop: each connection keeps `--pipeline` messages under way, and each reply sends the
//!   next one. So it finds what a server can do at its fastest, and how long a message takes under that load; it does not find
//!   what clients would see that send by the clock, since a slow reply delays the next question.
//! - With `--rate` it is an open loop: messages go out on a fixed schedule, and each delay is counted from when its message
//!   was due. When the server stalls, the messages that had to wait for it count their wait. So they do when this program is
//!   late itself; it says how late it was at most. Timers of the system are a millisecond or more wide, and so this program
//!   does not sleep while a message is under way or will be due soon: it keeps a core busy.
//! - With `--compare` it measures two servers, one after the other and again, and compares each round with the one beside it:
//!   whatever slows the machine for a while slows both.
//!
//! - `load`: the handler that dials, sends and compares; `schedule`: when an open loop sends; `pattern`: what is sent;
//!   `clock`: what time it is
//! - `report`, `figures`, `plot`, `progress`: what a person and a machine get to read
//! - `compare`: two servers in turn; `own_server`: the one that is measured when none is named

mod clock;
#[path = "../common/mod.rs"]
mod common;
mod compare;
mod figures;
mod load;
mod options;
mod own_server;
mod pattern;
mod plot;
mod progress;
mod report;
mod schedule;

use std::process::ExitCode;

use common::framing::with_codec;
use common::{failure, say, start_log};
use load::Probe;
use mainspring::codec::ByteCodec;
use mainspring::{Dial, Limits, Reactor};
use options::Options;
use own_server::OwnServer;
use plot::Plot;
use progress::Progress;
use report::Outcome;

fn main() -> ExitCode {
    let options = Options::from_command_line();
    start_log();
    with_codec!(options.framing, |codec| run(&options, codec)).unwrap_or_else(failure)
}

fn run<C: ByteCodec + Send + 'static>(options: &Options, codec: C) -> Result<ExitCode, String> {
    // Before anything is measured: it would be in vain.
    let plot = options.plot.as_deref().map(Plot::open).transpose()?;
    if let Some(pair) = options.pair() {
        return compare::compare(options, pair, &codec, plot);
    }
    let own = match options.address {
        Some(_) => None,
        None => Some(OwnServer::start(codec.clone()).map_err(|error| error.to_string())?),
    };
    let address = options.address.clone().or(own.as_ref().map(|server| server.address.to_string()));
    let address = address.unwrap_or_default();
    let progress = Progress::new(options.warmup().saturating_add(options.duration()));
    let outcome = measure(options, codec, &address, progress.clone());
    progress.clear();
    if let Some(server) = own {
        server.stop();
    }
    let outcome = outcome.map_err(|error| error.to_string())?;
    if outcome.measured.is_some() {
        say(if options.json { outcome.json(options).to_string() } else { outcome.table(options, &address) });
        if let Some(plot) = plot {
            plot.draw(&options.load(), &[(&address, &outcome.latencies)])?;
        }
    }
    Ok(verdict(&[&outcome]))
}

/// Measures one server, once.
fn measure<C: ByteCodec>(
    options: &Options,
    codec: C,
    address: &str,
    progress: Progress,
) -> Result<Outcome, Box<dyn std::error::Error>> {
    let mut limits = Limits::default();
    limits.connections_max = Some(options.connections as usize);
    limits.dial_timeout = options.timeout;
    // A pipeline is as long as the user says, whatever waits already.
    limits.write_limit = usize::MAX;
    let dial = options.tls.secure(Dial::to(address))?;
    let probe = Probe::new(options.clone(), codec, address.to_owned(), dial, progress);
    let mut reactor = Reactor::<Probe<C>>::builder().limits(limits).build(probe)?;
    reactor.run()?;
    Ok(reactor.into_handler().into_outcome())
}

/// A reply that is wrong or missing is a failure, whatever was measured.
fn verdict(outcomes: &[&Outcome]) -> ExitCode {
    let errors: u64 = outcomes.iter().map(|outcome| outcome.errors).sum();
    match outcomes.iter().find_map(|outcome| outcome.first_error.as_ref().map(|first| (outcome, first))) {
        None => ExitCode::SUCCESS,
        Some((outcome, first)) if outcome.measured.is_none() => failure(first),
        Some((_, first)) => failure(format_args!("{errors} replies are wrong or missing: {first}")),
    }
}
