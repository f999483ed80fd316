//! Every codec against a naive decoder that has the whole input, cut at any places.

mod common;

use common::{Patience, Reader, decode, encode, encode_all};
use mainspring::codec::{
    ByteCodec, Delimited, Fixed, FrameError, FrameErrorKind, LengthCounts, LengthPrefixed, Lines, Oversize,
    Raw, Utf8, Varint,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Clean,
    TooLong(u64),
    Malformed,
    Truncated(u64),
}

/// What a stream comes to.
type Decoded = (Vec<Vec<u8>>, End);

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

/// Without a length it depends on the cuts how much has arrived when a frame is found to be too long.
fn blurred((messages, end): Decoded) -> Decoded {
    (messages, if let End::TooLong(_) = end { End::TooLong(0) } else { end })
}

/// How a stream arrives.
#[derive(Debug, Clone)]
struct Arrival {
    cuts: Cuts,
    patience: Patience,
}

#[derive(Debug, Clone)]
enum Cuts {
    None,
    EveryByte,
    At(Vec<Index>),
}

impl Arrival {
    fn decode<C: ByteCodec>(&self, codec: &C, wire: &[u8]) -> Decoded {
        let mut at = match &self.cuts {
            Cuts::None => vec![],
            Cuts::EveryByte => (1..wire.len()).collect(),
            Cuts::At(cuts) => cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect(),
        };
        at.sort_unstable();
        let starts = std::iter::once(0).chain(at.iter().copied());
        let ends = at.iter().copied().chain([wire.len()]);
        let chunks: Vec<&[u8]> = starts.zip(ends).map(|(from, to)| &wire[from..to]).collect();
        let (messages, result) = decode(codec, &chunks, self.patience);
        (messages, end(result))
    }
}

fn arrivals() -> impl Strategy<Value = Arrival> {
    let cuts = prop_oneof![
        1 => Just(Cuts::None),
        2 => Just(Cuts::EveryByte),
        5 => vec(any::<Index>(), 0..12).prop_map(Cuts::At),
    ];
    let patience = select(vec![Patience::LooksAtOnce, Patience::WaitsForNeed]);
    (cuts, patience).prop_map(|(cuts, patience)| Arrival { cuts, patience })
}

/// Maximums around the lengths that the tests use, and those that nothing reaches.
fn maximums() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0u64..12, 1 => Just(300), 1 => Just(100 << 20), 1 => Just(u64::MAX >> 1)]
}

