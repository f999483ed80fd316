//! No framing at all.

use bytes::Bytes;

use super::{Codec, EncodeError, FrameError, Output, Scan};

/// The bytes as they come: a message is whatever a read brought.
///
/// Where one message ends and the next begins says nothing about what the peer sent together: bytes that it
/// sent at once may come in many messages, and the other way round. For proxies, for protocols that a handler
/// cuts by itself, and for the first bytes of a stream whose framing is still to be found out.
///
/// A message that arrives is never empty. Sending an empty one sends nothing. Nothing is ever malformed, too
/// long or truncated, and there is no maximum, because nothing waits for more to come.
///
/// ```
/// use mainspring::codec::{Codec, Raw, Scan};
///
/// assert_eq!(Raw.scan(b"any bytes"), Ok(Scan::Frame(9)));
/// assert_eq!(Raw.scan(b""), Ok(Scan::Need(1)));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Raw;

impl Codec for Raw {
    type Message<'a> = &'a [u8];
    type Outgoing<'a> = &'a [u8];
    type Owned = Bytes;

    fn lend(owned: &Bytes) -> &[u8] {
        owned
    }

    #[inline]
    fn scan(&mut self, input: &[u8]) -> Result<Scan, FrameError> {
        Ok(if input.is_empty() { Scan::Need(1) } else { Scan::Frame(input.len()) })
    }

    fn scan_end(&mut self, rest: &[u8]) -> Result<Option<usize>, FrameError> {
        Ok(if rest.is_empty() { None } else { Some(rest.len()) })
    }

    #[inline]
    fn parse<'a>(&mut self, frame: &'a mut [u8]) -> Result<&'a [u8], FrameError> {
        Ok(frame)
    }

    #[inline]
    fn encode<'m>(&mut self, message: &'m [u8], out: &mut Output<'_, 'm>) -> Result<(), EncodeError> {
        out.payload(message);
        Ok(())
    }

    fn encode_owned<'m>(&mut self, message: &'m Bytes, out: &mut Output<'_, 'm>) -> Result<(), EncodeError> {
        out.shared(message);
        Ok(())
    }

    fn same_encoding(&self, _: &Raw) -> bool {
        true
    }
}
