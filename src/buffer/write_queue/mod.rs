//! What waits to be written to one stream: bytes in order, and where its messages end.

mod parcels;
mod shared;
#[cfg(test)]
mod tests;
mod whole;

use std::collections::VecDeque;
use std::io::IoSlice;

use super::Pool;
use parcels::Parcels;
pub(crate) use parcels::{Label, Payload};
pub(crate) use shared::{Ledger, Shared};

/// A chunk that has grown to this is left alone and another is begun, so that a long queue never moves.
const CHUNK: usize = 64 * 1024;
/// A copied part of at least this gets a chunk of its own.
const OWN_CHUNK: usize = 32 * 1024;
/// How many chunks go to the kernel in one vectored write.
pub(crate) const SLICES: usize = 32;

/// A queue of bytes, consumed by a cursor.
///
/// ```text
///   backlog.chunks            tail
/// +--------+--------+      +----------+
/// |####----|--------|      |------    |
/// +--------+--------+      +----------+
///  ^ `sent` bytes of the front are written; the front is the tail when there is no older chunk
/// ```
///
/// The usual batch of replies is one `tail` from the free list, written whole and given back: an empty queue holds no
/// memory. Ends of messages are kept as runs of equal lengths, so that every message counted as sent was handed over whole.
#[derive(Debug, Default)]
pub(crate) struct WriteQueue {
    tail: Vec<u8>,
    /// Bytes of the front chunk already written. Invariant: less than the front's length, or zero.
    sent: usize,
    /// Unsent bytes in all chunks.
    bytes: usize,
    /// The newest run of messages; older ones are in the backlog.
    last: Run,
    /// Bytes already written of the oldest unfinished message.
    begun: usize,
    backlog: Option<Box<Backlog>>,
}

/// Older chunks and runs, there only while one chunk and one run are not enough.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    chunks: VecDeque<Chunk>,
    /// The capacity of the owned chunks.
    capacity: usize,
    /// The length of the shared ones.
    shared: usize,
    runs: VecDeque<Run>,
    /// Whole messages behind all the rest, for a connection that may drop some.
    parcels: Option<Box<Parcels>>,
}

impl Backlog {
    /// Whether it is worth keeping for later.
    pub(super) fn is_small(&self) -> bool {
        self.chunks.capacity() <= 128 && self.runs.capacity() <= 512
    }
}

#[derive(Debug)]
enum Chunk {
    Owned(Vec<u8>),
    Shared(Shared),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Chunk::Owned(bytes) => bytes,
            Chunk::Shared(shared) => shared.bytes(),
        }
    }
}

/// So many messages in a row of this length each.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Run {
    len: usize,
    count: usize,
}

impl WriteQueue {
    /// Unsent bytes.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// What this queue holds alone, by capacity.
    #[inline]
    pub(crate) fn held(&self) -> usize {
        let Some(backlog) = &self.backlog else { return self.tail.capacity() };
        let parcels = backlog.parcels.as_ref().map_or(0, |parcels| parcels.held());
        self.tail.capacity() + backlog.capacity + backlog.runs.capacity() * size_of::<Run>() + parcels
    }

    /// What it holds together with others, by length.
    pub(crate) fn shared(&self) -> usize {
        let Some(backlog) = &self.backlog else { return 0 };
        backlog.shared + backlog.parcels.as_ref().map_or(0, |parcels| parcels.shared())
    }

    /// Where a message may be appended; [`commit`](WriteQueue::commit) follows, or [`undo`](WriteQueue::undo).
    #[inline]
    pub(crate) fn tail(&mut self, pool: &mut Pool) -> &mut Vec<u8> {
        if self.tail.len() >= CHUNK {
            self.retire_tail(pool);
        }
        if self.tail.capacity() == 0 {
            self.tail = pool.output(0);
        }
        &mut self.tail
    }

    /// Undoes what was appended to the tail and not committed, when a message could not be encoded.
    pub(crate) fn undo(&mut self, pool: &mut Pool) {
        if self.is_empty() {
            return self.clear(pool);
        }
        let (older, whole) = self.backlog.as_ref().map_or((0, 0), |backlog| {
            let older = backlog.chunks.iter().map(|chunk| chunk.bytes().len()).sum();
            (older, backlog.parcels.as_ref().map_or(0, |parcels| parcels.bytes()))
        });
        self.tail.truncate(self.bytes - whole + self.sent - older);
    }

    /// Counts a message of `len` bytes that was appended to the tail.
    #[inline]
    pub(crate) fn commit(&mut self, len: usize, pool: &mut Pool) {
        if len == 0 {
            return self.commit_nothing(pool);
        }
        self.bytes += len;
        self.mark(len, pool);
    }

    /// A message without bytes, as some framings have it.
    #[cold]
    fn commit_nothing(&mut self, pool: &mut Pool) {
        if self.is_empty() {
            self.clear(pool);
        }
    }

