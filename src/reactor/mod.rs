//! The loop, a verb a file. This one has the turn: what happens in which order.
//!
//! It must not judge what a read or a write has answered (`net/io.rs` does), nor end a connection but by `close.rs`, nor
//! write but by `flush.rs`.

mod admit;
mod adopt;
mod attempts;
mod broadcast;
mod builder;
mod close;
mod commands;
mod context;
mod deadlines;
mod dial;
mod envelope;
mod flush;
mod groups;
mod jobs;
mod listeners;
mod live;
mod log_gate;
mod memory;
mod overflow;
mod pace;
mod panics;
mod rates;
mod receive;
mod redial;
mod seat;
mod send;
mod series;
mod serve;
mod shutdown;
mod sources;
mod table;
mod timers;

#[cfg(test)]
mod tests;

pub use broadcast::{Broadcast, To};
pub use builder::Builder;
pub use context::Context;
pub use dial::Detached;
pub use envelope::Envelope;
pub(crate) use jobs::Life;
pub use listeners::Listening;
pub use pace::{Callback, Stall};
pub use panics::OnPanic;
pub(crate) use panics::text_of as panic_text;
pub use rates::{Direction, RateGroup};
pub use send::{DropReason, Sent};
pub use serve::{Served, serve};
pub use shutdown::ShutdownReport;

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::dial::Dial;
use crate::error::Error;
use crate::handle::Handle;
use crate::handler::Handler;
use crate::id::ConnId;
use crate::limits::Limits;
use crate::net::{ListenOptions, Listener, Readiness, Ready, Source, ToAddresses};
use crate::stats::Stats;
use live::{Input, OurSide, Phase};
use table::Found;

/// What a turn leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// There may be more turns.
    Continue,
    /// A shutdown has come to its end.
    Finished,
}

/// An event loop of one thread: listeners, connections, timers, and the handler that they serve.
///
/// Make one with [`new`](Reactor::new) or [`builder`](Reactor::builder), give it something to do with
/// [`listen`](Reactor::listen) or [`connect`](Reactor::connect), and let it [`run`](Reactor::run); or call
/// [`turn`](Reactor::turn) from a loop of your own. Dropping it closes everything at once.
///
/// # The order of a turn
///
/// 1. Wait for events, for no longer than the next deadline. Then the time is taken, once.
/// 2. Each event: clients are accepted, connections read, their messages delivered and their replies written.
/// 3. Connections with something left over from the last turn.
/// 4. Commands of other threads, and names that were looked up.
/// 5. Timers that are due.
/// 6. What was queued for others is written; `on_writable`, `on_overflow`.
/// 7. Connections that have ended: `on_close`, then their sockets and slots are let go.
///
/// What a callback of step 5 to 7 queues is served by the very next turn, which does not wait.
#[derive(Debug)]
pub struct Reactor<H: Handler> {
    handler: H,
    cx: Context<H>,
    /// Events of this turn. Kept for its memory.
    ready: Vec<Ready>,
    started: bool,
}

impl<H: Handler> Reactor<H> {
    /// A reactor with the default [`Limits`].
    ///
    /// # Errors
    /// The system gives no poller: no descriptors are left, usually.
    pub fn new(handler: H) -> Result<Reactor<H>, Error> {
        Reactor::<H>::builder().build(handler)
    }

