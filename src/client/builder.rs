//! What a client is made from: its options, each with a default and the reason for it.

use std::time::Duration;

use super::blocking::Client;
use super::connect::{Target, connect};
use super::error::{Error, Step};
use super::wire::{Patience, Tcp};
use crate::address::Address;
use crate::codec::Codec;
use crate::net::{AnyStream, SocketOptions};

/// Options of a [`Client`]. One builder can make several.
///
/// ```no_run
/// use mainspring::client::Builder;
/// use mainspring::codec::Lines;
/// use std::time::Duration;
///
/// let patient = Builder::new()
///     .connect_timeout(Some(Duration::from_secs(2)))
///     .read_timeout(Some(Duration::from_secs(30)));
/// let mut client = patient.connect("localhost:7000", Lines::default())?;
/// client.send(b"hello")?;
/// # Ok::<(), mainspring::client::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Builder {
    options: SocketOptions,
    connect_timeout: Option<Duration>,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    #[cfg(feature = "tls")]
    tls: Option<crate::tls::Connector>,
    #[cfg(feature = "tls")]
    server_name: Option<String>,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder {
            options: SocketOptions::default(),
            connect_timeout: Some(Duration::from_secs(10)),
            read_timeout: None,
            write_timeout: None,
            #[cfg(feature = "tls")]
            tls: None,
            #[cfg(feature = "tls")]
            server_name: None,
        }
    }
}

impl Builder {
    /// The defaults.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// How long connecting may take in all: the look-up of the name, and every address. Each address has an equal share of
    /// what is left. Defaults to 10 s, because the system's own limit is minutes for each address. `None` leaves it to the
    /// system.
    #[must_use]
    pub fn connect_timeout(mut self, limit: Option<Duration>) -> Builder {
        self.connect_timeout = limit;
        self
    }

    /// How long one [`recv`](Client::recv) may take, from the call to the whole message. Defaults to none, because only
    /// the protocol knows how long a peer may be silent. Zero waits for nothing.
    #[must_use]
    pub fn read_timeout(mut self, limit: Option<Duration>) -> Builder {
        self.read_timeout = limit;
        self
    }

    /// How long one [`send`](Client::send) may take, from the call until the system has all of the message. Defaults to
    /// none, because a peer that does not read for a while is no error by itself. Zero waits for nothing.
    #[must_use]
    pub fn write_timeout(mut self, limit: Option<Duration>) -> Builder {
        self.write_timeout = limit;
        self
    }

    /// Options of the socket. They are set before it connects, so that buffer sizes have their full effect. Default to
    /// those of [`SocketOptions`].
    #[must_use]
    pub fn socket_options(mut self, options: SocketOptions) -> Builder {
        self.options = options;
        self
    }

    /// Speaks TLS. The server has to show a certificate of the host that is connected to, be that a name or an address. The
    /// handshake is a part of connecting, and of its time limit. Defaults to plain TCP.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, connector: crate::tls::Connector) -> Builder {
        self.tls = Some(connector);
        self
    }

    /// Wants to see a certificate of this name, in the place of the host that is connected to, and asks the server for it (SNI).
    /// For [`tls`](Builder::tls) alone.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Builder {
        self.server_name = Some(name.into());
        self
    }

    /// Connects to the first address of `target` that answers, in the resolver's order.
    ///
    /// # Errors
    /// At [`Step::Resolve`] the name is unknown or was not answered in time. At [`Step::Connect`] no address
    /// would do: [`Error::attempts`] has each of them and why; or the one that has answered would not do for TLS.
    pub fn connect<C: Codec>(&self, target: impl Into<Target>, codec: C) -> Result<Client<C>, Error> {
        let patience = Patience::new(self.connect_timeout);
        let target = target.into();
        let (stream, address) = connect(&target, &self.options, self.connect_timeout)?;
        #[cfg(feature = "tls")]
        return self.finish(stream, address, target.host(), patience, codec);
        #[cfg(not(feature = "tls"))]
        self.finish(stream, address, None, patience, codec)
    }

    /// Takes in a socket that was connected elsewhere, a TCP or a Unix one. Its timeouts and its mode are overwritten, its options as far as
    /// [`socket_options`](Builder::socket_options) says something else than the system's defaults.
    ///
    /// # Errors
    /// At [`Step::Connect`]: it is not connected, or an option cannot be set.
    pub fn adopt<C: Codec>(&self, stream: impl Into<AnyStream>, codec: C) -> Result<Client<C>, Error> {
        let stream = stream.into();
        let patience = Patience::new(None);
        let failed = |error| Error::io(Step::Connect, "an adopted socket", patience.elapsed(), error);
        let peer = stream.peer_addr().map_err(failed)?;
        stream.apply(&self.options).map_err(failed)?;
        self.finish(stream, peer, None, Patience::new(self.connect_timeout), codec)
    }

    /// Makes the client, and shakes hands where it has to. `host`: the name that was connected to.
    fn finish<C: Codec>(
        &self,
        stream: AnyStream,
        peer: Address,
        host: Option<&str>,
        patience: Patience,
        codec: C,
    ) -> Result<Client<C>, Error> {
        let failed = |patience: &Patience, error| Error::io(Step::Connect, &peer, patience.elapsed(), error);
        #[cfg_attr(not(feature = "tls"), expect(unused_mut, reason = "only TLS changes it"))]
        let mut tcp = Tcp::new(stream).map_err(|error| failed(&patience, error))?;
        #[cfg(feature = "tls")]
        if let Some(connector) = &self.tls {
            let mut patience = patience;
            let secured = self.session(connector, &peer, host).and_then(|tls| tcp.secure(tls, &mut patience));
            secured.map_err(|error| failed(&patience, error))?;
        }
        #[cfg(not(feature = "tls"))]
        let _ = host;
        Ok(Client::new(tcp, peer, codec, self.read_timeout, self.write_timeout))
    }

    #[cfg(feature = "tls")]
    fn session(
        &self,
        connector: &crate::tls::Connector,
        peer: &Address,
        host: Option<&str>,
    ) -> std::io::Result<super::tls::Tls> {
        let address = || peer.ip().map_or_else(String::new, |peer| peer.ip().to_string());
        let name = self.server_name.clone().or_else(|| host.map(str::to_owned)).unwrap_or_else(address);
        super::tls::Tls::new(connector, &name)
    }
}
