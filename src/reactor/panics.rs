//! The one way to the handler, and what a panic in there does.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use log::error;

use super::live::Phase;
use super::pace::Callback;
use super::{Context, Reactor};
use crate::connection::CloseReason;
use crate::error::DialError;
use crate::handler::Handler;
use crate::id::ConnId;

/// What a panic in the handler does, see [`Builder::on_panic`](super::Builder::on_panic).
///
/// Under `panic = "abort"` there is nothing to choose: the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnPanic {
    /// It goes through [`Reactor::run`] and [`Reactor::turn`], and the reactor, which is dropped by it, closes all sockets.
    /// The default, because a handler that panics half-way may have left its own state in any shape.
    #[default]
    Abort,
    /// It ends the connection whose callback it was, with [`CloseReason::Panicked`]: what is queued for that one is lost,
    /// its `on_close` comes as always, all others are served on. Where there is no connection to blame (`on_start`,
    /// `on_accept`, a timer of no connection, [`Handle::run`](crate::Handle::run), the drop of a codec) the reactor shuts
    /// down in order, as [`Context::shutdown`] does it, and `run` answers [`Error::Panicked`](crate::Error::Panicked).
    ///
    /// The handler is used further after a panic in it. Whether its own state is whole then is for the user to say.
    Isolate,
}

impl<H: Handler> Reactor<H> {
    /// Calls the handler. A panic costs `conn`, or the loop.
    #[inline]
    pub(super) fn call<R>(
        &mut self,
        callback: Callback,
        conn: Option<ConnId>,
        f: impl FnOnce(&mut H, &mut Context<H>) -> R,
    ) -> Option<R> {
        self.cx.enters(callback, conn);
        let result = self.guarded(conn, |reactor| f(&mut reactor.handler, &mut reactor.cx));
        self.cx.leaves();
        self.cx.dispatched(callback, conn);
        result
    }

    /// Does something that calls the handler, once or often. A panic costs `conn`, or the loop.
    #[inline]
    pub(super) fn guarded<R>(&mut self, conn: Option<ConnId>, f: impl FnOnce(&mut Self) -> R) -> Option<R> {
        match self.cx.on_panic {
            OnPanic::Abort => Some(f(self)),
            OnPanic::Isolate => self.isolated(conn, f),
        }
    }

    #[inline(never)]
    fn isolated<R>(&mut self, conn: Option<ConnId>, f: impl FnOnce(&mut Self) -> R) -> Option<R> {
        // Unwind safe: what a callback may leave half done in here is repaired, the rest is the user's own.
        match catch_unwind(AssertUnwindSafe(|| f(self))) {
            Ok(result) => Some(result),
            Err(payload) => {
                self.panicked(conn, payload);
                None
            }
        }
    }

    #[cold]
    fn panicked(&mut self, conn: Option<ConnId>, payload: Box<dyn Any + Send>) {
        let text = text_of(payload.as_ref());
        let cx = &mut self.cx;
        cx.stats.panics += 1;
        cx.current = None;
        cx.leaves();
        cx.repair();
        match conn {
            Some(conn) => {
                if cx.gate.opens("panic", cx.now) {
                    error!("the handler panicked over connection {conn}, which is closed: {text}");
                }
                cx.end(conn, CloseReason::Panicked);
            }
            None => {
                error!("the handler panicked, and the reactor shuts down: {text}");
                cx.panicked.get_or_insert(text);
                cx.drain.requests = cx.drain.requests.max(1);
            }
        }
        // Its drop is a user's code too.
        drop(catch_unwind(AssertUnwindSafe(|| drop(payload))));
    }

    /// A turn was left by a panic outside of any callback: by the drop of a codec or of a message. Every list is made anew from
    /// what the connections themselves know, then the reactor shuts down.
    #[cold]
    pub(super) fn turn_panicked(&mut self, payload: Box<dyn Any + Send>) {
        self.panicked(None, payload);
        let cx = &mut self.cx;
        if cx.read_buffer.is_empty() {
            cx.read_buffer = vec![0; cx.limits.read_buffer];
        }
        for list in [&mut cx.dirty, &mut cx.unfinished, &mut cx.opening, &mut cx.writable, &mut cx.detaching]
        {
            list.clear();
        }
        cx.handshaking.clear();
        let ending: Vec<ConnId> = cx.ending.iter().map(|(conn, _)| *conn).collect();
        let failed: Vec<ConnId> = cx.dials_failed.iter().map(|(conn, _)| *conn).collect();
        for conn in cx.table.all().collect::<Vec<_>>() {
            let Some(live) = cx.table.get_mut(conn) else { continue };
            (live.dirty, live.scheduled, live.writable_due) = (false, false, false);
            match live.phase {
                Phase::Ended if ending.contains(&conn) || failed.contains(&conn) => continue,
                Phase::Ended if live.is_open() => cx.ending.push((conn, CloseReason::Panicked)),
                Phase::Ended => cx.dials_failed.push((conn, DialError::Cancelled)),
                Phase::Opening => cx.opening.push(conn),
                Phase::Open if live.is_detaching() => cx.detaching.push(conn),
                _ => {}
            }
            cx.schedule(conn);
            cx.mark_dirty(conn);
        }
        let lingering: Vec<_> = cx.table.all_lingering().collect();
        cx.unfinished.extend(lingering);
        for listener in cx.listener_ids() {
            cx.listener_is_due_again(listener);
        }
    }
}

impl<H: Handler> Context<H> {
    /// Undoes what an encoder may have left half done when it panicked.
    fn repair(&mut self) {
        let Context { table, pool, encoding, .. } = self;
        if let Some(live) = encoding.take().and_then(|conn| table.get_mut(conn)) {
            live.outbox.undo(pool);
        }
        self.series.forget_half_a_frame();
        if let Some((key, members)) = self.walked_group.take() {
            self.groups.insert(key, members);
        }
    }
}

/// What a panic says.
pub(crate) fn text_of(payload: &(dyn Any + Send)) -> String {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "a panic without a text".to_owned(),
    }
}
