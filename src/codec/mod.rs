//! Bytes to messages and back, without a socket.
//!
//! A [`Codec`] finds frames in a stream of bytes and turns messages into bytes. It works on slices alone: it knows
//! nothing of connections, of sockets or of time, so that the reactor, a blocking client and a test use the same one.
//! The codecs here cover the usual framings; [`Codec`] has the contract for writing another.

mod delimited;
mod error;
mod fixed;
mod length_prefixed;
mod lines;
mod output;
mod raw;
mod utf8;
mod varint;

pub use delimited::Delimited;
pub use error::{ConfigError, EncodeError, FrameError, FrameErrorKind};
pub use fixed::Fixed;
pub use length_prefixed::{LengthCounts, LengthPrefixed, LengthPrefixedBuilder, Oversize};
pub use lines::Lines;
pub use output::Output;
pub(crate) use output::{Part, Segments};
pub use raw::Raw;
pub use utf8::Utf8;
pub use varint::Varint;

use std::any::Any;

/// The largest payload that the codecs of this crate accept unless told otherwise: 100 MiB.
pub const MAX_FRAME_DEFAULT: u64 = 100 * 1024 * 1024;

/// What [`Codec::scan`] found at the front of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// The first so many bytes are a frame. More than the input holds counts as [`Scan::Need`]; zero is an error of the
    /// codec, and ends the connection as a bad frame.
    Frame(usize),
    /// No whole frame yet: at least so many bytes, counted from the front of the input, are needed before another look
    /// makes sense. Nothing was consumed. A hint, never a reservation: memory follows the bytes that arrive.
    Need(usize),
    /// The next so many bytes, arrived or not, are to be dropped without being buffered.
    Skip(u64),
}

/// How messages are cut from a stream of bytes and put into one.
///
/// Decoding takes two steps. [`scan`](Codec::scan) looks for a frame and moves nothing; [`parse`](Codec::parse) turns one
/// whole frame into a message that may borrow from it. So a frame is lent to the handler from the buffer it was read
/// into, a large one is read straight into place, and an oversized one can be skipped without being held.
///
/// The contract, as numbered rules:
///
/// 1. A `scan` that answers [`Scan::Need`] has consumed nothing. The next call gets the same bytes and more behind them,
///    so a codec may remember how far it has looked.
/// 2. After [`Scan::Frame`]`(n)` exactly those `n` bytes go to `parse`, and the next `scan` starts behind them. After
///    [`Scan::Skip`]`(n)` the next `scan` starts `n` bytes later.
/// 3. An error ends the connection; the codec is not asked again.
/// 4. When the input ends, [`scan_end`](Codec::scan_end) is asked what the rest is, until it answers `None`.
/// 5. `encode` either puts a whole frame into the output or answers an error; what it put before an error is discarded.
///
/// Each connection gets a [`Clone`] of the codec that its listener was given, so state is not shared.
///
/// # A typed codec
///
/// Messages need not be bytes. They may be enums, numbers, or views that borrow from the frame:
///
/// ```
/// use bytes::Bytes;
/// use mainspring::codec::{Codec, EncodeError, FrameError, Output, Scan};
///
/// /// Requests of a counter: `+` and a byte, or `?`. Answers are eight bytes.
/// #[derive(Clone)]
/// struct Counter;
///
/// #[derive(Debug, PartialEq)]
/// enum Request {
///     Add(u8),
///     Read,
/// }
///
/// impl Codec for Counter {
///     type Message<'a> = Request;
///     type Outgoing<'a> = u64;
///     type Owned = u64;
///
///     fn lend(owned: &u64) -> u64 {
///         *owned
///     }
///
///     fn scan(&mut self, input: &[u8]) -> Result<Scan, FrameError> {
///         match input.first() {
///             None => Ok(Scan::Need(1)),
///             Some(b'+') => Ok(Scan::Frame(2)),
///             Some(b'?') => Ok(Scan::Frame(1)),
///             Some(_) => Err(FrameError::malformed("a request begins with + or ?")),
///         }
///     }
///
///     fn parse<'a>(&mut self, frame: &'a mut [u8]) -> Result<Request, FrameError> {
///         Ok(match frame {
///             [b'+', n] => Request::Add(*n),
///             _ => Request::Read,
///         })
///     }
///
///     fn encode<'m>(&mut self, message: u64, out: &mut Output<'_, 'm>) -> Result<(), EncodeError> {
///         out.put(&message.to_be_bytes());
///         Ok(())
///     }
/// }
///
/// let mut codec = Counter;
/// assert_eq!(codec.scan(b"+"), Ok(Scan::Frame(2))); // longer than the input: the same as needing two bytes
/// assert_eq!(codec.parse(&mut [b'+', 7]), Ok(Request::Add(7)));
/// ```
///
/// # An enum of codecs
///
/// A connection that changes its framing, or a server that is told the framing at its start, uses an enum. The reactor's
/// `set_codec` replaces the value while the connection lives, and keeps the bytes that were already read:
///
/// ```
/// use bytes::Bytes;
/// use mainspring::codec::{Codec, EncodeError, FrameError, LengthPrefixed, Output, Scan};
///
/// #[derive(Clone)]
/// enum Either {
///     Wide(LengthPrefixed),
///     Narrow(LengthPrefixed),
/// }
///
/// impl Either {
///     fn inner(&mut self) -> &mut LengthPrefixed {
///         match self {
///             Either::Wide(codec) | Either::Narrow(codec) => codec,
///         }
///     }
/// }
///
/// impl Codec for Either {
///     type Message<'a> = &'a [u8];
///     type Outgoing<'a> = &'a [u8];
///     type Owned = Bytes;
///
///     fn lend(owned: &Bytes) -> &[u8] {
///         owned
///     }
///     fn scan(&mut self, input: &[u8]) -> Result<Scan, FrameError> {
///         self.inner().scan(input)
///     }
///     fn scan_end(&mut self, rest: &[u8]) -> Result<Option<usize>, FrameError> {
///         self.inner().scan_end(rest)
///     }
///     fn parse<'a>(&mut self, frame: &'a mut [u8]) -> Result<&'a [u8], FrameError> {
///         self.inner().parse(frame)
///     }
///     fn encode<'m>(&mut self, message: &'m [u8], out: &mut Output<'_, 'm>) -> Result<(), EncodeError> {
///         self.inner().encode(message, out)
///     }
/// }
/// ```
pub trait Codec: Clone {
    /// What arrives. May borrow from the frame.
    type Message<'a>;
    /// What is sent. May borrow, and is copied once for each receiver of a broadcast.
    type Outgoing<'a>: Copy;
    /// An outgoing message that crosses threads or waits: `Bytes` for bytes, `String` for text.
    type Owned: Send + 'static;

