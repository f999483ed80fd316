//! The order of answers: what is under way for each connection, and which of it may go out.
//!
//! Jobs of one connection run side by side and end in any order; a lane keeps the results of those that were faster until
//! it is their turn. It is bounded, so that one slow job does not gather the results of all later ones: a connection at its
//! bound is held, which means that it is not read.

use std::collections::VecDeque;
use std::collections::hash_map::{Entry, HashMap};

use crate::id::ConnId;

/// So many empty lanes are kept for their memory.
const SPARE_MAX: usize = 64;

/// What may be under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// For one connection.
    pub(super) jobs_each: usize,
    pub(super) bytes_each: usize,
    /// For all together.
    pub(super) jobs: usize,
    pub(super) bytes: usize,
}

/// What is under way for all connections of one reactor.
#[derive(Debug)]
pub(super) struct Lanes<T> {
    bounds: Bounds,
    lanes: HashMap<ConnId, Lane<T>>,
    jobs: usize,
    bytes: usize,
    /// Held because of the bounds for all, in the order in which they came.
    waiting: VecDeque<ConnId>,
    /// Places that were given back since one was last given to those that wait.
    freed: usize,
    spare: Vec<VecDeque<Slot<T>>>,
}

/// What is under way for one connection, in the order in which it came. Invariant: not empty, or held.
#[derive(Debug)]
struct Lane<T> {
    /// The number of its first slot.
    first: u64,
    slots: VecDeque<Slot<T>>,
    bytes: usize,
    held: bool,
    /// It is among those that wait.
    waits: bool,
}

#[derive(Debug)]
struct Slot<T> {
    bytes: usize,
    /// There once the job has ended.
    result: Option<T>,
}

/// A job that was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Added {
    /// Where its result belongs.
    pub(super) number: u64,
    /// Its connection is at a bound.
    pub(super) at_bound: bool,
    /// And has to be held from now on.
    pub(super) hold: bool,
}

impl<T> Lane<T> {
    fn is_full(&self, bounds: &Bounds) -> bool {
        self.slots.len() >= bounds.jobs_each || self.bytes >= bounds.bytes_each
    }

    /// Enough of it has gone that reading pays. With a bound of one job, all of it.
    fn has_room(&self, bounds: &Bounds) -> bool {
        self.slots.len() <= bounds.jobs_each / 2 && self.bytes <= bounds.bytes_each / 2
    }
}

impl<T> Lanes<T> {
    pub(super) fn new(bounds: Bounds) -> Lanes<T> {
        Lanes {
            bounds,
            lanes: HashMap::new(),
            jobs: 0,
            bytes: 0,
            waiting: VecDeque::new(),
            freed: 0,
            spare: Vec::new(),
        }
    }

    pub(super) fn jobs(&self) -> usize {
        self.jobs
    }

    pub(super) fn jobs_of(&self, conn: ConnId) -> usize {
        self.lanes.get(&conn).map_or(0, |lane| lane.slots.len())
    }

    fn all_full(&self) -> bool {
        self.jobs >= self.bounds.jobs || self.bytes >= self.bounds.bytes
    }

    /// Whether one more for `conn` would pass a bound.
    pub(super) fn is_full(&self, conn: ConnId) -> bool {
        self.all_full() || self.lanes.get(&conn).is_some_and(|lane| lane.is_full(&self.bounds))
    }

    /// Lets one more in, of so many bytes. With a `result` it is one that only waits for its turn. A bound that it meets
    /// lets this one pass, and holds its connection; the bounds of one connection hold nobody when this is its `last` input.
    pub(super) fn add(&mut self, conn: ConnId, bytes: usize, result: Option<T>, last: bool) -> Added {
        self.jobs += 1;
        self.bytes += bytes;
        let all_full = self.all_full();
        let lane = match self.lanes.entry(conn) {
            Entry::Occupied(lane) => lane.into_mut(),
            Entry::Vacant(place) => {
                let slots = self.spare.pop().unwrap_or_default();
                place.insert(Lane { first: 0, slots, bytes: 0, held: false, waits: false })
            }
        };
        let number = lane.first + lane.slots.len() as u64;
        lane.slots.push_back(Slot { bytes, result });
        lane.bytes += bytes;
        if all_full && !lane.waits {
            lane.waits = true;
            self.waiting.push_back(conn);
        }
        let at_bound = all_full || (lane.is_full(&self.bounds) && !last);
        // The last read has lifted what held it.
        let hold = at_bound && (last || !lane.held);
        lane.held |= hold;
        Added { number, at_bound, hold }
    }

