//! The free list of one reactor.

use super::write_queue::Backlog;

/// The capacity of a new buffer for small output: a batch of small replies fits, and 1,000 of them are 4 MiB.
const WRITE_BUFFER: usize = 4 * 1024;
/// The least size of a buffer that holds half a message.
const READ_BUFFER_MIN: usize = 512;
/// Buffers up to this capacity are interchangeable; larger ones are looked for by size.
const SMALL: usize = 128 * 1024;
/// How many buffers are looked at for one of the right size.
const LOOK: usize = 64;
/// How many backlogs are kept, and how long each may be.
const BACKLOGS: usize = 256;

/// Buffers that nobody uses at the moment, kept so that the steady state allocates nothing.
///
/// Bounded by capacity. What is over the bound is freed at once; [`trim`](Pool::trim) frees what has not been needed since
/// the last time, so that a burst's memory goes back.
#[derive(Debug)]
pub(crate) struct Pool {
    /// Empty vectors with capacity, for output.
    small: Vec<Vec<u8>>,
    large: Vec<Vec<u8>>,
    /// Vectors whose whole length is initialised, for input: nothing is zeroed twice.
    inputs: Vec<Vec<u8>>,
    #[expect(clippy::vec_box, reason = "the boxes themselves are what is kept")]
    backlogs: Vec<Box<Backlog>>,
    /// The capacity of all that is kept.
    kept: usize,
    kept_max: usize,
    /// The least that was kept since the last trim: so much was needed by nobody.
    idle: usize,
}

impl Pool {
    pub(crate) fn new(kept_max: usize) -> Pool {
        Pool {
            small: Vec::new(),
            large: Vec::new(),
            inputs: Vec::new(),
            backlogs: Vec::new(),
            kept: 0,
            kept_max,
            idle: 0,
        }
    }

    /// An empty vector for output, with room for at least `room` bytes.
    #[inline]
    pub(crate) fn output(&mut self, room: usize) -> Vec<u8> {
        if room <= SMALL {
            if let Some(buffer) = self.small.pop() {
                self.took(buffer.capacity());
                return buffer;
            }
            return Vec::with_capacity(room.max(WRITE_BUFFER));
        }
        match self.large.iter().rposition(|b| b.capacity() >= room) {
            Some(at) => {
                let buffer = self.large.swap_remove(at);
                self.took(buffer.capacity());
                buffer
            }
            None => Vec::with_capacity(room),
        }
    }

    /// A vector of at least `len` bytes of initialised memory with arbitrary content. Takes a kept one of up to any size:
    /// that memory is there already.
    pub(crate) fn input(&mut self, len: usize) -> Vec<u8> {
        let fit = |b: &Vec<u8>| b.len() >= len && (len > SMALL || b.len() <= SMALL);
        let recent = self.inputs.len().saturating_sub(LOOK);
        match self.inputs[recent..].iter().rposition(fit).map(|at| recent + at) {
            Some(at) => {
                let buffer = self.inputs.swap_remove(at);
                self.took(buffer.capacity());
                buffer
            }
            None => vec![0; len.max(READ_BUFFER_MIN)],
        }
    }

    /// A kept buffer for input of at least `len` bytes, if there is one.
    pub(crate) fn kept_input(&mut self, len: usize) -> Option<Vec<u8>> {
        let recent = self.inputs.len().saturating_sub(LOOK);
        let at = recent + self.inputs[recent..].iter().rposition(|b| b.len() >= len)?;
        let buffer = self.inputs.swap_remove(at);
        self.took(buffer.capacity());
        Some(buffer)
    }

    /// Takes an output buffer back. Its content is forgotten.
    #[inline]
    pub(crate) fn give_output(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if capacity == 0 || self.kept + capacity > self.kept_max {
            return;
        }
        buffer.clear();
        self.kept += capacity;
        if capacity <= SMALL { self.small.push(buffer) } else { self.large.push(buffer) }
    }

    /// Takes an input buffer back; all of its length is initialised.
    pub(crate) fn give_input(&mut self, buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if capacity == 0 || self.kept + capacity > self.kept_max {
            return;
        }
        self.kept += capacity;
        self.inputs.push(buffer);
    }

    pub(crate) fn backlog(&mut self) -> Box<Backlog> {
        self.backlogs.pop().unwrap_or_default()
    }

    pub(crate) fn give_backlog(&mut self, backlog: Box<Backlog>) {
        if self.backlogs.len() < BACKLOGS && backlog.is_small() {
            self.backlogs.push(backlog);
        }
    }

    /// The capacity that is kept for later, in bytes.
    pub(crate) fn kept(&self) -> usize {
        self.kept
    }

    /// Frees what nobody has needed since the last trim. Called now and then.
    pub(crate) fn trim(&mut self) {
        let target = self.kept - self.idle;
        for list in [&mut self.large, &mut self.inputs, &mut self.small] {
            while self.kept > target {
                let Some(buffer) = list.pop() else { break };
                self.kept -= buffer.capacity();
            }
            list.shrink_to(list.len());
        }
        if self.idle > 0 {
            self.backlogs.clear();
        }
        self.idle = self.kept;
    }

    #[inline]
    fn took(&mut self, capacity: usize) {
        self.kept -= capacity;
        self.idle = self.idle.min(self.kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_returned_buffer_is_used_again() {
        let mut pool = Pool::new(1 << 20);
        let mut buffer = pool.output(10);
        buffer.extend_from_slice(b"hello");
        let at = buffer.as_ptr();
        pool.give_output(buffer);
        let again = pool.output(10);
        assert_eq!((again.as_ptr(), again.len()), (at, 0));
    }

    #[test]
    fn more_than_the_bound_is_freed_at_once() {
        let mut pool = Pool::new(10_000);
        pool.give_output(Vec::with_capacity(8_000));
        pool.give_output(Vec::with_capacity(8_000));
        assert_eq!(pool.kept(), 8_000);
        pool.give_input(vec![0; 8_000]);
        assert_eq!(pool.kept(), 8_000);
    }

    #[test]
    fn what_nobody_needed_between_two_trims_is_freed() {
        let mut pool = Pool::new(1 << 20);
        pool.give_output(Vec::with_capacity(4_096));
        pool.give_input(vec![0; 300_000]);
        pool.trim();
        assert_eq!(pool.kept(), 304_096, "just given back: not idle yet");
        let used = pool.output(1);
        pool.give_output(used);
        pool.trim();
        assert_eq!(pool.kept(), 4_096, "the large one was not needed since");
        pool.trim();
        assert_eq!(pool.kept(), 0);
    }

    #[test]
    fn a_large_buffer_is_not_spent_on_a_small_need() {
        let mut pool = Pool::new(1 << 30);
        pool.give_input(vec![0; 1 << 22]);
        assert!(pool.input(100).len() < SMALL);
        assert_eq!(pool.input(1 << 21).len(), 1 << 22);
    }
}
