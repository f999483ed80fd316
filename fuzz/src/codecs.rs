//! The codecs: the whole input against the same in pieces, and against a naive decoder; what is sent against what arrives.

use mainspring::codec::{
    ByteCodec, Delimited, Fixed, FrameError, FrameErrorKind, LengthCounts, LengthPrefixed, Lines, Oversize,
    Raw, Utf8, Varint,
};

use crate::choices::Choices;
use crate::common::{Patience, Reader, decode, encode};
use crate::naive::{self, Decoded, End};

/// Runs `$with` for the codec that the input chooses.
macro_rules! with_codec {
    ($choices:ident, |$codec:ident, $cut_by_read:ident| $with:expr) => {{
        let (kind, skip, max) = ($choices.below(6), $choices.yes(), $choices.maximum());
        let $cut_by_read = kind == 0;
        match kind {
            0 => {
                let $codec = Raw;
                $with
            }
            1 => {
                let Ok($codec) = Fixed::new($choices.below(18)) else { return };
                $with
            }
            2 => {
                let lines = Lines::with_max_frame(max);
                let $codec = if skip { lines.skip_oversized() } else { lines };
                $with
            }
            3 => {
                let len = $choices.below(5);
                let Ok(delimited) = Delimited::new($choices.take(len)) else { return };
                let delimited = delimited.with_max_frame(max);
                let $codec = if skip { delimited.skip_oversized() } else { delimited };
                $with
            }
            4 => {
                let $codec = LengthPrefixed::with_max_frame(max);
                $with
            }
            _ => {
                let varint = Varint::with_max_frame(max);
                let $codec = if skip { varint.skip_oversized() } else { varint };
                $with
            }
        }
    }};
}

fn end(result: Result<(), FrameError>) -> End {
    let Err(error) = result else { return End::Clean };
    match error.kind() {
        FrameErrorKind::TooLong { claimed, limit, .. } => {
            assert!(claimed > limit, "{claimed} bytes are not more than {limit}");
            End::TooLong(claimed)
        }
        FrameErrorKind::Malformed(_) => End::Malformed,
        FrameErrorKind::Truncated { arrived } => End::Truncated(arrived),
        other => panic!("unknown: {other:?}"),
    }
}

fn decoded<C: ByteCodec>(codec: &C, chunks: &[&[u8]], patience: Patience) -> Decoded {
    let (messages, result) = decode(codec, chunks, patience);
    (messages, end(result))
}

/// Without a length it depends on the cuts how much has arrived when a frame is found to be too long.
fn blurred((messages, end): Decoded) -> Decoded {
    (messages, if let End::TooLong(_) = end { End::TooLong(0) } else { end })
}

