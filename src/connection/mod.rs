//! One connection without its socket: what it has read and not delivered, where it stands, and why it ends.
//!
//! Pure: no socket, no clock, no callback.

mod close_reason;
mod halt;
mod inbox;
mod overflow;

pub use close_reason::CloseReason;
pub(crate) use halt::{Halt, Halts};
pub(crate) use inbox::{COPY_IN_MAX, Inbox};
pub use overflow::Overflow;
