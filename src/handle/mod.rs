//! How other threads talk to the loop: a bounded queue of commands, and a waker.
//!
//! It must not know what the loop does with a command, and nothing in here may wait on the loop's own thread.
//!
//! - `queue`: the queue and its flag, without a word of what they carry
//! - `sync`: what threads share, or its stand-in under a checker of interleavings

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, any(loom, shuttle)))]
pub(crate) mod model;
mod pool;
pub(crate) mod queue;
pub(crate) mod sync;
mod team;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use crate::handler::{Handler, Owned, owned_len};
use crate::id::ConnId;
use crate::net::{AnyStream, Waker};
use crate::reactor::{Context, To};
pub use pool::{PoolHandle, PoolTo};
use queue::{Wake, Weigh, WhenFull};
pub(crate) use team::{Arrival, LEADER, LastStats, Team};

/// What runs on the reactor's thread for another one.
pub(crate) type Job<H> = Box<dyn FnOnce(&mut H, &mut Context<H>) + Send>;

/// A command of another thread.
pub(crate) enum Command<H: Handler> {
    Send(ConnId, Owned<H>),
    Broadcast(To<'static>, Owned<H>),
    Close(ConnId),
    Run(Job<H>),
    Collect(Arc<dyn Collect<H>>),
}

impl<H: Handler> Weigh for Command<H> {
    fn bytes(&self) -> usize {
        match self {
            Command::Send(_, message) | Command::Broadcast(_, message) => owned_len::<H>(message),
            Command::Run(job) => size_of_val(&**job),
            Command::Close(_) | Command::Collect(_) => 0,
        }
    }
}

/// Somebody whose results wait to be collected on the reactor's thread.
///
/// Each result is a call of its own, so that a panic in one costs its connection and no other result.
pub(crate) trait Collect<H: Handler>: Send + Sync {
    /// Takes all that is there.
    fn begin(&self);
    /// Whose result is next.
    fn next(&self) -> Option<ConnId>;
    /// Hands it over.
    fn deliver(&self, conn: ConnId, handler: &mut H, cx: &mut Context<H>);
    /// All are handed over.
    fn finish(self: Arc<Self>, cx: &mut Context<H>);
}

/// Commands that wait for one reactor.
pub(crate) type Queue<H> = queue::Queue<Command<H>, Waker>;

impl Wake for Waker {
    fn wake(&self) {
        // It fails only without a poller, and then nobody waits.
        drop(Waker::wake(self));
    }
}

/// Why a command of another thread was not queued. What was to be sent comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandleError<T> {
    /// The queue is at [`Limits::commands_max`](crate::Limits::commands_max), or holds half of
    /// [`Limits::memory_limit`](crate::Limits::memory_limit). The loop is behind; try again later.
    Full(T),
    /// The reactor is gone.
    Gone(T),
    /// The call would have waited on the reactor's own thread, for itself. Use the context there, or the `try_` form.
    WouldDeadlock(T),
}

impl<T> HandleError<T> {
    /// What was to be sent.
    pub fn into_inner(self) -> T {
        match self {
            HandleError::Full(it) | HandleError::Gone(it) | HandleError::WouldDeadlock(it) => it,
        }
    }

    fn map<U>(self, f: impl FnOnce(T) -> U) -> HandleError<U> {
        match self {
            HandleError::Full(it) => HandleError::Full(f(it)),
            HandleError::Gone(it) => HandleError::Gone(f(it)),
            HandleError::WouldDeadlock(it) => HandleError::WouldDeadlock(f(it)),
        }
    }
}

impl<T> fmt::Display for HandleError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HandleError::Full(_) => "the reactor's queue of commands is full",
            HandleError::Gone(_) => "the reactor is gone",
            HandleError::WouldDeadlock(_) => "the reactor's own thread would wait for itself",
        })
    }
}

impl<T: fmt::Debug> std::error::Error for HandleError<T> {}

