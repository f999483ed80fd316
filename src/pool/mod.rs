//! Many reactors, one port: an event loop for each core, with a handler and a table of connections of its own.
//!
//! The reactors share nothing that a message needs, and so no lock: a connection lives and ends in the reactor that got it,
//! and is served as it would be by one that is alone. What crosses from one to another is a command in a queue, handed over
//! once a turn.
//!
//! ```
//! use mainspring::{ConnId, Context, Handler, To, codec::Lines, pool::ReactorPool};
//! use bytes::Bytes;
//!
//! struct Chat;
//!
//! impl Handler for Chat {
//!     type Codec = Lines;
//!     type Session = ();
//!
//!     fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, line: &[u8]) {
//!         cx.broadcast(To::AllBut(from), line);
//!         cx.broadcast_elsewhere(To::All, &Bytes::copy_from_slice(line));
//!         # cx.shutdown();
//!     }
//! }
//!
//! let mut pool = ReactorPool::new(2, |_index| Chat)?;
//! let listening = pool.listen("127.0.0.1:0", Lines::default())?;
//! println!("listening on {listening}");
//! # let client = std::net::TcpStream::connect(listening.address.ip().unwrap())?;
//! # std::io::Write::write_all(&mut &client, b"bye\n")?;
//! let end = pool.run()?;
//! println!("{} messages came", end.total().frames_in);
//! # assert_eq!(end.total().frames_in, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Who gets a client
//!
//! Where the kernel deals connections out among sockets that share a port ([`Balance::Kernel`]), each reactor has one, and
//! accepts from it. It deals by a hash, blindly: with many clients each reactor gets its share, with five it may not, and one
//! that is busy or out of descriptors gets its share all the same. With [`Balance::HandOut`] the first reactor accepts and
//! hands each client to the one that has the fewest, which is even to within one, costs a wake-up for each client, and waits
//! for the first one's turns. One that takes nobody, by its maximum or its memory limit, gets none while another does. There
//! [`on_accept`](crate::Handler::on_accept) is asked of the first reactor's handler, whoever gets the client. The clients of a Unix
//! socket are always handed out, for its path cannot be shared.
//!
//! # What holds for each, and what for all
//!
//! [`Limits`](crate::Limits), and the maxima of a listener, hold for each reactor. [`Builder::connections_max`] holds for all.
//! A shutdown of one, by its handler or by a [`Handle`](crate::Handle), is one of all, and so is the second call that ends
//! everything at once; [`PoolEnd`] has the sum. A reactor that panics or whose poller fails is gone with its connections:
//! the others shut down in order, and [`run`](ReactorPool::run) answers a [`PoolError`] that names it.
//!
//! Names of connections and listeners are their reactor's own. A connection of another one is a [`PoolConnId`], see
//! [`Context::pool_id`](crate::Context::pool_id), [`send_across`](crate::Context::send_across), and [`PoolHandle`] for other
//! threads. A listener that was made here has the same name in all reactors.

mod builder;
mod error;
mod running;

use std::fmt;
use std::sync::Arc;

use crate::address::Address;
use crate::error::Error;
use crate::handle::{LEADER, Team};
pub use crate::handle::{PoolHandle, PoolTo};
use crate::handler::Handler;
pub use crate::id::PoolConnId;
use crate::net::{AnyListener, ListenOptions, Listener, ToAddresses};
use crate::reactor::{Listening, Reactor};
pub use builder::Builder;
pub use error::{PanicPayload, PoolError, PoolFailure};
pub use running::{PoolEnd, RunningPool};

/// How clients come to the reactors of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Balance {
    /// [`Kernel`](Balance::Kernel) where there is it, or else [`HandOut`](Balance::HandOut). The default, because it is the
    /// one that costs nothing.
    #[default]
    Auto,
    /// Each reactor listens, and the kernel deals out: `SO_REUSEPORT` on Linux, Android and DragonFly, `SO_REUSEPORT_LB` on
    /// FreeBSD. Elsewhere to listen is an error.
    ///
    /// An address that someone else holds is in use, as it is for one reactor. On Linux that is certain. Elsewhere it is
    /// found out by a socket that is closed before the shared ones are bound: someone who binds with that option in just
    /// this moment is not noticed, and shares the port. Later, on every system, programs of the same user can join by that
    /// option.
    Kernel,
    /// The first reactor listens, and hands each client to the one with the fewest. The address is this pool's alone.
    HandOut,
}

impl Balance {
    fn hands_out(self) -> Result<bool, Error> {
        use crate::net::KERNEL_BALANCES;
        match self {
            Balance::Auto => Ok(!KERNEL_BALANCES),
            Balance::HandOut => Ok(true),
            Balance::Kernel if KERNEL_BALANCES => Ok(false),
            Balance::Kernel => Err(Error::Config("the kernel of this system does not balance connections")),
        }
    }
}

/// Reactors that share listeners, before they run: see [the module](self).
///
/// Make one, let it [`listen`](ReactorPool::listen), and [`run`](ReactorPool::run) or [`start`](ReactorPool::start) it.
pub struct ReactorPool<H: Handler> {
    reactors: Vec<Reactor<H>>,
    team: Arc<Team<H>>,
    balance: Balance,
    thread_name: String,
}

impl<H: Handler> fmt::Debug for ReactorPool<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReactorPool")
            .field("reactors", &self.reactors.len())
            .field("balance", &self.balance)
            .finish_non_exhaustive()
    }
}

