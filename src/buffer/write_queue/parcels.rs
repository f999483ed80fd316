//! Whole messages that wait, each of which can still be taken out.

use std::collections::{HashMap, VecDeque};
use std::io::IoSlice;

use super::Shared;

/// What a message is to those that may drop it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Label {
    /// A newer message of the same key makes this one obsolete.
    pub(crate) key: Option<u64>,
    /// Never dropped.
    pub(crate) control: bool,
}

/// The bytes of one message. Empty: it was taken out.
#[derive(Debug)]
pub(crate) enum Payload {
    Own(Box<[u8]>),
    Shared(Shared),
}

impl Payload {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Payload::Own(bytes) => bytes,
            Payload::Shared(shared) => shared.bytes(),
        }
    }
}

#[derive(Debug)]
struct Parcel {
    payload: Payload,
    label: Label,
    /// The number of the message of the same key before this one.
    before: Option<u64>,
}

/// A queue of messages that were not begun, but for the first. Messages have numbers in the order of their coming, so that one in
/// the middle is found, and taken out, without a search.
#[derive(Debug)]
pub(crate) struct Parcels {
    queue: VecDeque<Parcel>,
    /// The number of the front. Begins in the middle of all numbers, so that messages can be put in front.
    front: u64,
    /// Bytes of the front that are written.
    sent: usize,
    /// Unsent bytes of all.
    bytes: usize,
    /// Messages that were not taken out.
    count: usize,
    /// Bytes of those that are no one else's; and of those that are shared.
    own: usize,
    shared: usize,
    /// The newest message of each key.
    newest: HashMap<u64, u64>,
    /// Messages that wait, have a newer one of the same key, and are not for control.
    obsolete: usize,
    /// No message before this number can be dropped.
    droppable: u64,
}

impl Default for Parcels {
    fn default() -> Parcels {
        Parcels {
            queue: VecDeque::new(),
            front: u64::MAX / 2,
            sent: 0,
            bytes: 0,
            count: 0,
            own: 0,
            shared: 0,
            newest: HashMap::new(),
            obsolete: 0,
            droppable: 0,
        }
    }
}

impl Parcels {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn shared(&self) -> usize {
        self.shared
    }

    /// What it holds beside shared bytes.
    pub(super) fn held(&self) -> usize {
        let keys = self.newest.capacity() * size_of::<(u64, u64)>();
        self.own + self.queue.capacity() * size_of::<Parcel>() + keys
    }

    /// Appends a message, which must not be empty.
    pub(super) fn push(&mut self, payload: Payload, label: Label) {
        let number = self.front + self.queue.len() as u64;
        let before = label.key.and_then(|key| self.newest.insert(key, number));
        let before = before.filter(|before| self.waits(*before));
        self.obsolete += before.map_or(0, |before| self.counts(before));
        self.count_in(&payload);
        self.queue.push_back(Parcel { payload, label, before });
    }

    /// Puts a message without a label in front of all, none of which is begun.
    pub(super) fn push_front(&mut self, payload: Payload) {
        self.count_in(&payload);
        self.front -= 1;
        self.droppable = self.front;
        self.queue.push_front(Parcel { payload, label: Label::default(), before: None });
    }

    fn count_in(&mut self, payload: &Payload) {
        let len = payload.bytes().len();
        match payload {
            Payload::Own(_) => self.own += len,
            Payload::Shared(_) => self.shared += len,
        }
        self.bytes += len;
        self.count += 1;
    }

    /// Whether a message is here and was not taken out. It may be begun.
    fn waits(&self, number: u64) -> bool {
        self.parcel(number).is_some_and(|parcel| !parcel.payload.bytes().is_empty())
    }

    /// One, when that message is one that an obsolete message is counted for.
    fn counts(&self, number: u64) -> usize {
        self.parcel(number).map_or(0, |parcel| usize::from(!parcel.label.control))
    }

    fn parcel(&self, number: u64) -> Option<&Parcel> {
        self.queue.get(usize::try_from(number.checked_sub(self.front)?).ok()?)
    }

    /// Takes a message out, if it waits, is not begun, and is not one for control.
    fn take_out(&mut self, number: u64) -> bool {
        if !self.waits(number) || (number == self.front && self.sent > 0) {
            return false;
        }
        let at = (number - self.front) as usize;
        if self.queue[at].label.control {
            return false;
        }
        self.uncount(at);
        self.bytes -= self.queue[at].payload.bytes().len();
        self.queue[at].payload = Payload::Own(Box::default());
        self.drop_empty_front();
        true
    }

