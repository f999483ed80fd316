//! The end of a connection: the ways towards it, and the one exit.

use std::time::{Duration, Instant};

use log::debug;

use super::Reactor;
use super::live::{Input, Live, OurSide, Phase};
use super::pace::Callback;
use super::table::{Discarded, Lingering, discard};
use super::timers::Deadline;
use super::{Context, Detached};
use crate::connection::{CloseReason, Halt};
use crate::error::DialError;
use crate::handler::Handler;
use crate::id::ConnId;
use crate::net::Stream;
use crate::time::deadline;

impl<H: Handler> Context<H> {
    /// Ends `conn` in order: no further message is delivered, what is queued is sent, our side is shut, `on_close` follows
    /// with [`CloseReason::Local`]. Then the bare socket lingers for a moment, so that the peer gets the last reply. A peer
    /// that does not take it is cut after [`Limits::close_timeout`](crate::Limits::close_timeout). A dial is cancelled, and nothing is dialed again.
    /// Does nothing on the gone.
    pub fn close(&mut self, conn: ConnId) {
        self.stop_redialing(conn);
        self.begin_close(conn, CloseReason::Local);
    }

    /// Ends `conn` at once: what is queued is lost, and the peer sees a reset. `on_close` follows with
    /// [`CloseReason::Aborted`]. A dial is cancelled, and nothing is dialed again.
    pub fn abort(&mut self, conn: ConnId) {
        self.stop_redialing(conn);
        self.end(conn, CloseReason::Aborted);
    }

    /// No further message; what is queued and owed is still sent. Then it ends for `reason`.
    pub(super) fn begin_finish(&mut self, conn: ConnId, reason: CloseReason) {
        self.begin_end(conn, Phase::Finishing, reason);
    }

    /// No further message in or out; what is queued is still sent. Then it ends for `reason`. A dial is cancelled.
    pub(super) fn begin_close(&mut self, conn: ConnId, reason: CloseReason) {
        match self.table.get(conn).map(|live| live.phase) {
            Some(Phase::Dialing | Phase::Handshaking | Phase::Opening) => self.end(conn, reason),
            _ => self.begin_end(conn, Phase::Closing, reason),
        }
    }

    /// Ends our output on `conn`: the FIN goes behind everything that is queued, and nothing more can be sent. What the peer
    /// sends still comes; the connection ends when the peer has ended its input too, whatever
    /// [`on_half_close`](Handler::on_half_close) answers, or when it is closed. A dial does so when it is open. False when it
    /// is gone, or on its way to the end already.
    pub fn end_output(&mut self, conn: ConnId) -> bool {
        self.end_series();
        let Some(live) = self.table.get_mut(conn) else { return false };
        if live.phase >= Phase::Finishing || live.is_detaching() {
            return false;
        }
        if live.output == OurSide::Open {
            live.output = OurSide::Ending;
        }
        if live.input == Input::Finished {
            let told = live.reason.take().map(|reason| *reason);
            self.begin_finish(conn, told.unwrap_or(CloseReason::Peer { truncated: false }));
        } else {
            self.mark_dirty(conn);
        }
        true
    }

    fn begin_end(&mut self, conn: ConnId, phase: Phase, reason: CloseReason) {
        self.end_series();
        let Some(live) = self.table.get_mut(conn) else { return };
        if live.phase >= phase {
            return;
        }
        live.phase = phase;
        live.halts.set(Halt::Phase);
        live.reason = Some(Box::new(reason));
        live.inbox.release(&mut self.pool);
        if phase == Phase::Closing {
            live.end_life();
        }
        let readable = live.readable;
        // Its peer may not read before we do, and may never read: further input is dropped, and it has to move.
        self.watch(conn, self.limits.close_timeout, Deadline::Close(conn));
        if readable {
            self.schedule(conn);
        }
        self.mark_dirty(conn);
    }

    /// Whether that was the last thing a connection on its way to the end waited for; if so, it ends.
    pub(super) fn finish_if_done(&mut self, conn: ConnId) {
        let Some(live) = self.table.get_mut(conn) else { return };
        let done = !live.has_output()
            && match live.phase {
                Phase::Finishing => live.owed == 0,
                Phase::Closing => true,
                _ => false,
            };
        if done && !live.stream.say_goodbye() {
            // The last word waits for room, as all before it did.
            live.writable = false;
            return;
        }
        if done {
            let reason = live.reason.take().map_or(CloseReason::Local, |reason| *reason);
            self.end(conn, reason);
        }
    }