    /// Borrows an owned message for sending.
    fn lend(owned: &Self::Owned) -> Self::Outgoing<'_>;

    /// How many bytes an owned message holds, for the memory limit while it waits. By default the value's own size, and what
    /// a [`Bytes`](bytes::Bytes), `String` or `Vec<u8>` has beside it; one that holds more should say so.
    fn owned_len(owned: &Self::Owned) -> usize {
        let any: &dyn Any = owned;
        let beside = any
            .downcast_ref::<bytes::Bytes>()
            .map(bytes::Bytes::len)
            .or_else(|| any.downcast_ref::<String>().map(String::capacity))
            .or_else(|| any.downcast_ref::<Vec<u8>>().map(Vec::capacity));
        size_of::<Self::Owned>() + beside.unwrap_or(0)
    }

    /// Looks for a frame at the front of `input`, which may be empty.
    ///
    /// # Errors
    /// The input can never become a frame. The connection ends with that error as its reason.
    fn scan(&mut self, input: &[u8]) -> Result<Scan, FrameError>;

    /// The stream has ended and `rest` is what `scan` did not take: is its front a last frame? `None` says that nothing
    /// more comes of it; what is left then is dropped.
    ///
    /// By default nothing may be left over. `Lines` and `Raw` answer otherwise.
    ///
    /// # Errors
    /// The rest is not a frame; [`FrameError::truncated`] says that it is the beginning of one.
    fn scan_end(&mut self, rest: &[u8]) -> Result<Option<usize>, FrameError> {
        if rest.is_empty() { Ok(None) } else { Err(FrameError::truncated(rest.len() as u64)) }
    }

