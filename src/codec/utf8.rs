//! Text instead of bytes, over any framing.

use super::{ByteCodec, Codec, EncodeError, FrameError, Output, Scan};

/// Messages as `&str`, framed by the codec within.
///
/// Each message has to be valid UTF-8 by itself. One that is not ends the connection as malformed, because
/// replacing what is invalid would hand over a text that nobody sent. So [`Raw`](super::Raw) within is of
/// little use: a read may end inside a character.
///
/// Lengths and maximums are those of the codec within, in bytes and not in characters. So are the errors of
/// its framing.
///
/// ```
/// use mainspring::codec::{Codec, Lines, Scan, Utf8};
///
/// let mut codec = Utf8::new(Lines::default());
/// let mut frame = *b"gr\xc3\xbc\xc3\x9fe\n";
/// assert_eq!(codec.scan(&frame), Ok(Scan::Frame(8)));
/// assert_eq!(codec.parse(&mut frame), Ok("grüße"));
/// assert!(codec.parse(&mut *b"\xff\n".to_vec()).is_err());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Utf8<C> {
    within: C,
}

impl<C: ByteCodec> Utf8<C> {
    /// Text in the frames of `codec`.
    pub fn new(codec: C) -> Utf8<C> {
        Utf8 { within: codec }
    }
}

impl<C: ByteCodec> Codec for Utf8<C> {
    type Message<'a> = &'a str;
    type Outgoing<'a> = &'a str;
    type Owned = String;

    fn lend(owned: &String) -> &str {
        owned
    }

    #[inline]
    fn scan(&mut self, input: &[u8]) -> Result<Scan, FrameError> {
        self.within.scan(input)
    }

    fn scan_end(&mut self, rest: &[u8]) -> Result<Option<usize>, FrameError> {
        self.within.scan_end(rest)
    }

    #[inline]
    fn parse<'a>(&mut self, frame: &'a mut [u8]) -> Result<&'a str, FrameError> {
        let bytes = self.within.parse(frame)?;
        std::str::from_utf8(bytes).map_err(|_| FrameError::malformed("not valid UTF-8"))
    }

    #[inline]
    fn encode<'m>(&mut self, message: &'m str, out: &mut Output<'_, 'm>) -> Result<(), EncodeError> {
        self.within.encode(message.as_bytes(), out)
    }

    fn same_encoding(&self, other: &Utf8<C>) -> bool {
        self.within.same_encoding(&other.within)
    }
}
