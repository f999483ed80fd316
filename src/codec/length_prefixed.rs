//! Messages behind a length: the default framing.

use std::sync::Arc;

use bytes::Bytes;

use super::{Codec, ConfigError, EncodeError, FrameError, MAX_FRAME_DEFAULT, Output, Scan};

/// A length, then so many bytes of payload.
///
/// By default four bytes, big endian, counting the payload alone, and 100 MiB at most. [`LengthPrefixed::builder`] sets
/// the rest. An empty payload is a message like any other.
///
/// ```text
///   offset        width
/// +-------------+--------+----------------------+
/// | bytes before| length |       payload        |
/// +-------------+--------+----------------------+
/// |<------- header ----->|
/// ```
///
/// **The maximum** is that of the payload, whatever the length field counts. It is compared in 64 bits after the
/// adjustment, before anything is reserved: exactly the maximum passes, one byte more does not. It is never more than the
/// length field can say, so that `u8` framing has 255 as its maximum.
///
/// **Memory** follows what arrives. A header that claims 100 MiB costs nothing until the bytes come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LengthPrefixed {
    /// The largest payload. Invariant: `max - adjustment` fits the length field.
    max: u64,
    /// None for four bytes, big endian, payload alone, header stripped, nothing before: the fast way. Each connection has a codec,
    /// so that it is to be small.
    header: Option<Arc<Header>>,
}

/// What comes before a payload, and what becomes of it.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    /// Added to the field's value, gives the payload's length.
    adjustment: i64,
    offset: u8,
    width: u8,
    big_endian: bool,
    keep: bool,
    skip_oversized: bool,
}

static PLAIN: Header =
    Header { adjustment: 0, offset: 0, width: 4, big_endian: true, keep: false, skip_oversized: false };

/// What the number in the length field counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LengthCounts {
    /// The payload alone. The default, as most protocols do so.
    Payload,
    /// The length field itself and the payload.
    FieldAndPayload,
    /// All of the frame: the bytes before the length field, the field, and the payload.
    WholeFrame,
    /// The payload is the field's value plus this.
    Adjusted(i64),
}

/// What becomes of a frame that is longer than the maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oversize {
    /// It ends the connection, as soon as its header has come, or, where there is none, as soon as too much has. The
    /// default: whoever sends it is broken or hostile.
    End,
    /// Its bytes are dropped as they come, without being held, and the stream goes on behind it.
    Skip,
}

/// Settings for a [`LengthPrefixed`].
#[derive(Debug, Clone)]
pub struct LengthPrefixedBuilder {
    width: usize,
    big_endian: bool,
    offset: usize,
    counts: LengthCounts,
    keep_header: bool,
    max: u64,
    oversize: Oversize,
}

impl Default for LengthPrefixed {
    fn default() -> LengthPrefixed {
        LengthPrefixed { max: MAX_FRAME_DEFAULT, header: None }
    }
}

impl Header {
    fn len(&self) -> usize {
        usize::from(self.offset) + usize::from(self.width)
    }

    /// So many bytes of a frame are not handed over.
    fn stripped(&self) -> usize {
        if self.keep { 0 } else { self.len() }
    }

    fn read_length(&self, field: &[u8]) -> u64 {
        let mut wide = [0u8; 8];
        if self.big_endian {
            wide[8 - field.len()..].copy_from_slice(field);
            u64::from_be_bytes(wide)
        } else {
            wide[..field.len()].copy_from_slice(field);
            u64::from_le_bytes(wide)
        }
    }

    /// Whether a payload looks the same behind it.
    fn encodes_like(&self, other: &Header) -> bool {
        let said = |h: &Header| (h.adjustment, h.offset, h.width, h.big_endian, h.keep);
        said(self) == said(other)
    }
}

impl LengthPrefixed {
    /// Starts from the defaults: four bytes, big endian, the payload alone, header stripped, 100 MiB, oversized frames
    /// end the connection.
    pub fn builder() -> LengthPrefixedBuilder {
        LengthPrefixedBuilder {
            width: 4,
            big_endian: true,
            offset: 0,
            counts: LengthCounts::Payload,
            keep_header: false,
            max: MAX_FRAME_DEFAULT,
            oversize: Oversize::End,
        }
    }

    /// The default framing with another maximum, in bytes of payload; lowered to what four bytes can say.
    pub fn with_max_frame(max: u64) -> LengthPrefixed {
        LengthPrefixed { max: max.min(u64::from(u32::MAX)), header: None }
    }

    /// The largest payload that this codec takes and sends, in bytes.
    pub fn max_frame(&self) -> u64 {
        self.max
    }

    fn header(&self) -> &Header {
        self.header.as_deref().unwrap_or(&PLAIN)
    }

