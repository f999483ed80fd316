//! Arrays of float32 as they are on the wire: four bytes each, the low one first, whatever the machine. And the framing that
//! lets nothing else pass.
//!
//! Where the machine has that order in its own memory, nothing is copied. Bits are never changed: a NaN keeps its payload,
//! and zero its sign.

use std::borrow::Cow;

use mainspring::codec::{ByteCodec, Codec, EncodeError, FrameError, Output, Scan};

/// The bytes of one value.
pub(crate) const WIDTH: usize = 4;

/// Whether memory is as the wire is.
const AS_IN_MEMORY: bool = cfg!(target_endian = "little");

/// The bytes of `values`; a copy only where the machine has another order.
pub(crate) fn to_wire(values: &[f32]) -> Cow<'_, [u8]> {
    if AS_IN_MEMORY { Cow::Borrowed(bytemuck::cast_slice(values)) } else { Cow::Owned(copy_to_wire(values)) }
}

/// The values of `wire`; a copy only where the machine has another order, or the bytes lie at an address that floats may
/// not have. None when they are not whole values.
pub(crate) fn from_wire(wire: &[u8]) -> Option<Cow<'_, [f32]>> {
    if wire.len() % WIDTH != 0 {
        return None;
    }
    match bytemuck::try_cast_slice(wire) {
        Ok(values) if AS_IN_MEMORY => Some(Cow::Borrowed(values)),
        _ => Some(Cow::Owned(copy_from_wire(wire))),
    }
}

fn copy_to_wire(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_bits().to_le_bytes()).collect()
}

fn copy_from_wire(wire: &[u8]) -> Vec<f32> {
    let bits = wire.chunks_exact(WIDTH).map(|bytes| {
        let mut value = [0; WIDTH];
        value.copy_from_slice(bytes);
        u32::from_le_bytes(value)
    });
    bits.map(f32::from_bits).collect()
}

/// Any framing of bytes, of which only frames that are whole values pass. Others are a broken frame, and so end their
/// connection with that reason.
#[derive(Debug, Clone)]
pub(crate) struct Floats<C>(pub(crate) C);

impl<C: ByteCodec> Codec for Floats<C> {
    type Message<'a> = &'a [u8];
    type Outgoing<'a> = &'a [u8];
    type Owned = bytes::Bytes;

    fn lend(owned: &bytes::Bytes) -> &[u8] {
        owned
    }

    fn scan(&mut self, input: &[u8]) -> Result<Scan, FrameError> {
        self.0.scan(input)
    }

    fn scan_end(&mut self, rest: &[u8]) -> Result<Option<usize>, FrameError> {
        self.0.scan_end(rest)
    }

    fn parse<'a>(&mut self, frame: &'a mut [u8]) -> Result<&'a [u8], FrameError> {
        let payload = self.0.parse(frame)?;
        if payload.len() % WIDTH != 0 {
            return Err(FrameError::malformed("an array of float32 has four bytes for each value"));
        }
        Ok(payload)
    }

    fn encode<'m>(&mut self, message: &'m [u8], out: &mut Output<'_, 'm>) -> Result<(), EncodeError> {
        self.0.encode(message, out)
    }

    fn encode_owned<'m>(
        &mut self,
        message: &'m bytes::Bytes,
        out: &mut Output<'_, 'm>,
    ) -> Result<(), EncodeError> {
        self.0.encode_owned(message, out)
    }

    fn same_encoding(&self, other: &Floats<C>) -> bool {
        self.0.same_encoding(&other.0)
    }
}

/// A float32 as a person writes it: `1`, `-2.5e3`, `NaN`, `inf`, `-0.0`. One that is too large is refused, and not taken for
/// infinity.
pub(crate) fn value(text: &str) -> Result<f32, String> {
    let text = text.replace(MINUS, "-");
    let value: f32 = text.parse().map_err(|_| "it is no float32".to_owned())?;
    if value.is_infinite() && text.bytes().any(|byte| byte.is_ascii_digit()) {
        return Err("it is too large for a float32".to_owned());
    }
    Ok(value)
}

/// `text` as an argument that does not look like an option, if it is a negative value: `-inf` would be read as options. What
/// it begins with then, [`value`] takes for a minus.
pub(crate) fn shield(text: String) -> String {
    match text.strip_prefix('-') {
        Some(rest) if value(&text).is_ok() => format!("{MINUS}{rest}"),
        _ => text,
    }
}

