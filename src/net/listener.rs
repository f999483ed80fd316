//! A listening socket.

use std::io;
use std::net::SocketAddr;

use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{AnyListener, ListenOptions, SocketOptions, Stream};
use crate::address::Address;

/// A non-blocking listening socket: a closed set of kinds, so that users write no type parameter.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp {
        socket: mio::net::TcpListener,
        options: SocketOptions,
        /// What each client has to begin with.
        #[cfg(feature = "proxy-protocol")]
        wants: Wants,
    },
    #[cfg(unix)]
    Unix {
        /// Goes first: while the socket is open, nobody else's file can be taken for ours.
        _file: Option<super::unix::SocketFile>,
        socket: mio::net::UnixListener,
        options: SocketOptions,
        /// What each client has to begin with.
        #[cfg(feature = "proxy-protocol")]
        wants: Wants,
    },
    /// One whose clients another reactor accepts and hands out.
    Elsewhere(Address),
    #[cfg(any(test, feature = "sim"))]
    Mem(super::mem::MemListener),
}

/// Asked for at each client, and shared with those that wait for it.
#[cfg(feature = "proxy-protocol")]
type Wants = Option<std::sync::Arc<crate::proxy_protocol::ProxyProtocol>>;

#[cfg(feature = "proxy-protocol")]
fn wants(options: &ListenOptions) -> Wants {
    options.proxy_protocol.clone().map(std::sync::Arc::new)
}

/// Whether connections to sockets that share a port are dealt out among them by the kernel. Elsewhere the last one to bind
/// gets them all, if they can be shared in the first place.
pub(crate) const KERNEL_BALANCES: bool =
    cfg!(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "dragonfly"));

impl Listener {
    /// Binds and listens at once. Connections wait in the kernel until they are accepted.
    pub(crate) fn bind(address: &Address, options: &ListenOptions) -> io::Result<Listener> {
        let address = match address {
            Address::Ip(address) => address,
            #[cfg(unix)]
            Address::Unix(path) => {
                let (socket, file) = super::unix::listen(path, options)?;
                return Ok(Listener::of_unix(socket.into(), file, options));
            }
            #[cfg(not(unix))]
            Address::Unix(_) => return super::no_unix_sockets(),
        };
        let socket = Listener::bind_only(address, options)?;
        socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
        Ok(Listener::of(socket.into(), options))
    }

    fn bind_only(address: &SocketAddr, options: &ListenOptions) -> io::Result<Socket> {
        let ipv6 = address.is_ipv6();
        let socket = Socket::new(Domain::for_address(*address), Type::STREAM, Some(Protocol::TCP))?;
        if ipv6 {
            socket.set_only_v6(!options.dual_stack)?;
        }
        if cfg!(unix) && options.reuse_address {
            socket.set_reuse_address(true)?;
        }
        if options.reuse_port {
            set_reuse_port(&socket)?;
        }
        options.socket.apply(&SockRef::from(&socket), ipv6, true)?;
        if ipv6 && options.dual_stack {
            // For its IPv4 clients, where the system lets an IPv6 socket have it.
            drop(options.socket.apply_ip(&SockRef::from(&socket), false));
        }
        socket.set_nonblocking(true)?;
        socket.bind(&(*address).into())?;
        Ok(socket)
    }

