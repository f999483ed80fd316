//! What the socket of a client is asked that has another answer under TLS.

use std::io;
use std::mem::MaybeUninit;

use socket2::SockRef;

use super::wire::{Patience, Tcp};

impl Tcp {
    /// Shakes hands: from now on all bytes go through this session.
    #[cfg(feature = "tls")]
    pub(super) fn secure(&mut self, mut tls: super::tls::Tls, patience: &mut Patience) -> io::Result<()> {
        tls.shake_hands(self, patience)?;
        self.tls = Some(Box::new(tls));
        Ok(())
    }

    #[cfg(feature = "tls")]
    pub(super) fn tls(&self) -> Option<&super::tls::Tls> {
        self.tls.as_deref()
    }

    /// Whether its bytes mean nothing without what was agreed with the peer.
    pub(super) fn is_sealed(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }

    /// Says the last word of this side, where there is one, behind all that was sent.
    pub(super) fn say_goodbye(&mut self, patience: &mut Patience) -> io::Result<()> {
        #[cfg(feature = "tls")]
        if let Some(mut tls) = self.tls.take() {
            let said = tls.say_goodbye(self, patience);
            self.tls = Some(tls);
            return said;
        }
        let _ = patience;
        Ok(())
    }

    /// Whether the peer may still send, as far as can be known without waiting. Nothing is consumed.
    pub(super) fn look(&mut self) -> io::Result<bool> {
        #[cfg(feature = "tls")]
        if let Some(mut tls) = self.tls.take() {
            let seen = tls.look(self);
            self.tls = Some(tls);
            return seen;
        }
        self.set_nonblocking(true)?;
        SockRef::from(&*self.stream).peek(&mut [MaybeUninit::uninit()]).map(|n| n > 0)
    }
}
