//! Out of a socket, through the codec, to the handler: the main road.

use std::mem;

use log::{trace, warn};

use super::live::{Input, OurSide, Phase};
use super::pace::Callback;
use super::{Context, Reactor};
use crate::codec::{Codec, FrameError, Scan};
use crate::connection::{COPY_IN_MAX, CloseReason};
use crate::handler::{HalfClose, Handler};
use crate::id::ConnId;
use crate::net::{Received, receive};

/// What one connection may still use of this turn.
#[derive(Debug)]
struct Budget {
    messages: usize,
    bytes: usize,
    /// The input ends inside a frame that has begun in this turn.
    frame_begun: bool,
}

/// Why delivering stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// The codec needs more bytes.
    Need,
    /// The connection takes no message at the moment, or none any more.
    Halted,
    /// As `Need`, and the socket has no more for now.
    Drained,
    /// The turn's messages are spent.
    Spent,
}

impl<H: Handler> Reactor<H> {
    /// Delivers what `conn` holds, reads what it has, and writes its replies: within the budget of a turn.
    pub(super) fn receive(&mut self, conn: ConnId) {
        let mut shared = mem::take(&mut self.cx.read_buffer);
        let limits = &self.cx.limits;
        let (mut messages, mut bytes) = (limits.messages_per_turn, limits.read_bytes_per_turn);
        let rated = self.cx.table.get_mut(conn).is_some_and(|live| {
            // It is flushed at the end of this, and need not be listed for that.
            live.dirty = true;
            live.rated.input()
        });
        if rated {
            self.cx.limit_input(conn, &mut messages, &mut bytes);
        }
        let mut budget = Budget { messages, bytes, frame_begun: false };
        (self.cx.current, self.cx.replied) = (Some(conn), false);
        self.guarded(Some(conn), |reactor| reactor.read_and_deliver(conn, &mut shared, &mut budget));
        self.cx.current = None;
        self.cx.stats.frames_in += (messages - budget.messages) as u64;
        self.cx.frame_len = 0;
        self.cx.read_buffer = shared;
        if rated {
            self.cx.charge_input(conn, messages - budget.messages, bytes - budget.bytes);
        }
        if budget.frame_begun {
            self.cx.arm_deadlines(conn);
        }
        if self.cx.series.is_for_everybody() {
            // It is one of all, whom the end of the turn writes to.
            self.cx.relist(conn);
        } else {
            self.cx.flush(conn);
        }
        self.cx.dispatched(Callback::Message, Some(conn));
    }

    fn read_and_deliver(&mut self, conn: ConnId, shared: &mut [u8], budget: &mut Budget) {
        loop {
            let (over_memory, waits) = (self.cx.is_over_memory(), self.cx.waits_for_others());
            let Some(live) = self.cx.table.get_mut(conn) else { return };
            // Above the high mark, the flush that follows may bring it below the low one; then it goes on in the next turn.
            if !live.halts.is_empty() {
                return;
            }
            if live.inbox.is_due() {
                // What is held is delivered above the memory limit too, which makes room; for others it would only make more.
                if waits {
                    return self.cx.starve(conn);
                }
                if self.deliver_held(conn, budget) == Stop::Spent {
                    return self.cx.schedule(conn);
                }
                continue;
            }
            match live.input {
                Input::Open if !live.readable => return,
                Input::Open if budget.bytes == 0 => return self.cx.schedule(conn),
                Input::Open if over_memory || waits => return self.cx.starve(conn),
                Input::Open if live.inbox.len() <= COPY_IN_MAX => {
                    match self.read_shared(conn, shared, budget) {
                        Stop::Need | Stop::Halted => {}
                        Stop::Drained => return,
                        Stop::Spent => return self.cx.schedule(conn),
                    }
                }
                Input::Open => self.cx.read_in_place(conn, budget),
                Input::Ended => {
                    if !self.finish_input(conn, budget) {
                        return;
                    }
                }
                Input::Finished => return,
            }
        }
    }

