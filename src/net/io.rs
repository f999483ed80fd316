//! The one judge of what a read or a write has answered.

use std::io::{self, IoSlice};

use super::Stream;

/// What a read brought.
#[derive(Debug)]
pub(crate) enum Received {
    /// So many bytes; none where TLS had something to say to itself alone. `drained`: there is nothing more at the moment, and an event will tell of the next.
    Some {
        /// How many.
        n: usize,
        /// Whether the stream has nothing more to give for now.
        drained: bool,
    },
    /// Nothing for now; an event will tell.
    Empty,
    /// The peer has ended its input.
    End,
    /// The connection is broken.
    Failed(io::Error),
}

/// What a write achieved.
#[derive(Debug)]
pub(crate) enum Written {
    /// So many bytes were taken. `full`: no more for now, and an event will tell when there is room.
    Some {
        /// How many.
        n: usize,
        /// Whether the stream takes no more for now.
        full: bool,
    },
    /// None was taken; an event will tell.
    Full,
    /// The connection is broken.
    Failed(io::Error),
}

/// Whether a read that did not fill its buffer, or a write that was not taken whole, proves that the socket is drained or
/// full, so that the call that would only bring `WouldBlock` can be left out.
///
/// So on Linux and the BSDs (epoll(7), question 9). Not where mio re-arms an event only after `WouldBlock`: on Windows and
/// under its poll(2) selector.
const SHORT_MEANS_DONE: bool = cfg!(all(
    not(mio_unsupported_force_poll_poll),
    any(
        target_os = "linux",
        target_os = "android",
        target_os = "freebsd",
        target_os = "netbsd",
        target_os = "openbsd",
        target_os = "dragonfly",
        target_vendor = "apple"
    )
));

/// Reads once. `trust` says that a short read may be taken for a drained socket; it may not when the peer is known to have
/// ended its input (the end has to be read), or after urgent data, which cuts a read short.
///
/// `into` must not be empty: a read of nothing answers zero, which would look like the end.
#[inline]
pub(crate) fn receive(stream: &mut Stream, into: &mut [u8], trust: bool) -> Received {
    debug_assert!(!into.is_empty(), "a read into nothing would look like the end");
    #[cfg(feature = "tls")]
    if let Stream::Tls(tls) = stream {
        return tls.receive(into, trust);
    }
    loop {
        return match stream.read(into) {
            Ok(0) => Received::End,
            Ok(n) => {
                let drained = n < into.len() && trust && SHORT_MEANS_DONE && stream.is_short_when_drained();
                Received::Some { n, drained }
            }
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => continue,
                io::ErrorKind::WouldBlock => Received::Empty,
                _ => Received::Failed(error),
            },
        };
    }
}

/// Writes one slice once.
#[inline]
pub(crate) fn send(stream: &mut Stream, bytes: &[u8]) -> Written {
    #[cfg(feature = "tls")]
    if let Stream::Tls(tls) = stream {
        return tls.send(bytes);
    }
    judge(stream, bytes.len(), |stream| stream.write(bytes))
}

/// Writes several slices, of `total` bytes, once.
pub(crate) fn send_vectored(stream: &mut Stream, slices: &[IoSlice<'_>], total: usize) -> Written {
    #[cfg(feature = "tls")]
    if let Stream::Tls(tls) = stream {
        return tls.send_vectored(slices);
    }
    judge(stream, total, |stream| stream.write_slices(slices))
}

#[inline]
fn judge(
    stream: &mut Stream,
    total: usize,
    mut write: impl FnMut(&mut Stream) -> io::Result<usize>,
) -> Written {
    debug_assert!(total > 0, "a write of nothing proves nothing");
    loop {
        return match write(stream) {
            // A stream that takes nothing of something will never take more (write(2) does not do this for sockets).
            Ok(0) => Written::Failed(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                Written::Some { n, full: n < total && SHORT_MEANS_DONE && stream.is_short_when_drained() }
            }
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => continue,
                io::ErrorKind::WouldBlock => Written::Full,
                _ => Written::Failed(error),
            },
        };
    }
}
