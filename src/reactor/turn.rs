//! The turn: what happens in which order.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use super::live::{Input, OurSide, Phase};
use super::pace::Callback;
use super::table::Found;
use super::{Context, OnPanic, Reactor};
use crate::error::Error;
use crate::handler::Handler;
use crate::id::ConnId;
use crate::net::{Readiness, Source};
use crate::time::Tick;

/// What a turn leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// There may be more turns.
    Continue,
    /// A shutdown has come to its end.
    Finished,
}

impl<H: Handler> Reactor<H> {
    /// Takes turns until a shutdown has come to its end: [`Context::shutdown`] or [`Handle::shutdown`](crate::Handle::shutdown)
    /// asks for one.
    ///
    /// # Errors
    /// The system's poller failed, or the reactor has shut down because of a panic ([`OnPanic::Isolate`]).
    pub fn run(&mut self) -> Result<(), Error> {
        let mut now = self.cx.poller.now();
        while self.turn_at(None, now)? == Flow::Continue {
            now = self.cx.turn_ended();
        }
        Ok(())
    }

    /// Takes one turn, waiting for at most `timeout` (`None`: until there is something to do). A turn ends: each connection
    /// and each list has a budget, and what is left over makes [`next_timeout`](Reactor::next_timeout) zero.
    ///
    /// In a loop of your own, wait for the descriptor (`AsFd`, where the platform has one) for at most `next_timeout`, then
    /// call `turn(Some(Duration::ZERO))`.
    ///
    /// # Errors
    /// The system's poller failed.
    pub fn turn(&mut self, timeout: Option<Duration>) -> Result<Flow, Error> {
        self.turn_at(timeout, self.cx.poller.now())
    }

    /// A turn that begins at `now`.
    pub(super) fn turn_at(&mut self, timeout: Option<Duration>, now: Instant) -> Result<Flow, Error> {
        if self.cx.on_panic == OnPanic::Abort {
            return self.unguarded_turn(timeout, now);
        }
        match catch_unwind(AssertUnwindSafe(|| self.unguarded_turn(timeout, now))) {
            Ok(result) => result,
            Err(payload) => {
                self.turn_panicked(payload);
                Ok(Flow::Continue)
            }
        }
    }

    fn unguarded_turn(&mut self, timeout: Option<Duration>, now: Instant) -> Result<Flow, Error> {
        self.cx.note_owner();
        if !mem::replace(&mut self.started, true) {
            self.cx.take_time();
            self.cx.turn_begins();
            self.call(Callback::Start, None, H::on_start);
        }
        let until = self.cx.next_timeout(now);
        let timeout = match (timeout, until) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let mut ready = mem::take(&mut self.ready);
        ready.clear();
        let waited = self.cx.poller.wait(timeout, &mut ready);
        self.cx.take_time();
        self.cx.turn_begins();
        self.cx.stats.turns += 1;

        // What is left over by this turn belongs to the next one.
        let mut unfinished = mem::take(&mut self.cx.unfinished);
        let mut listeners = mem::take(&mut self.cx.listeners_due);
        for event in &ready {
            match event.source {
                Source::Connection(slot, generation) => {
                    self.connection_is_ready(slot, generation, event.readiness);
                }
                Source::Listener(slot) => {
                    self.cx.listener_is_ready(slot);
                }
                Source::Attempt(number) => {
                    self.attempt_answered(number, event.readiness);
                }
                #[cfg(feature = "proxy-protocol")]
                Source::Greeting(number) => {
                    self.greeting_is_ready(number);
                }
                // The queue and the resolver are looked at in every turn.
                Source::Commands => {}
            }
        }
        self.cx.batch_was_full = ready.len() >= self.cx.limits.events;
        self.ready = ready;
        listeners.append(&mut self.cx.listeners_due);
        self.accept_due(&mut listeners);
        self.resume_unfinished(&mut unfinished);
        self.go_on_with_handshakes();
        keep_memory(&mut self.cx.unfinished, unfinished);
        keep_memory(&mut self.cx.listeners_due, listeners);

        self.run_commands();
        self.cx.names_found();
        self.expire();
        for conn in mem::take(&mut self.cx.opening) {
            self.open(conn);
        }
        self.flush_dirty();
        self.tell_writable();
        self.tell_overflowing();
        self.advance_shutdown();
        self.reap();
        self.cx.judge_memory();
        self.cx.arm_trim();
        self.cx.turn_ends();
        waited.map_err(Error::Poll)?;
        if !self.is_finished() {
            return Ok(Flow::Continue);
        }
        // Threads that still have something to say get an answer, whether or not the reactor is kept.
        self.cx.queue.close();
        match self.cx.panicked.take() {
            Some(text) => Err(Error::Panicked(text)),
            None => Ok(Flow::Finished),
        }
    }

