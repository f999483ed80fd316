//! One connection, and the reactor's end of it.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::{Kind, State, World, lock};
use crate::address::Address;
use crate::net::{Readiness, Source};

/// One connection, seen from the reactor: `input` flows to it, `output` from it.
#[derive(Debug)]
pub(super) struct Link {
    /// Which poller it is registered with, and as what.
    pub(super) source: Option<(usize, Source)>,
    /// Where it was dialed, and whether the dial has succeeded.
    pub(super) dialed: Option<(Address, bool)>,
    /// Where its peer is, and where it is itself, when that was said.
    pub(super) peer: Option<Address>,
    pub(super) local: Option<Address>,
    /// It was connected to itself.
    pub(super) itself: bool,
    pub(super) input: VecDeque<u8>,
    pub(super) input_ended: bool,
    pub(super) output: VecDeque<u8>,
    pub(super) output_ended: bool,
    pub(super) capacity: usize,
    /// The reactor has met a full `output`, so that room is an edge.
    pub(super) full: bool,
    pub(super) error: Option<io::ErrorKind>,
    pub(super) reset_on_close: bool,
    /// How the reactor's side was given up.
    pub(super) dropped: Option<Dropped>,
    pub(super) read_max: usize,
    pub(super) write_max: usize,
    /// So many of the next calls are interrupted by a signal.
    pub(super) interrupts: usize,
    pub(super) reads: usize,
    /// Calls of read, with those that found nothing.
    pub(super) looks: usize,
    pub(super) writes: usize,
    /// Bytes that the reactor has read and written.
    pub(super) bytes_read: u64,
    pub(super) bytes_written: u64,
}

/// How a stream was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dropped {
    InOrder,
    ByReset,
}

impl Link {
    pub(super) fn new() -> Link {
        Link {
            source: None,
            dialed: None,
            peer: None,
            local: None,
            itself: false,
            input: VecDeque::new(),
            input_ended: false,
            output: VecDeque::new(),
            output_ended: false,
            capacity: 64 * 1024,
            full: false,
            error: None,
            reset_on_close: false,
            dropped: None,
            read_max: usize::MAX,
            write_max: usize::MAX,
            interrupts: 0,
            reads: 0,
            looks: 0,
            writes: 0,
            bytes_read: 0,
            bytes_written: 0,
        }
    }

    fn interrupted(&mut self) -> io::Result<()> {
        if self.interrupts == 0 {
            return Ok(());
        }
        self.interrupts -= 1;
        Err(io::ErrorKind::Interrupted.into())
    }
}

/// The reactor's end of a connection.
#[derive(Debug)]
pub(crate) struct MemStream {
    world: Arc<Mutex<State>>,
    pub(super) link: usize,
}

impl MemStream {
    pub(super) fn new(world: &World, link: usize) -> MemStream {
        MemStream { world: Arc::clone(&world.state), link }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.world)
    }

    pub(in crate::net) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let state = &mut *self.state();
        let State { dice, links, .. } = state;
        let link = &mut links[self.link];
        link.looks += 1;
        link.interrupted()?;
        if dice.happens(Kind::Interrupt, self.link).is_some() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if link.input.is_empty() {
            if let Some(kind) = link.error {
                return Err(kind.into());
            }
            return if link.input_ended { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        if let Some(mut roll) = dice.happens(Kind::NotYet, self.link) {
            // Then an event will tell of it.
            let readiness = if link.input_ended {
                Readiness::READABLE.and(Readiness::READ_CLOSED)
            } else {
                Readiness::READABLE
            };
            state.edge_after(self.link, readiness, Duration::from_micros(roll.below(3_000) as u64));
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut n = into.len().min(link.input.len()).min(link.read_max);
        if let Some(mut roll) = dice.happens(Kind::ShortRead, self.link) {
            n = 1 + roll.below(n);
        }
        link.input.read_exact(&mut into[..n])?;
        link.reads += 1;
        link.bytes_read += n as u64;
        Ok(n)
    }

    pub(in crate::net) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_slices(&[IoSlice::new(bytes)])
    }

    pub(in crate::net) fn write_slices(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let state = &mut *self.state();
        let State { dice, links, .. } = state;
        let link = &mut links[self.link];
        link.interrupted()?;
        if dice.happens(Kind::Interrupt, self.link).is_some() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if let Some(kind) = link.error {
            return Err(kind.into());
        }
        if link.output_ended {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if let Some(mut roll) = dice.happens(Kind::Full, self.link) {
            state.edge_after(self.link, Readiness::WRITABLE, Duration::from_micros(roll.below(3_000) as u64));
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let total = slices.iter().map(|slice| slice.len()).sum::<usize>();
        let mut n = total.min(link.capacity.saturating_sub(link.output.len())).min(link.write_max);
        if let Some(mut roll) = dice.happens(Kind::ShortWrite, self.link) {
            n = n.min(1 + roll.below(n));
        }
        link.full |= n < total;
        if n == 0 {
            link.full = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut left = n;
        for slice in slices {
            let part = left.min(slice.len());
            link.output.extend(&slice[..part]);
            left -= part;
        }
        link.writes += 1;
        link.bytes_written += n as u64;
        Ok(n)
    }

    /// Whether reads and writes are not cut by the test, so that a short one means what it does on Linux.
    pub(in crate::net) fn is_whole(&self) -> bool {
        let state = self.state();
        let link = &state.links[self.link];
        let cuts = state.dice.knows(Kind::ShortRead) || state.dice.knows(Kind::ShortWrite);
        (link.read_max, link.write_max) == (usize::MAX, usize::MAX) && !cuts
    }

    pub(in crate::net) fn shut_down_writing(&mut self) -> io::Result<()> {
        self.state().links[self.link].output_ended = true;
        Ok(())
    }

    pub(in crate::net) fn reset_on_close(&mut self) {
        self.state().links[self.link].reset_on_close = true;
    }

    pub(in crate::net) fn take_error(&self) -> Option<io::Error> {
        self.state().links[self.link].error.map(Into::into)
    }

    pub(super) fn peer_address(&self) -> Address {
        let at = ([127, 0, 0, 1], 40_000 + (self.link % 20_000) as u16);
        self.state().links[self.link].peer.clone().unwrap_or(Address::Ip(at.into()))
    }

    /// The peer's address, once there is one.
    pub(in crate::net) fn dialed_address(&self) -> io::Result<Address> {
        match &self.state().links[self.link].dialed {
            Some((_, false)) => return Err(io::ErrorKind::NotConnected.into()),
            Some((address, true)) => return Ok(address.clone()),
            None => {}
        }
        Ok(self.peer_address())
    }

    pub(in crate::net) fn local_address(&self) -> Address {
        let state = self.state();
        let link = &state.links[self.link];
        if let (true, Some((address, _))) = (link.itself, &link.dialed) {
            return address.clone();
        }
        link.local.clone().unwrap_or(Address::Ip(([127, 0, 0, 1], 7_000).into()))
    }
}

impl Drop for MemStream {
    fn drop(&mut self) {
        let state = &mut *self.state();
        let link = &mut state.links[self.link];
        // As the kernel does: unread input makes a close a reset.
        let by_reset = link.reset_on_close || !link.input.is_empty();
        link.dropped = Some(if by_reset { Dropped::ByReset } else { Dropped::InOrder });
        if let Some(gone) = link.source.take() {
            state.gone.push(gone);
        }
    }
}