fn find(needle: &[u8], bytes: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

/// How many bytes have to arrive, one by one, until the codec refuses the stream.
fn refused_after<C: ByteCodec>(codec: &C, wire: &[u8]) -> Option<usize> {
    let mut reader = Reader::new(codec.clone(), Patience::LooksAtOnce);
    (1..=wire.len()).find(|&arrived| reader.feed(&wire[arrived - 1..arrived], |_| ()).is_err())
}

// Length-prefixed

#[derive(Debug, Clone)]
struct Prefix {
    width: usize,
    little_endian: bool,
    offset: usize,
    counts: LengthCounts,
    keep_header: bool,
    skip: bool,
    max: u64,
}

fn prefixes() -> impl Strategy<Value = Prefix> {
    let counts = prop_oneof![
        3 => Just(LengthCounts::Payload),
        2 => Just(LengthCounts::FieldAndPayload),
        2 => Just(LengthCounts::WholeFrame),
        3 => (-12i64..12).prop_map(LengthCounts::Adjusted),
        1 => select(vec![-255, -256, -65_535, 300, i64::MIN, i64::MAX]).prop_map(LengthCounts::Adjusted),
    ];
    let width = select(vec![1, 2, 3, 4, 8]);
    (width, any::<bool>(), 0usize..5, counts, any::<bool>(), any::<bool>(), maximums()).prop_map(
        |(width, little_endian, offset, counts, keep_header, skip, max)| Prefix {
            width,
            little_endian,
            offset,
            counts,
            keep_header,
            skip,
            max,
        },
    )
}

impl Prefix {
    fn build(&self) -> Option<LengthPrefixed> {
        let mut builder = LengthPrefixed::builder()
            .width(self.width)
            .offset(self.offset)
            .counts(self.counts)
            .max_frame(self.max);
        if self.little_endian {
            builder = builder.little_endian();
        }
        if self.keep_header {
            builder = builder.keep_header();
        }
        if self.skip {
            builder = builder.oversize(Oversize::Skip);
        }
        builder.build().ok()
    }

    fn header(&self) -> usize {
        self.offset + self.width
    }

    fn adjustment(&self) -> i128 {
        match self.counts {
            LengthCounts::Payload => 0,
            LengthCounts::FieldAndPayload => -(self.width as i128),
            LengthCounts::WholeFrame => -(self.header() as i128),
            LengthCounts::Adjusted(by) => i128::from(by),
        }
    }

    /// The largest payload: what is set, or what the field can say.
    fn limit(&self) -> i128 {
        ((1i128 << (8 * self.width)) - 1 + self.adjustment()).min(i128::from(self.max))
    }

    /// Whether there is a payload that could be said at all, for some value of the field.
    fn has_sense(&self) -> bool {
        self.limit() >= 0 && self.adjustment() <= i128::from(self.max)
    }

    fn field(&self, value: u64) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..self.width).map(|at| (u128::from(value) >> (8 * at)) as u8).collect();
        if !self.little_endian {
            bytes.reverse();
        }
        bytes
    }

    fn naive(&self, mut rest: &[u8]) -> Decoded {
        let mut messages = Vec::new();
        loop {
            if rest.is_empty() {
                return (messages, End::Clean);
            }
            if rest.len() < self.header() {
                return (messages, End::Truncated(rest.len() as u64));
            }
            let mut field = rest[self.offset..self.header()].to_vec();
            if self.little_endian {
                field.reverse();
            }
            let value = field.iter().fold(0i128, |value, byte| value * 256 + i128::from(*byte));
            let payload = value + self.adjustment();
            if payload < 0 {
                return (messages, End::Malformed);
            }
            let too_long = payload > self.limit();
            if too_long && !self.skip {
                return (messages, End::TooLong(payload.min(i128::from(u64::MAX)) as u64));
            }
            let total = payload + self.header() as i128;
            if (rest.len() as i128) < total {
                return (messages, End::Truncated(rest.len() as u64));
            }
            let (frame, behind) = rest.split_at(total as usize);
            if !too_long {
                messages.push(frame[if self.keep_header { 0 } else { self.header() }..].to_vec());
            }
            rest = behind;
        }
    }
}

/// What a peer may put into a length field.
#[derive(Debug, Clone)]
enum Claim {
    Honest,
    Any(u64),
}

fn claims() -> impl Strategy<Value = Vec<(Claim, Vec<u8>)>> {
    let claim = prop_oneof![
        8 => Just(Claim::Honest),
        2 => (0u64..24).prop_map(Claim::Any),
        1 => select(vec![255, 256, 65_535, u64::from(u32::MAX), u64::MAX]).prop_map(Claim::Any),
        1 => any::<u64>().prop_map(Claim::Any),
    ];
    vec((claim, vec(any::<u8>(), 0..16)), 0..6)
}

