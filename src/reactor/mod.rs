//! The loop, a verb a file; `turn.rs` has what happens in which order.
//!
//! It must not judge what a read or a write has answered (`net/io.rs` does), nor end a connection but by `close.rs`, nor
//! write but by `flush.rs`.

mod admit;
mod adopt;
mod attempts;
mod audit;
mod broadcast;
mod builder;
mod close;
mod commands;
mod context;
mod deadlines;
mod dial;
mod envelope;
mod flush;
#[cfg(feature = "proxy-protocol")]
mod greetings;
mod groups;
mod handshakes;
mod jobs;
mod listeners;
mod live;
mod log_gate;
mod memory;
mod overflow;
mod pace;
mod panics;
mod peers;
mod rates;
mod receive;
mod redial;
mod seat;
mod send;
mod series;
mod serve;
mod shutdown;
mod sources;
mod table;
mod timers;
mod turn;

#[cfg(test)]
mod tests;

pub use broadcast::{Broadcast, To};
pub use builder::Builder;
pub use context::Context;
pub use dial::Detached;
pub use envelope::Envelope;
pub(crate) use jobs::Life;
pub use listeners::Listening;
pub use pace::{Callback, Stall};
pub use panics::OnPanic;
pub(crate) use panics::text_of as panic_text;
pub use rates::{Direction, RateGroup};
pub use send::{DropReason, Sent};
pub use serve::{Served, serve};
pub use shutdown::ShutdownReport;
pub use turn::Flow;

use crate::dial::Dial;
use crate::error::Error;
use crate::handle::Handle;
use crate::handler::Handler;
use crate::id::ConnId;
use crate::limits::Limits;
use crate::net::{ListenOptions, Ready, ToAddresses};
use crate::stats::Stats;

impl ToAddresses for Listening {
    fn to_addresses(&self) -> Result<Vec<crate::address::Address>, Error> {
        Ok(vec![self.address.clone()])
    }
}

/// An event loop of one thread: listeners, connections, timers, and the handler that they serve.
///
/// Make one with [`new`](Reactor::new) or [`builder`](Reactor::builder), give it something to do with
/// [`listen`](Reactor::listen) or [`connect`](Reactor::connect), and let it [`run`](Reactor::run); or call
/// [`turn`](Reactor::turn) from a loop of your own. Dropping it closes everything at once.
///
/// # The order of a turn
///
/// 1. Wait for events, for no longer than the next deadline. Then the time is taken, once.
/// 2. Each event: clients are accepted, connections read, their messages delivered and their replies written.
/// 3. Connections with something left over from the last turn.
/// 4. Commands of other threads, and names that were looked up.
/// 5. Timers that are due.
/// 6. What was queued for others is written; `on_writable`, `on_overflow`.
/// 7. Connections that have ended: `on_close`, then their sockets and slots are let go.
///
/// What a callback of step 5 to 7 queues is served by the very next turn, which does not wait.
#[derive(Debug)]
pub struct Reactor<H: Handler> {
    handler: H,
    cx: Context<H>,
    /// Events of this turn. Kept for its memory.
    ready: Vec<Ready>,
    started: bool,
}

impl<H: Handler> Reactor<H> {
    /// A reactor with the default [`Limits`].
    ///
    /// # Errors
    /// The system gives no poller: no descriptors are left, usually.
    pub fn new(handler: H) -> Result<Reactor<H>, Error> {
        Reactor::<H>::builder().build(handler)
    }

    /// A reactor with other limits or options.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn with_context(handler: H, cx: Context<H>) -> Reactor<H> {
        Reactor { handler, ready: Vec::with_capacity(cx.limits.events), cx, started: false }
    }

    /// Listens on `address`, at once: an [`Address`](crate::Address), a `SocketAddr`, or text such as `127.0.0.1:7000`, `[::1]:0` or
    /// `localhost:7000`. Each client gets a clone of `codec`.
    ///
    /// A name is looked up by the system's resolver, which may block; the first of its addresses that can be bound is
    /// taken, as `std::net::TcpListener` does it.
    ///
    /// # Errors
    /// The name is unknown, or no address can be bound; the error names the last one tried.
    pub fn listen(&mut self, address: impl ToAddresses, codec: H::Codec) -> Result<Listening, Error> {
        self.listen_with(address, codec, &ListenOptions::default())
    }

    /// As [`listen`](Reactor::listen), with options for the listener and for the connections it accepts.
    ///
    /// # Errors
    /// As [`listen`](Reactor::listen); also when the system refuses an option.
    pub fn listen_with(
        &mut self,
        address: impl ToAddresses,
        codec: H::Codec,
        options: &ListenOptions,
    ) -> Result<Listening, Error> {
        let mut last = Error::Config("the name has no address");
        for address in address.to_addresses()? {
            let listener = self.cx.poller.bind(&address, options);
            match self.cx.add_listener(listener, address, codec.clone(), options.connections_max) {
                Ok(listening) => {
                    self.cx.secure_listener(&listening, options);
                    return Ok(listening);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Connects to an address or a name, see [`Context::connect`].
    pub fn connect(&mut self, to: impl Into<Dial>, codec: H::Codec) -> ConnId {
        self.context().connect(to, codec)
    }

    /// A handle for other threads.
    pub fn handle(&self) -> Handle<H> {
        self.cx.handle()
    }

    /// Everything that a handler may ask, for use between turns.
    pub fn context(&mut self) -> &mut Context<H> {
        // Time may have passed since the last turn.
        self.cx.take_time();
        &mut self.cx
    }

    /// The handler.
    pub fn handler(&self) -> &H {
        &self.handler
    }

    /// The handler, to be changed.
    pub fn handler_mut(&mut self) -> &mut H {
        &mut self.handler
    }

    /// Gives the handler back, and closes everything at once.
    pub fn into_handler(self) -> H {
        self.handler
    }

    /// The counters as of now.
    pub fn stats(&self) -> Stats {
        self.cx.stats()
    }

    /// The limits that this reactor was built with.
    pub fn limits(&self) -> &Limits {
        &self.cx.limits
    }

    /// What a shutdown has achieved so far; all zero before one.
    pub fn shutdown_report(&self) -> ShutdownReport {
        self.cx.report()
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
impl<H: Handler> std::os::fd::AsFd for Reactor<H> {
    /// The poller's descriptor: readable when [`turn`](Reactor::turn) has events to take. It says nothing of deadlines and
    /// of work left over, see [`next_timeout`](Reactor::next_timeout).
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.cx.poller.as_fd()
    }
}
