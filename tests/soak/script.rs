//! What one client does, drawn from the seed and its number alone: the same seed gives the same clients.

use std::collections::VecDeque;
use std::time::Duration;

/// What a message asks of the server; its first byte.
pub(crate) mod tag {
    /// Back at once.
    pub(crate) const ECHO: u8 = b'E';
    /// Back, by way of another thread.
    pub(crate) const LATER: u8 = b'L';
    /// Back, when a timer of the connection fires.
    pub(crate) const AFTER: u8 = b'A';
    /// From now on the client gets what is published.
    pub(crate) const JOIN: u8 = b'J';
    /// To all who have joined, but its sender. Broadcasts of the server's own have this tag too.
    pub(crate) const PUBLISH: u8 = b'P';
    /// The server does not read this client for a moment.
    pub(crate) const PAUSE: u8 = b'Z';
    /// A few messages from a repeating timer.
    pub(crate) const TICK: u8 = b'T';
    pub(crate) const CLOSE: u8 = b'C';
    pub(crate) const ABORT: u8 = b'X';
}

/// Frames longer than this are refused by the server.
pub(crate) const FRAME_MAX: usize = 256 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// A message of this tag, so many bytes behind its head.
    Say(u8, usize),
    /// A message without a byte.
    SayNothing,
    /// The same, a byte at a time, with so much time in between.
    Drip(u8, usize, Duration),
    /// These bytes as they are.
    Spoil(&'static [u8]),
    Rest(Duration),
    /// Reads no more, or reads again.
    Deaf(bool),
    /// Waits for everything that is to come back.
    AwaitReplies,
    EndOutput,
    AwaitEnd,
    /// Closes, whatever is unread or unsent.
    Leave,
    /// Closes by a reset.
    Reset,
}

/// Numbers that a seed gives again (`SplitMix64`).
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(crate) fn up_to_ms(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.below(most + 1))
    }

    /// Mostly small; now and then around the sizes at which something changes inside.
    fn len(&mut self) -> usize {
        let len = match self.below(40) {
            0 => 0,
            1 => 4_096 - 20 + self.below(40),
            2 => 16_384 - 20 + self.below(40),
            3 => 32_768 - 20 + self.below(40),
            4 => 65_536 - 20 + self.below(40),
            5 => self.below(200_000),
            6..=15 => self.below(4_000),
            _ => self.below(200),
        };
        len as usize
    }

    /// Something that comes back.
    fn question(&mut self) -> Step {
        match self.below(20) {
            0 => Step::SayNothing,
            1..=3 => Step::Say(tag::LATER, self.below(3_000) as usize),
            4..=5 => Step::Say(tag::AFTER, self.below(3_000) as usize),
            _ => Step::Say(tag::ECHO, self.len()),
        }
    }
}

/// The life of client `number`.
pub(crate) fn script(seed: u64, number: u32) -> VecDeque<Step> {
    let mut dice = Dice::new(seed ^ u64::from(number).wrapping_mul(0xd134_2543_de82_ef95));
    let mut steps = VecDeque::new();
    match dice.below(100) {
        // A port scan.
        0..=2 => steps.push_back(Step::Reset),
        3 => steps.push_back(Step::Leave),
        // One that never says a word.
        4..=7 => steps.extend([Step::Rest(dice.up_to_ms(2_500)), Step::Leave]),
        _ => {
            for _ in 0..=dice.below(10) {
                episode(&mut dice, &mut steps);
            }
            leave(&mut dice, &mut steps);
        }
    }
    steps
}

fn episode(dice: &mut Dice, steps: &mut VecDeque<Step>) {
    match dice.below(20) {
        0..=9 => {
            for _ in 0..=dice.below(8) {
                steps.push_back(dice.question());
            }
            if dice.below(2) == 0 {
                steps.push_back(Step::AwaitReplies);
            }
        }
        10..=11 => steps.push_back(Step::Rest(dice.up_to_ms(300))),
        // Longer than a server in haste has patience for, now and then.
        12 => steps.extend([Step::AwaitReplies, Step::Rest(dice.up_to_ms(2_000))]),
        13 => {
            let (len, every) = (dice.below(40) as usize, dice.up_to_ms(25));
            steps.push_back(Step::Drip(tag::ECHO, len, every));
        }
        14 => flood(dice, steps),
        15..=16 => steps.push_back(Step::Say(tag::JOIN, 0)),
        17 => steps.push_back(Step::Say(tag::PUBLISH, dice.below(20_000) as usize)),
        18 => {
            steps.push_back(Step::Say(tag::PAUSE, 0));
            steps.push_back(dice.question());
        }
        _ => steps.push_back(Step::Say(tag::TICK, 0)),
    }
}

/// Sends and does not read for a time.
fn flood(dice: &mut Dice, steps: &mut VecDeque<Step>) {
    steps.push_back(Step::Deaf(true));
    for _ in 0..=dice.below(12) {
        let len = 100 * dice.below(10) + if dice.below(4) == 0 { 50_000 } else { 5_000 };
        steps.push_back(Step::Say(tag::ECHO, len as usize));
    }
    steps.push_back(Step::Rest(dice.up_to_ms(2_000)));
    if dice.below(10) > 0 {
        steps.push_back(Step::Deaf(false));
    }
}

fn leave(dice: &mut Dice, steps: &mut VecDeque<Step>) {
    match dice.below(20) {
        0..=5 => steps.extend([Step::Deaf(false), Step::EndOutput, Step::AwaitEnd]),
        // What was asked is owed after the end of the input too.
        6..=7 => {
            for _ in 0..5 {
                steps.push_back(dice.question());
            }
            steps.extend([Step::Deaf(false), Step::EndOutput, Step::AwaitEnd]);
        }
        8..=9 => steps.extend([Step::Deaf(false), Step::AwaitReplies, Step::Leave]),
        10..=11 => steps.push_back(Step::Leave),
        12..=13 => steps.push_back(Step::Reset),
        14 => steps.extend([Step::Deaf(false), Step::Say(tag::CLOSE, 0), Step::AwaitEnd]),
        15 => steps.extend([Step::Deaf(false), Step::Say(tag::ABORT, 0), Step::AwaitEnd]),
        // A header that claims too much, and more behind it that nobody will read.
        16 => steps.extend([
            Step::Deaf(false),
            Step::Say(tag::ECHO, 1_000),
            Step::Spoil(b"GET / HTTP/1.1\r\n\r\n"),
            Step::AwaitEnd,
        ]),
        // The end inside a frame.
        17 => steps.extend([
            Step::Deaf(false),
            Step::Say(tag::ECHO, 1_000),
            Step::Spoil(b"\0\0\0\x09only a p"),
            Step::EndOutput,
            Step::AwaitEnd,
        ]),
        // Half a frame, and silence.
        18 => steps.extend([
            Step::Say(tag::ECHO, 1_000),
            Step::Spoil(b"\0\0\x01"),
            Step::Rest(dice.up_to_ms(3_000)),
            Step::Leave,
        ]),
        _ => {
            flood(dice, steps);
            steps.extend([Step::Deaf(true), Step::Rest(dice.up_to_ms(3_000)), Step::Leave]);
        }
    }
}
