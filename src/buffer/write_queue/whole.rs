//! The part of a queue that is kept as whole messages, so that some of them can be dropped.

use std::collections::VecDeque;

use super::parcels::{Label, Parcels, Payload};
use super::{Chunk, Pool, Run, WriteQueue};

impl WriteQueue {
    /// Whether whole messages wait, behind which everything has to be appended.
    pub(crate) fn has_parcels(&self) -> bool {
        self.backlog.as_ref().is_some_and(|backlog| backlog.parcels.is_some())
    }

    /// Appends a whole message that can be taken out again until it is begun.
    pub(crate) fn push(&mut self, payload: Payload, label: Label, pool: &mut Pool) {
        let len = payload.bytes().len();
        if len > 0 {
            self.bytes += len;
            self.parcels(pool).push(payload, label);
        }
    }

    pub(super) fn parcels(&mut self, pool: &mut Pool) -> &mut Parcels {
        self.backlog.get_or_insert_with(|| pool.backlog()).parcels.get_or_insert_default()
    }

    /// Drops what `drop` says of the whole messages that wait. Returns how many that were.
    fn drop_some(&mut self, pool: &mut Pool, drop: impl FnOnce(&mut Parcels) -> u64) -> u64 {
        self.unbundle(pool);
        let parcels = self.parcels(pool);
        let before = parcels.bytes();
        let dropped = drop(parcels);
        self.bytes -= before - parcels.bytes();
        self.settle_parcels(pool);
        dropped
    }

    /// Drops the oldest messages that are not begun until no more than `max` bytes wait. Returns how many.
    pub(crate) fn drop_oldest(&mut self, max: usize, pool: &mut Pool) -> u64 {
        let over = self.bytes.saturating_sub(max);
        self.drop_some(pool, |parcels| {
            let before = parcels.bytes();
            let mut dropped = 0;
            while before - parcels.bytes() < over && parcels.drop_oldest() {
                dropped += 1;
            }
            dropped
        })
    }

    /// Drops the messages of `key` that are not begun. Returns how many.
    pub(crate) fn drop_key(&mut self, key: u64, pool: &mut Pool) -> u64 {
        self.drop_some(pool, |parcels| parcels.drop_key(key))
    }

    /// Drops all messages that are not begun and have a newer one of the same key. Returns how many.
    pub(crate) fn drop_obsolete(&mut self, pool: &mut Pool) -> u64 {
        self.drop_some(pool, Parcels::drop_obsolete)
    }

    /// Takes the parcels away when none is left, and everything when nothing is.
    fn settle_parcels(&mut self, pool: &mut Pool) {
        if self.bytes == 0 {
            return self.clear(pool);
        }
        if let Some(backlog) = &mut self.backlog {
            if backlog.parcels.as_ref().is_some_and(|parcels| parcels.is_empty()) {
                backlog.parcels = None;
            }
        }
    }

    /// Makes whole messages of all that are not begun. Once for a queue that is too long: what comes later is a parcel.
    fn unbundle(&mut self, pool: &mut Pool) {
        let mut parcels =
            self.backlog.as_mut().and_then(|backlog| backlog.parcels.take()).unwrap_or_default();
        let bundled = self.messages();
        if bundled == u64::from(self.begun > 0) {
            *self.parcels(pool) = *parcels;
            return;
        }
        let (tail, sent, begun) = (std::mem::take(&mut self.tail), self.sent, self.begun);
        let mut backlog = self.backlog.take().unwrap_or_else(|| pool.backlog());
        backlog.runs.push_back(std::mem::take(&mut self.last));
        let chunks = std::mem::take(&mut backlog.chunks);
        let runs = std::mem::take(&mut backlog.runs);
        WriteQueue::clear_backlog(backlog, pool);
        (self.sent, self.bytes, self.begun) = (0, 0, 0);

        let mut whole = Vec::new();
        let mut source = Pieces { chunks, tail: &tail, at: sent };
        let mut rest = begun;
        for run in runs {
            for _ in 0..run.count {
                match source.take(run.len - rest) {
                    Payload::Shared(shared) if rest > 0 => self.share(shared, pool),
                    Payload::Own(bytes) if rest > 0 => self.copy(&bytes, pool),
                    payload => whole.push(payload),
                }
                if rest > 0 {
                    self.last = Run { len: run.len, count: 1 };
                    self.begun = rest;
                    rest = 0;
                }
            }
        }
        pool.give_output(tail);
        for payload in whole.into_iter().rev() {
            parcels.push_front(payload);
        }
        self.bytes += parcels.bytes();
        *self.parcels(pool) = *parcels;
    }
}

/// The bytes of a queue, taken message by message.
struct Pieces<'a> {
    chunks: VecDeque<Chunk>,
    tail: &'a [u8],
    /// What is taken of the front.
    at: usize,
}

impl Pieces<'_> {
    /// The next `len` bytes: shared when they are within one shared chunk, otherwise copied.
    fn take(&mut self, len: usize) -> Payload {
        if let Some(Chunk::Shared(shared)) = self.chunks.front() {
            if shared.len() - self.at >= len {
                let part = shared.part(self.at, self.at + len);
                self.skip(len);
                return Payload::Shared(part);
            }
        }
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let front = self.chunks.front().map_or(self.tail, Chunk::bytes);
            let n = (len - bytes.len()).min(front.len() - self.at);
            if n == 0 {
                break; // there is no more: the runs say otherwise
            }
            bytes.extend_from_slice(&front[self.at..self.at + n]);
            self.skip(n);
        }
        Payload::Own(bytes.into())
    }

    fn skip(&mut self, n: usize) {
        self.at += n;
        if self.chunks.front().is_some_and(|chunk| self.at >= chunk.bytes().len()) {
            self.chunks.pop_front();
            self.at = 0;
        }
    }
}
