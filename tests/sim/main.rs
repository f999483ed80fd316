//! The simulated world: what it offers is what it says, the examples' handlers are tested in it, and a random handler among random
//! peers keeps the promises in thousands of worlds.

#![allow(clippy::duplicate_mod, reason = "each example has what examples share")]

mod examples;
mod failing;
mod random;
mod recorded;
mod words;

use mainspring::codec::LengthPrefixed;
use mainspring::sim;

/// A message as a frame of the default codec.
fn frame(message: impl AsRef<[u8]>) -> Vec<u8> {
    sim::encoded(&mut LengthPrefixed::default(), message.as_ref())
}