    /// Ends `conn` now; its `on_close` comes at the end of the turn. The first cause wins. For a dial, this is its failure.
    pub(super) fn end(&mut self, conn: ConnId, reason: CloseReason) {
        self.end_series();
        let Some(live) = self.table.get_mut(conn) else { return };
        match live.phase {
            Phase::Ended => return,
            Phase::Dialing | Phase::Handshaking | Phase::Opening => {
                let error = match reason {
                    CloseReason::Io(error) => DialError::Io(error),
                    CloseReason::SlowConsumer | CloseReason::MemoryLimit => DialError::Overflow,
                    _ => DialError::Cancelled,
                };
                return self.fail_dial(conn, error);
            }
            _ => {}
        }
        live.phase = Phase::Ended;
        live.halts.set(Halt::Phase);
        live.inbox.release(&mut self.pool);
        self.drain.note_lost(live.queued());
        if live.has_output() {
            live.output = OurSide::Lost;
        }
        live.outbox.clear(&mut self.pool);
        self.account(conn);
        self.ending.push((conn, reason));
    }

    /// A write has found the connection broken.
    pub(super) fn write_failed(&mut self, conn: ConnId, reason: CloseReason) {
        match self.table.get(conn) {
            // Its socket leaves as it is at the end of this turn.
            Some(live) if live.is_detaching() && live.stream.keeps_input_when_cut() => {}
            Some(live) if live.hears_the_gone() => self.lose_output(conn),
            _ => self.end(conn, reason),
        }
    }

    /// The peer takes nothing more, and what it has sent before is still to come: the other end of a Unix socket is closed.
    /// What is queued is lost. It ends when its input does.
    pub(super) fn lose_output(&mut self, conn: ConnId) {
        self.end_series();
        let Some(live) = self.table.get_mut(conn) else { return };
        live.output = OurSide::Ended;
        live.end_life();
        let lost = live.outbox.bytes();
        if lost > 0 {
            live.reason = Some(Box::new(CloseReason::Reset));
            live.outbox.clear(&mut self.pool);
            self.drain.note_lost(lost);
        }
        if live.input == Input::Finished {
            let told = live.reason.take().map(|reason| *reason);
            self.end(conn, told.unwrap_or(CloseReason::Peer { truncated: false }));
        } else {
            self.settle(conn);
        }
    }

    /// Ends a dial; its `on_dial_failed` comes at the end of the turn.
    pub(super) fn fail_dial(&mut self, conn: ConnId, error: DialError) {
        let Some(live) = self.table.get_mut(conn) else { return };
        if live.phase > Phase::Opening {
            return;
        }
        live.phase = Phase::Ended;
        live.halts.set(Halt::Phase);
        live.outbox.clear(&mut self.pool);
        self.account(conn);
        self.stop_dial(conn);
        self.dials_failed.push((conn, error));
    }

    /// Takes away what belongs to a connection that ends, before anyone is told.
    fn strip(&mut self, conn: ConnId) -> Option<H::Session> {
        self.end_series();
        self.count_accepted(conn, false);
        self.table.no_longer_open(conn);
        let live = self.table.get_mut(conn)?;
        live.end_life();
        let session = live.session.take();
        let watch = live.watch.take();
        let extras = live.extras.take();
        if let Some(key) = watch {
            self.timers.cancel(key);
        }
        if let Some(extras) = extras {
            if extras.discarded > 0 {
                // Its socket may linger, with what is left of the bound.
                live.extras().discarded = extras.discarded;
            }
            for key in &extras.timers {
                self.take_timer(*key);
            }
            for group in extras.rates.owned() {
                self.remove_rate_group(group);
            }
            self.leave_all(extras.groups);
        }
        session
    }