proptest! {
    #[test]
    fn length_prefixed_settings_are_refused_when_they_cannot_say_anything(prefix in prefixes()) {
        prop_assert_eq!(prefix.build().is_some(), prefix.has_sense());
    }

    #[test]
    fn length_prefixed_streams_give_what_the_whole_gives(
        prefix in prefixes(),
        claims in claims(),
        tail in 0usize..9,
        arrival in arrivals(),
    ) {
        let Some(codec) = prefix.build() else { return Ok(()) };
        let mut wire = Vec::new();
        for (claim, payload) in claims {
            let value = match claim {
                Claim::Honest => (payload.len() as i128 - prefix.adjustment()) as u64,
                Claim::Any(value) => value,
            };
            wire.extend(vec![0xee; prefix.offset]);
            wire.extend(prefix.field(value));
            wire.extend(payload);
        }
        wire.truncate(wire.len().saturating_sub(tail / 2));
        prop_assert_eq!(arrival.decode(&codec, &wire), prefix.naive(&wire));
    }

    #[test]
    fn length_prefixed_messages_come_back_or_are_refused(
        prefix in prefixes(),
        messages in vec(vec(any::<u8>(), 0..24), 0..6),
        arrival in arrivals(),
    ) {
        let Some(codec) = prefix.build() else { return Ok(()) };
        let (mut wire, mut sent) = (Vec::new(), Vec::new());
        for message in messages {
            let kept = if prefix.keep_header { prefix.header() } else { 0 };
            let frame = encode(&codec, &message);
            let Some(payload) = message.get(kept..) else {
                prop_assert!(frame.is_err());
                continue;
            };
            let value = payload.len() as i128 - prefix.adjustment();
            prop_assert_eq!(frame.is_ok(), payload.len() as i128 <= prefix.limit() && value >= 0);
            let Ok(frame) = frame else { continue };
            let zeros = vec![0; prefix.offset];
            let before = if prefix.keep_header { message[..prefix.offset].to_vec() } else { zeros };
            let header = [before, prefix.field(value as u64)].concat();
            prop_assert_eq!(&frame, &[&header, payload].concat());
            wire.extend(frame);
            sent.push(if prefix.keep_header { [&header, payload].concat() } else { payload.to_vec() });
        }
        prop_assert_eq!(arrival.decode(&codec, &wire), (sent, End::Clean));
    }
}

// Varint

fn naive_varint(mut rest: &[u8], max: u64, skip: bool) -> Decoded {
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let prefix = rest.iter().position(|byte| *byte < 0x80).map_or(rest.len(), |last| last + 1);
        let unfinished = rest[prefix - 1] >= 0x80;
        if prefix > 10 || (prefix == 10 && unfinished) {
            return (messages, End::Malformed);
        }
        if unfinished {
            return (messages, End::Truncated(rest.len() as u64));
        }
        let value =
            rest[..prefix].iter().rev().fold(0u128, |value, byte| value << 7 | u128::from(byte & 0x7f));
        if value > u128::from(u64::MAX) || (prefix > 1 && rest[prefix - 1] == 0) {
            return (messages, End::Malformed);
        }
        let too_long = value > u128::from(max);
        if too_long && !skip {
            return (messages, End::TooLong(value as u64));
        }
        let total = value + prefix as u128;
        if (rest.len() as u128) < total {
            return (messages, End::Truncated(rest.len() as u64));
        }
        if !too_long {
            messages.push(rest[prefix..total as usize].to_vec());
        }
        rest = &rest[total as usize..];
    }
    (messages, End::Clean)
}

/// Parts of streams: whole frames, and bytes that look like lengths of many bytes.
fn varint_parts() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        5 => vec(any::<u8>(), 0..20).prop_map(|payload| [&[payload.len() as u8], &payload[..]].concat()),
        1 => vec(any::<u8>(), 290..310).prop_map(|payload| {
            let len = payload.len();
            [&[len as u8 | 0x80, (len >> 7) as u8], &payload[..]].concat()
        }),
        1 => (vec(0x80u8.., 0..12), 0u8..4).prop_map(|(mut bytes, last)| {
            bytes.push(last);
            bytes
        }),
        1 => vec(any::<u8>(), 0..12),
    ]
}

proptest! {
    #[test]
    fn varint_streams_give_what_the_whole_gives(
        max in maximums(),
        skip in any::<bool>(),
        parts in vec(varint_parts(), 0..5),
        tail in 0usize..4,
        arrival in arrivals(),
    ) {
        let mut codec = Varint::with_max_frame(max);
        if skip {
            codec = codec.skip_oversized();
        }
        let mut wire = parts.concat();
        wire.truncate(wire.len().saturating_sub(tail));
        prop_assert_eq!(arrival.decode(&codec, &wire), naive_varint(&wire, max, skip));
    }

    #[test]
    fn varint_messages_come_back(
        messages in vec(prop_oneof![3 => vec(any::<u8>(), 0..9), 1 => vec(any::<u8>(), 120..136)], 0..6),
        arrival in arrivals(),
    ) {
        let codec = Varint::default();
        let wire = encode_all(&codec, &messages);
        prop_assert_eq!(arrival.decode(&codec, &wire), (messages, End::Clean));
    }
}

// Lines

