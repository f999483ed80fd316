//! From a name to a connected socket, within a time.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::error::{Attempt, Error, Step};
use super::wire::Patience;
use crate::address::Address;
use crate::net::{AnyStream, SocketOptions, resolve};

/// What can be connected to: a name or an address as text, an address, or several of them.
///
/// Made from `"localhost:7000"`, `"unix:/run/server.sock"`, `("localhost", 7000)`, a [`SocketAddr`], a path (a Unix socket), an
/// [`Address`], or a list of `SocketAddr`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target(Inner);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Inner {
    Name(String),
    Addresses(Vec<Address>),
}

#[cfg(feature = "tls")]
impl Target {
    /// The host's name, if it is connected to by one.
    pub(super) fn host(&self) -> Option<&str> {
        let Inner::Name(name) = &self.0 else { return None };
        if name.starts_with("unix:") {
            return None;
        }
        let (host, _) = name.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Some(host.strip_suffix('.').unwrap_or(host))
    }
}

impl From<&str> for Target {
    fn from(name: &str) -> Target {
        Target(Inner::Name(name.to_owned()))
    }
}

impl From<String> for Target {
    fn from(name: String) -> Target {
        Target(Inner::Name(name))
    }
}

impl From<&String> for Target {
    fn from(name: &String) -> Target {
        Target::from(name.as_str())
    }
}

impl From<(&str, u16)> for Target {
    fn from((host, port): (&str, u16)) -> Target {
        let bare_v6 = host.contains(':') && !host.starts_with('[');
        Target(Inner::Name(if bare_v6 { format!("[{host}]:{port}") } else { format!("{host}:{port}") }))
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Target {
        Target::from(Address::Ip(address))
    }
}

impl From<&Path> for Target {
    /// A Unix socket.
    fn from(path: &Path) -> Target {
        Target::from(Address::from(path))
    }
}

impl From<Address> for Target {
    fn from(address: Address) -> Target {
        Target(Inner::Addresses(vec![address]))
    }
}

impl From<&Address> for Target {
    fn from(address: &Address) -> Target {
        Target::from(address.clone())
    }
}

impl From<Vec<SocketAddr>> for Target {
    fn from(addresses: Vec<SocketAddr>) -> Target {
        Target::from(&*addresses)
    }
}

impl From<&[SocketAddr]> for Target {
    fn from(addresses: &[SocketAddr]) -> Target {
        Target(Inner::Addresses(addresses.iter().copied().map(Address::Ip).collect()))
    }
}

impl<const N: usize> From<[SocketAddr; N]> for Target {
    fn from(addresses: [SocketAddr; N]) -> Target {
        Target::from(&addresses[..])
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Inner::Name(name) => f.write_str(name),
            Inner::Addresses(addresses) => {
                for (at, address) in addresses.iter().enumerate() {
                    let comma = if at > 0 { ", " } else { "" };
                    write!(f, "{comma}{address}")?;
                }
                Ok(())
            }
        }
    }
}

/// Connects to the first address of `target` that answers. All of it, the look-up too, takes no longer than `within`:
/// each address gets an equal share of what is left, so that one that swallows everything leaves the next their time.
pub(super) fn connect(
    target: &Target,
    options: &SocketOptions,
    within: Option<Duration>,
) -> Result<(AnyStream, Address), Error> {
    let patience = Patience::new(within);
    let addresses = match &target.0 {
        Inner::Addresses(addresses) => addresses.clone(),
        Inner::Name(name) => look_up(name, patience.left())
            .map_err(|error| Error::io(Step::Resolve, name, patience.elapsed(), error))?,
    };
    let mut attempts = Vec::new();
    for (at, address) in addresses.iter().enumerate() {
        let waiting = u32::try_from(addresses.len() - at).unwrap_or(u32::MAX);
        let share = patience.left().map_or(NO_LIMIT, |left| left / waiting);
        let connected = match address {
            Address::Ip(ip) => connect_ip(*ip, options, share).map(AnyStream::Tcp),
            Address::Unix(path) => connect_unix(path, options, share),
        };
        match connected {
            Ok(stream) => return Ok((stream, address.clone())),
            Err(error) => attempts.push(Attempt { address: address.clone(), error }),
        }
    }
    Err(Error::tried(target, patience.elapsed(), attempts))
}

