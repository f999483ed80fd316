//! Chance, drawn from a seed: the same seed gives the same world, and what happened by chance has a name, so that it can be
//! left out when the world is run again.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What can happen by chance, each kind with the letter that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    ShortRead,
    ShortWrite,
    Interrupt,
    NotYet,
    Full,
    LateEvent,
    Spurious,
    Stale,
    Order,
    HalfBatch,
    Accept,
    Wake,
    Cut,
    Delay,
    Slow,
    Step,
    Chance,
    Job,
}

const KINDS: [(Kind, char, &str); 18] = [
    (Kind::ShortRead, 'r', "a read is short"),
    (Kind::ShortWrite, 'w', "a write is short"),
    (Kind::Interrupt, 'i', "a signal interrupts a call"),
    (Kind::NotYet, 'n', "a read would block, though there is something"),
    (Kind::Full, 'f', "a write would block, though there is room"),
    (Kind::LateEvent, 'e', "an event is late"),
    (Kind::Spurious, 'x', "an event comes for nothing"),
    (Kind::Stale, 'o', "an event comes for a source that is gone"),
    (Kind::Order, 'b', "events come in another order"),
    (Kind::HalfBatch, 'h', "a part of the events comes a turn later"),
    (Kind::Accept, 'a', "an accept fails"),
    (Kind::Wake, 'k', "a wake-up for nothing"),
    (Kind::Cut, 'c', "bytes come in pieces"),
    (Kind::Delay, 'd', "bytes are under way for a while"),
    (Kind::Slow, 's', "a peer takes a part of what is there, and the rest later"),
    (Kind::Step, 'p', "a random peer does something"),
    (Kind::Chance, 'u', "a draw of the test"),
    (Kind::Job, 'j', "a job takes its time"),
];

/// One thing that happened by chance: its kind, on what (a connection, usually), and the how manieth chance of that it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) on: u32,
    pub(crate) at: u32,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}.{}", KINDS[self.kind as usize].1, self.on, self.at)
    }
}

impl Fault {
    /// What it is, in words.
    pub(crate) fn text(&self) -> String {
        let Fault { kind, on, at } = self;
        let what = KINDS[*kind as usize].2;
        match kind {
            Kind::Chance => format!("{what}: number {at}"),
            Kind::Step => format!("{what}: peer {on}, step {at}"),
            Kind::Spurious | Kind::Stale | Kind::Order | Kind::HalfBatch | Kind::Wake => {
                format!("{what}: reactor {on}, wait {at}")
            }
            Kind::Accept => format!("{what}: listener {on}, call {at}"),
            Kind::Job => format!("{what}: number {at}"),
            _ => format!("{what}: connection {on}, chance {at}"),
        }
    }
}

impl FromStr for Fault {
    type Err = ();

    fn from_str(text: &str) -> Result<Fault, ()> {
        let letter = text.chars().next().ok_or(())?;
        let (kind, ..) = KINDS.into_iter().find(|(_, other, _)| *other == letter).ok_or(())?;
        let (on, at) = text[letter.len_utf8()..].split_once('.').ok_or(())?;
        Ok(Fault { kind, on: on.parse().map_err(drop)?, at: at.parse().map_err(drop)? })
    }
}

/// What a draw has given: a small generator of its own, so that leaving another draw out changes nothing in it.
#[derive(Debug, Clone)]
pub struct Roll(u64);

impl Roll {
    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `n`; zero when `n` is.
    pub fn below(&mut self, n: usize) -> usize {
        (self.number() >> 33) as usize % n.max(1)
    }

