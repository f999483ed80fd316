//! The slab of connections: the open, the dialing, and the bare sockets that linger.

use std::time::Instant;

use slab::Slab;

use crate::address::Address;
use crate::buffer::WriteQueue;
use crate::codec::Codec;
use crate::connection::{CloseReason, Halt, Halts, Inbox};
use crate::handler::Handler;
use crate::id::{ConnId, ListenerId};
use crate::net::{Received, Stream, TOKENS_CARRY_GENERATION, receive};
use crate::time::TimerKey;

/// Where a connection stands. Each step goes down this list, never up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// The connect has no answer yet. What is sent waits.
    Dialing,
    /// Connected; `on_open` comes in this turn or the next.
    Opening,
    /// Open.
    Open,
    /// No further message will be delivered. It ends when its outbox is empty and no answer is owed.
    Finishing,
    /// It takes nothing more to send either. It ends when its outbox is empty.
    Closing,
    /// It has ended, and waits for the end of the turn.
    Ended,
}

/// What is known of a connection's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// More may come.
    Open,
    /// The end was read. What is held has to be delivered first.
    Ended,
    /// The end was read and the handler knows.
    Finished,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Live<C, S> {
    pub(super) generation: u32,
    pub(super) phase: Phase,
    pub(super) halts: Halts,
    pub(super) input: Input,
    /// The socket may have something to read. Only a read that says so clears it.
    pub(super) readable: bool,
    /// The socket may have room. Only a write that says so clears it.
    pub(super) writable: bool,
    /// An event said that the peer has ended its input: short reads prove nothing any more, the end has to be read.
    pub(super) read_closed: bool,
    /// An event told of urgent data: a short read proves nothing until the socket has answered that it is empty.
    pub(super) urgent: bool,
    /// It is on the list of those to be flushed.
    pub(super) dirty: bool,
    /// It is on the list of those to be looked at in the next turn.
    pub(super) scheduled: bool,
    /// It ended with bytes unsent: its socket is cut by a reset.
    pub(super) lossy: bool,
    /// We dialed it.
    pub(super) dialed: bool,
    /// Answers still to come.
    pub(super) owed: u32,
    /// Its place in the list of the open.
    pub(super) place: u32,
    pub(super) stream: Stream,
    pub(super) peer: Address,
    pub(super) listener: Option<ListenerId>,
    pub(super) codec: C,
    /// There until the handler gets it back.
    pub(super) session: Option<S>,
    pub(super) inbox: Inbox,
    pub(super) outbox: WriteQueue,
    /// Input dropped while closing.
    pub(super) discarded: u64,
    /// When a byte last came or went.
    pub(super) active: Instant,
    /// The one deadline of its phase: dial, idle or close.
    pub(super) watch: Option<TimerKey>,
    /// Why it is on its way to the end.
    pub(super) reason: Option<Box<CloseReason>>,
    /// What few connections have.
    pub(super) extras: Option<Box<Extras>>,
    /// What it holds, as last counted in the reactor's sum.
    pub(super) counted: usize,
}

/// What few connections have: timers of their own, and groups.
#[derive(Debug, Default)]
pub(super) struct Extras {
    pub(super) timers: Vec<TimerKey>,
    /// Keys of groups, and the place in each.
    pub(super) groups: Vec<(u64, usize)>,
}

impl<C: Codec, S: Default> Live<C, S> {
    pub(super) fn new(stream: Stream, peer: Address, codec: C, phase: Phase, now: Instant) -> Live<C, S> {
        let mut halts = Halts::default();
        halts.set(Halt::Phase);
        Live {
            generation: 0,
            phase,
            halts,
            input: Input::Open,
            readable: false,
            writable: phase != Phase::Dialing,
            read_closed: false,
            urgent: false,
            dirty: false,
            scheduled: false,
            lossy: false,
            dialed: phase == Phase::Dialing,
            owed: 0,
            place: u32::MAX,
            stream,
            peer,
            listener: None,
            codec,
            session: Some(S::default()),
            inbox: Inbox::default(),
            outbox: WriteQueue::default(),
            discarded: 0,
            active: now,
            watch: None,
            reason: None,
            extras: None,
            counted: 0,
        }
    }

