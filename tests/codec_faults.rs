//! Faults that users of other libraries met, one test each, named after what went wrong there.

mod common;

use common::{Patience, Reader, decode, decode_all, encode, encode_all, expect_round_trip};
use mainspring::codec::{
    ByteCodec, Codec, Delimited, EncodeError, Fixed, FrameError, FrameErrorKind, LengthCounts,
    LengthPrefixed, LengthPrefixedBuilder, Lines, MAX_FRAME_DEFAULT, Oversize, Raw, Scan, Utf8, Varint,
};

fn prefixed(width: usize) -> LengthPrefixedBuilder {
    LengthPrefixed::builder().width(width)
}

fn malformed(error: FrameError) -> bool {
    matches!(error.kind(), FrameErrorKind::Malformed(_))
}

fn claimed(error: FrameError) -> (u64, u64) {
    match error.kind() {
        FrameErrorKind::TooLong { claimed, limit, .. } => (claimed, limit),
        other => panic!("not too long: {other:?}"),
    }
}

// The maximum

// tokio-rs/tokio#4815
#[test]
fn a_maximum_frame_survives_a_negative_adjustment() {
    let whole = prefixed(4).counts(LengthCounts::WholeFrame).max_frame(16);
    let codec = whole.build().unwrap();
    expect_round_trip(&codec, &[[1; 16]]);
    assert_eq!(encode(&codec, &[1; 16]).unwrap()[..4], [0, 0, 0, 20]);
    assert_eq!(claimed(decode_all(&codec, &[[0, 0, 0, 21]]).unwrap_err()), (17, 16));
}

// tokio-rs/tokio#4815, the other way round: hyperium/h2#624 had come to lean on it
#[test]
fn a_positive_adjustment_lets_nothing_longer_than_the_maximum_through() {
    let codec = prefixed(4).counts(LengthCounts::Adjusted(8)).max_frame(16).build().unwrap();
    expect_round_trip(&codec, &[[1; 16]]);
    assert_eq!(encode(&codec, &[1; 16]).unwrap()[..4], [0, 0, 0, 8]);
    assert_eq!(claimed(decode_all(&codec, &[[0, 0, 0, 9]]).unwrap_err()), (17, 16));
}

#[test]
fn the_least_lengths_under_an_adjustment_are_said_or_refused() {
    let counts_itself = prefixed(4).counts(LengthCounts::FieldAndPayload).build().unwrap();
    assert_eq!(encode(&counts_itself, b"").unwrap(), [0, 0, 0, 4]);
    assert!(malformed(decode_all(&counts_itself, &[[0, 0, 0, 3]]).unwrap_err()));

    let adds = prefixed(4).counts(LengthCounts::Adjusted(2)).build().unwrap();
    assert_eq!(encode(&adds, b"ab").unwrap(), b"\0\0\0\0ab");
    assert!(matches!(encode(&adds, b"a"), Err(EncodeError::Unrepresentable(_))));
}

// lemunozm/message-io#161; netty/netty#25, #7775, #14559: at the header, once, and with the size in the error
#[test]
fn a_frame_above_the_maximum_is_refused_at_its_header() {
    let mut four = LengthPrefixed::with_max_frame(1000);
    assert_eq!(four.scan(&1000u32.to_be_bytes()), Ok(Scan::Need(1004)));
    let error = four.scan(&1001u32.to_be_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "a frame of 1001 bytes where 1000 is the most, at byte 0");

    let mut varint = Varint::with_max_frame(1000);
    assert_eq!(varint.scan(&[0xe8, 0x07]), Ok(Scan::Need(1002)));
    assert_eq!(claimed(varint.scan(&[0xe9, 0x07]).unwrap_err()), (1001, 1000));
}