    /// A message that waited goes, sent or dropped.
    fn uncount(&mut self, at: usize) {
        let number = self.front + at as u64;
        let parcel = &self.queue[at];
        let len = parcel.payload.bytes().len();
        match parcel.payload {
            Payload::Own(_) => self.own -= len,
            Payload::Shared(_) => self.shared -= len,
        }
        self.count -= 1;
        let Some(key) = parcel.label.key else { return };
        if self.newest.get(&key) != Some(&number) {
            self.obsolete -= self.counts(number);
            return;
        }
        // The one before it that still waits is the newest again.
        let mut before = parcel.before;
        while let Some(older) = before.filter(|older| !self.waits(*older)) {
            before = self.parcel(older).and_then(|parcel| parcel.before);
        }
        match before {
            Some(older) => {
                self.obsolete -= self.counts(older);
                self.newest.insert(key, older);
            }
            None => drop(self.newest.remove(&key)),
        }
    }

    fn drop_empty_front(&mut self) {
        while self.queue.front().is_some_and(|parcel| parcel.payload.bytes().is_empty()) {
            self.queue.pop_front();
            self.front += 1;
        }
    }

    /// Takes out the oldest message that can be.
    pub(super) fn drop_oldest(&mut self) -> bool {
        let end = self.front + self.queue.len() as u64;
        let mut number = self.droppable.max(self.front);
        while number < end {
            if self.take_out(number) {
                self.droppable = number + 1;
                return true;
            }
            // The front is begun for a while, and then it is gone.
            number += 1;
            self.droppable = number;
        }
        false
    }

    /// Takes out all messages of `key` that can be. Returns how many.
    pub(super) fn drop_key(&mut self, key: u64) -> u64 {
        let mut dropped = 0;
        let mut next = self.newest.get(&key).copied();
        while let Some(number) = next {
            next = self.parcel(number).and_then(|parcel| parcel.before);
            dropped += u64::from(self.take_out(number));
        }
        dropped
    }

    /// Takes out all messages that have a newer one of the same key. Returns how many.
    pub(super) fn drop_obsolete(&mut self) -> u64 {
        let mut dropped = 0;
        let mut number = self.front;
        // One that is begun stays, and is not looked for in vain.
        let stays = usize::from(self.sent > 0 && self.is_obsolete(self.front)) * self.counts(self.front);
        while self.obsolete > stays && number < self.front + self.queue.len() as u64 {
            if self.is_obsolete(number) && self.take_out(number) {
                dropped += 1;
            }
            number = (number + 1).max(self.front);
        }
        dropped
    }

    fn is_obsolete(&self, number: u64) -> bool {
        let key = self.parcel(number).and_then(|parcel| parcel.label.key);
        key.is_some_and(|key| self.newest.get(&key).is_some_and(|newest| *newest != number))
    }

    /// The unsent bytes of the first `messages` messages.
    pub(super) fn bytes_of(&self, messages: usize) -> usize {
        let whole = self.queue.iter().map(|parcel| parcel.payload.bytes().len()).filter(|len| *len > 0);
        let bytes: usize = whole.take(messages).sum();
        bytes - self.sent.min(bytes)
    }

    /// The unsent bytes, at most `max` of them, as slices behind the first `count` of `into`. Returns how many slices there are then, and the bytes of
    /// those that were added.
    pub(super) fn slices<'a>(
        &'a self,
        into: &mut [IoSlice<'a>],
        mut count: usize,
        max: usize,
    ) -> (usize, usize) {
        let mut total = 0;
        for (at, parcel) in self.queue.iter().enumerate() {
            let bytes = &parcel.payload.bytes()[if at == 0 { self.sent } else { 0 }..];
            let bytes = &bytes[..bytes.len().min(max - total)];
            if bytes.is_empty() {
                continue;
            }
            let Some(slice) = into.get_mut(count) else { break };
            *slice = IoSlice::new(bytes);
            count += 1;
            total += bytes.len();
        }
        (count, total)
    }

    /// The unsent bytes of all.
    pub(super) fn copy_to(&self, into: &mut Vec<u8>) {
        for (at, parcel) in self.queue.iter().enumerate() {
            into.extend_from_slice(&parcel.payload.bytes()[if at == 0 { self.sent } else { 0 }..]);
        }
    }

