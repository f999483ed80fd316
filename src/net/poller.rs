//! Waits for readiness, and turns mio's events into this crate's own.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::hint;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll, Token};

use super::resolver::{Resolver, Threads};
use super::spin::Spin;
use super::{ListenOptions, Listener, SocketOptions, Stream, clock};
use crate::address::Address;

/// The longest sleep: a wait without a deadline wakes once an hour, and no timeout overflows a system call's argument.
const WAIT_MAX: Duration = Duration::from_secs(3600);
const COMMANDS: usize = usize::MAX;
/// Marks the slot of a listener.
const LISTENER_BIT: u32 = 1 << 31;
/// Marks the number of a dial's attempt. Connections have slots below it.
const ATTEMPT_BIT: u32 = 1 << 30;
/// Beside [`ATTEMPT_BIT`]: marks the number of a client that has not said yet who it is.
const GREETING_BIT: u32 = 1 << 29;
/// Attempts have numbers up to this one.
pub(crate) const ATTEMPT_MAX: u32 = GREETING_BIT - 1;
/// And so have greetings.
#[cfg(feature = "proxy-protocol")]
pub(crate) const GREETING_MAX: u32 = GREETING_BIT - 1;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Another thread has queued a command.
    Commands,
    /// A listener, by slot.
    Listener(u32),
    /// An attempt of a dial, by number.
    Attempt(u32),
    /// A client whose proxy has not said yet who it is, by number.
    #[cfg(feature = "proxy-protocol")]
    Greeting(u32),
    /// A connection, by slot and generation.
    Connection(u32, u32),
}

/// One event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ready {
    pub(crate) source: Source,
    pub(crate) readiness: Readiness,
}

/// What an event says, as a set of facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Readiness(u8);

impl Readiness {
    pub(crate) const READABLE: Readiness = Readiness(1);
    pub(crate) const WRITABLE: Readiness = Readiness(2);
    /// The peer has ended its input, or both halves are gone.
    pub(crate) const READ_CLOSED: Readiness = Readiness(4);
    pub(crate) const WRITE_CLOSED: Readiness = Readiness(8);
    pub(crate) const ERROR: Readiness = Readiness(16);
    /// Urgent data cuts reads short.
    pub(crate) const URGENT: Readiness = Readiness(32);

    #[inline]
    pub(crate) fn has(self, other: Readiness) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether a read would find something: bytes, the end, or an error.
    #[inline]
    pub(crate) fn may_be_read(self) -> bool {
        self.0 & (Self::READABLE.0 | Self::READ_CLOSED.0 | Self::ERROR.0) != 0
    }

    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn and(self, other: Readiness) -> Readiness {
        Readiness(self.0 | other.0)
    }

    #[inline]
    fn of(event: &Event) -> Readiness {
        let fact = |is: bool, which: Readiness| if is { which.0 } else { 0 };
        Readiness(
            fact(event.is_readable(), Self::READABLE)
                | fact(event.is_writable(), Self::WRITABLE)
                | fact(event.is_read_closed(), Self::READ_CLOSED)
                | fact(event.is_write_closed(), Self::WRITE_CLOSED)
                | fact(event.is_error(), Self::ERROR)
                | fact(event.is_priority(), Self::URGENT),
        )
    }
}

/// Waits for events: a closed set of kinds.
#[derive(Debug)]
pub(crate) enum Poller {
    Os {
        poll: Poll,
        events: Events,
        waker: Arc<mio::Waker>,
        spin: Spin,
    },
    #[cfg(any(test, feature = "sim"))]
    Mem(super::mem::World),
}

/// Wakes a poller from another thread.
#[derive(Debug, Clone)]
pub(crate) enum Waker {
    Os(Arc<mio::Waker>),
    #[cfg(any(test, feature = "sim"))]
    Mem(super::mem::World),
}

impl Waker {
    /// A wake-up that is interrupted by a signal is tried again: who has asked for it is sure that it comes, and asks no
    /// second time.
    pub(crate) fn wake(&self) -> io::Result<()> {
        match self {
            Waker::Os(waker) => again_when_interrupted(|| waker.wake()),
            #[cfg(any(test, feature = "sim"))]
            Waker::Mem(world) => {
                world.wake();
                Ok(())
            }
        }
    }
}

impl Poller {
    /// A poller of the system, that takes up to `events` events at a time, and spins for up to `busy_poll` before it sleeps.
    pub(crate) fn new(events: usize, busy_poll: Duration) -> io::Result<Poller> {
        let poll = Poll::new()?;
        let waker = Arc::new(mio::Waker::new(poll.registry(), Token(COMMANDS))?);
        let events = Events::with_capacity(events);
        Ok(Poller::Os { poll, events, waker, spin: Spin::new(busy_poll) })
    }

    pub(crate) fn waker(&self) -> Waker {
        match self {
            Poller::Os { waker, .. } => Waker::Os(Arc::clone(waker)),
            #[cfg(any(test, feature = "sim"))]
            Poller::Mem(world) => Waker::Mem(world.clone()),
        }
    }

