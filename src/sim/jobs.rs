//! Jobs of workers, run by the world: in its time, and in the order that the dice have.

use std::time::Duration;

use crate::net::mem::{Dice, Kind};
use crate::workers::{Hands, Work};

/// The threads of a pool, played.
pub(super) struct Bench {
    hands: Hands,
    /// What each of them has in hand, and when it is done with it.
    running: Vec<(Duration, Work)>,
}

impl Bench {
    pub(super) fn new(hands: Hands) -> Bench {
        Bench { hands, running: Vec::new() }
    }

    /// Takes work as far as there are hands, and finishes one piece that is due. Returns whether anything was done.
    pub(super) fn step(&mut self, now: Duration, dice: &Dice) -> bool {
        while self.running.len() < self.hands.threads {
            let Some(work) = self.hands.take() else { break };
            let takes = dice.happens(Kind::Job, 0).map_or(0, |mut roll| roll.below(20_000));
            self.running.push((now + Duration::from_micros(takes as u64), work));
        }
        let due = |(_, (at, _)): &(usize, &(Duration, Work))| *at <= now;
        let Some((first, _)) = self.running.iter().enumerate().filter(due).min_by_key(|(_, (at, _))| *at)
        else {
            return false;
        };
        let (_, work) = self.running.remove(first);
        work();
        true
    }

    /// When the next piece of work is done.
    pub(super) fn next(&self) -> Option<Duration> {
        self.running.iter().map(|(at, _)| *at).min()
    }
}