fn naive_lines(wire: &[u8], max: u64, skip: bool) -> Decoded {
    let mut messages = Vec::new();
    let mut pieces: Vec<&[u8]> = wire.split(|byte| *byte == b'\n').collect();
    let last = pieces.pop().unwrap_or_default();
    let ended = pieces.into_iter().map(|piece| piece.strip_suffix(b"\r").unwrap_or(piece));
    let last = Some(last).filter(|last| !last.is_empty());
    for line in ended.chain(last) {
        if line.len() as u64 <= max {
            messages.push(line.to_vec());
        } else if !skip {
            return (messages, End::TooLong(0));
        }
    }
    (messages, End::Clean)
}

fn lines(max: u64, skip: bool) -> Lines {
    let lines = Lines::with_max_frame(max);
    if skip { lines.skip_oversized() } else { lines }
}

fn line_bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(select(b"aaab\r\r\n".to_vec()), 0..40)
}

proptest! {
    #[test]
    fn lines_give_what_the_whole_gives(
        max in maximums(),
        skip in any::<bool>(),
        wire in line_bytes(),
        arrival in arrivals(),
    ) {
        let decoded = arrival.decode(&lines(max, skip), &wire);
        prop_assert_eq!(blurred(decoded), naive_lines(&wire, max, skip));
    }

    #[test]
    fn lines_come_back_or_are_refused(
        max in maximums(),
        messages in vec(vec(select(b"ab\r\r\n\0".to_vec()), 0..8), 0..6),
        arrival in arrivals(),
    ) {
        let codec = Lines::with_max_frame(max);
        let (mut wire, mut sent) = (Vec::new(), Vec::new());
        for message in messages {
            let frame = encode(&codec, &message);
            prop_assert_eq!(frame.is_ok(), message.len() as u64 <= max && !message.contains(&b'\n'));
            if let Ok(frame) = frame {
                wire.extend(frame);
                sent.push(message);
            }
        }
        prop_assert_eq!(arrival.decode(&codec, &wire), (sent, End::Clean));
    }

    #[test]
    fn a_line_is_refused_as_soon_as_no_end_could_save_it(max in 0u64..6, wire in line_bytes()) {
        let saved = |part: &[u8]| naive_lines(&[part, b"\n"].concat(), max, false).1 == End::Clean;
        let expected = (1..=wire.len()).find(|arrived| !saved(&wire[..*arrived]));
        prop_assert_eq!(refused_after(&Lines::with_max_frame(max), &wire), expected);
    }
}

// Delimited

fn naive_delimited(delimiter: &[u8], mut rest: &[u8], max: u64, skip: bool) -> Decoded {
    let mut messages = Vec::new();
    while let Some(at) = find(delimiter, rest) {
        if at as u64 <= max {
            messages.push(rest[..at].to_vec());
        } else if !skip {
            return (messages, End::TooLong(0));
        }
        rest = &rest[at + delimiter.len()..];
    }
    // Some end of the delimiter, put behind what came, makes a frame that is short enough.
    let can_be_saved = (0..delimiter.len())
        .any(|from| find(delimiter, &[rest, &delimiter[from..]].concat()).is_some_and(|at| at as u64 <= max));
    if !can_be_saved && !skip {
        (messages, End::TooLong(0))
    } else if rest.is_empty() {
        (messages, End::Clean)
    } else {
        (messages, End::Truncated(rest.len() as u64))
    }
}

fn delimited(delimiter: &[u8], max: u64, skip: bool) -> Delimited {
    let codec = Delimited::new(delimiter).expect("not empty").with_max_frame(max);
    if skip { codec.skip_oversized() } else { codec }
}

/// Short ones of few letters, so that they overlap with themselves and with what comes before.
fn delimiters() -> impl Strategy<Value = Vec<u8>> {
    vec(select(b"ab".to_vec()), 1..5)
}

fn delimited_bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(select(b"aaabbc".to_vec()), 0..40)
}

