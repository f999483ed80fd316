//! A queue in which everyone waits in a line of their own, and the lines take turns.

use std::collections::VecDeque;
use std::collections::hash_map::{Entry, HashMap};
use std::hash::Hash;

/// So many empty lines are kept for their memory.
const SPARE_MAX: usize = 64;

/// Gives out one of each line in turn: who puts in a hundred at once holds up others by one.
#[derive(Debug)]
pub(super) struct Fair<K, T> {
    /// Invariant: none is empty.
    lines: HashMap<K, VecDeque<T>>,
    /// Invariant: each key of `lines` once.
    turns: VecDeque<K>,
    spare: Vec<VecDeque<T>>,
}

impl<K: Hash + Eq + Copy, T> Fair<K, T> {
    pub(super) fn new() -> Fair<K, T> {
        Fair { lines: HashMap::new(), turns: VecDeque::new(), spare: Vec::new() }
    }

    pub(super) fn push(&mut self, key: K, item: T) {
        let line = match self.lines.entry(key) {
            Entry::Occupied(line) => line.into_mut(),
            Entry::Vacant(place) => {
                self.turns.push_back(key);
                place.insert(self.spare.pop().unwrap_or_default())
            }
        };
        line.push_back(item);
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let key = self.turns.pop_front()?;
        let Entry::Occupied(mut line) = self.lines.entry(key) else { return None };
        let item = line.get_mut().pop_front();
        if !line.get().is_empty() {
            self.turns.push_back(key);
            return item;
        }
        let line = line.remove();
        if self.spare.len() < SPARE_MAX {
            self.spare.push(line);
        }
        item
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_take_turns_and_keep_their_order() {
        let mut fair = Fair::new();
        for n in 0..4 {
            fair.push('a', n);
        }
        fair.push('b', 10);
        fair.push('c', 20);
        fair.push('b', 11);
        let all: Vec<_> = std::iter::from_fn(|| fair.pop()).collect();
        assert_eq!(all, [0, 10, 20, 1, 11, 2, 3]);
        assert_eq!(fair.pop(), None);
        assert!(fair.lines.is_empty() && fair.turns.is_empty());
        fair.push('c', 30);
        assert_eq!(fair.pop(), Some(30));
    }

    #[test]
    fn one_that_comes_late_waits_for_one_of_each_line() {
        let mut fair = Fair::new();
        for n in 0..100 {
            fair.push('a', n);
        }
        fair.pop();
        fair.push('b', 1_000);
        assert_eq!((fair.pop(), fair.pop()), (Some(1), Some(1_000)));
    }

    #[test]
    fn the_memory_of_lines_is_bounded_and_used_again() {
        let mut fair = Fair::new();
        for round in 0..3 {
            for key in 0..1_000 {
                fair.push(key, round);
            }
            while fair.pop().is_some() {}
            assert_eq!(fair.spare.len(), SPARE_MAX);
        }
    }
}