/// A reactor as other threads see it. Cheap to clone, and may outlive the reactor: then every command is answered with
/// [`HandleError::Gone`].
///
/// Commands of one thread run in their order, after the input of a turn. They are not answered: what becomes of a message
/// to a connection that is gone by then is counted in [`Stats::frames_dropped`](crate::Stats::frames_dropped). Use
/// [`run`](Handle::run) with a channel for more.
///
/// The queue is bounded by [`Limits::commands_max`](crate::Limits::commands_max). Where it is full, a method waits for room,
/// and its `try_` form gives back what it was given. On the reactor's own thread nothing waits; until the first turn that is
/// the thread that has made the reactor. However many commands are queued, the loop is woken once for all that it has not
/// begun to look at, see [`Stats::wakeups`](crate::Stats::wakeups).
pub struct Handle<H: Handler> {
    queue: Arc<Queue<H>>,
}

impl<H: Handler> Clone for Handle<H> {
    fn clone(&self) -> Handle<H> {
        Handle { queue: Arc::clone(&self.queue) }
    }
}

impl<H: Handler> fmt::Debug for Handle<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl<H: Handler> Handle<H> {
    pub(crate) fn new(queue: Arc<Queue<H>>) -> Handle<H> {
        Handle { queue }
    }

    /// Sends a message to a connection. Waits while the queue is full.
    ///
    /// # Errors
    /// The reactor is gone, or this is its own thread and the queue is full. The message comes back.
    pub fn send(&self, to: ConnId, message: Owned<H>) -> Result<(), HandleError<Owned<H>>> {
        self.queue.push(Command::Send(to, message), WhenFull::Wait).map_err(|error| error.map(message_of))
    }

    /// As [`send`](Handle::send), and never waits.
    ///
    /// # Errors
    /// The queue is full, or the reactor is gone. The message comes back.
    pub fn try_send(&self, to: ConnId, message: Owned<H>) -> Result<(), HandleError<Owned<H>>> {
        self.queue.push(Command::Send(to, message), WhenFull::GiveBack).map_err(|error| error.map(message_of))
    }

    /// Sends a message to many connections. Waits while the queue is full.
    ///
    /// # Errors
    /// As [`send`](Handle::send).
    pub fn broadcast(&self, to: To<'static>, message: Owned<H>) -> Result<(), HandleError<Owned<H>>> {
        self.queue
            .push(Command::Broadcast(to, message), WhenFull::Wait)
            .map_err(|error| error.map(message_of))
    }

    /// As [`broadcast`](Handle::broadcast), and never waits.
    ///
    /// # Errors
    /// As [`try_send`](Handle::try_send).
    pub fn try_broadcast(&self, to: To<'static>, message: Owned<H>) -> Result<(), HandleError<Owned<H>>> {
        self.queue
            .push(Command::Broadcast(to, message), WhenFull::GiveBack)
            .map_err(|error| error.map(message_of))
    }

    /// Closes a connection in order, see [`Context::close`]. Waits while the queue is full. Nothing happens to one that is
    /// gone by then.
    ///
    /// # Errors
    /// The reactor is gone, or this is its own thread and the queue is full.
    pub fn close(&self, conn: ConnId) -> Result<(), HandleError<()>> {
        self.queue.push(Command::Close(conn), WhenFull::Wait).map_err(|error| error.map(drop))
    }

    /// As [`close`](Handle::close), and never waits.
    ///
    /// # Errors
    /// The queue is full, or the reactor is gone.
    pub fn try_close(&self, conn: ConnId) -> Result<(), HandleError<()>> {
        self.queue.push(Command::Close(conn), WhenFull::GiveBack).map_err(|error| error.map(drop))
    }

    /// Gives the reactor a connected socket that was made elsewhere, see [`Context::adopt`]. Waits while the queue is full.
    ///
    /// A socket that cannot be taken in by then, because it is not connected or the reactor shuts down, is closed, and
    /// counted in [`Stats::refused`](crate::Stats::refused).
    ///
    /// # Errors
    /// The reactor is gone, or this is its own thread and the queue is full. The socket comes back.
    pub fn adopt(&self, stream: impl Into<AnyStream>, codec: H::Codec) -> Result<(), HandleError<AnyStream>>
    where
        H::Codec: Send + 'static,
    {
        self.push_adopt(stream.into(), codec, WhenFull::Wait)
    }

