//! The slab of connections: the open, the dialing, and the bare sockets that linger.

use slab::Slab;

use super::live::Live;
use crate::handler::Handler;
use crate::id::ConnId;
use crate::net::{Received, Stream, TOKENS_CARRY_GENERATION, receive};
use crate::time::TimerKey;

/// The bare socket of a connection that has ended: what its peer still sends is dropped, so that no reset eats the last
/// reply.
#[derive(Debug)]
pub(super) struct Lingering {
    pub(super) generation: u32,
    pub(super) stream: Stream,
    pub(super) discarded: u64,
    pub(super) deadline: TimerKey,
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

    /// The first name has the generation behind this one.
    pub(super) fn begin_generations_at(&mut self, generation: u32) {
        self.generation = generation;
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

    /// A name that nobody has and nobody will have.
    pub(super) fn dead_id(&mut self) -> ConnId {
        self.generation = self.generation.wrapping_add(1);
        ConnId { slot: u32::MAX >> 1, generation: self.generation }
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
pub(super) fn discard(
    stream: &mut Stream,
    buffer: &mut [u8],
    discarded: &mut u64,
    max: u64,
    budget: usize,
) -> Discarded {
    let spent = *discarded + budget as u64;
    loop {
        if *discarded >= spent {
            return Discarded::Spent;
        }
        if *discarded > max {
            return Discarded::Enough;
        }
        match receive(stream, buffer, false) {
            Received::Some { n, .. } => *discarded += stream.cost_of(n) as u64,
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
    /// The bound on all that is dropped is passed.
    Enough,
    /// The turn's budget is spent.
    Spent,
    Failed(std::io::Error),
}
