//! A connected, or connecting, socket.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use mio::{Interest, Registry, Token};
use socket2::SockRef;

use super::{AnyStream, SocketOptions, write_slices};
use crate::address::Address;

/// Once, for both directions: nothing is re-registered on the hot path. Urgent data cuts a read short with no further event, so
/// that a short read is not trusted when it was there; that it was needs the interest.
#[cfg(any(target_os = "linux", target_os = "android"))]
const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE).add(Interest::PRIORITY);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// A non-blocking stream: a closed set of kinds, so that users write no type parameter.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(mio::net::TcpStream),
    #[cfg(unix)]
    Unix(mio::net::UnixStream),
    /// Its reads and writes are in `io.rs`, as TLS judges them itself.
    #[cfg(feature = "tls")]
    Tls(Box<super::tls::TlsStream>),
    /// The stream of a dial that has no answer yet.
    Nothing,
    #[cfg(any(test, feature = "sim"))]
    Mem(super::mem::MemStream),
}

/// What has become of a connect.
#[derive(Debug)]
pub(crate) enum Dialed {
    /// Nothing yet; an event will tell.
    Pending,
    /// Connected.
    Open,
    /// Connected to itself.
    Itself,
    /// It failed.
    Failed(io::Error),
}

impl Stream {
    /// Begins to connect. The answer comes with an event, see [`dialed`](Stream::dialed).
    pub(crate) fn dial(address: &Address, options: &SocketOptions) -> io::Result<Stream> {
        match address {
            Address::Ip(address) => {
                let stream = mio::net::TcpStream::connect(*address)?;
                options.apply(&SockRef::from(&stream), address.is_ipv6(), true)?;
                Ok(Stream::Tcp(stream))
            }
            #[cfg(unix)]
            Address::Unix(path) => {
                let socket = super::unix::dial(path, options)?;
                Ok(Stream::Unix(mio::net::UnixStream::from_std(socket.into())))
            }
            #[cfg(not(unix))]
            Address::Unix(_) => super::no_unix_sockets(),
        }
    }

    /// The one judge of a connect, after an event has come: an error is the verdict, else the peer's address is. The
    /// system may answer that it is not connected while it still tries.
    pub(crate) fn dialed(&mut self) -> Dialed {
        let answer = match self.take_error() {
            Ok(None) => self.peer_address(),
            Ok(Some(error)) | Err(error) => return Dialed::Failed(error),
        };
        match answer {
            Ok(peer) => match self.local_address() {
                // A connect to a dead port of one's own machine can meet itself, and would hold the port for ever; closed
                // in order, it would still hold it in TIME_WAIT.
                // Of Unix sockets, two without a name are not the same one.
                Ok(local) if local == peer && peer.ip().is_some() => {
                    self.reset_on_close();
                    Dialed::Itself
                }
                Ok(_) => Dialed::Open,
                Err(error) => Dialed::Failed(error),
            },
            Err(error) => match error.kind() {
                io::ErrorKind::NotConnected | io::ErrorKind::InvalidInput => Dialed::Pending,
                _ => Dialed::Failed(error),
            },
        }
    }

    /// Takes in a socket made elsewhere.
    pub(crate) fn from_std(stream: AnyStream, options: &SocketOptions) -> io::Result<Stream> {
        stream.set_nonblocking(true)?;
        stream.peer_addr()?;
        stream.apply(options)?;
        Ok(match stream {
            AnyStream::Tcp(stream) => Stream::Tcp(mio::net::TcpStream::from_std(stream)),
            #[cfg(unix)]
            AnyStream::Unix(stream) => Stream::Unix(mio::net::UnixStream::from_std(stream)),
        })
    }

    /// Hands the socket out, still non-blocking. `None` for a stream that is no socket.
    pub(crate) fn into_std(self) -> Option<AnyStream> {
        match self {
            Stream::Tcp(stream) => Some(AnyStream::Tcp(stream.into())),
            #[cfg(unix)]
            Stream::Unix(stream) => Some(AnyStream::Unix(stream.into())),
            #[cfg(feature = "tls")]
            Stream::Tls(_) => None,
            Stream::Nothing => None,
            #[cfg(any(test, feature = "sim"))]
            Stream::Mem(_) => None,
        }
    }