    /// Binds `count` sockets to one address, that share it with each other and with nobody else who holds it already: then
    /// it is in use. Of Unix sockets there is one, whatever `count` is: they cannot share a path.
    pub(crate) fn bind_many(
        address: &Address,
        options: &ListenOptions,
        count: usize,
    ) -> io::Result<Vec<Listener>> {
        let ip = match address {
            Address::Ip(ip) if count > 1 => ip,
            _ => return Ok(vec![Listener::bind(address, options)?]),
        };
        let shared = ListenOptions { reuse_port: true, ..options.clone() };
        if options.reuse_port {
            // Others are to share it too.
            return Listener::bind_to_one_port(Listener::bind(address, options)?, &shared, count);
        }
        if cfg!(any(target_os = "linux", target_os = "android")) {
            // The first has it alone, for certain, and lets the others in when it listens already. The documentation wants
            // the option before `bind`; the kernel looks at it when the others bind.
            let first = Listener::bind(address, options)?;
            first.share_port()?;
            let port = first.local_address()?.ip().unwrap_or(*ip);
            match Listener::bind_to_one_port(first, &shared, count) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    return Listener::bind_probed(&port, options, &shared, count);
                }
                bound => return bound,
            }
        }
        Listener::bind_probed(ip, options, &shared, count)
    }

    /// Finds out by a socket that does not listen whether the address is free. Someone else may come between it and those
    /// that follow: then both have the port.
    fn bind_probed(
        address: &SocketAddr,
        options: &ListenOptions,
        shared: &ListenOptions,
        count: usize,
    ) -> io::Result<Vec<Listener>> {
        let probe = Listener::bind_only(address, options)?;
        let port = probe.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
        drop(probe);
        Listener::bind_to_one_port(Listener::bind(&Address::Ip(port), shared)?, shared, count)
    }

    /// The first, and more on its port.
    fn bind_to_one_port(first: Listener, shared: &ListenOptions, count: usize) -> io::Result<Vec<Listener>> {
        let port = first.local_address()?;
        let more = (1..count).map(|_| Listener::bind(&port, shared));
        std::iter::once(Ok(first)).chain(more).collect()
    }

    fn share_port(&self) -> io::Result<()> {
        match self {
            Listener::Tcp { socket, .. } => set_reuse_port(&SockRef::from(socket)),
            _ => Ok(()),
        }
    }

    /// Takes in a socket made elsewhere, which has to listen already, and says where it does.
    pub(crate) fn adopt(listener: AnyListener, options: &ListenOptions) -> io::Result<(Listener, Address)> {
        let not = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
        let listens = |socket: &SockRef<'_>| {
            if is_listener(socket)? { Ok(()) } else { Err(not("it does not listen")) }
        };
        match listener {
            AnyListener::Tcp(listener) => {
                let socket = SockRef::from(&listener);
                let ip = socket.local_addr()?.as_socket();
                let is_stream = socket.r#type()? == Type::STREAM;
                let local = ip.filter(|_| is_stream).ok_or_else(|| not("it is not a TCP socket"))?;
                listens(&socket)?;
                options.socket.apply(&socket, local.is_ipv6(), false)?;
                listener.set_nonblocking(true)?;
                Ok((Listener::of(listener, options), Address::Ip(local)))
            }
            #[cfg(unix)]
            AnyListener::Unix(listener) => {
                let socket = SockRef::from(&listener);
                if !socket.local_addr()?.is_unix() || socket.r#type()? != Type::STREAM {
                    return Err(not("it is not a Unix stream socket"));
                }
                listens(&socket)?;
                let local = super::unix::address(&listener.local_addr()?);
                listener.set_nonblocking(true)?;
                Ok((Listener::of_unix(listener, None, options), local))
            }
        }
    }

    fn of(socket: std::net::TcpListener, options: &ListenOptions) -> Listener {
        Listener::Tcp {
            socket: mio::net::TcpListener::from_std(socket),
            options: options.socket,
            #[cfg(feature = "proxy-protocol")]
            wants: wants(options),
        }
    }

    #[cfg(unix)]
    fn of_unix(
        socket: std::os::unix::net::UnixListener,
        file: Option<super::unix::SocketFile>,
        options: &ListenOptions,
    ) -> Listener {
        Listener::Unix {
            _file: file,
            socket: mio::net::UnixListener::from_std(socket),
            options: options.socket,
            #[cfg(feature = "proxy-protocol")]
            wants: wants(options),
        }
    }

    /// What each client has to begin with, if anything.
    #[cfg(feature = "proxy-protocol")]
    pub(crate) fn wants(&self) -> Wants {
        match self {
            Listener::Tcp { wants, .. } => wants.clone(),
            #[cfg(unix)]
            Listener::Unix { wants, .. } => wants.clone(),
            Listener::Elsewhere(_) => None,
            #[cfg(any(test, feature = "sim"))]
            Listener::Mem(_) => None,
        }
    }

    pub(crate) fn local_address(&self) -> io::Result<Address> {
        match self {
            Listener::Tcp { socket, .. } => Ok(Address::Ip(socket.local_addr()?)),
            #[cfg(unix)]
            Listener::Unix { socket, .. } => Ok(super::unix::address(&socket.local_addr()?)),
            Listener::Elsewhere(address) => Ok(address.clone()),
            #[cfg(any(test, feature = "sim"))]
            Listener::Mem(listener) => Ok(listener.address()),
        }
    }

    /// Takes one connection. What can fail between accept and open costs that connection only: it comes as `Err` inside.
    pub(crate) fn accept(&mut self) -> io::Result<(io::Result<Stream>, Address)> {
        match self {
            Listener::Tcp { socket, options, .. } => {
                let (stream, peer) = socket.accept()?;
                let prepared = options.apply_to_accepted(&SockRef::from(&stream), peer.is_ipv6());
                Ok((prepared.map(|()| Stream::Tcp(stream)), Address::Ip(unmapped(peer))))
            }
            #[cfg(unix)]
            Listener::Unix { socket, options, .. } => {
                let (stream, peer) = socket.accept()?;
                // No system lets it inherit them.
                let prepared = options.apply_unix(&SockRef::from(&stream));
                Ok((prepared.map(|()| Stream::Unix(stream)), super::unix::address(&peer)))
            }
            Listener::Elsewhere(_) => Err(io::ErrorKind::WouldBlock.into()),
            #[cfg(any(test, feature = "sim"))]
            Listener::Mem(listener) => listener.accept(),
        }
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Listener::Tcp { socket, .. } => registry.register(socket, token, Interest::READABLE),
            #[cfg(unix)]
            Listener::Unix { socket, .. } => registry.register(socket, token, Interest::READABLE),
            Listener::Elsewhere(_) => Ok(()),
            #[cfg(any(test, feature = "sim"))]
            Listener::Mem(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// Whether the socket listens. Where the system cannot be asked, the first `accept` tells.
#[cfg(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "fuchsia",
    target_os = "aix"
))]
fn is_listener(socket: &SockRef<'_>) -> io::Result<bool> {
    socket.is_listener()
}

