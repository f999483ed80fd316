//! Peers that do anything.

use std::time::Duration;

use super::World;
use super::peer::Peer;
use crate::address::Address;
use crate::net::mem::{Kind, Roll};

/// What makes a message of a random peer: the bytes of a frame. It is told the how manieth of that connection it is.
type Message = Box<dyn FnMut(&mut Roll, u64) -> Vec<u8>>;

/// Random peers of one address: they connect, send whole frames and halves, end their side, reset, close, stop reading and
/// go on. What each does is drawn from the world's seed, and can be left out when a failure is made smaller.
pub struct Crowd<'w> {
    world: &'w World,
    at: Address,
    message: Message,
    places: Vec<Option<Place>>,
    /// Those whose places were taken by others.
    past: Vec<Peer>,
}

/// A connection of a random peer, and what it has still to send.
struct Place {
    peer: Peer,
    rest: Vec<u8>,
    messages: u64,
    over: bool,
}

impl std::fmt::Debug for Crowd<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Crowd").field("peers", &self.places.len()).finish_non_exhaustive()
    }
}

impl<'w> Crowd<'w> {
    pub(super) fn new(world: &'w World, at: Address, peers: usize, message: Message) -> Crowd<'w> {
        let places = (0..peers).map(|_| None).collect();
        Crowd { world, at, message, places, past: Vec::new() }
    }

    /// So many of its peers do something, one after another, with some of the world's time in between: mostly little.
    pub fn live(&mut self, steps: usize) {
        for step in 0..steps {
            let place = step % self.places.len().max(1);
            let Some(mut roll) = self.world.engine.dice.draws(Kind::Step, place, 1) else { continue };
            // Not all of them by turns.
            let place = if roll.one_in(2) { place } else { roll.below(self.places.len()) };
            self.act(place, &mut roll);
            match roll.below(8) {
                0..=2 => {}
                3 => self.world.settle(),
                4..=6 => self.world.run_for(Duration::from_micros(roll.below(3_000) as u64)),
                _ => self.world.run_for(Duration::from_millis(roll.below(2_000) as u64)),
            }
        }
    }

    fn act(&mut self, at: usize, roll: &mut Roll) {
        let Some(slot) = self.places.get_mut(at) else { return };
        let fresh = match slot {
            Some(place) => place.over || place.peer.ended().is_some(),
            None => true,
        };
        if fresh {
            let mut peer = self.world.dial(&self.at);
            if roll.one_in(2) {
                peer.room(256 + roll.below(20_000));
            }
            let place = Place { peer, rest: Vec::new(), messages: 0, over: false };
            self.past.extend(slot.replace(place).map(|place| place.peer));
            if roll.one_in(2) {
                return;
            }
        }
        let Some(place) = slot else { return };
        let Place { peer, rest, messages, over } = place;
        match roll.below(20) {
            0 => {
                peer.reset();
                *over = true;
            }
            1 => {
                peer.close();
                *over = true;
            }
            2 => {
                // Sometimes in the middle of a frame.
                peer.shut_down_writing();
                *over = true;
            }
            3 => drop(peer.stop_reading()),
            4 | 5 => drop(peer.read_again()),
            n => {
                if rest.is_empty() {
                    for _ in 0..=roll.below(3) {
                        rest.extend((self.message)(roll, *messages));
                        *messages += 1;
                    }
                }
                let part = if n < 10 { roll.below(rest.len() + 1) } else { rest.len() };
                peer.send(rest.drain(..part).as_slice());
            }
        }
    }

    /// All peers so far, those that have ended included.
    pub fn peers(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.past.iter_mut().chain(self.places.iter_mut().flatten().map(|place| &mut place.peer))
    }
}
