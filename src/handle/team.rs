//! What the reactors of a pool share: a handle to each, how many connections each has, and how far the end has come.
//!
//! There is no lock in it that a message would take. What one reactor writes has a line of cache of its own.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Handle;
use crate::handler::Handler;
use crate::stats::Stats;

/// The reactor that hands out what it accepts.
pub(crate) const LEADER: usize = 0;

pub(crate) struct Team<H: Handler> {
    members: Box<[Member<H>]>,
    pub(crate) last_stats: Arc<LastStats>,
    counts: Counts,
    connections_max: usize,
    /// How often a shutdown was asked for.
    asked: AtomicU32,
    /// The leader hands out clients, so that the others end after it: what it has handed out is served.
    led: AtomicBool,
    /// How far the leader has come.
    level: AtomicU32,
}

/// What changes with each client, apart from what is looked at in each turn.
#[repr(align(128))]
#[derive(Default)]
struct Counts {
    /// Connections that were accepted and are open, in all.
    connections: AtomicUsize,
    /// Where the search for the least loaded begins, so that equals take turns.
    next: AtomicUsize,
}

#[repr(align(128))]
struct Member<H: Handler> {
    handle: Handle<H>,
    /// Connections that were accepted for it and have not ended, those on their way to it included.
    load: AtomicUsize,
    /// It takes nobody in at the moment, by limits of its own.
    full: AtomicBool,
    /// Each client on its way to it has one too.
    arriving: Arc<()>,
}

/// Held by a client that is on its way from one reactor to another, until it is there or lost.
#[derive(Debug)]
pub(crate) struct Arrival {
    _one_more: Arc<()>,
}

/// The counters of all reactors when they were last asked for, or at their end.
pub(crate) struct LastStats(Box<[Mutex<Stats>]>);

impl LastStats {
    pub(crate) fn note(&self, index: usize, stats: Stats) {
        *self.0[index].lock().unwrap_or_else(PoisonError::into_inner) = stats;
    }

    pub(crate) fn of_all(&self) -> Vec<Stats> {
        self.0.iter().map(|last| *last.lock().unwrap_or_else(PoisonError::into_inner)).collect()
    }
}

impl<H: Handler> fmt::Debug for Team<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Team").field("members", &self.members.len()).finish_non_exhaustive()
    }
}

impl<H: Handler> Team<H> {
    pub(crate) fn new(handles: Vec<Handle<H>>, connections_max: usize) -> Team<H> {
        let last = handles.iter().map(|_| Mutex::default()).collect();
        let member = |handle| Member {
            handle,
            load: AtomicUsize::new(0),
            full: AtomicBool::new(false),
            arriving: Arc::default(),
        };
        Team {
            members: handles.into_iter().map(member).collect(),
            last_stats: Arc::new(LastStats(last)),
            counts: Counts::default(),
            connections_max,
            asked: AtomicU32::new(0),
            led: AtomicBool::new(false),
            level: AtomicU32::new(0),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn handle(&self, index: usize) -> Option<&Handle<H>> {
        self.members.get(index).map(|member| &member.handle)
    }

    pub(crate) fn handles(&self) -> impl Iterator<Item = &Handle<H>> {
        self.members.iter().map(|member| &member.handle)
    }

    // ---- connections -----------------------------------------------------------------------------------------------

    /// A place for one more connection of `index`, if there may be one.
    pub(crate) fn reserve(&self, index: usize) -> bool {
        // Counted first and judged after, so that two reactors cannot both take the last place.
        if self.counts.connections.fetch_add(1, Ordering::Relaxed) >= self.connections_max {
            self.counts.connections.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        self.members[index].load.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// A place that was reserved is free again.
    pub(crate) fn leave(&self, index: usize) {
        self.counts.connections.fetch_sub(1, Ordering::Relaxed);
        self.members[index].load.fetch_sub(1, Ordering::Relaxed);
    }

    /// A place goes to another reactor.
    pub(crate) fn pass(&self, from: usize, to: usize) {
        self.members[from].load.fetch_sub(1, Ordering::Relaxed);
        self.members[to].load.fetch_add(1, Ordering::Relaxed);
    }

    /// A client sets out for `index`.
    pub(crate) fn sets_out_for(&self, index: usize) -> Arrival {
        Arrival { _one_more: Arc::clone(&self.members[index].arriving) }
    }

    /// Notes whether `index` takes anyone in.
    pub(crate) fn says_whether_full(&self, index: usize, full: bool) {
        self.members[index].full.store(full, Ordering::Relaxed);
    }

    /// Who has the fewest connections, of those that take anyone in.
    pub(crate) fn least_loaded(&self) -> usize {
        let from = self.counts.next.fetch_add(1, Ordering::Relaxed);
        let order = (0..self.len()).map(|step| from.wrapping_add(step) % self.len());
        let key = |index: &usize| {
            let Member { load, full, .. } = &self.members[*index];
            (full.load(Ordering::Relaxed), load.load(Ordering::Relaxed))
        };
        order.min_by_key(key).unwrap_or(LEADER)
    }

    // ---- the end ---------------------------------------------------------------------------------------------------

    /// From now on the leader hands clients out.
    pub(crate) fn lead(&self) {
        self.led.store(true, Ordering::Release);
    }

    /// One more call for a shutdown.
    pub(crate) fn shut_down(&self) {
        self.asked.fetch_add(1, Ordering::AcqRel);
        self.nudge_all();
    }

    /// One reactor was asked so often for its end: that of all is meant.
    pub(crate) fn ask(&self, level: u32) {
        if self.asked.fetch_max(level, Ordering::AcqRel) < level {
            self.nudge_all();
        }
    }

    /// The leader accepts nobody any more, and has handed out all.
    pub(crate) fn leader_has_come_to(&self, level: u32) {
        if self.level.fetch_max(level, Ordering::AcqRel) < level {
            self.nudge_all();
        }
    }

    /// So often is `index` to be asked for its end.
    pub(crate) fn level_of(&self, index: usize) -> u32 {
        let follows = index != LEADER && self.led.load(Ordering::Acquire);
        let level = if follows { &self.level } else { &self.asked };
        match level.load(Ordering::Acquire) {
            // Those who were handed to it get there first: by now there are no more to come. A second call waits for nobody.
            1 if Arc::strong_count(&self.members[index].arriving) > 1 => 0,
            level => level,
        }
    }

    /// `index` is gone. Nobody follows a leader that is, and one that has failed ends all.
    pub(crate) fn left(&self, index: usize, failed: bool) {
        if index == LEADER {
            self.led.store(false, Ordering::Release);
        }
        if failed {
            self.asked.fetch_max(1, Ordering::AcqRel);
        }
        self.nudge_all();
    }

    fn nudge_all(&self) {
        self.handles().for_each(Handle::nudge);
    }
}