#[test]
fn the_maximum_passes_and_one_byte_more_does_not() {
    fn expect<C: ByteCodec>(codec: &C) {
        expect_round_trip(codec, &[[b'x'; 16]]);
        assert_eq!(encode(codec, &[b'x'; 17]), Err(EncodeError::TooLong { len: 17, limit: 16 }));
    }
    fn refuses<C: ByteCodec>(codec: &C, wire: &[u8]) {
        let limit = claimed(decode_all(codec, &[wire]).unwrap_err()).1;
        assert_eq!(limit, 16);
    }
    expect(&LengthPrefixed::with_max_frame(16));
    expect(&Varint::with_max_frame(16));
    expect(&Lines::with_max_frame(16));
    expect(&Delimited::new("--").unwrap().with_max_frame(16));
    expect(&Fixed::new(16).unwrap());
    refuses(&LengthPrefixed::with_max_frame(16), b"\0\0\0\x11xxxxxxxxxxxxxxxxx");
    refuses(&Varint::with_max_frame(16), b"\x11xxxxxxxxxxxxxxxxx");
    refuses(&Lines::with_max_frame(16), b"xxxxxxxxxxxxxxxxx\n");
    refuses(&Delimited::new("--").unwrap().with_max_frame(16), b"xxxxxxxxxxxxxxxxx--");
}

#[test]
fn without_a_setting_the_maximum_is_the_same_for_all() {
    assert_eq!(LengthPrefixed::default().max_frame(), MAX_FRAME_DEFAULT);
    assert_eq!(Varint::default().max_frame(), MAX_FRAME_DEFAULT);
    assert_eq!(Lines::default().max_frame(), MAX_FRAME_DEFAULT);
    assert_eq!(Delimited::new(";").unwrap().max_frame(), MAX_FRAME_DEFAULT);
}

#[test]
fn the_largest_claims_are_refused_without_overflow() {
    let four = LengthPrefixed::default();
    assert_eq!(claimed(decode_all(&four, &[[0xff; 4]]).unwrap_err()).0, u64::from(u32::MAX));

    let eight = prefixed(8).build().unwrap();
    assert_eq!(claimed(decode_all(&eight, &[[0xff; 8]]).unwrap_err()).0, u64::MAX);
    let adds = prefixed(8).counts(LengthCounts::Adjusted(i64::MAX)).max_frame(u64::MAX).build().unwrap();
    assert_eq!(claimed(decode_all(&adds, &[[0xff; 8]]).unwrap_err()).0, u64::MAX);

    let largest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    assert_eq!(claimed(decode_all(&Varint::default(), &[largest]).unwrap_err()).0, u64::MAX);
    assert_eq!(claimed(decode_all(&Varint::with_max_frame(u64::MAX), &[largest]).unwrap_err()).0, u64::MAX);
}

/// Found by `.ci/fuzz`: the error said that 2^64 - 1 bytes are more than 2^64 - 1, also to those who had asked to skip it.
#[test]
fn a_claim_that_no_memory_could_hold_names_a_smaller_limit() {
    let mut ends = prefixed(8).max_frame(u64::MAX).build().unwrap();
    let (claim, limit) = claimed(ends.scan(&[0xff; 8]).unwrap_err());
    assert!(claim > limit, "{claim} is not more than {limit}");
    let longest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    let mut varint = Varint::with_max_frame(u64::MAX);
    let (claim, limit) = claimed(varint.scan(&longest).unwrap_err());
    assert!(claim > limit, "{claim} is not more than {limit}");

    let mut skips = prefixed(8).max_frame(u64::MAX).oversize(Oversize::Skip).build().unwrap();
    assert_eq!(skips.scan(&[0xff; 8]), Ok(Scan::Skip(u64::MAX)));
    assert_eq!(varint.skip_oversized().scan(&longest), Ok(Scan::Skip(u64::MAX)));
}

#[test]
fn a_skip_of_the_largest_claim_never_ends() {
    let eight = prefixed(8).oversize(Oversize::Skip).build().unwrap();
    assert_eq!(eight.clone().scan(&[0xff; 8]), Ok(Scan::Skip(u64::MAX)));
    let (messages, end) = decode(&eight, &[[0xff; 8]; 100], Patience::LooksAtOnce);
    assert!(messages.is_empty());
    assert_eq!(end, Err(FrameError::truncated(800)));
}