    #[inline(never)]
    fn encode_general<'m>(&self, message: &'m [u8], out: &mut Output<'_, 'm>) -> Result<(), EncodeError> {
        let (before, payload) = self.split(message)?;
        self.put_header(payload.len(), before, out)?;
        out.payload(payload);
        Ok(())
    }

    #[inline(never)]
    fn scan_general(&self, input: &[u8]) -> Result<Scan, FrameError> {
        let header = self.header();
        let header_len = header.len();
        let Some(head) = input.get(..header_len) else { return Ok(Scan::Need(header_len)) };
        let value = header.read_length(&head[usize::from(header.offset)..]);
        let payload = match value.checked_add_signed(header.adjustment) {
            Some(payload) => payload,
            None if header.adjustment < 0 => {
                return Err(FrameError::malformed("the length is smaller than what it has to count"));
            }
            None => u64::MAX,
        };
        if payload > self.max {
            if header.skip_oversized {
                return Ok(Scan::Skip(payload.saturating_add(header_len as u64)));
            }
            return Err(FrameError::too_long_in(input, payload, self.max));
        }
        // `max` may be larger than the address space, above all of a 32-bit machine.
        match usize::try_from(payload).ok().and_then(|payload| payload.checked_add(header_len)) {
            Some(total) if total <= input.len() => Ok(Scan::Frame(total)),
            Some(total) => Ok(Scan::Need(total)),
            None if header.skip_oversized => Ok(Scan::Skip(payload.saturating_add(header_len as u64))),
            None => Err(FrameError::too_long_in(input, payload, (usize::MAX - header_len) as u64)),
        }
    }

    /// Puts the header for `len` bytes of payload; `before` are the bytes that come before the length field.
    fn put_header(&self, len: usize, before: &[u8], out: &mut Output<'_, '_>) -> Result<(), EncodeError> {
        let too_long = EncodeError::TooLong { len: len as u64, limit: self.max };
        if len as u64 > self.max {
            return Err(too_long);
        }
        let header = self.header();
        // The builder has checked that this fits for every length up to `max`; it may fall below zero for short ones.
        let Ok(value) = u64::try_from(len as i128 - i128::from(header.adjustment)) else {
            return Err(EncodeError::Unrepresentable(
                "the payload is shorter than what its length has to add",
            ));
        };
        out.put(before);
        let width = usize::from(header.width);
        if header.big_endian {
            out.put(&value.to_be_bytes()[8 - width..]);
        } else {
            out.put(&value.to_le_bytes()[..width]);
        }
        Ok(())
    }

    /// Splits what is to be sent into the bytes before the length field and the payload.
    fn split<'m>(&self, message: &'m [u8]) -> Result<(&'m [u8], &'m [u8]), EncodeError> {
        const ZEROS: [u8; 255] = [0; 255];
        let header = self.header();
        let offset = usize::from(header.offset);
        if !header.keep {
            return Ok((&ZEROS[..offset], message));
        }
        match message.split_at_checked(header.len()) {
            Some((head, payload)) => Ok((&head[..offset], payload)),
            None => Err(EncodeError::Unrepresentable(
                "the message is shorter than the header it has to begin with",
            )),
        }
    }
}

impl Codec for LengthPrefixed {
    type Message<'a> = &'a [u8];
    type Outgoing<'a> = &'a [u8];
    type Owned = Bytes;

    fn lend(owned: &Bytes) -> &[u8] {
        owned
    }

    #[inline]
    fn scan(&mut self, input: &[u8]) -> Result<Scan, FrameError> {
        if self.header.is_none() {
            if let Some(head) = input.first_chunk::<4>() {
                let payload = u32::from_be_bytes(*head);
                if u64::from(payload) <= self.max {
                    // Cannot overflow where `usize` has 64 bits; where it has 32, the general way looks again.
                    if let Some(total) = (payload as usize).checked_add(4) {
                        return Ok(if total <= input.len() { Scan::Frame(total) } else { Scan::Need(total) });
                    }
                }
            }
        }
        self.scan_general(input)
    }

    #[inline]
    fn parse<'a>(&mut self, frame: &'a mut [u8]) -> Result<&'a [u8], FrameError> {
        let skip = self.header.as_ref().map_or(4, |header| header.stripped());
        let frame: &'a [u8] = frame;
        frame.get(skip..).ok_or(FrameError::malformed("shorter than its header"))
    }

    #[inline(always)]
    fn encode<'m>(&mut self, message: &'m [u8], out: &mut Output<'_, 'm>) -> Result<(), EncodeError> {
        if self.header.is_none() && message.len() as u64 <= self.max {
            out.headed(&(message.len() as u32).to_be_bytes(), message);
            return Ok(());
        }
        self.encode_general(message, out)
    }

    fn encode_owned<'m>(&mut self, message: &'m Bytes, out: &mut Output<'_, 'm>) -> Result<(), EncodeError> {
        let (before, payload) = self.split(message)?;
        self.put_header(payload.len(), before, out)?;
        out.shared_from(message, message.len() - payload.len());
        Ok(())
    }

    #[inline]
    fn same_encoding(&self, other: &LengthPrefixed) -> bool {
        self.max == other.max
            && (self.header.is_none() && other.header.is_none() || self.header().encodes_like(other.header()))
    }
}

