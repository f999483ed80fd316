//! Messages with a delimiter behind each.

use std::sync::Arc;

use bytes::Bytes;
use memchr::memmem::Finder;

use super::{Codec, ConfigError, EncodeError, FrameError, MAX_FRAME_DEFAULT, Output, Oversize, Scan};

/// Bytes up to a delimiter, which is any string of bytes that is not empty.
///
/// The message is what comes before the delimiter. The first occurrence counts: with `aa` as the delimiter,
/// `aaa` is an empty message, and then the beginning of another. An empty message is a message like any
/// other.
///
/// **At the end of the stream** nothing may be left over: a frame without its delimiter is truncated.
///
/// **The maximum** counts the message without the delimiter, in bytes. Exactly the maximum passes. A frame is
/// refused as soon as no delimiter can come early enough. Defaults to [`MAX_FRAME_DEFAULT`], because a limit
/// should not change with the framing; a protocol of short messages does well to set less, as an unfinished
/// one is held in memory.
///
/// **Sending** refuses a message that would arrive as another one: it contains the delimiter, or its last
/// bytes make an earlier occurrence together with the delimiter behind it (`a` with `aa` as the delimiter).
///
/// A clone has the settings alone, and begins with a new stream.
///
/// ```
/// use mainspring::codec::{Codec, Delimited, Scan};
///
/// let mut codec = Delimited::new("--")?.with_max_frame(1024);
/// let mut input = *b"one--two";
/// assert_eq!(codec.scan(&input), Ok(Scan::Frame(5)));
/// assert_eq!(codec.parse(&mut input[..5])?, b"one");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Delimited {
    /// Shared by all connections, and the search is prepared once. Invariant: the delimiter is not empty.
    finder: Arc<Finder<'static>>,
    max: u64,
    place: Place,
    oversize: Oversize,
}

/// Where in a frame the decoder is.
#[derive(Debug)]
enum Place {
    /// No delimiter begins and ends in so many bytes at the front. Zero at the beginning of a frame.
    Searched(usize),
    /// The frame is too long, and so many of its bytes were dropped.
    Dropping(u64),
}

impl Clone for Delimited {
    fn clone(&self) -> Delimited {
        Delimited { finder: Arc::clone(&self.finder), place: Place::Searched(0), ..*self }
    }
}

impl Delimited {
    /// With this delimiter.
    ///
    /// # Errors
    /// The delimiter is empty.
    pub fn new(delimiter: impl AsRef<[u8]>) -> Result<Delimited, ConfigError> {
        let delimiter = delimiter.as_ref();
        if delimiter.is_empty() {
            return Err(ConfigError("a delimiter has at least one byte"));
        }
        Ok(Delimited {
            finder: Arc::new(Finder::new(delimiter).into_owned()),
            max: MAX_FRAME_DEFAULT,
            place: Place::Searched(0),
            oversize: Oversize::End,
        })
    }

    /// With this as the longest message, in bytes without the delimiter.
    #[must_use]
    pub fn with_max_frame(self, max: u64) -> Delimited {
        Delimited { max, ..self }
    }

    /// Drops messages that are longer than the maximum instead of ending the connection. Defaults to ending
    /// it, because whoever sends them is broken or hostile.
    #[must_use]
    pub fn skip_oversized(self) -> Delimited {
        Delimited { oversize: Oversize::Skip, ..self }
    }

    /// The longest message that this codec takes and sends, in bytes without the delimiter.
    pub fn max_frame(&self) -> u64 {
        self.max
    }

    /// The delimiter.
    pub fn delimiter(&self) -> &[u8] {
        self.finder.needle()
    }

    /// The first place in `input`, which holds no delimiter, where one may have begun: its end if nowhere
    /// else.
    fn may_begin(&self, input: &[u8]) -> usize {
        let delimiter = self.delimiter();
        let from = input.len().saturating_sub(delimiter.len() - 1);
        (from..input.len()).find(|&at| delimiter.starts_with(&input[at..])).unwrap_or(input.len())
    }

