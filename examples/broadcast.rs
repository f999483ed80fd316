//! Sends each frame to every open connection: a chat room of one room.
//!
//! ```text
//! cargo run --example broadcast -- --listen 127.0.0.1:7000 --framing lines
//! cargo run --example client -- 127.0.0.1:7000 --framing lines   # in two terminals
//! ```

mod common;

use std::marker::PhantomData;
use std::process::ExitCode;

use bytes::Bytes;
use clap::Parser;
use common::framing::with_codec;
use common::server::{self, ServerOptions};
use mainspring::codec::ByteCodec;
use mainspring::{ConnId, Context, Handler, Timer, To};

/// Sends each frame to every open connection
#[derive(Debug, Parser)]
#[command(name = "broadcast", version)]
struct Options {
    /// Send to all but the frame's sender
    #[arg(long)]
    others: bool,
    #[command(flatten)]
    server: ServerOptions,
}

pub(crate) struct Broadcast<C> {
    pub(crate) others: bool,
    pub(crate) codec: PhantomData<C>,
}

impl<C: ByteCodec> Handler for Broadcast<C> {
    type Codec = C;
    type Session = ();

    // The reactor keeps the list of connections, and looks after the slow ones: who does not read what others send is
    // closed when `--write-limit` bytes wait for it, and nobody else notices.
    fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, message: &[u8]) {
        let to = if self.others { To::AllBut(from) } else { To::All };
        cx.broadcast(to, message);
        // With `--reactors` the room has members in other loops too, to whom a copy goes.
        if cx.reactors() > 1 {
            cx.broadcast_elsewhere(to, &Bytes::copy_from_slice(message));
        }
    }

    fn on_timer(&mut self, cx: &mut Context<Self>, timer: Timer) {
        server::on_timer(cx, timer);
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let others = options.others;
    with_codec!(options.server.framing, |codec| {
        server::run(&options.server, codec, |_| Broadcast { others, codec: PhantomData })
    })
}
