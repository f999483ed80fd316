//! Who is at the other end of a connection.

use super::Context;
use crate::address::Address;
use crate::dial::unknown_peer;
use crate::handler::Handler;
use crate::id::{ConnId, ListenerId};

impl<H: Handler> Context<H> {
    /// The peer's address. Known until `on_close` has returned; that of a dial to a name is when it is open. A client of a Unix
    /// socket usually has none: its path is empty.
    pub fn peer_addr(&self, conn: ConnId) -> Option<&Address> {
        self.table.get(conn).map(|live| &live.peer).filter(|peer| **peer != unknown_peer())
    }

    /// Our own address on that connection, asked of the system.
    pub fn local_addr(&self, conn: ConnId) -> Option<Address> {
        self.table.get(conn)?.stream.local_address().ok()
    }

    /// Who is at the other end of a Unix socket: process, user and group, as the system knows them.
    ///
    /// ```
    /// # use mainspring::{Admission, ConnId, Context, Handler, codec::LengthPrefixed};
    /// struct Private {
    ///     owner: u32,
    /// }
    ///
    /// impl Handler for Private {
    ///     type Codec = LengthPrefixed;
    ///     type Session = ();
    ///
    ///     fn on_open(&mut self, cx: &mut Context<Self>, conn: ConnId) {
    ///         match cx.peer_credentials(conn) {
    ///             Ok(peer) if peer.uid == self.owner => {}
    ///             _ => cx.close(conn),
    ///         }
    ///     }
    ///     fn on_message(&mut self, _: &mut Context<Self>, _: ConnId, _: &[u8]) {}
    /// }
    /// ```
    ///
    /// # Errors
    /// The connection is gone or not open yet (`NotConnected`), is no Unix socket, or this system does not tell
    /// (`Unsupported`): Linux, Android, Apple's systems, FreeBSD and DragonFly do.
    #[cfg(feature = "credentials")]
    pub fn peer_credentials(&self, conn: ConnId) -> std::io::Result<crate::net::Credentials> {
        let live = self.table.get(conn).ok_or(std::io::ErrorKind::NotConnected)?;
        live.stream.credentials()
    }

    /// The listener that took the connection; `None` for a dialed or adopted one.
    pub fn listener_of(&self, conn: ConnId) -> Option<ListenerId> {
        self.table.get(conn)?.listener
    }
}
