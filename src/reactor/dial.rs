//! Connections that begin on this side: dials, and sockets that come from elsewhere or go there.

use super::live::{Live, Phase};
use super::pace::Callback;
use super::{Context, Reactor};
use crate::address::Address;
use crate::connection::Halt;
use crate::dial::Dial;
use crate::error::Error;
use crate::handler::Handler;
use crate::id::ConnId;
use crate::net::{AnyStream, SocketOptions, Stream};

/// A socket that was handed out by [`Context::detach`] or [`Reactor::into_std`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Detached {
    /// The socket, in non-blocking mode.
    pub stream: AnyStream,
    /// Bytes that were read and not delivered: they come before what the socket still has.
    pub undelivered: Vec<u8>,
    /// Bytes that were sent and not yet written: they go before what is written now.
    pub unsent: Vec<u8>,
    /// The peer.
    pub peer: Address,
}

impl<H: Handler> Context<H> {
    /// Connects to what [`Dial`] can be made of: an address, several, or text such as `192.0.2.1:7000`, `HOST:PORT` or `unix:PATH`. The
    /// answer is `on_open` or `on_dial_failed`, exactly one of them and never from inside this call. The name is that of the
    /// connection to come, whichever address it comes to: it can be sent to, closed, and given a session already; what is
    /// sent waits.
    ///
    /// A name is looked up beside the loop, on up to four threads of the reactor's own, which are there only while there are
    /// names to look up. Every address (64 at most) is tried, those of both families by turns: the next one when the last has
    /// not answered within 250 ms, or at once when one has failed (RFC 8305). The first to answer is taken, the others are
    /// dropped. Without an answer the dial ends after [`Limits::dial_timeout`](crate::Limits::dial_timeout), looking up
    /// included. A failure names each address and what has become of it.
    ///
    /// Do not wait inside a callback for the connection: it is this thread that has to finish it.
    ///
    /// While the reactor shuts down nothing is dialed: the name is that of a connection that is gone, and no callback comes.
    pub fn connect(&mut self, to: impl Into<Dial>, codec: H::Codec) -> ConnId {
        self.dial(to.into(), codec)
    }

    /// As [`connect`](Context::connect), with options for the sockets, see [`Dial::options`].
    pub fn connect_with(&mut self, to: impl Into<Dial>, codec: H::Codec, options: &SocketOptions) -> ConnId {
        self.dial(to.into().options(*options), codec)
    }

    /// Takes in a connected socket that was made elsewhere, a TCP or a Unix one. `on_open` comes in this turn or the next; it counts as
    /// accepted. One that is closed before is told of as a dial that failed. The socket is made non-blocking and gets the
    /// options of dialed ones.
    ///
    /// # Errors
    /// The socket is not connected, cannot be made non-blocking, or cannot be waited for.
    pub fn adopt(&mut self, stream: impl Into<AnyStream>, codec: H::Codec) -> Result<ConnId, Error> {
        let options = self.dial_options;
        self.adopt_stream(Stream::from_std(stream.into(), &options).map_err(Error::Adopt)?, codec)
    }

    pub(super) fn adopt_stream(&mut self, stream: Stream, codec: H::Codec) -> Result<ConnId, Error> {
        if self.is_shutting_down() {
            return Err(Context::<H>::shutting_down_error());
        }
        let peer = stream.peer_address().map_err(Error::Adopt)?;
        let live = Live::new(stream, peer, codec, Phase::Opening, self.tick);
        let conn = self.insert(live).map_err(Error::Adopt)?;
        self.opening.push(conn);
        Ok(conn)
    }
}

impl<H: Handler> Reactor<H> {
    /// Takes the socket of `conn` out of the reactor, now: between turns nothing is in the middle of anything. The handler
    /// gets `on_close` with [`CloseReason::Detached`](crate::CloseReason::Detached). `None` when the connection is not open, or under TLS.
    pub fn into_std(&mut self, conn: ConnId) -> Option<Detached> {
        let live = self.cx.table.get(conn)?;
        if live.phase != Phase::Open || live.halts.contains(Halt::Phase) || live.stream.is_sealed() {
            return None;
        }
        let (detached, session) = self.cx.take_out(conn)?;
        if let Some(session) = session {
            self.call(Callback::Close, Some(conn), |handler, cx| {
                handler.on_close(cx, conn, crate::CloseReason::Detached, session);
            });
        }
        self.cx.table.remove(conn);
        detached
    }
}