    /// Once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

fn mix(mut n: u64) -> u64 {
    n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// All chance of one world. Cheap to clone; all clones are the same dice.
///
/// A handler under test may hold a clone, and do at random what it might do: so the seed says that too, and what it did
/// belongs to what can be left out when a failure is made smaller.
#[derive(Debug, Clone)]
pub struct Dice(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    seed: u64,
    /// How often each kind happens, once in so many chances; never for zero.
    strength: [u32; KINDS.len()],
    /// The only ones that may happen, sorted.
    keep: Option<Vec<Fault>>,
    /// How many chances there were, by kind and on what.
    counts: [Vec<u32>; KINDS.len()],
    happened: Vec<Fault>,
}

impl Dice {
    /// Dice of a seed. Every seed has its own favourites among what can go wrong, and leaves other kinds out altogether.
    pub(crate) fn new(seed: u64, keep: Option<Vec<Fault>>) -> Dice {
        let mut strength = [0; KINDS.len()];
        for (kind, strength) in strength.iter_mut().enumerate() {
            *strength = [0, 0, 60, 12, 3][(mix(seed ^ mix(kind as u64 + 1)) % 5) as usize];
        }
        Dice::with(seed, strength, keep)
    }

    /// Dice that never do anything by themselves.
    pub(crate) fn calm() -> Dice {
        Dice::with(0, [0; KINDS.len()], None)
    }

    fn with(seed: u64, strength: [u32; KINDS.len()], mut keep: Option<Vec<Fault>>) -> Dice {
        if let Some(keep) = &mut keep {
            keep.sort_unstable();
        }
        let counts = std::array::from_fn(|_| Vec::new());
        Dice(Arc::new(Mutex::new(State { seed, strength, keep, counts, happened: Vec::new() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.state().seed
    }

    /// A draw of the test's own, which says yes once in `n` times and never for zero. What happens because of it can be left
    /// out, so it is the word for what a handler *does* at random; the numbers that belong to it are the roll's.
    pub fn chance(&self, n: u32) -> Option<Roll> {
        self.state().draw(Kind::Chance, 0, n)
    }

    /// Whether something of that kind happens now.
    pub(crate) fn happens(&self, kind: Kind, on: usize) -> Option<Roll> {
        let mut state = self.state();
        let one_in = state.strength[kind as usize];
        if one_in == 0 { None } else { state.draw(kind, on as u32, one_in) }
    }

    /// As [`happens`](Dice::happens), once in `n` times whatever the seed's favourites are.
    pub(crate) fn draws(&self, kind: Kind, on: usize, n: u32) -> Option<Roll> {
        self.state().draw(kind, on as u32, n)
    }

    /// Whether that kind can happen in this world.
    pub(crate) fn knows(&self, kind: Kind) -> bool {
        self.state().strength[kind as usize] > 0
    }

    /// Numbers that depend on the seed and on `what` alone, whatever is left out: for what a world is like, not for what
    /// happens in it.
    pub fn fixed(&self, what: u64) -> Roll {
        Roll(mix(self.state().seed ^ mix(what ^ 0x5151)))
    }

    /// What has happened by chance so far.
    pub(crate) fn happened(&self) -> Vec<Fault> {
        self.state().happened.clone()
    }
}

impl State {
    fn draw(&mut self, kind: Kind, on: u32, one_in: u32) -> Option<Roll> {
        let counts = &mut self.counts[kind as usize];
        if counts.len() <= on as usize {
            counts.resize(on as usize + 1, 0);
        }
        let at = counts[on as usize];
        counts[on as usize] += 1;
        let number = mix(self.seed ^ mix((kind as u64) << 56 ^ u64::from(on) << 32 ^ u64::from(at) ^ 0x2b2b));
        if one_in == 0 || number % u64::from(one_in) != 0 {
            return None;
        }
        let fault = Fault { kind, on, at };
        if self.keep.as_ref().is_some_and(|keep| keep.binary_search(&fault).is_err()) {
            return None;
        }
        self.happened.push(fault);
        Some(Roll(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_can_be_said_and_read_back() {
        let dice = Dice::new(7, None);
        for n in 0..2_000 {
            dice.happens(KINDS[n % KINDS.len()].0, n % 3);
            dice.chance(5);
        }
        let happened = dice.happened();
        assert!(happened.len() > 100);
        for fault in happened {
            assert_eq!(fault.to_string().parse(), Ok(fault), "{}", fault.text());
        }
        for (index, (kind, ..)) in KINDS.into_iter().enumerate() {
            assert_eq!(kind as usize, index, "the table is in the order of the kinds");
        }
    }

    #[test]
    fn leaving_one_out_leaves_the_others_as_they_were() {
        let all = |keep| {
            let dice = Dice::new(3, keep);
            let rolls: Vec<_> =
                (0..500).filter_map(|_| dice.chance(4)).map(|mut roll| roll.number()).collect();
            (dice.happened(), rolls)
        };
        let (mut happened, mut rolls) = all(None);
        happened.remove(10);
        rolls.remove(10);
        assert_eq!(all(Some(happened.clone())), (happened, rolls));
    }
}
