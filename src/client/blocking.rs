//! A connection whose calls wait: one thread, one message at a time.

use std::fmt;
use std::io;
use std::net::Shutdown;
use std::time::Duration;

use super::builder::Builder;
use super::connect::Target;
use super::error::{Error, Step, again};
use super::incoming::Incoming;
use super::outgoing::{Outgoing, Unsent};
use super::wire::{Patience, Received, Stop, Tcp, receive};
use crate::address::Address;
use crate::codec::{Codec, EncodeError, FrameError, Output};
use crate::net::SocketOptions;

/// A connection to a server, whose calls block until they are done or their time is up.
///
/// It speaks the same framings as the reactor, through the same [`Codec`]s.
///
/// ```
/// use mainspring::client::Client;
/// use mainspring::codec::LengthPrefixed;
/// # use std::io::{Read, Write};
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let address = listener.local_addr()?;
/// # std::thread::spawn(move || -> std::io::Result<()> {
/// #     let (mut stream, _) = listener.accept()?;
/// #     let mut bytes = Vec::new();
/// #     stream.read_to_end(&mut bytes)?;
/// #     stream.write_all(&bytes)
/// # });
///
/// let mut client = Client::connect(address, LengthPrefixed::default())?;
/// client.send(b"hello")?;
/// client.send(b"")?;
/// client.shut_down_writing()?; // nothing more from us; the answers still come
/// assert_eq!(client.recv()?, Some(&b"hello"[..]));
/// assert_eq!(client.recv()?, Some(&b""[..])); // an empty message is a message
/// assert_eq!(client.recv()?, None); // and this is the end
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// **Time limits** hold for a whole call, however the bytes come: a peer that sends one byte a second does not get a new
/// limit for each. A [`recv`](Client::recv) that runs out of time loses nothing; the next one goes on. A
/// [`send`](Client::send) that does so either sent nothing, or keeps the rest of the message to be sent first the next time:
/// [`Error::is_kept`] says which. So the stream stays whole, and nobody has to connect anew because a peer was slow.
///
/// **Both sides sending.** While `send` waits nothing is received. Two ends that both send much without receiving wait for
/// each other, until a time limit ends it. A [`Channel`](super::Channel) receives on a thread of its own.
///
/// **Dropping** a client closes it at once. When something was not received, the system answers with a reset, and what
/// was sent last may not arrive: [`close`](Client::close) is the way that waits.
pub struct Client<C: Codec> {
    pub(super) tcp: Tcp,
    pub(super) peer: Address,
    pub(super) codec: C,
    pub(super) incoming: Incoming,
    pub(super) outgoing: Outgoing,
    /// The peer has ended its side.
    pub(super) ended: bool,
    /// This side was ended.
    pub(super) finished: bool,
    /// The peer broke the framing: said to each who asks.
    pub(super) bad_frame: Option<FrameError>,
    /// The connection is broken. The system tells it once, and calls what follows an end in order.
    pub(super) broken: Option<io::Error>,
    read_timeout: Option<Duration>,
    pub(super) write_timeout: Option<Duration>,
}

/// What [`Client::try_recv`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryRecv<M> {
    /// A message.
    Message(M),
    /// No whole message has come yet.
    NotYet,
    /// The peer has ended its side, and all its messages were received.
    End,
}

/// What waiting for a frame brought.
enum Awaited {
    /// A frame of so many bytes is at the front.
    Frame(usize),
    /// Time is up.
    Nothing,
    End,
}

impl<C: Codec> Client<C> {
    /// Connects with the defaults of a [`Builder`]: within 10 seconds, and no limit for sending and receiving.
    ///
    /// # Errors
    /// As [`Builder::connect`].
    pub fn connect(target: impl Into<Target>, codec: C) -> Result<Client<C>, Error> {
        Builder::new().connect(target, codec)
    }

