//! Names for what a reactor owns. Each carries a generation, so that a name of the past never reaches what came later.

use std::fmt;
use std::num::NonZeroU32;

use crate::time::TimerKey;

/// Names one connection of one reactor, from its accept or dial to its `on_close`. Never given out again: what is sent to
/// a connection of the past is dropped, and says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// Names one connection of one reactor of a [pool](crate::pool).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolConnId {
    /// The reactor, by index.
    pub reactor: usize,
    /// What the connection is called there.
    pub conn: ConnId,
}

/// Names one listener of one reactor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId {
    pub(crate) slot: u32,
    /// Never zero, so that none takes no room.
    pub(crate) generation: NonZeroU32,
}

/// Names one timer of one reactor, until it has fired for the last time or was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerId(pub(crate) TimerKey);

impl fmt::Display for ConnId {
    /// `slot.generation`, as the log names it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}

impl fmt::Display for PoolConnId {
    /// `reactor/slot.generation`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.reactor, self.conn)
    }
}

impl fmt::Display for ListenerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}
