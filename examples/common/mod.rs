//! What the example programs share: their options, how a server is run, and how errors and logs are said. What a program
//! does with its messages is its own business, and stands in its own file.
//!
//! - `values`: durations, sizes and addresses as a person writes them
//! - `floats`: arrays of float32 on the wire
//! - `framing`: the framings, and the one place where a codec is chosen
//! - `tls`: its options, where a program is built with it
//! - `server`: the options of every server, and its life from the first line to the last
#![allow(dead_code, unused_imports, reason = "each program uses its own part of it")]

pub(crate) mod floats;
pub(crate) mod framing;
pub(crate) mod server;
pub(crate) mod tls;
pub(crate) mod values;

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

use mainspring::DialError;

/// Logs go to standard error: warnings and errors, or what `RUST_LOG` says.
pub(crate) fn start_log() {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
}

/// One line on standard error, and the exit status that goes with it.
pub(crate) fn failure(what: impl Display) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "error: {what}");
    ExitCode::FAILURE
}

/// What to say of a dial that has failed, in one line. The one address that stands in `to` already is not said twice.
pub(crate) fn dial_failure(to: &str, error: &DialError) -> String {
    match error.attempts() {
        [only] if only.address.to_string() == to => match error {
            DialError::TimedOut { .. } => format!("cannot connect to {to}: no answer in time"),
            _ => format!("cannot connect to {to}: {}", only.error),
        },
        _ => match error {
            DialError::Resolve { .. } => error.to_string(),
            _ => format!("cannot connect to {to}: {error}"),
        },
    }
}

/// One line on standard output, at once. A reader that is gone is no reason to stop.
pub(crate) fn say(line: impl Display) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
