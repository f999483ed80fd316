//! What is made for a connection elsewhere: what a pool of workers asks of the loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use log::warn;

use super::live::Phase;
use super::pace::Callback;
use super::send::{DropReason, Sent};
use super::{Context, Reactor};
use crate::connection::{CloseReason, Halt};
use crate::handle::{Collect, Handle};
use crate::handler::{Handler, Owned};
use crate::id::ConnId;

/// Tells other threads whether a connection still takes what they make for it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Life(Arc<AtomicBool>);

impl Life {
    pub(crate) fn is_over(&self) -> bool {
        // It says nothing of other memory, and one that is seen late costs a job for nothing.
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn end(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl<H: Handler> Reactor<H> {
    /// Hands over the results of jobs that have ended. Each is a callback of its connection.
    pub(super) fn collect(&mut self, from: Arc<dyn Collect<H>>) {
        from.begin();
        while let Some(conn) = from.next() {
            self.call(Callback::Job, Some(conn), |handler, cx| from.deliver(conn, handler, cx));
        }
        from.finish(&mut self.cx);
    }
}

impl<H: Handler> Context<H> {
    /// Whether that handle is one of this reactor's.
    pub(crate) fn owns(&self, handle: &Handle<H>) -> bool {
        handle.is_of(&self.queue)
    }

    /// The life of `conn`, as long as it takes messages to send.
    pub(crate) fn life(&mut self, conn: ConnId) -> Option<Life> {
        let live = self.table.get_mut(conn).filter(|live| live.phase < Phase::Closing)?;
        Some(live.extras().life.get_or_insert_default().clone())
    }

    /// Whether a callback of `conn` runs.
    pub(crate) fn is_own(&self, conn: ConnId) -> bool {
        self.current == Some(conn)
    }

    /// The length of the message of `conn` that is being handed over; zero when none is.
    pub(crate) fn message_len(&self, conn: ConnId) -> usize {
        if self.is_own(conn) { self.frame_len } else { 0 }
    }

    /// Whether a shutdown has begun: what is read now is the last.
    pub(crate) fn is_draining(&self) -> bool {
        self.drain.has_begun()
    }

    /// Hands over no further message of `conn` until everyone who holds it has let go of it. Beside the handler's own pause.
    pub(crate) fn hold(&mut self, conn: ConnId) {
        let Some(live) = self.table.get_mut(conn) else { return };
        live.extras().holds += 1;
        live.halts.set(Halt::Workers);
    }

    /// Lets go of one that was held.
    pub(crate) fn let_go(&mut self, conn: ConnId) {
        let Some(live) = self.table.get_mut(conn) else { return };
        // Its silence was ours.
        live.active = self.tick;
        let extras = live.extras();
        extras.holds = extras.holds.saturating_sub(1);
        if extras.holds == 0 && live.halts.lift(Halt::Workers) {
            self.schedule(conn);
        }
    }

    /// Runs `f` as if in a callback of `conn`: what is sent to it in there is its own.
    pub(crate) fn as_own<T>(&mut self, conn: ConnId, f: impl FnOnce(&mut Context<H>) -> T) -> T {
        let outer = self.current.replace(conn);
        let result = f(self);
        self.current = outer;
        result
    }

    /// Sends an answer to `conn`. One that its framing cannot say ends it: those that follow would be taken for it.
    pub(crate) fn send_answer(&mut self, conn: ConnId, answer: &Owned<H>) {
        let sent = self.as_own(conn, |cx| cx.send_owned(conn, answer));
        if let Sent::Dropped(DropReason::Refused(error)) = sent {
            if self.gate.opens("answer", self.now) {
                warn!("connection {conn} is closed: its framing cannot say an answer: {error}");
            }
            self.close(conn);
        }
    }

    /// A message was not taken behind answers to come: there are too many.
    pub(crate) fn dropped_behind(&mut self) -> Sent {
        self.dropped(DropReason::Behind)
    }

    /// What was done for `conn` has panicked: it ends, after the answers before.
    pub(crate) fn close_panicked(&mut self, conn: ConnId) {
        self.begin_close(conn, CloseReason::Panicked);
    }
}