    /// As [`commit`](WriteQueue::commit), for so many messages of that length each.
    #[inline]
    pub(crate) fn commit_many(&mut self, len: usize, count: usize, pool: &mut Pool) {
        self.bytes += len * count;
        self.mark(len, pool);
        if len > 0 {
            self.last.count += count - 1;
        }
    }

    /// Appends a copy of `bytes`, which belong to a message that is counted by [`mark`](WriteQueue::mark).
    pub(crate) fn copy(&mut self, bytes: &[u8], pool: &mut Pool) {
        if bytes.is_empty() {
            return;
        }
        if bytes.len() >= OWN_CHUNK {
            self.retire_tail(pool);
            self.tail = pool.output(bytes.len());
        }
        let tail = self.tail(pool);
        tail.extend_from_slice(bytes);
        self.bytes += bytes.len();
    }

    /// Appends shared bytes, as [`copy`](WriteQueue::copy) but by one more reference.
    pub(crate) fn share(&mut self, shared: Shared, pool: &mut Pool) {
        if shared.len() == 0 {
            return;
        }
        self.retire_tail(pool);
        self.bytes += shared.len();
        let backlog = self.backlog.get_or_insert_with(|| pool.backlog());
        backlog.shared += shared.len();
        backlog.chunks.push_back(Chunk::Shared(shared));
    }

    /// Takes the bytes of the tail behind `len` out: the copied parts of a message that has others by reference.
    pub(crate) fn split_tail(&mut self, len: usize, pool: &mut Pool) -> Vec<u8> {
        let mut parts = pool.output(0);
        parts.extend_from_slice(&self.tail[len..]);
        self.tail.truncate(len);
        parts
    }

    /// Notes that a message of `len` bytes ends at the end of what is queued.
    #[inline]
    pub(crate) fn mark(&mut self, len: usize, pool: &mut Pool) {
        if self.last.len == len && self.last.count > 0 {
            self.last.count += 1;
        } else if self.last.count == 0 && len > 0 {
            self.last = Run { len, count: 1 };
        } else {
            self.begin_run(len, pool);
        }
    }

    #[inline(never)]
    fn begin_run(&mut self, len: usize, pool: &mut Pool) {
        if len == 0 {
            return; // a message without bytes has no end of its own
        }
        if self.last.count > 0 {
            self.backlog.get_or_insert_with(|| pool.backlog()).runs.push_back(self.last);
        }
        self.last = Run { len, count: 1 };
    }

    /// The unsent bytes when they are all in one chunk.
    #[inline]
    pub(crate) fn single(&self) -> Option<&[u8]> {
        match &self.backlog {
            Some(backlog) if !backlog.chunks.is_empty() || backlog.parcels.is_some() => None,
            _ => Some(&self.tail[self.sent..]),
        }
    }

    /// The front of the unsent bytes, at most `max` of them, in up to [`SLICES`] slices. Returns how many there are, and their
    /// bytes.
    pub(crate) fn slices<'a>(&'a self, into: &mut [IoSlice<'a>; SLICES], max: usize) -> (usize, usize) {
        let older = self.backlog.iter().flat_map(|backlog| &backlog.chunks).map(Chunk::bytes);
        let mut count = 0;
        let mut total = 0;
        for (at, bytes) in older.chain([self.tail.as_slice()]).take(SLICES).enumerate() {
            let bytes = if at == 0 { &bytes[self.sent..] } else { bytes };
            let bytes = &bytes[..bytes.len().min(max - total)];
            if !bytes.is_empty() {
                into[count] = IoSlice::new(bytes);
                count += 1;
                total += bytes.len();
            }
        }
        match self.backlog.as_ref().and_then(|backlog| backlog.parcels.as_ref()) {
            // Behind all the rest, not behind the front of it.
            Some(parcels) if total == self.bytes - parcels.bytes() => {
                let (count, more) = parcels.slices(into, count, max - total);
                (count, total + more)
            }
            _ => (count, total),
        }
    }

    /// A copy of all unsent bytes, for one who takes the connection over.
    pub(crate) fn to_vec(&self) -> Vec<u8> {
        let older = self.backlog.iter().flat_map(|backlog| &backlog.chunks).map(Chunk::bytes);
        let all: Vec<u8> = older.chain([self.tail.as_slice()]).flatten().copied().collect();
        let mut unsent = all[self.sent..].to_vec();
        if let Some(parcels) = self.backlog.as_ref().and_then(|backlog| backlog.parcels.as_ref()) {
            parcels.copy_to(&mut unsent);
        }
        unsent
    }

    /// The first `n` unsent bytes were written. Returns how many messages that finished.
    #[inline]
    pub(crate) fn advance(&mut self, n: usize, pool: &mut Pool) -> u64 {
        if n >= self.bytes {
            let frames = self.messages();
            self.clear(pool);
            return frames;
        }
        if self.has_parcels() {
            return self.advance_to_parcels(n, pool);
        }
        self.advance_front(n, pool)
    }

