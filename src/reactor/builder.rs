//! A reactor with other settings than the default ones.

use std::time::Duration;

use log::info;

use super::{Context, OnPanic, Reactor};
use crate::error::Error;
use crate::handler::Handler;
use crate::limits::{CONNECTIONS_MAX, Limits};
use crate::net::{Poller, SocketOptions, descriptor_limit};

/// Settings of a reactor to be.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    limits: Limits,
    dial_options: SocketOptions,
    on_panic: OnPanic,
    fit_descriptors: bool,
    busy_poll: Duration,
}

/// Descriptors for everything but connections: the standard streams, the poller, listeners, log files, a name being looked up.
const OTHER_DESCRIPTORS: u64 = 32;
/// Those of each further reactor in a pool: its poller, its waker, its reserve, its listeners.
const DESCRIPTORS_OF_A_REACTOR: u64 = 8;

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

    /// Lowers [`Limits::connections_max`] to what the process's descriptor limit can hold, in the place of an error.
    #[must_use]
    pub fn fit_descriptors(mut self) -> Builder {
        self.fit_descriptors = true;
        self
    }

    /// Before the loop sleeps it asks the kernel for events again and again, for up to so long. Defaults to zero: it sleeps at once.
    ///
    /// For latency, where a core can be spared: an event finds the thread awake, which saves the wake-up (some microseconds, and
    /// tens of them where idle cores go to rest). The price is a core that is busy with nothing between two events, and smaller
    /// batches, so that throughput can fall. It adapts: it spins only after waits that have ended within that time, for no longer
    /// than they do, and a reactor with nothing to do sleeps as ever after a few waits. When the thread was made to wait for its
    /// core, it leaves that to others for a tenth of a second. [`Stats::busy_polls`](crate::Stats::busy_polls) and
    /// [`busy_poll_hits`](crate::Stats::busy_poll_hits) say what became of it; 50 to 200 µs are usual.
    #[must_use]
    pub fn busy_poll(mut self, time: Duration) -> Builder {
        self.busy_poll = time;
        self
    }

    /// How many connections there may be, when the process may have `limit` descriptors.
    fn connections_max(&self, limit: Option<u64>) -> Result<usize, Error> {
        self.fitting(self.limits.connections_max, OTHER_DESCRIPTORS, limit)
    }

    /// How many connections the `count` reactors of a pool may have together.
    pub(crate) fn connections_max_of_pool(&self, asked: Option<usize>, count: usize) -> Result<usize, Error> {
        let others = OTHER_DESCRIPTORS + DESCRIPTORS_OF_A_REACTOR * (count.saturating_sub(1) as u64);
        self.fitting(asked, others, descriptor_limit())
    }

    /// As many connections as were asked for, when that and `others` fit in `limit`.
    fn fitting(&self, asked: Option<usize>, others: u64, limit: Option<u64>) -> Result<usize, Error> {
        let wanted = asked.unwrap_or(CONNECTIONS_MAX);
        let Some(limit) = limit else { return Ok(wanted) };
        let held = usize::try_from(limit.saturating_sub(others)).unwrap_or(usize::MAX);
        if wanted <= held {
            return Ok(wanted);
        }
        if held == 0 || (asked.is_some() && !self.fit_descriptors) {
            return Err(Error::Descriptors { wanted, held, limit });
        }
        info!("there may be {limit} descriptors: at most {held} connections");
        Ok(held)
    }

    /// Makes the reactor.
    ///
    /// # Errors
    /// The limits contradict each other, or are more than the process's descriptors can hold, or the system gives no poller.
    pub fn build<H: Handler>(self, handler: H) -> Result<Reactor<H>, Error> {
        self.limits.check()?;
        let connections_max = self.connections_max(descriptor_limit())?;
        let poller = Poller::new(self.limits.events, self.busy_poll).map_err(Error::Poll)?;
        let mut cx = Context::new(poller, self.limits, self.dial_options);
        cx.on_panic = self.on_panic;
        cx.connections_max = connections_max;
        Ok(Reactor::with_context(handler, cx))
    }

    /// Makes the reactor in an in-memory world, and has a journal kept. The process's descriptors do not matter there.
    ///
    /// # Errors
    /// The limits contradict each other.
    #[cfg(feature = "sim")]
    pub(crate) fn build_in<H: Handler>(
        self,
        world: &crate::net::mem::World,
        handler: H,
    ) -> Result<(Reactor<H>, crate::net::mem::World), Error> {
        self.limits.check()?;
        let world = world.another(self.limits.events);
        let mut cx = Context::new(Poller::Mem(world.clone()), self.limits, self.dial_options);
        cx.on_panic = self.on_panic;
        cx.keep_journal();
        Ok((Reactor::with_context(handler, cx), world))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder(asked: Option<usize>, fit_descriptors: bool) -> Builder {
        let mut limits = Limits::default();
        limits.connections_max = asked;
        Builder { limits, fit_descriptors, ..Builder::default() }
    }

    #[test]
    fn the_reactors_of_a_pool_share_the_descriptors() {
        let limit = descriptor_limit().and_then(|limit| usize::try_from(limit).ok());
        let Some(limit) = limit.filter(|limit| *limit < usize::MAX / 2) else { return };
        let asked = |builder: Builder, max, count| builder.connections_max_of_pool(max, count).ok();
        assert_eq!(asked(builder(None, false), Some(1), 2), Some(1));
        assert_eq!(asked(builder(None, false), Some(limit - 32), 1), Some(limit - 32));
        assert_eq!(asked(builder(None, false), Some(limit - 32), 2), None, "the second has some of its own");
        assert_eq!(asked(builder(None, true), Some(limit - 32), 2), Some(limit - 40));
        assert_eq!(asked(builder(None, false), None, 2), Some(CONNECTIONS_MAX.min(limit - 40)));
    }

    #[test]
    fn limits_that_descriptors_cannot_hold_are_refused_or_lowered_as_asked() {
        assert_eq!(builder(None, false).connections_max(None).ok(), Some(100_000));
        assert_eq!(builder(None, false).connections_max(Some(1024)).ok(), Some(992), "by default they fit");
        assert_eq!(builder(Some(992), false).connections_max(Some(1024)).ok(), Some(992));
        assert_eq!(builder(Some(993), true).connections_max(Some(1024)).ok(), Some(992));
        assert!(matches!(
            builder(Some(993), false).connections_max(Some(1024)),
            Err(Error::Descriptors { wanted: 993, held: 992, limit: 1024 })
        ));
        for (asked, fit) in [(None, false), (Some(1), true)] {
            assert!(builder(asked, fit).connections_max(Some(32)).is_err(), "not even one");
        }
    }
}
