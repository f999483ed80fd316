//! A simulated world to test handlers in: the real reactor, over an in-memory network and a virtual clock.
//!
//! *This needs the feature `sim`, which is for `dev-dependencies`.*
//!
//! A [`World`] has reactors and peers. The reactors are real ones: the same [`Reactor`],
//! [`Handler`], codecs, limits and timers. The peers do and expect what a test says. All runs on the test's
//! thread, nothing sleeps, and time jumps from one event to the next, so that an hour costs nothing.
//!
//! ```
//! use mainspring::{ConnId, Context, Handler, codec::Lines, sim};
//!
//! struct Shout;
//!
//! impl Handler for Shout {
//!     type Codec = Lines;
//!     type Session = ();
//!
//!     fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, line: &[u8]) {
//!         cx.send(from, &line.to_ascii_uppercase());
//!     }
//! }
//!
//! sim::check(|world| {
//!     let server = world.reactor(Shout);
//!     let at = server.listen("10.0.0.1:7000", Lines::default());
//!     let mut alice = world.dial(&at);
//!     alice.send("hello\nworld\n").expect("HELLO\nWORLD\n");
//!     alice.send("unfin").expect_nothing();
//!     alice.send("ished\n").expect("UNFINISHED\n");
//!     alice.shut_down_writing().expect_end();
//! });
//! ```
//!
//! # What can go wrong does
//!
//! [`check`] runs a test in many worlds, one for each seed. In each, what the network and the system may do beside their duty
//! is drawn from the seed: bytes come in pieces and late; reads and writes are cut short, interrupted, or would block though
//! they need not; events are late, for nothing, in another order, for sources that are gone, or come in two batches; an accept
//! fails because its client has gone; wake-ups come for nothing; peers take what they are sent in parts; jobs of workers end
//! in any order. All this a peer may not notice, so that a test needs to say nothing of it. What a peer does notice is left
//! to the test, and to [random peers](World::crowd): resets, half-closes, peers that do not read; and to a
//! [harsh](World::be_harsh) world, in which the machine lacks descriptors and memory too.
//!
//! # What is looked at
//!
//! After every turn of every reactor, and once more at the end, when all are shut down: no callback inside another; `on_close`
//! once for each `on_open`, and nothing after it; no name given out twice; nothing delivered to the paused; no connection that
//! has something to be read, delivered or written and nothing to wake it; sums that are those of their parts; bounds that
//! hold; lists without the gone; deadlines where there should be one. A shutdown ends in time, with nothing left. What is
//! broken fails the test, as an expectation does that is not met.
//!
//! # A failure is small, and comes again
//!
//! When a seed fails, the test is run again with less and less of what happened by chance, for as long as it fails. What is
//! left is told, with a line for [`replay`] that makes exactly this happen. For that a test must itself do the same whenever
//! it is run: no real clock, no thread, no order of a `HashMap`; what it draws, it draws from the world's [`Dice`].
//!
//! # Bounds of the simulation
//!
//! Sockets that come from the system ([`adopt`](crate::Context::adopt)) are not of this world, and have no events in it; nothing
//! can be detached. A [pool of workers](crate::workers) is made by [`World::workers`]; one with threads of its own runs in
//! real time. There are no [pools of reactors](crate::pool). Names are those that [`World::name`] knows.

mod check;
mod crowd;
mod engine;
mod jobs;
mod line;
mod peer;
mod record;
mod recorder;
mod server;

use std::cell::Cell;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use crate::address::Address;
use crate::codec::{Codec, Output};
use crate::handler::Handler;
use crate::limits::Limits;
use crate::net::ToAddresses;
use crate::net::mem::Answer;
use crate::reactor::{Builder, Reactor};
use crate::workers;
pub use check::{check, check_seeds, replay};
pub use crowd::Crowd;
use engine::{Engine, Run};
use jobs::Bench;
pub use line::End;
use line::Line;
pub use peer::{Door, Peer};
pub use record::{Chunk, Recording, RecordingError, Way};
pub use recorder::{Recorder, Side};
use server::Seat;
pub use server::Server;

