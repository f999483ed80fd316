//! What a header has told.

use std::ffi::OsString;
use std::net::SocketAddr;

use ppp::v1;
use ppp::v2::{self, TypeLengthValues};

use super::Refusal;
use crate::address::Address;

/// What a proxy has said of a connection that it passes on, see [`Context::proxy_header`](crate::Context::proxy_header).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyHeader {
    proxy: Address,
    version: u8,
    local: bool,
    source: Option<Address>,
    destination: Option<Address>,
    /// Well-formed.
    tlvs: Box<[u8]>,
}

impl ProxyHeader {
    /// The proxy: whose socket it is.
    pub fn proxy(&self) -> &Address {
        &self.proxy
    }

    /// The version of the header: 1 or 2.
    pub fn version(&self) -> u8 {
        self.version
    }

    /// Whether the proxy speaks for itself, as for a health check (the command LOCAL of version 2).
    pub fn is_local(&self) -> bool {
        self.local
    }

    /// The client. `None` when the proxy speaks for itself or does not know it (UNKNOWN, or a family that is none of streams):
    /// then the connection has the proxy's address.
    pub fn source(&self) -> Option<&Address> {
        self.source.as_ref()
    }

    /// Where the client has connected to. `None` as for the [source](ProxyHeader::source).
    pub fn destination(&self) -> Option<&Address> {
        self.destination.as_ref()
    }

    /// All else that the proxy has said, as pairs of a type and a value: what was agreed on in TLS, a name, an identifier. In the
    /// order of the header, which is of version 2. The types are in the protocol's specification. The checksum (type 3) is
    /// not verified.
    pub fn tlvs(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let mut at = 0;
        TypeLengthValues::from(&*self.tlvs).map_while(Result::ok).map(move |tlv| {
            let value = at + 3..at + 3 + tlv.len();
            at = value.end;
            (tlv.kind, &self.tlvs[value])
        })
    }

    /// The first value of that type.
    pub fn tlv(&self, kind: u8) -> Option<&[u8]> {
        self.tlvs().find(|(other, _)| *other == kind).map(|(_, value)| value)
    }

    /// Reads a whole header and nothing behind it.
    pub(super) fn read(bytes: &[u8], proxy: Address) -> Result<ProxyHeader, Refusal> {
        if bytes.starts_with(v2::PROTOCOL_PREFIX) { read_v2(bytes, proxy) } else { read_v1(bytes, proxy) }
    }
}

fn malformed(what: impl ToString) -> Refusal {
    Refusal::Malformed(what.to_string())
}

fn read_v1(bytes: &[u8], proxy: Address) -> Result<ProxyHeader, Refusal> {
    let header = v1::Header::try_from(bytes).map_err(malformed)?;
    if header.header.len() != bytes.len() {
        return Err(malformed("its line ends twice"));
    }
    let (source, destination) = match header.addresses {
        v1::Addresses::Unknown => (None, None),
        v1::Addresses::Tcp4(ips) => (
            Some(ip(ips.source_address.into(), ips.source_port)),
            Some(ip(ips.destination_address.into(), ips.destination_port)),
        ),
        v1::Addresses::Tcp6(ips) => (
            Some(ip(ips.source_address.into(), ips.source_port)),
            Some(ip(ips.destination_address.into(), ips.destination_port)),
        ),
    };
    Ok(ProxyHeader { proxy, version: 1, local: false, source, destination, tlvs: Box::default() })
}

fn read_v2(bytes: &[u8], proxy: Address) -> Result<ProxyHeader, Refusal> {
    let header = v2::Header::try_from(bytes).map_err(malformed)?;
    if header.len() != bytes.len() {
        return Err(malformed("there is something behind it"));
    }
    if let Some(error) = header.tlvs().find_map(Result::err) {
        return Err(malformed(error));
    }
    let local = header.command == v2::Command::Local;
    // Of datagrams, or of nothing: the specification has us keep the socket's own addresses.
    let known = !local && header.protocol == v2::Protocol::Stream;
    let (source, destination) = match header.addresses {
        v2::Addresses::IPv4(ips) if known => (
            Some(ip(ips.source_address.into(), ips.source_port)),
            Some(ip(ips.destination_address.into(), ips.destination_port)),
        ),
        v2::Addresses::IPv6(ips) if known => (
            Some(ip(ips.source_address.into(), ips.source_port)),
            Some(ip(ips.destination_address.into(), ips.destination_port)),
        ),
        v2::Addresses::Unix(paths) if known => (Some(unix(&paths.source)), Some(unix(&paths.destination))),
        _ => (None, None),
    };
    Ok(ProxyHeader { proxy, version: 2, local, source, destination, tlvs: header.tlv_bytes().into() })
}

/// Handlers and limits want the address itself, however it is written.
fn ip(address: std::net::IpAddr, port: u16) -> Address {
    Address::Ip(SocketAddr::new(address.to_canonical(), port))
}

/// The path up to its NUL.
fn unix(field: &[u8]) -> Address {
    let path = field.split(|byte| *byte == 0).next().unwrap_or_default();
    #[cfg(unix)]
    let path: OsString = std::os::unix::ffi::OsStringExt::from_vec(path.to_vec());
    #[cfg(not(unix))]
    let path = OsString::from(String::from_utf8_lossy(path).into_owned());
    Address::Unix(path.into())
}
