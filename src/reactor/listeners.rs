//! Listeners: making and ending them, and taking their clients in.

use std::fmt;
use std::io;
use std::num::NonZeroU32;
use std::time::Duration;

use log::{debug, warn};

use super::Context;
use super::Reactor;
use super::live::{Live, OurSide, Phase};
use super::pace::Callback;
use super::timers::Deadline;
use crate::address::Address;
use crate::connection::Halt;
use crate::error::Error;
use crate::handler::Handler;
use crate::id::{ConnId, ListenerId};
use crate::net::{AcceptVerdict, ListenOptions, Listener, accept_verdict, is_lack_of_descriptors};
use crate::time::{TimerKey, deadline};

/// The first pause of a listener when descriptors or memory have run out, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A listener that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listening {
    /// Its name.
    pub id: ListenerId,
    /// Where it listens: for port 0, with the port that the system chose.
    pub address: Address,
}

impl fmt::Display for Listening {
    /// The address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

#[derive(Debug)]
pub(super) struct ListenerEntry<C> {
    pub(super) generation: NonZeroU32,
    listener: Listener,
    codec: C,
    /// Its connections that are open, and the most that may be.
    pub(super) connections: usize,
    pub(super) connections_max: usize,
    #[cfg(feature = "tls")]
    pub(super) acceptor: Option<crate::tls::Acceptor>,
    /// Its clients are for all reactors of the pool.
    hands_out: bool,
    /// It is on the list of those to be looked at in the next turn.
    due: bool,
    /// The machine had no descriptors or no memory: when to come back, and how long the next pause is.
    pub(super) paused: Option<TimerKey>,
    pause: Duration,
    /// Since the first such pause its queue was not seen empty: one episode.
    overloaded: bool,
}

impl<H: Handler> Context<H> {
    /// Listens on `address`, at once, with the default options. Clients are accepted from the next turn on, each with a
    /// clone of `codec`.
    ///
    /// # Errors
    /// The address cannot be bound, or the reactor is shutting down.
    pub fn listen(&mut self, address: impl Into<Address>, codec: H::Codec) -> Result<Listening, Error> {
        self.listen_with(address, codec, &ListenOptions::default())
    }

    /// As [`listen`](Context::listen), with options.
    ///
    /// # Errors
    /// As [`listen`](Context::listen); also when the system refuses an option.
    pub fn listen_with(
        &mut self,
        address: impl Into<Address>,
        codec: H::Codec,
        options: &ListenOptions,
    ) -> Result<Listening, Error> {
        let address = address.into();
        let listener = self.poller.bind(&address, options);
        let listening = self.add_listener(listener, address, codec, options.connections_max)?;
        self.secure_listener(&listening, options);
        Ok(listening)
    }

    pub(super) fn add_listener(
        &mut self,
        listener: io::Result<Listener>,
        address: Address,
        codec: H::Codec,
        connections_max: Option<usize>,
    ) -> Result<Listening, Error> {
        if self.is_shutting_down() {
            return Err(Context::<H>::shutting_down_error());
        }
        let slot = self.listeners.vacant_key() as u32;
        let made = listener.and_then(|mut listener| {
            let local = listener.local_address()?;
            self.poller.add_listener(&mut listener, slot)?;
            Ok((listener, local))
        });
        let (listener, local) = made.map_err(|source| Error::Listen { address, source })?;
        self.skip_listener_id();
        let generation = self.listener_generation;
        self.listeners.insert(ListenerEntry {
            generation,
            listener,
            codec,
            connections: 0,
            connections_max: connections_max.unwrap_or(usize::MAX),
            #[cfg(feature = "tls")]
            acceptor: None,
            hands_out: false,
            due: false,
            paused: None,
            pause: PAUSE_MIN,
            overloaded: false,
        });
        debug!("listening on {local}");
        Ok(Listening { id: ListenerId { slot, generation }, address: local })
    }

    /// Ends a listener. Its connections stay; clients that wait in its queue are refused by the system. False when it is
    /// gone already.
    pub fn unlisten(&mut self, listener: ListenerId) -> bool {
        if self.listener_mut(listener).is_none() {
            return false;
        }
        let entry = self.listeners.remove(listener.slot as usize);
        if let Some(key) = entry.paused {
            self.timers.cancel(key);
            self.listeners_paused -= 1;
        }
        true
    }

    /// Where `listener` listens.
    pub fn listener_addr(&self, listener: ListenerId) -> Option<Address> {
        let entry = self.listeners.get(listener.slot as usize)?;
        (entry.generation == listener.generation).then(|| entry.listener.local_address().ok())?
    }

