//! What a handler may ask of its reactor, and the reactor's state itself.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::thread::ThreadId;
use std::time::Instant;

use slab::Slab;

use super::attempts::Dials;
use super::listeners::ListenerEntry;
use super::live::{Live, OurSide, Phase};
use super::log_gate::LogGate;
use super::memory::Memory;
use super::pace::Pace;
use super::panics::OnPanic;
use super::rates::Rates;
use super::seat::Seat;
use super::series::Series;
use super::shutdown::Drain;
use super::sources::Sources;
use super::table::Table;
use super::timers::{Deadline, UserTimer};
use crate::buffer::{Ledger, Pool};
use crate::connection::{CloseReason, Halt};
use crate::error::{DialError, Error};
use crate::handle::{Command, Handle, Queue};
use crate::handler::Handler;
use crate::id::{ConnId, ListenerId};
use crate::limits::{CONNECTIONS_MAX, Limits};
use crate::net::{Poller, Reserve, Resolver, SocketOptions};
use crate::stats::Stats;
use crate::time::{Tick, Timers};

/// The reactor as its handler sees it: everything but the handler itself.
///
/// Every method may be called from inside any callback, for any connection, the one that the callback is about included.
/// Nothing here blocks and nothing here calls the handler: sends, closes and dials are queued, and acted on after the
/// callback has returned. A method that gets the name of a connection that is gone does nothing, and says so.
pub struct Context<H: Handler> {
    pub(super) poller: Poller,
    pub(super) table: Table<H>,
    pub(super) listeners: Slab<ListenerEntry<H::Codec>>,
    pub(super) listener_generation: NonZeroU32,
    /// Connections that there may be, see [`Limits::connections_max`].
    pub(super) connections_max: usize,
    pub(super) reserve: Reserve,
    /// Listeners that a lack of descriptors or memory has paused.
    pub(super) listeners_paused: usize,
    /// Listeners to be looked at in the next turn without an event.
    pub(super) listeners_due: Vec<ListenerId>,
    pub(super) timers: Timers<Deadline>,
    pub(super) user_timers: Slab<UserTimer>,
    pub(super) groups: HashMap<u64, Vec<ConnId>>,
    pub(super) pool: Pool,
    /// Payloads that several outboxes hold.
    pub(super) ledger: Ledger,
    pub(super) limits: Limits,
    pub(super) stats: Stats,
    pub(super) now: Instant,
    /// The same in ticks since `start`.
    pub(super) tick: Tick,
    pub(super) start: Instant,
    /// The connection whose callback runs.
    pub(super) current: Option<ConnId>,
    /// The length of the frame whose message is being handed over, zero outside of that.
    pub(super) frame_len: usize,
    /// A reply to a message of the read that is being delivered was queued.
    pub(super) replied: bool,
    pub(super) queue: Arc<Queue<H>>,
    /// Commands under way. Kept for its memory.
    pub(super) commands: VecDeque<Command<H>>,
    /// The thread that takes the turns.
    pub(super) owner: Option<ThreadId>,
    /// Lent out while a connection is read.
    pub(super) read_buffer: Vec<u8>,
    /// Where a broadcast is encoded.
    pub(super) scratch: Vec<u8>,
    /// Messages that are gathered at the moment.
    pub(super) series: Series<H::Codec>,
    /// Those with something to be written. Flagged in the connection, so that each is on it once.
    pub(super) dirty: Vec<ConnId>,
    /// Those to be delivered, then read, in the next turn.
    pub(super) unfinished: Vec<ConnId>,
    /// Those whose `on_open` is due.
    pub(super) opening: Vec<ConnId>,
    /// Those whose `on_writable` is due.
    pub(super) writable: Vec<ConnId>,
    /// Those whose `on_overflow` is due.
    pub(super) overflowing: Vec<ConnId>,
    /// Those that have ended, and why.
    pub(super) ending: Vec<(ConnId, CloseReason)>,
    /// Dials under way.
    pub(super) dials: Dials<H::Codec>,
    pub(super) resolver: Resolver,
    /// Clients that have not said yet who they are.
    #[cfg(feature = "proxy-protocol")]
    pub(super) greetings: super::greetings::Greetings,
    /// Dials that have failed, and why.
    pub(super) dials_failed: Vec<(ConnId, DialError)>,
    /// Those whose socket the handler asked for.
    pub(super) detaching: Vec<ConnId>,
    /// Those whose TLS handshake may go on.
    pub(super) handshaking: VecDeque<ConnId>,
    /// Lingering sockets, oldest first.
    pub(super) lingerers: VecDeque<ConnId>,
    /// The last batch of events was full, so that more may wait: inactivity is not judged. The poller's descriptor may not
    /// tell of them again, so that the next turn does not wait either.
    pub(super) batch_was_full: bool,
    pub(super) trim_armed: bool,
    pub(super) memory: Memory,
    /// Where accepted connections come from; counted only when that is limited.
    pub(super) sources: Sources,
    pub(super) rates: Rates,
    pub(super) drain: Drain,
    /// Its place in a pool, if it is of one.
    pub(super) seat: Option<Box<Seat<H>>>,
    pub(super) on_panic: OnPanic,
    /// The panic that ends the loop.
    pub(super) panicked: Option<String>,
    pub(super) pace: Pace,
    /// Whose outbox was last encoded into: an encoder that panics may have left half a frame there.
    pub(super) encoding: Option<ConnId>,
    /// The members of a group that are taken out while a broadcast walks over them.
    pub(super) walked_group: Option<(u64, Vec<ConnId>)>,
    pub(super) gate: LogGate,
    pub(super) dial_options: SocketOptions,
    /// What the handler was told, for those who look whether the promises hold.
    #[cfg(any(test, feature = "sim"))]
    pub(super) journal: Option<Box<super::audit::Journal>>,
}

