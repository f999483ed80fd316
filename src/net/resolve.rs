//! Names to addresses, by the system's resolver. It blocks: never called from inside the loop.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use crate::address::{Address, names_an_interface};
use crate::error::Error;

/// Looks up `HOST:PORT` with the system's resolver, or reads an address, `unix:PATH` included. All addresses of the name, in the resolver's order.
///
/// **This blocks**, for seconds when the name server does not answer. Call it before the loop or on another thread.
///
/// # Errors
/// The text has no port, the name is unknown, or the resolver failed; the error names the text.
pub fn resolve(name: &str) -> Result<Vec<Address>, Error> {
    if let Ok(address) = name.parse() {
        return Ok(vec![address]);
    }
    let found = match scoped(name) {
        Some(scoped) => scoped.to_socket_addrs(),
        None => name.to_socket_addrs(),
    };
    let addresses: Vec<Address> =
        found.map_err(|error| Error::resolve(name, error))?.map(Address::Ip).collect();
    if addresses.is_empty() {
        return Err(Error::resolve(name, io::Error::new(io::ErrorKind::NotFound, "the name has no address")));
    }
    Ok(addresses)
}

/// An address with the name of its interface, `[fe80::1%eth0]:80`: the system's resolver, which has to be asked, knows nothing of
/// brackets.
fn scoped(name: &str) -> Option<(&str, u16)> {
    let (host, port) = name.strip_prefix('[')?.rsplit_once("]:")?;
    names_an_interface(host).then_some((host, port.parse().ok()?))
}

/// What can be listened on: an address, or text that is one or a name, see [`resolve`].
pub trait ToAddresses {
    /// The addresses, at least one.
    ///
    /// # Errors
    /// As [`resolve`].
    fn to_addresses(&self) -> Result<Vec<Address>, Error>;
}

impl ToAddresses for str {
    fn to_addresses(&self) -> Result<Vec<Address>, Error> {
        resolve(self)
    }
}

impl ToAddresses for String {
    fn to_addresses(&self) -> Result<Vec<Address>, Error> {
        resolve(self)
    }
}

impl ToAddresses for Address {
    fn to_addresses(&self) -> Result<Vec<Address>, Error> {
        Ok(vec![self.clone()])
    }
}

impl ToAddresses for Path {
    /// A Unix socket.
    fn to_addresses(&self) -> Result<Vec<Address>, Error> {
        Ok(vec![Address::from(self)])
    }
}

impl ToAddresses for PathBuf {
    /// A Unix socket.
    fn to_addresses(&self) -> Result<Vec<Address>, Error> {
        self.as_path().to_addresses()
    }
}

impl ToAddresses for SocketAddr {
    fn to_addresses(&self) -> Result<Vec<Address>, Error> {
        Ok(vec![Address::Ip(*self)])
    }
}

impl<T: ToAddresses + ?Sized> ToAddresses for &T {
    fn to_addresses(&self) -> Result<Vec<Address>, Error> {
        (*self).to_addresses()
    }
}

// The interface has this name on Linux.
#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn an_address_with_the_name_of_its_interface_is_found() {
        let found = resolve("[fe80::1%lo]:80").unwrap();
        let Some(SocketAddr::V6(address)) = found[0].ip() else { panic!("{found:?}") };
        assert_eq!((address.ip().to_string(), address.port()), ("fe80::1".to_owned(), 80));
        assert_ne!(address.scope_id(), 0);
    }
}