    /// As [`adopt`](Handle::adopt), and never waits.
    ///
    /// # Errors
    /// The queue is full, or the reactor is gone. The socket comes back.
    pub fn try_adopt(
        &self,
        stream: impl Into<AnyStream>,
        codec: H::Codec,
    ) -> Result<(), HandleError<AnyStream>>
    where
        H::Codec: Send + 'static,
    {
        self.push_adopt(stream.into(), codec, WhenFull::GiveBack)
    }

    fn push_adopt(
        &self,
        stream: AnyStream,
        codec: H::Codec,
        when_full: WhenFull,
    ) -> Result<(), HandleError<AnyStream>>
    where
        H::Codec: Send + 'static,
    {
        self.queue.push_made(stream, when_full, |stream| {
            Command::Run(Box::new(|_, cx| cx.adopt_for_another(stream, codec)))
        })
    }

    /// Runs `f` on the reactor's thread. Waits while the queue is full. A reactor that ends before drops it.
    ///
    /// # Errors
    /// The reactor is gone, or this is its own thread and the queue is full.
    pub fn run(
        &self,
        f: impl FnOnce(&mut H, &mut Context<H>) + Send + 'static,
    ) -> Result<(), HandleError<()>> {
        self.queue.push(Command::Run(Box::new(f)), WhenFull::Wait).map_err(|error| error.map(drop))
    }

    /// As [`run`](Handle::run), and never waits.
    ///
    /// # Errors
    /// The queue is full, or the reactor is gone.
    pub fn try_run(
        &self,
        f: impl FnOnce(&mut H, &mut Context<H>) + Send + 'static,
    ) -> Result<(), HandleError<()>> {
        self.queue.push(Command::Run(Box::new(f)), WhenFull::GiveBack).map_err(|error| error.map(drop))
    }

    /// Begins to shut the reactor down, see [`Context::shutdown`]. Never waits, and takes no place in the queue. A second
    /// call ends everything at once.
    pub fn shutdown(&self) {
        self.queue.shut_down();
    }

    /// Asks the loop to collect the results of `whom`, which asks again only after that. Never waits, and is answered with
    /// false when the reactor is gone.
    pub(crate) fn ring(&self, whom: Arc<dyn Collect<H>>) -> bool {
        self.queue.push(Command::Collect(whom), WhenFull::Exceed).is_ok()
    }

    /// Whether it is of the reactor with that queue.
    pub(crate) fn is_of(&self, queue: &Arc<Queue<H>>) -> bool {
        Arc::ptr_eq(&self.queue, queue)
    }

    /// Whether the reactor is gone.
    pub fn is_gone(&self) -> bool {
        self.queue.is_closed()
    }

    // ---- for the pool ----------------------------------------------------------------------------------------------

    /// Makes a command of `it` and queues that. It comes back when the queue is full or the reactor gone.
    pub(crate) fn try_push_made<T>(&self, it: T, make: impl FnOnce(T) -> Command<H>) -> Result<(), T> {
        self.queue.push_made(it, WhenFull::GiveBack, make).map_err(HandleError::into_inner)
    }

    /// Hands over as many commands as there is room for, and answers how many bytes they hold. Those for a reactor that is
    /// gone are dropped.
    pub(crate) fn push_all(&self, commands: &mut VecDeque<Command<H>>) -> usize {
        self.queue.push_all(commands)
    }

    /// Makes the reactor take a turn.
    pub(crate) fn nudge(&self) {
        self.queue.wake();
    }

    /// Whether this thread is the reactor's.
    pub(crate) fn is_owner(&self) -> bool {
        self.queue.is_owner()
    }
}

/// The message of a command that was made of one.
fn message_of<H: Handler>(command: Command<H>) -> Owned<H> {
    match command {
        Command::Send(_, message) | Command::Broadcast(_, message) => message,
        Command::Close(_) | Command::Run(_) | Command::Collect(_) => {
            unreachable!("only commands with a message are asked for theirs")
        }
    }
}
