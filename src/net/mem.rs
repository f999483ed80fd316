//! An in-memory network with a virtual clock, for tests of the loop: edges as mio gives them, no sleeping.

mod dials;
mod peer;

use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::{Listener, Readiness, Ready, Source, Stream, clock};
use crate::address::Address;
pub(crate) use dials::Answer;
use dials::Dials;
pub(crate) use peer::Peer;

/// The world: a clock and all connections. Cheap to clone; all clones are the same world.
#[derive(Debug, Clone)]
pub(crate) struct World(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    start: Instant,
    elapsed: Duration,
    links: Vec<Link>,
    backlogs: HashMap<u32, Backlog>,
    ready: Vec<Ready>,
    woken: bool,
    wakes: usize,
    /// Waits without a deadline and without events: a real poller would have slept.
    sleeps: usize,
    next_listener: u32,
    dials: Dials,
}

#[derive(Debug, Default)]
struct Backlog {
    source: Option<Source>,
    waiting: VecDeque<usize>,
    errors: VecDeque<io::Error>,
    closed: bool,
}

/// One connection, seen from the reactor: `input` flows to it, `output` from it.
#[derive(Debug)]
struct Link {
    source: Option<Source>,
    /// Where it was dialed, and whether the dial has succeeded.
    dialed: Option<(Address, bool)>,
    /// It was connected to itself.
    itself: bool,
    input: VecDeque<u8>,
    input_ended: bool,
    output: VecDeque<u8>,
    output_ended: bool,
    capacity: usize,
    /// The reactor has met a full `output`, so that room is an edge.
    full: bool,
    error: Option<io::ErrorKind>,
    reset_on_close: bool,
    /// How the reactor's side was given up.
    dropped: Option<Dropped>,
    read_max: usize,
    write_max: usize,
    /// So many of the next calls are interrupted by a signal.
    interrupts: usize,
    reads: usize,
    /// Calls of read, with those that found nothing.
    looks: usize,
    writes: usize,
}

impl Link {
    fn interrupted(&mut self) -> io::Result<()> {
        if self.interrupts == 0 {
            return Ok(());
        }
        self.interrupts -= 1;
        Err(io::ErrorKind::Interrupted.into())
    }
}

/// How a stream was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dropped {
    InOrder,
    ByReset,
}