// tokio-rs/tokio#333, Telcoin-Association/telcoin-network#728: a claim is a hint, and the next look is what
// pays
#[test]
fn a_claim_of_the_maximum_only_asks_for_more() {
    let header = (MAX_FRAME_DEFAULT as u32).to_be_bytes();
    let need = MAX_FRAME_DEFAULT as usize + 4;
    assert_eq!(LengthPrefixed::default().scan(&header), Ok(Scan::Need(need)));
    let (messages, end) = decode(&LengthPrefixed::default(), &[&header[..], b"abc"], Patience::LooksAtOnce);
    assert!(messages.is_empty());
    assert_eq!(end, Err(FrameError::truncated(7)));
}

// tokio-rs/tokio#5080
#[test]
fn a_payload_longer_than_its_prefix_can_say_is_refused_not_cut() {
    for (width, limit) in [(1, 255), (2, 65_535)] {
        let codec = prefixed(width).max_frame(8 << 20).build().unwrap();
        assert_eq!(codec.max_frame(), limit);
        assert_eq!(encode(&codec, &[0; 70_000]), Err(EncodeError::TooLong { len: 70_000, limit }));
        let longest = vec![3; limit as usize];
        assert_eq!(decode_all(&codec, &[encode(&codec, &longest).unwrap()]).unwrap(), [longest]);
    }
    let counts_all = prefixed(1).offset(3).counts(LengthCounts::WholeFrame).build().unwrap();
    assert_eq!(counts_all.max_frame(), 251);
    assert!(encode(&counts_all, &[0; 251]).is_ok());
    assert_eq!(encode(&counts_all, &[0; 252]), Err(EncodeError::TooLong { len: 252, limit: 251 }));
    assert_eq!(LengthPrefixed::with_max_frame(u64::MAX).max_frame(), u64::from(u32::MAX));
}

// Headers

// tokio-rs/tokio#6604, #2818, #8348, #8349
#[test]
fn a_kept_header_does_not_cost_the_frame_its_tail() {
    let codec = prefixed(2).offset(1).keep_header().build().unwrap();
    let wire = b"\x07\0\x03abc\x08\0\x02de";
    let messages = decode_all(&codec, &[wire]).unwrap();
    assert_eq!(messages, [&wire[..6], &wire[6..]]);
    assert_eq!(encode_all(&codec, &messages), wire);

    let whole = prefixed(2).offset(1).counts(LengthCounts::WholeFrame).keep_header().build().unwrap();
    assert_eq!(encode(&whole, b"\x07??abc").unwrap(), b"\x07\0\x06abc");
    assert!(matches!(encode(&whole, b"\x07?"), Err(EncodeError::Unrepresentable(_))));
}

// netty/netty#10098
#[test]
fn a_header_is_not_lost_when_its_payload_comes_later() {
    let chunks = [&b"\0\0\0\x04"[..], b"abcd", b"\0\0\0\x04", b"efgh"];
    assert_eq!(decode_all(&LengthPrefixed::default(), &chunks).unwrap(), [b"abcd", b"efgh"]);
    let chunks = [&b"\x04"[..], b"abcd", b"\x04", b"efgh"];
    assert_eq!(decode_all(&Varint::default(), &chunks).unwrap(), [b"abcd", b"efgh"]);
}

// libevent/libevent#864, MystenLabs/sui#631
#[test]
fn frames_that_arrive_together_are_not_lost() {
    let messages: Vec<Vec<u8>> = (0..100).map(|n| vec![n; usize::from(n)]).collect();
    let wire = [encode_all(&LengthPrefixed::default(), &messages), b"\0\0".to_vec()].concat();
    let (arrived, end) = decode(&LengthPrefixed::default(), &[wire], Patience::LooksAtOnce);
    assert_eq!(arrived, messages);
    assert_eq!(end, Err(FrameError::truncated(2)));
}

// wangdxh/netty-stream#3, netty/netty#13331
#[test]
fn an_http_client_is_recognised_by_the_error() {
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let error = decode_all(&LengthPrefixed::default(), &[request]).unwrap_err();
    assert_eq!(claimed(error), (1_195_725_856, MAX_FRAME_DEFAULT));
    assert_eq!(
        error.to_string(),
        "a frame of 1195725856 bytes where 104857600 is the most \
         (it begins with \"GET \": another protocol?), at byte 0"
    );
}

