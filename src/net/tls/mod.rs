//! TLS, between a socket and all that is above it: what is read here is plain text, and so is what is written.
//!
//! It knows rustls and streams, and nothing of frames or connections. rustls' unbuffered interface leaves all memory to us, so
//! that a connection with nothing under way holds no buffer: what is read and sealed at the moment is in memory that all
//! connections of a thread share.
//!
//! - `session`: cipher text in, plain text out, and the other way; no socket
//! - `stream`: a session on a stream, with what each read and write means for readiness

mod session;
mod stream;

use std::io;

pub(crate) use session::Session;
pub(crate) use stream::TlsStream;

/// What went wrong with TLS, as an error of a stream. No socket fails with this kind.
pub(crate) fn failed(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
