//! The peers: an echo server and a broadcast server on each of three libraries, written the way that serves the library best.
//!
//! All speak the framing of [`crate::frame`], set TCP_NODELAY, refuse frames past the same limit as mainspring's examples, write
//! answers to what one read brought in one go, and print `listening on ADDRESS` once they can be dialled. None has idle
//! deadlines, limits of memory, or an orderly end: mainspring's examples are measured with all of theirs.

mod bare_mio;
mod message_io;
mod tokio;

use std::io::{self, Write};
use std::net::SocketAddr;

use clap::ValueEnum;

use crate::scenario::Job;

/// Bytes that may wait for one connection before a server gives it up, as in mainspring's examples.
const WRITE_LIMIT: usize = 16 << 20;

/// A library to be measured against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// A hand-written loop on mio
    Mio,
    /// tokio with one thread, and tokio-util's LengthDelimitedCodec
    Tokio,
    /// message-io on its transport Tcp
    MessageIo,
}

impl Peer {
    pub(crate) const ALL: [Peer; 3] = [Peer::Mio, Peer::Tokio, Peer::MessageIo];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Peer::Mio => "mio",
            Peer::Tokio => "tokio",
            Peer::MessageIo => "message-io",
        }
    }

    pub(crate) fn serve(self, job: Job, listen: SocketAddr) -> io::Result<()> {
        match self {
            Peer::Mio => bare_mio::serve(job, listen),
            Peer::Tokio => tokio::serve(job, listen),
            Peer::MessageIo => message_io::serve(job, listen),
        }
    }
}

fn announce(address: SocketAddr) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "listening on {address}")?;
    out.flush()
}