#[test]
fn a_binary_header_is_not_taken_for_another_protocol() {
    let tls_hello = [0x16, 3, 1, 2];
    let error = decode_all(&LengthPrefixed::default(), &[tls_hello]).unwrap_err();
    assert!(!error.to_string().contains("protocol"));
    let long_line = decode_all(&Lines::with_max_frame(8), &[b"text of a line"]).unwrap_err();
    assert!(!long_line.to_string().contains("protocol"), "lines are text anyway");
}

// Empty messages, and the end of the stream

// philippseith/signalr PR #54, oraoto/pony-websocket#8, websockets/ws PR #45 and #56
#[test]
fn an_empty_message_is_a_message() {
    let messages = [&b""[..], b"", b"a", b""];
    expect_round_trip(&LengthPrefixed::default(), &messages);
    expect_round_trip(&prefixed(1).counts(LengthCounts::FieldAndPayload).build().unwrap(), &messages);
    expect_round_trip(&Varint::default(), &messages);
    expect_round_trip(&Lines::default(), &messages);
    expect_round_trip(&Delimited::new("--").unwrap(), &messages);
    assert_eq!(encode(&LengthPrefixed::default(), b"").unwrap(), [0; 4]);
    assert_eq!(encode(&Varint::default(), b"").unwrap(), [0]);
    assert_eq!(decode_all(&Lines::default(), &["\n\r\n"]).unwrap(), [b"", b""]);
    assert!(
        decode_all(&LengthPrefixed::with_max_frame(0), &[[0; 8]]).is_ok_and(|messages| messages.len() == 2)
    );
}

// matthunz/futures-codec#1, tokio-rs/tokio#4978
#[test]
fn a_peer_that_dies_inside_a_frame_is_told_from_one_that_is_done() {
    fn expect<C: ByteCodec>(codec: &C, frame: &[u8]) {
        assert_eq!(decode_all(codec, &[frame]).map(|messages| messages.len()), Ok(1));
        assert_eq!(decode_all(codec, &[b""; 0]).unwrap(), [b""; 0]);
        for at in 1..frame.len() {
            assert_eq!(decode_all(codec, &[&frame[..at]]), Err(FrameError::truncated(at as u64)));
        }
    }
    expect(&LengthPrefixed::default(), b"\0\0\0\x02ab");
    expect(&Varint::default(), &[&[0x80, 0x01][..], &[7; 128]].concat());
    expect(&Delimited::new("\r\n").unwrap(), b"ab\r\n");
    expect(&Fixed::new(3).unwrap(), b"abc");
    let error = decode_all(&Fixed::new(3).unwrap(), &["abcde"]).unwrap_err();
    assert_eq!(error.to_string(), "the stream ended after 2 bytes of a frame, at byte 0");
}

// tokio-rs/tokio-io#42, tokio-rs/tokio#2131, matthunz/futures-codec PR #15
#[test]
fn sizes_around_the_usual_buffers_come_back() {
    let sizes = [127, 128, 4_095, 4_096, 8_191, 8_192, 8_193, 16_383, 16_384, 65_535, 65_536, 65_537];
    fn expect<C: ByteCodec>(codec: &C, message: &[u8]) {
        let wire = encode(codec, message).unwrap();
        for chunk in [8_191, 8_192, 65_536, usize::MAX] {
            let chunks: Vec<&[u8]> = wire.chunks(chunk).collect();
            let messages = decode_all(codec, &chunks).unwrap();
            assert!(messages == [message], "{} bytes in chunks of {chunk}", message.len());
        }
    }
    for size in sizes {
        let message = vec![b'm'; size];
        expect(&LengthPrefixed::default(), &message);
        expect(&Varint::default(), &message);
        expect(&Lines::default(), &message);
        expect(&Delimited::new("--").unwrap(), &message);
        expect(&Fixed::new(size).unwrap(), &message);
        let wire: Vec<&[u8]> = message.chunks(40_000).collect();
        assert_eq!(decode_all(&Raw, &wire).unwrap(), wire, "nothing is cut at a size of its own");
    }
}

