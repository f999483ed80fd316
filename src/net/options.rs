//! Options of sockets, each with its default and the reason for it.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// Probes on an idle connection, so that a peer that vanished without a word is noticed (tcp(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Idle for so long before the first probe. Seconds are the unit of most systems.
    pub idle: Duration,
    /// The time between probes.
    pub interval: Duration,
    /// So many probes without an answer end the connection. Not settable on Windows before version 10.
    pub count: u32,
}

/// Options of a connection's socket, for those that are dialed and those that a listener accepts.
///
/// A Unix socket has the sizes of its buffers alone; the other options are left out for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketOptions {
    /// `TCP_NODELAY`. Defaults to on, because frames are written whole: Nagle's algorithm could only hold the last part of
    /// one back until the peer's delayed acknowledgement, some 40 ms.
    pub nodelay: bool,
    /// Defaults to none, because deadlines of the application find a dead peer sooner.
    pub keepalive: Option<Keepalive>,
    /// `SO_SNDBUF` in bytes. Defaults to none, because the kernel's own tuning beats a fixed value.
    pub send_buffer: Option<usize>,
    /// `SO_RCVBUF` in bytes. Defaults to none, for the same reason.
    pub receive_buffer: Option<usize>,
    /// `SO_LINGER`. Defaults to none: the reactor's own lingering close needs no blocking `close`. Zero makes every close
    /// a reset.
    pub linger: Option<Duration>,
    /// The IP time to live of what is sent (hop limit in IPv6). Defaults to the system's.
    pub ttl: Option<u32>,
    /// The IP type of service of what is sent (traffic class in IPv6, where the system has it). Defaults to the system's.
    pub tos: Option<u32>,
}

impl Default for SocketOptions {
    fn default() -> SocketOptions {
        SocketOptions {
            nodelay: true,
            keepalive: None,
            send_buffer: None,
            receive_buffer: None,
            linger: None,
            ttl: None,
            tos: None,
        }
    }
}

/// Options of a listener, and of the connections it accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenOptions {
    /// How many connections the kernel may hold for us. Defaults to 4096, Linux's own bound (`somaxconn`), because a burst
    /// of clients should wait rather than be refused.
    pub backlog: u32,
    /// `SO_REUSEADDR`. Defaults to on, because without it a server cannot be started again while connections of its past
    /// are in TIME_WAIT. Ignored on Windows, where it would let anyone take the port.
    pub reuse_address: bool,
    /// `SO_REUSEPORT`, where the system has it (FreeBSD: `SO_REUSEPORT_LB`, the one that shares connections out). Defaults to
    /// off, because with it a second server starts without a word and takes half of the connections.
    pub reuse_port: bool,
    /// So many of this listener's connections may be open; past it, new ones are closed at once, and counted as refused.
    /// Defaults to none, because [`Limits::connections_max`](crate::Limits::connections_max) bounds them all.
    pub connections_max: Option<usize>,
    /// For an IPv6 address: take IPv4 connections too. Defaults to off, and is always set explicitly, because systems
    /// differ in what they do otherwise.
    pub dual_stack: bool,
    /// The mode of the file of a Unix socket, as `chmod` has it: who may connect needs the right to write. It is set before the
    /// socket listens, so that at no moment anyone can connect who may not. Defaults to `0o600`, the same user alone, because a
    /// server should be open to those whom it was opened to, whatever the umask is. There are systems that do not look at it
    /// (Solaris, old BSDs): there the folder's rights decide.
    pub unix_mode: u32,
    /// Each client has to begin with a header of the PROXY protocol, see [`proxy_protocol`](crate::proxy_protocol). Defaults to none,
    /// because a server that believes such headers from anyone can be told anything.
    #[cfg(feature = "proxy-protocol")]
    pub proxy_protocol: Option<crate::proxy_protocol::ProxyProtocol>,
    /// Options of the accepted connections. Those that a system lets them inherit are set once, on the listener.
    pub socket: SocketOptions,
    /// Serves TLS to all clients of this listener, see [`tls`](crate::tls). Defaults to none.
    #[cfg(feature = "tls")]
    pub tls: Option<crate::tls::Acceptor>,
}

