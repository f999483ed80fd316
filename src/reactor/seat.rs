//! A reactor as one of several: its place among them, what it hands to the others, and what it is handed.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::live::Header;
use super::{Context, Flow, Listening, Reactor, To};
use crate::address::Address;
use crate::error::Error;
use crate::handle::queue::Weigh;
use crate::handle::{Arrival, Command, Job, LEADER, PoolHandle, Team};
use crate::handler::{Handler, Owned};
use crate::id::{ConnId, ListenerId, PoolConnId};
use crate::net::{ListenOptions, Listener, Stream};

pub(super) const POOL_IS_FULL: &str = "the pool has as many connections as may be";

/// How long until what a full queue has not taken is tried again.
const RETRY: Duration = Duration::from_millis(1);

/// A client that one reactor has accepted for another.
#[derive(Debug)]
struct Newcomer<C> {
    stream: Stream,
    peer: Address,
    codec: C,
    listener: ListenerId,
    header: Header,
    /// None when it stays here.
    _arrival: Option<Arrival>,
}

/// The place of a reactor in a pool.
pub(super) struct Seat<H: Handler> {
    team: Arc<Team<H>>,
    index: usize,
    /// What waits for the end of the turn, by reactor.
    outgoing: Vec<VecDeque<Command<H>>>,
    /// Whether there is anything in it.
    has_outgoing: bool,
    /// The others know that it takes no clients.
    full: bool,
    /// Clients that were accepted for this reactor, to be opened after the command that has brought them.
    newcomers: Vec<Newcomer<H::Codec>>,
    /// How a client crosses to another reactor. Made where the codec is known to be one that may.
    cross: fn(Newcomer<H::Codec>) -> Job<H>,
}

impl<H: Handler> Seat<H> {
    /// An accepted connection of this reactor has ended.
    pub(super) fn free_place(&self) {
        self.team.leave(self.index);
    }
}

impl<H: Handler> Context<H> {
    /// Which of a [pool](crate::pool)'s reactors this is, from zero on. Zero for one that is alone.
    pub fn reactor_index(&self) -> usize {
        self.seat.as_ref().map_or(0, |seat| seat.index)
    }

    /// How many reactors the pool has, this one included. One for a reactor that is alone.
    pub fn reactors(&self) -> usize {
        self.seat.as_ref().map_or(1, |seat| seat.team.len())
    }

    /// The pool that this reactor is of. `None` for one that is alone.
    pub fn pool(&self) -> Option<PoolHandle<H>> {
        self.seat.as_ref().map(|seat| PoolHandle::new(Arc::clone(&seat.team)))
    }

    /// The name of `conn` for other reactors of the pool, and for those who hold a [`PoolHandle`].
    pub fn pool_id(&self, conn: ConnId) -> PoolConnId {
        PoolConnId { reactor: self.reactor_index(), conn }
    }

    /// Sends a message to a connection of any reactor of the pool. For another reactor it is handed over at the end of the
    /// turn, and what becomes of it is counted there. False when it is for this reactor and was dropped, or for a reactor
    /// that does not exist.
    ///
    /// It never waits and is never refused: while the other one's queue is full, this reactor keeps what it has for it, and
    /// reads nothing more until that is handed over.
    pub fn send_across(&mut self, to: PoolConnId, message: Owned<H>) -> bool {
        if to.reactor == self.reactor_index() {
            return self.send_owned(to.conn, &message).is_queued();
        }
        self.hand_over(to.reactor, Command::Send(to.conn, message))
    }

