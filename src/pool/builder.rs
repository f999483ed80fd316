//! A pool with other settings than the default ones.

use std::num::NonZero;
use std::thread;

use super::{Balance, ReactorPool};
use crate::error::Error;
use crate::handler::Handler;
use crate::reactor;

/// Settings of a pool to be.
#[derive(Debug, Clone)]
pub struct Builder {
    reactors: usize,
    each: reactor::Builder,
    pub(super) balance: Balance,
    connections_max: Option<usize>,
    pub(super) thread_name: String,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder {
            reactors: thread::available_parallelism().map_or(1, NonZero::get),
            each: reactor::Builder::default(),
            balance: Balance::default(),
            connections_max: None,
            thread_name: "reactor".to_owned(),
        }
    }
}

impl Builder {
    /// How many reactors. Defaults to what `std::thread::available_parallelism` says, one for each core that the process
    /// may use.
    #[must_use]
    pub fn reactors(mut self, count: usize) -> Builder {
        self.reactors = count;
        self
    }

    /// The settings of each reactor. Its limits hold for each, so that the pool has so many times as much.
    #[must_use]
    pub fn each(mut self, settings: reactor::Builder) -> Builder {
        self.each = settings;
        self
    }

    /// How clients come to the reactors. Defaults to [`Balance::Auto`].
    #[must_use]
    pub fn balance(mut self, balance: Balance) -> Builder {
        self.balance = balance;
        self
    }

    /// So many accepted connections may be open in all reactors together; past it, new ones are closed at once, and counted
    /// as refused. It is to the pool what [`Limits::connections_max`](crate::Limits::connections_max) is to each reactor, and
    /// held against the process's descriptor limit as that is. Defaults to 100,000, or as many as the descriptors hold.
    #[must_use]
    pub fn connections_max(mut self, max: usize) -> Builder {
        self.connections_max = Some(max);
        self
    }

    /// What the threads are called, before a hyphen and the index. Defaults to `reactor`. Linux shows the first 15 bytes.
    #[must_use]
    pub fn thread_name(mut self, name: impl Into<String>) -> Builder {
        self.thread_name = name.into();
        self
    }

    /// Makes the reactors. `handler` makes the handler of each, by index; it runs here and now, and the handler moves to its
    /// thread later.
    ///
    /// # Errors
    /// There are to be none, the limits contradict each other or are more than the process's descriptors can hold, the
    /// thread's name has a NUL in it, or the system gives no poller.
    pub fn build<H>(self, mut handler: impl FnMut(usize) -> H) -> Result<ReactorPool<H>, Error>
    where
        H: Handler<Codec: Send, Session: Send> + Send + 'static,
    {
        if self.reactors == 0 {
            return Err(Error::Config("a pool of no reactors serves nobody"));
        }
        if self.thread_name.contains('\0') {
            return Err(Error::Config("the name of a thread has no NUL in it"));
        }
        let reactors = (0..self.reactors)
            .map(|index| self.each.clone().build(handler(index)))
            .collect::<Result<_, _>>()?;
        let connections_max = self.each.connections_max_of_pool(self.connections_max, self.reactors)?;
        Ok(ReactorPool::with_reactors(reactors, connections_max, self))
    }
}
