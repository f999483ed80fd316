//! What the user writes.

use crate::address::Address;
use crate::codec::{Codec, FrameError};
use crate::connection::CloseReason;
use crate::error::DialError;
use crate::id::{ConnId, ListenerId, TimerId};
use crate::reactor::{Context, Detached};

/// What arrives for a handler: its codec's message.
pub type Message<'a, H> = <<H as Handler>::Codec as Codec>::Message<'a>;
/// What a handler sends: its codec's outgoing message.
pub type Outgoing<'a, H> = <<H as Handler>::Codec as Codec>::Outgoing<'a>;
/// What a handler's messages are when they cross threads or wait.
pub type Owned<H> = <<H as Handler>::Codec as Codec>::Owned;

/// What a message of a handler holds while it waits.
pub(crate) fn owned_len<H: Handler>(message: &Owned<H>) -> usize {
    H::Codec::owned_len(message)
}

/// Whether a client is let in, see [`Handler::on_accept`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It becomes a connection.
    Admit,
    /// Its socket is closed at once, and it is counted as refused. The client sees the end of the stream, or a reset when
    /// it had already sent something.
    Refuse,
}

/// What becomes of a connection whose peer has ended its input, see [`Handler::on_half_close`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HalfClose {
    /// It ends when everything queued is sent and every answer owed is paid. Right for request and reply.
    CloseWhenFlushed,
    /// It stays open for sending, until the handler closes it or [ends its output](Context::end_output).
    Keep,
}

/// A timer that has come due, see [`Handler::on_timer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timer {
    /// Its name. A timer that fires once is gone by now; one that repeats can be cancelled with it.
    pub id: TimerId,
    /// The key that it was set with.
    pub key: u64,
    /// The connection that it belongs to, which is alive.
    pub conn: Option<ConnId>,
}

/// The program on top of a reactor: what happens when messages come.
///
/// All methods run on the reactor's thread, one at a time, and none runs inside another: what a method asks of the
/// [`Context`] is queued, and acted on after it has returned. Everything of the context may be used from inside any method
/// for any connection, the one it is about included. A method must not block: while it runs, nothing else does.
///
/// For one connection the order is: [`on_open`](Handler::on_open), any number of [`on_message`](Handler::on_message) and
/// [`on_writable`](Handler::on_writable), perhaps [`on_half_close`](Handler::on_half_close) or
/// [`on_bad_frame`](Handler::on_bad_frame) after the last message, then [`on_close`](Handler::on_close), once, and nothing
/// after it.
///
/// A panic in a method goes through [`Reactor::run`](crate::Reactor::run) and closes all sockets with the reactor; or it ends
/// its connection alone, see [`OnPanic`](crate::OnPanic).
pub trait Handler: Sized {
    /// The framing of all connections. Different framings in one reactor are an enum of codecs, see [`Codec`].
    type Codec: Codec;
    /// What the handler keeps for each connection. Created when the connection is, given back in
    /// [`on_close`](Handler::on_close).
    type Session: Default;

    /// The loop is about to take its first turn.
    fn on_start(&mut self, cx: &mut Context<Self>) {
        let _ = cx;
    }

    /// A client has connected and is not a connection yet: let it in, or not. By default everyone is let in.
    fn on_accept(&mut self, cx: &mut Context<Self>, peer: &Address, listener: ListenerId) -> Admission {
        let _ = (cx, peer, listener);
        Admission::Admit
    }

    /// The machine has no descriptors or no memory for one more client of `listener`: once an episode, which lasts until its queue
    /// was seen empty. The listener pauses and comes back by itself, with pauses from 10 ms to 1 s; clients that have waited for
    /// one are turned away. The place to close what is not needed.
    fn on_overload(&mut self, cx: &mut Context<Self>, listener: ListenerId, error: &std::io::Error) {
        let _ = (cx, listener, error);
    }

    /// A connection is open: a client was let in, a dial succeeded, or a socket was adopted.
    fn on_open(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        let _ = (cx, conn);
    }

    /// A whole message has come. An empty one is a message like any other, and never means that the peer is gone.
    ///
    /// The message is lent from the buffer it was read into.
    fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, message: Message<'_, Self>);

    /// The peer of `conn` has broken the framing, or has sent a frame that is not a message: the connection is about to be
    /// closed for that, and nothing more of it is delivered. The place for a last word: what is sent here goes behind the
    /// replies to what came before. By default nothing is said.
    ///
    /// The reason in [`on_close`](Handler::on_close) is the error, unless the connection is closed or aborted in here. Not
    /// called when the peer ends inside a frame, which is an end of its input.
    fn on_bad_frame(&mut self, cx: &mut Context<Self>, conn: ConnId, error: &FrameError) {
        let _ = (cx, conn, error);
    }

    /// The outbox of `conn` was above the high mark and has fallen to the low mark. Once for each crossing.
    fn on_writable(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        let _ = (cx, conn);
    }

    /// Messages for `conn` were dropped, because its policy is [`Overflow::Tell`](crate::Overflow::Tell) and more than the write
    /// limit waits for it. Once until its outbox has fallen to the low mark; [`Context::missed`] says how many.
    fn on_overflow(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        let _ = (cx, conn);
    }

    /// A timer has come due.
    fn on_timer(&mut self, cx: &mut Context<Self>, timer: Timer) {
        let _ = (cx, timer);
    }

    /// The peer of `conn` has ended its input; all its messages were delivered. By default the connection ends when all
    /// that is queued and owed has been sent.
    fn on_half_close(&mut self, cx: &mut Context<Self>, conn: ConnId) -> HalfClose {
        let _ = (cx, conn);
        HalfClose::CloseWhenFlushed
    }

    /// A connection has ended: exactly once for each that was opened. Its session comes back; `conn` still answers
    /// [`Context::peer_addr`], and what is sent to it is dropped.
    fn on_close(
        &mut self,
        cx: &mut Context<Self>,
        conn: ConnId,
        reason: CloseReason,
        session: Self::Session,
    ) {
        let _ = (cx, conn, reason, session);
    }

    /// A dial has failed: exactly once for each that did not open, in the place of `on_open` and `on_close`.
    ///
    /// Here and in [`on_close`](Handler::on_close), [`Context::successor`] tells the name of the connection that is dialed in the
    /// place of this one, if it was dialed with a [`Reconnect`](crate::Reconnect) policy.
    fn on_dial_failed(
        &mut self,
        cx: &mut Context<Self>,
        conn: ConnId,
        error: DialError,
        session: Self::Session,
    ) {
        let _ = (cx, conn, error, session);
    }

    /// The socket that [`Context::detach`] asked for. `on_close` follows, with [`CloseReason::Detached`].
    fn on_detach(&mut self, cx: &mut Context<Self>, conn: ConnId, detached: Detached) {
        let _ = (cx, conn, detached);
    }

    /// The reactor is about to shut down, and nothing has ended yet: the place for a last word to connections.
    fn on_shutdown(&mut self, cx: &mut Context<Self>) {
        let _ = cx;
    }
}