    #[inline]
    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(into),
            #[cfg(unix)]
            Stream::Unix(stream) => stream.read(into),
            #[cfg(feature = "tls")]
            Stream::Tls(_) => Err(not_here()),
            Stream::Nothing => Err(nothing()),
            #[cfg(any(test, feature = "sim"))]
            Stream::Mem(stream) => stream.read(into),
        }
    }

    #[inline]
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            #[cfg(unix)]
            Stream::Unix(stream) => {
                let stream = &*stream;
                stream.try_io(|| super::write_bytes(SockRef::from(stream), bytes))
            }
            #[cfg(feature = "tls")]
            Stream::Tls(_) => Err(not_here()),
            Stream::Nothing => Err(nothing()),
            #[cfg(any(test, feature = "sim"))]
            Stream::Mem(stream) => stream.write(bytes),
        }
    }

    pub(super) fn write_slices(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => {
                let stream = &*stream;
                stream.try_io(|| write_slices(SockRef::from(stream), slices))
            }
            #[cfg(unix)]
            Stream::Unix(stream) => {
                let stream = &*stream;
                stream.try_io(|| write_slices(SockRef::from(stream), slices))
            }
            #[cfg(feature = "tls")]
            Stream::Tls(_) => Err(not_here()),
            Stream::Nothing => Err(nothing()),
            #[cfg(any(test, feature = "sim"))]
            Stream::Mem(stream) => stream.write_slices(slices),
        }
    }

    /// Whether a short read or write of this kind of stream can mean that it is drained or full. The in-memory one cuts
    /// where a test wants it to.
    #[inline]
    pub(super) fn is_short_when_drained(&self) -> bool {
        match self {
            Stream::Tcp(_) | Stream::Nothing => true,
            // A descriptor that the peer has sent along cuts a read short, and no event comes for what is behind it.
            #[cfg(unix)]
            Stream::Unix(_) => false,
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.inner().is_short_when_drained(),
            #[cfg(any(test, feature = "sim"))]
            Stream::Mem(stream) => stream.is_whole(),
        }
    }

    /// Whether what the peer has sent is still there when it is gone, and comes before what has ended it. A Unix socket's
    /// hang-up says that nothing can be sent any more, and no more than that.
    #[inline]
    pub(crate) fn keeps_input_when_cut(&self) -> bool {
        match self {
            Stream::Tcp(_) | Stream::Nothing => false,
            #[cfg(unix)]
            Stream::Unix(_) => true,
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.inner().keeps_input_when_cut(),
            #[cfg(any(test, feature = "sim"))]
            Stream::Mem(_) => false,
        }
    }

    /// Ends our side: a FIN behind everything written.
    pub(crate) fn shut_down_writing(&mut self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            #[cfg(unix)]
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.shut_down_writing(),
            Stream::Nothing => Err(nothing()),
            #[cfg(any(test, feature = "sim"))]
            Stream::Mem(stream) => stream.shut_down_writing(),
        }
    }

    /// Makes the closing that follows a reset, where there is such a thing: a Unix socket has none.
    pub(crate) fn reset_on_close(&mut self) {
        match self {
            // A failure leaves a close in order, which is no worse.
            Stream::Tcp(stream) => drop(SockRef::from(&*stream).set_linger(Some(Duration::ZERO))),
            #[cfg(unix)]
            Stream::Unix(_) => {}
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.inner_mut().reset_on_close(),
            Stream::Nothing => {}
            #[cfg(any(test, feature = "sim"))]
            Stream::Mem(stream) => stream.reset_on_close(),
        }
    }

    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self {
            Stream::Tcp(stream) => stream.take_error(),
            #[cfg(unix)]
            Stream::Unix(stream) => stream.take_error(),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.inner().take_error(),
            Stream::Nothing => Ok(Some(nothing())),
            #[cfg(any(test, feature = "sim"))]
            Stream::Mem(stream) => Ok(stream.take_error()),
        }
    }

    pub(crate) fn peer_address(&self) -> io::Result<Address> {
        match self {
            Stream::Tcp(stream) => stream.peer_addr().map(Address::Ip),
            #[cfg(unix)]
            Stream::Unix(stream) => stream.peer_addr().map(|name| super::unix::address(&name)),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.inner().peer_address(),
            Stream::Nothing => Err(nothing()),
            #[cfg(any(test, feature = "sim"))]
            Stream::Mem(stream) => stream.dialed_address(),
        }
    }

    pub(crate) fn local_address(&self) -> io::Result<Address> {
        match self {
            Stream::Tcp(stream) => stream.local_addr().map(Address::Ip),
            #[cfg(unix)]
            Stream::Unix(stream) => stream.local_addr().map(|name| super::unix::address(&name)),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.inner().local_address(),
            Stream::Nothing => Err(nothing()),
            #[cfg(any(test, feature = "sim"))]
            Stream::Mem(stream) => Ok(stream.local_address()),
        }
    }

    pub(crate) fn apply(&mut self, options: &SocketOptions) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => {
                let ipv6 = stream.local_addr()?.is_ipv6();
                options.apply(&SockRef::from(&*stream), ipv6, false)
            }
            #[cfg(unix)]
            Stream::Unix(stream) => options.apply_unix(&SockRef::from(&*stream)),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.inner_mut().apply(options),
            Stream::Nothing => Err(nothing()),
            #[cfg(any(test, feature = "sim"))]
            Stream::Mem(_) => Ok(()),
        }
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => registry.register(stream, token, INTEREST),
            #[cfg(unix)]
            Stream::Unix(stream) => registry.register(stream, token, INTEREST),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.inner_mut().register(registry, token),
            Stream::Nothing => Err(nothing()),
            #[cfg(any(test, feature = "sim"))]
            Stream::Mem(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Gives it another token. What it is ready for is told once more.
    pub(super) fn rename(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => registry.reregister(stream, token, INTEREST),
            #[cfg(unix)]
            Stream::Unix(stream) => registry.reregister(stream, token, INTEREST),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.inner_mut().rename(registry, token),
            Stream::Nothing => Err(nothing()),
            #[cfg(any(test, feature = "sim"))]
            Stream::Mem(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    pub(super) fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => registry.deregister(stream),
            #[cfg(unix)]
            Stream::Unix(stream) => registry.deregister(stream),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.inner_mut().deregister(registry),
            Stream::Nothing => Ok(()),
            #[cfg(any(test, feature = "sim"))]
            Stream::Mem(_) => Ok(()),
        }
    }
}

#[cfg(feature = "tls")]
fn not_here() -> io::Error {
    io::ErrorKind::Unsupported.into()
}

fn nothing() -> io::Error {
    io::ErrorKind::NotConnected.into()
}
