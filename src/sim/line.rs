//! What is between a peer and a reactor's socket: bytes under way, in pieces and late as the dice have it; and what has come.

use std::collections::VecDeque;
use std::time::Duration;

use crate::net::mem::{Dice, Dropped, Kind, Look, Peer};

/// So many bytes may wait unread in the reactor's socket; more stay under way.
const WINDOW: usize = 64 * 1024;

/// How a peer has seen its connection end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// By a FIN, behind all that was sent.
    InOrder,
    /// By a reset, from whichever side: what was not taken yet is lost. A dial that is refused looks like that too.
    Reset,
}

#[derive(Debug)]
enum Packet {
    Bytes(Vec<u8>),
    Fin,
    Reset,
}

/// One connection's way to the reactor and back.
#[derive(Debug)]
pub(super) struct Line {
    far: Peer,
    /// On its way to the reactor, and when it arrives.
    to: VecDeque<(Duration, Packet)>,
    /// Bytes in there.
    under_way: usize,
    /// Has come back, and was not looked at.
    pub(super) came: Vec<u8>,
    pub(super) reads: bool,
    /// It takes nothing more: what still comes is answered by a reset.
    closed: bool,
    pub(super) end: Option<End>,
    /// It pauses until then.
    slow_until: Duration,
    /// The line of the reactor at the other end, where that is not a test's peer.
    other: Option<usize>,
    /// Nothing will come of it any more.
    over: bool,
    /// Bytes that were sent, and have arrived.
    pub(super) sent: u64,
    pub(super) arrived: u64,
}

/// What has to be put on the line at the other end.
#[derive(Debug, Default)]
pub(super) struct Across {
    bytes: Vec<u8>,
    end: Option<End>,
}

impl Line {
    pub(super) fn new(far: Peer, other: Option<usize>) -> Line {
        Line {
            far,
            to: VecDeque::new(),
            under_way: 0,
            came: Vec::new(),
            reads: true,
            closed: false,
            end: None,
            slow_until: Duration::ZERO,
            other,
            over: false,
            sent: 0,
            arrived: 0,
        }
    }

    /// One that was refused: nobody listens there.
    pub(super) fn refused(far: Peer) -> Line {
        Line { end: Some(End::Reset), closed: true, ..Line::new(far, None) }
    }

    pub(super) fn far(&self) -> &Peer {
        &self.far
    }

    pub(super) fn other(&self) -> Option<usize> {
        self.other
    }

    /// Sends bytes, in as many pieces as the dice have it.
    pub(super) fn send(&mut self, bytes: &[u8], now: Duration, dice: &Dice) {
        self.sent += bytes.len() as u64;
        let on = self.far.number();
        let mut rest = bytes;
        while !rest.is_empty() {
            let mut n = rest.len();
            if n > 1 {
                if let Some(mut roll) = dice.happens(Kind::Cut, on) {
                    // Early and late cuts as often as any other: headers are at the ends.
                    n = match roll.below(4) {
                        0 => 1 + roll.below(n.min(8)),
                        1 => n - roll.below(n.min(8)),
                        _ => 1 + roll.below(n),
                    };
                }
            }
            let (piece, more) = rest.split_at(n);
            self.put(Packet::Bytes(piece.to_vec()), now, dice);
            rest = more;
        }
    }

    fn put(&mut self, packet: Packet, now: Duration, dice: &Dice) {
        let delay = dice.happens(Kind::Delay, self.far.number()).map_or(Duration::ZERO, |mut roll| {
            let max = if roll.one_in(4) { 20_000 } else { 2_000 };
            Duration::from_micros(roll.below(max) as u64)
        });
        let last = self.to.back().map_or(Duration::ZERO, |(at, _)| *at);
        if let Packet::Bytes(bytes) = &packet {
            self.under_way += bytes.len();
        }
        self.over = false;
        self.to.push_back((last.max(now + delay), packet));
    }

    pub(super) fn shut_down_writing(&mut self, now: Duration, dice: &Dice) {
        self.put(Packet::Fin, now, dice);
    }

    /// Cuts the connection. What is under way before it may arrive first.
    pub(super) fn reset(&mut self, now: Duration, dice: &Dice) {
        self.put(Packet::Reset, now, dice);
        (self.closed, self.reads) = (true, true);
        self.end.get_or_insert(End::Reset);
    }

