//! Connections that begin on this side: dials, and sockets that come from elsewhere or go there.

use log::debug;

use super::live::{Live, Phase};
use super::pace::Callback;
use super::timers::Deadline;
use super::{Context, Reactor};
use crate::address::Address;
use crate::connection::Halt;
use crate::error::{DialError, Error};
use crate::handler::Handler;
use crate::id::ConnId;
use crate::net::{Dialed, SocketOptions, Stream};

/// A socket that was handed out by [`Context::detach`] or [`Reactor::into_std`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Detached {
    /// The socket, in non-blocking mode.
    pub stream: std::net::TcpStream,
    /// Bytes that were read and not delivered: they come before what the socket still has.
    pub undelivered: Vec<u8>,
    /// Bytes that were sent and not yet written: they go before what is written now.
    pub unsent: Vec<u8>,
    /// The peer.
    pub peer: Address,
}

impl<H: Handler> Context<H> {
    /// Connects to `address`. The answer is `on_open` or `on_dial_failed`, exactly one of them and never from inside this
    /// call. The name is that of the connection to come: it can be sent to, closed, and given a session already; what is
    /// waits. Without an answer the dial ends after [`Limits::dial_timeout`](crate::Limits::dial_timeout).
    ///
    /// While the reactor shuts down nothing is dialed: the name is that of a connection that is gone, and no callback comes.
    pub fn connect(&mut self, address: impl Into<Address>, codec: H::Codec) -> ConnId {
        let options = self.dial_options;
        self.connect_with(address, codec, &options)
    }

    /// As [`connect`](Context::connect), with options for the socket. They are set after the connect has begun, so that
    /// buffer sizes come too late to change the window scale.
    pub fn connect_with(
        &mut self,
        address: impl Into<Address>,
        codec: H::Codec,
        options: &SocketOptions,
    ) -> ConnId {
        // A handler that answers a failed dial with the next one would keep the shutdown from its end.
        if self.is_shutting_down() {
            return self.table.dead_id();
        }
        let address = address.into();
        let now = self.tick;
        let (stream, early) = match Stream::dial(&address, options) {
            Ok(stream) => (stream, None),
            Err(error) => (Stream::Nothing, Some(DialError::Io(error))),
        };
        let live = Live::new(stream, address, codec, Phase::Dialing, now);
        let within = self.limits.dial_timeout;
        let (conn, early) = self.insert_dial(live, early);
        match early {
            Some(error) => self.fail_dial(conn, error),
            None => self.watch(conn, within, Deadline::Dial(conn)),
        }
        conn
    }

    /// A dial has a name even when it fails at once.
    fn insert_dial(
        &mut self,
        mut live: Live<H::Codec, H::Session>,
        early: Option<DialError>,
    ) -> (ConnId, Option<DialError>) {
        live.overflow = self.limits.overflow;
        let next = self.table.next_id();
        let early = early.or_else(|| {
            self.poller.add_stream(&mut live.stream, next.slot, next.generation).map_err(DialError::Io).err()
        });
        (self.table.insert(live), early)
    }

    /// Takes in a connected socket that was made elsewhere. `on_open` comes in this turn or the next; it counts as
    /// accepted. One that is closed before is told of as a dial that failed. The socket is made non-blocking and gets the
    /// options of dialed ones.
    ///
    /// # Errors
    /// The socket is not connected, cannot be made non-blocking, or cannot be waited for.
    pub fn adopt(&mut self, stream: std::net::TcpStream, codec: H::Codec) -> Result<ConnId, Error> {
        let options = self.dial_options;
        self.adopt_stream(Stream::from_std(stream, &options).map_err(Error::Adopt)?, codec)
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
    /// An event for a dial: whether it has succeeded.
    pub(super) fn dial_answered(&mut self, conn: ConnId) {
        let Some(live) = self.cx.table.get_mut(conn) else { return };
        match live.stream.dialed() {
            Dialed::Pending => {}
            Dialed::Open => {
                live.phase = Phase::Opening;
                live.writable = true;
                live.readable = true;
                let watch = live.watch.take();
                if let Some(key) = watch {
                    self.cx.timers.cancel(key);
                }
                self.open(conn);
            }
            Dialed::Failed(error) => {
                debug!("dial {conn}: {error}");
                self.cx.fail_dial(conn, DialError::Io(error));
            }
        }
    }

    /// Takes the socket of `conn` out of the reactor, now: between turns nothing is in the middle of anything. The handler
    /// gets `on_close` with [`CloseReason::Detached`](crate::CloseReason::Detached). `None` when the connection is not open.
    pub fn into_std(&mut self, conn: ConnId) -> Option<Detached> {
        let live = self.cx.table.get(conn)?;
        if live.phase != Phase::Open || live.halts.contains(Halt::Phase) {
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