/// `wire` in pieces, whose lengths the first bytes say.
fn pieces<'a>(lengths: &[u8], wire: &'a [u8]) -> Vec<&'a [u8]> {
    let (mut rest, mut pieces) = (wire, Vec::new());
    for length in lengths {
        let (piece, behind) = rest.split_at(usize::from(*length).min(rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    pieces.push(rest);
    pieces
}

/// All ways to take the wire give what the whole gives. Returns that.
fn however_it_comes<C: ByteCodec>(codec: &C, lengths: &[u8], wire: &[u8]) -> Decoded {
    let whole = blurred(decoded(codec, &[wire], Patience::LooksAtOnce));
    let byte_by_byte: Vec<_> = wire.chunks(1).collect();
    for patience in [Patience::LooksAtOnce, Patience::WaitsForNeed] {
        assert_eq!(
            blurred(decoded(codec, &pieces(lengths, wire), patience)),
            whole,
            "in pieces, {patience:?}"
        );
        assert_eq!(blurred(decoded(codec, &byte_by_byte, patience)), whole, "byte by byte, {patience:?}");
    }
    whole
}

/// Every framing: the whole against any pieces, and what has arrived is sent on and arrives again.
pub fn framings(data: &[u8]) {
    let mut choices = Choices::new(data);
    let count = choices.below(6);
    let lengths = choices.take(count);
    with_codec!(choices, |codec, cut_by_read| {
        let wire = choices.rest();
        if cut_by_read {
            // Messages are what reads bring: all bytes, in order.
            let (messages, end) = decoded(&codec, &pieces(lengths, wire), Patience::LooksAtOnce);
            assert_eq!((messages.concat(), end), (wire.to_vec(), End::Clean));
            return;
        }
        let (messages, _) = however_it_comes(&codec, lengths, wire);
        for message in messages {
            // A line's CR, say, may be more than the maximum takes.
            let Ok(frame) = encode(&codec, &message) else { continue };
            assert_eq!(
                decoded(&codec, &[&frame], Patience::LooksAtOnce),
                (vec![message], End::Clean),
                "sent on"
            );
        }
        text(lengths, wire);
    });
}

/// Text in lines: the same bytes, or refused for not being text.
fn text(lengths: &[u8], wire: &[u8]) {
    let mut lines = Vec::new();
    let mut reader = Reader::new(Utf8::new(Lines::with_max_frame(50)), Patience::LooksAtOnce);
    let refused = pieces(lengths, wire)
        .iter()
        .any(|piece| reader.feed(piece, |line| lines.push(line.as_bytes().to_vec())).is_err());
    let (bytes, end) = decode(&Lines::with_max_frame(50), &[wire], Patience::LooksAtOnce);
    assert!(bytes.starts_with(&lines), "other lines as text");
    let all_text = bytes.iter().all(|line| std::str::from_utf8(line).is_ok());
    assert!(!refused || end.is_err() || !all_text, "refused without a reason");
}

/// Every framing: messages go out, and come back however the wire is cut, or are refused and leave nothing.
pub fn messages(data: &[u8]) {
    let mut choices = Choices::new(data);
    let count = choices.below(6);
    let lengths = choices.take(count);
    with_codec!(choices, |codec, cut_by_read| {
        let (mut sent, mut wire) = (Vec::new(), Vec::new());
        while !choices.is_empty() {
            let len = choices.below(48);
            let message = choices.take(len);
            // `encode` asserts that nothing is left of a refused one, and that an owned one gives the same.
            let Ok(frame) = encode(&codec, message) else { continue };
            assert!(cut_by_read || !frame.is_empty(), "a frame of no bytes");
            wire.extend(frame);
            sent.push(message.to_vec());
        }
        if cut_by_read {
            assert_eq!(sent.concat(), wire);
        } else {
            assert_eq!(however_it_comes(&codec, lengths, &wire), (sent, End::Clean));
        }
    });
}

/// `LengthPrefixed` over all of its settings.
pub fn length_prefixed(data: &[u8]) {
    let mut choices = Choices::new(data);
    let count = choices.below(6);
    let lengths = choices.take(count);
    let width = choices.below(10);
    let offset = match choices.byte() {
        255 => 255,
        other => usize::from(other % 6),
    };
    let (little_endian, keep, skip) = (choices.yes(), choices.yes(), choices.yes());
    let (counts, adjustment) = match choices.below(5) {
        0 => (LengthCounts::Payload, 0),
        1 => (LengthCounts::FieldAndPayload, -(width as i128)),
        2 => (LengthCounts::WholeFrame, -((width + offset) as i128)),
        3 => {
            let by = i64::from(choices.byte() as i8 % 16);
            (LengthCounts::Adjusted(by), i128::from(by))
        }
        _ => {
            let by = choices.number() as i64;
            (LengthCounts::Adjusted(by), i128::from(by))
        }
    };
    let max = choices.maximum();
    let mut builder = LengthPrefixed::builder().width(width).offset(offset).counts(counts).max_frame(max);
    if little_endian {
        builder = builder.little_endian();
    }
    if keep {
        builder = builder.keep_header();
    }
    if skip {
        builder = builder.oversize(Oversize::Skip);
    }
    let naive = naive::Prefix { width, offset, little_endian, adjustment, keep, skip, max };
    let known_width = [1, 2, 3, 4, 8].contains(&width);
    let has_sense = known_width && naive.limit() >= 0 && adjustment <= i128::from(max);
    let built = builder.build();
    assert_eq!(built.is_ok(), has_sense, "{built:?}");
    let Ok(codec) = built else { return };
    assert_eq!(i128::from(codec.max_frame()), naive.limit());
    let wire = choices.rest();
    let expected = naive.decode(wire);
    assert_eq!(decoded(&codec, &[wire], Patience::LooksAtOnce), expected, "the whole");
    assert_eq!(decoded(&codec, &pieces(lengths, wire), Patience::WaitsForNeed), expected, "in pieces");
    assert_eq!(decoded(&codec, &pieces(lengths, wire), Patience::LooksAtOnce), expected, "in pieces");
    for message in expected.0 {
        // What was received can be sent on, and is the same frame but for what is not handed over.
        let frame = encode(&codec, &message).expect("it was received");
        assert_eq!(decoded(&codec, &[&frame], Patience::LooksAtOnce), (vec![message], End::Clean), "sent on");
    }
}

/// `Varint` against a decoder that counts in 128 bits.
pub fn varint(data: &[u8]) {
    let mut choices = Choices::new(data);
    let count = choices.below(6);
    let lengths = choices.take(count);
    let (skip, max) = (choices.yes(), choices.maximum());
    let codec = Varint::with_max_frame(max);
    let codec = if skip { codec.skip_oversized() } else { codec };
    let wire = choices.rest();
    let expected = naive::varint(wire, max, skip);
    for patience in [Patience::LooksAtOnce, Patience::WaitsForNeed] {
        assert_eq!(decoded(&codec, &[wire], patience), expected, "the whole");
        assert_eq!(decoded(&codec, &pieces(lengths, wire), patience), expected, "in pieces");
    }
}