// Varint

#[test]
fn a_padded_length_is_refused_even_when_its_bytes_come_apart() {
    assert!(malformed(decode_all(&Varint::default(), &[[0x80], [0x00]]).unwrap_err()));
    assert!(malformed(decode_all(&Varint::default(), &[[0x81, 0x80, 0x00]]).unwrap_err()));
    assert_eq!(decode_all(&Varint::default(), &[[0x00]]).unwrap(), [b""]);
}

#[test]
fn a_length_that_never_ends_is_refused_at_its_tenth_byte() {
    let mut reader = Reader::new(Varint::default(), Patience::LooksAtOnce);
    for _ in 0..9 {
        reader.feed(&[0x80], |_| panic!("no message")).unwrap();
    }
    assert!(malformed(reader.feed(&[0x80], |_| panic!("no message")).unwrap_err()));
}

#[test]
fn a_length_above_64_bits_is_refused_not_wrapped() {
    let too_much = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2];
    assert!(malformed(Varint::with_max_frame(u64::MAX).scan(&too_much).unwrap_err()));
}

#[test]
fn a_skipped_varint_frame_takes_no_byte_of_the_next() {
    let codec = Varint::with_max_frame(3).skip_oversized();
    let wire = encode_all(&Varint::default(), &[&b"one"[..], &[1; 200], b"two"]);
    for at in 0..wire.len() {
        assert_eq!(decode_all(&codec, &[&wire[..at], &wire[at..]]).unwrap(), [b"one", b"two"]);
    }
}

// Lines

// netty/netty PR #1287
#[test]
fn one_long_line_does_not_make_later_lines_vanish() {
    let codec = Lines::with_max_frame(4).skip_oversized();
    for wire in ["ab\nlong line\ncd\nef\n", "ab\r\nlong line\r\ncd\r\nef\r\n"] {
        let (wire, all) = (wire.as_bytes(), [b"ab", b"cd", b"ef"]);
        for at in 0..=wire.len() {
            for then in at..=wire.len() {
                let chunks = [&wire[..at], &wire[at..then], &wire[then..]];
                assert_eq!(decode_all(&codec, &chunks).unwrap(), all, "cut at {at} and {then}");
            }
        }
    }
}

// netty/netty PR #1287: the LF is the first byte of the next read
#[test]
fn a_line_one_byte_too_long_is_refused_before_its_lf() {
    let mut reader = Reader::new(Lines::with_max_frame(16), Patience::LooksAtOnce);
    let error = reader.feed(&[b'x'; 17], |_| panic!("no message")).unwrap_err();
    assert_eq!(claimed(error), (17, 16));
}

#[test]
fn the_cr_behind_a_line_of_the_maximum_is_not_counted() {
    let codec = Lines::with_max_frame(4);
    assert_eq!(decode_all(&codec, &["abcd\r", "\nef"]).unwrap(), [&b"abcd"[..], b"ef"]);
    assert_eq!(claimed(decode_all(&codec, &["abcd\r", "e"]).unwrap_err()), (6, 4));
    assert_eq!(claimed(decode_all(&codec, &["abcd\r", "\r\n"]).unwrap_err()), (5, 4));
    assert_eq!(
        claimed(decode_all(&codec, &["abcd\r"]).unwrap_err()),
        (5, 4),
        "no LF came: the CR is the line's"
    );
}

#[test]
fn only_the_cr_before_an_lf_is_dropped() {
    let lines = decode_all(&Lines::default(), &["a\rb\r\r\n\r\nlast\r"]).unwrap();
    assert_eq!(lines, [&b"a\rb\r"[..], b"", b"last\r"]);
}

#[test]
fn a_line_that_ends_in_cr_keeps_it() {
    assert_eq!(encode(&Lines::default(), b"a\r").unwrap(), b"a\r\r\n");
    assert_eq!(encode(&Lines::default(), b"a").unwrap(), b"a\n");
    expect_round_trip(&Lines::default(), &["a\r", "\r", "\r\r", "b"]);
}

