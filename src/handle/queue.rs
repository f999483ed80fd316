//! The queue between other threads and the loop. It knows nothing of what it carries.
//!
//! A command is queued first and wakes after; the loop clears the flag before it drains. So a command is either seen by the
//! drain under way, or its thread finds the flag down and wakes: no wake-up is lost, and a thousand commands cost one.

use std::collections::VecDeque;
use std::fmt;

use super::HandleError;
use super::sync::{
    AtomicBool, AtomicU32, AtomicUsize, Condvar, Mutex, MutexGuard, Ordering, ThreadId, lock, thread, wait,
};

/// Wakes a loop from another thread.
pub(crate) trait Wake {
    /// The loop's wait ends, or its next one will not begin.
    fn wake(&self);
}

/// What a queue carries.
pub(crate) trait Weigh {
    /// The bytes that it holds, beside its place in the queue.
    fn bytes(&self) -> usize;
}

/// What a sender does about a queue that is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhenFull {
    /// Waits, unless this is the loop's own thread.
    Wait,
    /// Takes the command back.
    GiveBack,
    /// Goes in all the same: for what its sender has at most one of.
    Exceed,
}

/// Commands that wait.
pub(crate) struct Queue<T, W> {
    state: Mutex<State<T>>,
    /// Signalled when there is room, or the reactor is gone.
    room: Condvar,
    max: usize,
    bytes_max: usize,
    /// What the commands hold. Changed under the lock, looked at without it.
    held: AtomicUsize,
    /// There is something to look at: the loop was woken, or will look in any case.
    flag: AtomicBool,
    shutdowns: AtomicU32,
    wakeups: AtomicUsize,
    waker: W,
}

struct State<T> {
    commands: VecDeque<T>,
    closed: bool,
    /// The thread that takes the turns. Until the first one, that which has made the reactor: it may be about to. Nobody when
    /// it is known that another one will.
    owner: Option<ThreadId>,
    waiting: usize,
}

impl<T, W> fmt::Debug for Queue<T, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("max", &self.max).finish_non_exhaustive()
    }
}