    /// Until when the socket of a connection that ends in order lingers, if at all. It does so for what was sent just before:
    /// one that is ended because of its silence, or while it was silent, has had that time already.
    fn lingers_until(&self, conn: ConnId, reason: &CloseReason) -> Option<Instant> {
        let live = self.table.get(conn)?;
        let never = self.limits.lingering_max == 0 || self.drain.over;
        if never || reason.is_hard() || live.input != Input::Open || live.output == OurSide::Lost {
            return None;
        }
        let silent = matches!(reason, CloseReason::Shutdown | CloseReason::IdleTimeout);
        let had = if silent { live.active.age(self.tick) } else { Duration::ZERO };
        let until = deadline(self.now, self.limits.linger_timeout.saturating_sub(had));
        (until > self.now && (live.spoke || !silent)).then_some(until)
    }

    /// Lets go of the socket of a connection that has ended: by a reset, in order, or after it has lingered.
    pub(super) fn retire(&mut self, conn: ConnId, reset: bool, until: Option<Instant>) {
        while self.table.lingering() >= self.limits.lingering_max.max(1) && self.cut_oldest_lingering() {}
        let Some(live) = self.table.remove(conn) else { return };
        let discarded = live.discarded();
        let Live { generation, mut stream, .. } = live;
        if reset {
            stream.reset_on_close();
        }
        let Some(until) = until else {
            if !reset {
                // As far as there is room.
                stream.say_goodbye();
            }
            return;
        };
        if stream.shut_down_writing().is_err() {
            return;
        }
        let deadline = self.timers.set(until, Deadline::Linger(conn));
        self.table.linger(conn, Lingering { generation, stream, discarded, deadline });
        self.unfinished.push(conn);
        // Those that have gone by themselves stay on the list until they are met, or too many.
        if self.lingerers.len() > 2 * self.limits.lingering_max {
            let Context { lingerers, table, .. } = self;
            lingerers.retain(|conn| table.lingering_mut(*conn).is_some());
        }
        self.lingerers.push_back(conn);
    }

    /// Resets the socket that has lingered the longest. False when there is none.
    pub(super) fn cut_oldest_lingering(&mut self) -> bool {
        while let Some(oldest) = self.lingerers.pop_front() {
            if self.table.lingering_mut(oldest).is_some() {
                self.cut_lingering(oldest, true);
                return true;
            }
        }
        false
    }

    /// Drops a lingering socket: in order, or by a reset.
    pub(super) fn cut_lingering(&mut self, conn: ConnId, reset: bool) {
        let Some(mut socket) = self.table.remove_lingering(conn) else { return };
        self.timers.cancel(socket.deadline);
        if reset {
            socket.stream.reset_on_close();
        }
        drop(socket);
        self.retry_paused_listeners();
    }

    /// Drops what has come for a lingering socket, until its peer ends too.
    pub(super) fn linger(&mut self, conn: ConnId) {
        let (max, budget) = (self.limits.linger_bytes, self.limits.read_bytes_per_turn);
        let Context { table, read_buffer, unfinished, .. } = self;
        let Some(socket) = table.lingering_mut(conn) else { return };
        match discard(&mut socket.stream, read_buffer, &mut socket.discarded, max, budget) {
            Discarded::Empty => {}
            Discarded::Spent => unfinished.push(conn),
            Discarded::End | Discarded::Failed(_) => self.cut_lingering(conn, false),
            Discarded::Enough => self.cut_lingering(conn, true),
        }
    }

    /// Drops what has come for a connection that is closing: its peer may have to be read before it reads.
    pub(super) fn discard_input(&mut self, conn: ConnId) {
        let (max, budget) = (self.limits.linger_bytes, self.limits.read_bytes_per_turn);
        let Context { table, read_buffer, .. } = self;
        let Some(live) = table.get_mut(conn) else { return };
        if live.input != Input::Open {
            return;
        }
        let before = live.discarded();
        let mut discarded = before;
        let outcome = discard(&mut live.stream, read_buffer, &mut discarded, max, budget);
        if discarded > before {
            live.extras().discarded = discarded;
        }
        match outcome {
            Discarded::Empty => live.readable = false,
            Discarded::Enough => {}
            Discarded::Spent => self.schedule(conn),
            Discarded::End => {
                live.readable = false;
                live.input = Input::Ended;
            }
            Discarded::Failed(error) => self.end(conn, CloseReason::from_io(error)),
        }
    }
}

