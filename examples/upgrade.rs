//! A connection that begins with lines, a small log-in dialogue, and goes on with frames: the codec is switched while the
//! connection lives, and nothing that has already come is lost.
//!
//! ```text
//! cargo run --example upgrade -- --listen 127.0.0.1:7000 --framing lines
//! nc 127.0.0.1 7000
//! ```
//!
//! ```text
//! server: who are you?
//! client: ann
//! server: password?
//! client: sesame
//! server: welcome, ann
//! ```
//!
//! From the byte behind the client's last line on, `--framing` holds, both ways. Each frame is answered with `ann: ` and the
//! frame. A client that knows the dialogue may send all of it at once, its first frames too.

mod common;

use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use common::framing::with_codec;
use common::server::{self, ServerOptions};
use common::values;
use mainspring::codec::{ByteCodec, Codec, EncodeError, FrameError, Lines, Output, Scan};
use mainspring::{ConnId, Context, Handler, Timer};

/// Asks for a name and a password in lines, then answers each frame with the name and the frame
#[derive(Debug, Clone, Parser)]
#[command(name = "upgrade", version)]
struct Options {
    /// What lets everyone in. It goes over the wire as it is: this is an example, not a lock
    #[arg(long, value_name = "WORD", default_value = "sesame")]
    password: String,
    /// So many wrong answers end the connection
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u32).range(1..))]
    tries: u32,
    /// Whoever is not in by then is shown out
    #[arg(long, value_name = "DUR", default_value = "30s", value_parser = values::positive_duration)]
    login_timeout: Duration,
    #[command(flatten)]
    server: ServerOptions,
}

/// No line of the dialogue is longer: a stranger gets no more memory than this.
const LINE_MAX: u64 = 256;

/// What is spoken on a connection: first this, then that. Both are codecs of bytes, and so is this.
#[derive(Debug, Clone)]
enum Speech<C> {
    Login(Lines),
    Frames(C),
}

/// Calls the codec of the moment.
macro_rules! spoken {
    ($speech:expr, |$codec:ident| $call:expr) => {
        match $speech {
            Speech::Login($codec) => $call,
            Speech::Frames($codec) => $call,
        }
    };
}

impl<C: ByteCodec> Codec for Speech<C> {
    type Message<'a> = &'a [u8];
    type Outgoing<'a> = &'a [u8];
    type Owned = Bytes;

    fn lend(owned: &Bytes) -> &[u8] {
        owned
    }
    fn scan(&mut self, input: &[u8]) -> Result<Scan, FrameError> {
        spoken!(self, |codec| codec.scan(input))
    }
    fn scan_end(&mut self, rest: &[u8]) -> Result<Option<usize>, FrameError> {
        spoken!(self, |codec| codec.scan_end(rest))
    }
    fn parse<'a>(&mut self, frame: &'a mut [u8]) -> Result<&'a [u8], FrameError> {
        spoken!(self, |codec| codec.parse(frame))
    }
    fn encode<'m>(&mut self, message: &'m [u8], out: &mut Output<'_, 'm>) -> Result<(), EncodeError> {
        spoken!(self, |codec| codec.encode(message, out))
    }
    fn encode_owned<'m>(&mut self, message: &'m Bytes, out: &mut Output<'_, 'm>) -> Result<(), EncodeError> {
        spoken!(self, |codec| codec.encode_owned(message, out))
    }
}

/// How far a connection has come.
#[derive(Debug, Default)]
enum Stage {
    /// It was asked for a name.
    #[default]
    Name,
    /// It was asked for the password.
    Password { name: Vec<u8>, wrong: u32 },
    /// It is in.
    In { name: Vec<u8> },
}

/// The key of the timer that shows out whoever does not log in.
const LOGIN: u64 = 0;

struct Upgrade<C> {
    options: Options,
    /// What every connection speaks in the end.
    frames: C,
}

impl<C: ByteCodec> Upgrade<C> {
    /// One line of the dialogue, and where it leads.
    fn log_in(&self, cx: &mut Context<Self>, from: ConnId, stage: Stage, line: &[u8]) -> Stage {
        match stage {
            Stage::Name => {
                cx.send(from, b"password?");
                Stage::Password { name: line.to_vec(), wrong: 0 }
            }
            Stage::Password { name, .. } if line == self.options.password.as_bytes() => {
                // Encoded now, as a line. What is sent from here on is a frame, and so is what comes behind this line, even
                // if it came together with it.
                cx.send(from, &[b"welcome, ", &*name].concat());
                cx.set_codec(from, Speech::Frames(self.frames.clone()));
                Stage::In { name }
            }
            Stage::Password { name, wrong } => {
                let wrong = wrong + 1;
                let left = self.options.tries.saturating_sub(wrong);
                cx.send(from, format!("wrong, {left} left").as_bytes());
                if left == 0 {
                    cx.close(from);
                }
                Stage::Password { name, wrong }
            }
            Stage::In { .. } => stage,
        }
    }
}

impl<C: ByteCodec> Handler for Upgrade<C> {
    type Codec = Speech<C>;
    type Session = Stage;

    fn on_open(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        cx.send(conn, b"who are you?");
        cx.after_for(conn, self.options.login_timeout, LOGIN);
    }

    fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, message: &[u8]) {
        let Some(session) = cx.session_mut(from) else { return };
        let stage = std::mem::take(session);
        let next = if let Stage::In { name } = &stage {
            cx.send(from, &[&**name, b": ", message].concat());
            stage
        } else {
            self.log_in(cx, from, stage, message)
        };
        if let Some(session) = cx.session_mut(from) {
            *session = next;
        }
    }

    fn on_timer(&mut self, cx: &mut Context<Self>, timer: Timer) {
        match timer.conn {
            Some(conn) if timer.key == LOGIN => {
                if !matches!(cx.session(conn), Some(Stage::In { .. })) {
                    cx.send(conn, b"too late");
                    cx.close(conn);
                }
            }
            _ => server::on_timer(cx, timer),
        }
    }
}

fn serve<C>(options: &Options, frames: C) -> ExitCode
where
    C: ByteCodec + Send + 'static,
{
    let login = Speech::Login(Lines::with_max_frame(LINE_MAX));
    server::run(&options.server, login, |_| Upgrade { options: options.clone(), frames: frames.clone() })
}

fn main() -> ExitCode {
    let options = Options::parse();
    with_codec!(options.server.framing, |codec| serve(&options, codec))
}
