//! The one bound on what all connections hold together.

use std::time::Duration;

use log::warn;

use super::timers::Deadline;
use super::{Context, Reactor};
use crate::connection::CloseReason;
use crate::handler::Handler;
use crate::id::ConnId;
use crate::time::deadline;

/// How long nothing may move above the limit before the largest holders go.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is known while the memory limit is exceeded.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// What connections hold, each for itself.
    held: usize,
    /// What waits to be handed over to other reactors of a pool.
    pub(super) outgoing: usize,
    /// Connections that have something to read and may not.
    starved: Vec<ConnId>,
    /// A look is due, see [`PATIENCE`].
    watched: bool,
    /// Other reactors do not keep up with what this one has for them.
    others_are_behind: bool,
    /// What has moved so far: bytes that waited for their peers and were taken. Others do not count: what is sent to those
    /// who read at once would keep a reactor above its limit for ever.
    pub(super) relieved: u64,
    /// The same by the last look.
    moved: u64,
}

impl<H: Handler> Context<H> {
    /// All bytes that are held at the moment, both ways and by commands of and for other threads, those of shared payloads
    /// once.
    pub(super) fn buffered(&self) -> usize {
        self.memory.held + self.ledger.bytes() + self.queue.held() + self.memory.outgoing
    }

    /// What is judged: what connections hold, and commands up to their own bound. Those pass it by one message at most, and for
    /// a turn; to count that too would stop reading, and end connections, over what none of them holds.
    #[inline]
    fn counted(&self) -> usize {
        let commands = self.queue.held().min(self.limits.command_bytes());
        self.memory.held + self.ledger.bytes() + commands
    }

    #[inline]
    pub(super) fn is_over_memory(&self) -> bool {
        self.counted() > self.limits.memory_limit
    }

    /// Whether other reactors have to take what is for them before there may be more of it. It leaves at the end of the turn,
    /// or when they have caught up: no connection has to go. The last read of a shutdown is not put off: there is no later.
    #[inline]
    pub(super) fn waits_for_others(&self) -> bool {
        let Memory { outgoing, others_are_behind, .. } = self.memory;
        let full = outgoing > 0 && self.counted() + outgoing > self.limits.memory_limit;
        (others_are_behind || full) && !self.drain.has_begun()
    }

    /// Notes whether other reactors of a pool have to catch up before more is read here.
    pub(super) fn others_are_behind(&mut self, behind: bool) {
        if std::mem::replace(&mut self.memory.others_are_behind, behind) && !behind {
            self.judge_memory();
        }
    }

    /// Brings the sum of held bytes up to date with what `conn` holds.
    #[inline]
    pub(super) fn account(&mut self, conn: ConnId) {
        if let Some(live) = self.table.get_mut(conn) {
            let held = live.held();
            if held != live.counted {
                self.memory.held = self.memory.held + held - live.counted;
                live.counted = held;
            }
        }
    }

    /// Acts on what is held, once a turn.
    #[inline]
    pub(super) fn judge_memory(&mut self) {
        if self.is_over_memory() {
            self.watch_memory();
            return;
        }
        if self.memory.watched {
            // Below the limit for a moment: that is a move too.
            self.memory.relieved += 1;
        }
        if !self.memory.others_are_behind && !self.memory.starved.is_empty() {
            for conn in std::mem::take(&mut self.memory.starved) {
                if let Some(live) = self.table.get_mut(conn) {
                    live.starved = false;
                }
                self.schedule(conn);
            }
        }
    }

    /// `conn` has something to read, and has to wait until the others hold less.
    #[cold]
    pub(super) fn starve(&mut self, conn: ConnId) {
        if let Some(live) = self.table.get_mut(conn) {
            if !live.starved {
                live.starved = true;
                self.memory.starved.push(conn);
            }
        }
        self.watch_memory();
    }

    /// Whether the sum is that of its parts, and whoever waits for memory is listed.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn audit_memory(&self) -> Result<(), String> {
        let all = || self.table.all().filter_map(|conn| Some((conn, self.table.get(conn)?)));
        let counted: usize = all().map(|(_, live)| live.counted).sum();
        if counted != self.memory.held {
            return Err(format!("connections hold {counted} bytes, and the sum says {}", self.memory.held));
        }
        let unlisted = all().find(|(conn, live)| live.starved && !self.memory.starved.contains(conn));
        match unlisted {
            Some((conn, _)) => Err(format!("{conn} waits for memory, and is not listed")),
            None if self.is_over_memory() && !self.memory.watched => {
                Err("more is held than the limit, and nobody watches".to_owned())
            }
            None => Ok(()),
        }
    }

    fn watch_memory(&mut self) {
        if !self.memory.watched {
            self.memory.watched = true;
            self.memory.moved = self.memory.relieved;
            self.timers.set(deadline(self.now, PATIENCE), Deadline::Memory);
        }
    }
}

impl<H: Handler> Reactor<H> {
    /// Some time above the limit has passed: when nothing has moved in it, those that hold the most go, until the rest fits.
    pub(super) fn memory_due(&mut self) {
        let cx = &mut self.cx;
        cx.memory.watched = false;
        if !cx.is_over_memory() {
            return;
        }
        if cx.memory.moved == cx.memory.relieved {
            let mut holders: Vec<_> =
                cx.table.all().filter_map(|conn| Some((cx.table.get(conn)?.burden(), conn))).collect();
            holders.sort_unstable_by(|a, b| b.cmp(a));
            if cx.gate.opens("memory", cx.now) {
                let (held, limit) = (cx.buffered(), cx.limits.memory_limit);
                warn!(
                    "{held} bytes are held where {limit} are the most, and nothing moves: closing the largest holders"
                );
            }
            for (_, conn) in holders {
                if !cx.is_over_memory() {
                    return;
                }
                cx.end(conn, CloseReason::MemoryLimit);
            }
        }
        cx.watch_memory();
    }
}
