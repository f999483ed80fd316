//! What an open connection's peer has to do in time: say something, finish what it has begun, take what is sent.
//!
//! Lazy: bytes only note when they came. One timer for each connection, armed for the earliest of its deadlines, looks when
//! it fires, and sets itself anew.

use std::time::{Duration, Instant};

use super::Context;
use super::live::{Live, Phase};
use super::timers::Deadline;
use crate::codec::Codec;
use crate::connection::{CloseReason, Halt};
use crate::handler::Handler;
use crate::id::ConnId;
use crate::limits::Limits;
use crate::time::{Tick, TimerKey, deadline};

/// How soon it is looked again at one whose bytes wait to be read: they may have to wait for memory, and for long.
pub(super) const AGAIN: Duration = Duration::from_millis(10);

impl<C: Codec, S: Default> Live<C, S> {
    /// The earliest deadline of an open connection, and why it would end.
    ///
    /// Those that judge the peer's input stand still while it is we who do not read, or who owe it an answer: they begin
    /// anew at `now`.
    pub(super) fn earliest(
        &self,
        limits: &Limits,
        now: Instant,
        tick: Tick,
    ) -> Option<(Instant, CloseReason)> {
        let stuck = self.has_output() && !self.rated.is_held();
        let halted =
            [Halt::Handler, Halt::Rate, Halt::Workers].into_iter().any(|halt| self.halts.contains(halt));
        let ours = (halted || self.owed > 0 || self.rated.is_held()) && !stuck;
        let from = |since: Tick| if ours { tick } else { since };
        let after = |since: Option<Tick>, within: Option<Duration>, reason: CloseReason| {
            Some((deadline(now, within?.saturating_sub(since?.age(tick))), reason))
        };
        let reads = self.halts.is_empty();
        let first = (!self.heard).then_some(from(self.opened));
        let frame = (reads && !self.inbox.is_empty() && !self.inbox.is_due()).then_some(self.frame_since);
        [
            after(Some(from(self.active)), limits.idle_timeout, CloseReason::IdleTimeout),
            after(first, limits.first_message_timeout, CloseReason::FirstMessageTimeout),
            after(frame, limits.frame_timeout, CloseReason::FrameTimeout),
            after(stuck.then_some(self.moved), limits.write_timeout, CloseReason::WriteTimeout),
        ]
        .into_iter()
        .flatten()
        .min_by_key(|(at, _)| *at)
    }
}

impl<H: Handler> Context<H> {
    /// Arms the timer of an open connection, when one of its deadlines has come into being that is earlier.
    #[inline]
    pub(super) fn arm_deadlines(&mut self, conn: ConnId) {
        let Context { table, timers, limits, now, tick, .. } = self;
        let Some(live) = table.get_mut(conn) else { return };
        if live.phase != Phase::Open {
            return;
        }
        let Some((at, _)) = live.earliest(limits, *now, *tick) else { return };
        match live.watch {
            None => live.watch = Some(timers.set(at, Deadline::Open(conn))),
            Some(key) => {
                if timers.deadline(key).is_some_and(|armed| armed > at) {
                    timers.reset(key, at);
                }
            }
        }
    }

    /// The timer of an open connection has fired: it looks, and sets itself anew or ends the connection. Nobody is ended
    /// while there may be bytes that were not looked at.
    pub(super) fn open_due(&mut self, conn: ConnId, key: TimerKey) {
        let (now, more) = (self.now, self.batch_was_full);
        let Some(live) = self.table.get(conn) else { return };
        if live.earliest(&self.limits, now, self.tick).is_some_and(|(at, _)| at <= now) {
            self.try_outbox(conn);
        }
        let Some(live) = self.table.get_mut(conn) else { return };
        if live.phase == Phase::Ended {
            live.watch = None;
            self.timers.cancel(key);
            return;
        }
        let unread = live.halts.is_empty() && (live.readable || live.scheduled || live.starved);
        match live.earliest(&self.limits, now, self.tick) {
            Some((at, _)) if at > now => drop(self.timers.reset(key, at)),
            Some(_) if more || unread => drop(self.timers.reset(key, deadline(now, AGAIN))),
            Some((_, reason)) => {
                live.watch = None;
                self.timers.cancel(key);
                self.end(conn, reason);
            }
            None => {
                live.watch = None;
                self.timers.cancel(key);
            }
        }
    }

    /// Writes what the peer has made room for. A full socket tells of room when a third of it is free; a peer that reads
    /// slowly may have taken megabytes by then, in silence, and for longer than a deadline.
    pub(super) fn try_outbox(&mut self, conn: ConnId) {
        let Some(live) = self.table.get_mut(conn) else { return };
        if live.has_output() && !live.writable {
            live.writable = true;
            self.flush(conn);
        }
    }
}
