//! What makes the world go: whatever can happen at the moment happens, then time jumps to the next event.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::jobs::Bench;
use super::line::Line;
use super::server::Turns;
use crate::net::mem::{Dice, World as Net};

/// So many steps without any time in between are a loop that never rests.
const STEPS_MAX: usize = 200_000;

/// A listener that lacks something may pause for a second, again and again.
const RECOVERS_IN: Duration = Duration::from_secs(60);

/// How far the world runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Run {
    /// Until nothing is under way any more. Deadlines and timers that lie ahead are none of that.
    Settle,
    /// Until that time.
    Until(Duration),
}

pub(super) struct Engine {
    pub(super) net: Net,
    pub(super) dice: Dice,
    pub(super) reactors: RefCell<Vec<Rc<dyn Turns>>>,
    pub(super) lines: RefCell<Vec<Line>>,
    pub(super) benches: RefCell<Vec<Bench>>,
    /// How long an expectation waits, in the world's time.
    pub(super) patience: Cell<Duration>,
    /// Steps since time has passed.
    steps: Cell<usize>,
}

impl Engine {
    pub(super) fn new(dice: Dice) -> Engine {
        let net = Net::with(dice.clone());
        net.refuses_otherwise();
        Engine {
            net,
            dice,
            reactors: RefCell::default(),
            lines: RefCell::default(),
            benches: RefCell::default(),
            patience: Cell::new(Duration::from_secs(10)),
            steps: Cell::new(0),
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.net.elapsed()
    }

    /// Does what there is to do now. Returns whether there was anything.
    fn step(&self) -> bool {
        let steps = self.steps.get() + 1;
        self.steps.set(steps);
        assert!(steps < STEPS_MAX, "a promise is broken: the loop does not come to rest");
        // Late events are brought in, also those for reactors that have ended.
        let _ = self.net.has_events();
        let mut did = self.move_lines();
        for bench in self.benches.borrow_mut().iter_mut() {
            did |= bench.step(self.now(), &self.dice);
        }
        // A turn may make a reactor of the test's wish: the list is not held meanwhile.
        for at in 0.. {
            let Some(reactor) = self.reactors.borrow().get(at).cloned() else { break };
            did |= reactor.turn();
        }
        did
    }

    fn move_lines(&self) -> bool {
        let now = self.now();
        let mut lines = self.lines.borrow_mut();
        for (dialer, client) in self.net.take_pairs() {
            let first = lines.len();
            lines.push(Line::new(dialer, Some(first + 1)));
            lines.push(Line::new(client, Some(first)));
        }
        let mut did = false;
        for at in 0..lines.len() {
            let other = lines[at].other();
            let room = other.map_or(usize::MAX, |other| lines[other].room());
            let (moved, across) = lines[at].step(now, &self.dice, room);
            did |= moved;
            if let (true, Some(other)) = (moved, other) {
                lines[other].put_across(&across, now, &self.dice);
            }
        }
        did
    }

    /// When the next thing is due that is under way.
    fn next_under_way(&self) -> Option<Duration> {
        let now = self.now();
        let lines = self.lines.borrow();
        let benches = self.benches.borrow();
        let arrives = lines.iter().filter_map(|line| line.next(now));
        arrives.chain(self.net.next_late()).chain(benches.iter().filter_map(Bench::next)).min()
    }

    /// Runs until `done` says so, or as far as `run` says. Returns whether `done` has said so.
    pub(super) fn run(&self, run: Run, mut done: impl FnMut(&Engine) -> bool) -> bool {
        loop {
            if done(self) {
                return true;
            }
            if self.step() {
                continue;
            }
            let now = self.now();
            let mut next = self.next_under_way();
            if let Run::Until(until) = run {
                let timers = self.reactors.borrow();
                let timers = timers.iter().filter_map(|reactor| reactor.next());
                next = timers.map(|after| now.saturating_add(after)).chain(next).chain([until]).min();
                if now >= until {
                    return false;
                }
            }
            let Some(next) = next else { return false };
            self.steps.set(0);
            self.net.advance(next.saturating_sub(now));
        }
    }

    /// Lets a reactor take in who waits for it: a listener that pauses comes back.
    pub(super) fn let_clients_in(&self, reactor: &dyn Turns) {
        let until = self.now() + RECOVERS_IN;
        let waits = |_: &Engine| reactor.waiting_clients() == 0 || reactor.is_shutting_down();
        let taken = self.run(Run::Until(until), waits);
        assert!(taken, "a promise is broken: clients wait, and nobody takes them in");
    }

    /// Lets a reactor that shuts down come to its end, and looks at what it leaves.
    pub(super) fn run_to_the_end(&self, reactor: &dyn Turns) {
        let until = self.now() + reactor.patience();
        let ended = self.run(Run::Until(until), |_| reactor.is_finished());
        assert!(ended, "a promise is broken: a shutdown does not come to its end");
        if let Err(left) = reactor.left() {
            panic!("a promise is broken: {left}");
        }
    }

    /// Ends the world: every reactor shuts down, and nothing is left.
    pub(super) fn end(&self) {
        let reactors = self.reactors.borrow().clone();
        for reactor in reactors.iter().filter(|reactor| !reactor.is_shutting_down()) {
            self.let_clients_in(&**reactor);
            reactor.shut_down();
        }
        for reactor in &reactors {
            if !reactor.is_finished() {
                self.run_to_the_end(&**reactor);
            }
        }
        self.audit_bytes(&reactors);
    }

    /// What reactors have counted is what has gone through their sockets.
    fn audit_bytes(&self, reactors: &[Rc<dyn Turns>]) {
        let (mut read, mut written) = (0, 0);
        for reactor in reactors {
            let (bytes_in, bytes_out) = reactor.moved();
            (read, written) = (read + bytes_in, written + bytes_out);
        }
        let (mut came, mut went) = (0, 0);
        for link in self.net.links() {
            let (input, output) = link.moved();
            (came, went) = (came + input, went + output);
            assert!(
                link.dropped().is_some() || link.source().is_none(),
                "a promise is broken: a socket is left at the end"
            );
        }
        // What is dropped while a connection ends is read and not counted.
        assert!(
            read <= came && written == went,
            "a promise is broken: {came} bytes were read and {went} written, {read} and {written} counted"
        );
    }
}
