//! Framed TCP connections, served and dialed from one thread, without an async runtime.
//!
//! A [`Reactor`] waits for readiness, puts messages together as their bytes arrive, and hands each to your [`Handler`]. What
//! the handler sends is queued, and written when the socket takes it. It is safe Rust on top of `mio`, and every queue,
//! buffer and loop in it has a bound.
//!
//! Whoever has a `select()` loop of their own finds each part of it, what goes wrong there, and what becomes of it here in
//! `docs/from-select.md`.
//!
//! # The shortest server
//!
//! ```no_run
//! use mainspring::{ConnId, Context, Handler, Reactor, codec::LengthPrefixed};
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     type Codec = LengthPrefixed;
//!     type Session = ();
//!
//!     fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, message: &[u8]) {
//!         cx.send(from, message);
//!     }
//! }
//!
//! fn main() -> Result<(), mainspring::Error> {
//!     let mut reactor = Reactor::new(Echo)?;
//!     let listening = reactor.listen("127.0.0.1:7000", LengthPrefixed::default())?;
//!     println!("listening on {listening}");
//!     reactor.run()
//! }
//! ```
//!
//! A message here is a 4-byte big-endian length and so many bytes, at most 100 MiB. A server of one function needs no
//! handler type at all, see [`serve`].
//!
//! # Framing: codecs
//!
//! A [`codec`] says where a message ends. [`LengthPrefixed`](codec::LengthPrefixed) covers length fields of all kinds,
//! [`Varint`](codec::Varint), [`Lines`](codec::Lines), [`Delimited`](codec::Delimited), [`Fixed`](codec::Fixed) and
//! [`Raw`](codec::Raw) the rest, and [`Utf8`](codec::Utf8) makes text of any of them. Typed messages are a
//! [`Codec`](codec::Codec) of your own: its documentation has one. A connection can change its framing while it lives:
//!
//! ```
//! use mainspring::{ConnId, Context, Handler, codec::LengthPrefixed};
//!
//! struct Negotiates;
//!
//! impl Handler for Negotiates {
//!     type Codec = LengthPrefixed;
//!     type Session = ();
//!
//!     fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, message: &[u8]) {
//!         if message == b"short" {
//!             if let Ok(short) = LengthPrefixed::builder().width(1).build() {
//!                 // From the next byte on. What was already read is kept.
//!                 cx.set_codec(from, short);
//!             }
//!         }
//!     }
//! }
//! ```
//!
//! # State: the handler and its sessions
//!
//! There is one handler and one thread, so that state needs no lock: what all connections share is a field of the handler,
//! what belongs to one connection is its [`Session`](Handler::Session).
//!
//! ```
//! use mainspring::{CloseReason, ConnId, Context, Handler, To, codec::{Lines, Utf8}};
//!
//! /// A chat: the first line of each connection is its name.
//! struct Chat;
//!
//! impl Handler for Chat {
//!     type Codec = Utf8<Lines>;
//!     type Session = Option<String>;
//!
//!     fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, line: &str) {
//!         let Some(session) = cx.session_mut(from) else { return };
//!         match session {
//!             None => *session = Some(line.to_owned()),
//!             Some(name) => {
//!                 let said = format!("{name}: {line}");
//!                 cx.broadcast(To::AllBut(from), &said);
//!             }
//!         }
//!     }
//!
//!     fn on_close(&mut self, cx: &mut Context<Self>, _: ConnId, why: CloseReason, name: Option<String>) {
//!         if let Some(name) = name {
//!             cx.broadcast(To::All, &format!("{name} has left: {why}"));
//!         }
//!     }
//! }
//! ```
//!
//! # Time
//!
//! [`Context::after`] and [`every`](Context::every) set timers, [`after_for`](Context::after_for) sets one that dies with
//! its connection. A timer carries a key of yours:
//!
//! ```
//! use mainspring::{ConnId, Context, Handler, Timer, codec::LengthPrefixed};
//! use std::time::Duration;
//!
//! struct Patient;
//!
//! impl Handler for Patient {
//!     type Codec = LengthPrefixed;
//!     type Session = ();
//!
//!     fn on_open(&mut self, cx: &mut Context<Self>, conn: ConnId) {
//!         cx.after_for(conn, Duration::from_secs(5), 0);
//!     }
//!     fn on_timer(&mut self, cx: &mut Context<Self>, timer: Timer) {
//!         if let Some(conn) = timer.conn {
//!             cx.send(conn, b"are you still there?");
//!         }
//!     }
//!     fn on_message(&mut self, _: &mut Context<Self>, _: ConnId, _: &[u8]) {}
//! }
//! ```
//!
//! # Dialing
//!
//! [`Context::connect`] begins a connection, to an address or to `HOST:PORT`. The name that it returns is that of the
//! connection to come: it can be sent to at once, and the answer is [`on_open`](Handler::on_open) or
//! [`on_dial_failed`](Handler::on_dial_failed), exactly one. Nothing blocks: names are looked up beside the loop, and all
//! addresses of a name race for the connection (RFC 8305).
//!
//! A [`Dial`] says more: a time limit, options for the socket, and whether to dial again whenever the connection has ended. Each
//! next connection has a name of its own, which the end of the last one tells:
//!
//! ```
//! use mainspring::{CloseReason, ConnId, Context, Dial, DialError, Handler, Reconnect, codec::Lines};
//!
//! /// Reports to a collector, wherever it is and however often it restarts.
//! struct Reporter {
//!     collector: Option<ConnId>,
//! }
//!
//! impl Handler for Reporter {
//!     type Codec = Lines;
//!     type Session = ();
//!
//!     fn on_start(&mut self, cx: &mut Context<Self>) {
//!         let dial = Dial::to("collector.example:7000").reconnect(Reconnect::default());
//!         self.collector = Some(cx.connect(dial, Lines::default()));
//!     }
//!     fn on_message(&mut self, _: &mut Context<Self>, _: ConnId, _: &[u8]) {}
//!     fn on_close(&mut self, cx: &mut Context<Self>, conn: ConnId, _: CloseReason, (): ()) {
//!         // What is sent to it waits until it is open.
//!         self.collector = cx.successor(conn);
//!     }
//!     fn on_dial_failed(&mut self, cx: &mut Context<Self>, conn: ConnId, why: DialError, (): ()) {
//!         // Names each address that was tried, and what has become of it.
//!         eprintln!("no collector: {why}");
//!         self.collector = cx.successor(conn);
//!     }
//! }
//! ```
//!
//! # Unix sockets
//!
//! `unix:PATH` is an address wherever one is taken, to listen on and to dial. Who removes the file of one, who may connect, and
//! what differs from TCP is in `docs/unix.md`.
//!
//! # Other threads
//!
//! The reactor, its handler and its context stay on one thread. A [`Handle`] is for all others: it sends, broadcasts, runs a
//! closure on the reactor's thread, brings it sockets, and shuts down. Its queue is bounded, and a full one gives the message back. A handler
//! that leaves an answer to another thread says so with [`owe`](Context::owe), so that a peer that has ended its input
//! still gets it:
//!
//! ```
//! use bytes::Bytes;
//! use mainspring::{ConnId, Context, Handler, codec::LengthPrefixed};
//!
//! struct Slow;
//!
//! impl Handler for Slow {
//!     type Codec = LengthPrefixed;
//!     type Session = ();
//!
//!     fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, message: &[u8]) {
//!         cx.owe(from);
//!         let handle = cx.handle();
//!         let question = message.to_vec();
//!         std::thread::spawn(move || {
//!             let answer = Bytes::from(question); // slowly
//!             // A reactor that is gone wants no answer.
//!             handle.run(move |_, cx| {
//!                 cx.send_owned(from, &answer);
//!                 cx.paid(from);
//!             })
//!         });
//!     }
//! }
//! ```
//!
//! # Slow work
//!
//! While a handler runs, nothing else does. What takes longer than a fraction of a millisecond goes to a
//! [pool of workers](workers), which looks after all that the example above leaves to its writer: the order of answers, bounds, panics,
//! those who leave in the meantime.
//!
//! ```
//! use bytes::Bytes;
//! use mainspring::{ConnId, Context, Handler, codec::LengthPrefixed, workers::Pool};
//!
//! struct Slow {
//!     pool: Pool<Slow>,
//! }
//!
//! impl Handler for Slow {
//!     type Codec = LengthPrefixed;
//!     type Session = ();
//!
//!     fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, message: &[u8]) {
//!         let question = message.to_vec();
//!         self.pool.answer(cx, from, move || Bytes::from(question)); // slowly
//!     }
//! }
//! ```
//!
//! # Many cores
//!
//! A [`pool::ReactorPool`] runs a reactor on each of many threads, with a handler and a table of connections each, on one port.
//! Nothing in it is locked for a message. [`Context::broadcast_elsewhere`] and [`send_across`](Context::send_across) reach the
//! connections of the other reactors.
//!
//! # Without a reactor
//!
//! [`client::Client`] is a connection whose calls block, for programs that talk to one server at a time, and for tests;
//! [`client::Channel`] receives on a thread of its own, with a callback, and is sent to from any. Both speak the same
//! codecs:
//!
//! ```no_run
//! use mainspring::{client::Client, codec::LengthPrefixed};
//!
//! let mut client = Client::connect("localhost:7000", LengthPrefixed::default())?;
//! client.send(b"hello")?;
//! while let Some(answer) = client.recv()? {
//!     println!("{} bytes", answer.len());
//! }
//! # Ok::<(), mainspring::client::Error>(())
//! ```
//!
//! # TLS
//!
//! With the feature `tls`, listeners, dials and the blocking client speak it, by `rustls`. Nothing else changes: handlers and
//! codecs see plain text. `docs/tls.md` says how to serve and to dial, and what it costs.
//!
//! # How connections end
//!
//! Each connection that was opened is closed once, with one [`CloseReason`], and nothing comes for it afterwards. A peer that
//! ends its input (a FIN) still gets all replies; [`end_output`](Context::end_output) is the same from our side, and lets the
//! peer's messages come on. [`close`](Context::close) sends what is queued first and then lingers for a
//! moment, so that the kernel's reset does not eat the last reply; [`abort`](Context::abort) is the other way.
//! [`Context::shutdown`] and [`Handle::shutdown`] end the whole in order, within a time, and
//! [`shutdown_report`](Reactor::shutdown_report) says who was served to the end.
//!
//! # Bounds
//!
//! [`Limits`] has every bound, its default and the reason for it. Two of them do most of the work. A connection whose own
//! replies pile up above [`high_mark`](Limits::high_mark) is not read until they have gone, so that a client that sends and
//! never reads slows down itself alone. What *others* send to a connection is held to
//! [`write_limit`](Limits::write_limit): a consumer that is too slow is closed, and the sender is told. Beside them
//! [`memory_limit`](Limits::memory_limit) bounds what all connections hold together, and deadlines end those that are idle,
//! drip, or take nothing.
//! [`send`](Context::send) answers what became of a message; one that does not care may ignore it.
//!
//! A consumer that is too slow need not be closed: its [`Overflow`] policy may drop the newest messages or the oldest, keep the
//! latest of each key, or tell the handler. [`message`](Context::message) gives a message its key, or exempts it as control.
//! [`limit_rate`](Context::limit_rate) and [`add_rate_group`](Context::add_rate_group) hold connections to a [`Rate`].
//!
//! # What is seen
//!
//! [`Stats`] counts everything, one [`CloseReason`] tells of each end, [`loop_lag`](Context::loop_lag) and
//! [`dispatch_times`](Context::dispatch_times) are histograms that are always on, and
//! [`last_stall`](Context::last_stall) names the callback that held the loop for too long. The log has births and ends at
//! `debug`, frames at `trace`, what deserves a look at `warn`, at most one line a second of each kind, and never a payload.
//! A panic in a handler goes through by default; [`OnPanic::Isolate`] has it cost one connection. `docs/debugging.md` leads from
//! symptoms to causes. With the feature `metrics`, the module `metrics` has all the numbers for Prometheus, of one reactor or of
//! a pool.
//!
//! # Tests
//!
//! With the feature `sim`, for `dev-dependencies`, a reactor runs in a simulated world: an in-memory network and a virtual clock,
//! one thread, no sleeping, everything that can go wrong drawn from a seed. `docs/testing.md` tests a handler in ten lines.
//!
//! # In a loop of your own
//!
//! [`Reactor::turn`] takes one turn, [`next_timeout`](Reactor::next_timeout) says how long the next may be put off, and on
//! Unix the reactor has a descriptor (`AsFd`) to wait for.
//!
//! ```
//! use mainspring::{ConnId, Context, Handler, Reactor, codec::LengthPrefixed};
//! use std::time::Duration;
//!
//! struct Quiet;
//!
//! impl Handler for Quiet {
//!     type Codec = LengthPrefixed;
//!     type Session = ();
//!     fn on_message(&mut self, _: &mut Context<Self>, _: ConnId, _: &[u8]) {}
//! }
//!
//! let mut reactor = Reactor::new(Quiet)?;
//! reactor.listen("127.0.0.1:0", LengthPrefixed::default())?;
//! for frame_of_the_game in 0..3 {
//!     reactor.turn(Some(Duration::ZERO))?;
//!     // .. draw, and come back ..
//! }
//! # Ok::<(), mainspring::Error>(())
//! ```
//!
//! # What it does not do
//!
//! It runs handlers on one thread: work that takes milliseconds belongs to a [pool](workers). It does not look up inside the loop
//! what is listened on ([`resolve`] blocks).