impl<H: Handler> Drop for Context<H> {
    /// Threads that hold a handle get an answer, not a hang.
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl<H: Handler> fmt::Debug for Context<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("open", &self.table.open().len())
            .field("listeners", &self.listeners.len())
            .field("timers", &self.timers.len())
            .finish_non_exhaustive()
    }
}

impl<H: Handler> Context<H> {
    pub(crate) fn new(poller: Poller, limits: Limits, dial_options: SocketOptions) -> Context<H> {
        let queue = Queue::new(poller.waker(), limits.commands_max, limits.command_bytes());
        let now = poller.now();
        Context {
            table: Table::new(),
            listeners: Slab::new(),
            listener_generation: NonZeroU32::MIN,
            connections_max: limits.connections_max.unwrap_or(CONNECTIONS_MAX),
            reserve: Reserve::new(),
            listeners_paused: 0,
            listeners_due: Vec::new(),
            timers: Timers::new(),
            user_timers: Slab::new(),
            groups: HashMap::new(),
            pool: Pool::new(limits.spare_bytes),
            ledger: Ledger::default(),
            stats: Stats::default(),
            now,
            tick: Tick::new(now, now),
            start: now,
            current: None,
            frame_len: 0,
            replied: false,
            queue: Arc::new(queue),
            commands: VecDeque::new(),
            owner: None,
            read_buffer: vec![0; limits.read_buffer],
            scratch: Vec::new(),
            series: Series::new(),
            dirty: Vec::new(),
            unfinished: Vec::new(),
            opening: Vec::new(),
            writable: Vec::new(),
            overflowing: Vec::new(),
            ending: Vec::new(),
            dials: Dials::new(poller.seed()),
            resolver: poller.resolver(),
            #[cfg(feature = "proxy-protocol")]
            greetings: super::greetings::Greetings::default(),
            dials_failed: Vec::new(),
            detaching: Vec::new(),
            handshaking: VecDeque::new(),
            lingerers: VecDeque::new(),
            batch_was_full: false,
            trim_armed: false,
            memory: Memory::default(),
            sources: Sources::default(),
            rates: Rates::default(),
            drain: Drain::default(),
            seat: None,
            on_panic: OnPanic::default(),
            panicked: None,
            pace: Pace::new(now),
            encoding: None,
            walked_group: None,
            gate: LogGate::default(),
            dial_options,
            #[cfg(any(test, feature = "sim"))]
            journal: None,
            poller,
            limits,
        }
    }

    // ---- questions -------------------------------------------------------------------------------------------------

    /// The present, as of this turn: taken once, after the wait for events.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The limits that this reactor was built with.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The counters as of now.
    pub fn stats(&self) -> Stats {
        let mut stats = self.stats;
        stats.open = self.table.open().len() as u64;
        stats.buffered_bytes = self.buffered() as u64;
        stats.wakeups = self.queue.wakeups();
        (stats.busy_polls, stats.busy_poll_hits) = self.poller.busy_polls();
        stats
    }

    /// All open connections. The order is arbitrary.
    pub fn connections(&self) -> &[ConnId] {
        self.table.open()
    }

    /// Whether `conn` takes messages to send: false for the gone, the closing, and those whose
    /// [output has ended](Context::end_output). A dial does, and sends when it is open.
    pub fn is_open(&self, conn: ConnId) -> bool {
        self.table.get(conn).is_some_and(|live| live.phase < Phase::Closing && live.output == OurSide::Open)
    }

    /// Bytes that wait to be sent on `conn`. Zero for the gone.
    pub fn queued(&mut self, conn: ConnId) -> usize {
        self.end_series();
        self.table.get(conn).map_or(0, Live::queued)
    }

    /// What the handler keeps for `conn`. `None` once `on_close` has been given it.
    pub fn session(&self, conn: ConnId) -> Option<&H::Session> {
        self.table.get(conn)?.session.as_ref()
    }

    /// As [`session`](Context::session), to be changed.
    pub fn session_mut(&mut self, conn: ConnId) -> Option<&mut H::Session> {
        self.table.get_mut(conn)?.session.as_mut()
    }

