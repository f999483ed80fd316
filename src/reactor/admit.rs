//! One client: admitted and opened, or turned away. What fails here costs this client alone.

use std::io;

use log::debug;

use super::live::{Header, Live, Phase};
use super::pace::Callback;
use super::{Context, Reactor};
use crate::address::Address;
use crate::handler::{Admission, Handler};
use crate::id::{ConnId, ListenerId};
use crate::net::Stream;

impl<H: Handler> Context<H> {
    /// A client is turned away; its socket is closed by the drop of it.
    pub(super) fn refuse(&mut self, peer: &Address, why: &str) {
        self.stats.refused += 1;
        debug!("refused {peer}: {why}");
    }

    /// Whether there is no place for a client, wherever it comes from.
    pub(super) fn is_full(&self) -> bool {
        self.connected() + self.greeted() >= self.connections_max || self.is_over_memory()
    }

    /// Why there is no place for one more client, if so.
    pub(super) fn full_for(&self, listener: ListenerId, peer: &Address) -> Option<&'static str> {
        let limits = &self.limits;
        if self.connected() + self.greeted() >= self.connections_max {
            return Some("there are as many connections as may be");
        }
        let entry =
            self.listeners.get(listener.slot as usize).filter(|l| l.generation == listener.generation);
        if entry.is_some_and(|l| l.connections >= l.connections_max) {
            return Some("its listener has as many connections as may be");
        }
        if limits.connections_per_source.is_some_and(|max| self.sources.count(peer) >= max) {
            return Some("its address has as many connections as may be");
        }
        self.is_over_memory().then_some("more is held than the memory limit")
    }

    /// Counts an accepted connection in, or out again, where that is limited.
    pub(super) fn count_accepted(&mut self, conn: ConnId, comes: bool) {
        let Context { table, listeners, sources, limits, seat, .. } = self;
        let Some(live) = table.get(conn) else { return };
        let Some(id) = live.listener else { return };
        if !comes {
            if let Some(seat) = seat {
                seat.free_place();
            }
        }
        if limits.connections_per_source.is_some() {
            if comes { sources.add(&live.peer) } else { sources.remove(&live.peer) }
        }
        if let Some(entry) = listeners.get_mut(id.slot as usize).filter(|e| e.generation == id.generation) {
            if comes { entry.connections += 1 } else { entry.connections -= 1 }
        }
    }

    /// Connections that count: those that have ended and wait for the end of the turn do not.
    fn connected(&self) -> usize {
        self.table.live() - self.ending.len() - self.dials_failed.len()
    }

    /// Clients that have not said yet who they are.
    fn greeted(&self) -> usize {
        #[cfg(feature = "proxy-protocol")]
        return self.greetings.len();
        #[cfg(not(feature = "proxy-protocol"))]
        0
    }
}

impl<H: Handler> Reactor<H> {
    /// A client was accepted. Where its proxy is to say first who it is, that is waited for.
    pub(super) fn meet(&mut self, listener: ListenerId, stream: io::Result<Stream>, peer: Address) {
        #[cfg(feature = "proxy-protocol")]
        if let Some(wanted) = self.cx.wanted_of(listener) {
            return match stream {
                Ok(stream) => self.greet(listener, &wanted, stream, peer),
                Err(_) => self.cx.refuse(&peer, "it was lost before it was open"),
            };
        }
        self.take_in(listener, stream, peer, None);
    }

    /// It is known who a client is.
    pub(super) fn take_in(
        &mut self,
        listener: ListenerId,
        stream: io::Result<Stream>,
        peer: Address,
        header: Header,
    ) {
        let hands_out = self.cx.hands_out(listener);
        // Of clients that are handed out, those judge who get them.
        let full = if hands_out { None } else { self.cx.full_for(listener, &peer) };
        if let Some(why) = full {
            return self.cx.refuse(&peer, why);
        }
        let admission =
            self.call(Callback::Accept, None, |handler, cx| handler.on_accept(cx, &peer, listener));
        if admission != Some(Admission::Admit) {
            return self.cx.refuse(&peer, "by the handler");
        }
        let Some(codec) = self.cx.codec_of_listener(listener) else {
            return self.cx.refuse(&peer, "its listener is gone");
        };
        if hands_out {
            self.hand_out(listener, stream, peer, codec, header);
        } else if self.cx.take_place() {
            self.settle(listener, stream, peer, codec, header);
        } else {
            self.cx.refuse(&peer, super::seat::POOL_IS_FULL);
        }
    }

    /// A client that was admitted, and has its place in the pool, becomes a connection.
    pub(super) fn settle(
        &mut self,
        listener: ListenerId,
        stream: io::Result<Stream>,
        peer: Address,
        codec: H::Codec,
        header: Header,
    ) {
        let now = self.cx.tick;
        let inserted = stream.and_then(|stream| self.cx.secure(listener, stream)).and_then(|stream| {
            let phase = if stream.is_sealed() { Phase::Handshaking } else { Phase::Opening };
            let mut live = Live::new(stream, peer, codec, phase, now);
            live.listener = Some(listener);
            if header.is_some() {
                live.extras().header = header;
            }
            self.cx.insert(live)
        });
        match inserted {
            Ok(conn) => {
                self.cx.count_accepted(conn, true);
                if self.cx.table.get(conn).is_some_and(|live| live.phase == Phase::Handshaking) {
                    return self.cx.begin_handshake(conn);
                }
                self.open(conn);
            }
            Err(error) => {
                self.cx.free_place();
                self.cx.stats.refused += 1;
                debug!("a client was lost before it was open: {error}");
            }
        }
    }
}
