//! Why a connection ended.

use std::fmt;
use std::io;

use crate::codec::FrameError;

/// Why a connection ended. Each ended connection has exactly one; the first cause wins.
#[derive(Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer ended its input, everything owed was answered and everything queued was sent.
    Peer {
        /// Its input ended inside a frame: it died, or its program is wrong. What came before was delivered.
        truncated: bool,
    },
    /// The peer, or something between, reset the connection. What was queued is lost.
    Reset,
    /// The handler closed it, and what was queued was sent.
    Local,
    /// The handler aborted it: what was queued is lost, and the peer sees a reset.
    Aborted,
    /// No byte came or went for the idle timeout.
    IdleTimeout,
    /// No whole message came in time after it was opened.
    FirstMessageTimeout,
    /// A frame was begun and not finished in time.
    FrameTimeout,
    /// The peer took nothing of what waited for it for too long.
    WriteTimeout,
    /// It did not take what others sent to it, and more than the write limit was waiting.
    SlowConsumer,
    /// All connections together held more than the memory limit, nothing moved, and this one held the most.
    MemoryLimit,
    /// The peer sent a frame longer than the maximum.
    FrameTooLong(FrameError),
    /// The peer broke the framing's rules, or sent a frame that is not a message.
    BadFrame(FrameError),
    /// The machine failed it: an error of the socket that is no reset.
    Io(io::Error),
    /// The reactor shut down.
    Shutdown,
    /// Its socket was handed out, see `Context::detach`.
    Detached,
    /// The peer, or something between, broke the rules of TLS: what came could not be opened. The text says why.
    Tls(io::Error),
    /// The stream ended without TLS' own end (close_notify): somebody may have cut it. What came before was delivered, what
    /// was owed and queued was sent, and a frame that had no end of its own was not taken for one.
    TlsTruncated,
    /// The code that served it panicked: the handler, or a job of a [pool of workers](crate::workers::Pool).
    Panicked,
}

impl CloseReason {
    /// How many kinds there are.
    pub(crate) const KINDS: usize = 18;

    /// The names of all kinds, in the order of [`kind`](CloseReason::kind).
    pub(crate) const NAMES: [&'static str; CloseReason::KINDS] = [
        "peer",
        "reset",
        "local",
        "aborted",
        "idle_timeout",
        "slow_consumer",
        "memory_limit",
        "frame_too_long",
        "bad_frame",
        "io_error",
        "shutdown",
        "detached",
        "first_message_timeout",
        "frame_timeout",
        "write_timeout",
        "panic",
        "tls_error",
        "tls_truncated",
    ];

    /// The kind's place in the counters.
    pub(crate) fn kind(&self) -> usize {
        match self {
            CloseReason::Peer { .. } => 0,
            CloseReason::Reset => 1,
            CloseReason::Local => 2,
            CloseReason::Aborted => 3,
            CloseReason::IdleTimeout => 4,
            CloseReason::SlowConsumer => 5,
            CloseReason::MemoryLimit => 6,
            CloseReason::FrameTooLong(_) => 7,
            CloseReason::BadFrame(_) => 8,
            CloseReason::Io(_) => 9,
            CloseReason::Shutdown => 10,
            CloseReason::Detached => 11,
            CloseReason::FirstMessageTimeout => 12,
            CloseReason::FrameTimeout => 13,
            CloseReason::WriteTimeout => 14,
            CloseReason::Panicked => 15,
            CloseReason::Tls(_) => 16,
            CloseReason::TlsTruncated => 17,
        }
    }

    /// A short, stable name, as the counters and the log have it: `peer`, `reset`, `idle_timeout` and so on.
    pub fn name(&self) -> &'static str {
        CloseReason::NAMES[self.kind()]
    }

    /// The reason for an error of a read or a write.
    pub(crate) fn from_io(error: io::Error) -> CloseReason {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
                CloseReason::Reset
            }
            // No system answers so: it is TLS' own.
            io::ErrorKind::InvalidData => CloseReason::Tls(error),
            _ => CloseReason::Io(error),
        }
    }

    /// Whether nothing can be sent any more, so that there is no use in flushing or in lingering.
    pub(crate) fn is_hard(&self) -> bool {
        matches!(self, CloseReason::Reset | CloseReason::Io(_) | CloseReason::Aborted | CloseReason::Panicked)
    }
}

impl From<FrameError> for CloseReason {
    fn from(error: FrameError) -> CloseReason {
        match error.kind() {
            crate::codec::FrameErrorKind::TooLong { .. } => CloseReason::FrameTooLong(error),
            crate::codec::FrameErrorKind::Truncated { .. } => CloseReason::Peer { truncated: true },
            crate::codec::FrameErrorKind::Malformed(_) => CloseReason::BadFrame(error),
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::Peer { truncated: false } => f.write_str("the peer ended it"),
            CloseReason::Peer { truncated: true } => f.write_str("the peer ended it inside a frame"),
            CloseReason::Reset => f.write_str("reset"),
            CloseReason::Local => f.write_str("closed by the handler"),
            CloseReason::Aborted => f.write_str("aborted by the handler"),
            CloseReason::IdleTimeout => f.write_str("idle for too long"),
            CloseReason::FirstMessageTimeout => f.write_str("said nothing in time"),
            CloseReason::FrameTimeout => f.write_str("did not finish a frame in time"),
            CloseReason::WriteTimeout => f.write_str("took nothing of what was sent for too long"),
            CloseReason::SlowConsumer => f.write_str("did not take what was sent to it"),
            CloseReason::MemoryLimit => f.write_str("the largest holder of too much memory"),
            CloseReason::FrameTooLong(error) | CloseReason::BadFrame(error) => error.fmt(f),
            CloseReason::Io(error) => error.fmt(f),
            CloseReason::Tls(error) => write!(f, "TLS: {error}"),
            CloseReason::TlsTruncated => f.write_str("the stream was cut before the end of TLS"),
            CloseReason::Shutdown => f.write_str("shut down"),
            CloseReason::Detached => f.write_str("its socket was handed out"),
            CloseReason::Panicked => f.write_str("its handler panicked"),
        }
    }
}