    /// The longest that the next turn may be put off: zero while work is left over, the time to the next deadline, or
    /// `None` when only an event can bring something.
    pub fn next_timeout(&self) -> Option<Duration> {
        if !self.started {
            return Some(Duration::ZERO);
        }
        self.cx.next_timeout(self.cx.poller.now())
    }

    /// An event of a connection or a lingering socket.
    fn connection_is_ready(&mut self, slot: u32, generation: u32, readiness: Readiness) {
        let broken = readiness.has(Readiness::ERROR) || readiness.has(Readiness::WRITE_CLOSED);
        let starves = broken && (self.cx.is_over_memory() || self.cx.waits_for_others());
        let (conn, live) = match self.cx.table.find(slot, generation) {
            Found::Live(conn, live) => (conn, live),
            Found::Lingering(conn) => {
                // Room to write is no reason to read: where a read that finds nothing asks for the next event (poll(2), Windows), the
                // two would chase each other for as long as it lingers.
                if readiness.may_be_read() {
                    self.cx.linger(conn);
                }
                // Its last word may have had to wait for room.
                if let Some(socket) = self.cx.table.lingering_mut(conn) {
                    socket.stream.push();
                }
                return;
            }
            Found::Nobody => {
                self.cx.stats.stale_events += 1;
                return;
            }
        };
        live.writable |= readiness.has(Readiness::WRITABLE);
        live.read_closed |= readiness.has(Readiness::READ_CLOSED);
        live.urgent |= readiness.has(Readiness::URGENT);
        // Once the end was read there is nothing more to read, whatever an event says.
        if live.input == Input::Open {
            live.readable |= readiness.may_be_read();
        }
        // A dial has no socket of its own: its attempts have.
        if live.phase == Phase::Dialing {
            return;
        }
        if live.phase == Phase::Handshaking {
            return self.cx.handshake_is_due(conn);
        }
        // An error is noted at once where no read would find it.
        let unread = !live.halts.is_empty() || starves || live.input != Input::Open;
        // One that can take nothing more is broken, unless it was we who have shut our side.
        let shut = readiness.has(Readiness::WRITE_CLOSED) && live.output != OurSide::Ended;
        let cut = shut || readiness.has(Readiness::ERROR);
        if cut && live.hears_the_gone() {
            return self.hear_the_gone(conn);
        }
        if unread && cut {
            let error = live.stream.take_error().ok().flatten();
            return self.cx.end(conn, error.map_or(crate::CloseReason::Reset, crate::CloseReason::from_io));
        }
        let (due, open) = (live.readable && !live.scheduled, live.phase == Phase::Open);
        if live.writable && live.has_output() {
            self.cx.flush(conn);
        }
        if due {
            if open { self.receive(conn) } else { self.attend(conn) }
        }
    }

    /// The peer of a Unix socket is gone: what it has sent before that is still to come.
    #[cold]
    fn hear_the_gone(&mut self, conn: ConnId) {
        self.cx.lose_output(conn);
        if self.cx.table.get(conn).is_some_and(|live| live.readable && !live.scheduled) {
            self.attend(conn);
        }
    }

    /// Reads and delivers, or drops what comes when the connection is closing.
    fn attend(&mut self, conn: ConnId) {
        match self.cx.table.get(conn).map(|live| live.phase) {
            Some(Phase::Open) => self.receive(conn),
            Some(Phase::Closing | Phase::Finishing) => self.cx.discard_input(conn),
            Some(Phase::Handshaking) => self.cx.handshake_is_due(conn),
            _ => {}
        }
    }

    fn resume_unfinished(&mut self, unfinished: &mut Vec<ConnId>) {
        for conn in unfinished.drain(..) {
            if let Some(live) = self.cx.table.get_mut(conn) {
                live.scheduled = false;
                self.attend(conn);
            } else {
                self.cx.linger(conn);
            }
        }
    }