#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "fuchsia",
    target_os = "aix"
)))]
fn is_listener(_: &SockRef<'_>) -> io::Result<bool> {
    Ok(true)
}

/// A dual-stack listener sees IPv4 clients as `::ffff:a.b.c.d`; handlers and limits want the address itself.
fn unmapped(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

/// FreeBSD has two such options, and only this one shares connections out.
#[cfg(target_os = "freebsd")]
fn set_reuse_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port_lb(true)
}

#[cfg(all(unix, not(any(target_os = "freebsd", target_os = "solaris", target_os = "illumos"))))]
fn set_reuse_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

#[cfg(not(all(unix, not(any(target_os = "solaris", target_os = "illumos")))))]
fn set_reuse_port(_: &Socket) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

// What the others do where the first socket cannot let them in later is tried on Linux, which can do both.
#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn port_of(listener: &Listener) -> Address {
        listener.local_address().expect("it is bound")
    }

    #[test]
    fn a_set_that_was_probed_has_a_port_that_nobody_else_has() {
        let options = ListenOptions::default();
        let shared = ListenOptions { reuse_port: true, ..options.clone() };
        let any = "127.0.0.1:0".parse().expect("an address");
        let set = Listener::bind_probed(&any, &options, &shared, 3).expect("a free port");
        let port = port_of(&set[0]);
        let ip = port.ip().expect("an IP address");
        assert!(set.iter().all(|listener| port_of(listener) == port));
        let again = Listener::bind_probed(&ip, &options, &shared, 3).expect_err("it is taken");
        assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
        let again = Listener::bind_many(&port, &options, 3).expect_err("it is taken");
        assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
        drop(set);
        // By one of another program, that shares with nobody.
        let one = Listener::bind(&port, &options).expect("it is free again");
        let taken = Listener::bind_probed(&ip, &options, &shared, 3).expect_err("it is taken");
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        drop(one);
    }

    #[test]
    fn a_set_that_is_to_be_shared_lets_others_in() {
        let mut options = ListenOptions::default();
        options.reuse_port = true;
        let any = "127.0.0.1:0".parse().expect("an address");
        let set = Listener::bind_many(&any, &options, 2).expect("a free port");
        assert!(Listener::bind_many(&port_of(&set[1]), &options, 2).is_ok());
    }
}
