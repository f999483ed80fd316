//! The PROXY protocol, versions 1 and 2: a proxy in front says who its client is, before anything else on the connection.
//!
//! A listener asks for it by [`ListenOptions::proxy_protocol`](crate::ListenOptions::proxy_protocol). From then on each client has
//! to begin with a header, and has to come from a source that is trusted, for whoever may write one may be anyone:
//!
//! ```
//! use mainspring::proxy_protocol::ProxyProtocol;
//! use mainspring::{ConnId, Context, Handler, ListenOptions, Reactor, codec::Lines};
//!
//! struct Greets;
//!
//! impl Handler for Greets {
//!     type Codec = Lines;
//!     type Session = ();
//!
//!     fn on_open(&mut self, cx: &mut Context<Self>, conn: ConnId) {
//!         // The client's address, as its proxy has told it.
//!         println!("{:?} is here", cx.peer_addr(conn));
//!         if let Some(header) = cx.proxy_header(conn) {
//!             println!("through {}, which calls it {:?}", header.proxy(), header.tlv(0x05));
//!         }
//!     }
//!     fn on_message(&mut self, _: &mut Context<Self>, _: ConnId, _: &[u8]) {}
//! }
//!
//! let mut options = ListenOptions::default();
//! options.proxy_protocol = Some(ProxyProtocol::trusting(["127.0.0.0/8".parse()?, "::1".parse()?]));
//! let mut reactor = Reactor::new(Greets)?;
//! reactor.listen_with("127.0.0.1:0", Lines::default(), &options)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The header is read before the client is anything else. So [`on_accept`](crate::Handler::on_accept), the limits for each source, and
//! the log have the client's address, and a client without a proper header never becomes a connection: its socket is closed,
//! it is counted in [`Stats::refused`](crate::Stats::refused) and in [`proxy_refused`](crate::Stats::proxy_refused), and the log
//! says why. `docs/proxy-protocol.md` has the rest.

mod header;
mod prefix;
mod prelude;

use std::fmt;
use std::time::Duration;

use crate::address::Address;
pub use header::ProxyHeader;
pub use prefix::{Prefix, PrefixError};
pub(crate) use prelude::Prelude;

/// What a listener wants of the PROXY protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyProtocol {
    /// Who may send a header. All others are closed, and nothing of what they send is looked at. Defaults to nobody, because
    /// whoever is trusted can say that it is anyone. Clients of a Unix socket have no address: there the rights of its file
    /// say who is trusted.
    pub trusted: Vec<Prefix>,
    /// The header has to be whole after so long. Defaults to 5 s, because a proxy sends it at once, and one packet of it may be
    /// lost.
    pub timeout: Duration,
    /// A longer header is refused. Defaults to 4 KiB, because addresses and what proxies say of TLS are some hundred bytes. A
    /// header of version 1 has at most 107.
    pub header_max: usize,
}

impl Default for ProxyProtocol {
    fn default() -> ProxyProtocol {
        ProxyProtocol { trusted: Vec::new(), timeout: Duration::from_secs(5), header_max: 4096 }
    }
}

impl ProxyProtocol {
    /// The defaults, and these sources are trusted.
    pub fn trusting(sources: impl IntoIterator<Item = Prefix>) -> ProxyProtocol {
        ProxyProtocol { trusted: sources.into_iter().collect(), ..ProxyProtocol::default() }
    }

    /// Whether a header from there is believed.
    pub(crate) fn trusts(&self, source: &Address) -> bool {
        match source.ip() {
            Some(address) => self.trusted.iter().any(|prefix| prefix.contains(address.ip())),
            None => true,
        }
    }
}

/// Why a client was closed before it was a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is no proxy of ours.
    Untrusted,
    /// What came first is no header.
    Missing,
    /// The header is longer than it may be.
    TooLong(usize),
    /// It is a header, and a wrong one.
    Malformed(String),
    /// It was not whole in time.
    TimedOut,
    /// The stream ended before it was whole.
    Ended,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Untrusted => f.write_str("it is not trusted to send a PROXY header"),
            Refusal::Missing => f.write_str("what it sent first is no PROXY header"),
            Refusal::TooLong(len) => write!(f, "its PROXY header has {len} bytes, which are too many"),
            Refusal::Malformed(what) => write!(f, "its PROXY header is wrong: {what}"),
            Refusal::TimedOut => f.write_str("its PROXY header was not whole in time"),
            Refusal::Ended => f.write_str("it ended before its PROXY header was whole"),
        }
    }
}
