//! The threads, and the queue that they take their work from.

use std::fmt;
use std::hash::Hash;
use std::io;
use std::sync::Arc;

use super::fair::Fair;
use crate::handle::sync::{Condvar, Mutex, lock, thread, wait};

/// A piece of work. It does not panic.
pub(crate) type Work = Box<dyn FnOnce() + Send>;

/// Threads that work. Dropping it lets go of them: they end when nothing is left to do.
pub(super) struct Crew<K> {
    shared: Arc<Shared<K>>,
    threads: Vec<thread::JoinHandle<()>>,
}

struct Shared<K> {
    state: Mutex<State<K>>,
    /// Signalled when there is work, or no more will come.
    work: Condvar,
}

struct State<K> {
    queue: Fair<K, Work>,
    idle: usize,
    /// No more will come.
    closing: bool,
}

impl<K> fmt::Debug for Crew<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crew").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

impl<K: Hash + Eq + Copy + Send + 'static> Crew<K> {
    pub(super) fn start(threads: usize) -> io::Result<Crew<K>> {
        let state = State { queue: Fair::new(), idle: 0, closing: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), work: Condvar::new() });
        let mut crew = Crew { shared, threads: Vec::with_capacity(threads) };
        for number in 0..threads {
            let shared = Arc::clone(&crew.shared);
            let name = format!("mainspring-worker-{number}");
            // Those that were started before one that was not end with the crew.
            crew.threads.push(thread::Builder::new().name(name).spawn(move || shared.work_on())?);
        }
        Ok(crew)
    }

    pub(super) fn threads(&self) -> usize {
        self.threads.len()
    }

    /// Queues work of `whose`.
    pub(super) fn push(&self, whose: K, work: Work) {
        let mut state = lock(&self.shared.state);
        state.queue.push(whose, work);
        let wakes = state.idle > 0;
        drop(state);
        if wakes {
            self.shared.work.notify_one();
        }
    }

    /// Waits until all that was queued is done and every thread has ended.
    pub(super) fn join(mut self) {
        self.close();
        for thread in std::mem::take(&mut self.threads) {
            // It does not panic, and if it did the panic hook has told.
            drop(thread.join());
        }
    }

    /// Does one piece of work on this thread. False when there is none.
    #[cfg(test)]
    pub(super) fn work_one(&self) -> bool {
        self.take().map(|work| work()).is_some()
    }

    /// Takes the next piece of work out, to be done by whoever takes it.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn take(&self) -> Option<Work> {
        lock(&self.shared.state).queue.pop()
    }
}

impl<K> Crew<K> {
    fn close(&self) {
        lock(&self.shared.state).closing = true;
        self.shared.work.notify_all();
    }
}

impl<K> Drop for Crew<K> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<K: Hash + Eq + Copy> Shared<K> {
    /// What a thread does.
    fn work_on(&self) {
        let mut state = lock(&self.state);
        loop {
            if let Some(work) = state.queue.pop() {
                drop(state);
                work();
                state = lock(&self.state);
            } else if state.closing {
                return;
            } else {
                state.idle += 1;
                state = wait(&self.work, state);
                state.idle -= 1;
            }
        }
    }
}
