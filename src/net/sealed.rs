//! What a stream is asked that has another answer under TLS.

use std::io;

use super::Stream;
use super::io::Written;
#[cfg(feature = "tls")]
use super::tls::{Session, TlsStream, failed};
#[cfg(feature = "tls")]
use crate::tls::{Acceptor, Connector, TlsInfo};

/// Where a handshake stands.
#[derive(Debug)]
#[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "there is none without TLS"))]
pub(crate) enum Handshake {
    /// It is not done.
    Pending {
        /// Something had come.
        worked: bool,
        /// There may be more to read; otherwise an event tells when it goes on.
        more: bool,
    },
    Done,
    Failed(io::Error),
}

/// What TLS needs from the streams that carry it, and what all that is above asks of it. Everything else has no output that
/// its outbox does not know of.
impl Stream {
    /// Whether something waits to be written that is in no outbox: what TLS has sealed, or has to say itself.
    #[inline]
    pub(crate) fn holds_output(&self) -> bool {
        #[cfg(feature = "tls")]
        if let Stream::Tls(tls) = self {
            return tls.holds_output();
        }
        false
    }

    /// How many bytes of that.
    #[inline]
    pub(crate) fn unsent(&self) -> usize {
        #[cfg(feature = "tls")]
        if let Stream::Tls(tls) = self {
            return tls.unsent();
        }
        0
    }

    /// What it holds in buffers of its own, by capacity.
    #[inline]
    pub(crate) fn held(&self) -> usize {
        #[cfg(feature = "tls")]
        if let Stream::Tls(tls) = self {
            return tls.held();
        }
        0
    }

    /// What a read of `n` bytes has cost: under TLS, how much cipher text that was. A peer that seals single bytes makes work of
    /// twenty times what it says.
    #[inline]
    pub(crate) fn cost_of(&self, n: usize) -> usize {
        #[cfg(feature = "tls")]
        if let Stream::Tls(tls) = self {
            return tls.cost().max(n);
        }
        n
    }

    /// Writes what it [holds](Stream::holds_output).
    pub(crate) fn push(&mut self) -> Written {
        #[cfg(feature = "tls")]
        if let Stream::Tls(tls) = self {
            return tls.push();
        }
        Written::Some { n: 0, full: false }
    }

    /// Of so many messages that were written into it, how many the kernel has got whole, with those before.
    #[inline]
    pub(crate) fn count_out(&mut self, frames: u64) -> u64 {
        #[cfg(feature = "tls")]
        if let Stream::Tls(tls) = self {
            return tls.count_out(frames);
        }
        frames
    }

    /// Says the last word of our side, where there is one. False while the socket has no room for it.
    #[inline]
    pub(crate) fn say_goodbye(&mut self) -> bool {
        #[cfg(feature = "tls")]
        if let Stream::Tls(tls) = self {
            return tls.say_goodbye();
        }
        true
    }

    /// Whether its end was an end of the socket alone, and not one that the peer has vouched for.
    pub(crate) fn was_cut(&self) -> bool {
        #[cfg(feature = "tls")]
        if let Stream::Tls(tls) = self {
            return tls.was_cut();
        }
        false
    }

    /// Goes on with the handshake, where there is one.
    pub(crate) fn shake_hands(&mut self) -> Handshake {
        #[cfg(feature = "tls")]
        if let Stream::Tls(tls) = self {
            return tls.shake_hands();
        }
        Handshake::Done
    }

    /// Whether its bytes mean nothing without what this side has agreed with the peer.
    pub(crate) fn is_sealed(&self) -> bool {
        #[cfg(feature = "tls")]
        if let Stream::Tls(_) = self {
            return true;
        }
        false
    }
}

#[cfg(feature = "tls")]
impl Stream {
    /// The same stream under TLS, as the accepting side. The handshake is still to come.
    pub(crate) fn accepting(self, acceptor: &Acceptor) -> io::Result<Stream> {
        let session = Session::server(acceptor.config()).map_err(failed)?;
        Ok(Stream::Tls(Box::new(TlsStream::new(self, session))))
    }

    /// The same stream under TLS, as the dialing side that wants to see a certificate of this name.
    pub(crate) fn connecting(self, connector: &Connector, name: &str) -> io::Result<Stream> {
        let session = Session::client(connector.config(), name).map_err(failed)?;
        Ok(Stream::Tls(Box::new(TlsStream::new(self, session))))
    }

    /// What was agreed with the peer.
    pub(crate) fn tls(&self) -> Option<TlsInfo<'_>> {
        match self {
            Stream::Tls(tls) => Some(tls.session().info()),
            _ => None,
        }
    }
}