    /// Waits for at most `timeout`, and appends what is ready. An interrupted wait ends without events: the caller looks
    /// at its deadlines and comes back.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()> {
        match self {
            Poller::Os { poll, events, spin, .. } => {
                let timeout = timeout.map_or(WAIT_MAX, |t| t.min(WAIT_MAX));
                let waited = if spin.is_off() {
                    poll.poll(events, Some(timeout))
                } else {
                    wait_busily(poll, events, spin, timeout)
                };
                if let Err(error) = waited {
                    return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
                }
                ready.extend(
                    events.iter().map(|event| Ready {
                        source: source(event.token()),
                        readiness: Readiness::of(event),
                    }),
                );
                Ok(())
            }
            #[cfg(any(test, feature = "sim"))]
            Poller::Mem(world) => {
                world.wait(timeout, ready);
                Ok(())
            }
        }
    }

    /// How many waits began with spinning, and how many of these had not to sleep.
    pub(crate) fn busy_polls(&self) -> (u64, u64) {
        match self {
            Poller::Os { spin, .. } => (spin.begun, spin.hits),
            #[cfg(any(test, feature = "sim"))]
            Poller::Mem(_) => (0, 0),
        }
    }

    /// The present, as this poller sees it.
    #[inline]
    pub(crate) fn now(&self) -> Instant {
        match self {
            Poller::Os { .. } => clock::now(),
            #[cfg(any(test, feature = "sim"))]
            Poller::Mem(world) => world.now(),
        }
    }

    pub(crate) fn add_stream(&mut self, stream: &mut Stream, slot: u32, generation: u32) -> io::Result<()> {
        match self {
            Poller::Os { poll, .. } => stream.register(poll.registry(), connection_token(slot, generation)),
            #[cfg(any(test, feature = "sim"))]
            Poller::Mem(world) => {
                world.register(stream, Source::Connection(slot, generation));
                Ok(())
            }
        }
    }

    /// Begins to connect to `address`, as the attempt with that number. The answer comes with an event.
    pub(crate) fn dial(
        &mut self,
        address: &Address,
        options: &SocketOptions,
        number: u32,
    ) -> io::Result<Stream> {
        match self {
            Poller::Os { poll, .. } => {
                let mut stream = Stream::dial(address, options)?;
                stream.register(poll.registry(), Token((number | ATTEMPT_BIT) as usize))?;
                Ok(stream)
            }
            #[cfg(any(test, feature = "sim"))]
            Poller::Mem(world) => world.dial(address, number),
        }
    }

    /// Waits for what a client's proxy says first, by that number.
    #[cfg(feature = "proxy-protocol")]
    pub(crate) fn add_greeting(&mut self, stream: &mut Stream, number: u32) -> io::Result<()> {
        match self {
            Poller::Os { poll, .. } => {
                stream.register(poll.registry(), Token((number | ATTEMPT_BIT | GREETING_BIT) as usize))
            }
            #[cfg(any(test, feature = "sim"))]
            Poller::Mem(world) => {
                world.register(stream, Source::Greeting(number));
                Ok(())
            }
        }
    }

    /// Makes an attempt that has succeeded the stream of a connection. What it is ready for is told once more.
    pub(crate) fn promote(&mut self, stream: &mut Stream, slot: u32, generation: u32) -> io::Result<()> {
        match self {
            Poller::Os { poll, .. } => stream.rename(poll.registry(), connection_token(slot, generation)),
            #[cfg(any(test, feature = "sim"))]
            Poller::Mem(world) => {
                world.register(stream, Source::Connection(slot, generation));
                Ok(())
            }
        }
    }

    /// Looks names up, and wakes this poller.
    pub(crate) fn resolver(&self) -> Resolver {
        match self {
            Poller::Os { .. } => Resolver::Threads(Threads::new(self.waker())),
            #[cfg(any(test, feature = "sim"))]
            Poller::Mem(world) => Resolver::Mem(world.clone()),
        }
    }

    /// A number that is hard to guess, and the same in each world of tests.
    pub(crate) fn seed(&self) -> u64 {
        match self {
            Poller::Os { .. } => RandomState::new().build_hasher().finish(),
            #[cfg(any(test, feature = "sim"))]
            Poller::Mem(world) => world.seed(),
        }
    }

    /// Only for a stream that lives on elsewhere; one that is dropped leaves by itself.
    pub(crate) fn remove_stream(&mut self, stream: &mut Stream) -> io::Result<()> {
        match self {
            Poller::Os { poll, .. } => stream.deregister(poll.registry()),
            #[cfg(any(test, feature = "sim"))]
            Poller::Mem(_) => Ok(()),
        }
    }

    /// Binds a listener, which is not registered yet.
    pub(crate) fn bind(&self, address: &Address, options: &ListenOptions) -> io::Result<Listener> {
        match self {
            Poller::Os { .. } => Listener::bind(address, options),
            #[cfg(any(test, feature = "sim"))]
            Poller::Mem(world) => world.bind(address),
        }
    }

    pub(crate) fn add_listener(&mut self, listener: &mut Listener, slot: u32) -> io::Result<()> {
        match self {
            Poller::Os { poll, .. } => {
                listener.register(poll.registry(), Token((slot | LISTENER_BIT) as usize))
            }
            #[cfg(any(test, feature = "sim"))]
            Poller::Mem(world) => {
                world.register_listener(listener, Source::Listener(slot));
                Ok(())
            }
        }
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
impl std::os::fd::AsFd for Poller {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            Poller::Os { poll, .. } => poll.registry().as_fd(),
            #[cfg(any(test, feature = "sim"))]
            Poller::Mem(_) => panic!("an in-memory poller has no descriptor"),
        }
    }
}

