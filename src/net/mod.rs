//! The only folder that names mio, sockets and the clock. It knows nothing of frames, handlers or connections.

pub(crate) mod clock;
mod descriptors;
mod error_kind;
mod io;
mod listener;
#[cfg(test)]
pub(crate) mod mem;
mod options;
mod poller;
mod resolve;
mod resolver;
mod signal;
mod spin;
mod stream;

pub(crate) use descriptors::{Reserve, descriptor_limit, is_lack_of_descriptors};
pub(crate) use error_kind::{AcceptVerdict, accept_verdict};
pub(crate) use io::{Received, Written, receive, send, send_vectored};
pub(crate) use listener::{KERNEL_BALANCES, Listener};
pub use options::{Keepalive, ListenOptions, SocketOptions};
pub(crate) use poller::{ATTEMPT_MAX, Poller, Readiness, Ready, Source, TOKENS_CARRY_GENERATION, Waker};
pub use resolve::{ToAddresses, resolve};
pub(crate) use resolver::{Found, Resolver};
pub(crate) use signal::write_slices;
pub(crate) use stream::{Dialed, Stream};