    /// The codec of `conn`.
    pub fn codec(&self, conn: ConnId) -> Option<&H::Codec> {
        self.table.get(conn).map(|live| &live.codec)
    }

    /// A handle for other threads.
    pub fn handle(&self) -> Handle<H> {
        Handle::new(Arc::clone(&self.queue))
    }

    // ---- commands about one connection -----------------------------------------------------------------------------

    /// Changes the framing of `conn`, from the next message on. Bytes that were already read and not delivered are kept and
    /// read in the new framing. Messages already sent keep the old one. False when the connection is gone.
    ///
    /// Called in `on_message` for its own connection, it holds from the byte behind that message.
    pub fn set_codec(&mut self, conn: ConnId, codec: H::Codec) -> bool {
        self.end_series();
        let Some(live) = self.table.get_mut(conn) else { return false };
        live.codec = codec;
        live.inbox.forget_need();
        self.schedule(conn);
        true
    }

    /// Sets options on the socket of `conn`.
    ///
    /// # Errors
    /// The connection is gone or not open yet (`NotConnected`), or the system refuses an option.
    pub fn set_options(&mut self, conn: ConnId, options: &SocketOptions) -> std::io::Result<()> {
        let live = self.table.get_mut(conn).ok_or(std::io::ErrorKind::NotConnected)?;
        live.stream.apply(options)
    }

    /// Delivers no further message of `conn`, not even one already read, until [`resume`](Context::resume). Nothing is
    /// lost: the kernel's buffers fill, and the peer has to wait. A reset is noticed all the same.
    pub fn pause(&mut self, conn: ConnId) -> bool {
        let Some(live) = self.table.get_mut(conn) else { return false };
        live.halts.set(Halt::Handler);
        true
    }

    /// Goes on where [`pause`](Context::pause) stopped, after the callback that calls it.
    pub fn resume(&mut self, conn: ConnId) -> bool {
        let Some(live) = self.table.get_mut(conn) else { return false };
        // Its silence was ours.
        live.active = self.tick;
        if live.halts.lift(Halt::Handler) {
            self.schedule(conn);
        }
        true
    }

    /// Whether `conn` is read while its own outbox is above the [high mark](Limits::high_mark).
    ///
    /// Not those that were accepted or adopted: a client that sends without reading slows itself down. Dialed ones are, for
    /// the other end will stop reading when this one does not read its replies, and two ends that wait for each other to
    /// read wait for ever. False when it is gone.
    pub fn read_above_mark(&mut self, conn: ConnId, yes: bool) -> bool {
        let Some(live) = self.table.get_mut(conn) else { return false };
        live.reads_above_mark = yes;
        if !yes && live.above_mark {
            live.halts.set(Halt::HighMark);
        } else if yes && live.halts.lift(Halt::HighMark) {
            self.schedule(conn);
        }
        true
    }

    /// Notes that an answer to `conn` is still to come, from a timer or another thread. A connection whose peer has ended
    /// its input is kept until every answer owed is [`paid`](Context::paid). False when it is gone.
    pub fn owe(&mut self, conn: ConnId) -> bool {
        let Some(live) = self.table.get_mut(conn) else { return false };
        live.owed = live.owed.saturating_add(1);
        true
    }

    /// Notes that an answer owed was sent, or never will be.
    pub fn paid(&mut self, conn: ConnId) -> bool {
        let Some(live) = self.table.get_mut(conn) else { return false };
        live.owed = live.owed.saturating_sub(1);
        live.active = self.tick;
        // Flushing looks whether that was the last thing to wait for.
        self.mark_dirty(conn);
        true
    }

    /// Takes the socket of `conn` out of the reactor, at the end of this turn: `on_detach` gets it with the bytes that
    /// were read and not delivered, then `on_close` comes with [`CloseReason::Detached`]. No further message is delivered.
    /// False when it is gone or not open, and under TLS, whose socket is of no use without its session.
    pub fn detach(&mut self, conn: ConnId) -> bool {
        let Some(live) = self.table.get_mut(conn) else { return false };
        if live.phase != Phase::Open || live.stream.is_sealed() {
            return false;
        }
        live.halts.set(Halt::Phase);
        self.detaching.push(conn);
        true
    }

    // ---- the reactor as a whole ------------------------------------------------------------------------------------

    /// Begins to shut down after this turn: `on_shutdown`, no further clients, what is whole is answered, what is queued is
    /// sent, for at most [`Limits::drain_timeout`]. [`Reactor::run`](crate::Reactor::run) returns when nothing is left. A
    /// second call ends everything at once.
    pub fn shutdown(&mut self) {
        self.drain.requests += 1;
    }

    /// Whether a shutdown has begun or was asked for.
    pub fn is_shutting_down(&self) -> bool {
        self.drain.requests > 0
    }

    pub(super) fn shutting_down_error() -> Error {
        Error::Config("the reactor is shutting down")
    }
}