    /// A job has ended.
    pub(super) fn fill(&mut self, conn: ConnId, number: u64, result: T) {
        let Some(lane) = self.lanes.get_mut(&conn) else { return };
        let slot = number.checked_sub(lane.first).and_then(|at| lane.slots.get_mut(at as usize));
        debug_assert!(slot.is_some(), "the lane of a job lives as long as the job");
        if let Some(slot) = slot {
            slot.result = Some(result);
        }
    }

    /// Whether something of `conn` may go out.
    pub(super) fn is_ready(&self, conn: ConnId) -> bool {
        self.lanes.get(&conn).and_then(|lane| lane.slots.front()).is_some_and(|slot| slot.result.is_some())
    }

    /// The next result of `conn` that may go out, if its job has ended. A connection to be let go of is put into `released`.
    pub(super) fn take(&mut self, conn: ConnId, released: &mut Vec<ConnId>) -> Option<T> {
        let Entry::Occupied(mut entry) = self.lanes.entry(conn) else { return None };
        let lane = entry.get_mut();
        let result = lane.slots.front_mut()?.result.take()?;
        let bytes = lane.slots.pop_front().map_or(0, |slot| slot.bytes);
        lane.first += 1;
        lane.bytes -= bytes;
        self.jobs -= 1;
        self.bytes -= bytes;
        self.freed += 1;
        if lane.held && !lane.waits && lane.has_room(&self.bounds) {
            lane.held = false;
            released.push(conn);
        }
        if lane.slots.is_empty() && !lane.held {
            let slots = entry.remove().slots;
            if self.spare.len() < SPARE_MAX {
                self.spare.push(slots);
            }
        }
        Some(result)
    }