    /// Reads into the buffer that all connections share, behind what little is held, and delivers from there.
    fn read_shared(&mut self, conn: ConnId, shared: &mut [u8], budget: &mut Budget) -> Stop {
        let Context { table, pool, stats, tick, .. } = &mut self.cx;
        let Some(live) = table.get_mut(conn) else { return Stop::Halted };
        let had = live.inbox.move_into(shared, pool);
        let to = shared.len().min(had + budget.bytes);
        let trust = live.trusts_short_reads();
        let received = receive(&mut live.stream, &mut shared[had..to], trust);
        live.note(&received);
        match received {
            Received::Some { n, .. } => {
                live.active = *tick;
                stats.bytes_in += n as u64;
                budget.bytes = budget.bytes.saturating_sub(live.stream.cost_of(n));
                let end = had + n;
                let mut at = 0;
                let stop = self.deliver(conn, &mut shared[..end], &mut at, budget);
                if let Some(live) = self.cx.table.get_mut(conn) {
                    if live.phase == Phase::Open {
                        live.inbox.hold(&shared[at..end], &mut self.cx.pool);
                    }
                    if stop == Stop::Need && !live.readable {
                        return Stop::Drained;
                    }
                }
                stop
            }
            Received::Empty | Received::End => {
                live.inbox.hold(&shared[..had], pool);
                Stop::Need
            }
            Received::Failed(error) => {
                self.cx.end(conn, CloseReason::from_io(error));
                Stop::Halted
            }
        }
    }

    /// Delivers from what is held.
    fn deliver_held(&mut self, conn: ConnId, budget: &mut Budget) -> Stop {
        let Some(live) = self.cx.table.get_mut(conn) else { return Stop::Halted };
        let mut lent = live.inbox.lend();
        let mut at = lent.start;
        let stop = self.deliver(conn, lent.bytes(), &mut at, budget);
        lent.start = at;
        match self.cx.table.get_mut(conn) {
            Some(live) if live.phase == Phase::Open => live.inbox.put_back(lent, &mut self.cx.pool),
            _ => self.cx.pool.give_input(lent.into_buffer()),
        }
        stop
    }

    /// Hands over the whole messages in `bytes` from `at` on, and moves `at` behind them.
    fn deliver(&mut self, conn: ConnId, bytes: &mut [u8], at: &mut usize, budget: &mut Budget) -> Stop {
        let (begin, before, mut skips) = (*at, budget.messages, 0);
        let (stop, error) = self.deliver_until(conn, bytes, at, &mut skips, budget);
        self.cx.stats.bytes_skipped += skips as u64;
        if let Some(live) = self.cx.table.get_mut(conn) {
            live.inbox.consumed(*at - begin);
            live.heard |= budget.messages < before;
            budget.frame_begun |= *at < bytes.len() && stop == Stop::Need && live.note_frame(self.cx.tick);
            let error = error.map(|error| error.at(live.inbox.offset()));
            if let Some(error) = error {
                self.bad_frame(conn, error);
            }
        }
        stop
    }

    #[inline]
    fn deliver_until(
        &mut self,
        conn: ConnId,
        bytes: &mut [u8],
        at: &mut usize,
        skips: &mut usize,
        budget: &mut Budget,
    ) -> (Stop, Option<FrameError>) {
        loop {
            let Some(live) = self.cx.table.get_mut(conn) else { return (Stop::Halted, None) };
            if !live.halts.is_empty() {
                live.inbox.forget_need();
                return (Stop::Halted, None);
            }
            if live.inbox.is_skipping() {
                let skipped = live.inbox.take_skipped(bytes.len() - *at);
                *at += skipped;
                *skips += skipped;
            }
            let rest = &mut bytes[*at..];
            if rest.is_empty() {
                live.inbox.forget_need();
                return (Stop::Need, None);
            }
            if budget.messages == 0 {
                live.inbox.forget_need();
                return (Stop::Spent, None);
            }
            match live.codec.scan(rest) {
                Ok(Scan::Frame(0) | Scan::Skip(0)) => {
                    return (
                        Stop::Halted,
                        Some(FrameError::malformed("the codec found a frame without bytes")),
                    );
                }
                Ok(Scan::Frame(len)) if len <= rest.len() => match live.codec.parse(&mut rest[..len]) {
                    Ok(message) => {
                        *at += len;
                        budget.messages -= 1;
                        trace!("connection {conn}: a frame of {len} bytes");
                        self.cx.frame_len = len;
                        self.cx.enters(Callback::Message, Some(conn));
                        self.handler.on_message(&mut self.cx, conn, message);
                        self.cx.leaves();
                    }
                    Err(error) => return (Stop::Halted, Some(error)),
                },
                Ok(Scan::Frame(need) | Scan::Need(need)) => {
                    live.inbox.wants(need.max(rest.len() + 1));
                    return (Stop::Need, None);
                }
                Ok(Scan::Skip(n)) => {
                    live.inbox.skip(n);
                }
                Err(error) => return (Stop::Halted, Some(error)),
            }
        }
    }