#[test]
fn a_line_with_lf_cannot_become_two() {
    assert!(matches!(encode(&Lines::default(), b"one\ntwo"), Err(EncodeError::Unrepresentable(_))));
    assert!(matches!(encode(&Lines::default(), b"one\n"), Err(EncodeError::Unrepresentable(_))));
}

#[test]
fn a_last_line_that_is_dropped_is_no_message() {
    let codec = Lines::with_max_frame(4).skip_oversized();
    assert_eq!(decode_all(&codec, &["ab\nlong", " line"]).unwrap(), [b"ab"]);
    assert_eq!(decode_all(&codec, &["ab\nlong\r"]).unwrap(), [b"ab"]);
    assert_eq!(decode_all(&codec, &["ab\nlong"]).unwrap(), [&b"ab"[..], b"long"]);
}

// Delimited

#[test]
fn a_delimiter_is_found_across_the_edges_of_chunks() {
    let codec = Delimited::new("\r\n\r\n").unwrap();
    expect_round_trip(&codec, &["one\r", "", "\r\n\r two", "\n", "\n\r\n\r"]);
    assert!(matches!(encode(&codec, b"one\r\n"), Err(EncodeError::Unrepresentable(_))));
}

#[test]
fn a_message_that_completes_an_earlier_delimiter_is_refused() {
    let codec = Delimited::new("aa").unwrap();
    assert!(matches!(encode(&codec, b"a"), Err(EncodeError::Unrepresentable(_))));
    assert!(matches!(encode(&codec, b"baab"), Err(EncodeError::Unrepresentable(_))));
    assert_eq!(encode(&codec, b"ab").unwrap(), b"abaa");
    let crlf = Delimited::new("\r\n").unwrap();
    expect_round_trip(&crlf, &["\r", "\n", "\n\r"]);
}

#[test]
fn a_dropped_message_keeps_the_delimiter_that_may_have_begun() {
    let codec = Delimited::new("aab").unwrap().with_max_frame(2).skip_oversized();
    let wire = b"xxxxaaaabyaab";
    for at in 0..=wire.len() {
        assert_eq!(decode_all(&codec, &[&wire[..at], &wire[at..]]).unwrap(), [b"y"], "cut at {at}");
    }
    let cut_short = decode_all(&codec, &["xxxx", "xxaa"]);
    assert_eq!(cut_short, Err(FrameError::truncated(8)), "the dropped bytes count too");
}

#[test]
fn settings_that_cannot_frame_are_refused_when_built() {
    assert!(Delimited::new("").is_err());
    assert!(Fixed::new(0).is_err());
    assert!(prefixed(0).build().is_err());
    assert!(prefixed(5).build().is_err());
    assert!(prefixed(16).build().is_err());
    assert!(prefixed(1).offset(256).build().is_err());
}

#[test]
fn a_message_of_another_length_cannot_shift_a_fixed_stream() {
    let codec = Fixed::new(4).unwrap();
    assert!(matches!(encode(&codec, b"abc"), Err(EncodeError::Unrepresentable(_))));
    assert!(matches!(encode(&codec, b""), Err(EncodeError::Unrepresentable(_))));
    assert_eq!(encode(&codec, b"abcde"), Err(EncodeError::TooLong { len: 5, limit: 4 }));
}

// Searching, clones, broadcasts

/// A byte that was searched is not searched again, so that a long line in small pieces costs no square.
/// Shown by breaking the contract: the end is put among bytes that were already looked at.
#[test]
fn what_was_searched_is_not_searched_again() {
    let mut lines = Lines::default();
    assert_eq!(lines.scan(b"aaaaaa"), Ok(Scan::Need(7)));
    assert_eq!(lines.scan(b"aaa\naaa"), Ok(Scan::Need(8)));
    assert_eq!(lines.scan(b"aaa\naaa\n"), Ok(Scan::Frame(8)));

    let mut delimited = Delimited::new("--").unwrap();
    assert_eq!(delimited.scan(b"aaaaaa"), Ok(Scan::Need(7)));
    assert_eq!(delimited.scan(b"aaaa--a"), Ok(Scan::Need(8)));
    assert_eq!(delimited.scan(b"aaaa--a--"), Ok(Scan::Frame(9)));
}

