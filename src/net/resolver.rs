//! Names looked up beside the loop, by the system's resolver, which blocks: on a few threads of its own.
//!
//! A name that hangs holds up nobody for ever: when its dial gives up, its thread no longer counts as one of the few, and
//! ends whenever the system lets it.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::ToSocketAddrs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::Waker;
use crate::address::Address;
use crate::id::ConnId;

/// So many names are looked up at a time; others wait. Enough for some slow ones beside the fast, and no burden.
const THREADS_MAX: usize = 4;
/// So many threads may hang for a name that nobody waits for any more. Past it they keep their places, and names wait.
const HUNG_MAX: usize = 64;
/// A thread without a name to look up ends after this.
const IDLE: Duration = Duration::from_secs(5);

/// What looking a name up has brought. Not an empty list.
pub(crate) type Found = io::Result<Vec<Address>>;

/// Looks names up: a closed set of kinds. Each look-up is named by the dial that wants it.
#[derive(Debug)]
pub(crate) enum Resolver {
    Threads(Threads),
    #[cfg(any(test, feature = "sim"))]
    Mem(super::mem::World),
}

impl Resolver {
    /// Begins to look `host` up. The answer comes with [`take`](Resolver::take), and wakes the poller.
    pub(crate) fn look_up(&mut self, dial: ConnId, host: &str, port: u16) {
        match self {
            Resolver::Threads(threads) => threads.look_up(Job { dial, host: host.to_owned(), port }),
            #[cfg(any(test, feature = "sim"))]
            Resolver::Mem(world) => world.look_up(dial, host, port),
        }
    }

    /// Nobody waits for that answer any more.
    pub(crate) fn give_up(&mut self, dial: ConnId) {
        match self {
            Resolver::Threads(threads) => threads.give_up(dial),
            #[cfg(any(test, feature = "sim"))]
            Resolver::Mem(world) => world.give_up(dial),
        }
    }

    /// Whether there are answers.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        match self {
            Resolver::Threads(threads) => threads.shared.flag.load(Ordering::Acquire),
            #[cfg(any(test, feature = "sim"))]
            Resolver::Mem(world) => world.has_found(),
        }
    }

    /// The answers that have come.
    pub(crate) fn take(&mut self) -> Vec<(ConnId, Found)> {
        match self {
            Resolver::Threads(threads) => threads.shared.take(),
            #[cfg(any(test, feature = "sim"))]
            Resolver::Mem(world) => world.take_found(),
        }
    }
}

type LookUp = dyn Fn(&str, u16) -> Found + Send + Sync;

/// The threads. There is none until there is a name to look up.
pub(crate) struct Threads {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Signalled when there is a name to look up, or all is over.
    work: Condvar,
    /// There are answers: the loop was woken for them.
    flag: AtomicBool,
    waker: Waker,
    look_up: Box<LookUp>,
    idle_time: Duration,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Job>,
    /// Looked up at the moment, by threads that count.
    running: Vec<ConnId>,
    /// Threads that count: those that look something up, and those that wait for a name.
    threads: usize,
    idle: usize,
    /// Threads that count no more: nobody waits for what they look up.
    hung: usize,
    /// Of `running`, those that nobody waits for either, and that count all the same: too many hang.
    in_the_way: Vec<ConnId>,
    found: Vec<(ConnId, Found)>,
    closed: bool,
}

#[derive(Debug)]
struct Job {
    dial: ConnId,
    host: String,
    port: u16,
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threads").field("state", &*self.shared.state()).finish_non_exhaustive()
    }
}

impl Drop for Threads {
    /// The threads end by themselves; nobody waits for one that hangs.
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.closed = true;
        state.waiting.clear();
        drop(state);
        self.shared.work.notify_all();
    }
}

impl Threads {
    pub(crate) fn new(waker: Waker) -> Threads {
        Threads::with(waker, IDLE, ask_the_system)
    }

