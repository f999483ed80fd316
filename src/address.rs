//! Where a listener or a peer is.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// An address of a listener or a peer: this crate's own type, so that other kinds than IP can be added to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// An IP address and a TCP port.
    Ip(SocketAddr),
    /// A Unix socket, by the path of its file: `unix:PATH` as text. Empty for one without a name, as that of a client usually
    /// is.
    ///
    /// On Linux and Android a path that begins with `@` is a name without a file, in the abstract namespace: whoever shares the
    /// network namespace can connect to it, whatever the rights of files. On other systems it is an error. A file that is called
    /// so is `./@name`.
    ///
    /// It exists on every system; where there are no Unix sockets, to listen on it or to connect to it is an error.
    Unix(PathBuf),
}

impl Address {
    /// The IP address and port, if this is one.
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            Address::Ip(address) => Some(*address),
            Address::Unix(_) => None,
        }
    }

    /// The path, if this is a Unix socket.
    pub fn unix(&self) -> Option<&Path> {
        match self {
            Address::Unix(path) => Some(path),
            Address::Ip(_) => None,
        }
    }
}

/// What a path is written behind.
const UNIX: &str = "unix:";

/// Whether `host` is an IPv6 address with the name of its interface, `fe80::1%eth0`: only the system's resolver knows its number.
pub(crate) fn names_an_interface(host: &str) -> bool {
    host.split_once('%').is_some_and(|(ip, zone)| ip.parse::<Ipv6Addr>().is_ok() && !zone.is_empty())
}

/// A text that is not an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressError(String);

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" is not an address: IP:PORT, [IPV6]:PORT or unix:PATH is", self.0)
    }
}

impl std::error::Error for AddressError {}

impl FromStr for Address {
    type Err = AddressError;

    /// Reads `127.0.0.1:7000`, `[::1]:7000` or `unix:/run/server.sock`. What is behind `unix:` is a path, whatever it looks like.
    /// Host names are not looked up here; see [`resolve`](crate::resolve).
    fn from_str(text: &str) -> Result<Address, AddressError> {
        if let Some(path) = text.strip_prefix(UNIX) {
            let names_a_file = !path.is_empty() && !path.contains('\0');
            return names_a_file
                .then(|| Address::Unix(path.into()))
                .ok_or_else(|| AddressError(text.to_owned()));
        }
        text.parse().map(Address::Ip).map_err(|_| AddressError(text.to_owned()))
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address::Ip(address)
    }
}

impl From<PathBuf> for Address {
    /// A Unix socket.
    fn from(path: PathBuf) -> Address {
        Address::Unix(path)
    }
}

impl From<&Path> for Address {
    /// A Unix socket.
    fn from(path: &Path) -> Address {
        Address::Unix(path.to_owned())
    }
}

impl fmt::Display for Address {
    /// As [`from_str`](Address::from_str) reads it. A path that is not UTF-8 has replacement characters in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_as_it_is_written() {
        for text in
            ["127.0.0.1:7000", "[::1]:0", "unix:/run/a b.sock", "unix:x", "unix:@name", "unix:80", "unix::"]
        {
            assert_eq!(text.parse::<Address>().map(|address| address.to_string()).as_deref(), Ok(text));
        }
        let unix: Address = "unix:./@x".parse().unwrap();
        assert_eq!((unix.unix(), unix.ip()), (Some(Path::new("./@x")), None));
        assert_eq!(unix, Address::from(Path::new("./@x")));
    }

    #[test]
    fn a_path_is_not_empty_and_has_no_nul() {
        for text in ["unix:", "unix:a\0b", "UNIX:/x", "/x"] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains("unix:PATH"), "{error}");
        }
    }

    /// Each connection has one.
    #[test]
    fn an_address_is_no_larger_than_an_ip_address() {
        assert_eq!(size_of::<Address>(), size_of::<SocketAddr>());
    }
}
