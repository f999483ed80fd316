//! What waits to be written to one stream: bytes in order, and where its messages end.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

use super::Pool;

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
    runs: VecDeque<Run>,
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
    Shared(Bytes),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Chunk::Owned(bytes) => bytes,
            Chunk::Shared(bytes) => bytes,
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

    /// What this queue holds, by capacity; shared bytes by length.
    #[inline]
    pub(crate) fn held(&self) -> usize {
        let Some(backlog) = &self.backlog else { return self.tail.capacity() };
        self.tail.capacity() + backlog.capacity + backlog.runs.capacity() * size_of::<Run>()
    }

    /// Where a message may be appended; [`commit`](WriteQueue::commit) follows, or a truncation to the length
    /// found here and [`release_if_empty`](WriteQueue::release_if_empty).
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

    /// Gives the tail back that a message was to be appended to and was not.
    pub(crate) fn release_if_empty(&mut self, pool: &mut Pool) {
        if self.is_empty() {
            self.clear(pool);
        }
    }

    /// Counts a message of `len` bytes that was appended to the tail.
    #[inline]
    pub(crate) fn commit(&mut self, len: usize, pool: &mut Pool) {
        self.bytes += len;
        self.mark(len, pool);
        if self.bytes == 0 {
            self.clear(pool); // a message without bytes, as some framings have it
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
    pub(crate) fn share(&mut self, bytes: Bytes, pool: &mut Pool) {
        if bytes.is_empty() {
            return;
        }
        self.retire_tail(pool);
        self.bytes += bytes.len();
        let backlog = self.backlog.get_or_insert_with(|| pool.backlog());
        backlog.capacity += bytes.len();
        backlog.chunks.push_back(Chunk::Shared(bytes));
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
            Some(backlog) if !backlog.chunks.is_empty() => None,
            _ => Some(&self.tail[self.sent..]),
        }
    }

    /// The front of the unsent bytes, in up to [`SLICES`] slices. Returns how many there are, and their bytes.
    pub(crate) fn slices<'a>(&'a self, into: &mut [IoSlice<'a>; SLICES]) -> (usize, usize) {
        let older = self.backlog.iter().flat_map(|backlog| &backlog.chunks).map(Chunk::bytes);
        let mut count = 0;
        let mut total = 0;
        for (at, bytes) in older.chain([self.tail.as_slice()]).take(SLICES).enumerate() {
            let bytes = if at == 0 { &bytes[self.sent..] } else { bytes };
            if !bytes.is_empty() {
                into[count] = IoSlice::new(bytes);
                count += 1;
                total += bytes.len();
            }
        }
        (count, total)
    }

    /// A copy of all unsent bytes, for one who takes the connection over.
    pub(crate) fn to_vec(&self) -> Vec<u8> {
        let older = self.backlog.iter().flat_map(|backlog| &backlog.chunks).map(Chunk::bytes);
        let all: Vec<u8> = older.chain([self.tail.as_slice()]).flatten().copied().collect();
        all[self.sent..].to_vec()
    }

    /// The first `n` unsent bytes were written. Returns how many messages that finished.
    #[inline]
    pub(crate) fn advance(&mut self, n: usize, pool: &mut Pool) -> u64 {
        if n >= self.bytes {
            let frames = self.messages();
            self.clear(pool);
            return frames;
        }
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
                Some(Chunk::Shared(chunk)) => backlog.capacity -= chunk.len(),
                None => {}
            }
        }
        frames
    }

    /// Whole or begun messages that wait.
    pub(crate) fn messages(&self) -> u64 {
        let older = self.backlog.as_ref().map_or(0, |backlog| backlog.runs.iter().map(|r| r.count).sum());
        (older + self.last.count) as u64
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
        backlog.capacity = 0;
        backlog.runs.clear();
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn queued(queue: &WriteQueue) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let (count, total) = queue.slices(&mut slices);
        let bytes: Vec<u8> = slices[..count].iter().flat_map(|s| s.to_vec()).collect();
        assert_eq!(bytes.len(), total);
        bytes
    }

    #[test]
    fn an_empty_queue_holds_no_memory() {
        let mut pool = Pool::new(1 << 20);
        let mut queue = WriteQueue::default();
        queue.tail(&mut pool).extend_from_slice(b"reply");
        queue.commit(5, &mut pool);
        assert_eq!(queue.single(), Some(&b"reply"[..]));
        assert_eq!(queue.advance(5, &mut pool), 1);
        assert_eq!((queue.held(), queue.bytes()), (0, 0));
    }

    #[test]
    fn a_message_counts_when_its_last_byte_is_written() {
        let mut pool = Pool::new(1 << 20);
        let mut queue = WriteQueue::default();
        for message in [&b"aaaa"[..], b"bb", b"cc"] {
            queue.tail(&mut pool).extend_from_slice(message);
            queue.commit(message.len(), &mut pool);
        }
        assert_eq!(queue.messages(), 3);
        assert_eq!(queue.advance(3, &mut pool), 0);
        assert_eq!(queue.advance(2, &mut pool), 1);
        assert_eq!(queue.advance(2, &mut pool), 1);
        assert_eq!(queued(&queue), b"c");
        assert_eq!(queue.advance(1, &mut pool), 1);
    }

    #[test]
    fn a_message_without_bytes_has_no_end_of_its_own() {
        let mut pool = Pool::new(1 << 20);
        let mut queue = WriteQueue::default();
        queue.tail(&mut pool);
        queue.commit(0, &mut pool);
        assert_eq!(queue.held(), 0);
        queue.commit_many(0, 3, &mut pool);
        queue.tail(&mut pool).extend_from_slice(b"ab");
        queue.commit_many(1, 2, &mut pool);
        assert_eq!(queue.messages(), 2);
        assert_eq!(queue.advance(1, &mut pool), 1);
    }

    #[derive(Debug, Clone)]
    enum Op {
        Small(usize),
        Copy(usize),
        Share(usize),
        Advance(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (1usize..50).prop_map(Op::Small),
            (1usize..40_000).prop_map(Op::Copy),
            (1usize..40_000).prop_map(Op::Share),
            (1usize..60_000).prop_map(Op::Advance),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Against a plain vector and a list of ends.
        #[test]
        fn any_order_of_operations_keeps_bytes_ends_and_capacity(ops in prop::collection::vec(op(), 1..30)) {
            let mut pool = Pool::new(1 << 20);
            let mut queue = WriteQueue::default();
            let mut bytes: VecDeque<u8> = VecDeque::new();
            let (mut total, mut written, mut ends) = (0usize, 0usize, VecDeque::new());
            for (step, op) in ops.into_iter().enumerate() {
                let fill = |n: usize| vec![step as u8; n];
                match op {
                    Op::Small(n) => {
                        queue.tail(&mut pool).extend_from_slice(&fill(n));
                        queue.commit(n, &mut pool);
                        bytes.extend(fill(n)); total += n; ends.push_back(total);
                    }
                    Op::Copy(n) => {
                        queue.copy(&fill(n), &mut pool);
                        queue.mark(n, &mut pool);
                        bytes.extend(fill(n)); total += n; ends.push_back(total);
                    }
                    Op::Share(n) => {
                        queue.share(Bytes::from(fill(n)), &mut pool);
                        queue.mark(n, &mut pool);
                        bytes.extend(fill(n)); total += n; ends.push_back(total);
                    }
                    Op::Advance(n) => {
                        let n = n.min(queue.bytes());
                        let frames = queue.advance(n, &mut pool);
                        bytes.drain(..n); written += n;
                        let mut expected = 0;
                        while ends.front().is_some_and(|end| *end <= written) { ends.pop_front(); expected += 1; }
                        prop_assert_eq!(frames, expected);
                    }
                }
                prop_assert_eq!(queue.bytes(), bytes.len());
                prop_assert_eq!(queue.messages(), ends.len() as u64);
                let front = queued(&queue);
                prop_assert!(bytes.iter().take(front.len()).eq(front.iter()));
                prop_assert!(queue.held() >= queue.bytes());
            }
            queue.clear(&mut pool);
            prop_assert_eq!((queue.held(), queue.bytes(), queue.messages()), (0, 0, 0));
        }
    }
}
