//! Measures an echo server: how long each message takes there and back, and how many do so in a second.
//!
//! ```text
//! cargo run --release --example latency
//! cargo run --release --example latency -- 127.0.0.1:7000 --connections 50 --pipeline 16
//! ```
//!
//! It is a closed loop: each connection keeps `--pipeline` messages under way, and each reply sends the next one. So it finds
//! what a server can do at its fastest, and how long a message takes under that load; it does not find what clients would
//! see that send by the clock, since a slow reply delays the next question.

#[path = "../common/mod.rs"]
mod common;
mod load;
mod options;
mod own_server;
mod pattern;
mod report;

use std::process::ExitCode;

use common::framing::with_codec;
use common::{failure, say, start_log};
use load::Probe;
use mainspring::codec::ByteCodec;
use mainspring::{Error, Limits, Reactor};
use options::Options;
use own_server::OwnServer;
use report::Outcome;

fn main() -> ExitCode {
    let options = Options::from_command_line();
    start_log();
    match with_codec!(options.framing, |codec| measure(&options, codec)) {
        Ok(outcome) => report(&options, &outcome),
        Err(error) => failure(error),
    }
}

fn measure<C: ByteCodec + Send + 'static>(options: &Options, codec: C) -> Result<Outcome, Error> {
    let own = if options.address.is_none() { Some(OwnServer::start(codec.clone())?) } else { None };
    let own_address = own.as_ref().map(|server| server.address.to_string());
    let to = options.address.clone().or(own_address).unwrap_or_default();
    let mut limits = Limits::default();
    limits.connections_max = Some(options.connections as usize);
    limits.dial_timeout = options.timeout;
    // A pipeline is as long as the user says, whatever waits already.
    limits.write_limit = usize::MAX;
    let probe = Probe::new(options.clone(), codec, to);
    let mut reactor = Reactor::<Probe<C>>::builder().limits(limits).build(probe)?;
    reactor.run()?;
    if let Some(server) = own {
        server.stop();
    }
    Ok(reactor.into_handler().into_outcome())
}

fn report(options: &Options, outcome: &Outcome) -> ExitCode {
    let has_measured = outcome.measured.is_some();
    if has_measured {
        say(if options.json { outcome.json(options) } else { outcome.table(options) });
    }
    match &outcome.first_error {
        None => ExitCode::SUCCESS,
        Some(first) if !has_measured => failure(first),
        Some(first) => failure(format_args!("{} replies are wrong or missing: {first}", outcome.errors)),
    }
}