impl Default for ListenOptions {
    fn default() -> ListenOptions {
        ListenOptions {
            backlog: 4096,
            reuse_address: true,
            reuse_port: false,
            connections_max: None,
            dual_stack: false,
            unix_mode: 0o600,
            #[cfg(feature = "proxy-protocol")]
            proxy_protocol: None,
            socket: SocketOptions::default(),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

#[cfg(feature = "tls")]
impl ListenOptions {
    /// The default options, with TLS.
    pub fn tls(acceptor: crate::tls::Acceptor) -> ListenOptions {
        ListenOptions { tls: Some(acceptor), ..ListenOptions::default() }
    }
}

/// Whether an accepted socket has the options of its listener. Linux copies the whole socket.
const INHERITED: bool = cfg!(any(target_os = "linux", target_os = "android"));

impl SocketOptions {
    /// Sets what is not the system's default; on a socket that is not `fresh`, what can be undone too.
    pub(crate) fn apply(&self, socket: &SockRef<'_>, ipv6: bool, fresh: bool) -> io::Result<()> {
        if self.nodelay || !fresh {
            socket.set_tcp_nodelay(self.nodelay)?;
        }
        if let Some(keepalive) = self.keepalive {
            let settings = TcpKeepalive::new().with_time(keepalive.idle);
            #[cfg(not(any(
                target_os = "openbsd",
                target_os = "haiku",
                target_os = "solaris",
                target_os = "vita"
            )))]
            let settings = settings.with_interval(keepalive.interval);
            #[cfg(not(any(
                target_os = "openbsd",
                target_os = "haiku",
                target_os = "solaris",
                target_os = "vita"
            )))]
            let settings = settings.with_retries(keepalive.count);
            socket.set_tcp_keepalive(&settings)?;
        }
        if let Some(bytes) = self.send_buffer {
            socket.set_send_buffer_size(bytes)?;
        }
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        if self.linger.is_some() || !fresh {
            socket.set_linger(self.linger)?;
        }
        self.apply_ip(socket, ipv6)
    }

    /// Those that a Unix socket has.
    #[cfg(unix)]
    pub(crate) fn apply_unix(&self, socket: &SockRef<'_>) -> io::Result<()> {
        // Nobody else sets it on one that was accepted.
        #[cfg(target_vendor = "apple")]
        socket.set_nosigpipe(true)?;
        if let Some(bytes) = self.send_buffer {
            socket.set_send_buffer_size(bytes)?;
        }
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        Ok(())
    }

    /// Those that the two families set each in its own way. A dual-stack socket needs both.
    pub(super) fn apply_ip(&self, socket: &SockRef<'_>, ipv6: bool) -> io::Result<()> {
        if let Some(ttl) = self.ttl {
            if ipv6 { socket.set_unicast_hops_v6(ttl)? } else { socket.set_ttl_v4(ttl)? }
        }
        if let Some(tos) = self.tos {
            set_tos(socket, tos, ipv6)?;
        }
        Ok(())
    }

    /// Sets on an accepted socket what it has not inherited.
    #[inline]
    pub(super) fn apply_to_accepted(&self, socket: &SockRef<'_>, ipv6: bool) -> io::Result<()> {
        if INHERITED { Ok(()) } else { self.apply(socket, ipv6, true) }
    }
}

fn set_tos(socket: &SockRef<'_>, tos: u32, ipv6: bool) -> io::Result<()> {
    if ipv6 {
        #[cfg(any(
            target_os = "linux",
            target_os = "android",
            target_vendor = "apple",
            target_os = "freebsd"
        ))]
        return socket.set_tclass_v6(tos);
        #[cfg(not(any(
            target_os = "linux",
            target_os = "android",
            target_vendor = "apple",
            target_os = "freebsd"
        )))]
        return Err(io::ErrorKind::Unsupported.into());
    }
    #[cfg(not(any(target_os = "solaris", target_os = "illumos", target_os = "haiku")))]
    return socket.set_tos_v4(tos);
    #[cfg(any(target_os = "solaris", target_os = "illumos", target_os = "haiku"))]
    Err(io::ErrorKind::Unsupported.into())
}
