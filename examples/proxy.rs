//! Passes each client's bytes on to a server, and the server's back.
//!
//! ```text
//! cargo run --example proxy -- --listen 127.0.0.1:8000 --to localhost:7000
//! cargo run --example client -- 127.0.0.1:8000
//! ```
//!
//! Bytes go through as they are, both ways at once. A side that does not take them makes the other side wait; an end of one
//! side's output, a close and a reset each go through as what they are.

mod common;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser};
use common::server::{self, ServerOptions};
use common::{dial_failure, values};
use mainspring::codec::Raw;
use mainspring::{CloseReason, ConnId, Context, DialError, HalfClose, Handler, Sent, Timer};

/// Passes each client's bytes on to a server, and the server's back
///
/// For each client a connection is dialed, all addresses of a name are tried. A client whose dial fails is closed. At most a
/// megabyte or so waits for each side; past it the other side is not read.
#[derive(Debug, Parser)]
#[command(name = "proxy", version)]
struct Options {
    #[command(flatten)]
    server: ServerOptions,
    /// Where to: HOST:PORT, [V6]:PORT or unix:PATH
    #[arg(long, value_name = "ADDR", value_parser = values::address)]
    to: String,
}

impl Options {
    /// A relay knows nothing of frames: the options of framing are neither shown nor taken.
    fn read() -> Options {
        let command = Options::command()
            .mut_arg("framing", |arg| arg.default_value("raw").hide(true))
            .mut_arg("max_frame", |arg| arg.hide(true));
        let mut matches = command.clone().get_matches();
        let options = Options::from_arg_matches_mut(&mut matches).unwrap_or_else(|error| error.exit());
        if !options.server.framing.is_raw() {
            let what = "bytes go through as they are: --framing raw is the only one";
            command.clone().error(ErrorKind::ValueValidation, what).exit();
        }
        options
    }
}

struct Proxy {
    to: String,
}

/// What is kept for each end of a relay: the other end.
type Other = Option<ConnId>;

impl Proxy {
    fn other(cx: &Context<Self>, conn: ConnId) -> Other {
        cx.session(conn).copied().flatten()
    }
}

impl Handler for Proxy {
    type Codec = Raw;
    type Session = Other;

    fn on_open(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        if cx.listener_of(conn).is_none() {
            return;
        }
        let server = cx.connect(&self.to, Raw);
        if !cx.is_open(server) {
            return cx.close(conn);
        }
        // By default a client is not read while its own replies pile up. Here each way has to go on for itself: it is
        // whoever sends too much that has to wait, see `on_message`.
        cx.read_above_mark(conn, true);
        for (end, other) in [(conn, server), (server, conn)] {
            if let Some(session) = cx.session_mut(end) {
                *session = Some(other);
            }
        }
    }

    fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, bytes: &[u8]) {
        let Some(other) = Proxy::other(cx, from) else { return };
        // What is sent to a dial waits until it is open. What is dropped goes to one whose `on_close` is due: it will tell.
        if cx.send(other, bytes) == Sent::AboveMark {
            cx.pause(from);
        }
    }

    fn on_writable(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        if let Some(other) = Proxy::other(cx, conn) {
            cx.resume(other);
        }
    }

    fn on_half_close(&mut self, cx: &mut Context<Self>, conn: ConnId) -> HalfClose {
        if let Some(other) = Proxy::other(cx, conn) {
            cx.end_output(other);
        }
        HalfClose::Keep
    }

    fn on_close(&mut self, cx: &mut Context<Self>, _: ConnId, reason: CloseReason, other: Other) {
        let Some(other) = other else { return };
        match reason {
            // Both ways have ended, and the other end knows: it goes when it has taken what is queued.
            CloseReason::Peer { .. } => {}
            CloseReason::Reset | CloseReason::Io(_) => cx.abort(other),
            _ => cx.close(other),
        }
    }

    fn on_dial_failed(&mut self, cx: &mut Context<Self>, _: ConnId, error: DialError, client: Other) {
        if !matches!(error, DialError::Cancelled) {
            log::warn!("{}", dial_failure(&self.to, &error));
        }
        if let Some(client) = client {
            cx.close(client);
        }
    }

    fn on_timer(&mut self, cx: &mut Context<Self>, timer: Timer) {
        server::on_timer(cx, timer);
    }
}

fn main() -> ExitCode {
    let options = Options::read();
    // Each client has a connection of its own to the server.
    let server = options.server.for_pairs();
    server::run(&server, Raw, |_| Proxy { to: options.to.clone() })
}