    /// The end of the input was read: the rest is asked about, then the handler. Returns whether there is more to do.
    fn finish_input(&mut self, conn: ConnId, budget: &mut Budget) -> bool {
        let Some(live) = self.cx.table.get_mut(conn) else { return false };
        if live.stream.was_cut() {
            // Somebody may have cut it: what is not whole by itself is not taken for whole, and nobody is told of an end in order.
            live.input = Input::Finished;
            self.cx.begin_finish(conn, CloseReason::TlsTruncated);
            return false;
        }
        let rest = live.inbox.bytes();
        let offset = live.inbox.offset();
        let mut truncated = live.inbox.is_skipping();
        match live.codec.scan_end(rest) {
            Ok(Some(len)) if len > 0 && len <= rest.len() => {
                if budget.messages == 0 {
                    self.cx.schedule(conn);
                    return false;
                }
                self.deliver_last(conn, len, budget);
                return true;
            }
            Ok(_) => truncated |= !rest.is_empty(),
            Err(error) => match CloseReason::from(error.at(offset)) {
                CloseReason::Peer { .. } => truncated = true,
                _ => {
                    self.bad_frame(conn, error.at(offset));
                    return false;
                }
            },
        }
        live.input = Input::Finished;
        if truncated && live.reason.is_none() {
            // For whoever ends our side later.
            live.reason = Some(Box::new(CloseReason::Peer { truncated }));
        }
        live.inbox.release(&mut self.cx.pool);
        self.cx.frame_len = 0;
        self.cx.enters(Callback::Message, Some(conn));
        let answer = self.handler.on_half_close(&mut self.cx, conn);
        self.cx.leaves();
        // One that was detached in there leaves whole.
        let Some(live) = self.cx.table.get(conn) else { return false };
        // One whose both sides have ended has nothing to be kept for.
        let over = answer == HalfClose::CloseWhenFlushed || live.output != OurSide::Open;
        if over && !live.is_detaching() {
            let told = live.reason.as_ref().is_some_and(|reason| matches!(**reason, CloseReason::Reset));
            let reason = if told { CloseReason::Reset } else { CloseReason::Peer { truncated } };
            self.cx.begin_finish(conn, reason);
        }
        false
    }

    /// Delivers the last frame of a stream, of `len` bytes.
    fn deliver_last(&mut self, conn: ConnId, len: usize, budget: &mut Budget) {
        let Some(live) = self.cx.table.get_mut(conn) else { return };
        let mut lent = live.inbox.lend();
        let start = lent.start;
        let offset = live.inbox.offset();
        live.inbox.consumed(len);
        live.inbox.forget_need();
        match live.codec.parse(&mut lent.bytes()[start..start + len]) {
            Ok(message) => {
                budget.messages -= 1;
                self.cx.frame_len = len;
                self.cx.enters(Callback::Message, Some(conn));
                self.handler.on_message(&mut self.cx, conn, message);
                self.cx.leaves();
            }
            Err(error) => self.bad_frame(conn, error.at(offset)),
        }
        lent.start = start + len;
        match self.cx.table.get_mut(conn) {
            Some(live) if live.phase == Phase::Open => live.inbox.put_back(lent, &mut self.cx.pool),
            _ => self.cx.pool.give_input(lent.into_buffer()),
        }
    }

    /// The peer has broken the framing: its connection ends, after the replies to what came before and a last word.
    #[cold]
    fn bad_frame(&mut self, conn: ConnId, error: FrameError) {
        let Some(live) = self.cx.table.get(conn) else { return };
        if self.cx.gate.opens("frame", self.cx.now) {
            warn!("connection {conn} from {}: {error}", live.peer);
        } else {
            trace!("connection {conn} from {}: {error}", live.peer);
        }
        self.cx.frame_len = 0;
        self.cx.enters(Callback::Message, Some(conn));
        self.handler.on_bad_frame(&mut self.cx, conn, &error);
        self.cx.leaves();
        self.cx.begin_close(conn, error.into());
    }
}

impl<H: Handler> Context<H> {
    /// Reads a long message on, straight into its place.
    fn read_in_place(&mut self, conn: ConnId, budget: &mut Budget) {
        let Some(live) = self.table.get_mut(conn) else { return };
        let trust = live.trusts_short_reads();
        let room = live.inbox.room(&mut self.pool);
        let to = room.len().min(budget.bytes);
        let received = receive(&mut live.stream, &mut room[..to], trust);
        live.note(&received);
        match received {
            Received::Some { n, .. } => {
                live.inbox.filled(n);
                live.active = self.tick;
                self.stats.bytes_in += n as u64;
                budget.bytes = budget.bytes.saturating_sub(live.stream.cost_of(n));
            }
            Received::Empty | Received::End => {}
            Received::Failed(error) => self.end(conn, CloseReason::from_io(error)),
        }
    }
}