impl World {
    pub(crate) fn new() -> World {
        World(Arc::new(Mutex::new(State {
            start: clock::now(),
            elapsed: Duration::ZERO,
            links: Vec::new(),
            backlogs: HashMap::new(),
            ready: Vec::new(),
            woken: false,
            wakes: 0,
            sleeps: 0,
            next_listener: 0,
            dials: Dials::default(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> Instant {
        let state = self.state();
        state.start + state.elapsed
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.state().elapsed += by;
    }

    /// Whether events wait to be taken.
    pub(crate) fn has_events(&self) -> bool {
        let state = self.state();
        state.woken || !state.ready.is_empty()
    }

    pub(crate) fn wakes(&self) -> usize {
        self.state().wakes
    }

    pub(crate) fn sleeps(&self) -> usize {
        self.state().sleeps
    }

    pub(crate) fn wake(&self) {
        let mut state = self.state();
        state.woken = true;
        state.wakes += 1;
    }

    pub(crate) fn wait(&self, timeout: Option<Duration>, ready: &mut Vec<Ready>) {
        let mut state = self.state();
        if std::mem::take(&mut state.woken) {
            ready.push(Ready { source: Source::Commands, readiness: Readiness::READABLE });
        }
        ready.append(&mut state.ready);
        if ready.is_empty() {
            match timeout {
                Some(timeout) => state.elapsed += timeout,
                None => state.sleeps += 1,
            }
        }
    }

    /// A listener that takes connections made by [`connect`](World::connect).
    pub(crate) fn listener(&self) -> Listener {
        let mut state = self.state();
        let number = state.next_listener;
        state.next_listener += 1;
        state.backlogs.insert(number, Backlog::default());
        drop(state);
        Listener::Mem(MemListener { world: self.clone(), number })
    }

    /// A new connection in the queue of the listener with that number.
    pub(crate) fn connect(&self, listener: u32) -> Peer {
        let peer = self.link();
        let mut state = self.state();
        let backlog = state.backlogs.get_mut(&listener).expect("a listener of this world");
        backlog.waiting.push_back(peer.link);
        if let Some(source) = backlog.source {
            state.ready.push(Ready { source, readiness: Readiness::READABLE });
        }
        drop(state);
        peer
    }

    /// A connection without a listener: for dials.
    pub(crate) fn link(&self) -> Peer {
        let mut state = self.state();
        state.links.push(Link {
            source: None,
            dialed: None,
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
        });
        Peer { world: self.clone(), link: state.links.len() - 1 }
    }

    /// The next accept of that listener fails so.
    pub(crate) fn fail_accept(&self, listener: u32, error: io::Error) {
        let mut state = self.state();
        let backlog = state.backlogs.get_mut(&listener).expect("a listener of this world");
        backlog.errors.push_back(error);
        if let Some(source) = backlog.source {
            state.ready.push(Ready { source, readiness: Readiness::READABLE });
        }
    }

    pub(crate) fn listener_is_closed(&self, listener: u32) -> bool {
        self.state().backlogs[&listener].closed
    }

    /// An event out of nowhere, or of the past.
    pub(crate) fn inject(&self, source: Source, readiness: Readiness) {
        self.state().ready.push(Ready { source, readiness });
    }

    pub(super) fn register(&self, stream: &Stream, source: Source) {
        #[cfg(feature = "tls")]
        if let Stream::Tls(tls) = stream {
            return self.register(tls.inner(), source);
        }
        let Stream::Mem(stream) = stream else { return };
        let mut state = self.state();
        let link = &mut state.links[stream.link];
        link.source = Some(source);
        if matches!(link.dialed, Some((_, false))) && link.error.is_none() {
            return;
        }
        let mut readiness = Readiness::WRITABLE;
        if !link.input.is_empty() || link.input_ended || link.error.is_some() {
            readiness = readiness.and(Readiness::READABLE);
        }
        if link.input_ended {
            readiness = readiness.and(Readiness::READ_CLOSED);
        }
        state.ready.push(Ready { source, readiness });
    }

    pub(super) fn register_listener(&self, listener: &Listener, source: Source) {
        let Listener::Mem(listener) = listener else { return };
        let mut state = self.state();
        let backlog = state.backlogs.entry(listener.number).or_default();
        backlog.source = Some(source);
        if !backlog.waiting.is_empty() {
            state.ready.push(Ready { source, readiness: Readiness::READABLE });
        }
    }
}

impl State {
    fn edge(&mut self, link: usize, readiness: Readiness) {
        if let Some(source) = self.links[link].source {
            self.ready.push(Ready { source, readiness });
        }
    }
}

/// The reactor's end of a connection.
#[derive(Debug)]
pub(crate) struct MemStream {
    world: World,
    link: usize,
}

impl MemStream {
    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut state = self.world.state();
        let link = &mut state.links[self.link];
        link.looks += 1;
        link.interrupted()?;
        if link.input.is_empty() {
            if let Some(kind) = link.error {
                return Err(kind.into());
            }
            return if link.input_ended { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let n = into.len().min(link.input.len()).min(link.read_max);
        for (to, byte) in into.iter_mut().zip(link.input.drain(..n)) {
            *to = byte;
        }
        link.reads += 1;
        Ok(n)
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.world.state();
        let link = &mut state.links[self.link];
        link.interrupted()?;
        if let Some(kind) = link.error {
            return Err(kind.into());
        }
        let n = bytes.len().min(link.capacity.saturating_sub(link.output.len())).min(link.write_max);
        link.full |= n < bytes.len();
        if n == 0 {
            link.full = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        link.output.extend(&bytes[..n]);
        link.writes += 1;
        Ok(n)
    }

    /// Whether reads and writes are not cut by the test, so that a short one means what it does on Linux.
    pub(super) fn is_whole(&self) -> bool {
        let state = self.world.state();
        let link = &state.links[self.link];
        (link.read_max, link.write_max) == (usize::MAX, usize::MAX)
    }

    pub(super) fn write_slices(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        self.write(&all)
    }

    pub(super) fn shut_down_writing(&mut self) -> io::Result<()> {
        self.world.state().links[self.link].output_ended = true;
        Ok(())
    }

    pub(super) fn reset_on_close(&mut self) {
        self.world.state().links[self.link].reset_on_close = true;
    }

    pub(super) fn take_error(&self) -> Option<io::Error> {
        self.world.state().links[self.link].error.map(Into::into)
    }

    pub(super) fn peer_address(&self) -> Address {
        Address::Ip(([127, 0, 0, 1], 40_000 + (self.link % 20_000) as u16).into())
    }

    /// The peer's address, once there is one.
    pub(super) fn dialed_address(&self) -> io::Result<Address> {
        match &self.world.state().links[self.link].dialed {
            Some((_, false)) => Err(io::ErrorKind::NotConnected.into()),
            Some((address, true)) => Ok(address.clone()),
            None => Ok(self.peer_address()),
        }
    }

    pub(super) fn local_address(&self) -> Address {
        let state = self.world.state();
        if let (true, Some((address, _))) = (state.links[self.link].itself, &state.links[self.link].dialed) {
            return address.clone();
        }
        Address::Ip(([127, 0, 0, 1], 7_000).into())
    }
}

impl Drop for MemStream {
    fn drop(&mut self) {
        let mut state = self.world.state();
        let link = &mut state.links[self.link];
        // As the kernel does: unread input makes a close a reset.
        let by_reset = link.reset_on_close || !link.input.is_empty();
        link.dropped = Some(if by_reset { Dropped::ByReset } else { Dropped::InOrder });
        link.source = None;
    }
}

/// A listener of the world.
#[derive(Debug)]
pub(crate) struct MemListener {
    world: World,
    number: u32,
}

impl MemListener {
    pub(super) fn address(&self) -> Address {
        Address::Ip(([127, 0, 0, 1], 7_000 + self.number as u16).into())
    }

    pub(super) fn accept(&mut self) -> io::Result<(io::Result<Stream>, Address)> {
        let mut state = self.world.state();
        let backlog = state.backlogs.entry(self.number).or_default();
        if let Some(error) = backlog.errors.pop_front() {
            return Err(error);
        }
        let link = backlog.waiting.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        drop(state);
        let stream = MemStream { world: self.world.clone(), link };
        let peer = stream.peer_address();
        Ok((Ok(Stream::Mem(stream)), peer))
    }
}

impl Drop for MemListener {
    fn drop(&mut self) {
        let mut state = self.world.state();
        if let Some(backlog) = state.backlogs.get_mut(&self.number) {
            backlog.closed = true;
            backlog.source = None;
        }
    }
}