    /// Sends a message to connections of all *other* reactors of the pool, and answers how many reactors that are.
    /// [`broadcast`](Context::broadcast) is for those of this one.
    ///
    /// `to` is meant as it would be here: [`To::All`] and [`To::AllBut`] reach all connections there, [`To::Group`] and
    /// [`To::GroupBut`] all members of that group; [`To::Set`] names connections of this reactor, and reaches nobody there.
    /// As [`send_across`](Context::send_across) it never waits and is never refused. Messages of this reactor arrive at
    /// every connection in one order; between those of two reactors there is none.
    pub fn broadcast_elsewhere(&mut self, to: To<'_>, message: &Owned<H>) -> usize
    where
        Owned<H>: Clone,
    {
        let to = match to {
            To::All | To::AllBut(_) => To::All,
            To::Group(key) | To::GroupBut(key, _) => To::Group(key),
            To::Set(_) => return 0,
        };
        let me = self.reactor_index();
        let others = (0..self.reactors()).filter(|index| *index != me);
        others.filter(|index| self.hand_over(*index, Command::Broadcast(to, message.clone()))).count()
    }

    fn hand_over(&mut self, index: usize, command: Command<H>) -> bool {
        let Some(seat) = &mut self.seat else { return false };
        let Some(outgoing) = seat.outgoing.get_mut(index) else { return false };
        self.memory.outgoing += command.bytes();
        outgoing.push_back(command);
        seat.has_outgoing = true;
        true
    }

    /// A place for one more accepted connection of this reactor, if the pool has one.
    pub(super) fn take_place(&self) -> bool {
        self.seat.as_ref().is_none_or(|seat| seat.team.reserve(seat.index))
    }

    pub(super) fn free_place(&self) {
        if let Some(seat) = &self.seat {
            seat.free_place();
        }
    }
}

impl<H: Handler> Reactor<H> {
    // ---- for the pool ----------------------------------------------------------------------------------------------

    /// Makes this reactor one of several. Before its first turn.
    pub(crate) fn take_seat(&mut self, team: Arc<Team<H>>, index: usize)
    where
        H::Codec: Send + 'static,
    {
        // A name of another reactor's connection is nobody's here, until there have been thousands of millions.
        let share = u32::MAX / u32::try_from(team.len()).unwrap_or(u32::MAX).max(1);
        self.cx.table.begin_generations_at(share.wrapping_mul(index as u32));
        let outgoing = (0..team.len()).map(|_| VecDeque::new()).collect();
        // Until it is known how far the others are.
        self.cx.drain.allow(0);
        self.cx.seat = Some(Box::new(Seat {
            team,
            index,
            outgoing,
            has_outgoing: false,
            full: false,
            newcomers: Vec::new(),
            cross: |newcomer| {
                Box::new(|_, cx| {
                    if let Some(seat) = &mut cx.seat {
                        seat.newcomers.push(newcomer);
                    }
                })
            },
        }));
    }

    /// A thread to come takes the turns, and who has made the pool may wait for it.
    pub(crate) fn moves_to_another_thread(&self) {
        self.cx.queue.owned_by_nobody();
    }

    /// Hands over what the turn has left for the others. Returns whether something is still left, because a queue is full:
    /// then nothing more is read.
    pub(super) fn flush_elsewhere(&mut self) -> bool {
        let Some(seat) = &mut self.cx.seat else { return false };
        if !seat.has_outgoing {
            return false;
        }
        let Seat { team, outgoing, has_outgoing, .. } = &mut **seat;
        let mut moved = 0;
        for (index, waiting) in outgoing.iter_mut().enumerate() {
            if waiting.is_empty() {
                continue;
            }
            match team.handle(index) {
                Some(handle) => moved += handle.push_all(waiting),
                None => waiting.clear(),
            }
        }
        let left = outgoing.iter().any(|waiting| !waiting.is_empty());
        *has_outgoing = left;
        self.cx.memory.outgoing = if left { self.cx.memory.outgoing.saturating_sub(moved) } else { 0 };
        self.cx.others_are_behind(left);
        left
    }

    /// Adds a listener of the pool. All reactors get the same ones in the same order, and so the same names for them.
    pub(crate) fn add_pool_listener(
        &mut self,
        listener: io::Result<Listener>,
        address: Address,
        codec: H::Codec,
        options: &ListenOptions,
        hands_out: bool,
    ) -> Result<Listening, Error> {
        let added = self.cx.add_listener(listener, address, codec, options.connections_max);
        match &added {
            Ok(listening) => {
                self.cx.secure_listener(listening, options);
                if hands_out {
                    self.cx.begin_hand_out(listening.id);
                }
            }
            Err(_) => self.cx.skip_listener_id(),
        }
        added
    }

