//! A connection with a receiving thread and a callback, sent to from any thread.
//!
//! Two threads of its own: one receives and calls back, one writes what is queued. What they and all senders share is in
//! `shared`; each way to the socket has its file.

mod receiving;
mod sender;
mod shared;
mod writing;

use std::fmt;
use std::io;
use std::panic;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub use sender::Sender;

use super::blocking::Client;
use super::error::{Error, Step};
use crate::address::Address;
use crate::codec::Codec;
use receiving::Receiving;
use shared::Shared;

/// What a channel's callback is told.
pub enum Event<'a, C: Codec> {
    /// A message, lent until the callback returns. An empty one is a message.
    Message(C::Message<'a>),
    /// Nothing more will come, and why. Told once, and last.
    Ended(Ended),
}

/// Why nothing more will come.
#[derive(Debug)]
#[non_exhaustive]
pub enum Ended {
    /// The peer has ended its side, in order. It can still be sent to, until the channel is closed.
    Peer,
    /// The channel was closed or aborted here.
    Closed,
    /// The connection broke, the peer broke the framing or ended inside a frame. The channel closes by itself.
    Lost(Error),
}

/// Options of a channel, see [`Channel::with_options`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelOptions {
    /// While more than so many bytes wait to be written, senders wait. It judges what waits before a message, so that a
    /// longer one can pass. Defaults to 1 MiB, enough to keep a fast network busy while the senders do something else.
    pub queue_max: usize,
    /// A close waits for so long for what is queued to be written. Defaults to 5 s, because a program that ends should end.
    pub close_timeout: Duration,
}

impl Default for ChannelOptions {
    fn default() -> ChannelOptions {
        ChannelOptions { queue_max: 1024 * 1024, close_timeout: Duration::from_secs(5) }
    }
}

/// A connection that receives on a thread of its own, and is sent to from any thread.
///
/// ```
/// use mainspring::client::{Channel, Client, Event};
/// use mainspring::codec::LengthPrefixed;
/// use std::sync::mpsc;
/// # use std::io::{Read, Write};
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let address = listener.local_addr()?;
/// # std::thread::spawn(move || -> std::io::Result<()> {
/// #     let (mut stream, _) = listener.accept()?;
/// #     std::io::copy(&mut stream.try_clone()?, &mut stream).map(drop)
/// # });
///
/// let (answers, answer) = mpsc::channel();
/// let client = Client::connect(address, LengthPrefixed::default())?;
/// let channel = Channel::new(client, move |_, event| match event {
///     Event::Message(message) => drop(answers.send(message.to_vec())),
///     Event::Ended(why) => println!("ended: {why:?}"),
/// })?;
/// let sender = channel.sender().clone();
/// std::thread::spawn(move || sender.send(b"from another thread"));
/// assert_eq!(answer.recv()?, b"from another thread");
/// channel.close()?; // what is queued goes out, and the callback is not called any more
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// **Receiving** never waits for sending: the callback gets messages also while the peer does not read, and what the callback
/// itself sends is only queued. The callback runs on the receiving thread, one call at a time. While it runs nothing is
/// received, and the peer has to wait.
///
/// **Sending** is ordered: what one thread sends arrives in its order, and no message lies inside another. A message for which
/// there is nothing to wait behind is written by its sender, from where it is; others are queued, see [`Sender::send`].
///
/// **The end.** [`close`](Channel::close) and dropping do the same: what is queued is written, this side is ended, what
/// still comes is dropped until the peer ends too, for at most a second, and the threads are joined. All of that is bounded
/// in time but for a callback that does not return. On the callback's own thread, where it would wait for itself, it is
/// begun, and happens once the callback has returned. [`abort`](Channel::abort) waits for nothing.
///
/// **A panic of the callback** ends the connection, and goes on in [`close`](Channel::close).
///
/// The codec of the client is cloned: receiving and sending each have their own. The client's write timeout is how long
/// a send may wait. Its read timeout does not apply, because a silent peer is no error here.
pub struct Channel<C: Codec + Send + 'static> {
    sender: Sender<C>,
    threads: Vec<JoinHandle<()>>,
}