    /// Reads once, and notes what that says about the socket.
    #[inline]
    pub(super) fn note(&mut self, received: &Received) {
        match received {
            Received::Some { drained, .. } => {
                if *drained {
                    self.readable = false;
                }
            }
            Received::Empty => {
                self.readable = false;
                self.urgent = false;
            }
            Received::End => {
                self.readable = false;
                self.input = Input::Ended;
            }
            Received::Failed(_) => self.readable = false,
        }
    }

    /// Whether a short read may be taken for a drained socket.
    #[inline]
    pub(super) fn trusts_short_reads(&self) -> bool {
        !self.read_closed && !self.urgent
    }

    /// Whether something is left to be delivered or read without a further event.
    pub(super) fn is_unfinished(&self) -> bool {
        self.readable || self.inbox.is_due() || self.input == Input::Ended
    }

    pub(super) fn extras(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }
}

/// The bare socket of a connection that has ended: what its peer still sends is dropped, so that no reset eats the last
/// reply.
#[derive(Debug)]
pub(super) struct Lingering {
    pub(super) generation: u32,
    pub(super) stream: Stream,
    pub(super) discarded: u64,
    pub(super) deadline: TimerKey,
    pub(super) scheduled: bool,
}

#[expect(
    clippy::large_enum_variant,
    reason = "nearly all slots are live ones, and a box would cost each of them"
)]
#[derive(Debug)]
pub(super) enum Slot<C, S> {
    Live(Live<C, S>),
    Lingering(Lingering),
    /// Given out again after this turn, when no event of this batch can name it.
    Vacant,
}

/// What an event finds in a slot.
pub(super) enum Found<'a, C, S> {
    Live(ConnId, &'a mut Live<C, S>),
    Lingering(ConnId),
    Nobody,
}

/// All connections of one reactor.
#[derive(Debug)]
pub(super) struct Table<H: Handler> {
    slots: Slab<Slot<H::Codec, H::Session>>,
    /// The open ones, densely: a broadcast walks over these alone.
    open: Vec<ConnId>,
    vacated: Vec<u32>,
    generation: u32,
    lingering: usize,
}

impl<H: Handler> Table<H> {
    pub(super) fn new() -> Table<H> {
        Table { slots: Slab::new(), open: Vec::new(), vacated: Vec::new(), generation: 0, lingering: 0 }
    }

    /// Connections, dials included, and not those that linger.
    pub(super) fn live(&self) -> usize {
        self.slots.len() - self.lingering - self.vacated.len()
    }

    pub(super) fn lingering(&self) -> usize {
        self.lingering
    }

