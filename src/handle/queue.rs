//! The queue between other threads and the loop.
//!
//! A command is queued first and wakes after; the loop clears the flag before it drains. So a command is either seen by the
//! drain under way, or its thread finds the flag down and wakes: no wake-up is lost, and a thousand commands cost one.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use super::HandleError;
use crate::handler::{Handler, Owned};
use crate::id::ConnId;
use crate::net::Waker;
use crate::reactor::{Context, To};

/// What runs on the reactor's thread for another one.
pub(crate) type Job<H> = Box<dyn FnOnce(&mut H, &mut Context<H>) + Send>;

/// A command of another thread.
pub(crate) enum Command<H: Handler> {
    Send(ConnId, Owned<H>),
    Broadcast(To<'static>, Owned<H>),
    Close(ConnId),
    Run(Job<H>),
}

/// Commands that wait.
pub(crate) struct Queue<H: Handler> {
    state: Mutex<State<H>>,
    /// Signalled when there is room, or the reactor is gone.
    room: Condvar,
    max: usize,
    /// There is something to look at: the loop was woken, or will look in any case.
    flag: AtomicBool,
    shutdowns: AtomicU32,
    waker: Waker,
}

struct State<H: Handler> {
    commands: VecDeque<Command<H>>,
    closed: bool,
    /// The thread that takes the turns.
    owner: Option<ThreadId>,
    waiting: usize,
}

impl<H: Handler> fmt::Debug for Queue<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("max", &self.max).finish_non_exhaustive()
    }
}

impl<H: Handler> Queue<H> {
    pub(crate) fn new(waker: Waker, max: usize) -> Queue<H> {
        let state = State { commands: VecDeque::new(), closed: false, owner: None, waiting: 0 };
        Queue {
            state: Mutex::new(state),
            room: Condvar::new(),
            max,
            flag: AtomicBool::new(false),
            shutdowns: AtomicU32::new(0),
            waker,
        }
    }

    fn state(&self) -> MutexGuard<'_, State<H>> {
        // Nothing in here can panic half-way, so that a poisoned state is a whole one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- other threads ---------------------------------------------------------------------------------------------

    pub(super) fn push(&self, command: Command<H>, wait: bool) -> Result<(), HandleError<Command<H>>> {
        self.push_made(command, wait, |command| command)
    }

    /// Makes a command of `it` once there is room, so that it can be given back when there is none.
    pub(super) fn push_made<T>(
        &self,
        it: T,
        wait: bool,
        make: impl FnOnce(T) -> Command<H>,
    ) -> Result<(), HandleError<T>> {
        let mut state = self.state();
        loop {
            if state.closed {
                return Err(HandleError::Gone(it));
            }
            if state.commands.len() < self.max {
                break;
            }
            if !wait {
                return Err(HandleError::Full(it));
            }
            if state.owner == Some(thread::current().id()) {
                return Err(HandleError::WouldDeadlock(it));
            }
            state.waiting += 1;
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        state.commands.push_back(make(it));
        drop(state);
        self.wake();
        Ok(())
    }

    /// Moves as many commands in as there is room for, at the cost of one, and drops them when the reactor is gone.
    pub(super) fn push_all(&self, commands: &mut VecDeque<Command<H>>) {
        let mut state = self.state();
        if state.closed {
            drop(state);
            // A command may own a handle: dropped without the lock.
            commands.clear();
            return;
        }
        let n = commands.len().min(self.max.saturating_sub(state.commands.len()));
        state.commands.extend(commands.drain(..n));
        drop(state);
        if n > 0 {
            self.wake();
        }
    }

    pub(super) fn is_owner(&self) -> bool {
        self.state().owner == Some(thread::current().id())
    }

    pub(super) fn shut_down(&self) {
        self.shutdowns.fetch_add(1, Ordering::Release);
        self.wake();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Makes the loop take a turn.
    pub(super) fn wake(&self) {
        if !self.flag.swap(true, Ordering::AcqRel) {
            // It fails only without a poller, and then nobody waits.
            drop(self.waker.wake());
        }
    }

    // ---- the loop --------------------------------------------------------------------------------------------------

    /// This thread takes the turns from now on.
    pub(crate) fn owned_by(&self, thread: ThreadId) {
        self.state().owner = Some(thread);
    }

    /// Whether there may be something to look at.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        self.flag.load(Ordering::Acquire)
    }

    /// Clears the flag, then it is the time to drain. False when there is nothing.
    #[inline]
    pub(crate) fn begin(&self) -> bool {
        self.is_due() && self.flag.swap(false, Ordering::AcqRel)
    }

    /// Moves up to `max` commands to `into`. What is left makes the queue due again, without a wake-up.
    pub(crate) fn drain(&self, max: usize, into: &mut VecDeque<Command<H>>) {
        let mut state = self.state();
        if state.commands.len() <= max && into.is_empty() {
            std::mem::swap(&mut state.commands, into);
        } else {
            let n = max.min(state.commands.len());
            into.extend(state.commands.drain(..n));
        }
        if !state.commands.is_empty() {
            self.flag.store(true, Ordering::Release);
        }
        let waiting = state.waiting > 0;
        drop(state);
        if waiting {
            self.room.notify_all();
        }
    }

    pub(crate) fn take_shutdowns(&self) -> u32 {
        self.shutdowns.swap(0, Ordering::AcqRel)
    }

    /// The reactor is gone: everyone is told, and what waits is dropped.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let commands = std::mem::take(&mut state.commands);
        drop(state);
        self.room.notify_all();
        // A command may own a handle: dropped without the lock.
        drop(commands);
    }
}
