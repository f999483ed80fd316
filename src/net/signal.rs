//! Writes that never raise SIGPIPE. Rust's runtime ignores that signal, but where `main` is another language's it ends the
//! process when a peer has reset its connection.
//!
//! The standard library's plain `write` on a TCP socket asks for no signal. On a Unix socket it was `write(2)` for long, and the
//! vectored ones are `writev(2)`: these cannot.

use std::io::{self, IoSlice};

use socket2::SockRef;

/// `MSG_NOSIGNAL` of send(2), where there is it. Apple's systems have an option of the socket for it, which the standard
/// library and mio set; Windows has no such signal.
#[cfg(all(unix, not(target_vendor = "apple")))]
const NO_SIGNAL: libc::c_int = libc::MSG_NOSIGNAL;
#[cfg(not(all(unix, not(target_vendor = "apple"))))]
const NO_SIGNAL: std::ffi::c_int = 0;

/// Writes what the socket takes of `bytes`.
#[cfg(unix)]
#[inline]
pub(super) fn write_bytes(socket: SockRef<'_>, bytes: &[u8]) -> io::Result<usize> {
    socket.send_with_flags(bytes, NO_SIGNAL)
}

/// Writes what the socket takes of `slices`.
#[inline]
pub(crate) fn write_slices(socket: SockRef<'_>, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    socket.send_vectored_with_flags(slices, NO_SIGNAL)
}
