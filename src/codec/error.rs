//! What can be wrong with a frame, with a message, and with a codec's settings.

use std::fmt;

/// Why the bytes of a peer are not a frame. The peer's fault: the connection ends, and nothing else is touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameError {
    kind: FrameErrorKind,
    offset: u64,
}

/// The kinds of [`FrameError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameErrorKind {
    /// The payload is longer than the limit. For framings without a length, `claimed` is what has arrived so far.
    TooLong {
        /// The payload's length in bytes, as the header claims it, after any adjustment.
        claimed: u64,
        /// The largest payload that is accepted, in bytes.
        limit: u64,
        /// The first four bytes of the header. When they are letters, another protocol is talking to this port.
        starts: [u8; 4],
    },
    /// The bytes break the framing's rules, or the frame is not a message. The text says which rule.
    Malformed(&'static str),
    /// The stream ended inside a frame.
    Truncated {
        /// How many bytes of the unfinished frame had arrived.
        arrived: u64,
    },
}

impl FrameError {
    /// The payload is `claimed` bytes long, and `limit` is the most.
    pub fn too_long(claimed: u64, limit: u64) -> FrameError {
        FrameErrorKind::TooLong { claimed, limit, starts: [0; 4] }.into()
    }

    /// As [`too_long`](FrameError::too_long), and notes the first bytes of `input`, so that the log can tell that (say)
    /// an HTTP client talks to this port.
    pub fn too_long_in(input: &[u8], claimed: u64, limit: u64) -> FrameError {
        let mut starts = [0; 4];
        let known = input.len().min(4);
        starts[..known].copy_from_slice(&input[..known]);
        FrameErrorKind::TooLong { claimed, limit, starts }.into()
    }

    /// The bytes break the rule that `what` names.
    pub fn malformed(what: &'static str) -> FrameError {
        FrameErrorKind::Malformed(what).into()
    }

    /// The stream ended after `arrived` bytes of a frame.
    pub fn truncated(arrived: u64) -> FrameError {
        FrameErrorKind::Truncated { arrived }.into()
    }

    /// What is wrong.
    pub fn kind(&self) -> FrameErrorKind {
        self.kind
    }

    /// Where the offending frame begins, in bytes from the start of the stream. Zero until the connection has added it.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The same error at a place in the stream.
    #[must_use]
    pub fn at(self, offset: u64) -> FrameError {
        FrameError { offset, ..self }
    }
}

impl From<FrameErrorKind> for FrameError {
    fn from(kind: FrameErrorKind) -> FrameError {
        FrameError { kind, offset: 0 }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            FrameErrorKind::TooLong { claimed, limit, starts } => {
                write!(f, "a frame of {claimed} bytes where {limit} is the most")?;
                if starts.iter().all(|b| b.is_ascii_graphic() || *b == b' ') {
                    write!(f, " (it begins with \"{}\": another protocol?)", starts.escape_ascii())?;
                }
            }
            FrameErrorKind::Malformed(what) => write!(f, "malformed: {what}")?,
            FrameErrorKind::Truncated { arrived } => {
                write!(f, "the stream ended after {arrived} bytes of a frame")?;
            }
        }
        write!(f, ", at byte {}", self.offset)
    }
}

impl std::error::Error for FrameError {}

/// Why a message could not be encoded. The sender's fault: nothing was queued, and the connection is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// The payload is longer than the framing or its limit can say.
    TooLong {
        /// The payload's length in bytes.
        len: u64,
        /// The largest that can be sent.
        limit: u64,
    },
    /// The framing has no way to say this message. The text says why.
    Unrepresentable(&'static str),
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EncodeError::TooLong { len, limit } => {
                write!(f, "a message of {len} bytes where {limit} is the most")
            }
            EncodeError::Unrepresentable(what) => write!(f, "the framing cannot say this message: {what}"),
        }
    }
}

impl std::error::Error for EncodeError {}

/// Settings of a codec that contradict each other. Found when the codec is built, never later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfigError(pub(super) &'static str);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for ConfigError {}
