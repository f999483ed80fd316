//! Writes that never raise SIGPIPE. Rust's runtime ignores that signal, but where `main` is another language's it ends the
//! process when a peer has reset its connection.
//!
//! The standard library's plain `write` on a socket asks for no signal, its vectored one is `writev(2)`, which cannot.

use std::io::{self, IoSlice};

use socket2::SockRef;

/// `MSG_NOSIGNAL` of send(2), where there is it. Apple's systems have an option of the socket for it, which the standard
/// library and mio set; Windows has no such signal.
#[cfg(all(unix, not(target_vendor = "apple")))]
const NO_SIGNAL: libc::c_int = libc::MSG_NOSIGNAL;
#[cfg(not(all(unix, not(target_vendor = "apple"))))]
const NO_SIGNAL: std::ffi::c_int = 0;

/// Writes what the socket takes of `slices`.
#[inline]
pub(crate) fn write_slices(socket: SockRef<'_>, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    socket.send_vectored_with_flags(slices, NO_SIGNAL)
}
