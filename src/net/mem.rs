//! An in-memory network with a virtual clock: edges as mio gives them, no sleeping. The core's own tests run on it, and the
//! simulated world that users test their handlers in.
//!
//! What the system may do beside its duty is drawn from a seed by [`Dice`]: calls that are interrupted, cut short or not
//! ready yet, events that are late, for nothing, out of order or of the past. The dice of the core's own tests are calm.

mod dials;
mod dice;
mod link;
mod listener;
mod peer;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Readiness, Ready, Source, Stream, clock};
pub(crate) use dials::Answer;
use dials::Dials;
pub use dice::{Dice, Roll};
pub(crate) use dice::{Fault, Kind};
use link::Link;
pub(crate) use link::{Dropped, MemStream};
use listener::Backlog;
pub(crate) use listener::MemListener;
pub(crate) use peer::{Look, Peer};

/// The world: a clock and all connections, as one poller of it sees them. Cheap to clone; all clones are the same world.
#[derive(Debug, Clone)]
pub(crate) struct World {
    state: Arc<Mutex<State>>,
    /// Each reactor of the world has one.
    poller: usize,
}

#[derive(Debug)]
struct State {
    start: Instant,
    elapsed: Duration,
    links: Vec<Link>,
    backlogs: HashMap<u32, Backlog>,
    pollers: Vec<Waiting>,
    /// Events that are under way, and until when.
    late: Vec<(Duration, usize, Ready)>,
    /// Sources that are gone.
    gone: Vec<(usize, Source)>,
    wakes: usize,
    /// Waits without a deadline and without events: a real poller would have slept.
    sleeps: usize,
    next_listener: u32,
    dials: Dials,
    dice: Dice,
    /// The machine fails too, in ways that peers notice.
    harsh: bool,
}

/// What one poller has to tell.
#[derive(Debug)]
struct Waiting {
    ready: Vec<Ready>,
    woken: bool,
    /// So many events at a time.
    events: usize,
}

impl Waiting {
    fn new(events: usize) -> Waiting {
        Waiting { ready: Vec::new(), woken: false, events }
    }
}

impl World {
    pub(crate) fn new() -> World {
        World::with(Dice::calm())
    }

    pub(crate) fn with(dice: Dice) -> World {
        let state = State {
            start: clock::now(),
            elapsed: Duration::ZERO,
            links: Vec::new(),
            backlogs: HashMap::new(),
            pollers: vec![Waiting::new(usize::MAX)],
            late: Vec::new(),
            gone: Vec::new(),
            wakes: 0,
            sleeps: 0,
            next_listener: 0,
            dials: Dials::default(),
            dice,
            harsh: false,
        };
        World { state: Arc::new(Mutex::new(state)), poller: 0 }
    }

    /// The same world for one more reactor, which takes so many events at a time.
    pub(crate) fn another(&self, events: usize) -> World {
        let mut state = self.state();
        state.pollers.push(Waiting::new(events));
        World { state: Arc::clone(&self.state), poller: state.pollers.len() - 1 }
    }

