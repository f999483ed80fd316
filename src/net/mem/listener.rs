//! Listeners of the world, and the clients that wait at them.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use super::{Dropped, Kind, MemStream, Peer, World};
use crate::address::Address;
use crate::net::{Listener, Readiness, Ready, Source, Stream};

#[derive(Debug, Default)]
pub(super) struct Backlog {
    pub(super) source: Option<(usize, Source)>,
    pub(super) address: Option<Address>,
    pub(super) waiting: VecDeque<usize>,
    pub(super) errors: VecDeque<io::Error>,
    pub(super) closed: bool,
}

impl World {
    /// A listener that takes connections made by [`connect`](World::connect).
    pub(crate) fn listener(&self) -> Listener {
        let mut state = self.state();
        let number = state.next_listener;
        state.next_listener += 1;
        state.backlogs.insert(number, Backlog::default());
        drop(state);
        Listener::Mem(MemListener { world: self.clone(), number })
    }

    /// A listener at that address. Port 0 means one that is free.
    pub(crate) fn bind(&self, address: &Address) -> io::Result<Listener> {
        let mut state = self.state();
        let mut address = address.clone();
        if let Some(ip) = address.ip().filter(|ip| ip.port() == 0) {
            let port = 20_000 + state.next_listener as u16;
            address = Address::Ip(SocketAddr::new(ip.ip(), port));
        }
        let taken = |other: &Backlog| !other.closed && other.address.as_ref() == Some(&address);
        if state.backlogs.values().any(taken) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let number = state.next_listener;
        state.next_listener += 1;
        state.backlogs.insert(number, Backlog { address: Some(address), ..Backlog::default() });
        drop(state);
        Ok(Listener::Mem(MemListener { world: self.clone(), number }))
    }

    /// Who listens at that address.
    pub(crate) fn listener_at(&self, to: &Address) -> Option<u32> {
        let hears = |at: &Address| {
            at == to
                || matches!((at.ip(), to.ip()), (Some(at), Some(to)) if at.ip().is_unspecified() && at.port() == to.port())
        };
        let state = self.state();
        let mut numbers: Vec<_> = state
            .backlogs
            .iter()
            .filter(|(_, backlog)| !backlog.closed && backlog.address.as_ref().is_some_and(hears))
            .map(|(number, _)| *number)
            .collect();
        numbers.sort_unstable();
        numbers.first().copied()
    }

    /// A new connection in the queue of the listener with that number.
    pub(crate) fn connect(&self, listener: u32) -> Peer {
        let peer = self.link();
        self.queue(listener, &peer);
        peer
    }

    /// Puts a connection into a listener's queue.
    pub(crate) fn queue(&self, listener: u32, peer: &Peer) {
        let mut state = self.state();
        let backlog = state.backlogs.get_mut(&listener).expect("a listener of this world");
        backlog.waiting.push_back(peer.link);
        let (source, local) = (backlog.source, backlog.address.clone());
        state.links[peer.link].local = local;
        if let Some((poller, source)) = source {
            state.push(poller, Ready { source, readiness: Readiness::READABLE });
        }
    }

    /// The next accept of that listener fails so.
    pub(crate) fn fail_accept(&self, listener: u32, error: io::Error) {
        let mut state = self.state();
        let backlog = state.backlogs.get_mut(&listener).expect("a listener of this world");
        backlog.errors.push_back(error);
        if let Some((poller, source)) = backlog.source {
            state.push(poller, Ready { source, readiness: Readiness::READABLE });
        }
    }

    pub(crate) fn listener_is_closed(&self, listener: u32) -> bool {
        self.state().backlogs[&listener].closed
    }

    /// Clients that wait at listeners of this poller.
    pub(crate) fn waiting_clients(&self) -> usize {
        let state = self.state();
        let mine = |backlog: &&Backlog| backlog.source.is_some_and(|(poller, _)| poller == self.poller);
        state.backlogs.values().filter(mine).map(|backlog| backlog.waiting.len()).sum()
    }

    pub(in crate::net) fn register_listener(&self, listener: &Listener, source: Source) {
        let Listener::Mem(listener) = listener else { return };
        let mut state = self.state();
        let backlog = state.backlogs.entry(listener.number).or_default();
        backlog.source = Some((self.poller, source));
        if !backlog.waiting.is_empty() {
            state.push(self.poller, Ready { source, readiness: Readiness::READABLE });
        }
    }
}

/// A listener of the world.
#[derive(Debug)]
pub(crate) struct MemListener {
    world: World,
    number: u32,
}

impl MemListener {
    pub(in crate::net) fn address(&self) -> Address {
        let address = self.world.state().backlogs[&self.number].address.clone();
        address.unwrap_or(Address::Ip(([127, 0, 0, 1], 7_000 + self.number as u16).into()))
    }

    pub(in crate::net) fn accept(&mut self) -> io::Result<(io::Result<Stream>, Address)> {
        let mut state = self.world.state();
        let chance = state.dice.happens(Kind::Accept, self.number as usize);
        let harsh = state.harsh;
        let backlog = state.backlogs.entry(self.number).or_default();
        if let Some(error) = backlog.errors.pop_front() {
            return Err(error);
        }
        if let Some(mut roll) = chance {
            // Those of a client that is gone pass; a lack of descriptors may cost somebody his last reply, or his place.
            return Err(match roll.below(if harsh { 4 } else { 2 }) {
                0 => io::ErrorKind::ConnectionAborted.into(),
                1 => io::ErrorKind::Interrupted.into(),
                2 => io::Error::from_raw_os_error(if cfg!(windows) { 10024 } else { 24 }),
                _ => io::ErrorKind::OutOfMemory.into(),
            });
        }
        let link = backlog.waiting.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        drop(state);
        let stream = MemStream::new(&self.world, link);
        let peer = stream.peer_address();
        Ok((Ok(Stream::Mem(stream)), peer))
    }
}

impl Drop for MemListener {
    fn drop(&mut self) {
        let state = &mut *self.world.state();
        if let Some(backlog) = state.backlogs.get_mut(&self.number) {
            backlog.closed = true;
            backlog.source = None;
            // As the kernel does: who waits is reset.
            for link in backlog.waiting.drain(..) {
                state.links[link].dropped = Some(Dropped::ByReset);
            }
        }
    }
}
