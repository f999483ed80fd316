//! Sends each frame back to where it came from.
//!
//! ```text
//! cargo run --example echo -- --listen 127.0.0.1:7000
//! cargo run --example client -- 127.0.0.1:7000
//! ```

mod common;

use std::marker::PhantomData;
use std::process::ExitCode;

use clap::Parser;
use common::framing::with_codec;
use common::server::{self, ServerOptions};
use mainspring::codec::ByteCodec;
use mainspring::{ConnId, Context, Handler, Timer};

/// Sends each frame back to where it came from, an empty one too
#[derive(Debug, Parser)]
#[command(name = "echo", version)]
struct Options {
    #[command(flatten)]
    server: ServerOptions,
}

/// The same for every framing of bytes.
pub(crate) struct Echo<C> {
    pub(crate) codec: PhantomData<C>,
}

impl<C: ByteCodec> Handler for Echo<C> {
    type Codec = C;
    type Session = ();

    // A client that sends and does not read is no case of its own: while its replies pile up, it is not read.
    fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, message: &[u8]) {
        cx.send(from, message);
    }

    fn on_timer(&mut self, cx: &mut Context<Self>, timer: Timer) {
        server::on_timer(cx, timer);
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    with_codec!(options.server.framing, |codec| {
        server::run(&options.server, codec, |_| Echo { codec: PhantomData })
    })
}
