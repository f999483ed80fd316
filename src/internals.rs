//! What the crate's own benches measure and no user sees, behind thin doors. No part of the interface: it may change with
//! any version. Nothing in the crate names it.

use std::io::IoSlice;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::buffer::{Ledger, Pool, SLICES, WriteQueue};
use crate::codec::{Codec, EncodeError, Output};
use crate::histogram::Histogram;
use crate::id::TimerId;
use crate::net::clock;
use crate::time::Timers;

/// The free list that buffers come from.
#[derive(Debug)]
pub struct Buffers(Pool);

impl Buffers {
    pub fn new(kept_max: usize) -> Buffers {
        Buffers(Pool::new(kept_max))
    }

    #[inline]
    pub fn output(&mut self, room: usize) -> Vec<u8> {
        self.0.output(room)
    }

    #[inline]
    pub fn give_output(&mut self, buffer: Vec<u8>) {
        self.0.give_output(buffer);
    }

    #[inline]
    pub fn input(&mut self, len: usize) -> Vec<u8> {
        self.0.input(len)
    }

    #[inline]
    pub fn give_input(&mut self, buffer: Vec<u8>) {
        self.0.give_input(buffer);
    }
}

/// The outbox of one connection, with a free list of its own.
#[derive(Debug)]
pub struct Outbox {
    queue: WriteQueue,
    pool: Pool,
    ledger: Ledger,
}

impl Outbox {
    pub fn new() -> Outbox {
        Outbox { queue: WriteQueue::default(), pool: Pool::new(64 << 20), ledger: Ledger::default() }
    }

    /// A small message, as a reactor appends it.
    ///
    /// # Errors
    /// The codec's own.
    #[inline]
    pub fn send<'m, C: Codec>(&mut self, codec: &mut C, message: C::Outgoing<'m>) -> Result<(), EncodeError> {
        let tail = self.queue.tail(&mut self.pool);
        let base = tail.len();
        codec.encode(message, &mut Output::to_vec(tail))?;
        let len = tail.len() - base;
        self.queue.commit(len, &mut self.pool);
        Ok(())
    }

    /// A header by copy and a payload by reference.
    #[inline]
    pub fn share(&mut self, header: &[u8], payload: &Bytes) {
        self.queue.mark(header.len() + payload.len(), &mut self.pool);
        self.queue.copy(header, &mut self.pool);
        self.queue.share(self.ledger.enter(payload.clone()), &mut self.pool);
    }

    /// Looks at the front as a flush does, and takes off what a socket that has room for `room` bytes would: the bytes, and
    /// how many messages are finished with them.
    #[inline]
    pub fn flush(&mut self, room: usize) -> (usize, u64) {
        let n = match self.queue.single() {
            Some(bytes) => bytes.len().min(room),
            None => {
                let mut slices = [IoSlice::new(&[]); SLICES];
                self.queue.slices(&mut slices, room).1
            }
        };
        (n, self.queue.advance(n, &mut self.pool))
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

impl Default for Outbox {
    fn default() -> Outbox {
        Outbox::new()
    }
}

/// The deadlines of one reactor, counted from its start.
#[derive(Debug)]
pub struct Deadlines {
    timers: Timers<u64>,
    start: Instant,
}

impl Deadlines {
    pub fn new() -> Deadlines {
        Deadlines { timers: Timers::new(), start: clock::now() }
    }

    #[inline]
    pub fn set(&mut self, at: Duration, what: u64) -> TimerId {
        TimerId(self.timers.set(self.start + at, what))
    }

    #[inline]
    pub fn cancel(&mut self, timer: TimerId) -> Option<u64> {
        self.timers.cancel(timer.0)
    }

    #[inline]
    pub fn reset(&mut self, timer: TimerId, at: Duration) -> bool {
        self.timers.reset(timer.0, self.start + at)
    }

    /// Takes the earliest out, when it is due.
    #[inline]
    pub fn fire(&mut self, now: Duration) -> Option<u64> {
        let (key, _) = self.timers.due(self.start + now, self.timers.sequence())?;
        self.timers.cancel(key)
    }
}

impl Default for Deadlines {
    fn default() -> Deadlines {
        Deadlines::new()
    }
}

/// What each dispatch does to a histogram.
#[inline]
pub fn record(histogram: &mut Histogram, took: Duration) {
    histogram.record(took);
}
