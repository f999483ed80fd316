//! Many reactors as other threads see them.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use super::{Handle, HandleError, LastStats, Team};
use crate::handler::{Handler, Owned};
use crate::id::PoolConnId;
use crate::net::AnyStream;
use crate::reactor::To;
use crate::stats::Stats;

/// Whom a broadcast to all reactors of a pool goes to, see [`PoolHandle::broadcast`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolTo {
    /// Every open connection.
    All,
    /// Every open connection but this one.
    AllBut(PoolConnId),
    /// The members of a group, in every reactor.
    Group(u64),
    /// The members of a group but this one.
    GroupBut(u64, PoolConnId),
}

impl PoolTo {
    /// As the reactor with this index has to see it.
    fn seen_by(self, index: usize) -> To<'static> {
        match self {
            PoolTo::AllBut(but) if but.reactor == index => To::AllBut(but.conn),
            PoolTo::GroupBut(key, but) if but.reactor == index => To::GroupBut(key, but.conn),
            PoolTo::All | PoolTo::AllBut(_) => To::All,
            PoolTo::Group(key) | PoolTo::GroupBut(key, _) => To::Group(key),
        }
    }
}

/// A pool of reactors as other threads see it, and as one of its handlers does ([`Context::pool`]). Cheap to clone, and may
/// outlive the pool.
///
/// It is a [`Handle`] for each reactor, and each command goes to the reactor that it is for: there is no queue that they
/// share. What is said of [`Handle`] holds here too.
///
/// [`Context::pool`]: crate::Context::pool
pub struct PoolHandle<H: Handler> {
    team: Arc<Team<H>>,
}

impl<H: Handler> Clone for PoolHandle<H> {
    fn clone(&self) -> PoolHandle<H> {
        PoolHandle { team: Arc::clone(&self.team) }
    }
}

impl<H: Handler> fmt::Debug for PoolHandle<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolHandle").field("reactors", &self.reactors()).finish_non_exhaustive()
    }
}

impl<H: Handler> PoolHandle<H> {
    pub(crate) fn new(team: Arc<Team<H>>) -> PoolHandle<H> {
        PoolHandle { team }
    }

    /// How many reactors there are.
    pub fn reactors(&self) -> usize {
        self.team.len()
    }

    /// The handle of one reactor. `None` when there are not so many.
    ///
    /// It knows its own reactor's thread and not those of the others: on these its methods that wait do wait, and two
    /// reactors that wait for room with each other wait for ever. The `try_` forms, and what this handle has itself, do not.
    pub fn of(&self, reactor: usize) -> Option<&Handle<H>> {
        self.team.handle(reactor)
    }

    /// Sends a message to a connection. Waits while its reactor's queue is full.
    ///
    /// # Errors
    /// The reactor is gone, or there is none of that index. On a thread of the pool, where to wait for each other could be
    /// for ever, a full queue is [`HandleError::WouldDeadlock`]; [`Context::send_across`](crate::Context::send_across) is
    /// for there. The message comes back.
    pub fn send(&self, to: PoolConnId, message: Owned<H>) -> Result<(), HandleError<Owned<H>>> {
        let Some(handle) = self.of(to.reactor) else { return Err(HandleError::Gone(message)) };
        match handle.try_send(to.conn, message) {
            Err(HandleError::Full(message)) if self.is_ours() => Err(HandleError::WouldDeadlock(message)),
            Err(HandleError::Full(message)) => handle.send(to.conn, message),
            sent => sent,
        }
    }

    /// As [`send`](PoolHandle::send), and never waits.
    ///
    /// # Errors
    /// The queue is full, or the reactor is gone. The message comes back.
    pub fn try_send(&self, to: PoolConnId, message: Owned<H>) -> Result<(), HandleError<Owned<H>>> {
        match self.of(to.reactor) {
            Some(handle) => handle.try_send(to.conn, message),
            None => Err(HandleError::Gone(message)),
        }
    }

