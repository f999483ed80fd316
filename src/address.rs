//! Where a listener or a peer is.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// An address of a listener or a peer: this crate's own type, so that other kinds than IP can join it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// An IP address and a TCP port.
    Ip(SocketAddr),
}

impl Address {
    /// The IP address and port, if this is one.
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            Address::Ip(address) => Some(*address),
        }
    }
}

/// Whether `host` is an IPv6 address with the name of its interface, `fe80::1%eth0`: only the system's resolver knows its number.
pub(crate) fn names_an_interface(host: &str) -> bool {
    host.split_once('%').is_some_and(|(ip, zone)| ip.parse::<Ipv6Addr>().is_ok() && !zone.is_empty())
}

/// A text that is not an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressError(String);

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" is not an address: IP:PORT or [IPV6]:PORT is", self.0)
    }
}

impl std::error::Error for AddressError {}

impl FromStr for Address {
    type Err = AddressError;

    /// Reads `127.0.0.1:7000` or `[::1]:7000`. Host names are not looked up here; see [`resolve`](crate::resolve).
    fn from_str(text: &str) -> Result<Address, AddressError> {
        text.parse().map(Address::Ip).map_err(|_| AddressError(text.to_owned()))
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address::Ip(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(address) => address.fmt(f),
        }
    }
}
