//! The only folder that names mio, sockets and the clock. It knows nothing of frames, handlers or connections.

mod any;
pub(crate) mod clock;
#[cfg(feature = "credentials")]
mod credentials;
mod descriptors;
mod error_kind;
mod io;
mod listener;
#[cfg(any(test, feature = "sim"))]
#[allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "the core's own tests and the simulated world each use their part"
)]
pub(crate) mod mem;
mod options;
mod poller;
mod resolve;
mod resolver;
mod sealed;
mod signal;
mod spin;
mod stream;
#[cfg(feature = "tls")]
mod tls;
#[cfg(unix)]
pub(crate) mod unix;

pub use any::{AnyListener, AnyStream};
#[cfg(feature = "credentials")]
pub use credentials::Credentials;
pub(crate) use descriptors::{Reserve, descriptor_limit, is_lack_of_descriptors};
pub(crate) use error_kind::{AcceptVerdict, accept_verdict};
pub(crate) use io::{Received, Written, receive, send, send_vectored};
pub(crate) use listener::{KERNEL_BALANCES, Listener};
pub use options::{Keepalive, ListenOptions, SocketOptions};
#[cfg(feature = "proxy-protocol")]
pub(crate) use poller::GREETING_MAX;
pub(crate) use poller::{ATTEMPT_MAX, Poller, Readiness, Ready, Source, TOKENS_CARRY_GENERATION, Waker};
pub use resolve::{ToAddresses, resolve};
pub(crate) use resolver::{Found, Resolver};
pub(crate) use sealed::Handshake;
#[cfg(unix)]
use signal::write_bytes;
pub(crate) use signal::write_slices;
pub(crate) use stream::{Dialed, Stream};
#[cfg(feature = "tls")]
pub(crate) use tls::{Session, failed as tls_failed};

/// The answer to a Unix address where there are no Unix sockets.
#[cfg(not(unix))]
pub(crate) fn no_unix_sockets<T>() -> std::io::Result<T> {
    Err(std::io::Error::new(std::io::ErrorKind::Unsupported, "this system has no Unix sockets"))
}
