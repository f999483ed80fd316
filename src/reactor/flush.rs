//! Out of an outbox: the one place that writes what waits.

use std::io::IoSlice;

use super::Context;
use super::live::{Live, OurSide, Phase};
use crate::buffer::{Pool, SLICES};
use crate::codec::Codec;
use crate::connection::{CloseReason, Halt};
use crate::handler::Handler;
use crate::id::ConnId;
use crate::net::{Written, send, send_vectored};
use crate::stats::Stats;
use crate::time::Tick;

/// How a write came to its end.
enum Wrote {
    /// All of it, or as much as the socket takes.
    Done,
    /// The budget is spent: the rest is for the next turn.
    Spent,
    Failed(CloseReason),
}

impl<H: Handler> Context<H> {
    /// Writes what waits for `conn`, as far as the socket and the budget go, and acts on what follows from it: reading goes
    /// on below the low mark, and a connection that only waited for this ends.
    #[inline]
    pub(super) fn flush(&mut self, conn: ConnId) {
        self.end_series();
        match self.table.get(conn) {
            Some(live) if live.rated.output() => self.flush_rated(conn),
            Some(_) => self.flush_within(conn, self.limits.write_bytes_per_turn),
            None => {}
        }
    }

    #[inline]
    fn flush_within(&mut self, conn: ConnId, budget: usize) {
        let Context { table, pool, stats, tick, memory, dirty, .. } = self;
        let Some(live) = table.get_mut(conn) else { return };
        live.dirty = false;
        if live.writable && live.has_output() && live.phase >= Phase::Open && budget > 0 {
            let bytes = stats.bytes_out;
            let wrote = live.write(pool, stats, *tick, budget);
            if live.waits {
                memory.relieved += stats.bytes_out - bytes;
            }
            match wrote {
                Wrote::Done => {}
                Wrote::Spent => {
                    live.dirty = true;
                    dirty.push(conn);
                }
                Wrote::Failed(reason) => return self.write_failed(conn, reason),
            }
        }
        let quiet = live.phase == Phase::Open
            && !live.above_mark
            && !live.overflowed
            && live.held() == live.counted
            && live.output != OurSide::Ending;
        if !live.has_output() {
            live.waits = false;
        } else if !live.waits {
            (live.waits, live.moved) = (true, *tick);
            self.arm_deadlines(conn);
        }
        if !quiet {
            self.settle(conn);
        }
    }

    #[cold]
    fn flush_rated(&mut self, conn: ConnId) {
        let budget = self.rated_budget(conn);
        let (bytes, frames) = (self.stats.bytes_out, self.stats.frames_out);
        self.flush_within(conn, budget);
        let (bytes, frames) = (self.stats.bytes_out - bytes, self.stats.frames_out - frames);
        self.charge_output(conn, frames, bytes);
    }

    /// What a connection with a limited rate may be written now.
    fn rated_budget(&mut self, conn: ConnId) -> usize {
        let budget = self.limits.write_bytes_per_turn;
        match self.table.get(conn) {
            Some(live) if !live.writable || live.outbox.is_empty() || live.phase < Phase::Open => budget,
            _ => self.limit_output(conn).map_or(0, |allowed| allowed.min(budget)),
        }
    }

    /// What follows from the state of an outbox.
    #[inline]
    pub(super) fn settle(&mut self, conn: ConnId) {
        let low_mark = self.limits.low_mark;
        let Some(live) = self.table.get_mut(conn) else { return };
        // What a dial's policy has dropped makes room too, but nobody can be told before it is open.
        if live.above_mark && live.outbox.bytes() <= low_mark && live.phase >= Phase::Open {
            live.above_mark = false;
            let free = live.halts.lift(Halt::HighMark);
            if !live.writable_due && matches!(live.phase, Phase::Open | Phase::Finishing) {
                live.writable_due = true;
                self.writable.push(conn);
            }
            if free {
                self.schedule(conn);
            }
        }
        let Some(live) = self.table.get_mut(conn) else { return };
        if live.output == OurSide::Ending && live.phase == Phase::Open && !live.has_output() {
            live.output = OurSide::Ended;
            // It fails on a socket that is broken, and that has an event of its own.
            drop(live.stream.shut_down_writing());
        }
        if live.overflowed && live.outbox.bytes() <= low_mark {
            live.overflowed = false;
        }
        if live.phase >= Phase::Finishing && !live.has_output() {
            self.finish_if_done(conn);
        }
        self.account(conn);
    }
}

impl<C: Codec, S: Default> Live<C, S> {
    fn write(&mut self, pool: &mut Pool, stats: &mut Stats, now: Tick, mut budget: usize) -> Wrote {
        if self.stream.holds_output() {
            // It goes before what is in the outbox.
            let full = match self.stream.push() {
                Written::Some { n, full } => {
                    if n > 0 {
                        (self.active, self.moved) = (now, now);
                        self.spoke = true;
                    }
                    stats.frames_out += self.stream.count_out(0);
                    full
                }
                Written::Full => true,
                Written::Failed(error) => return Wrote::Failed(CloseReason::from_io(error)),
            };
            if full {
                self.writable = false;
                return Wrote::Done;
            }
        }
        while !self.outbox.is_empty() {
            let written = match self.outbox.single() {
                Some(bytes) => send(&mut self.stream, &bytes[..bytes.len().min(budget)]),
                None => {
                    let mut slices = [IoSlice::new(&[]); SLICES];
                    let (count, total) = self.outbox.slices(&mut slices, budget);
                    send_vectored(&mut self.stream, &slices[..count], total)
                }
            };
            match written {
                Written::Some { n, full } => {
                    (self.active, self.moved) = (now, now);
                    self.spoke = true;
                    stats.bytes_out += n as u64;
                    stats.frames_out += self.stream.count_out(self.outbox.advance(n, pool));
                    if full {
                        self.writable = false;
                        break;
                    }
                    budget = budget.saturating_sub(n);
                    if budget == 0 && !self.outbox.is_empty() {
                        return Wrote::Spent;
                    }
                }
                Written::Full => {
                    self.writable = false;
                    break;
                }
                Written::Failed(error) => return Wrote::Failed(CloseReason::from_io(error)),
            }
        }
        Wrote::Done
    }
}
