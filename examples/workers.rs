//! A message server whose slow handler runs on threads: answers `Echo: ` and the message, in order, while the loop goes on.
//!
//! ```text
//! cargo run --example workers -- --listen 127.0.0.1:7000 --framing lines --work 1s
//! cargo run --example client -- 127.0.0.1:7000 --framing lines
//! ```

mod common;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use common::framing::with_codec;
use common::server::{self, ServerOptions};
use common::{failure, values};
use mainspring::codec::ByteCodec;
use mainspring::workers::Pool;
use mainspring::{ConnId, Context, Handler, Timer};

/// Answers each frame with `Echo: ` and the frame, made by a pool of threads
#[derive(Debug, Parser)]
#[command(name = "workers", version)]
struct Options {
    /// Threads that work
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u16).range(1..=4096))]
    workers: u16,
    /// Each message takes so long
    #[arg(long, value_name = "DUR", default_value = "0", value_parser = values::duration)]
    work: Duration,
    /// Each message takes its own part of that, as its bytes say
    #[arg(long, hide = true)]
    vary: bool,
    #[command(flatten)]
    server: ServerOptions,
}

/// What a thread does for a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) time: Duration,
    pub(crate) vary: bool,
}

pub(crate) struct Workers<C: ByteCodec + 'static> {
    pub(crate) pool: Pool<Workers<C>>,
    pub(crate) work: Work,
}

impl<C: ByteCodec + 'static> Handler for Workers<C> {
    type Codec = C;
    type Session = ();

    // The order of answers, a client that sends too much, one that has gone, and a shutdown are the pool's business.
    fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, message: &[u8]) {
        let (work, message) = (self.work, message.to_vec());
        self.pool.answer(cx, from, move || work.answer(&message));
    }

    fn on_timer(&mut self, cx: &mut Context<Self>, timer: Timer) {
        server::on_timer(cx, timer);
    }
}

impl Work {
    #[expect(
        clippy::disallowed_methods,
        reason = "this thread is a worker's: to take long is what it is for"
    )]
    fn answer(self, message: &[u8]) -> Bytes {
        let mut time = self.time;
        if self.vary {
            let mut hasher = DefaultHasher::new();
            message.hash(&mut hasher);
            time = time / 16 * (hasher.finish() % 16) as u32;
        }
        if !time.is_zero() {
            thread::sleep(time);
        }
        [b"Echo: ", message].concat().into()
    }
}

fn serve<C: ByteCodec + Send + 'static>(options: &Options, codec: C) -> ExitCode {
    let work = Work { time: options.work, vary: options.vary };
    // However many reactors there are, they share one set of threads.
    match Pool::<Workers<C>>::new(options.workers.into()) {
        Ok(pool) => server::run(&options.server, codec, |_| Workers { pool: pool.share(), work }),
        Err(error) => failure(error),
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    with_codec!(options.server.framing, |codec| serve(&options, codec))
}