    /// Whether nothing is left, lingering sockets included.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.len() == self.vacated.len()
    }

    pub(super) fn open(&self) -> &[ConnId] {
        &self.open
    }

    /// Every connection, open or not. For the rare walk over all.
    pub(super) fn all(&self) -> impl Iterator<Item = ConnId> + '_ {
        self.slots.iter().filter_map(|(slot, entry)| match entry {
            Slot::Live(live) => Some(ConnId { slot: slot as u32, generation: live.generation }),
            Slot::Lingering(_) | Slot::Vacant => None,
        })
    }

    pub(super) fn all_lingering(&self) -> impl Iterator<Item = ConnId> + '_ {
        self.slots.iter().filter_map(|(slot, entry)| match entry {
            Slot::Lingering(socket) => Some(ConnId { slot: slot as u32, generation: socket.generation }),
            Slot::Live(_) | Slot::Vacant => None,
        })
    }

    /// The name that the next inserted connection gets.
    pub(super) fn next_id(&self) -> ConnId {
        ConnId { slot: self.slots.vacant_key() as u32, generation: self.generation.wrapping_add(1) }
    }

    pub(super) fn insert(&mut self, mut live: Live<H::Codec, H::Session>) -> ConnId {
        let id = self.next_id();
        self.generation = id.generation;
        live.generation = id.generation;
        self.slots.insert(Slot::Live(live));
        id
    }

    #[inline]
    pub(super) fn get(&self, id: ConnId) -> Option<&Live<H::Codec, H::Session>> {
        match self.slots.get(id.slot as usize) {
            Some(Slot::Live(live)) if live.generation == id.generation => Some(live),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut Live<H::Codec, H::Session>> {
        match self.slots.get_mut(id.slot as usize) {
            Some(Slot::Live(live)) if live.generation == id.generation => Some(live),
            _ => None,
        }
    }

    pub(super) fn lingering_mut(&mut self, id: ConnId) -> Option<&mut Lingering> {
        match self.slots.get_mut(id.slot as usize) {
            Some(Slot::Lingering(socket)) if socket.generation == id.generation => Some(socket),
            _ => None,
        }
    }

    /// What an event is about: by slot, and by generation where tokens carry one.
    #[inline]
    pub(super) fn find(&mut self, slot: u32, generation: u32) -> Found<'_, H::Codec, H::Session> {
        let fits = |of: u32| !TOKENS_CARRY_GENERATION || of == generation;
        match self.slots.get_mut(slot as usize) {
            Some(Slot::Live(live)) if fits(live.generation) => {
                Found::Live(ConnId { slot, generation: live.generation }, live)
            }
            Some(Slot::Lingering(socket)) if fits(socket.generation) => {
                Found::Lingering(ConnId { slot, generation: socket.generation })
            }
            _ => Found::Nobody,
        }
    }

    /// Puts a connection on the list of the open.
    pub(super) fn opened(&mut self, id: ConnId) {
        let place = self.open.len() as u32;
        if let Some(live) = self.get_mut(id) {
            live.place = place;
            self.open.push(id);
        }
    }

    /// Takes it off that list.
    pub(super) fn no_longer_open(&mut self, id: ConnId) {
        let Some(live) = self.get_mut(id) else { return };
        let place = live.place as usize;
        live.place = u32::MAX;
        if self.open.get(place) != Some(&id) {
            return;
        }
        self.open.swap_remove(place);
        if let Some(moved) = self.open.get(place).copied() {
            if let Some(moved) = self.get_mut(moved) {
                moved.place = place as u32;
            }
        }
    }

    /// Takes a connection out. Its slot is given out again only after [`end_turn`](Table::end_turn), or becomes a
    /// lingering one's.
    pub(super) fn remove(&mut self, id: ConnId) -> Option<Live<H::Codec, H::Session>> {
        self.get(id)?;
        self.no_longer_open(id);
        let slot = self.slots.get_mut(id.slot as usize)?;
        match std::mem::replace(slot, Slot::Vacant) {
            Slot::Live(live) => {
                self.vacated.push(id.slot);
                Some(live)
            }
            other => {
                *slot = other;
                None
            }
        }
    }

    /// Lets the socket of a connection that was just removed linger in its old slot.
    pub(super) fn linger(&mut self, id: ConnId, socket: Lingering) {
        debug_assert_eq!(self.vacated.last(), Some(&id.slot), "it was removed just now");
        if self.vacated.last() == Some(&id.slot) {
            self.vacated.pop();
            self.slots[id.slot as usize] = Slot::Lingering(socket);
            self.lingering += 1;
        }
    }

    pub(super) fn remove_lingering(&mut self, id: ConnId) -> Option<Lingering> {
        self.lingering_mut(id)?;
        let slot = self.slots.get_mut(id.slot as usize)?;
        match std::mem::replace(slot, Slot::Vacant) {
            Slot::Lingering(socket) => {
                self.vacated.push(id.slot);
                self.lingering -= 1;
                Some(socket)
            }
            other => {
                *slot = other;
                None
            }
        }
    }

    /// The batch of events is done with: vacated slots may be given out again.
    pub(super) fn end_turn(&mut self) {
        for slot in self.vacated.drain(..) {
            self.slots.remove(slot as usize);
        }
        if self.slots.len() * 4 < self.slots.capacity() && self.slots.capacity() > 4096 {
            self.slots.shrink_to_fit();
        }
    }
}

/// Reads and drops, for a connection that ends. Returns whether the end of the input, an error or the bound was met.
pub(super) fn discard(stream: &mut Stream, buffer: &mut [u8], discarded: &mut u64, max: u64) -> Discarded {
    loop {
        if *discarded > max {
            return Discarded::Enough;
        }
        match receive(stream, buffer, false) {
            Received::Some { n, .. } => *discarded += n as u64,
            Received::Empty => return Discarded::Empty,
            Received::End => return Discarded::End,
            Received::Failed(error) => return Discarded::Failed(error),
        }
    }
}

/// How [`discard`] came to its end.
#[derive(Debug)]
pub(super) enum Discarded {
    Empty,
    End,
    Enough,
    Failed(std::io::Error),
}
