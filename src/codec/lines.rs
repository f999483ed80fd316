//! Messages that end with the end of their line.

use bytes::Bytes;
use memchr::memchr;

use super::{Codec, EncodeError, FrameError, MAX_FRAME_DEFAULT, Output, Oversize, Scan};

/// Lines of bytes: LF ends one, and a CR directly before that LF is dropped with it.
///
/// The message is the line without its end. Only one CR is dropped, and only there: `a\r\r\n` is the line
/// `a\r`, and a CR anywhere else belongs to the line. An empty line is a message like any other. Lines are
/// bytes; wrap the codec in [`Utf8`](super::Utf8) for text.
///
/// **At the end of the stream** a last line without its LF is a message too, because many programs leave the
/// last LF out. Its bytes are kept as they are: a CR at its end is not dropped, because no LF came behind it.
///
/// **The maximum** counts the line without its end, in bytes. Exactly the maximum passes, whether LF or CR LF
/// ends it. A line is refused as soon as it cannot come out short enough, not when its end arrives. Defaults
/// to [`MAX_FRAME_DEFAULT`], because a limit should not change with the framing; a protocol of short lines
/// does well to set less, as an unfinished line is held in memory.
///
/// **Sending** appends LF. A line that contains LF is refused, because it would arrive as two. Behind a line
/// that ends in CR the end is CR LF: behind a lone LF the receiver would take that CR for a part of the end,
/// and drop it.
///
/// A clone has the settings alone, and begins with a new stream.
///
/// ```
/// use mainspring::codec::{Codec, Lines, Scan};
///
/// let mut lines = Lines::default();
/// let mut input = *b"first\r\nsec";
/// assert_eq!(lines.scan(&input), Ok(Scan::Frame(7)));
/// assert_eq!(lines.parse(&mut input[..7])?, b"first");
/// assert_eq!(lines.scan(b"sec"), Ok(Scan::Need(4)));
/// assert_eq!(lines.scan_end(b"sec"), Ok(Some(3)));
/// # Ok::<(), mainspring::codec::FrameError>(())
/// ```
#[derive(Debug)]
pub struct Lines {
    max: u64,
    oversize: Oversize,
    /// How many bytes of the unfinished line are known to hold no LF. Invariant: zero at the beginning of a
    /// line.
    looked: usize,
    /// The unfinished line is too long, and its bytes are dropped as they come, up to its LF.
    dropping: bool,
}

impl Default for Lines {
    fn default() -> Lines {
        Lines::with_max_frame(MAX_FRAME_DEFAULT)
    }
}

impl Clone for Lines {
    fn clone(&self) -> Lines {
        Lines { looked: 0, dropping: false, ..*self }
    }
}

impl Lines {
    /// With this as the longest line, in bytes without its end.
    pub fn with_max_frame(max: u64) -> Lines {
        Lines { max, oversize: Oversize::End, looked: 0, dropping: false }
    }

    /// Drops lines that are longer than the maximum instead of ending the connection: the bytes up to and
    /// with their LF, or up to the end of the stream. Defaults to ending it, because whoever sends them
    /// is broken or hostile.
    #[must_use]
    pub fn skip_oversized(self) -> Lines {
        Lines { oversize: Oversize::Skip, ..self }
    }

    /// The longest line that this codec takes and sends, in bytes without its end.
    pub fn max_frame(&self) -> u64 {
        self.max
    }

    /// Whether a line that begins with `line`, which holds no LF, can still come out short enough. A CR in
    /// the last place counts only once it is known that no LF follows.
    fn may_fit(&self, line: &[u8]) -> bool {
        without_cr(line).len() as u64 <= self.max
    }

    /// What has to be sent behind `line`.
    fn end_for(&self, line: &[u8]) -> Result<&'static [u8], EncodeError> {
        if line.len() as u64 > self.max {
            return Err(EncodeError::TooLong { len: line.len() as u64, limit: self.max });
        }
        if memchr(b'\n', line).is_some() {
            return Err(EncodeError::Unrepresentable("a line cannot contain LF"));
        }
        Ok(if line.ends_with(b"\r") { b"\r\n" } else { b"\n" })
    }
}

/// `line` without one CR at its end.
fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

impl Codec for Lines {
    type Message<'a> = &'a [u8];
    type Outgoing<'a> = &'a [u8];
    type Owned = Bytes;

    fn lend(owned: &Bytes) -> &[u8] {
        owned
    }

    #[inline]
    fn scan(&mut self, input: &[u8]) -> Result<Scan, FrameError> {
        let looked = self.looked.min(input.len());
        let lf = memchr(b'\n', &input[looked..]).map(|at| looked + at);
        let line = &input[..lf.unwrap_or(input.len())];
        if !self.dropping && self.may_fit(line) {
            return Ok(match lf {
                Some(lf) => {
                    self.looked = 0;
                    Scan::Frame(lf + 1)
                }
                None => {
                    self.looked = input.len();
                    Scan::Need(input.len() + 1)
                }
            });
        }
        if self.oversize == Oversize::End {
            return Err(FrameError::too_long(without_cr(line).len() as u64, self.max));
        }
        self.looked = 0;
        self.dropping = lf.is_none();
        Ok(match lf {
            Some(lf) => Scan::Skip(lf as u64 + 1),
            None if input.is_empty() => Scan::Need(1),
            None => Scan::Skip(input.len() as u64),
        })
    }

    fn scan_end(&mut self, rest: &[u8]) -> Result<Option<usize>, FrameError> {
        // Of a line that is being dropped nothing is left: it was skipped as it came.
        if rest.is_empty() {
            return Ok(None);
        }
        // One byte above the maximum is possible: a CR behind which an LF could have come.
        if rest.len() as u64 <= self.max {
            return Ok(Some(rest.len()));
        }
        match self.oversize {
            Oversize::End => Err(FrameError::too_long(rest.len() as u64, self.max)),
            Oversize::Skip => Ok(None),
        }
    }

    #[inline]
    fn parse<'a>(&mut self, frame: &'a mut [u8]) -> Result<&'a [u8], FrameError> {
        // Without an LF it is the last line of the stream, and its CR is its own.
        let frame: &'a [u8] = frame;
        Ok(frame.strip_suffix(b"\n").map_or(frame, without_cr))
    }

    #[inline]
    fn encode<'m>(&mut self, message: &'m [u8], out: &mut Output<'_, 'm>) -> Result<(), EncodeError> {
        let end = self.end_for(message)?;
        out.payload(message);
        out.put(end);
        Ok(())
    }

    fn encode_owned<'m>(&mut self, message: &'m Bytes, out: &mut Output<'_, 'm>) -> Result<(), EncodeError> {
        let end = self.end_for(message)?;
        out.shared(message);
        out.put(end);
        Ok(())
    }

    fn same_encoding(&self, other: &Lines) -> bool {
        self.max == other.max
    }
}
