//! Framed TCP from one thread.

#![forbid(unsafe_code)]

pub mod codec;

mod address;
mod buffer;
mod connection;
mod error;
mod handle;
mod handler;
mod id;
mod limits;
mod net;
mod reactor;
mod stats;
mod time;

pub use address::{Address, AddressError};
pub use connection::CloseReason;
pub use error::{DialError, Error};
pub use handle::{Handle, HandleError};
pub use handler::{Admission, HalfClose, Handler, Message, Outgoing, Owned, Timer};
pub use id::{ConnId, ListenerId, TimerId};
pub use limits::Limits;
pub use net::{Keepalive, ListenOptions, SocketOptions, ToAddresses, resolve};
pub use reactor::{
    Broadcast, Builder, Context, Detached, DropReason, Flow, Listening, Reactor, Sent, Served,
    ShutdownReport, To, serve,
};
pub use stats::Stats;