    pub(super) fn listener_ids(&self) -> Vec<ListenerId> {
        let id = |(slot, entry): (usize, &ListenerEntry<H::Codec>)| ListenerId {
            slot: slot as u32,
            generation: entry.generation,
        };
        self.listeners.iter().map(id).collect()
    }

    /// An event of a listener. One that is paused has its timer: clients that keep coming do not make it try each time.
    pub(super) fn listener_is_ready(&mut self, slot: u32) {
        if let Some(entry) = self.listeners.get(slot as usize) {
            if entry.paused.is_none() {
                self.listener_is_due(ListenerId { slot, generation: entry.generation });
            }
        }
    }

    pub(super) fn listener_mut(&mut self, id: ListenerId) -> Option<&mut ListenerEntry<H::Codec>> {
        self.listeners.get_mut(id.slot as usize).filter(|entry| entry.generation == id.generation)
    }

    /// From now on its clients are for all reactors of the pool.
    pub(super) fn begin_hand_out(&mut self, id: ListenerId) {
        if let Some(entry) = self.listener_mut(id) {
            entry.hands_out = true;
        }
    }

    /// The pool's listeners have one name in all reactors, even when one of them could not have it.
    pub(super) fn skip_listener_id(&mut self) {
        self.listener_generation = self.listener_generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
    }

    /// Whether its clients are for all reactors of the pool.
    pub(super) fn hands_out(&mut self, id: ListenerId) -> bool {
        self.listener_mut(id).is_some_and(|entry| entry.hands_out)
    }

    /// A codec for one more client. None when the listener is gone.
    pub(super) fn codec_of_listener(&mut self, id: ListenerId) -> Option<H::Codec> {
        self.listener_mut(id).map(|entry| entry.codec.clone())
    }

    /// Looks at a listener in the next turn, whether or not an event comes.
    pub(super) fn listener_is_due(&mut self, id: ListenerId) {
        let Some(entry) = self.listener_mut(id) else { return };
        if !entry.due {
            entry.due = true;
            self.listeners_due.push(id);
        }
    }

    /// As [`listener_is_due`](Context::listener_is_due), when the list of those was lost.
    pub(super) fn listener_is_due_again(&mut self, id: ListenerId) {
        if let Some(entry) = self.listener_mut(id) {
            entry.due = false;
        }
        self.listeners_due.retain(|due| *due != id);
        self.listener_is_due(id);
    }

    /// A descriptor has come free: those that lack one may try again. The one place that lifts a pause before its time.
    pub(super) fn retry_paused_listeners(&mut self) {
        if self.listeners_paused == 0 {
            return;
        }
        for id in self.listener_ids() {
            if self.listener_mut(id).is_some_and(|entry| entry.paused.is_some()) {
                self.listener_is_due(id);
            }
        }
    }

    /// Nothing can be accepted for a moment. Clients that wait are not lost: no event will come for them, so a timer does.
    /// Returns whether an episode begins with it.
    fn pause_listener(&mut self, id: ListenerId, error: &io::Error) -> bool {
        let now = self.now;
        let Some(entry) = self.listeners.get_mut(id.slot as usize) else { return false };
        let begins = !std::mem::replace(&mut entry.overloaded, true);
        if let Some(key) = entry.paused.take() {
            self.timers.cancel(key);
            self.listeners_paused -= 1;
        }
        if begins {
            let address = entry.listener.local_address().map_or_else(|_| id.to_string(), |a| a.to_string());
            if self.gate.opens("accept", now) {
                warn!("cannot accept on {address}: {error}; trying again with growing pauses");
            }
        }
        entry.paused = Some(self.timers.set(deadline(now, entry.pause), Deadline::Accept(id)));
        entry.pause = (entry.pause * 2).min(PAUSE_MAX);
        self.listeners_paused += 1;
        begins
    }

    /// Takes clients from the queue with the descriptor kept in reserve, and closes them: they learn at once what they would
    /// otherwise learn by waiting. At most as many as are accepted in a turn.
    fn turn_away(&mut self, id: ListenerId) {
        if !self.reserve.release() {
            return self.reserve.refill();
        }
        for _ in 0..self.limits.accepts_per_turn {
            let Some(Ok((stream, peer))) = self.listener_mut(id).map(|entry| entry.listener.accept()) else {
                break;
            };
            drop(stream);
            self.stats.refused += 1;
            debug!("refused {peer}: there are no descriptors");
        }
        self.reserve.refill();
    }

    fn end_pause(&mut self, id: ListenerId) {
        let Some(entry) = self.listener_mut(id) else { return };
        entry.pause = PAUSE_MIN;
        if let Some(key) = entry.paused.take() {
            self.timers.cancel(key);
            self.listeners_paused -= 1;
        }
    }

