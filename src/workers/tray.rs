//! Where workers leave their results, for the loop to collect.
//!
//! The first one in an empty tray rings; the loop takes all that is there, and from then on the next one rings again. So
//! the bell is rung at most once between two looks, no result is left without a look to come, and nobody waits.

use crate::handle::sync::{Mutex, lock};

/// Results that wait to be collected.
#[derive(Debug)]
pub(super) struct Tray<T>(Mutex<State<T>>);

#[derive(Debug)]
struct State<T> {
    results: Vec<T>,
    rung: bool,
}

impl<T> Tray<T> {
    pub(super) fn new() -> Tray<T> {
        Tray(Mutex::new(State { results: Vec::new(), rung: false }))
    }

    /// Puts one in. True when its thread has to ring.
    #[must_use]
    pub(super) fn put(&self, result: T) -> bool {
        let mut state = lock(&self.0);
        state.results.push(result);
        !std::mem::replace(&mut state.rung, true)
    }

    /// A look without a result is wanted. True when that needs a ring.
    #[must_use]
    pub(super) fn wants_look(&self) -> bool {
        !std::mem::replace(&mut lock(&self.0).rung, true)
    }

    /// Takes all. `into` is empty, and its memory is used for the next ones.
    pub(super) fn take(&self, into: &mut Vec<T>) {
        debug_assert!(into.is_empty(), "what was taken was looked at");
        let mut state = lock(&self.0);
        state.rung = false;
        std::mem::swap(&mut state.results, into);
    }
}