    /// As a program that ends: a FIN, and what still comes is answered by a reset.
    pub(super) fn close(&mut self, now: Duration, dice: &Dice) {
        self.put(Packet::Fin, now, dice);
        (self.closed, self.reads) = (true, true);
    }

    pub(super) fn put_across(&mut self, across: &Across, now: Duration, dice: &Dice) {
        self.send(&across.bytes, now, dice);
        match across.end {
            Some(End::InOrder) => self.put(Packet::Fin, now, dice),
            Some(End::Reset) => self.put(Packet::Reset, now, dice),
            None => {}
        }
    }

    /// How much more may be put on it by the line at the other end.
    pub(super) fn room(&self) -> usize {
        WINDOW.saturating_sub(self.under_way + self.far.unread())
    }

    /// Moves what can be moved now, one piece at most each way. Returns whether anything has, and what is for the line at
    /// the other end, which takes `room` bytes.
    pub(super) fn step(&mut self, now: Duration, dice: &Dice, room: usize) -> (bool, Across) {
        let mut across = Across::default();
        if self.over {
            return (false, across);
        }
        let look = self.far.look();
        let arrived = self.arrive(now, look);
        let took = self.take(now, dice, room, look, &mut across);
        self.over = self.end.is_some() && self.to.is_empty() && look.dropped.is_some() && look.untaken == 0;
        (arrived | took, across)
    }

    fn arrive(&mut self, now: Duration, look: Look) -> bool {
        let Some((at, packet)) = self.to.front() else { return false };
        let stays = matches!(packet, Packet::Bytes(_)) && look.unread >= WINDOW;
        if *at > now || (stays && look.dropped.is_none()) {
            return false;
        }
        let Some((_, packet)) = self.to.pop_front() else { return false };
        let gone = look.dropped.is_some();
        match packet {
            Packet::Bytes(bytes) => {
                self.under_way -= bytes.len();
                if gone {
                    self.end.get_or_insert(End::Reset);
                } else {
                    self.arrived += bytes.len() as u64;
                    self.far.send(&bytes);
                }
            }
            Packet::Fin if !gone => self.far.shut_down_writing(),
            Packet::Reset if !gone => self.far.reset(),
            Packet::Fin | Packet::Reset => {}
        }
        true
    }

    fn take(&mut self, now: Duration, dice: &Dice, room: usize, look: Look, across: &mut Across) -> bool {
        let (mut moved, mut untaken) = (false, look.untaken);
        if look.dropped == Some(Dropped::ByReset) {
            // What was not taken yet is lost with it.
            drop(self.far.take());
            untaken = 0;
            if self.end.is_none() {
                (self.end, across.end, moved) = (Some(End::Reset), Some(End::Reset), true);
            }
        }
        if self.reads && now >= self.slow_until {
            let mut n = untaken.min(room);
            if n > 0 {
                if let Some(mut roll) = dice.happens(Kind::Slow, self.far.number()) {
                    n = roll.below(n + 1);
                    self.slow_until = now + Duration::from_micros(1 + roll.below(5_000) as u64);
                }
                let bytes = self.far.take_some(n);
                untaken -= n;
                moved = true;
                if self.closed {
                    // Whoever writes to one that is gone is told so.
                    if self.end.replace(End::Reset) != Some(End::Reset) {
                        self.far.reset();
                    }
                } else if self.other.is_some() {
                    across.bytes = bytes;
                } else {
                    self.came.extend_from_slice(&bytes);
                }
            }
        }
        let over = look.output_ended || look.dropped == Some(Dropped::InOrder);
        if self.end.is_none() && over && untaken == 0 {
            (self.end, across.end, moved) = (Some(End::InOrder), Some(End::InOrder), true);
        }
        moved
    }

    /// When the next thing moves by itself, if time is what it waits for.
    pub(super) fn next(&self, now: Duration) -> Option<Duration> {
        if self.over {
            return None;
        }
        let arrives = self.to.front().map(|(at, _)| *at);
        let takes = (self.reads && self.far.look().untaken > 0).then_some(self.slow_until);
        [arrives, takes].into_iter().flatten().filter(|at| *at > now).min()
    }
}