impl<T: Weigh, W: Wake> Queue<T, W> {
    /// A queue that takes no further command when `max` wait, or such that hold `bytes_max` bytes.
    pub(crate) fn new(waker: W, max: usize, bytes_max: usize) -> Queue<T, W> {
        let owner = Some(thread::current().id());
        let state = State { commands: VecDeque::new(), closed: false, owner, waiting: 0 };
        Queue {
            state: Mutex::new(state),
            room: Condvar::new(),
            max,
            bytes_max,
            held: AtomicUsize::new(0),
            flag: AtomicBool::new(false),
            shutdowns: AtomicU32::new(0),
            wakeups: AtomicUsize::new(0),
            waker,
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        lock(&self.state)
    }

    // ---- other threads ---------------------------------------------------------------------------------------------

    pub(crate) fn push(&self, command: T, when_full: WhenFull) -> Result<(), HandleError<T>> {
        self.push_made(command, when_full, |command| command)
    }

    /// Makes a command of `it` once there is room, so that it can be given back when there is none.
    pub(crate) fn push_made<U>(
        &self,
        it: U,
        when_full: WhenFull,
        make: impl FnOnce(U) -> T,
    ) -> Result<(), HandleError<U>> {
        let mut state = self.state();
        loop {
            if state.closed {
                return Err(HandleError::Gone(it));
            }
            if self.has_room(&state) {
                break;
            }
            match when_full {
                WhenFull::Exceed => break,
                WhenFull::GiveBack => return Err(HandleError::Full(it)),
                WhenFull::Wait if state.owner == Some(thread::current().id()) => {
                    return Err(HandleError::WouldDeadlock(it));
                }
                WhenFull::Wait => {}
            }
            state.waiting += 1;
            state = wait(&self.room, state);
            state.waiting -= 1;
        }
        self.put(&mut state, make(it));
        drop(state);
        self.wake();
        Ok(())
    }

    /// Moves as many commands in as there is room for, at the cost of one, and drops them when the reactor is gone. Answers
    /// how many bytes those hold.
    pub(crate) fn push_all(&self, commands: &mut VecDeque<T>) -> usize {
        let mut state = self.state();
        if state.closed {
            drop(state);
            // A command may own a handle: dropped without the lock.
            return commands.drain(..).map(|command| command.bytes()).sum();
        }
        let (before, mut bytes) = (state.commands.len(), 0);
        while self.has_room(&state) {
            let Some(command) = commands.pop_front() else { break };
            bytes += self.put(&mut state, command);
        }
        let moved = state.commands.len() > before;
        drop(state);
        if moved {
            self.wake();
        }
        bytes
    }

    /// What waits is judged, not the new one: a message of any size passes an empty queue.
    fn has_room(&self, state: &State<T>) -> bool {
        state.commands.len() < self.max && self.held() < self.bytes_max
    }

    fn put(&self, state: &mut State<T>, command: T) -> usize {
        let bytes = command.bytes();
        self.held.store(self.held().saturating_add(bytes), Ordering::Relaxed);
        state.commands.push_back(command);
        bytes
    }

    /// Whether this thread takes the turns.
    pub(crate) fn is_owner(&self) -> bool {
        self.state().owner == Some(thread::current().id())
    }

    pub(crate) fn shut_down(&self) {
        self.shutdowns.fetch_add(1, Ordering::Release);
        self.wake();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// The bytes that waiting commands hold.
    #[inline]
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Makes the loop take a turn.
    pub(crate) fn wake(&self) {
        if !self.flag.swap(true, Ordering::AcqRel) {
            self.wakeups.fetch_add(1, Ordering::Relaxed);
            self.waker.wake();
        }
    }

    // ---- the loop --------------------------------------------------------------------------------------------------

    /// This thread takes the turns from now on.
    pub(crate) fn owned_by_this_thread(&self) {
        self.state().owner = Some(thread::current().id());
    }

    /// A thread to come takes the turns.
    pub(crate) fn owned_by_nobody(&self) {
        self.state().owner = None;
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
    pub(crate) fn drain(&self, max: usize, into: &mut VecDeque<T>) {
        let mut state = self.state();
        let before = into.len();
        if state.commands.len() <= max && into.is_empty() {
            std::mem::swap(&mut state.commands, into);
        } else {
            let n = max.min(state.commands.len());
            into.extend(state.commands.drain(..n));
        }
        let taken: usize = into.iter().skip(before).map(Weigh::bytes).sum();
        // A message that says another length than when it came must not leave the queue full, or too large, for ever.
        let left = if state.commands.is_empty() { 0 } else { self.held().saturating_sub(taken) };
        self.held.store(left, Ordering::Relaxed);
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

    /// How often the loop was woken.
    pub(crate) fn wakeups(&self) -> u64 {
        self.wakeups.load(Ordering::Relaxed) as u64
    }

    /// The reactor is gone: everyone is told, and what waits is dropped.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let commands = std::mem::take(&mut state.commands);
        self.held.store(0, Ordering::Relaxed);
        drop(state);
        self.room.notify_all();
        // A command may own a handle: dropped without the lock.
        drop(commands);
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use std::cell::Cell;

    use super::*;

    struct Nobody;

    impl Wake for Nobody {
        fn wake(&self) {}
    }

    /// Says another length each time.
    struct Shifty(Cell<usize>, isize);

    impl Weigh for Shifty {
        fn bytes(&self) -> usize {
            self.0.replace(self.0.get().saturating_add_signed(self.1))
        }
    }

    #[test]
    fn messages_whose_length_has_changed_do_not_leave_the_queue_full() {
        for step in [-30, 30] {
            let queue = Queue::new(Nobody, 100, 100);
            let mut into = VecDeque::new();
            for _ in 0..100 {
                while queue.push(Shifty(Cell::new(50), step), WhenFull::GiveBack).is_ok() {}
                queue.drain(1, &mut into);
                assert!(queue.held() <= 150, "{step}: {}", queue.held());
                into.clear();
                queue.drain(100, &mut into);
                assert_eq!(queue.held(), 0, "{step}");
                into.clear();
            }
        }
    }
}