    /// Puts into `released` those who have waited longest for room in the whole: one for each place that was given back, or
    /// for half of the free ones. They may want nothing; so where some are left and nothing is under way that would bring
    /// another look, it is true that one is needed.
    pub(super) fn release_waiting(&mut self, released: &mut Vec<ConnId>) -> bool {
        let much = self.bytes > self.bounds.bytes / 2;
        let free = if much { 0 } else { self.bounds.jobs.saturating_sub(self.jobs) / 2 };
        let mut places = std::mem::take(&mut self.freed).max(free).max(1);
        while places > 0 && !self.all_full() {
            let Some(conn) = self.waiting.pop_front() else { break };
            let Entry::Occupied(mut entry) = self.lanes.entry(conn) else { continue };
            let lane = entry.get_mut();
            lane.waits = false;
            if lane.has_room(&self.bounds) {
                lane.held = false;
                released.push(conn);
                places -= 1;
                if lane.slots.is_empty() {
                    entry.remove();
                }
            }
        }
        self.jobs == 0 && !self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(slot: u32) -> ConnId {
        ConnId { slot, generation: 1 }
    }

    fn lanes(jobs_each: usize, jobs: usize) -> Lanes<u64> {
        Lanes::new(Bounds { jobs_each, bytes_each: 1_000, jobs, bytes: 10_000 })
    }

    /// All that may go out, and who is let go of.
    fn drain(lanes: &mut Lanes<u64>, conn: ConnId) -> (Vec<u64>, Vec<ConnId>) {
        let mut released = Vec::new();
        let results = std::iter::from_fn(|| lanes.take(conn, &mut released)).collect();
        (results, released)
    }

    #[test]
    fn results_go_out_in_the_order_of_their_jobs_whatever_order_they_come_in() {
        let mut lanes = lanes(100, 100);
        for _ in 0..5 {
            lanes.add(conn(1), 1, None, false);
        }
        let mut out = Vec::new();
        for number in [3, 1, 0, 4, 2] {
            lanes.fill(conn(1), number, number);
            out.push(drain(&mut lanes, conn(1)).0);
        }
        assert_eq!(out, [vec![], vec![], vec![0, 1], vec![], vec![2, 3, 4]]);
        assert_eq!((lanes.jobs(), lanes.bytes, lanes.lanes.len()), (0, 0, 0));
    }

    #[test]
    fn what_only_waits_for_its_turn_goes_out_behind_the_job_before() {
        let mut lanes = lanes(100, 100);
        lanes.add(conn(1), 1, None, false);
        lanes.add(conn(1), 1, Some(77), false);
        assert_eq!(drain(&mut lanes, conn(1)).0, []);
        lanes.fill(conn(1), 0, 7);
        assert_eq!(drain(&mut lanes, conn(1)).0, [7, 77]);
    }

    #[test]
    fn a_connection_is_held_at_its_bound_and_let_go_of_at_half_of_it() {
        let mut lanes = lanes(4, 100);
        let held: Vec<_> = (0..4).map(|_| lanes.add(conn(1), 0, None, false).hold).collect();
        assert_eq!(held, [false, false, false, true]);
        let more = lanes.add(conn(1), 0, None, false);
        assert_eq!((more.at_bound, more.hold), (true, false), "once");
        assert!(lanes.is_full(conn(1)) && !lanes.is_full(conn(2)));
        let mut released = Vec::new();
        for number in 0..5 {
            released.push(conn(9));
            lanes.fill(conn(1), number, number);
            lanes.take(conn(1), &mut released);
        }
        assert_eq!(released, [conn(9), conn(9), conn(9), conn(1), conn(9), conn(9)]);
    }

    #[test]
    fn long_messages_count_by_their_bytes() {
        let mut lanes = lanes(4, 100);
        assert!(!lanes.add(conn(1), 999, None, false).hold);
        assert!(lanes.add(conn(1), 1, None, false).hold);
        assert!(lanes.add(conn(2), 50_000, None, false).hold, "one of any length passes, and holds");
        assert!(lanes.is_full(conn(3)), "all together are over theirs");
    }

    #[test]
    fn the_last_input_of_a_connection_is_not_held_by_its_own_bound() {
        let mut lanes = lanes(2, 4);
        let held: Vec<_> = (0..4).map(|_| lanes.add(conn(1), 0, None, true).hold).collect();
        assert_eq!(held, [false, false, false, true], "but by that of all together");
    }

    #[test]
    fn one_that_was_held_is_held_by_the_bound_for_all_in_its_last_input_too() {
        let mut lanes = lanes(2, 4);
        let held = [false, false].map(|last| lanes.add(conn(1), 0, None, last).hold);
        assert_eq!(held, [false, true]);
        // Its last read does not care for that, and goes on until all together have as many as they may.
        let held = [true, true].map(|last| lanes.add(conn(1), 0, None, last).hold);
        assert_eq!(held, [false, true]);
    }

    #[test]
    fn those_that_wait_for_the_whole_are_let_go_of_in_turn_one_for_each_place() {
        let mut lanes = lanes(100, 2);
        assert!(!lanes.add(conn(0), 0, None, false).hold);
        for n in 1..5 {
            assert!(lanes.add(conn(n), 0, None, false).hold);
        }
        assert_eq!(lanes.jobs(), 5, "each has passed with one");
        let mut released = Vec::new();
        for n in 0..3 {
            lanes.fill(conn(n), 0, 0);
            lanes.take(conn(n), &mut released);
            assert!(!lanes.release_waiting(&mut released));
            assert_eq!(released, [], "there is no room yet");
        }
        lanes.fill(conn(3), 0, 0);
        lanes.take(conn(3), &mut released);
        assert!(!lanes.release_waiting(&mut released), "one is under way");
        assert_eq!(released, [conn(1)], "there is room for one");
        lanes.fill(conn(4), 0, 0);
        lanes.take(conn(4), &mut released);
        assert!(lanes.release_waiting(&mut released));
        assert!(lanes.release_waiting(&mut released));
        assert!(!lanes.release_waiting(&mut released));
        assert_eq!(released, [1, 2, 3, 4].map(conn));
        assert!(lanes.lanes.is_empty() && lanes.waiting.is_empty());
    }

    #[test]
    fn nobody_is_forgotten_when_those_let_go_of_want_nothing() {
        let mut lanes = lanes(100, 1);
        for n in 0..10 {
            lanes.add(conn(n), 0, None, false);
        }
        let mut released = Vec::new();
        for n in 0..10 {
            lanes.fill(conn(n), 0, 0);
            lanes.take(conn(n), &mut released);
        }
        lanes.freed = 0;
        let mut looks = 0;
        while lanes.release_waiting(&mut released) {
            looks += 1;
        }
        assert_eq!((looks, released.len()), (9, 10));
        assert!(lanes.lanes.is_empty());
    }
}
