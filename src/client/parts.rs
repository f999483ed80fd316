//! A client taken apart: its socket for somebody else, or two halves for the threads of a channel.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::blocking::Client;
use super::error::{Error, Step};
use super::incoming::Incoming;
use super::wire::{Patience, Tcp};
use crate::address::Address;
use crate::codec::{Codec, FrameError};
use crate::net::AnyStream;

/// What a client was made of, see [`Client::into_std`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Parts {
    /// The socket, blocking and without time limits.
    pub stream: AnyStream,
    /// Bytes that were read and not delivered: they come before what the socket still has.
    pub undelivered: Vec<u8>,
    /// The rest of a message whose sending ran out of time: it goes before what is written now.
    pub unsent: Vec<u8>,
    /// The peer.
    pub peer: Address,
}

/// A client cut in two, for a channel.
pub(super) struct Halves<C> {
    pub(super) reading: ReadingHalf<C>,
    pub(super) writing: WritingHalf<C>,
}

/// What receives. The codec is the client's own: it may have looked at half a message.
pub(super) struct ReadingHalf<C> {
    pub(super) tcp: Tcp,
    pub(super) codec: C,
    pub(super) incoming: Incoming,
    pub(super) ended: bool,
    pub(super) bad_frame: Option<FrameError>,
    pub(super) since: Patience,
}

/// What sends, with a clone of the codec.
pub(super) struct WritingHalf<C> {
    pub(super) tcp: Tcp,
    pub(super) stream: Arc<AnyStream>,
    pub(super) codec: C,
    pub(super) unsent: Vec<u8>,
    pub(super) broken: Option<io::Error>,
    pub(super) finished: bool,
    pub(super) timeout: Option<Duration>,
}

impl<C: Codec> Client<C> {
    /// Hands out the socket, with what was read and not delivered, and what was begun and not sent.
    ///
    /// # Errors
    /// At [`Step::Connect`]: the socket cannot be set back to blocking; or it speaks TLS, and would be of no use to others.
    pub fn into_std(self) -> Result<Parts, Error> {
        let Client { tcp, peer, incoming, outgoing, .. } = self;
        if tcp.is_sealed() {
            let error = io::Error::new(
                io::ErrorKind::Unsupported,
                "a socket under TLS is of no use without its session",
            );
            return Err(Error::io(Step::Connect, peer, Duration::ZERO, error));
        }
        match tcp.into_std() {
            Ok(stream) => Ok(Parts {
                stream,
                undelivered: incoming.rest().to_vec(),
                unsent: outgoing.rest().to_vec(),
                peer,
            }),
            Err(error) => Err(Error::io(Step::Connect, peer, Duration::ZERO, error)),
        }
    }

    /// For two threads, one that receives and one that sends.
    pub(super) fn into_halves(self) -> io::Result<Halves<C>> {
        let Client {
            tcp, codec, incoming, outgoing, ended, bad_frame, broken, finished, write_timeout, ..
        } = self;
        let (reading, writing, stream) = tcp.split()?;
        Ok(Halves {
            writing: WritingHalf {
                tcp: writing,
                stream,
                codec: codec.clone(),
                unsent: outgoing.rest().to_vec(),
                broken,
                finished,
                timeout: write_timeout,
            },
            reading: ReadingHalf {
                tcp: reading,
                codec,
                incoming,
                ended,
                bad_frame,
                since: Patience::new(None),
            },
        })
    }
}