pub use crate::net::mem::{Dice, Roll};

/// A world with its own network, clock and chance. Tests get one from [`check`] or [`replay`], which also
/// [end](World::end) it.
pub struct World {
    engine: Rc<Engine>,
    peers: Cell<u32>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("elapsed", &self.elapsed()).finish_non_exhaustive()
    }
}

impl World {
    /// The world of that seed.
    pub fn new(seed: u64) -> World {
        World::with(Dice::new(seed, None))
    }

    /// A world in which everything goes as it should.
    pub fn calm() -> World {
        World::with(Dice::calm())
    }

    fn with(dice: Dice) -> World {
        World { engine: Rc::new(Engine::new(dice)), peers: Cell::new(0) }
    }

    /// From now on the machine lacks descriptors and memory now and then. Clients may be turned away, and lingering sockets be
    /// reset, so that not every peer gets what it could expect. In a calm world nothing changes.
    pub fn be_harsh(&self) {
        self.engine.net.be_harsh();
    }

    /// The world's chance, for handlers and tests that do something at random.
    pub fn dice(&self) -> Dice {
        self.engine.dice.clone()
    }

    // ---- reactors --------------------------------------------------------------------------------------------------

    /// A reactor with the default limits.
    pub fn reactor<H: Handler + 'static>(&self, handler: H) -> Server<H> {
        self.reactor_with(Reactor::<H>::builder(), handler)
    }

    /// A reactor with other limits.
    ///
    /// # Panics
    /// The limits contradict each other.
    #[track_caller]
    pub fn reactor_within<H: Handler + 'static>(&self, limits: Limits, handler: H) -> Server<H> {
        self.reactor_with(Reactor::<H>::builder().limits(limits), handler)
    }

    /// A reactor with other limits and options. Those of sockets, and a busy poll, mean nothing here.
    ///
    /// # Panics
    /// The limits contradict each other.
    #[track_caller]
    pub fn reactor_with<H: Handler + 'static>(&self, builder: Builder, handler: H) -> Server<H> {
        let (reactor, net) = match builder.build_in(&self.engine.net, handler) {
            Ok(built) => built,
            Err(error) => panic!("{error}"),
        };
        let seat = Rc::new(Seat::new(reactor, net));
        self.engine.reactors.borrow_mut().push(Rc::clone(&seat) as Rc<dyn server::Turns>);
        Server { seat, engine: Rc::clone(&self.engine) }
    }

    /// A pool of workers whose jobs are run by the world, on its thread: each takes some of the world's time, and they end in
    /// any order. As many are under way at a time as the pool has threads.
    ///
    /// # Panics
    /// A bound of the pool is zero.
    #[track_caller]
    pub fn workers<H: Handler>(&self, builder: workers::Builder) -> workers::Pool<H> {
        match workers::Pool::by_hand(builder) {
            Ok((pool, hands)) => {
                self.engine.benches.borrow_mut().push(Bench::new(hands));
                pool
            }
            Err(error) => panic!("{error}"),
        }
    }

    // ---- peers -----------------------------------------------------------------------------------------------------

    /// A client that dials that address, from an address of its own. Nobody listening there looks like a reset.
    ///
    /// # Panics
    /// The address is a text that cannot be read.
    #[track_caller]
    pub fn dial(&self, to: impl ToAddresses) -> Peer {
        let number = self.peers.get() + 1;
        self.peers.set(number);
        let [_, a, b, c] = number.to_be_bytes();
        self.dial_from(IpAddr::V4(Ipv4Addr::new(10, a + 1, b, c)), to)
    }

    /// A client that dials from that address.
    ///
    /// # Panics
    /// The address is a text that cannot be read.
    #[track_caller]
    pub fn dial_from(&self, from: IpAddr, to: impl ToAddresses) -> Peer {
        let to = address(to);
        let net = &self.engine.net;
        let far = net.link();
        let address = Address::Ip(SocketAddr::new(from, 40_000 + (far.number() % 20_000) as u16));
        far.is_at(address.clone());
        let line = match net.listener_at(&to) {
            Some(listener) => {
                net.queue(listener, &far);
                Line::new(far, None)
            }
            None => Line::refused(far),
        };
        Peer { engine: Rc::clone(&self.engine), line: self.engine.add_line(line), address }
    }

    /// A place where the test's own peers listen, for reactors that dial.
    ///
    /// # Panics
    /// The address is a text that cannot be read.
    #[track_caller]
    pub fn listen(&self, at: impl ToAddresses) -> Door {
        let address = address(at);
        self.engine.net.answers_at(address.clone(), Answer::Opens);
        let taken = self.engine.net.dials_to(&address).len();
        Door { engine: Rc::clone(&self.engine), address, taken }
    }

    /// Dials to that address get no answer from now on. Those to an address of which nothing was said are refused.
    ///
    /// # Panics
    /// The address is a text that cannot be read.
    #[track_caller]
    pub fn silent(&self, at: impl ToAddresses) {
        self.engine.net.answers_at(address(at), Answer::Silence);
    }

    /// From now on a name has these addresses, for reactors that dial it. Others are unknown.
    pub fn name(&self, name: &str, addresses: &[IpAddr]) {
        self.engine.net.knows_at(name, addresses.to_vec());
    }

    /// Looking that name up does not end from now on.
    pub fn name_hangs(&self, name: &str) {
        self.engine.net.hangs(name);
    }

    /// So many random peers of `at`, which send what `message` makes: the bytes of the nth message, from zero on, of a
    /// connection. They do something when they are [told to](Crowd::live).
    ///
    /// # Panics
    /// The address is a text that cannot be read.
    #[track_caller]
    pub fn crowd(
        &self,
        at: impl ToAddresses,
        peers: usize,
        message: impl FnMut(&mut Roll, u64) -> Vec<u8> + 'static,
    ) -> Crowd<'_> {
        Crowd::new(self, address(at), peers, Box::new(message))
    }

    // ---- time ------------------------------------------------------------------------------------------------------

    /// How long the world has been there, in its own time.
    pub fn elapsed(&self) -> Duration {
        self.engine.now()
    }

    /// How long an expectation waits for something that does not come. Ten seconds of the world's time, unless told
    /// otherwise.
    pub fn patience(&self, time: Duration) {
        self.engine.patience.set(time);
    }

    /// Runs until nothing is under way: all that was sent has arrived and was dealt with, as far as no timer is needed for
    /// it.
    pub fn settle(&self) {
        self.engine.run(Run::Settle, |_| false);
    }

    /// Lets so much of its time pass: deadlines end, and timers fire.
    pub fn run_for(&self, time: Duration) {
        let until = self.elapsed().saturating_add(time);
        self.engine.run(Run::Until(until), |_| false);
    }

    /// Ends the world: every reactor shuts down, and must come to its end in time, with nothing left. [`check`] and
    /// [`replay`] do so after the test.
    ///
    /// # Panics
    /// Something is left.
    pub fn end(&self) {
        self.engine.end();
    }
}

impl Engine {
    fn add_line(&self, line: Line) -> usize {
        let mut lines = self.lines.borrow_mut();
        lines.push(line);
        lines.len() - 1
    }
}

#[track_caller]
fn address(of: impl ToAddresses) -> Address {
    match of.to_addresses() {
        Ok(mut addresses) if !addresses.is_empty() => addresses.swap_remove(0),
        Ok(_) => panic!("the name has no address"),
        Err(error) => panic!("{error}"),
    }
}

/// A message as the bytes that a codec makes of it: what a peer sends and expects.
///
/// ```
/// use mainspring::{codec::LengthPrefixed, sim};
///
/// assert_eq!(sim::encoded(&mut LengthPrefixed::default(), b"hi"), b"\0\0\0\x02hi");
/// ```
///
/// # Panics
/// The codec cannot say that message.
#[track_caller]
pub fn encoded<C: Codec>(codec: &mut C, message: C::Outgoing<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Err(error) = codec.encode(message, &mut Output::to_vec(&mut bytes)) {
        panic!("{error}");
    }
    bytes
}
