//! One connection without its socket: what it has read and not delivered, where it stands, why it ends, and
//! the addresses that a dial tries.
//!
//! Pure: no socket, no clock, no callback.

mod close_reason;
mod halt;
mod inbox;
mod overflow;
mod race;

pub use close_reason::CloseReason;
pub(crate) use halt::{Halt, Halts};
pub(crate) use inbox::{COPY_IN_MAX, Inbox};
pub use overflow::Overflow;
pub(crate) use race::{Race, Step};