    /// Turns one whole frame into a message. It may change the frame in place (to unmask or decrypt it, say).
    ///
    /// # Errors
    /// The frame is not a message. The connection ends with that error as its reason.
    fn parse<'a>(&mut self, frame: &'a mut [u8]) -> Result<Self::Message<'a>, FrameError>;

    /// Appends the frame of `message` to `out`.
    ///
    /// # Errors
    /// The framing cannot say this message (256 bytes under a one-byte length). Nothing is sent, and the sender is told.
    fn encode<'m>(
        &mut self,
        message: Self::Outgoing<'m>,
        out: &mut Output<'_, 'm>,
    ) -> Result<(), EncodeError>;

    /// Appends the frame of an owned message. By default it is lent to [`encode`](Codec::encode), which may copy it; a
    /// codec whose `Owned` is [`Bytes`](bytes::Bytes) can pass it on by [`Output::shared`] instead.
    ///
    /// # Errors
    /// As [`encode`](Codec::encode).
    fn encode_owned<'m>(
        &mut self,
        message: &'m Self::Owned,
        out: &mut Output<'_, 'm>,
    ) -> Result<(), EncodeError> {
        self.encode(Self::lend(message), out)
    }

    /// Whether `other` would encode every message to the same bytes, so that a broadcast may encode once for both.
    ///
    /// False by default, which is right for every codec whose encoder has state.
    fn same_encoding(&self, other: &Self) -> bool {
        let _ = other;
        false
    }
}

/// A codec whose messages are plain bytes, both ways. Implemented for every such codec, so that a handler can be written
/// once for all of them.
pub trait ByteCodec:
    for<'a> Codec<Message<'a> = &'a [u8], Outgoing<'a> = &'a [u8], Owned = bytes::Bytes>
{
}

impl<C> ByteCodec for C where
    C: for<'a> Codec<Message<'a> = &'a [u8], Outgoing<'a> = &'a [u8], Owned = bytes::Bytes>
{
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// What `message` becomes as an owned message when every payload is kept by reference: the bytes, and how many of
    /// them are those of `message` itself.
    fn encode_by_reference<C: ByteCodec>(mut codec: C, message: &Bytes) -> (Vec<u8>, usize) {
        let mut copied = Vec::new();
        let mut out = Output::new(&mut copied, 0);
        codec.encode_owned(message, &mut out).unwrap();
        let segments = out.into_segments();
        let (mut wire, mut shared) = (Vec::new(), 0);
        for part in segments.parts(&copied) {
            wire.extend_from_slice(part.bytes());
            if let Part::Shared(_, bytes) = part {
                assert!(message.as_ptr_range().contains(&bytes.as_ptr()));
                shared += bytes.len();
            }
        }
        (wire, shared)
    }

    #[track_caller]
    fn expect_shared<C: ByteCodec>(codec: C, message: &'static [u8], shared_len: usize) {
        let mut plain = Vec::new();
        codec.clone().encode(message, &mut Output::to_vec(&mut plain)).unwrap();
        let (wire, shared) = encode_by_reference(codec, &Bytes::from_static(message));
        assert_eq!(wire, plain);
        assert_eq!(shared, shared_len);
    }

    /// tokio-rs/tokio#4122
    #[test]
    fn owned_payloads_are_passed_on_without_a_copy() {
        let keep_header = LengthPrefixed::builder().width(2).offset(1).keep_header().build().unwrap();
        expect_shared(LengthPrefixed::default(), b"payload", 7);
        expect_shared(keep_header, b"\x09\x00\x00payload", 7);
        expect_shared(Varint::default(), b"payload", 7);
        expect_shared(Lines::default(), b"payload", 7);
        expect_shared(Lines::default(), b"payload\r", 8);
        expect_shared(Delimited::new("--").unwrap(), b"payload", 7);
        expect_shared(Fixed::new(7).unwrap(), b"payload", 7);
        expect_shared(Raw, b"payload", 7);
    }

    /// A codec lives in every connection.
    #[test]
    fn codecs_are_small() {
        assert!(size_of::<LengthPrefixed>() <= 24);
        assert!(size_of::<Varint>() <= 16);
        assert!(size_of::<Lines>() <= 24);
        assert!(size_of::<Delimited>() <= 40);
        assert!(size_of::<Fixed>() <= 8);
        assert_eq!(size_of::<Raw>(), 0);
        assert_eq!(size_of::<Utf8<Lines>>(), size_of::<Lines>());
    }
}
