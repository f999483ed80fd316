//! TLS handshakes: between a socket that is connected and a connection that is open. Nobody is told of it before it is done.
//!
//! They have a budget of their own in each turn and come after all connections that are open, so that a storm of them costs
//! those no more than the budget.

use super::live::Phase;
use super::timers::Deadline;
use super::{Context, Listening, Reactor};
use crate::error::DialError;
use crate::handler::Handler;
use crate::id::{ConnId, ListenerId};
use crate::net::{Handshake, ListenOptions, Stream};
use crate::time::deadline;

impl<H: Handler> Context<H> {
    /// Takes over what the options say of TLS.
    pub(super) fn secure_listener(&mut self, listening: &Listening, options: &ListenOptions) {
        #[cfg(feature = "tls")]
        if let Some(entry) = self.listener_mut(listening.id) {
            entry.acceptor.clone_from(&options.tls);
        }
        #[cfg(not(feature = "tls"))]
        let _ = (listening, options);
    }

    /// Puts a client's stream under TLS, if its listener speaks it.
    pub(super) fn secure(&mut self, listener: ListenerId, stream: Stream) -> std::io::Result<Stream> {
        #[cfg(feature = "tls")]
        if let Some(acceptor) = self.listener_mut(listener).and_then(|entry| entry.acceptor.as_ref()) {
            return stream.accepting(acceptor);
        }
        let _ = listener;
        Ok(stream)
    }

    /// A client was let in, and has to shake hands.
    pub(super) fn begin_handshake(&mut self, conn: ConnId) {
        self.watch(conn, self.limits.handshake_timeout, Deadline::Handshake(conn));
        self.handshake_is_due(conn);
    }

    /// Something has come, or there is room for what is to be said: it goes on in its turn.
    pub(super) fn handshake_is_due(&mut self, conn: ConnId) {
        if let Some(live) = self.table.get_mut(conn) {
            if !live.scheduled {
                live.scheduled = true;
                self.handshaking.push_back(conn);
            }
        }
    }

    /// Whether there may be something that was not looked at: then it is we who are late.
    pub(super) fn handshake_may_go_on(&self, conn: ConnId) -> bool {
        let shaking = self.table.get(conn).filter(|live| live.phase == Phase::Handshaking);
        shaking.is_some_and(|live| live.scheduled || self.batch_was_full)
    }

    pub(super) fn handshake_timed_out(&mut self, conn: ConnId) {
        let error = std::io::Error::new(std::io::ErrorKind::TimedOut, "no handshake in time");
        self.handshake_failed(conn, error);
    }

    /// No TLS could be agreed on.
    fn handshake_failed(&mut self, conn: ConnId, error: std::io::Error) {
        let Some(live) = self.table.get(conn) else { return };
        let address = live.peer.clone();
        self.fail_dial(conn, DialError::Tls { address, error });
    }

    /// A client with whom no TLS could be agreed on is turned away: nobody was told of it, and nobody is told now. Its socket
    /// lingers, so that the alert that says why is not eaten by a reset.
    pub(super) fn turned_away(&mut self, conn: ConnId, error: &DialError) {
        let Some(live) = self.table.get(conn) else { return };
        self.stats.handshakes_failed += 1;
        let peer = live.peer.clone();
        let spoken =
            matches!(error, DialError::Tls { error, .. } if error.kind() == std::io::ErrorKind::InvalidData);
        self.refuse(&peer, &error.to_string());
        let lingers = spoken && self.limits.lingering_max > 0 && !self.drain.over;
        let until = lingers.then(|| deadline(self.now, self.limits.linger_timeout));
        self.retire(conn, false, until);
        self.retry_paused_listeners();
    }
}

impl<H: Handler> Reactor<H> {
    /// Takes those further that may go on, as far as the budget of a turn goes.
    pub(super) fn go_on_with_handshakes(&mut self) {
        let mut budget = self.cx.limits.handshakes_per_turn;
        for _ in 0..self.cx.handshaking.len() {
            let Some(conn) = self.cx.handshaking.pop_front() else { return };
            if self.shake_hands(conn) {
                budget -= 1;
                if budget == 0 {
                    return;
                }
            }
        }
    }

    /// Takes one further. Returns whether that was work.
    fn shake_hands(&mut self, conn: ConnId) -> bool {
        let Some(live) = self.cx.table.get_mut(conn) else { return false };
        if live.phase != Phase::Handshaking {
            return false;
        }
        live.scheduled = false;
        match live.stream.shake_hands() {
            Handshake::Pending { worked, more } => {
                if more {
                    self.cx.handshake_is_due(conn);
                }
                // What it holds counts, though it is no connection yet.
                self.cx.account(conn);
                return worked;
            }
            Handshake::Failed(error) => self.cx.handshake_failed(conn, error),
            Handshake::Done => {
                live.phase = Phase::Opening;
                // There may be plain text already, and no event will tell.
                (live.readable, live.writable) = (true, true);
                if let Some(key) = live.watch.take() {
                    self.cx.timers.cancel(key);
                }
                self.open(conn);
                self.cx.account(conn);
                // Tickets may wait to be written.
                self.cx.mark_dirty(conn);
            }
        }
        true
    }

    /// A dial with TLS is connected to `address`, and has to shake hands in what is left of its time.
    #[cfg(feature = "tls")]
    pub(super) fn dial_is_connected(
        &mut self,
        conn: ConnId,
        stream: Stream,
        address: crate::address::Address,
        read_closed: bool,
        secure: &crate::dial::Secure,
    ) {
        let stream = secure.connect(stream, &address);
        let Some(live) = self.cx.table.get_mut(conn) else { return };
        (live.phase, live.peer) = (Phase::Handshaking, address);
        live.read_closed |= read_closed;
        match stream {
            Ok(stream) => {
                live.stream = stream;
                self.cx.handshake_is_due(conn);
            }
            Err(error) => self.cx.handshake_failed(conn, error),
        }
    }
}

#[cfg(feature = "tls")]
impl<H: Handler> Context<H> {
    /// What was agreed with the peer of `conn` by TLS: the version, the protocol (ALPN), the name that was asked for (SNI), the
    /// peer's certificates. `None` for a connection without TLS, one that is not open yet, and the gone.
    pub fn tls(&self, conn: ConnId) -> Option<crate::tls::TlsInfo<'_>> {
        self.table.get(conn).filter(|live| live.phase > Phase::Handshaking)?.stream.tls()
    }
}
