//! TLS, with the feature `tls`: what serves it, what dials it, and what was agreed with a peer.
//!
//! Everything else stays as it is: codecs, handlers, limits and messages know nothing of it. `docs/tls.md` has the whole
//! story, and what it costs.
//!
//! ```no_run
//! use mainspring::tls::{Acceptor, Connector};
//! use mainspring::{ConnId, Context, Dial, Handler, ListenOptions, Reactor, codec::LengthPrefixed};
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     type Codec = LengthPrefixed;
//!     type Session = ();
//!
//!     fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, message: &[u8]) {
//!         cx.send(from, message);
//!     }
//! }
//!
//! let mut reactor = Reactor::new(Echo)?;
//! let acceptor = Acceptor::from_pem_files("cert.pem", "key.pem")?;
//! reactor.listen_with("0.0.0.0:7443", LengthPrefixed::default(), &ListenOptions::tls(acceptor))?;
//! // And the other way:
//! let connector = Connector::trusting_pem_file("ca.pem")?;
//! reactor.connect(Dial::to("server.example:7443").tls(connector), LengthPrefixed::default());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The work is done by [`rustls`], with the cryptography of `ring`. [`Acceptor::from_config`] and [`Connector::from_config`]
//! take a configuration of its own, for all that is not said here.

mod acceptor;
mod certificates;
mod connector;
mod error;
mod info;
pub(crate) mod named;
mod pem;

pub use acceptor::{Acceptor, AcceptorBuilder};
pub use certificates::Certificates;
pub use connector::{Connector, ConnectorBuilder};
pub use error::Error;
pub use info::TlsInfo;
pub use rustls;