impl<C: Codec + Send + 'static> Channel<C> {
    /// Starts receiving, with the default options.
    ///
    /// # Errors
    /// At [`Step::Connect`]: no thread can be started.
    pub fn new<F>(client: Client<C>, callback: F) -> Result<Channel<C>, Error>
    where
        F: FnMut(&Sender<C>, Event<'_, C>) + Send + 'static,
    {
        Channel::with_options(client, ChannelOptions::default(), callback)
    }

    /// Starts receiving. What the client has read and not delivered is delivered first, and the rest of a message that ran
    /// out of time is sent first.
    ///
    /// # Errors
    /// At [`Step::Connect`]: no thread can be started.
    pub fn with_options<F>(
        client: Client<C>,
        options: ChannelOptions,
        callback: F,
    ) -> Result<Channel<C>, Error>
    where
        F: FnMut(&Sender<C>, Event<'_, C>) + Send + 'static,
    {
        let peer = client.peer_addr().clone();
        let failed = |error: io::Error| Error::io(Step::Connect, &peer, Duration::ZERO, error);
        let halves = client.into_halves().map_err(failed)?;
        let shared = Arc::new(Shared::new(peer.clone(), options, halves.writing));
        let receiving = Receiving::new(Sender::new(Arc::clone(&shared)), halves.reading, Box::new(callback));
        let mut channel = Channel { sender: Sender::new(Arc::clone(&shared)), threads: Vec::new() };
        // Should the second thread not start, the channel is dropped, and the first one ends.
        let writing = move || writing::run(&shared);
        channel.start("mainspring-send", writing).map_err(failed)?;
        channel.start("mainspring-receive", move || receiving.run()).map_err(|error| {
            channel.sender.shared.receiving_is_over();
            failed(error)
        })?;
        Ok(channel)
    }

    fn start(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.threads.push(thread::Builder::new().name(name.to_owned()).spawn(run)?);
        Ok(())
    }

    /// What other threads send with. It can be cloned, and outlive the channel: then it answers errors.
    pub fn sender(&self) -> &Sender<C> {
        &self.sender
    }

    /// As [`Sender::send`].
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub fn send(&self, message: C::Outgoing<'_>) -> Result<(), Error> {
        self.sender.send(message)
    }

    /// As [`Sender::send_owned`].
    ///
    /// # Errors
    /// As [`Sender::send_owned`].
    pub fn send_owned(&self, message: &C::Owned) -> Result<(), Error> {
        self.sender.send_owned(message)
    }

    /// Ends this side once what is queued is written: the peer sees the end, and can still answer. Receiving goes on until
    /// the peer ends its side too. Waits for nothing; later sends fail.
    pub fn shut_down_writing(&self) {
        self.sender.shared.finish();
    }

    /// Closes in order, see the type, and waits until that is done. The callback has been told the end by then, and is
    /// not called again.
    ///
    /// # Errors
    /// At [`Step::Send`]: something that was queued could not be written, within
    /// [`close_timeout`](ChannelOptions::close_timeout) or at all.
    ///
    /// # Panics
    /// When the callback has panicked, its panic goes on here.
    pub fn close(mut self) -> Result<(), Error> {
        self.sender.close();
        if let Err(panic) = self.join() {
            panic::resume_unwind(panic);
        }
        self.sender.shared.loss().map_or(Ok(()), Err)
    }

    /// Closes at once, by a reset: what is queued is lost, and so may be what was sent. Joins the threads, as
    /// [`close`](Channel::close) does.
    pub fn abort(mut self) {
        self.sender.shared.abort();
        // A panic was told when it happened.
        drop(self.join());
    }

    /// Waits for the threads, unless this is one of them.
    fn join(&mut self) -> thread::Result<()> {
        if self.sender.shared.is_receiving_thread() {
            self.threads.clear();
        }
        self.threads.drain(..).map(JoinHandle::join).fold(Ok(()), Result::and)
    }

    /// The peer's address.
    pub fn peer_addr(&self) -> &Address {
        self.sender.peer_addr()
    }
}

impl<C: Codec + Send + 'static> Drop for Channel<C> {
    fn drop(&mut self) {
        self.sender.close();
        // A panic was told when it happened.
        drop(self.join());
    }
}

impl<C: Codec + Send + 'static> fmt::Debug for Channel<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("sender", &self.sender).finish_non_exhaustive()
    }
}

impl<'a, C: Codec> fmt::Debug for Event<'a, C>
where
    C::Message<'a>: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Message(message) => f.debug_tuple("Message").field(message).finish(),
            Event::Ended(why) => f.debug_tuple("Ended").field(why).finish(),
        }
    }
}
