//! Messages behind a length of one to ten bytes, as Protocol Buffers and many others frame theirs.

use bytes::Bytes;

use super::{Codec, EncodeError, FrameError, MAX_FRAME_DEFAULT, Output, Oversize, Scan};

/// The most bytes that 64 bits take at seven bits a byte.
const PREFIX_MAX: usize = 10;

/// A length as an unsigned LEB128 number, then so many bytes of payload.
///
/// Each byte of the length carries seven bits, the lowest first; its top bit says that another byte follows.
/// So lengths below 128 take one byte. An empty payload is a message like any other.
///
/// **A length has one spelling.** These are refused as malformed: more than ten bytes, a number above 64
/// bits, and a last byte of zero that only pads (`80 00` for zero). Two spellings of one length would let two
/// parties disagree on where a frame begins.
///
/// **The maximum** is that of the payload, in bytes. Exactly the maximum passes. A length above it is refused
/// as too long when the last byte of the length has come, before any payload. Defaults to
/// [`MAX_FRAME_DEFAULT`], because a limit should not change with the framing.
///
/// ```
/// use mainspring::codec::{Codec, Output, Scan, Varint};
///
/// let mut wire = Vec::new();
/// Varint::default().encode(&[7; 300], &mut Output::to_vec(&mut wire))?;
/// assert_eq!(wire[..3], [0xac, 0x02, 7]);
/// assert_eq!(Varint::default().scan(&wire), Ok(Scan::Frame(302)));
/// # Ok::<(), mainspring::codec::EncodeError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Varint {
    max: u64,
    oversize: Oversize,
}

impl Default for Varint {
    fn default() -> Varint {
        Varint::with_max_frame(MAX_FRAME_DEFAULT)
    }
}

impl Varint {
    /// With this as the largest payload, in bytes.
    pub fn with_max_frame(max: u64) -> Varint {
        Varint { max, oversize: Oversize::End }
    }

    /// Drops frames that are longer than the maximum instead of ending the connection. Defaults to ending it,
    /// because whoever sends them is broken or hostile.
    #[must_use]
    pub fn skip_oversized(self) -> Varint {
        Varint { oversize: Oversize::Skip, ..self }
    }

    /// The largest payload that this codec takes and sends, in bytes.
    pub fn max_frame(&self) -> u64 {
        self.max
    }

    fn put_length(&self, len: usize, out: &mut Output<'_, '_>) -> Result<(), EncodeError> {
        let mut rest = len as u64;
        if rest > self.max {
            return Err(EncodeError::TooLong { len: rest, limit: self.max });
        }
        let mut prefix = [0; PREFIX_MAX];
        let mut used = 0;
        while rest >= 0x80 {
            prefix[used] = rest as u8 | 0x80;
            rest >>= 7;
            used += 1;
        }
        prefix[used] = rest as u8;
        out.put(&prefix[..=used]);
        Ok(())
    }
}

/// The number at the front of `input` and how many bytes it takes, or `None` when its last byte is still to
/// come.
#[inline]
fn read_length(input: &[u8]) -> Result<Option<(u64, usize)>, FrameError> {
    let mut value = 0;
    for (at, &byte) in input.iter().take(PREFIX_MAX).enumerate() {
        // Nine bytes carry 63 bits: the tenth has room for one more.
        if at == PREFIX_MAX - 1 && byte > 1 {
            return Err(FrameError::malformed(if byte & 0x80 == 0 {
                "a length above 64 bits"
            } else {
                "a length of more than ten bytes"
            }));
        }
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            if byte == 0 && at > 0 {
                return Err(FrameError::malformed("a length padded with a zero byte"));
            }
            return Ok(Some((value, at + 1)));
        }
    }
    Ok(None)
}

impl Codec for Varint {
    type Message<'a> = &'a [u8];
    type Outgoing<'a> = &'a [u8];
    type Owned = Bytes;

    fn lend(owned: &Bytes) -> &[u8] {
        owned
    }

    #[inline]
    fn scan(&mut self, input: &[u8]) -> Result<Scan, FrameError> {
        let Some((payload, prefix)) = read_length(input)? else { return Ok(Scan::Need(input.len() + 1)) };
        if payload > self.max {
            return match self.oversize {
                Oversize::End => Err(FrameError::too_long_in(input, payload, self.max)),
                Oversize::Skip => Ok(Scan::Skip(payload.saturating_add(prefix as u64))),
            };
        }
        // `max` may be larger than the address space.
        match usize::try_from(payload).ok().and_then(|payload| payload.checked_add(prefix)) {
            Some(total) if total <= input.len() => Ok(Scan::Frame(total)),
            Some(total) => Ok(Scan::Need(total)),
            None if self.oversize == Oversize::Skip => Ok(Scan::Skip(payload.saturating_add(prefix as u64))),
            None => Err(FrameError::too_long_in(input, payload, (usize::MAX - prefix) as u64)),
        }
    }

    #[inline]
    fn parse<'a>(&mut self, frame: &'a mut [u8]) -> Result<&'a [u8], FrameError> {
        match frame.iter().position(|byte| byte & 0x80 == 0) {
            Some(last) => Ok(&frame[last + 1..]),
            None => Err(FrameError::malformed("shorter than its length")),
        }
    }

    #[inline]
    fn encode<'m>(&mut self, message: &'m [u8], out: &mut Output<'_, 'm>) -> Result<(), EncodeError> {
        self.put_length(message.len(), out)?;
        out.payload(message);
        Ok(())
    }

    fn encode_owned<'m>(&mut self, message: &'m Bytes, out: &mut Output<'_, 'm>) -> Result<(), EncodeError> {
        self.put_length(message.len(), out)?;
        out.shared(message);
        Ok(())
    }

    fn same_encoding(&self, other: &Varint) -> bool {
        self.max == other.max
    }
}