    /// A reactor with other limits or options.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn with_context(handler: H, cx: Context<H>) -> Reactor<H> {
        Reactor { handler, ready: Vec::with_capacity(cx.limits.events), cx, started: false }
    }

    /// Listens on `address`, at once: an [`Address`](crate::Address), a `SocketAddr`, or text such as `127.0.0.1:7000`, `[::1]:0` or
    /// `localhost:7000`. Each client gets a clone of `codec`.
    ///
    /// A name is looked up by the system's resolver, which may block; the first of its addresses that can be bound is
    /// taken, as `std::net::TcpListener` does it.
    ///
    /// # Errors
    /// The name is unknown, or no address can be bound; the error names the last one tried.
    pub fn listen(&mut self, address: impl ToAddresses, codec: H::Codec) -> Result<Listening, Error> {
        self.listen_with(address, codec, &ListenOptions::default())
    }

    /// As [`listen`](Reactor::listen), with options for the listener and for the connections it accepts.
    ///
    /// # Errors
    /// As [`listen`](Reactor::listen); also when the system refuses an option.
    pub fn listen_with(
        &mut self,
        address: impl ToAddresses,
        codec: H::Codec,
        options: &ListenOptions,
    ) -> Result<Listening, Error> {
        let mut last = Error::Config("the name has no address");
        for address in address.to_addresses()? {
            let listener = Listener::bind(&address, options);
            match self.cx.add_listener(listener, address, codec.clone(), options.connections_max) {
                Ok(listening) => return Ok(listening),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Connects to an address or a name, see [`Context::connect`].
    pub fn connect(&mut self, to: impl Into<Dial>, codec: H::Codec) -> ConnId {
        self.context().connect(to, codec)
    }

    /// A handle for other threads.
    pub fn handle(&self) -> Handle<H> {
        self.cx.handle()
    }

    /// Everything that a handler may ask, for use between turns.
    pub fn context(&mut self) -> &mut Context<H> {
        // Time may have passed since the last turn.
        self.cx.take_time();
        &mut self.cx
    }

    /// The handler.
    pub fn handler(&self) -> &H {
        &self.handler
    }

    /// The handler, to be changed.
    pub fn handler_mut(&mut self) -> &mut H {
        &mut self.handler
    }

    /// Gives the handler back, and closes everything at once.
    pub fn into_handler(self) -> H {
        self.handler
    }

    /// The counters as of now.
    pub fn stats(&self) -> Stats {
        self.cx.stats()
    }

    /// The limits that this reactor was built with.
    pub fn limits(&self) -> &Limits {
        &self.cx.limits
    }

    /// What a shutdown has achieved so far; all zero before one.
    pub fn shutdown_report(&self) -> ShutdownReport {
        self.cx.report()
    }

    /// Takes turns until a shutdown has come to its end: [`Context::shutdown`] or [`Handle::shutdown`] asks for one.
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
    fn turn_at(&mut self, timeout: Option<Duration>, now: Instant) -> Result<Flow, Error> {
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
                // The queue and the resolver are looked at in every turn.
                Source::Commands => {}
            }
        }
        self.cx.batch_was_full = ready.len() >= self.cx.limits.events;
        self.ready = ready;
        listeners.append(&mut self.cx.listeners_due);
        self.accept_due(&mut listeners);
        self.resume_unfinished(&mut unfinished);
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
        let (conn, live) = match self.cx.table.find(slot, generation) {
            Found::Live(conn, live) => (conn, live),
            Found::Lingering(conn) => {
                // Room to write is no reason to read: where a read that finds nothing asks for the next event (poll(2), Windows), the
                // two would chase each other for as long as it lingers.
                if readiness.may_be_read() {
                    self.cx.linger(conn);
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
        // An error is noted at once where no read would find it.
        let unread = !live.halts.is_empty() || live.input != Input::Open;
        // One that can take nothing more is broken, unless it was we who have shut our side.
        let shut = readiness.has(Readiness::WRITE_CLOSED) && live.output != OurSide::Ended;
        if unread && (readiness.has(Readiness::ERROR) || shut) {
            let error = live.stream.take_error().ok().flatten();
            return self.cx.end(conn, error.map_or(crate::CloseReason::Reset, crate::CloseReason::from_io));
        }
        let (due, open) = (live.readable && !live.scheduled, live.phase == Phase::Open);
        if live.writable && !live.outbox.is_empty() {
            self.cx.flush(conn);
        }
        if due {
            if open { self.receive(conn) } else { self.attend(conn) }
        }
    }

    /// Reads and delivers, or drops what comes when the connection is closing.
    fn attend(&mut self, conn: ConnId) {
        match self.cx.table.get(conn).map(|live| live.phase) {
            Some(Phase::Open) => self.receive(conn),
            Some(Phase::Closing | Phase::Finishing) => self.cx.discard_input(conn),
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

/// Puts the emptied list back under what was pushed in the meantime, so that its memory is used again.
fn keep_memory<T>(list: &mut Vec<T>, mut emptied: Vec<T>) {
    if emptied.capacity() > list.capacity() {
        emptied.append(list);
        *list = emptied;
    }
}

#[cfg(all(
    not(mio_unsupported_force_poll_poll),
    any(
        target_os = "linux",
        target_os = "android",
        target_os = "freebsd",
        target_os = "netbsd",
        target_os = "openbsd",
        target_os = "dragonfly",
        target_vendor = "apple"
    )
))]
impl<H: Handler> std::os::fd::AsFd for Reactor<H> {
    /// The poller's descriptor: readable when [`turn`](Reactor::turn) has events to take. It says nothing of deadlines and
    /// of work left over, see [`next_timeout`](Reactor::next_timeout).
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.cx.poller.as_fd()
    }
}
