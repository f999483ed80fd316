//! Out of an outbox: the one place that writes what waits.

use std::io::IoSlice;

use super::Context;
use super::live::Phase;
use crate::buffer::SLICES;
use crate::connection::{CloseReason, Halt};
use crate::handler::Handler;
use crate::id::ConnId;
use crate::net::{Written, send, send_vectored};

impl<H: Handler> Context<H> {
    /// Writes what waits for `conn`, as far as the socket and the budget go, and acts on what follows from it: reading goes
    /// on below the low mark, and a connection that only waited for this ends.
    #[inline]
    pub(super) fn flush(&mut self, conn: ConnId) {
        let budget = self.limits.write_bytes_per_turn;
        let Some(live) = self.table.get_mut(conn) else { return };
        live.dirty = false;
        if live.writable && !live.outbox.is_empty() && live.phase >= Phase::Open {
            if let Err(reason) = self.write(conn, budget) {
                self.end(conn, reason);
                return;
            }
        }
        self.settle(conn);
    }

    fn write(&mut self, conn: ConnId, mut budget: usize) -> Result<(), CloseReason> {
        let Context { table, pool, stats, now, dirty, .. } = self;
        let Some(live) = table.get_mut(conn) else { return Ok(()) };
        while !live.outbox.is_empty() {
            let written = match live.outbox.single() {
                Some(bytes) => send(&mut live.stream, bytes),
                None => {
                    let mut slices = [IoSlice::new(&[]); SLICES];
                    let (count, total) = live.outbox.slices(&mut slices);
                    send_vectored(&mut live.stream, &slices[..count], total)
                }
            };
            match written {
                Written::Some { n, full } => {
                    live.active = *now;
                    stats.bytes_out += n as u64;
                    stats.frames_out += live.outbox.advance(n, pool);
                    if full {
                        live.writable = false;
                        break;
                    }
                    budget = budget.saturating_sub(n);
                    if budget == 0 && !live.outbox.is_empty() {
                        live.dirty = true;
                        dirty.push(conn);
                        break;
                    }
                }
                Written::Full => {
                    live.writable = false;
                    break;
                }
                Written::Failed(error) => return Err(CloseReason::from_io(error)),
            }
        }
        Ok(())
    }

    /// What follows from the state of an outbox.
    #[inline]
    pub(super) fn settle(&mut self, conn: ConnId) {
        let low_mark = self.limits.low_mark;
        let Some(live) = self.table.get_mut(conn) else { return };
        if live.halts.contains(Halt::HighMark) && live.outbox.bytes() <= low_mark {
            let free = live.halts.lift(Halt::HighMark);
            if live.phase == Phase::Open || live.phase == Phase::Finishing {
                self.writable.push(conn);
            }
            if free {
                self.schedule(conn);
            }
        }
        let Some(live) = self.table.get_mut(conn) else { return };
        if live.phase >= Phase::Finishing && live.outbox.is_empty() {
            self.finish_if_done(conn);
        }
        self.account(conn);
    }
}