/// The typographical minus.
const MINUS: char = '\u{2212}';

// Run by `tests/programs`: cargo runs no tests of examples.
#[cfg(test)]
mod tests {
    use mainspring::codec::{LengthPrefixed, Lines};

    use super::*;

    /// Values whose bits are easily lost, a quiet and a signalling NaN with payloads among them.
    fn delicate() -> Vec<f32> {
        let bits = [0x7fc0_1234, 0xffa0_0001, 0x7f80_0001, 0x8000_0000, 0, 1, 0x7f80_0000, 0xff80_0000];
        bits.into_iter().map(f32::from_bits).chain([1.5, -2.25, f32::MIN_POSITIVE, f32::MAX]).collect()
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    #[test]
    fn the_low_byte_comes_first_whatever_the_machine() {
        assert_eq!(*to_wire(&[1.5]), [0, 0, 0xc0, 0x3f]);
        assert_eq!(copy_to_wire(&[1.5]), [0, 0, 0xc0, 0x3f]);
        assert_eq!(from_wire(&[0, 0, 0xc0, 0x3f]).as_deref(), Some(&[1.5][..]));
    }

    #[test]
    fn no_bit_is_lost_with_a_copy_or_without() {
        let values = delicate();
        assert_eq!(*to_wire(&values), *copy_to_wire(&values));
        let wire = to_wire(&values).into_owned();
        assert_eq!(bits(&from_wire(&wire).unwrap()), bits(&values));
        assert_eq!(bits(&copy_from_wire(&wire)), bits(&values));
    }

    #[test]
    fn only_misaligned_bytes_are_copied() {
        let values = delicate();
        let mut shifted = vec![0; 4];
        shifted.extend_from_slice(&to_wire(&values));
        let mut copied = 0;
        for at in 0..WIDTH {
            // One of four addresses in a row is right.
            shifted.rotate_right(usize::from(at > 0));
            let wire = &shifted[4 + at..];
            let got = from_wire(&wire[..values.len() * WIDTH - WIDTH]);
            copied += usize::from(matches!(got, Some(Cow::Owned(_))));
        }
        assert_eq!(copied, if AS_IN_MEMORY { 3 } else { 4 });
    }

    #[test]
    fn an_empty_array_is_an_array_and_half_a_value_is_none() {
        assert_eq!(from_wire(&[]).as_deref(), Some(&[][..]));
        assert!(to_wire(&[]).is_empty());
        for len in [1, 2, 3, 5, 7] {
            assert_eq!(from_wire(&vec![0; len]), None);
        }
    }

    #[test]
    fn frames_that_are_no_whole_values_are_broken() {
        let mut codec = Floats(LengthPrefixed::default());
        assert!(codec.parse(&mut [0, 0, 0, 4, 1, 2, 3, 4]).is_ok());
        assert!(codec.parse(&mut [0, 0, 0, 0]).is_ok());
        assert!(codec.parse(&mut [0, 0, 0, 3, 1, 2, 3]).is_err());
        assert!(Floats(Lines::default()).parse(b"12345\n".to_vec().as_mut()).is_err());
        assert!(Floats(Lines::default()).parse(b"1234\r\n".to_vec().as_mut()).is_ok());
    }

    #[test]
    fn values_are_read_as_they_are_written() {
        for (text, bits) in [("1.5", 0x3fc0_0000), ("-0.0", 0x8000_0000), ("inf", 0x7f80_0000), ("1e-50", 0)]
        {
            assert_eq!(value(text).map(f32::to_bits), Ok(bits), "{text}");
        }
        assert_eq!(value("-inf"), Ok(f32::NEG_INFINITY));
        assert!(value("NaN").is_ok_and(f32::is_nan) && value("nan").is_ok_and(f32::is_nan));
        for text in ["", "x", "1,5", "0x10", "--1", "1 2", "1e39", "-1e39"] {
            assert!(value(text).is_err(), "{text}");
        }
    }

    #[test]
    fn negative_values_are_no_options() {
        for text in ["-1", "-0.0", "-inf", "-NaN", "-1e5"] {
            let shielded = shield(text.to_owned());
            assert!(!shielded.starts_with('-'));
            assert_eq!(value(&shielded).map(f32::to_bits), value(text).map(f32::to_bits));
        }
        for text in ["--count", "-h", "1", "-", "--", "-1e39"] {
            assert_eq!(shield(text.to_owned()), text);
        }
    }
}