impl<H: Handler> Reactor<H> {
    /// The one exit: tells the handler of all that have ended in this turn, and lets go of their sockets.
    pub(super) fn reap(&mut self) {
        self.reap_dials();
        for conn in std::mem::take(&mut self.cx.detaching) {
            self.reap_detached(conn);
        }
        let mut ending = std::mem::take(&mut self.cx.ending);
        for (conn, reason) in ending.drain(..) {
            let cx = &mut self.cx;
            let Some(live) = cx.table.get(conn) else { continue };
            let until = cx.lingers_until(conn, &reason);
            let opened = live.opened;
            let reset = live.output == OurSide::Lost || matches!(reason, CloseReason::Aborted);
            debug!("connection {conn} from {} closed: {reason}", live.peer);
            let session = cx.strip(conn);
            cx.stats.count_close(&reason);
            self.redial(conn, Some(opened));
            if let Some(session) = session {
                self.call(Callback::Close, Some(conn), |handler, cx| {
                    handler.on_close(cx, conn, reason, session);
                });
            }
            self.cx.dials.successor = None;
            self.cx.retire(conn, reset, until);
            self.cx.retry_paused_listeners();
        }
        // What the callbacks ended waits for the next turn; the list keeps its memory.
        ending.append(&mut self.cx.ending);
        self.cx.ending = ending;
        self.cx.table.end_turn();
    }

    fn reap_dials(&mut self) {
        for (conn, error) in std::mem::take(&mut self.cx.dials_failed) {
            let session = self.cx.strip(conn);
            if self.cx.table.get(conn).is_some_and(|live| live.listener.is_some()) {
                self.cx.turned_away(conn, &error);
                continue;
            }
            debug!("dial {conn} failed: {error}");
            self.cx.stats.dials_failed += 1;
            self.redial(conn, None);
            if let Some(session) = session {
                self.call(Callback::DialFailed, Some(conn), |handler, cx| {
                    handler.on_dial_failed(cx, conn, error, session);
                });
            }
            self.cx.dials.successor = None;
            self.cx.table.remove(conn);
        }
    }

    /// Hands a socket out, if its connection has not ended in the meantime.
    fn reap_detached(&mut self, conn: ConnId) {
        let cx = &mut self.cx;
        let open = cx.table.get(conn).is_some_and(|live| live.phase == Phase::Open);
        if !open {
            return;
        }
        let Some((detached, session)) = cx.take_out(conn) else { return };
        if let Some(detached) = detached {
            self.call(Callback::Detach, Some(conn), |handler, cx| handler.on_detach(cx, conn, detached));
        }
        if let Some(session) = session {
            self.call(Callback::Close, Some(conn), |handler, cx| {
                handler.on_close(cx, conn, CloseReason::Detached, session);
            });
        }
        self.cx.table.remove(conn);
    }
}

impl<H: Handler> Context<H> {
    /// Takes an open connection apart: its socket with all bytes in between, and its session. What is left of it is known
    /// until the caller has told the handler, and removes it.
    pub(super) fn take_out(&mut self, conn: ConnId) -> Option<(Option<Detached>, Option<H::Session>)> {
        self.stop_redialing(conn);
        let session = self.strip(conn);
        let Context { table, pool, poller, stats, .. } = self;
        let live = table.get_mut(conn)?;
        stats.count_close(&CloseReason::Detached);
        debug!("connection {conn} from {} closed: {}", live.peer, CloseReason::Detached);
        let undelivered = live.inbox.bytes().to_vec();
        let unsent = live.outbox.to_vec();
        live.phase = Phase::Ended;
        live.halts.set(Halt::Phase);
        live.inbox.release(pool);
        live.outbox.clear(pool);
        let mut stream = std::mem::replace(&mut live.stream, Stream::Nothing);
        // A failure means that it was not registered, which is what is wanted.
        drop(poller.remove_stream(&mut stream));
        let peer = live.peer.clone();
        let detached = stream.into_std().map(|stream| Detached { stream, undelivered, unsent, peer });
        self.account(conn);
        Some((detached, session))
    }
}