    fn with(
        waker: Waker,
        idle_time: Duration,
        look_up: impl Fn(&str, u16) -> Found + Send + Sync + 'static,
    ) -> Threads {
        let shared = Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            flag: AtomicBool::new(false),
            waker,
            look_up: Box::new(look_up),
            idle_time,
        };
        Threads { shared: Arc::new(shared) }
    }

    fn look_up(&self, job: Job) {
        let mut state = self.shared.state();
        state.waiting.push_back(job);
        self.staff(state);
    }

    fn give_up(&self, dial: ConnId) {
        let mut state = self.shared.state();
        state.waiting.retain(|job| job.dial != dial);
        state.found.retain(|(other, _)| *other != dial);
        let Some(place) = state.running.iter().position(|other| *other == dial) else { return };
        if state.hung >= HUNG_MAX {
            state.in_the_way.push(dial);
            return;
        }
        state.running.swap_remove(place);
        state.threads -= 1;
        state.hung += 1;
        self.staff(state);
    }

    /// Sees to it that somebody takes what waits, as far as there may be threads.
    fn staff(&self, mut state: MutexGuard<'_, State>) {
        if state.idle >= state.waiting.len() {
            drop(state);
            self.shared.work.notify_one();
            return;
        }
        if state.threads >= THREADS_MAX {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let spawned =
            thread::Builder::new().name("mainspring-resolve".to_owned()).spawn(move || shared.work());
        match spawned {
            Ok(_) => state.threads += 1,
            // Those that are there will come to it; without any, nobody will.
            Err(error) if state.threads == 0 => {
                let no_thread = || io::Error::new(error.kind(), format!("cannot start a thread: {error}"));
                while let Some(job) = state.waiting.pop_front() {
                    state.found.push((job.dial, Err(no_thread())));
                }
                drop(state);
                self.shared.tell();
            }
            Err(_) => {}
        }
    }
}

impl State {
    /// False when it is not there.
    fn take_from_running(&mut self, dial: ConnId) -> bool {
        let place = self.running.iter().position(|other| *other == dial);
        place.map(|place| self.running.swap_remove(place)).is_some()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here can panic half-way, so that a poisoned state is a whole one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of a thread.
    fn work(&self) {
        let mut state = self.state();
        while !state.closed {
            if let Some(Job { dial, host, port }) = state.waiting.pop_front() {
                state.running.push(dial);
                drop(state);
                let found = (self.look_up)(&host, port);
                state = self.state();
                if !state.take_from_running(dial) {
                    // Its place was given to another. It may have the place of one that hangs still.
                    if let Some(other) = state.in_the_way.pop() {
                        state.take_from_running(other);
                        continue;
                    }
                    state.hung -= 1;
                    return;
                }
                if let Some(place) = state.in_the_way.iter().position(|other| *other == dial) {
                    state.in_the_way.swap_remove(place);
                    continue;
                }
                state.found.push((dial, found));
                drop(state);
                self.tell();
                state = self.state();
                continue;
            }
            state.idle += 1;
            let (woken, timeout) =
                self.work.wait_timeout(state, self.idle_time).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if timeout.timed_out() && state.waiting.is_empty() {
                break;
            }
        }
        state.threads -= 1;
    }

    /// An answer is there, then the flag, then the wake-up.
    fn tell(&self) {
        if !self.flag.swap(true, Ordering::AcqRel) {
            // It fails only without a poller, and then nobody waits.
            drop(self.waker.wake());
        }
    }

    /// The flag is cleared before the answers are taken: one that comes later wakes again.
    fn take(&self) -> Vec<(ConnId, Found)> {
        if !self.flag.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        std::mem::take(&mut self.state().found)
    }
}

/// `getaddrinfo`, in the order that it gives (RFC 6724).
fn ask_the_system(host: &str, port: u16) -> Found {
    let found: Vec<Address> = (host, port).to_socket_addrs()?.map(Address::Ip).collect();
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