#[test]
fn a_frame_behind_a_long_one_is_searched_from_its_beginning() {
    let mut lines = Lines::default();
    assert_eq!(lines.scan(b"a long line"), Ok(Scan::Need(12)));
    assert_eq!(lines.scan(b"a long line\n"), Ok(Scan::Frame(12)));
    assert_eq!(lines.scan(b"b\nc"), Ok(Scan::Frame(2)));
    let mut delimited = Delimited::new("--").unwrap();
    assert_eq!(delimited.scan(b"a long message"), Ok(Scan::Need(15)));
    assert_eq!(delimited.scan(b"a long message--"), Ok(Scan::Frame(16)));
    assert_eq!(delimited.scan(b"b--c"), Ok(Scan::Frame(3)));
}

#[test]
fn a_clone_begins_a_stream_of_its_own() {
    fn expect<C: ByteCodec>(codec: C, before: &[u8], whole: &[u8]) {
        let mut reader = Reader::new(codec, Patience::LooksAtOnce);
        reader.feed(before, |_| panic!("no message")).unwrap();
        assert_eq!(decode_all(reader.codec(), &[whole]).unwrap(), [b"a", b"b"]);
    }
    let dashes = Delimited::new("--").unwrap().with_max_frame(9).skip_oversized();
    expect(Lines::default(), b"unfinished", b"a\nb\n");
    expect(Lines::with_max_frame(4).skip_oversized(), b"too long", b"a\nb\n");
    expect(dashes.clone(), b"unfinishe", b"a--b--");
    expect(dashes, b"much too long", b"a--b--");
}

#[test]
fn a_broadcast_encodes_once_for_equal_settings_wherever_they_are_in_their_streams() {
    fn expect<C: ByteCodec>(codec: &C, before: &[u8], other: &C) {
        let mut busy = codec.clone();
        busy.scan(before).unwrap();
        assert!(busy.same_encoding(codec) && codec.same_encoding(&busy));
        assert!(!codec.same_encoding(other) && !other.same_encoding(codec));
    }
    let dashes = Delimited::new("--").unwrap();
    expect(&LengthPrefixed::default(), b"\0", &prefixed(2).build().unwrap());
    expect(&Varint::default(), b"\x80", &Varint::with_max_frame(7));
    expect(&Lines::default(), b"unfinished", &Lines::with_max_frame(7));
    expect(&Lines::with_max_frame(2).skip_oversized(), b"too long", &Lines::default());
    expect(&dashes, b"unfinished", &Delimited::new("-").unwrap());
    expect(&dashes, b"unfinished", &dashes.clone().with_max_frame(7));
    expect(&Fixed::new(3).unwrap(), b"a", &Fixed::new(4).unwrap());
    assert!(Raw.same_encoding(&Raw));
    let text = |max| Utf8::new(Lines::with_max_frame(max));
    assert!(text(1).same_encoding(&text(1)) && !text(1).same_encoding(&text(2)));
}

// Text

#[test]
fn invalid_text_ends_the_connection_and_is_not_repaired() {
    let mut reader = Reader::new(Utf8::new(Lines::default()), Patience::LooksAtOnce);
    let mut texts = Vec::new();
    let error = reader.feed(b"gr\xc3\xbcn\n\xff\nlater\n", |text: &str| texts.push(text.to_owned()));
    assert!(malformed(error.unwrap_err()));
    assert_eq!(texts, ["grün"]);
}

#[test]
fn a_character_cut_by_a_chunk_is_whole_in_its_frame() {
    let mut reader = Reader::new(Utf8::new(Lines::default()), Patience::LooksAtOnce);
    let mut texts = Vec::new();
    for byte in "grüße\n€".as_bytes() {
        reader.feed(&[*byte], |text: &str| texts.push(text.to_owned())).unwrap();
    }
    reader.end(|text: &str| texts.push(text.to_owned())).unwrap();
    assert_eq!(texts, ["grüße", "€"]);
}