impl<H> ReactorPool<H>
where
    H: Handler<Codec: Send, Session: Send> + Send + 'static,
{
    /// So many reactors with the default settings. `handler` makes the handler of each, by index.
    ///
    /// # Errors
    /// `count` is zero, or the system gives no poller.
    pub fn new(count: usize, handler: impl FnMut(usize) -> H) -> Result<ReactorPool<H>, Error> {
        ReactorPool::<H>::builder().reactors(count).build(handler)
    }

    /// A pool with other settings.
    pub fn builder() -> Builder {
        Builder::default()
    }

    fn with_reactors(
        mut reactors: Vec<Reactor<H>>,
        connections_max: usize,
        settings: Builder,
    ) -> ReactorPool<H> {
        let handles = reactors.iter().map(Reactor::handle).collect();
        let team = Arc::new(Team::new(handles, connections_max));
        for (index, reactor) in reactors.iter_mut().enumerate() {
            reactor.take_seat(Arc::clone(&team), index);
        }
        ReactorPool { reactors, team, balance: settings.balance, thread_name: settings.thread_name }
    }

    /// A handle for other threads.
    pub fn handle(&self) -> PoolHandle<H> {
        PoolHandle::new(Arc::clone(&self.team))
    }

    /// Listens on `address` for all reactors, see [`Reactor::listen`]. With port 0 they are all on the one that the system
    /// chose.
    ///
    /// # Errors
    /// The name is unknown, or no address can be bound, because another program or another pool has it, for example; the
    /// error names the last one tried.
    pub fn listen(&mut self, address: impl ToAddresses, codec: H::Codec) -> Result<Listening, Error> {
        self.listen_with(address, codec, &ListenOptions::default())
    }

    /// As [`listen`](ReactorPool::listen), with options. The maximum of connections holds for each reactor. With
    /// [`reuse_port`](ListenOptions::reuse_port) other programs may have the port too.
    ///
    /// # Errors
    /// As [`listen`](ReactorPool::listen); also when the system refuses an option.
    pub fn listen_with(
        &mut self,
        address: impl ToAddresses,
        codec: H::Codec,
        options: &ListenOptions,
    ) -> Result<Listening, Error> {
        let hands_out = self.balance.hands_out()? && self.reactors.len() > 1;
        let mut last = Error::Config("the name has no address");
        for address in address.to_addresses()? {
            let bound = if hands_out {
                Listener::bind(&address, options).map(|listener| vec![listener])
            } else {
                Listener::bind_many(&address, options, self.reactors.len())
            };
            let added = match bound {
                Ok(listeners) => self.add(listeners, &address, &codec, options),
                Err(source) => Err(Error::Listen { address, source }),
            };
            match added {
                Ok(listening) => return Ok(listening),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Takes in a listening socket that was made elsewhere, see [`Reactor::adopt_listener`]. As there is one, its clients
    /// are handed out, whatever the [`Balance`] is.
    ///
    /// # Errors
    /// As [`Reactor::adopt_listener`].
    pub fn adopt_listener(
        &mut self,
        listener: impl Into<AnyListener>,
        codec: H::Codec,
    ) -> Result<Listening, Error> {
        self.adopt_listener_with(listener, codec, &ListenOptions::default())
    }

    /// As [`adopt_listener`](ReactorPool::adopt_listener), with options for the connections it accepts.
    ///
    /// # Errors
    /// As [`Reactor::adopt_listener_with`].
    pub fn adopt_listener_with(
        &mut self,
        listener: impl Into<AnyListener>,
        codec: H::Codec,
        options: &ListenOptions,
    ) -> Result<Listening, Error> {
        let (listener, address) = Listener::adopt(listener.into(), options).map_err(Error::Adopt)?;
        self.add(vec![listener], &address, &codec, options)
    }

    /// Gives each reactor its listener, in the order of them. Those for which there is none get their clients from the
    /// first.
    fn add(
        &mut self,
        listeners: Vec<Listener>,
        address: &Address,
        codec: &H::Codec,
        options: &ListenOptions,
    ) -> Result<Listening, Error> {
        let hands_out = listeners.len() < self.reactors.len();
        let local = match listeners.first().map(Listener::local_address) {
            Some(Ok(local)) => local,
            Some(Err(source)) => return Err(Error::Listen { address: address.clone(), source }),
            None => return Err(Error::Config("there is no listener")),
        };
        let mut listeners = listeners.into_iter();
        let mut added = Vec::new();
        let mut failed = None;
        for (index, reactor) in self.reactors.iter_mut().enumerate() {
            let listener = listeners.next().unwrap_or_else(|| Listener::Elsewhere(local.clone()));
            let (address, codec) = (address.clone(), codec.clone());
            let leads = hands_out && index == LEADER;
            match reactor.add_pool_listener(Ok(listener), address, codec, options, leads) {
                Ok(listening) => added.push((index, listening)),
                Err(error) => failed = Some(error),
            }
        }
        if let Some(error) = failed {
            for (index, listening) in added {
                self.reactors[index].remove_pool_listener(listening.id);
            }
            return Err(error);
        }
        if hands_out {
            self.team.lead();
        }
        debug_assert!(added.iter().all(|(_, listening)| listening.id == added[0].1.id), "one name for all");
        Ok(added.swap_remove(0).1)
    }
}
