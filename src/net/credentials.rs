//! Who is at the other end of a Unix socket, as the system knows it.

use std::io;

use super::Stream;

/// The process at the other end of a Unix socket, as it was when it connected (or, for the end that was dialed, when the server
/// began to listen). The system vouches for it; the process may have ended or handed its socket on since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Credentials {
    /// The process, where the system tells and it is visible from here: Linux and Android; zero when it is in another
    /// namespace. For logs only: a number may be another process's by now.
    pub pid: Option<i32>,
    /// The user it acted for.
    pub uid: u32,
    /// The group it acted for.
    pub gid: u32,
}

impl Stream {
    /// Who the peer is.
    pub(crate) fn credentials(&self) -> io::Result<Credentials> {
        match self {
            #[cfg(unix)]
            Stream::Unix(stream) => ask(stream),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.inner().credentials(),
            Stream::Nothing => Err(io::ErrorKind::NotConnected.into()),
            _ => Err(io::Error::new(io::ErrorKind::Unsupported, "only a Unix socket's peer has credentials")),
        }
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn ask(stream: &mio::net::UnixStream) -> io::Result<Credentials> {
    use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
    let peer = getsockopt(stream, PeerCredentials)?;
    Ok(Credentials { pid: Some(peer.pid()), uid: peer.uid(), gid: peer.gid() })
}

#[cfg(any(target_vendor = "apple", target_os = "freebsd", target_os = "dragonfly"))]
fn ask(stream: &mio::net::UnixStream) -> io::Result<Credentials> {
    use nix::sys::socket::{getsockopt, sockopt::LocalPeerCred};
    let peer = getsockopt(stream, LocalPeerCred)?;
    let gid = *peer.groups().first().ok_or(io::ErrorKind::NotFound)?;
    Ok(Credentials { pid: None, uid: peer.uid(), gid })
}

#[cfg(all(
    unix,
    not(any(
        target_os = "linux",
        target_os = "android",
        target_vendor = "apple",
        target_os = "freebsd",
        target_os = "dragonfly"
    ))
))]
fn ask(_: &mio::net::UnixStream) -> io::Result<Credentials> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "nobody asks this system for its peers' credentials yet"))
}