    fn check(&self, message: &[u8]) -> Result<(), EncodeError> {
        if message.len() as u64 > self.max {
            return Err(EncodeError::TooLong { len: message.len() as u64, limit: self.max });
        }
        if self.finder.find(message).is_some() {
            return Err(EncodeError::Unrepresentable("the message contains the delimiter"));
        }
        // An occurrence that begins `early` bytes before the end of the message, and ends in the delimiter
        // behind it.
        let delimiter = self.delimiter();
        let straddles = |early: usize| {
            message.ends_with(&delimiter[..early]) && delimiter.starts_with(&delimiter[early..])
        };
        if (1..delimiter.len()).any(straddles) {
            return Err(EncodeError::Unrepresentable(
                "the end of the message completes an earlier delimiter",
            ));
        }
        Ok(())
    }
}

impl Codec for Delimited {
    type Message<'a> = &'a [u8];
    type Outgoing<'a> = &'a [u8];
    type Owned = Bytes;

    fn lend(owned: &Bytes) -> &[u8] {
        owned
    }

    #[inline]
    fn scan(&mut self, input: &[u8]) -> Result<Scan, FrameError> {
        let delimiter_len = self.delimiter().len();
        let (searched, dropped) = match self.place {
            Place::Searched(searched) => (searched, None),
            Place::Dropping(dropped) => (0, Some(dropped)),
        };
        // A delimiter may have begun in the last bytes that were searched.
        let from = searched.min(input.len()).saturating_sub(delimiter_len - 1);
        let found = self.finder.find(&input[from..]).map(|at| from + at);
        let message_len = found.unwrap_or_else(|| self.may_begin(input));

        if dropped.is_none() && message_len as u64 <= self.max {
            return Ok(match found {
                Some(at) => {
                    self.place = Place::Searched(0);
                    Scan::Frame(at + delimiter_len)
                }
                None => {
                    self.place = Place::Searched(input.len());
                    Scan::Need(input.len() + 1)
                }
            });
        }
        if self.oversize == Oversize::End {
            return Err(FrameError::too_long(message_len as u64, self.max));
        }
        Ok(match found {
            Some(at) => {
                self.place = Place::Searched(0);
                Scan::Skip((at + delimiter_len) as u64)
            }
            // All of it may be the beginning of the delimiter.
            None if message_len == 0 => Scan::Need(input.len() + 1),
            None => {
                self.place = Place::Dropping(dropped.unwrap_or(0).saturating_add(message_len as u64));
                Scan::Skip(message_len as u64)
            }
        })
    }

    fn scan_end(&mut self, rest: &[u8]) -> Result<Option<usize>, FrameError> {
        let dropped = if let Place::Dropping(dropped) = self.place { dropped } else { 0 };
        match dropped.saturating_add(rest.len() as u64) {
            0 => Ok(None),
            arrived => Err(FrameError::truncated(arrived)),
        }
    }

    #[inline]
    fn parse<'a>(&mut self, frame: &'a mut [u8]) -> Result<&'a [u8], FrameError> {
        let frame: &'a [u8] = frame;
        frame.strip_suffix(self.delimiter()).ok_or(FrameError::malformed("not followed by the delimiter"))
    }

    #[inline]
    fn encode<'m>(&mut self, message: &'m [u8], out: &mut Output<'_, 'm>) -> Result<(), EncodeError> {
        self.check(message)?;
        out.payload(message);
        out.put(self.delimiter());
        Ok(())
    }

    fn encode_owned<'m>(&mut self, message: &'m Bytes, out: &mut Output<'_, 'm>) -> Result<(), EncodeError> {
        self.check(message)?;
        out.shared(message);
        out.put(self.delimiter());
        Ok(())
    }

    fn same_encoding(&self, other: &Delimited) -> bool {
        self.max == other.max && self.delimiter() == other.delimiter()
    }
}