proptest! {
    #[test]
    fn delimited_streams_give_what_the_whole_gives(
        delimiter in delimiters(),
        max in maximums(),
        skip in any::<bool>(),
        wire in delimited_bytes(),
        arrival in arrivals(),
    ) {
        let decoded = arrival.decode(&delimited(&delimiter, max, skip), &wire);
        prop_assert_eq!(blurred(decoded), naive_delimited(&delimiter, &wire, max, skip));
    }

    #[test]
    fn delimited_messages_come_back_or_are_refused(
        delimiter in delimiters(),
        max in maximums(),
        messages in vec(vec(select(b"abc".to_vec()), 0..6), 0..6),
        arrival in arrivals(),
    ) {
        let codec = delimited(&delimiter, max, false);
        let (mut wire, mut sent) = (Vec::new(), Vec::new());
        for message in messages {
            let frame = encode(&codec, &message);
            let comes_back = find(&delimiter, &[&message[..], &delimiter].concat()) == Some(message.len());
            prop_assert_eq!(frame.is_ok(), message.len() as u64 <= max && comes_back);
            if let Ok(frame) = frame {
                wire.extend(frame);
                sent.push(message);
            }
        }
        prop_assert_eq!(arrival.decode(&codec, &wire), (sent, End::Clean));
    }

    #[test]
    fn a_delimited_message_is_refused_as_soon_as_no_delimiter_could_save_it(
        delimiter in delimiters(),
        max in 0u64..6,
        wire in delimited_bytes(),
    ) {
        let lost = |part: &[u8]| naive_delimited(&delimiter, part, max, false).1 == End::TooLong(0);
        let expected = (1..=wire.len()).find(|arrived| lost(&wire[..*arrived]));
        prop_assert_eq!(refused_after(&delimited(&delimiter, max, false), &wire), expected);
    }
}

// Fixed, raw, text

proptest! {
    #[test]
    fn fixed_streams_give_what_the_whole_gives(
        len in 1usize..9,
        wire in vec(any::<u8>(), 0..40),
        arrival in arrivals(),
    ) {
        let whole = wire.chunks_exact(len);
        let end = match whole.remainder().len() {
            0 => End::Clean,
            left => End::Truncated(left as u64),
        };
        let messages = whole.map(<[u8]>::to_vec).collect();
        prop_assert_eq!(arrival.decode(&Fixed::new(len).unwrap(), &wire), (messages, end));
    }

    #[test]
    fn fixed_messages_come_back_or_are_refused(
        len in 1usize..9,
        messages in vec(vec(any::<u8>(), 0..10), 0..8),
        arrival in arrivals(),
    ) {
        let codec = Fixed::new(len).unwrap();
        let (mut wire, mut sent) = (Vec::new(), Vec::new());
        for message in messages {
            let frame = encode(&codec, &message);
            prop_assert_eq!(frame.is_ok(), message.len() == len);
            if let Ok(frame) = frame {
                wire.extend(frame);
                sent.push(message);
            }
        }
        prop_assert_eq!(arrival.decode(&codec, &wire), (sent, End::Clean));
    }

    #[test]
    fn raw_messages_give_the_same_bytes(messages in vec(vec(any::<u8>(), 0..9), 0..6), arrival in arrivals()) {
        let wire = encode_all(&Raw, &messages);
        prop_assert_eq!(&wire, &messages.concat());
        let (arrived, end) = arrival.decode(&Raw, &wire);
        prop_assert!(arrived.iter().all(|message| !message.is_empty()));
        prop_assert_eq!((arrived.concat(), end), (wire, End::Clean));
    }

    #[test]
    fn text_comes_back_up_to_the_first_that_is_none(
        messages in vec(
            prop_oneof![4 => any::<String>().prop_map(String::into_bytes), 1 => vec(any::<u8>(), 0..6)],
            0..6,
        ),
        chunk in 1usize..9,
    ) {
        let wire = encode_all(&Varint::default(), &messages);
        let texts: Vec<String> = messages.iter().map_while(|m| String::from_utf8(m.clone()).ok()).collect();
        let mut reader = Reader::new(Utf8::new(Varint::default()), Patience::LooksAtOnce);
        let mut arrived = Vec::new();
        let mut keep = |text: &str| arrived.push(text.to_owned());
        let result = wire.chunks(chunk).try_for_each(|chunk| reader.feed(chunk, &mut keep));
        let all = texts.len() == messages.len();
        prop_assert_eq!(arrived, texts);
        prop_assert_eq!(end(result), if all { End::Clean } else { End::Malformed });
    }
}
