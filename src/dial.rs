//! Where a dial goes, and how: what `connect` takes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use crate::address::{Address, names_an_interface};
use crate::net::SocketOptions;
use crate::time::Reconnect;

/// Where [`Context::connect`](crate::Context::connect) goes, and how.
///
/// Made of an [`Address`], a `SocketAddr`, several addresses, or text: `192.0.2.1:7000`, `[2001:db8::1]:7000`,
/// `HOST:PORT` or `unix:PATH`. `connect` takes all of these as they are; this type is for those who want more than that:
///
/// ```
/// use mainspring::{Dial, Reconnect};
/// use std::time::Duration;
///
/// let dial = Dial::to("db.example:5432").within(Duration::from_secs(3)).reconnect(Reconnect::default());
/// # let _ = dial;
/// ```
///
/// Text is only read here. A name is looked up when it is dialed, off the loop and anew for each dial. Text that is no
/// address (no port, a bare IPv6 address, `1.2` for a host) makes a dial that fails with
/// [`DialError::Malformed`](crate::DialError::Malformed): so there is one place to look for what goes wrong with a dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dial {
    pub(crate) target: Target,
    pub(crate) options: Option<SocketOptions>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) reconnect: Option<Reconnect>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<crate::tls::Connector>,
    /// The name to be seen in the certificate, if it is not that of the target.
    #[cfg(feature = "tls")]
    pub(crate) server_name: Option<String>,
}

/// What is dialed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Addresses(Vec<Address>),
    Name { host: String, port: u16 },
    Malformed(String),
}

impl Dial {
    /// A dial with the reactor's options and time limit, once.
    pub fn to(target: impl Into<Dial>) -> Dial {
        target.into()
    }

    /// Ends without an answer after so long, the look-up of the name and all addresses together. Defaults to
    /// [`Limits::dial_timeout`](crate::Limits::dial_timeout).
    #[must_use]
    pub fn within(mut self, time: Duration) -> Dial {
        self.timeout = Some(time);
        self
    }

    /// Sets these options on each socket. They are set after the connect has begun, so that buffer sizes come too late to
    /// change the window scale. Defaults to [`Builder::dial_options`](crate::Builder::dial_options).
    #[must_use]
    pub fn options(mut self, options: SocketOptions) -> Dial {
        self.options = Some(options);
        self
    }

    /// Dials again whenever the connection has ended or the dial has failed, see [`Reconnect`]. Defaults to never.
    #[must_use]
    pub fn reconnect(mut self, policy: Reconnect) -> Dial {
        self.reconnect = Some(policy);
        self
    }

    /// Speaks TLS: the connection is open when the handshake is done, all of it within the dial's time. The server has to show a
    /// certificate of the host that is dialed, be that a name or an address.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, connector: crate::tls::Connector) -> Dial {
        self.tls = Some(connector);
        self
    }

    /// Wants to see a certificate of this name, in the place of the host that is dialed, and asks the server for it (SNI). For
    /// [`tls`](Dial::tls) alone.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Dial {
        self.server_name = Some(name.into());
        self
    }

    /// How TLS is spoken, if it is.
    #[cfg(feature = "tls")]
    pub(crate) fn secure(&self) -> Option<Secure> {
        let name = match (&self.server_name, &self.target) {
            (Some(name), _) => Some(name.clone()),
            // A name may end in a dot, which is not in the certificate (RFC 6066).
            (None, Target::Name { host, .. }) => Some(host.strip_suffix('.').unwrap_or(host).to_owned()),
            (None, _) => None,
        };
        Some(Secure { connector: self.tls.clone()?, name })
    }

    fn new(target: Target) -> Dial {
        Dial {
            target,
            options: None,
            timeout: None,
            reconnect: None,
            #[cfg(feature = "tls")]
            tls: None,
            #[cfg(feature = "tls")]
            server_name: None,
        }
    }
}

/// How TLS is spoken on a connection that is dialed.
#[cfg(feature = "tls")]
#[derive(Debug)]
pub(crate) struct Secure {
    connector: crate::tls::Connector,
    /// None: that of the address.
    name: Option<String>,
}

#[cfg(feature = "tls")]
impl Secure {
    /// A stream under TLS, for one that is connected to `address`.
    pub(crate) fn connect(
        &self,
        stream: crate::net::Stream,
        address: &Address,
    ) -> std::io::Result<crate::net::Stream> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => address.ip().map_or_else(String::new, |address| address.ip().to_string()),
        };
        stream.connecting(&self.connector, &name)
    }
}