impl LengthPrefixedBuilder {
    /// The width of the length field: 1, 2, 3, 4 or 8 bytes. Defaults to 4, because most protocols use it.
    #[must_use]
    pub fn width(mut self, bytes: usize) -> Self {
        self.width = bytes;
        self
    }

    /// Least significant byte first. The default is big endian, the order of the network.
    #[must_use]
    pub fn little_endian(mut self) -> Self {
        self.big_endian = false;
        self
    }

    /// How many bytes of header come before the length field, 255 at most. Defaults to 0. They are zeros in what is sent,
    /// unless [`keep_header`](Self::keep_header) lets the sender give them.
    #[must_use]
    pub fn offset(mut self, bytes: usize) -> Self {
        self.offset = bytes;
        self
    }

    /// What the length counts. Defaults to [`LengthCounts::Payload`].
    #[must_use]
    pub fn counts(mut self, counts: LengthCounts) -> Self {
        self.counts = counts;
        self
    }

    /// Hand over the header with the payload. A message to be sent then begins with a header too: its bytes before the
    /// length field are sent as they are, and the length field is filled in, so that what was received can be sent on.
    /// Defaults to no, because few handlers look at headers.
    #[must_use]
    pub fn keep_header(mut self) -> Self {
        self.keep_header = true;
        self
    }

    /// The largest payload, in bytes. Defaults to 100 MiB. Lowered to what the length field can say.
    #[must_use]
    pub fn max_frame(mut self, bytes: u64) -> Self {
        self.max = bytes;
        self
    }

    /// What to do with a longer frame. Defaults to [`Oversize::End`].
    #[must_use]
    pub fn oversize(mut self, oversize: Oversize) -> Self {
        self.oversize = oversize;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// The width is not 1, 2, 3, 4 or 8; more than 255 bytes come before the length; or no length at all could be said
    /// under the adjustment.
    pub fn build(self) -> Result<LengthPrefixed, ConfigError> {
        if !matches!(self.width, 1 | 2 | 3 | 4 | 8) {
            return Err(ConfigError("a length field has 1, 2, 3, 4 or 8 bytes"));
        }
        let Ok(offset) = u8::try_from(self.offset) else {
            return Err(ConfigError("at most 255 bytes can come before the length field"));
        };
        let adjustment = match self.counts {
            LengthCounts::Payload => 0,
            LengthCounts::FieldAndPayload => -(self.width as i64),
            LengthCounts::WholeFrame => -((self.width + self.offset) as i64),
            LengthCounts::Adjusted(by) => by,
        };
        let field_max = u64::MAX >> (64 - 8 * self.width);
        let Some(payload_max) = saturating_add_signed(field_max, adjustment) else {
            return Err(ConfigError("no payload, however short, can be said under this adjustment"));
        };
        if adjustment > 0 && self.max < adjustment.unsigned_abs() {
            return Err(ConfigError("the adjustment alone is longer than the maximum"));
        }
        let max = self.max.min(payload_max);
        let header = Header {
            adjustment,
            offset,
            width: self.width as u8,
            big_endian: self.big_endian,
            keep: self.keep_header,
            skip_oversized: self.oversize == Oversize::Skip,
        };
        Ok(LengthPrefixed { max, header: (header != PLAIN).then(|| Arc::new(header)) })
    }
}

/// `a + b`, held at the top; `None` below zero.
fn saturating_add_signed(a: u64, b: i64) -> Option<u64> {
    if b >= 0 { Some(a.saturating_add(b.unsigned_abs())) } else { a.checked_sub(b.unsigned_abs()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_fast_way_answers_as_the_general_one(
            max in prop_oneof![0u64..40, Just(MAX_FRAME_DEFAULT), Just(u64::MAX)],
            payload in prop_oneof![0u32..48, any::<u32>()],
            arrived in 0usize..48,
        ) {
            let mut codec = LengthPrefixed::with_max_frame(max);
            let mut input = payload.to_be_bytes().to_vec();
            input.resize(48, 7);
            input.truncate(arrived);
            prop_assert!(codec.header.is_none());
            prop_assert_eq!(codec.scan(&input), codec.scan_general(&input));
        }
    }

    #[test]
    fn only_the_default_shape_takes_the_fast_way() {
        let build = |b: LengthPrefixedBuilder| b.build().unwrap().header.is_none();
        assert!(build(LengthPrefixed::builder().max_frame(9)));
        assert!(
            !build(LengthPrefixed::builder().oversize(Oversize::Skip)),
            "it has a header of its own to say so"
        );
        assert!(build(LengthPrefixed::builder().counts(LengthCounts::Adjusted(0))));
        assert!(!build(LengthPrefixed::builder().width(3)));
        assert!(!build(LengthPrefixed::builder().little_endian()));
        assert!(!build(LengthPrefixed::builder().offset(1)));
        assert!(!build(LengthPrefixed::builder().keep_header()));
        assert!(!build(LengthPrefixed::builder().counts(LengthCounts::WholeFrame)));
    }
}