fn again_when_interrupted(mut call: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            answer => return answer,
        }
    }
}

/// Asks the kernel again and again for as long as that pays off, then sleeps for what is left of `timeout`.
fn wait_busily(poll: &mut Poll, events: &mut Events, spin: &mut Spin, timeout: Duration) -> io::Result<()> {
    if spin.pays() {
        poll.poll(events, Some(Duration::ZERO))?;
        if !events.is_empty() {
            return Ok(()); // busy without it
        }
    }
    let begin = clock::now();
    let mut last = begin;
    if let Some(window) = spin.begin(begin, timeout) {
        while last.saturating_duration_since(begin) < window {
            poll.poll(events, Some(Duration::ZERO))?;
            let now = clock::now();
            if !events.is_empty() {
                spin.hit(now.saturating_duration_since(begin));
                return Ok(());
            }
            if !spin.goes_on(last, now) {
                break;
            }
            last = now;
            hint::spin_loop();
        }
    }
    let slept = poll.poll(events, Some(timeout.saturating_sub(last.saturating_duration_since(begin))));
    spin.waited(clock::now().saturating_duration_since(begin));
    slept
}

/// Slot and generation in one token. Where a token has 32 bits the generation is left out: a stream that is dropped leaves
/// the poller at once, and slots are given out again only after the batch of events that could still name it.
#[inline]
fn connection_token(slot: u32, generation: u32) -> Token {
    Token((u64::from(generation) << 32 | u64::from(slot)) as usize)
}

#[inline]
fn source(token: Token) -> Source {
    if token.0 == COMMANDS {
        return Source::Commands;
    }
    let slot = token.0 as u32;
    if slot & LISTENER_BIT != 0 {
        return Source::Listener(slot & !LISTENER_BIT);
    }
    #[cfg(feature = "proxy-protocol")]
    if slot & (ATTEMPT_BIT | GREETING_BIT) == ATTEMPT_BIT | GREETING_BIT {
        return Source::Greeting(slot & !(ATTEMPT_BIT | GREETING_BIT));
    }
    if slot & ATTEMPT_BIT != 0 {
        return Source::Attempt(slot & !ATTEMPT_BIT);
    }
    Source::Connection(slot, (token.0 as u64 >> 32) as u32)
}

/// Whether the generation of an event can be compared.
pub(crate) const TOKENS_CARRY_GENERATION: bool = usize::BITS >= 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by `.ci/faults`: the flag stays up for a wake-up that is on its way, so that one that is lost is the last.
    #[test]
    fn a_wake_up_survives_signals() {
        let mut calls = 0;
        let woken = again_when_interrupted(|| {
            calls += 1;
            if calls < 3 { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
        });
        assert_eq!((woken.is_ok(), calls), (true, 3));
        let refused = again_when_interrupted(|| Err(io::ErrorKind::PermissionDenied.into()));
        assert_eq!(refused.map_err(|error| error.kind()), Err(io::ErrorKind::PermissionDenied));
    }

    #[test]
    fn a_token_says_what_it_is_about() {
        assert_eq!(source(Token(COMMANDS)), Source::Commands);
        assert_eq!(source(Token((5 | LISTENER_BIT) as usize)), Source::Listener(5));
        assert_eq!(source(Token((ATTEMPT_MAX | ATTEMPT_BIT) as usize)), Source::Attempt(ATTEMPT_MAX));
        #[cfg(feature = "proxy-protocol")]
        {
            let token = Token((GREETING_MAX | ATTEMPT_BIT | GREETING_BIT) as usize);
            assert_eq!(source(token), Source::Greeting(GREETING_MAX));
        }
        let generation = if TOKENS_CARRY_GENERATION { 7 } else { 0 };
        assert_eq!(source(connection_token(3, 7)), Source::Connection(3, generation));
        let top = if TOKENS_CARRY_GENERATION { u32::MAX } else { 0 };
        assert_eq!(
            source(connection_token(ATTEMPT_BIT - 1, u32::MAX)),
            Source::Connection(ATTEMPT_BIT - 1, top)
        );
    }
}
