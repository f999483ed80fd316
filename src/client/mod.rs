//! Connections without a reactor: calls that block, or a receiving thread with a callback.
//!
//! For programs that talk to one server at a time, for tests, and for scripts. [`Client`] is for one thread that sends and
//! receives in turn; [`Channel`] receives on a thread of its own and is sent to from any. Both speak every
//! [`Codec`](crate::codec::Codec), and know nothing of a reactor.

mod blocking;
mod builder;
mod channel;
mod connect;
mod error;
mod incoming;
mod outgoing;
mod parts;
mod sealed;
#[cfg(feature = "tls")]
mod tls;
mod wire;

pub use blocking::{Client, TryRecv};
pub use builder::Builder;
pub use channel::{Channel, ChannelOptions, Ended, Event, Sender};
pub use connect::Target;
pub use error::{Attempt, Error, Step};
pub use parts::Parts;
