//! A reactor with other settings than the default ones.

use super::{Context, OnPanic, Reactor};
use crate::error::Error;
use crate::handler::Handler;
use crate::limits::Limits;
use crate::net::{Poller, SocketOptions};

/// Settings of a reactor to be.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    limits: Limits,
    dial_options: SocketOptions,
    on_panic: OnPanic,
}

impl Builder {
    /// Sets all limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Builder {
        self.limits = limits;
        self
    }

    /// Sets the options of dialed and adopted sockets. Those of accepted ones are their listener's.
    #[must_use]
    pub fn dial_options(mut self, options: SocketOptions) -> Builder {
        self.dial_options = options;
        self
    }

    /// Says what a panic in the handler does. Defaults to [`OnPanic::Abort`].
    #[must_use]
    pub fn on_panic(mut self, on_panic: OnPanic) -> Builder {
        self.on_panic = on_panic;
        self
    }

    /// Makes the reactor.
    ///
    /// # Errors
    /// The limits contradict each other, or the system gives no poller.
    pub fn build<H: Handler>(self, handler: H) -> Result<Reactor<H>, Error> {
        self.limits.check()?;
        let poller = Poller::new(self.limits.events).map_err(Error::Poll)?;
        let mut cx = Context::new(poller, self.limits, self.dial_options);
        cx.on_panic = self.on_panic;
        Ok(Reactor::with_context(handler, cx))
    }
}
