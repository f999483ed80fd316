//! A small HTTP/1.1 server: keep-alive, pipelining, bodies of a known length and in chunks, and what Prometheus asks for.
//!
//! ```text
//! cargo run --release --features metrics --example http -- --listen 127.0.0.1:8080
//! curl -i http://127.0.0.1:8080/
//! curl --data hello http://127.0.0.1:8080/echo
//! curl http://127.0.0.1:8080/metrics
//! ```
//!
//! It shows a codec of one's own with typed messages both ways, around a parser that exists (`protocol/`), what a codec has to
//! be careful with when its input is hostile, and an answer that has to wait for other reactors (`metrics.rs`).

#[path = "../common/mod.rs"]
mod common;
mod date;
#[cfg(feature = "metrics")]
mod metrics;
mod protocol;

use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser};
use common::server::{self, ServerOptions};
use common::values;
use date::Date;
use mainspring::codec::FrameError;
use mainspring::{ConnId, Context, Handler, Timer, TimerId};
use protocol::{Http, Incoming, Method, Persistence, Reply, Request, Status};

/// A small HTTP/1.1 server: / is a text, /echo gives a body back, /metrics is for Prometheus
#[derive(Debug, Parser)]
#[command(name = "http", version)]
struct Options {
    #[command(flatten)]
    server: ServerOptions,
    /// A request that is not whole so long after its first byte closes its connection, however it drips
    #[arg(long, value_name = "DUR", default_value = "30s", value_parser = values::positive_duration)]
    request_timeout: Duration,
}

impl Options {
    /// HTTP is the framing, and its frames are bodies.
    fn read() -> Options {
        let command =
            Options::command().mut_arg("framing", |arg| arg.hide(true)).mut_arg("max_frame", |arg| {
                arg.default_value("1MiB")
                    .help("A longer body is refused, and closes its connection, and only that one")
            });
        let mut matches = command.clone().get_matches();
        if matches.value_source("framing") == Some(ValueSource::CommandLine) {
            let what = "HTTP says itself where a request ends: there is no --framing";
            command.clone().error(ErrorKind::UnknownArgument, what).exit();
        }
        Options::from_arg_matches_mut(&mut matches).unwrap_or_else(|error| error.exit())
    }
}

struct Site {
    date: Date,
}

/// What is kept for each connection: the time by which an answer that was begun has to be there.
type Late = Option<TimerId>;

/// The methods that a page has. None: there is no such page.
fn methods(path: &[u8]) -> Option<&'static str> {
    match path {
        b"/" => Some("GET, HEAD"),
        b"/echo" => Some("POST"),
        #[cfg(feature = "metrics")]
        b"/metrics" => Some("GET, HEAD"),
        _ => None,
    }
}

impl Site {
    fn answer(&mut self, cx: &mut Context<Self>, from: ConnId, request: &Request<'_>) {
        let asked = Asked::from(request);
        let path = request.path();
        let Some(allowed) = methods(path) else {
            return self.reply(cx, from, asked, Reply::new(Status::NotFound, b"There is no such page.\n"));
        };
        match (path, request.method) {
            (b"/", Method::Get | Method::Head) => {
                self.reply(cx, from, asked, Reply::new(Status::Ok, b"Hello from mainspring.\n"));
            }
            (b"/echo", Method::Post) => {
                let echo = Reply::new(Status::Ok, request.body);
                self.reply(cx, from, asked, Reply { content_type: "application/octet-stream", ..echo });
            }
            #[cfg(feature = "metrics")]
            (b"/metrics", Method::Get | Method::Head) => self.answer_metrics(cx, from, asked),
            _ => {
                let wrong = Reply::new(Status::MethodNotAllowed, b"That method is not for this page.\n");
                self.reply(cx, from, asked, Reply { allow: Some(allowed), ..wrong });
            }
        }
    }

    fn reply(&mut self, cx: &mut Context<Self>, to: ConnId, asked: Asked, reply: Reply<'_>) {
        let Asked { to_head, persistence } = asked;
        cx.send(to, Reply { to_head, persistence, date: self.date.at(cx.now()), ..reply });
        if persistence == Persistence::Closes {
            cx.close(to);
        }
    }
}

/// What a reply has to know of its request.
#[derive(Debug, Clone, Copy)]
struct Asked {
    to_head: bool,
    persistence: Persistence,
}

impl From<&Request<'_>> for Asked {
    fn from(request: &Request<'_>) -> Asked {
        Asked { to_head: request.method == Method::Head, persistence: request.persistence }
    }
}

impl Handler for Site {
    type Codec = Http;
    type Session = Late;

    fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, message: Incoming<'_>) {
        match message {
            Incoming::Request(request) => self.answer(cx, from, &request),
            Incoming::Expects => {
                cx.send(from, Reply::CONTINUE);
            }
        }
    }

    fn on_bad_frame(&mut self, cx: &mut Context<Self>, conn: ConnId, _: &FrameError) {
        let Some(refusal) = cx.codec(conn).and_then(Http::refusal) else { return };
        let date = self.date.at(cx.now());
        let why = Reply::new(refusal.status(), refusal.text().as_bytes());
        cx.send(conn, Reply { persistence: Persistence::Closes, date, ..why });
    }

    fn on_timer(&mut self, cx: &mut Context<Self>, timer: Timer) {
        match timer.conn {
            #[cfg(feature = "metrics")]
            Some(conn) => metrics::on_late(cx, conn),
            _ => server::on_timer(cx, timer),
        }
    }
}

fn main() -> ExitCode {
    let options = Options::read();
    let codec = Http::with_max_body(options.server.framing.max_frame());
    let server = options.server.with_frame_timeout(options.request_timeout);
    server::run(&server, codec, |_| Site { date: Date::new() })
}