    pub(super) fn new(
        tcp: Tcp,
        peer: Address,
        codec: C,
        read_timeout: Option<Duration>,
        write_timeout: Option<Duration>,
    ) -> Client<C> {
        Client {
            tcp,
            peer,
            codec,
            incoming: Incoming::default(),
            outgoing: Outgoing::default(),
            ended: false,
            finished: false,
            bad_frame: None,
            broken: None,
            read_timeout,
            write_timeout,
        }
    }

    // ---- receiving -------------------------------------------------------------------------------------------------

    /// Waits for the next message, and lends it until the next call. `None` is the end: the peer has ended its side, and all
    /// its messages were received. An empty message is a message.
    ///
    /// # Errors
    /// - [`Step::Receive`] with [`is_timeout`](Error::is_timeout): no whole message within the read timeout. What has come
    ///   of one is kept, and the next call goes on.
    /// - [`Step::Receive`] otherwise: the connection is broken. Messages that came before were delivered.
    /// - [`Step::Frame`]: the peer broke the framing, or ended inside a frame. Every later call says so again.
    pub fn recv(&mut self) -> Result<Option<C::Message<'_>>, Error> {
        let mut patience = Patience::new(self.read_timeout);
        match self.wait_for_frame(&mut patience)? {
            Awaited::Frame(len) => self.parse(len, &patience).map(Some),
            Awaited::End => Ok(None),
            Awaited::Nothing => Err(self.receive_failed(&patience, io::ErrorKind::TimedOut.into())),
        }
    }

    /// As [`recv`](Client::recv), and gives the message to `take` instead of lending it: for a result that is free of
    /// the client.
    ///
    /// # Errors
    /// As [`recv`](Client::recv).
    pub fn recv_with<R>(&mut self, take: impl FnOnce(C::Message<'_>) -> R) -> Result<Option<R>, Error> {
        self.recv().map(|message| message.map(take))
    }

    /// Looks for the next message without waiting.
    ///
    /// # Errors
    /// As [`recv`](Client::recv), but for running out of time.
    pub fn try_recv(&mut self) -> Result<TryRecv<C::Message<'_>>, Error> {
        let mut patience = Patience::new(Some(Duration::ZERO));
        match self.wait_for_frame(&mut patience)? {
            Awaited::Frame(len) => self.parse(len, &patience).map(TryRecv::Message),
            Awaited::End => Ok(TryRecv::End),
            Awaited::Nothing => Ok(TryRecv::NotYet),
        }
    }

    fn wait_for_frame(&mut self, patience: &mut Patience) -> Result<Awaited, Error> {
        loop {
            if let Some(error) = self.bad_frame {
                return Err(Error::frame(&self.peer, patience.elapsed(), error));
            }
            let found = if self.ended {
                self.incoming.last_frame(&mut self.codec)
            } else {
                self.incoming.next_frame(&mut self.codec)
            };
            match found {
                Ok(Some(len)) => return Ok(Awaited::Frame(len)),
                Ok(None) if self.ended => return Ok(Awaited::End),
                Ok(None) => {}
                Err(error) => {
                    self.bad_frame = Some(error);
                    continue;
                }
            }
            match receive(&mut self.tcp, self.incoming.room(), patience) {
                Received::Some(n) => self.incoming.filled(n),
                Received::Nothing => return Ok(Awaited::Nothing),
                Received::End => match &self.broken {
                    None => self.ended = true,
                    Some(error) => return Err(self.receive_failed(patience, again(error))),
                },
                Received::Failed(error) => {
                    self.broken = Some(again(&error));
                    return Err(self.receive_failed(patience, error));
                }
            }
        }
    }

    fn parse(&mut self, len: usize, patience: &Patience) -> Result<C::Message<'_>, Error> {
        let offset = self.incoming.offset();
        let parsed = self.codec.parse(self.incoming.take(len));
        parsed.map_err(|error| {
            let error = error.at(offset);
            self.bad_frame = Some(error);
            Error::frame(&self.peer, patience.elapsed(), error)
        })
    }

    fn receive_failed(&self, patience: &Patience, error: io::Error) -> Error {
        Error::io(Step::Receive, &self.peer, patience.elapsed(), error)
    }

    // ---- sending ---------------------------------------------------------------------------------------------------

    /// Sends one message: waits until the system has taken all of it. A large payload goes from where it is, without being
    /// copied first.
    ///
    /// # Errors
    /// All at [`Step::Send`]:
    /// - [`encode_error`](Error::encode_error): the framing cannot say this message. Nothing was sent.
    /// - [`is_timeout`](Error::is_timeout): not all was taken within the write timeout. When
    ///   [`is_kept`](Error::is_kept), a part of the message has gone, and the rest goes out first, with the next `send`, or
    ///   by [`flush`](Client::flush); otherwise nothing of it was sent. A client holds at most one such rest: a message
    ///   behind it is refused while it does not move.
    /// - [`io::ErrorKind::NotConnected`]: this side was ended.
    /// - otherwise the connection is broken.
    pub fn send(&mut self, message: C::Outgoing<'_>) -> Result<(), Error> {
        self.send_encoded(|codec, out| codec.encode(message, out))
    }

    /// As [`send`](Client::send), for an owned message.
    ///
    /// # Errors
    /// As [`send`](Client::send).
    pub fn send_owned(&mut self, message: &C::Owned) -> Result<(), Error> {
        self.send_encoded(|codec, out| codec.encode_owned(message, out))
    }

    fn send_encoded<'m, F>(&mut self, encode: F) -> Result<(), Error>
    where
        F: FnOnce(&mut C, &mut Output<'_, 'm>) -> Result<(), EncodeError>,
    {
        let mut patience = Patience::new(self.write_timeout);
        if self.finished {
            // The system's answer would be that of a connection that is broken.
            let error = io::Error::new(io::ErrorKind::NotConnected, "this side was ended");
            return Err(Error::io(Step::Send, &self.peer, patience.elapsed(), error));
        }
        match self.outgoing.send(&mut self.tcp, &mut patience, &mut self.codec, encode) {
            Ok(()) => Ok(()),
            Err(Unsent::Refused(error)) => Err(Error::encode(&self.peer, error)),
            Err(Unsent::Stopped { kept, stop }) => Err(self.send_failed(&patience, kept, stop)),
        }
    }

    /// Sends the rest of a message that had run out of time; nothing if there is none.
    ///
    /// # Errors
    /// As [`send`](Client::send).
    pub fn flush(&mut self) -> Result<(), Error> {
        let mut patience = Patience::new(self.write_timeout);
        let flushed = self.outgoing.flush(&mut self.tcp, &mut patience);
        flushed.map_err(|stop| self.send_failed(&patience, false, stop))
    }

    /// How many bytes of a message that had run out of time are still to be sent.
    pub fn unsent(&self) -> usize {
        self.outgoing.rest().len()
    }

    fn send_failed(&mut self, patience: &Patience, kept: bool, stop: Stop) -> Error {
        let error = match stop {
            Stop::TimedOut if kept => {
                return Error::kept(&self.peer, patience.elapsed(), io::ErrorKind::TimedOut.into());
            }
            Stop::TimedOut => io::ErrorKind::TimedOut.into(),
            Stop::Failed(error) => {
                self.broken.get_or_insert_with(|| again(&error));
                error
            }
        };
        Error::io(Step::Send, &self.peer, patience.elapsed(), error)
    }

    // ---- the end ---------------------------------------------------------------------------------------------------

    /// Ends this side, behind everything sent: the peer sees the end, and can still answer. Later sends fail. To end it
    /// twice is no error.
    ///
    /// # Errors
    /// As [`flush`](Client::flush), which it begins with.
    pub fn shut_down_writing(&mut self) -> Result<(), Error> {
        self.flush()?;
        if self.finished {
            return Ok(());
        }
        let mut patience = Patience::new(self.write_timeout.or(Some(LINGER_TIMEOUT)));
        let ended = match &self.broken {
            Some(error) => Err(again(error)),
            None => {
                self.tcp.say_goodbye(&mut patience).and_then(|()| self.tcp.stream().shutdown(Shutdown::Write))
            }
        };
        match ended {
            Ok(()) => {
                self.finished = true;
                Ok(())
            }
            Err(error) => Err(self.send_failed(&patience, false, Stop::Failed(error))),
        }
    }

    /// Closes the connection in order: sends what is left, ends this side, and drops what still comes until the peer has
    /// ended its side too, for at most a second and 16 MiB. So no reset destroys what was sent last.
    ///
    /// # Errors
    /// Not everything could be sent within the write timeout, or the connection is broken: what was sent last may not have
    /// been received. It is closed all the same.
    pub fn close(mut self) -> Result<(), Error> {
        self.shut_down_writing()?;
        let mut patience = Patience::new(Some(LINGER_TIMEOUT));
        let mut left = LINGER_BYTES;
        let mut dropped = vec![0; 16 * 1024];
        while left > 0 && !self.ended {
            match receive(&mut self.tcp, &mut dropped, &mut patience) {
                Received::Some(n) => left = left.saturating_sub(n),
                Received::Nothing | Received::End => break,
                Received::Failed(error) => {
                    return Err(self.send_failed(&patience, false, Stop::Failed(error)));
                }
            }
        }
        Ok(())
    }

    /// Whether the connection still stands, as far as can be known here: false once the peer has ended its side or the
    /// connection is broken. Waits for nothing and consumes nothing: what has come can still be received, and while it is
    /// not, an end behind it is not seen. A peer that vanished without a word is not seen either, until something is sent.
    pub fn is_open(&mut self) -> bool {
        if self.ended || self.broken.is_some() {
            return false;
        }
        loop {
            match self.tcp.look() {
                Ok(open) => return open,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) => {
                    // The system says it once.
                    self.broken = Some(error);
                    return false;
                }
            }
        }
    }

    // ---- settings --------------------------------------------------------------------------------------------------

    /// How long one [`recv`](Client::recv) may take from now on, see [`Builder::read_timeout`].
    pub fn set_read_timeout(&mut self, limit: Option<Duration>) {
        self.read_timeout = limit;
    }

    /// How long one [`send`](Client::send) may take from now on, see [`Builder::write_timeout`].
    pub fn set_write_timeout(&mut self, limit: Option<Duration>) {
        self.write_timeout = limit;
    }

    /// Sets options of the socket; those that are not given go back to the system's defaults where that can be done.
    ///
    /// # Errors
    /// What the system says. Options before the one that failed are set.
    pub fn set_options(&self, options: &SocketOptions) -> io::Result<()> {
        self.tcp.stream().apply(options)
    }

    /// The codec.
    pub fn codec(&self) -> &C {
        &self.codec
    }

    /// Changes the framing, from the next byte to be received and the next message to be sent on. What was already read is
    /// kept.
    pub fn set_codec(&mut self, codec: C) {
        self.codec = codec;
        self.incoming.forget_need();
    }

    /// What was agreed by TLS, given to `look`: the version, the protocol (ALPN), the server's certificates. `None` without TLS.
    #[cfg(feature = "tls")]
    pub fn tls<R>(&self, look: impl FnOnce(crate::tls::TlsInfo<'_>) -> R) -> Option<R> {
        self.tcp.tls().map(|tls| look(tls.session().info()))
    }

    /// The peer's address.
    pub fn peer_addr(&self) -> &Address {
        &self.peer
    }

    /// This side's address.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<Address> {
        self.tcp.stream().local_addr()
    }
}

/// As the reactor's limits: some round trips of any line.
pub(super) const LINGER_TIMEOUT: Duration = Duration::from_secs(1);
/// As the reactor's limits: more than the kernel's buffers of one connection.
pub(super) const LINGER_BYTES: usize = 16 * 1024 * 1024;

impl<C: Codec> fmt::Debug for Client<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("peer", &self.peer)
            .field("ended", &self.ended)
            .field("unsent", &self.unsent())
            .finish_non_exhaustive()
    }
}
