//! Bytes that several queues may hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// How many shared bytes all queues of one reactor hold, each payload counted once, however many hold it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger(Arc<AtomicUsize>);

impl Ledger {
    pub(crate) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Enters a payload. It is struck off when the last queue has let go of it.
    pub(crate) fn enter(&self, bytes: Bytes) -> Shared {
        let entry = Arc::new(Entry { len: bytes.len(), ledger: Arc::clone(&self.0) });
        self.0.fetch_add(entry.len, Ordering::Relaxed);
        Shared { bytes, entry }
    }
}

#[derive(Debug)]
struct Entry {
    len: usize,
    ledger: Arc<AtomicUsize>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.ledger.fetch_sub(self.len, Ordering::Relaxed);
    }
}

/// A payload, or a part of one, that is in the ledger.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    bytes: Bytes,
    /// Its drop is what it is for.
    entry: Arc<Entry>,
}

impl Shared {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes from `from` to `to`.
    pub(super) fn part(&self, from: usize, to: usize) -> Shared {
        Shared { bytes: self.bytes.slice(from..to), entry: Arc::clone(&self.entry) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_counts_once_until_the_last_has_let_go_of_it() {
        let ledger = Ledger::default();
        let one = ledger.enter(Bytes::from_static(b"payload"));
        let two = one.part(3, 7);
        assert_eq!((ledger.bytes(), two.bytes()), (7, &b"load"[..]));
        drop(one);
        assert_eq!(ledger.bytes(), 7);
        drop(two);
        assert_eq!(ledger.bytes(), 0);
    }
}
