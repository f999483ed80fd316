//! Sockets of the standard library, whichever their kind: what is taken in and handed out.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
#[cfg(unix)]
use std::os::fd::{AsFd, BorrowedFd};
#[cfg(unix)]
use std::os::unix::net::{UnixListener, UnixStream};
#[cfg(windows)]
use std::os::windows::io::{AsSocket, BorrowedSocket};
use std::time::Duration;

use super::SocketOptions;
use crate::address::Address;

/// A connected socket of the standard library, as [`Context::adopt`](crate::Context::adopt) takes it and
/// [`Detached`](crate::Detached) has it.
///
/// It can be read, written, and asked what both kinds can be asked. For all else: [`tcp`](AnyStream::tcp), a `match`, or its
/// descriptor (`AsFd`, on Windows `AsSocket`).
#[derive(Debug)]
#[non_exhaustive]
pub enum AnyStream {
    /// A TCP connection.
    Tcp(TcpStream),
    /// A Unix stream socket.
    #[cfg(unix)]
    Unix(UnixStream),
}

/// A listening socket of the standard library, as [`Context::adopt_listener`](crate::Context::adopt_listener) takes it.
#[derive(Debug)]
#[non_exhaustive]
pub enum AnyListener {
    /// A TCP listener.
    Tcp(TcpListener),
    /// A listener on a Unix socket. Its file is its maker's: it is never removed by who adopts it.
    #[cfg(unix)]
    Unix(UnixListener),
}

/// The same for each kind.
macro_rules! each {
    ($self:expr, $stream:ident => $what:expr) => {
        match $self {
            AnyStream::Tcp($stream) => $what,
            #[cfg(unix)]
            AnyStream::Unix($stream) => $what,
        }
    };
}

impl AnyStream {
    /// The TCP connection, if this is one.
    pub fn tcp(self) -> Option<TcpStream> {
        match self {
            AnyStream::Tcp(stream) => Some(stream),
            #[cfg(unix)]
            AnyStream::Unix(_) => None,
        }
    }

    /// The peer's address.
    ///
    /// # Errors
    /// It is not connected (any more).
    pub fn peer_addr(&self) -> io::Result<Address> {
        match self {
            AnyStream::Tcp(stream) => stream.peer_addr().map(Address::Ip),
            #[cfg(unix)]
            AnyStream::Unix(stream) => stream.peer_addr().map(|name| super::unix::address(&name)),
        }
    }

    /// This side's address.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<Address> {
        match self {
            AnyStream::Tcp(stream) => stream.local_addr().map(Address::Ip),
            #[cfg(unix)]
            AnyStream::Unix(stream) => stream.local_addr().map(|name| super::unix::address(&name)),
        }
    }

    /// Makes calls wait, or not.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        each!(self, stream => stream.set_nonblocking(nonblocking))
    }

    /// How long a read may wait; none means for ever.
    ///
    /// # Errors
    /// The time is zero, or what the system says.
    pub fn set_read_timeout(&self, time: Option<Duration>) -> io::Result<()> {
        each!(self, stream => stream.set_read_timeout(time))
    }

    /// How long a write may wait; none means for ever.
    ///
    /// # Errors
    /// The time is zero, or what the system says.
    pub fn set_write_timeout(&self, time: Option<Duration>) -> io::Result<()> {
        each!(self, stream => stream.set_write_timeout(time))
    }

    /// Ends one side of it, or both.
    ///
    /// # Errors
    /// What the system says.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        each!(self, stream => stream.shutdown(how))
    }

    /// Another descriptor of the same socket.
    ///
    /// # Errors
    /// There are no descriptors.
    pub fn try_clone(&self) -> io::Result<AnyStream> {
        match self {
            AnyStream::Tcp(stream) => stream.try_clone().map(AnyStream::Tcp),
            #[cfg(unix)]
            AnyStream::Unix(stream) => stream.try_clone().map(AnyStream::Unix),
        }
    }

    /// Sets options; those that its kind does not have are left out.
    pub(crate) fn apply(&self, options: &SocketOptions) -> io::Result<()> {
        match self {
            AnyStream::Tcp(stream) => {
                let ipv6 = stream.local_addr()?.is_ipv6();
                options.apply(&socket2::SockRef::from(stream), ipv6, false)
            }
            #[cfg(unix)]
            AnyStream::Unix(stream) => options.apply_unix(&socket2::SockRef::from(stream)),
        }
    }
}

impl From<TcpStream> for AnyStream {
    fn from(stream: TcpStream) -> AnyStream {
        AnyStream::Tcp(stream)
    }
}

#[cfg(unix)]
impl From<UnixStream> for AnyStream {
    fn from(stream: UnixStream) -> AnyStream {
        AnyStream::Unix(stream)
    }
}

impl From<TcpListener> for AnyListener {
    fn from(listener: TcpListener) -> AnyListener {
        AnyListener::Tcp(listener)
    }
}

#[cfg(unix)]
impl From<UnixListener> for AnyListener {
    fn from(listener: UnixListener) -> AnyListener {
        AnyListener::Unix(listener)
    }
}

impl Read for AnyStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        (&*self).read(into)
    }
}

impl Read for &AnyStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        each!(self, stream => { let mut stream = stream; stream.read(into) })
    }
}

impl Write for AnyStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for &AnyStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        each!(self, stream => { let mut stream = stream; stream.write(bytes) })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(unix)]
impl AsFd for AnyStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        each!(self, stream => stream.as_fd())
    }
}

#[cfg(windows)]
impl AsSocket for AnyStream {
    fn as_socket(&self) -> BorrowedSocket<'_> {
        each!(self, stream => stream.as_socket())
    }
}