    pub(crate) fn remove_pool_listener(&mut self, listener: ListenerId) {
        self.cx.unlisten(listener);
    }

    // ---- clients of one listener for all ---------------------------------------------------------------------------

    /// One client that was admitted here, and is opened by the reactor that has the fewest.
    pub(super) fn hand_out(
        &mut self,
        listener: ListenerId,
        stream: io::Result<Stream>,
        peer: Address,
        codec: H::Codec,
        header: Header,
    ) {
        let (Some(seat), Ok(stream)) = (&self.cx.seat, stream) else {
            return self.cx.refuse(&peer, "it was lost before it was open");
        };
        let (team, me, cross) = (Arc::clone(&seat.team), seat.index, seat.cross);
        let to = team.least_loaded();
        if !team.reserve(to) {
            return self.cx.refuse(&peer, POOL_IS_FULL);
        }
        let arrival = (to != me).then(|| team.sets_out_for(to));
        let newcomer = Newcomer { stream, peer, codec, listener, header, _arrival: arrival };
        let ours = match team.handle(to) {
            Some(handle) if to != me => {
                handle.try_push_made(newcomer, |newcomer| Command::Run(cross(newcomer)))
            }
            _ => Err(newcomer),
        };
        if let Err(newcomer) = ours {
            // It is for us, or the other one's queue is full, or it is gone.
            team.pass(to, me);
            self.take_newcomer(newcomer);
        }
    }

    /// Opens those that commands have brought.
    pub(super) fn take_newcomers(&mut self) {
        let Some(seat) = &mut self.cx.seat else { return };
        for newcomer in std::mem::take(&mut seat.newcomers) {
            self.take_newcomer(newcomer);
        }
    }

    /// A client that was accepted for this reactor, and has a place reserved.
    fn take_newcomer(&mut self, newcomer: Newcomer<H::Codec>) {
        let Newcomer { stream, peer, codec, listener, header, .. } = newcomer;
        if let Some(what) = self.cx.full_for(listener, &peer) {
            self.cx.free_place();
            return self.cx.refuse(&peer, what);
        }
        self.settle(listener, Ok(stream), peer, codec, header);
    }

    // ---- the turns of one of several -------------------------------------------------------------------------------

    /// Takes turns as [`run`](Reactor::run) does, in step with the others: hands over what is for them after each turn, and
    /// shuts down when one of them does.
    pub(crate) fn run_among(&mut self) -> Result<(), Error> {
        let mut now = self.cx.poller.now();
        // What `on_start` has for the others does not wait for an event.
        let mut timeout = Some(Duration::ZERO);
        let ended = loop {
            match self.turn_at(timeout, now) {
                Ok(Flow::Continue) => {}
                Ok(Flow::Finished) => break Ok(()),
                Err(error) => break Err(error),
            }
            timeout = self.flush_elsewhere().then_some(RETRY);
            self.say_whether_full();
            self.keep_in_step();
            now = self.cx.turn_ended();
        };
        self.keep_in_step();
        // What the last turns have said is handed over too, as long as there is time.
        while self.flush_elsewhere() && self.is_finished() && !self.cx.drain.over {
            self.turn_at(Some(RETRY), now)?;
            self.keep_in_step();
            now = self.cx.turn_ended();
        }
        ended
    }

    /// Tells the one that hands clients out whether this one takes any.
    fn say_whether_full(&mut self) {
        let full = self.cx.is_full();
        let Some(seat) = &mut self.cx.seat else { return };
        if std::mem::replace(&mut seat.full, full) != full {
            seat.team.says_whether_full(seat.index, full);
        }
    }

    /// A shutdown of one is that of all, and begins in each when those before it are where it wants them.
    fn keep_in_step(&mut self) {
        let Some(seat) = &self.cx.seat else { return };
        let (asked, acted_on) = self.cx.drain.level();
        if asked > 0 {
            seat.team.ask(asked.min(2));
        }
        if acted_on > 0 && seat.index == LEADER {
            seat.team.leader_has_come_to(acted_on);
        }
        let level = seat.team.level_of(seat.index).min(2);
        for _ in asked..level {
            self.cx.shutdown();
        }
        self.cx.drain.allow(level);
    }
}
