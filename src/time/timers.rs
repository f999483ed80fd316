//! All deadlines of one reactor in one heap.

use std::num::NonZeroU32;
use std::time::Instant;

use slab::Slab;

/// Names one timer. The generation makes a key of the past harmless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TimerKey {
    slot: u32,
    /// Never zero, so that none takes no room.
    generation: NonZeroU32,
}

/// Deadlines with what they are for, each of which can be taken out again.
///
/// A binary heap whose entries know their place: setting and cancelling cost O(log n), looking at the next one nothing. A
/// cancelled timer is gone at once, so that nothing piles up behind a far deadline. Equal deadlines fire in the order they
/// were set.
#[derive(Debug)]
pub(crate) struct Timers<T> {
    entries: Slab<Entry<T>>,
    /// Slots of `entries`. Invariant: no parent is due after its children, and `entries[heap[i]].place == i`.
    heap: Vec<u32>,
    generation: NonZeroU32,
    sequence: u64,
}

#[derive(Debug)]
struct Entry<T> {
    deadline: Instant,
    sequence: u64,
    generation: NonZeroU32,
    place: u32,
    what: T,
}

impl<T> Timers<T> {
    pub(crate) fn new() -> Timers<T> {
        Timers { entries: Slab::new(), heap: Vec::new(), generation: NonZeroU32::MIN, sequence: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    /// The earliest deadline, computed from what is there: never a remembered one.
    #[inline]
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.first().map(|slot| self.entries[*slot as usize].deadline)
    }

    pub(crate) fn set(&mut self, deadline: Instant, what: T) -> TimerKey {
        self.generation = self.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        self.sequence += 1;
        let place = self.heap.len();
        let entry = Entry {
            deadline,
            sequence: self.sequence,
            generation: self.generation,
            place: place as u32,
            what,
        };
        let slot = self.entries.insert(entry) as u32;
        self.heap.push(slot);
        self.rise(place);
        TimerKey { slot, generation: self.generation }
    }

    /// When a timer is due.
    pub(crate) fn deadline(&self, key: TimerKey) -> Option<Instant> {
        let entry = self.entries.get(key.slot as usize)?;
        (entry.generation == key.generation).then_some(entry.deadline)
    }

    pub(crate) fn get_mut(&mut self, key: TimerKey) -> Option<&mut T> {
        let entry = self.entries.get_mut(key.slot as usize)?;
        (entry.generation == key.generation).then_some(&mut entry.what)
    }

    /// Takes a timer out. `None` when it has fired or was cancelled.
    pub(crate) fn cancel(&mut self, key: TimerKey) -> Option<T> {
        let entry = self.entries.get(key.slot as usize)?;
        if entry.generation != key.generation {
            return None;
        }
        let place = entry.place as usize;
        Some(self.remove(place).1)
    }

    /// Moves a timer to another deadline under the same key.
    pub(crate) fn reset(&mut self, key: TimerKey, deadline: Instant) -> bool {
        if self.get_mut(key).is_none() {
            return false;
        }
        self.sequence += 1;
        let entry = &mut self.entries[key.slot as usize];
        entry.deadline = deadline;
        entry.sequence = self.sequence;
        let place = entry.place as usize;
        self.rise(place);
        let place = self.entries[key.slot as usize].place as usize;
        self.sink(place);
        true
    }

    /// The key and deadline of the earliest timer, when it is due at `now` and was set no later than `sequence`.
    pub(crate) fn due(&self, now: Instant, sequence: u64) -> Option<(TimerKey, Instant)> {
        let slot = *self.heap.first()?;
        let entry = &self.entries[slot as usize];
        (entry.deadline <= now && entry.sequence <= sequence)
            .then_some((TimerKey { slot, generation: entry.generation }, entry.deadline))
    }

    /// A mark in the order of setting: timers set from now on come behind it.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    fn remove(&mut self, place: usize) -> (Instant, T) {
        let slot = self.heap.swap_remove(place);
        if place < self.heap.len() {
            self.entries[self.heap[place] as usize].place = place as u32;
            self.rise(place);
            self.sink(place);
        }
        let entry = self.entries.remove(slot as usize);
        if self.heap.len() * 4 < self.heap.capacity() && self.heap.capacity() > 1024 {
            self.heap.shrink_to(self.heap.len() * 2);
            self.entries.shrink_to_fit();
        }
        (entry.deadline, entry.what)
    }

    fn before(&self, a: usize, b: usize) -> bool {
        let (a, b) = (&self.entries[self.heap[a] as usize], &self.entries[self.heap[b] as usize]);
        (a.deadline, a.sequence) < (b.deadline, b.sequence)
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.entries[self.heap[a] as usize].place = a as u32;
        self.entries[self.heap[b] as usize].place = b as u32;
    }

    fn rise(&mut self, mut place: usize) {
        while place > 0 {
            let parent = (place - 1) / 2;
            if !self.before(place, parent) {
                break;
            }
            self.swap(place, parent);
            place = parent;
        }
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let (left, right) = (2 * place + 1, 2 * place + 2);
            let mut least = place;
            if left < self.heap.len() && self.before(left, least) {
                least = left;
            }
            if right < self.heap.len() && self.before(right, least) {
                least = right;
            }
            if least == place {
                break;
            }
            self.swap(place, least);
            place = least;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::clock;
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn a_key_of_the_past_cancels_nothing() {
        let now = clock::now();
        let mut timers = Timers::new();
        let first = timers.set(now, 1);
        assert_eq!(timers.cancel(first), Some(1));
        let second = timers.set(now, 2);
        assert_eq!(timers.cancel(first), None);
        assert_eq!(timers.cancel(second), Some(2));
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn cancelling_the_earliest_leaves_the_next_one_armed() {
        // Smithay/calloop#30
        let now = clock::now();
        let mut timers = Timers::new();
        let early = timers.set(now + Duration::from_secs(1), 'a');
        timers.set(now + Duration::from_secs(2), 'b');
        timers.cancel(early);
        assert_eq!(timers.next(), Some(now + Duration::from_secs(2)));
    }

    proptest! {
        /// Against a sorted list.
        #[test]
        fn fires_in_order_whatever_is_cancelled_or_moved(ops in prop::collection::vec((0u8..4, 0u64..50, 0usize..40), 1..120)) {
            let start = clock::now();
            let mut timers = Timers::new();
            let mut model: Vec<(u64, u64, u32, TimerKey)> = Vec::new(); // deadline, order, what, key
            let (mut order, mut what) = (0u64, 0u32);
            for (op, at, which) in ops {
                let when = start + Duration::from_millis(at);
                order += 1;
                match op {
                    0 | 1 => {
                        what += 1;
                        let key = timers.set(when, what);
                        model.push((at, order, what, key));
                    }
                    2 if !model.is_empty() => {
                        let (_, _, what, key) = model.swap_remove(which % model.len());
                        prop_assert_eq!(timers.cancel(key), Some(what));
                    }
                    3 if !model.is_empty() => {
                        let which = which % model.len();
                        prop_assert!(timers.reset(model[which].3, when));
                        (model[which].0, model[which].1) = (at, order);
                    }
                    _ => {}
                }
                let next = model.iter().map(|m| m.0).min().map(|at| start + Duration::from_millis(at));
                prop_assert_eq!(timers.next(), next);
                prop_assert_eq!(timers.len(), model.len());
            }
            model.sort();
            for (_, _, what, key) in model {
                let due = timers.due(start + Duration::from_secs(1), u64::MAX).map(|(key, _)| key);
                prop_assert_eq!(due, Some(key));
                prop_assert_eq!(timers.cancel(key), Some(what));
            }
        }
    }
}