    /// Writes what was queued for others.
    fn flush_dirty(&mut self) {
        self.cx.flush_series();
        let mut dirty = mem::take(&mut self.cx.dirty);
        for conn in dirty.drain(..) {
            if self.cx.table.get(conn).is_some_and(|live| live.dirty) {
                self.cx.flush(conn);
            }
        }
        keep_memory(&mut self.cx.dirty, dirty);
    }

    fn tell_overflowing(&mut self) {
        if self.cx.overflowing.is_empty() {
            return;
        }
        for conn in mem::take(&mut self.cx.overflowing) {
            if self.cx.table.get(conn).is_some_and(|live| live.phase < Phase::Closing) {
                self.cx.current = Some(conn);
                self.call(Callback::Overflow, Some(conn), |handler, cx| handler.on_overflow(cx, conn));
                self.cx.current = None;
            }
        }
    }

    fn tell_writable(&mut self) {
        if self.cx.writable.is_empty() {
            return;
        }
        for conn in mem::take(&mut self.cx.writable) {
            // One that is above the mark again is told when it has fallen once more.
            let due = self.cx.table.get_mut(conn).is_some_and(|live| {
                mem::take(&mut live.writable_due) && live.phase < Phase::Closing && !live.above_mark
            });
            if due {
                self.cx.current = Some(conn);
                self.call(Callback::Writable, Some(conn), |handler, cx| handler.on_writable(cx, conn));
                self.cx.current = None;
            }
        }
    }
}

impl<H: Handler> Context<H> {
    /// Takes the time.
    #[inline]
    pub(super) fn take_time(&mut self) {
        self.now = self.poller.now();
        self.tick = Tick::new(self.start, self.now);
    }

    /// Notes which thread takes the turns.
    pub(super) fn note_owner(&mut self) {
        let me = thread::current().id();
        if self.owner != Some(me) {
            self.owner = Some(me);
            self.queue.owned_by_this_thread();
        }
    }

    /// Puts `conn` on the list of those to be delivered, then read, in the next turn.
    pub(super) fn schedule(&mut self, conn: ConnId) {
        if let Some(live) = self.table.get_mut(conn) {
            if !live.scheduled {
                live.scheduled = true;
                self.unfinished.push(conn);
            }
        }
        // What has stood still runs on, and its timer may have been given up meanwhile.
        self.arm_deadlines(conn);
    }

    /// Puts `conn` on the list of those to be flushed at the end of the turn.
    #[inline]
    pub(super) fn mark_dirty(&mut self, conn: ConnId) {
        if let Some(live) = self.table.get_mut(conn) {
            if !live.dirty {
                live.dirty = true;
                self.dirty.push(conn);
            }
        }
    }

    /// As [`mark_dirty`](Context::mark_dirty), for one that is flagged already and may not be on the list.
    pub(super) fn relist(&mut self, conn: ConnId) {
        if self.table.get(conn).is_some_and(|live| live.dirty) {
            self.dirty.push(conn);
        }
    }

    /// Whether something is left to do without an event.
    pub(super) fn has_work(&self) -> bool {
        !(self.dirty.is_empty()
            && !self.series.is_for_everybody()
            && self.unfinished.is_empty()
            && self.opening.is_empty()
            && self.handshaking.is_empty()
            && self.writable.is_empty()
            && self.overflowing.is_empty()
            && self.ending.is_empty()
            && self.dials_failed.is_empty()
            && self.detaching.is_empty()
            && self.listeners_due.is_empty())
            || self.batch_was_full
            || self.drain.is_due()
            || self.queue.is_due()
            || self.resolver.is_due()
    }

    /// The time until there is something to do without an event.
    pub(super) fn next_timeout(&self, now: Instant) -> Option<Duration> {
        if self.has_work() {
            return Some(Duration::ZERO);
        }
        let next = self.timers.next()?;
        Some(next.saturating_duration_since(now))
    }
}

/// Puts the emptied list back under what was pushed in the meantime, so that its memory is used again.
fn keep_memory<T>(list: &mut Vec<T>, mut emptied: Vec<T>) {
    if emptied.capacity() > list.capacity() {
        emptied.append(list);
        *list = emptied;
    }
}
