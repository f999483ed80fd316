//! A reactor of the world, in the test's hands.

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use super::engine::Engine;
use crate::dial::Dial;
use crate::error::Error;
use crate::handle::Handle;
use crate::handler::Handler;
use crate::id::ConnId;
use crate::limits::Limits;
use crate::net::mem;
use crate::net::{ListenOptions, ToAddresses};
use crate::reactor::{Context, Flow, Listening, Reactor, ShutdownReport};
use crate::stats::Stats;

/// A reactor that runs in a [`World`](super::World), which takes its turns.
///
/// It is a real [`Reactor`]: the same handler, codecs, limits and timers, over the world's network and clock. Between the
/// turns, which is whenever a test runs, it can be looked at and told what to do.
pub struct Server<H: Handler> {
    pub(super) seat: Rc<Seat<H>>,
    pub(super) engine: Rc<Engine>,
}

impl<H: Handler> fmt::Debug for Server<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl<H: Handler> Server<H> {
    /// Listens on an address of the world, see [`Reactor::listen`]. Any IP address will do, and port 0 means one that is free.
    ///
    /// # Panics
    /// Another listener of the world has it, or it cannot be read. A name is looked up by the system, which is outside of the
    /// world: do not.
    #[track_caller]
    pub fn listen(&self, address: impl ToAddresses, codec: H::Codec) -> Listening {
        self.listen_with(address, codec, &ListenOptions::default())
    }

    /// As [`listen`](Server::listen), with options.
    ///
    /// # Panics
    /// As [`listen`](Server::listen).
    #[track_caller]
    pub fn listen_with(
        &self,
        address: impl ToAddresses,
        codec: H::Codec,
        options: &ListenOptions,
    ) -> Listening {
        self.reactor()
            .listen_with(address, codec, options)
            .unwrap_or_else(|error| panic!("the server cannot listen: {error}"))
    }

    /// Dials, see [`Context::connect`].
    pub fn connect(&self, to: impl Into<Dial>, codec: H::Codec) -> ConnId {
        self.reactor().connect(to, codec)
    }

    /// The reactor itself. Let go of it before the world runs on.
    ///
    /// # Panics
    /// Somebody has it already.
    #[track_caller]
    pub fn reactor(&self) -> RefMut<'_, Reactor<H>> {
        self.seat.reactor.try_borrow_mut().unwrap_or_else(|_| panic!("{IN_USE}"))
    }

    /// Everything that a handler may ask, between turns.
    pub fn with<T>(&self, f: impl FnOnce(&mut Context<H>) -> T) -> T {
        f(self.reactor().context())
    }

    /// The handler.
    ///
    /// # Panics
    /// Somebody has the [reactor](Server::reactor).
    #[track_caller]
    pub fn handler(&self) -> Ref<'_, H> {
        let reactor = self.seat.reactor.try_borrow().unwrap_or_else(|_| panic!("{IN_USE}"));
        Ref::map(reactor, Reactor::handler)
    }

    /// The handler, to be changed.
    ///
    /// # Panics
    /// Somebody has the [reactor](Server::reactor).
    #[track_caller]
    pub fn handler_mut(&self) -> RefMut<'_, H> {
        RefMut::map(self.reactor(), Reactor::handler_mut)
    }

    /// A handle, as other threads have it.
    pub fn handle(&self) -> Handle<H> {
        self.reactor().handle()
    }

    /// The counters as of now.
    pub fn stats(&self) -> Stats {
        self.reactor().stats()
    }

    /// The limits that it was built with.
    pub fn limits(&self) -> Limits {
        self.reactor().limits().clone()
    }

    /// Shuts it down, lets the world run until that has come to its end, and says what was achieved.
    ///
    /// # Panics
    /// It does not come to its end in time, or something is left of it.
    pub fn shut_down(&self) -> ShutdownReport {
        self.engine.let_clients_in(&*self.seat);
        self.with(Context::shutdown);
        self.engine.run_to_the_end(&*self.seat);
        self.reactor().shutdown_report()
    }
}

const IN_USE: &str =
    "the reactor is in use: let go of what `reactor()`, `handler()` or `handler_mut()` have answered first";

/// Where the world has a reactor.
pub(super) struct Seat<H: Handler> {
    reactor: RefCell<Reactor<H>>,
    net: mem::World,
    finished: Cell<bool>,
}

impl<H: Handler> Seat<H> {
    pub(super) fn new(reactor: Reactor<H>, net: mem::World) -> Seat<H> {
        Seat { reactor: RefCell::new(reactor), net, finished: Cell::new(false) }
    }

    #[track_caller]
    fn borrow(&self) -> RefMut<'_, Reactor<H>> {
        self.reactor.try_borrow_mut().unwrap_or_else(|_| panic!("{IN_USE}"))
    }
}

/// A reactor, whatever its handler is.
pub(super) trait Turns {
    /// Takes a turn if there is something to do. Returns whether there was.
    fn turn(&self) -> bool;
    /// The time to its next deadline.
    fn next(&self) -> Option<Duration>;
    fn is_finished(&self) -> bool;
    fn is_shutting_down(&self) -> bool;
    fn shut_down(&self);
    /// How long a shutdown may take.
    fn patience(&self) -> Duration;
    /// Clients that wait to be accepted.
    fn waiting_clients(&self) -> usize;
    /// Bytes read and written, as it has counted them.
    fn moved(&self) -> (u64, u64);
    /// What is left, after its end.
    fn left(&self) -> Result<(), String>;
}

impl<H: Handler> Turns for Seat<H> {
    fn turn(&self) -> bool {
        if self.finished.get() {
            return false;
        }
        let mut reactor = self.borrow();
        if !self.net.has_events() && reactor.next_timeout() != Some(Duration::ZERO) {
            return false;
        }
        match reactor.turn(Some(Duration::ZERO)) {
            Ok(flow) => self.finished.set(flow == Flow::Finished),
            Err(Error::Panicked(text)) => panic!("the handler has panicked: {text}"),
            Err(error) => panic!("the reactor has failed: {error}"),
        }
        if let Err(broken) = reactor.audit() {
            panic!("a promise is broken: {broken}");
        }
        true
    }

    fn next(&self) -> Option<Duration> {
        if self.finished.get() { None } else { self.borrow().next_timeout() }
    }

    fn is_finished(&self) -> bool {
        self.finished.get()
    }

    fn is_shutting_down(&self) -> bool {
        self.borrow().is_draining()
    }

    fn shut_down(&self) {
        self.borrow().context().shutdown();
    }

    fn patience(&self) -> Duration {
        let reactor = self.borrow();
        let limits = reactor.limits();
        limits.drain_timeout + limits.linger_timeout + Duration::from_secs(1)
    }

    fn waiting_clients(&self) -> usize {
        self.net.waiting_clients()
    }

    fn moved(&self) -> (u64, u64) {
        self.borrow().moved()
    }

    fn left(&self) -> Result<(), String> {
        self.borrow().audit_end()
    }
}