    /// The queue was seen empty, by an accept that had all it needs.
    fn end_episode(&mut self, id: ListenerId) {
        if let Some(entry) = self.listener_mut(id) {
            entry.overloaded = false;
        }
    }

    /// What a client of `listener` has to begin with, if anything.
    #[cfg(feature = "proxy-protocol")]
    pub(super) fn wanted_of(
        &mut self,
        listener: ListenerId,
    ) -> Option<std::sync::Arc<crate::proxy_protocol::ProxyProtocol>> {
        self.listener_mut(listener)?.listener.wants()
    }

    /// Puts a connected stream into the table and the poller.
    pub(super) fn insert(&mut self, mut live: Live<H::Codec, H::Session>) -> io::Result<ConnId> {
        let next = self.table.next_id();
        self.poller.add_stream(&mut live.stream, next.slot, next.generation)?;
        live.overflow = self.limits.overflow;
        Ok(self.table.insert(live))
    }
}

impl<H: Handler> Reactor<H> {
    /// Takes clients in until there are none, the budget is spent, or the machine refuses. Returns whether more may wait.
    pub(super) fn accept(&mut self, id: ListenerId, budget: usize) -> bool {
        if let Some(entry) = self.cx.listener_mut(id) {
            entry.due = false;
        }
        let mut last = None;
        for _ in 0..budget {
            // The handler may have ended the listener.
            let Some(entry) = self.cx.listener_mut(id) else { return false };
            match entry.listener.accept() {
                Ok((stream, peer)) => {
                    last = None;
                    self.cx.end_pause(id);
                    self.meet(id, stream, peer);
                }
                Err(error) => match accept_verdict(&error) {
                    AcceptVerdict::Empty => {
                        self.cx.end_pause(id);
                        self.cx.end_episode(id);
                        return false;
                    }
                    AcceptVerdict::Again => last = Some(error),
                    AcceptVerdict::Next => {
                        self.cx.stats.accept_errors += 1;
                        last = Some(error);
                    }
                    AcceptVerdict::Pause => {
                        self.cx.stats.accept_errors += 1;
                        if is_lack_of_descriptors(&error) && self.cx.cut_oldest_lingering() {
                            last = Some(error);
                            continue;
                        }
                        self.lacks(id, &error);
                        return false;
                    }
                },
            }
        }
        // A whole budget that ends in errors: no error can make the loop spin.
        if let Some(error) = last {
            self.lacks(id, &error);
            return false;
        }
        true
    }

    /// The machine has nothing for one more client. Whoever has waited for a whole pause is turned away; then the listener
    /// pauses, and the handler is told once an episode.
    fn lacks(&mut self, id: ListenerId, error: &io::Error) {
        let cx = &mut self.cx;
        if cx.listener_mut(id).is_some_and(|entry| entry.paused.is_some()) && is_lack_of_descriptors(error) {
            cx.turn_away(id);
        }
        if cx.pause_listener(id, error) {
            self.call(Callback::Overload, None, |handler, cx| handler.on_overload(cx, id, error));
        }
    }

    /// A connection is open, and the handler is told.
    pub(super) fn open(&mut self, conn: ConnId) {
        let Some(live) = self.cx.table.get_mut(conn) else { return };
        if live.phase != Phase::Opening {
            return;
        }
        live.phase = Phase::Open;
        // Nothing that the peer could have done in time comes before this.
        (live.opened, live.active, live.moved) = (self.cx.tick, self.cx.tick, self.cx.tick);
        let free = live.halts.lift(Halt::Phase);
        let unfinished = live.is_unfinished();
        let waiting = !live.outbox.is_empty() || live.output != OurSide::Open || live.above_mark;
        if live.overflowed {
            self.cx.overflowing.push(conn);
        }
        debug!("connection {conn} {} {}", if live.dialed { "to" } else { "from" }, live.peer);
        if live.dialed {
            self.cx.stats.connected += 1;
        } else {
            self.cx.stats.accepted += 1;
        }
        self.cx.end_series();
        self.cx.table.opened(conn);
        self.cx.arm_deadlines(conn);
        self.cx.current = Some(conn);
        self.call(Callback::Open, Some(conn), |handler, cx| handler.on_open(cx, conn));
        self.cx.current = None;
        if waiting {
            self.cx.mark_dirty(conn);
        }
        if free && unfinished {
            self.cx.schedule(conn);
        }
    }

    /// Looks at the listeners that were left over or paused.
    pub(super) fn accept_due(&mut self, due: &mut Vec<ListenerId>) {
        let budget = self.cx.limits.accepts_per_turn;
        for id in due.drain(..) {
            if self.accept(id, budget) {
                self.cx.listener_is_due(id);
            }
        }
    }
}
