//! Messages of one length.

use bytes::Bytes;

use super::{Codec, ConfigError, EncodeError, FrameError, Output, Scan};

/// Messages of exactly so many bytes, with nothing between them.
///
/// There is no maximum and no empty message: the length says both. At the end of the stream nothing may be
/// left over: a shorter rest is truncated. A message of another length is refused when it is sent, because
/// all that come after it would be cut at the wrong places.
///
/// ```
/// use mainspring::codec::{Codec, Fixed, Scan};
///
/// let mut codec = Fixed::new(4)?;
/// assert_eq!(codec.scan(b"abc"), Ok(Scan::Need(4)));
/// assert_eq!(codec.scan(b"abcdefgh"), Ok(Scan::Frame(4)));
/// assert!(Fixed::new(0).is_err());
/// # Ok::<(), mainspring::codec::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixed {
    /// Invariant: not zero.
    len: usize,
}

impl Fixed {
    /// With messages of `len` bytes.
    ///
    /// # Errors
    /// `len` is zero: a stream of nothing has no end of messages.
    pub fn new(len: usize) -> Result<Fixed, ConfigError> {
        if len == 0 {
            return Err(ConfigError("a fixed length has at least one byte"));
        }
        Ok(Fixed { len })
    }

    /// The length of every message, in bytes.
    pub fn frame_len(&self) -> usize {
        self.len
    }

    fn check(&self, len: usize) -> Result<(), EncodeError> {
        if len > self.len {
            return Err(EncodeError::TooLong { len: len as u64, limit: self.len as u64 });
        }
        if len < self.len {
            return Err(EncodeError::Unrepresentable("the message is shorter than the fixed length"));
        }
        Ok(())
    }
}

impl Codec for Fixed {
    type Message<'a> = &'a [u8];
    type Outgoing<'a> = &'a [u8];
    type Owned = Bytes;

    fn lend(owned: &Bytes) -> &[u8] {
        owned
    }

    #[inline]
    fn scan(&mut self, input: &[u8]) -> Result<Scan, FrameError> {
        Ok(if input.len() < self.len { Scan::Need(self.len) } else { Scan::Frame(self.len) })
    }

    #[inline]
    fn parse<'a>(&mut self, frame: &'a mut [u8]) -> Result<&'a [u8], FrameError> {
        Ok(frame)
    }

    #[inline]
    fn encode<'m>(&mut self, message: &'m [u8], out: &mut Output<'_, 'm>) -> Result<(), EncodeError> {
        self.check(message.len())?;
        out.payload(message);
        Ok(())
    }

    fn encode_owned<'m>(&mut self, message: &'m Bytes, out: &mut Output<'_, 'm>) -> Result<(), EncodeError> {
        self.check(message.len())?;
        out.shared(message);
        Ok(())
    }

    fn same_encoding(&self, other: &Fixed) -> bool {
        self == other
    }
}