    /// Sends a message to connections of all reactors. Waits while a queue is full. A reactor that is gone has none, and is
    /// passed over.
    ///
    /// Two broadcasts of one thread arrive in their order everywhere; those of two threads may arrive in one order here and
    /// in another one there.
    ///
    /// # Errors
    /// All reactors are gone, or this is a thread of the pool (until it runs, the one that has made it): a handler uses [`Context::broadcast`] and
    /// [`Context::broadcast_elsewhere`]. The message comes back, and nobody has got it.
    ///
    /// [`Context::broadcast`]: crate::Context::broadcast
    /// [`Context::broadcast_elsewhere`]: crate::Context::broadcast_elsewhere
    pub fn broadcast(&self, to: PoolTo, message: Owned<H>) -> Result<(), HandleError<Owned<H>>>
    where
        Owned<H>: Clone,
    {
        if self.is_ours() {
            return Err(HandleError::WouldDeadlock(message));
        }
        let sent = |(index, handle): (usize, &Handle<H>)| {
            handle.broadcast(to.seen_by(index), message.clone()).is_ok()
        };
        // All of them, and not only up to the first.
        let reached = self.team.handles().enumerate().filter(|member| sent(*member)).count();
        if reached == 0 { Err(HandleError::Gone(message)) } else { Ok(()) }
    }

    /// Closes a connection in order. Waits while its reactor's queue is full.
    ///
    /// # Errors
    /// As [`send`](PoolHandle::send).
    pub fn close(&self, conn: PoolConnId) -> Result<(), HandleError<()>> {
        let Some(handle) = self.of(conn.reactor) else { return Err(HandleError::Gone(())) };
        match handle.try_close(conn.conn) {
            Err(HandleError::Full(())) if self.is_ours() => Err(HandleError::WouldDeadlock(())),
            Err(HandleError::Full(())) => handle.close(conn.conn),
            closed => closed,
        }
    }

    /// Gives a connected socket that was made elsewhere to the reactor with the fewest accepted connections, see
    /// [`Handle::adopt`]; among equals they take turns. Never waits.
    ///
    /// # Errors
    /// The queue of that reactor is full, or it is gone. The socket comes back.
    pub fn try_adopt(
        &self,
        stream: impl Into<AnyStream>,
        codec: H::Codec,
    ) -> Result<(), HandleError<AnyStream>>
    where
        H::Codec: Send + 'static,
    {
        match self.of(self.team.least_loaded()) {
            Some(handle) => handle.try_adopt(stream, codec),
            None => Err(HandleError::Gone(stream.into())),
        }
    }

    /// Begins to shut down all reactors, see [`Context::shutdown`](crate::Context::shutdown). Never waits. A second call
    /// ends everything at once.
    pub fn shutdown(&self) {
        self.team.shut_down();
    }

    /// Whether all reactors are gone.
    pub fn is_gone(&self) -> bool {
        self.team.handles().all(Handle::is_gone)
    }

    /// Asks all reactors for their counters, and calls `then` with those of each, by index, once all have answered. Never
    /// waits; `then` runs on the thread of the last one to answer. One that is gone, or whose queue is full, counts with
    /// what it last said.
    pub fn gather_stats(&self, then: impl FnOnce(&[Stats]) + Send + 'static) {
        let last = Arc::clone(&self.team.last_stats);
        let gathering = Arc::new(Gathering { last, then: Mutex::new(Some(Box::new(then))) });
        for (index, handle) in self.team.handles().enumerate() {
            let gathering = Arc::clone(&gathering);
            // Whoever does not take it has dropped it, which is an answer too.
            handle.try_run(move |_, cx| gathering.last.note(index, cx.stats())).ok();
        }
    }

    /// The counters of each reactor, by index. Waits for all to answer.
    ///
    /// # Errors
    /// This is a thread of the pool, which would wait for itself; use [`gather_stats`](PoolHandle::gather_stats).
    pub fn stats(&self) -> Result<Vec<Stats>, HandleError<()>> {
        if self.is_ours() {
            return Err(HandleError::WouldDeadlock(()));
        }
        let (answers, answer) = mpsc::sync_channel(1);
        self.gather_stats(move |stats| drop(answers.send(stats.to_vec())));
        Ok(answer.recv().unwrap_or_else(|_| self.team.last_stats.of_all()))
    }

    /// Whether this thread is one of the pool.
    fn is_ours(&self) -> bool {
        self.team.handles().any(Handle::is_owner)
    }
}

type Then = Box<dyn FnOnce(&[Stats]) + Send>;

/// Counters that are under way. Each reactor has a part in it, and the last to let go of theirs calls `then`.
struct Gathering {
    last: Arc<LastStats>,
    then: Mutex<Option<Then>>,
}

impl Drop for Gathering {
    fn drop(&mut self) {
        let then = self.then.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(then) = then {
            then(&self.last.of_all());
        }
    }
}
