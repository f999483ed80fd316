//! What models of the loop have in common: how their orders are explored, and a poller without sockets.

use std::sync::Arc;

use super::queue::{Wake, Weigh};
use super::sync::{Condvar, Mutex, lock, wait};

/// So often a thread is interrupted where it need not be: more takes hours, and few faults need more.
#[cfg(loom)]
const INTERRUPTIONS: usize = 3;

/// Runs `model` under every order of its threads, but for those with more interruptions.
#[cfg(loom)]
pub(crate) fn explore(model: impl Fn() + Send + Sync + 'static) {
    let mut explorer = loom::model::Builder::new();
    explorer.preemption_bound = Some(INTERRUPTIONS);
    explorer.check(model);
}

/// So many orders are tried, drawn by chance: a whole pool has too many for all of them.
#[cfg(shuttle)]
const ORDERS: usize = 5_000;

/// Runs `model` under many orders of its threads.
#[cfg(shuttle)]
pub(crate) fn explore(model: impl Fn() + Send + Sync + 'static) {
    shuttle::check_random(model, ORDERS);
}

/// A poller that knows of nothing but wake-ups: as an `eventfd` does, it remembers one that comes before the wait.
#[derive(Debug, Clone)]
pub(crate) struct Poller(Arc<(Mutex<bool>, Condvar)>);

impl Poller {
    pub(crate) fn new() -> Poller {
        Poller(Arc::new((Mutex::new(false), Condvar::new())))
    }

    pub(crate) fn wait(&self) {
        let mut woken = lock(&self.0.0);
        while !*woken {
            woken = wait(&self.0.1, woken);
        }
        *woken = false;
    }
}

impl Wake for Poller {
    fn wake(&self) {
        *lock(&self.0.0) = true;
        self.0.1.notify_one();
    }
}

/// Commands of models hold nothing.
impl Weigh for u32 {
    fn bytes(&self) -> usize {
        0
    }
}

impl Weigh for () {
    fn bytes(&self) -> usize {
        0
    }
}