    /// The first `n` unsent bytes were written. Returns how many messages that finished.
    pub(super) fn advance(&mut self, n: usize) -> u64 {
        self.bytes -= n;
        self.sent += n;
        let mut frames = 0;
        while let Some(front) = self.queue.front() {
            let len = front.payload.bytes().len();
            if self.sent < len {
                break;
            }
            self.sent -= len;
            self.uncount(0);
            self.queue.pop_front();
            self.front += 1;
            self.drop_empty_front();
            frames += 1;
        }
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same as a plain list: what was sent is at the front, each with its label and bytes.
    #[derive(Debug, Default)]
    struct Naive {
        messages: Vec<(Label, Vec<u8>)>,
        sent: usize,
    }

    impl Naive {
        fn can_go(&self, at: usize) -> bool {
            !self.messages[at].0.control && (at > 0 || self.sent == 0)
        }
        fn drop_where(&mut self, obsolete: impl Fn(&Naive, usize) -> bool) -> u64 {
            let doomed: Vec<usize> =
                (0..self.messages.len()).filter(|at| self.can_go(*at) && obsolete(self, *at)).collect();
            for at in doomed.iter().rev() {
                self.messages.remove(*at);
            }
            doomed.len() as u64
        }
        fn unsent(&self) -> Vec<u8> {
            let all: Vec<u8> = self.messages.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
            all[self.sent..].to_vec()
        }
    }

    #[derive(Debug, Clone)]
    enum Op {
        Push { len: usize, key: Option<u64>, control: bool },
        Oldest,
        Key(u64),
        Obsolete,
        Advance(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (1usize..20, prop::option::of(0u64..4), prop::bool::weighted(0.1))
                .prop_map(|(len, key, control)| Op::Push { len, key, control }),
            1 => Just(Op::Oldest),
            1 => (0u64..4).prop_map(Op::Key),
            1 => Just(Op::Obsolete),
            2 => (1usize..40).prop_map(Op::Advance),
        ]
    }

    proptest! {
        #[test]
        fn any_order_of_operations_is_that_of_a_plain_list(ops in prop::collection::vec(op(), 1..80)) {
            let (mut parcels, mut naive) = (Parcels::default(), Naive::default());
            for (step, op) in ops.into_iter().enumerate() {
                match op {
                    Op::Push { len, key, control } => {
                        let bytes = vec![step as u8; len];
                        let label = Label { key, control };
                        parcels.push(Payload::Own(bytes.clone().into()), label);
                        naive.messages.push((label, bytes));
                    }
                    Op::Oldest => {
                        let at = (0..naive.messages.len()).find(|at| naive.can_go(*at));
                        prop_assert_eq!(parcels.drop_oldest(), at.is_some());
                        if let Some(at) = at { naive.messages.remove(at); }
                    }
                    Op::Key(key) => {
                        let dropped = naive.drop_where(|n, at| n.messages[at].0.key == Some(key));
                        prop_assert_eq!(parcels.drop_key(key), dropped);
                    }
                    Op::Obsolete => {
                        let dropped = naive.drop_where(|n, at| {
                            let key = n.messages[at].0.key;
                            key.is_some() && n.messages[at + 1..].iter().any(|(label, _)| label.key == key)
                        });
                        prop_assert_eq!(parcels.drop_obsolete(), dropped);
                    }
                    Op::Advance(n) => {
                        let n = n.min(parcels.bytes());
                        let frames = parcels.advance(n);
                        naive.sent += n;
                        let mut expected = 0;
                        while naive.messages.first().is_some_and(|(_, bytes)| bytes.len() <= naive.sent) {
                            naive.sent -= naive.messages.remove(0).1.len();
                            expected += 1;
                        }
                        prop_assert_eq!(frames, expected);
                    }
                }
                let mut all = Vec::new();
                parcels.copy_to(&mut all);
                prop_assert_eq!(&all, &naive.unsent());
                prop_assert_eq!(parcels.bytes(), all.len());
                prop_assert_eq!(parcels.count(), naive.messages.len());
                prop_assert_eq!(parcels.own, naive.messages.iter().map(|(_, b)| b.len()).sum::<usize>());
                let mut slices = [IoSlice::new(&[]); 64];
                let (count, total) = parcels.slices(&mut slices, 0, usize::MAX);
                let seen: Vec<u8> = slices[..count].iter().flat_map(|s| s.to_vec()).collect();
                prop_assert_eq!(seen.len(), total);
                prop_assert!(all.starts_with(&seen));
            }
        }
    }
}