/// Without a limit the system's own is what ends an attempt, after some minutes.
const NO_LIMIT: Duration = Duration::from_secs(24 * 3600);

fn connect_ip(address: SocketAddr, options: &SocketOptions, within: Duration) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Before the connect: later, buffer sizes could not change the window scale any more.
    options.apply(&SockRef::from(&socket), address.is_ipv6(), true)?;
    // It looks after interruptions by itself, which a plain connect that waits cannot.
    socket.connect_timeout(&address.into(), within)?;
    let stream = TcpStream::from(socket);
    refuse_self(&stream)?;
    Ok(stream)
}

/// There is an answer at once, but when as many wait to be accepted there as may: then one waits on Linux, for as long as the
/// socket's own time limit for sending says; other systems refuse.
#[cfg(unix)]
fn connect_unix(path: &Path, options: &SocketOptions, within: Duration) -> io::Result<AnyStream> {
    let (socket, name) = crate::net::unix::prepare(path, options)?;
    let patience = Patience::new(Some(within));
    while let Some(left) = patience.left().filter(|left| *left > Duration::ZERO) {
        socket.set_write_timeout(Some(left))?;
        match socket.connect(&name) {
            Ok(()) => return Ok(AnyStream::Unix(socket.into())),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Its time was up, or a little early.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

#[cfg(not(unix))]
fn connect_unix(_: &Path, _: &SocketOptions, _: Duration) -> io::Result<AnyStream> {
    crate::net::no_unix_sockets()
}

/// A connect to a dead port of one's own machine can meet itself, and would hold the port for ever; closed in order, it
/// would still hold it in TIME_WAIT.
fn refuse_self(stream: &TcpStream) -> io::Result<()> {
    if stream.local_addr()? != stream.peer_addr()? {
        return Ok(());
    }
    SockRef::from(stream).set_linger(Some(Duration::ZERO))?;
    Err(io::Error::new(io::ErrorKind::ConnectionRefused, "connected to itself: nobody listens there"))
}

/// The addresses of `name`. The system's resolver cannot be interrupted: where there is a limit it works on a thread of
/// its own, which ends by itself when the resolver gives up.
fn look_up(name: &str, within: Option<Duration>) -> io::Result<Vec<Address>> {
    if let Ok(address) = name.parse() {
        return Ok(vec![address]);
    }
    let Some(within) = within else { return resolved(name) };
    let (answers, answer) = mpsc::channel();
    let owned = name.to_owned();
    thread::Builder::new().name("mainspring-resolve".to_owned()).spawn(move || {
        // Nobody waits any more when the time is over.
        drop(answers.send(resolved(&owned)));
    })?;
    answer.recv_timeout(within).unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn resolved(name: &str) -> io::Result<Vec<Address>> {
    match resolve(name) {
        Ok(addresses) => Ok(addresses),
        Err(crate::error::Error::Resolve { source, .. }) => Err(source),
        Err(error) => Err(io::Error::other(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// tokio-rs/tokio#3405
    #[test]
    fn a_socket_connected_to_itself_is_refused_and_leaves_the_port_free() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        socket.bind(&any.into()).unwrap();
        let own = socket.local_addr().unwrap();
        socket.connect_timeout(&own, Duration::from_secs(5)).unwrap();
        let stream = TcpStream::from(socket);
        let error = refuse_self(&stream).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        drop(stream);
        std::net::TcpListener::bind(own.as_socket().unwrap()).expect("it does not hold the port");
    }

    #[test]
    fn a_target_reads_as_it_was_given() {
        let four: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let six: SocketAddr = "[::1]:2".parse().unwrap();
        assert_eq!(Target::from(("::1", 5)).to_string(), "[::1]:5");
        assert_eq!(Target::from(("localhost", 5)), Target::from("localhost:5"));
        assert_eq!(Target::from([four, six]).to_string(), "127.0.0.1:1, [::1]:2");
        assert_eq!(Target::from(Address::Ip(four)), Target::from(four));
    }

    #[test]
    fn an_unknown_name_fails_at_the_look_up() {
        let error = connect(&"no port".into(), &SocketOptions::default(), None).unwrap_err();
        assert_eq!((error.step(), error.address()), (Step::Resolve, "no port"));
        let within = Some(Duration::from_secs(20));
        let error = connect(&"no port".into(), &SocketOptions::default(), within).unwrap_err();
        assert_eq!(error.step(), Step::Resolve);
    }
}