impl Target {
    fn host(host: &str, port: u16) -> Target {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Target::Addresses(vec![Address::Ip(SocketAddr::new(ip, port))]);
        }
        if names_an_interface(host) {
            return Target::Name { host: host.to_owned(), port };
        }
        // The system's resolver takes `1.2` for 1.0.0.2, which nobody means.
        let is_number = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let is_name = |c: char| !c.is_whitespace() && !c.is_control() && !"[]:/@".contains(c);
        if host.is_empty() || is_number || !host.chars().all(is_name) {
            return Target::Malformed(format!("{host}:{port}"));
        }
        Target::Name { host: host.to_owned(), port }
    }

    fn parse(text: &str) -> Target {
        if let Ok(address) = text.parse() {
            return Target::Addresses(vec![address]);
        }
        let malformed = || Target::Malformed(text.to_owned());
        let Some((host, port)) = text.rsplit_once(':') else { return malformed() };
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let Some(port) = port.parse().ok().filter(|_| digits) else { return malformed() };
        if let Some(inside) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            // Text that is an address without the name of an interface was read above.
            return match Target::host(inside, port) {
                Target::Name { host, port } if host.contains('%') => Target::Name { host, port },
                _ => malformed(),
            };
        }
        // `::1:80` would be read as the address ::1 and a port, or as an address that ends in 80: nobody can tell.
        if host.contains(':') { malformed() } else { Target::host(host, port).or(text) }
    }

    /// The same, with the text as it was written.
    fn or(self, text: &str) -> Target {
        match self {
            Target::Malformed(_) => Target::Malformed(text.to_owned()),
            other => other,
        }
    }

    /// The one address that this is, or else an address that nobody has.
    pub(crate) fn peer(&self) -> Address {
        match self {
            Target::Addresses(addresses) if addresses.len() == 1 => addresses[0].clone(),
            _ => unknown_peer(),
        }
    }
}

/// Stands for a peer that is not known yet: nobody can be reached there.
pub(crate) fn unknown_peer() -> Address {
    Address::Ip(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))
}

impl From<&str> for Dial {
    fn from(text: &str) -> Dial {
        Dial::new(Target::parse(text))
    }
}

impl From<String> for Dial {
    fn from(text: String) -> Dial {
        Dial::from(&*text)
    }
}

impl From<&String> for Dial {
    fn from(text: &String) -> Dial {
        Dial::from(&**text)
    }
}

impl From<(&str, u16)> for Dial {
    /// A host, a name or an address without brackets, and its port.
    fn from((host, port): (&str, u16)) -> Dial {
        Dial::new(Target::host(host, port))
    }
}

impl From<Address> for Dial {
    fn from(address: Address) -> Dial {
        Dial::new(Target::Addresses(vec![address]))
    }
}

impl From<&Address> for Dial {
    fn from(address: &Address) -> Dial {
        Dial::from(address.clone())
    }
}

impl From<&Path> for Dial {
    /// A Unix socket.
    fn from(path: &Path) -> Dial {
        Dial::from(Address::from(path))
    }
}

impl From<SocketAddr> for Dial {
    fn from(address: SocketAddr) -> Dial {
        Dial::from(Address::Ip(address))
    }
}

impl From<Vec<Address>> for Dial {
    /// Each of them is tried, as those of a name are.
    fn from(addresses: Vec<Address>) -> Dial {
        Dial::new(Target::Addresses(addresses))
    }
}

impl From<&[Address]> for Dial {
    fn from(addresses: &[Address]) -> Dial {
        Dial::from(addresses.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_an_address_or_a_name() {
        for text in ["127.0.0.1:7000", "[::1]:0", "[fe80::1%3]:80", "unix:/run/x", "unix:80"] {
            assert!(matches!(Target::parse(text), Target::Addresses(list) if list.len() == 1), "{text}");
        }
        for (text, host, port) in [
            ("localhost:7000", "localhost", 7000),
            ("a-b.example.:1", "a-b.example.", 1),
            ("under_score:65535", "under_score", 65535),
            ("münchen.example:80", "münchen.example", 80),
            ("[fe80::1%eth0]:80", "fe80::1%eth0", 80),
            ("3com:5", "3com", 5),
        ] {
            assert_eq!(Target::parse(text), Target::Name { host: host.to_owned(), port }, "{text}");
        }
    }

    #[test]
    fn text_that_is_neither_is_malformed() {
        for text in [
            "",
            ":",
            "host",
            "host:",
            ":80",
            "host:x",
            "host:+1",
            "host:-1",
            "host:65536",
            "host: 80",
            "ho st:80",
            "::1",
            "::1:80",
            "[::1]",
            "[host]:80",
            "[]:80",
            "1.2:80",
            "1.2.3.4.5:80",
            "256.0.0.1:80",
            "12:80",
            "http://host:80",
            "me@host:80",
            "unix:",
            "unix:a\0b",
            "ho\0st:80",
            "[::1%]x:80",
        ] {
            assert_eq!(Target::parse(text), Target::Malformed(text.to_owned()));
        }
        assert!(matches!(Dial::from(("1.2", 80)).target, Target::Malformed(_)));
        assert!(matches!(Dial::from(("::1", 80)).target, Target::Addresses(_)));
        assert!(matches!(Dial::from(("fe80::1%", 80)).target, Target::Malformed(_)));
        assert_eq!(Dial::from(("fe80::1%eth0", 80)), Dial::from("[fe80::1%eth0]:80"));
    }
}