#![forbid(unsafe_code)]

// In reading order: what the user writes, the loop, and then what the loop is made of.
mod handler;
mod reactor;

mod connection;

pub mod codec;

mod buffer;
mod time;

mod handle;
mod net;

pub mod client;
#[cfg(feature = "metrics")]
pub mod metrics;
pub mod pool;
#[cfg(feature = "proxy-protocol")]
pub mod proxy_protocol;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(feature = "tls")]
pub mod tls;
pub mod workers;

mod address;
mod dial;
mod error;
mod histogram;
mod id;
mod limits;
mod stats;

#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;

pub use address::{Address, AddressError};
pub use connection::{CloseReason, Overflow};
pub use dial::Dial;
pub use error::{AttemptError, DialError, Error, FailedAttempt};
pub use handle::{Handle, HandleError};
pub use handler::{Admission, HalfClose, Handler, Message, Outgoing, Owned, Timer};
pub use histogram::Histogram;
pub use id::{ConnId, ListenerId, TimerId};
pub use limits::Limits;
#[cfg(feature = "credentials")]
pub use net::Credentials;
pub use net::{AnyListener, AnyStream, Keepalive, ListenOptions, SocketOptions, ToAddresses, resolve};
pub use reactor::{
    Broadcast, Builder, Callback, Context, Detached, Direction, DropReason, Envelope, Flow, Listening,
    OnPanic, RateGroup, Reactor, Sent, Served, ShutdownReport, Stall, To, serve,
};
pub use stats::Stats;
pub use time::{Rate, Reconnect};

/// The fragments of the pages, compiled and run with the other documentation tests.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/from-select.md")]
    struct FromSelect;
    #[doc = include_str!("../docs/debugging.md")]
    struct Debugging;
    #[cfg(unix)]
    #[doc = include_str!("../docs/unix.md")]
    struct Unix;
    #[doc = include_str!("../docs/kv.md")]
    struct Kv;
    #[cfg(feature = "tls")]
    #[doc = include_str!("../docs/tls.md")]
    struct Tls;
    #[cfg(feature = "sim")]
    #[doc = include_str!("../docs/testing.md")]
    struct Testing;
}
