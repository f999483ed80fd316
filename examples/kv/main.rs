//! A small key-value server that speaks RESP2, the protocol of redis: the proof that a codec of one's own is easy.
//!
//! ```text
//! cargo run --release --example kv -- --listen 127.0.0.1:7000
//! redis-cli -p 7000 set greeting hello
//! redis-benchmark -p 7000 -t ping_inline,ping_mbulk,set,get,incr,mset -P 32
//! ```
//!
//! - `resp`: the codec. Requests are lent from the buffer they were read into, replies from the store
//! - `commands`: what each command does
//! - `store`: a plain map for one reactor, a map in parts with locks for many
//!
//! `docs/kv.md` explains how it is written.

#[path = "../common/mod.rs"]
mod common;

mod commands;
mod resp;
mod store;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser};
use commands::Then;
use common::server::{self, ServerOptions};
use mainspring::codec::FrameError;
use mainspring::{ConnId, Context, Handler, Timer};
use resp::{Reply, Request, Resp};
use store::{Map, Shared, Store};

/// A small in-memory key-value server that speaks RESP2, for redis-cli and redis-benchmark
///
/// PING, ECHO, SET, GET, DEL, EXISTS, INCR, APPEND, MGET, MSET, FLUSHALL, COMMAND, CONFIG GET and QUIT, pipelined, as arrays
/// or as lines. With --reactors all event loops share one store.
#[derive(Debug, Parser)]
#[command(name = "kv", version)]
struct Options {
    #[command(flatten)]
    server: ServerOptions,
}

impl Options {
    /// The framing is RESP: that option is neither shown nor taken.
    fn read() -> Options {
        let command = Options::command().mut_arg("framing", |arg| arg.hide(true));
        let mut matches = command.clone().get_matches();
        if matches.value_source("framing") == Some(ValueSource::CommandLine) {
            let what = "requests come in RESP, as redis has them: there is no other framing";
            command.clone().error(ErrorKind::ArgumentConflict, what).exit();
        }
        Options::from_arg_matches_mut(&mut matches).unwrap_or_else(|error| error.exit())
    }
}

struct Kv<S> {
    store: S,
}

impl<S: Store> Handler for Kv<S> {
    type Codec = Resp;
    type Session = ();

    #[inline]
    fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, request: Request<'_>) {
        let then = commands::run(&mut self.store, request, &mut |reply| {
            cx.send(from, reply);
        });
        if then == Then::Close {
            cx.close(from);
        }
    }

    // It is told what was wrong, behind the replies to what came before.
    fn on_bad_frame(&mut self, cx: &mut Context<Self>, conn: ConnId, _: &FrameError) {
        if let Some(complaint) = cx.codec(conn).and_then(Resp::complaint) {
            cx.send(conn, Reply::Complaint(complaint));
        }
    }

    fn on_timer(&mut self, cx: &mut Context<Self>, timer: Timer) {
        server::on_timer(cx, timer);
    }
}

fn main() -> ExitCode {
    let options = Options::read().server;
    let codec = Resp::with_max_frame(options.framing.max_frame());
    if options.reactors == 1 {
        server::run(&options, codec, |_| Kv { store: Map::default() })
    } else {
        let store = Shared::new();
        server::run(&options, codec, |_| Kv { store: store.clone() })
    }
}