    /// As [`advance`](WriteQueue::advance), when whole messages wait behind the rest.
    #[cold]
    fn advance_to_parcels(&mut self, n: usize, pool: &mut Pool) -> u64 {
        let before = self.bytes - self.parcels(pool).bytes();
        if n < before {
            return self.advance_front(n, pool);
        }
        // The rest is done with: what was in it is counted, and its memory goes back.
        let parcels = self.backlog.as_mut().and_then(|backlog| backlog.parcels.take());
        let left = self.bytes - n;
        let mut frames = self.messages();
        self.clear(pool);
        if let Some(mut parcels) = parcels {
            frames += parcels.advance(n - before);
            self.backlog.get_or_insert_with(|| pool.backlog()).parcels = Some(parcels);
        }
        self.bytes = left;
        frames
    }

    /// The first `n` unsent bytes, fewer than those in chunks and tail, were written.
    #[inline]
    fn advance_front(&mut self, n: usize, pool: &mut Pool) -> u64 {
        let frames = self.unmark(n);
        self.bytes -= n;
        self.sent += n;
        while let Some(backlog) = &mut self.backlog {
            let Some(front) = backlog.chunks.front() else { break };
            let len = front.bytes().len();
            if self.sent < len {
                break;
            }
            self.sent -= len;
            match backlog.chunks.pop_front() {
                Some(Chunk::Owned(chunk)) => {
                    backlog.capacity -= chunk.capacity();
                    pool.give_output(chunk);
                }
                Some(Chunk::Shared(chunk)) => backlog.shared -= chunk.len(),
                None => {}
            }
        }
        frames
    }

    /// Whole or begun messages that wait.
    pub(crate) fn messages(&self) -> u64 {
        let older = self.backlog.as_ref().map_or(0, |backlog| {
            let runs: usize = backlog.runs.iter().map(|run| run.count).sum();
            runs + backlog.parcels.as_ref().map_or(0, |parcels| parcels.count())
        });
        (older + self.last.count) as u64
    }

    /// The unsent bytes of the first `messages` messages.
    pub(crate) fn bytes_of(&self, messages: usize) -> usize {
        let (mut left, mut bytes) = (messages, 0usize);
        let older = self.backlog.iter().flat_map(|backlog| &backlog.runs);
        for run in older.chain([&self.last]) {
            let count = run.count.min(left);
            bytes += count * run.len;
            left -= count;
        }
        let parcels = self.backlog.as_ref().and_then(|backlog| backlog.parcels.as_ref());
        (bytes - self.begun.min(bytes)) + parcels.map_or(0, |parcels| parcels.bytes_of(left))
    }

    /// The first `n` bytes of messages marked but not appended, or already taken off, are written.
    pub(crate) fn unmark(&mut self, n: usize) -> u64 {
        let mut left = self.begun + n;
        let mut frames = 0;
        loop {
            let mut runs = self.backlog.as_mut().map(|backlog| &mut backlog.runs).filter(|r| !r.is_empty());
            let run = match &mut runs {
                Some(runs) => &mut runs[0],
                None => &mut self.last,
            };
            if run.count == 0 {
                break;
            }
            let whole = run.count.min(left / run.len);
            run.count -= whole;
            left -= whole * run.len;
            frames += whole as u64;
            if run.count > 0 {
                break;
            }
            if let Some(runs) = runs {
                runs.pop_front();
            }
        }
        self.begun = left;
        frames
    }

    /// Drops everything and gives the memory back.
    #[inline]
    pub(crate) fn clear(&mut self, pool: &mut Pool) {
        pool.give_output(std::mem::take(&mut self.tail));
        self.sent = 0;
        self.bytes = 0;
        self.begun = 0;
        self.last = Run::default();
        if let Some(backlog) = self.backlog.take() {
            Self::clear_backlog(backlog, pool);
        }
    }

    #[cold]
    fn clear_backlog(mut backlog: Box<Backlog>, pool: &mut Pool) {
        for chunk in backlog.chunks.drain(..) {
            if let Chunk::Owned(chunk) = chunk {
                pool.give_output(chunk);
            }
        }
        (backlog.capacity, backlog.shared) = (0, 0);
        backlog.runs.clear();
        backlog.parcels = None;
        pool.give_backlog(backlog);
    }

    fn retire_tail(&mut self, pool: &mut Pool) {
        if self.tail.is_empty() {
            pool.give_output(std::mem::take(&mut self.tail));
            return;
        }
        let tail = std::mem::take(&mut self.tail);
        let backlog = self.backlog.get_or_insert_with(|| pool.backlog());
        backlog.capacity += tail.capacity();
        backlog.chunks.push_back(Chunk::Owned(tail));
    }
}