    /// From now on the machine fails in ways that peers notice too: it lacks descriptors, and memory.
    pub(crate) fn be_harsh(&self) {
        self.state().harsh = true;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// What a reactor's own randomness begins with.
    pub(crate) fn seed(&self) -> u64 {
        7 + self.state().dice.seed()
    }

    pub(crate) fn now(&self) -> Instant {
        let state = self.state();
        state.start + state.elapsed
    }

    /// How long the world has been there.
    pub(crate) fn elapsed(&self) -> Duration {
        self.state().elapsed
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.state().elapsed += by;
    }

    /// Whether events wait to be taken.
    pub(crate) fn has_events(&self) -> bool {
        let mut state = self.state();
        state.late_events();
        let Waiting { ready, woken, .. } = &state.pollers[self.poller];
        *woken || !ready.is_empty()
    }

    /// When the next late event comes, of any poller.
    pub(crate) fn next_late(&self) -> Option<Duration> {
        self.state().late.iter().map(|(at, ..)| *at).min()
    }

    pub(crate) fn wakes(&self) -> usize {
        self.state().wakes
    }

    pub(crate) fn sleeps(&self) -> usize {
        self.state().sleeps
    }

    pub(crate) fn wake(&self) {
        let mut state = self.state();
        state.pollers[self.poller].woken = true;
        state.wakes += 1;
    }

    pub(crate) fn wait(&self, timeout: Option<Duration>, ready: &mut Vec<Ready>) {
        let state = &mut *self.state();
        state.late_events();
        state.disturb(self.poller);
        let Waiting { ready: waiting, woken, events } = &mut state.pollers[self.poller];
        if std::mem::take(woken) {
            ready.push(Ready { source: Source::Commands, readiness: Readiness::READABLE });
        }
        let mut n = waiting.len().min(events.saturating_sub(ready.len()));
        if n > 1 {
            if let Some(mut roll) = state.dice.happens(Kind::HalfBatch, self.poller) {
                n = 1 + roll.below(n - 1);
            }
        }
        ready.extend(waiting.drain(..n));
        if ready.is_empty() {
            match timeout {
                Some(timeout) => state.elapsed += timeout,
                None => state.sleeps += 1,
            }
        }
    }

    /// A connection without a listener: for dials.
    pub(crate) fn link(&self) -> Peer {
        let mut state = self.state();
        state.links.push(Link::new());
        Peer { world: self.clone(), link: state.links.len() - 1 }
    }

    /// The far ends of all connections so far.
    pub(crate) fn links(&self) -> Vec<Peer> {
        let count = self.state().links.len();
        (0..count).map(|link| Peer { world: self.clone(), link }).collect()
    }

    /// An event out of nowhere, or of the past.
    pub(crate) fn inject(&self, source: Source, readiness: Readiness) {
        self.state().push(self.poller, Ready { source, readiness });
    }

    pub(super) fn register(&self, stream: &Stream, source: Source) {
        #[cfg(feature = "tls")]
        if let Stream::Tls(tls) = stream {
            return self.register(tls.inner(), source);
        }
        let Stream::Mem(stream) = stream else { return };
        let mut state = self.state();
        let link = &mut state.links[stream.link];
        if let Some(before) = link.source.replace((self.poller, source)) {
            state.gone.push(before);
        }
        let link = &state.links[stream.link];
        if matches!(link.dialed, Some((_, false))) && link.error.is_none() {
            return;
        }
        let mut readiness = Readiness::WRITABLE;
        if !link.input.is_empty() || link.input_ended || link.error.is_some() {
            readiness = readiness.and(Readiness::READABLE);
        }
        if link.input_ended {
            readiness = readiness.and(Readiness::READ_CLOSED);
        }
        if link.error.is_some() {
            readiness =
                readiness.and(Readiness::ERROR).and(Readiness::READ_CLOSED).and(Readiness::WRITE_CLOSED);
        }
        state.edge(stream.link, readiness);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn push(&mut self, poller: usize, ready: Ready) {
        self.pollers[poller].ready.push(ready);
    }

    fn edge(&mut self, link: usize, readiness: Readiness) {
        match self.dice.happens(Kind::LateEvent, link) {
            Some(mut roll) => {
                self.edge_after(link, readiness, Duration::from_micros(roll.below(3_000) as u64));
            }
            None => self.edge_after(link, readiness, Duration::ZERO),
        }
    }

    /// An event that comes later, whatever has become of its source by then.
    fn edge_after(&mut self, link: usize, readiness: Readiness, delay: Duration) {
        let Some((poller, source)) = self.links[link].source else { return };
        let ready = Ready { source, readiness };
        if delay.is_zero() {
            self.push(poller, ready);
        } else {
            self.late.push((self.elapsed + delay, poller, ready));
        }
    }

    /// Late events whose time has come.
    fn late_events(&mut self) {
        let now = self.elapsed;
        let mut at = 0;
        while let Some((due, poller, ready)) = self.late.get(at).copied() {
            if due > now {
                at += 1;
                continue;
            }
            self.late.remove(at);
            self.push(poller, ready);
        }
    }

    /// What a poller may tell beside what is.
    fn disturb(&mut self, poller: usize) {
        if let Some(mut roll) = self.dice.happens(Kind::Spurious, poller) {
            let all = Readiness::READABLE.and(Readiness::WRITABLE);
            let link = roll.below(self.links.len());
            match self.links.get(link).map(|link| (link.source, &link.dialed)) {
                Some((Some((of, source)), dialed)) if of == poller => {
                    // Of one that still connects nothing may be told but that.
                    let readiness =
                        if matches!(dialed, Some((_, false))) { Readiness::WRITABLE } else { all };
                    self.push(poller, Ready { source, readiness });
                }
                _ => {}
            }
        }
        if let Some(mut roll) = self.dice.happens(Kind::Stale, poller) {
            let gone = self.gone.len();
            // Mostly of those that have just gone.
            let among = if roll.one_in(4) { gone } else { gone.min(3) };
            let back = roll.below(among);
            if let Some((of, source)) = gone.checked_sub(1 + back).map(|at| self.gone[at]) {
                let all = Readiness::READABLE.and(Readiness::WRITABLE).and(Readiness::READ_CLOSED);
                let worst = all.and(Readiness::WRITE_CLOSED).and(Readiness::ERROR);
                let readiness = if roll.one_in(2) { all } else { worst };
                self.push(of, Ready { source, readiness });
            }
        }
        if let Some(mut roll) = self.dice.happens(Kind::Order, poller) {
            let ready = &mut self.pollers[poller].ready;
            for at in (1..ready.len()).rev() {
                ready.swap(at, roll.below(at + 1));
            }
        }
        if self.dice.happens(Kind::Wake, poller).is_some() {
            self.pollers[poller].woken = true;
        }
    }
}
