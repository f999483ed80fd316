//! The codec of the program `kv`, and its commands, without a socket: every cut of the input, what a header may claim, and an
//! independent implementation of RESP2 as the oracle.

mod common;
// Cargo runs no tests of examples: those of its pure parts run here.
#[path = "../examples/kv/commands.rs"]
mod commands;
#[path = "../examples/kv/resp/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the program uses all of it")]
mod resp;
#[path = "../examples/kv/store.rs"]
mod store;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use commands::Then;
use common::{Patience, Reader};
use mainspring::codec::{Codec, FrameErrorKind, Output, Scan};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::encode::encode as encode_frame;
use redis_protocol::resp2::types::OwnedFrame;
use resp::{Complaint, Reply, Resp};
use store::{Map, Shared, Store};

type Words = Vec<Vec<u8>>;

const MAX: u64 = 100 << 20;

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Clean,
    Truncated,
    Refused(Complaint),
}

/// The requests of a stream that arrives in these chunks, and how it ended.
fn read<'c>(max: u64, chunks: impl IntoIterator<Item = &'c [u8]>, patience: Patience) -> (Vec<Words>, End) {
    let mut requests = Vec::new();
    let mut reader = Reader::new(Resp::with_max_frame(max), patience);
    for chunk in chunks {
        let fed = reader.feed(chunk, |request| requests.push(request.map(<[u8]>::to_vec).collect()));
        if fed.is_err() {
            let complaint = reader.codec().complaint().expect("it says what was wrong");
            return (requests, End::Refused(complaint));
        }
    }
    match reader.end(|_| panic!("nothing is left at the end")) {
        Ok(()) => (requests, End::Clean),
        Err(error) => {
            assert!(matches!(error.kind(), FrameErrorKind::Truncated { .. }), "{error}");
            (requests, End::Truncated)
        }
    }
}

fn read_whole(wire: &[u8]) -> (Vec<Words>, End) {
    read(MAX, [wire], Patience::LooksAtOnce)
}

#[track_caller]
fn expect_refused(wire: &[u8], complaint: Complaint) {
    assert_eq!(read_whole(wire), (vec![], End::Refused(complaint)), "{:?}", wire.escape_ascii().to_string());
}

fn words(words: &[&[u8]]) -> Words {
    words.iter().map(|word| word.to_vec()).collect()
}

fn array(words: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut wire = format!("*{}\r\n", words.len()).into_bytes();
    for word in words.iter().map(AsRef::as_ref) {
        wire.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        wire.extend_from_slice(word);
        wire.extend_from_slice(b"\r\n");
    }
    wire
}

// ---- every cut -----------------------------------------------------------------------------------------------------

/// A piece of a stream, right or wrong.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![vec(any::<u8>(), 0..12), "[a-z]{0,5}".prop_map(String::into_bytes)];
    let wrong = [
        &b"*1\r\n*1\r\n"[..],
        b"*x\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$3\r\nabcxx",
        b"*2\r\n$1\r\n",
        b"$3\r\nabc\r\n",
        b"*99999999999999999999",
        b"*1\r\n$600000000\r\n",
        b"\"open\r\n",
        b"'a'b\n",
        b"*",
        b"*1\r",
    ];
    prop_oneof![
        6 => vec(word, 0..5).prop_map(|words| array(&words)),
        2 => "(set|get|'a b'|\"\\\\x41\"| ){0,4}\r?\n".prop_map(String::into_bytes),
        1 => select(wrong.to_vec()).prop_map(<[u8]>::to_vec),
        1 => vec(select(b"*$123-\r\n\"'x \\".to_vec()), 0..10),
    ]
}

fn cut(wire: &[u8], cuts: &[Index]) -> Vec<Range<usize>> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
    at.extend([0, wire.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

proptest! {
    #[test]
    fn wherever_the_stream_is_cut_its_requests_are_the_same(
        pieces in vec(piece(), 0..8),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let wire = pieces.concat();
        let whole = read_whole(&wire);
        let chunks = cut(&wire, &cuts);
        for patience in [Patience::LooksAtOnce, Patience::WaitsForNeed] {
            prop_assert_eq!(&read(MAX, chunks.iter().map(|at| &wire[at.clone()]), patience), &whole);
            prop_assert_eq!(&read(MAX, wire.chunks(1), patience), &whole);
        }
    }

    // ---- an oracle -------------------------------------------------------------------------------------------------

    #[test]
    fn an_array_of_bulk_strings_is_what_another_implementation_says(
        requests in vec(vec(vec(any::<u8>(), 0..40), 1..6), 1..6),
    ) {
        let mut wire = Vec::new();
        for request in &requests {
            let bulks = request.iter().map(|word| OwnedFrame::BulkString(word.clone())).collect();
            let mut one = vec![0; 4096];
            let len = encode_frame(&mut one, &OwnedFrame::Array(bulks), false).expect("it can be said");
            wire.extend_from_slice(&one[..len]);
        }
        prop_assert_eq!(read_whole(&wire), (requests, End::Clean));
    }

    #[test]
    fn what_is_taken_for_an_array_is_one_for_another_implementation(pieces in vec(piece(), 1..4)) {
        let wire = pieces.concat();
        let mut codec = Resp::with_max_frame(MAX);
        let scanned = codec.scan(&wire);
        if let (true, Ok(Scan::Frame(len))) = (wire.starts_with(b"*"), scanned) {
            let mut frame = wire[..len].to_vec();
            let words: Words = codec.parse(&mut frame).expect("it is whole").map(<[u8]>::to_vec).collect();
            let decoded = decode(&wire).expect("it is right").map(|(frame, n)| (n, frame));
            let bulks = words.into_iter().map(OwnedFrame::BulkString).collect();
            // An array below zero is nil to it.
            if !wire.starts_with(b"*-") {
                prop_assert_eq!(decoded, Some((len, OwnedFrame::Array(bulks))));
            }
        }
    }

    #[test]
    fn replies_are_what_another_implementation_understands(
        values in vec(proptest::option::of(vec(any::<u8>(), 0..50)), 0..5),
        number in any::<i64>(),
        text in "[ -~\r\n]{0,30}",
    ) {
        let bulk = |value: &Option<Vec<u8>>| {
            value.as_ref().map_or(OwnedFrame::Null, |value| OwnedFrame::BulkString(value.clone()))
        };
        for value in &values {
            prop_assert_eq!(said(Reply::Value(value.as_deref())), bulk(value));
        }
        let lent: Vec<_> = values.iter().map(Option::as_deref).collect();
        prop_assert_eq!(said(Reply::Values(&lent)), OwnedFrame::Array(values.iter().map(bulk).collect()));
        prop_assert_eq!(said(Reply::Integer(number)), OwnedFrame::Integer(number));
        prop_assert_eq!(said(Reply::OK), OwnedFrame::SimpleString(b"OK".to_vec()));
        let line = format!("ERR {}", text.replace(['\r', '\n'], " "));
        prop_assert_eq!(said(Reply::Error(text.as_bytes())), OwnedFrame::Error(line));
    }

    // ---- commands --------------------------------------------------------------------------------------------------

    #[test]
    fn a_shared_store_answers_as_one_that_is_not(requests in vec(request(), 0..60)) {
        let wire: Vec<u8> = requests.iter().flat_map(|request| array(request)).collect();
        prop_assert_eq!(answers(&mut Shared::new(), &wire), answers(&mut Map::default(), &wire));
    }
}

/// A reply as the oracle reads it, to the last byte.
fn said(reply: Reply<'_>) -> OwnedFrame {
    let mut wire = Vec::new();
    Resp::with_max_frame(MAX).encode(reply, &mut Output::to_vec(&mut wire)).expect("each can be said");
    let (frame, len) = decode(&wire).expect("it is right").expect("it is whole");
    assert_eq!(len, wire.len());
    frame
}

fn request() -> impl Strategy<Value = Vec<&'static str>> {
    let name = select(vec![
        "get", "SET", "incr", "append", "mget", "mset", "del", "exists", "flushall", "echo", "Ping", "frob",
    ]);
    let word = select(vec!["a", "b", "c", "1", "9223372036854775806", "nx", "xx", "get", ""]);
    (name, vec(word, 0..5)).prop_map(|(name, mut words)| {
        words.insert(0, name);
        words
    })
}

fn answers(store: &mut impl Store, wire: &[u8]) -> Vec<u8> {
    let mut answers = Vec::new();
    let mut codec = Resp::with_max_frame(MAX);
    let mut reader = Reader::new(Resp::with_max_frame(MAX), Patience::LooksAtOnce);
    let fed = reader.feed(wire, |request| {
        let then = commands::run(store, request, &mut |reply| {
            codec.encode(reply, &mut Output::to_vec(&mut answers)).expect("each can be said");
        });
        assert_eq!(then, Then::GoOn);
    });
    fed.expect("all of it is right");
    answers
}

#[test]
fn what_is_set_is_there_until_it_is_not() {
    let mut store = Map::default();
    let said = answers(
        &mut store,
        b"set k v\nget k\nappend k w\nset k x nx\nset k y xx get\ndel k k\nget k\nincr n\nincr n\nset n q\nincr n\n",
    );
    let expected = "+OK\r\n$1\r\nv\r\n:2\r\n$-1\r\n$2\r\nvw\r\n:1\r\n$-1\r\n:1\r\n:2\r\n+OK\r\n\
                    -ERR value is not an integer or out of range\r\n";
    assert_eq!(String::from_utf8_lossy(&said), expected);
}

#[test]
fn nobody_sees_half_of_what_is_set_together() {
    let store = Shared::new();
    // So many that one of them at least is in another part than the one that is held up.
    let others: Vec<String> = (0..20).map(|key| format!("key {key}")).collect();
    let mut mset = vec!["MSET"];
    others.iter().map(String::as_str).chain(["held"]).for_each(|key| mset.extend([key, "new"]));
    let (tell, told) = mpsc::channel();
    let (over, others) = (&AtomicBool::new(false), &others);
    let seen = thread::scope(|scope| {
        let (mut holder, mut writer, mut reader) = (store.clone(), store.clone(), store.clone());
        let held = holder.one(b"held");
        scope.spawn(move || assert_eq!(answers(&mut writer, &array(&mset)), b"+OK\r\n"));
        scope.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let mut is_new =
                    |key: &String| reader.one(key.as_bytes()).get(key.as_bytes()) == Some(b"new");
                if others.iter().any(&mut is_new) {
                    // It may have been set after the wait was over.
                    return tell.send(()).unwrap_or_default();
                }
            }
        });
        let seen = told.recv_timeout(Duration::from_millis(300));
        over.store(true, Ordering::Relaxed);
        drop(held);
        seen
    });
    assert_eq!(seen, Err(RecvTimeoutError::Timeout), "a key is new while another cannot be");
    let mut keys = store.clone();
    assert!(others.iter().all(|key| keys.one(key.as_bytes()).get(key.as_bytes()) == Some(b"new")));
}

#[test]
fn a_value_that_shrinks_gives_its_memory_back() {
    let mut map = Map::default();
    map.set(b"k", &[b'x'; 100_000]);
    map.set(b"k", b"small");
    assert_eq!(map.get(b"k"), Some(&b"small"[..]));
    assert!(map.value(b"k").capacity() < 1_000);
}

// ---- bounds --------------------------------------------------------------------------------------------------------

#[test]
fn an_array_in_an_array_is_refused_where_it_begins() {
    let nested = b"*1\r\n".repeat(256);
    expect_refused(&nested, Complaint::NoBulk(b'*'));
    expect_refused(b"*1\r\n*", Complaint::NoBulk(b'*'));
    expect_refused(b"*1\r\n:5\r\n", Complaint::NoBulk(b':'));
    expect_refused(b"*1\r\nPING\r\n", Complaint::NoBulk(b'P'));
}

#[test]
fn lengths_are_numbers_in_one_form() {
    for header in
        ["*x\r\n", "*\r\n", "*1", "*+1\r\n", "*01\r\n", "*1 \r\n", "*1\n", "*1\rx", "*2147483648\r\n"]
    {
        let (requests, end) = read_whole(header.as_bytes());
        let expected = if header == "*1" { End::Truncated } else { End::Refused(Complaint::Count) };
        assert_eq!((requests, end), (vec![], expected), "{header:?}");
    }
    for header in ["$x", "$\r\n", "$-1\r\n", "$-0\r\n", "$04\r\n", "$4\n", "$99999999999999999999"] {
        expect_refused(format!("*1\r\n{header}").as_bytes(), Complaint::Length);
    }
    expect_refused(b"*1\r\n$4\r\nPING--", Complaint::NoEnd);
}

#[test]
fn nothing_is_asked_and_nothing_answered() {
    let (requests, end) = read_whole(b"*0\r\n*-1\r\n\r\n \t \n*-5\r\nPING\r\n");
    assert_eq!(requests, [words(&[]), words(&[]), words(&[]), words(&[]), words(&[]), words(&[b"PING"])]);
    assert_eq!(end, End::Clean);
    assert_eq!(answers(&mut Map::default(), b"*0\r\n\r\n"), b"");
}

#[test]
fn a_claim_that_can_never_come_true_is_refused_by_its_header() {
    expect_refused(b"*2147483647\r\n", Complaint::CountTooLong(13 + 6 * 2_147_483_647, MAX));
    expect_refused(b"*1\r\n$536870913\r\n", Complaint::LengthTooLong(536_870_913 + 18, MAX));
    let huge = read(u64::MAX, [&b"*1\r\n$536870913\r\n"[..]], Patience::LooksAtOnce);
    assert_eq!(huge.1, End::Refused(Complaint::LengthTooLong(536_870_913 + 18, 512 << 20)));
    let huge = read(u64::MAX, [&b"*1\r\n$9223372036854775807\r\n"[..]], Patience::LooksAtOnce);
    assert!(matches!(huge.1, End::Refused(Complaint::LengthTooLong(..))), "{huge:?}");
    let (_, end) = read(u64::MAX, [&b"*2147483647\r\n$536870912\r\n"[..]], Patience::LooksAtOnce);
    assert_eq!(end, End::Truncated, "it may come true");
}

#[test]
fn exactly_the_longest_request_passes() {
    let wire = array(&["SET", "key", "0123456789"]);
    let len = wire.len() as u64;
    assert_eq!(read(len, [&*wire], Patience::LooksAtOnce).1, End::Clean);
    let (requests, end) = read(len - 1, [&*wire], Patience::LooksAtOnce);
    assert_eq!((requests, end), (vec![], End::Refused(Complaint::LengthTooLong(len, len - 1))));
}

#[test]
fn exactly_the_longest_line_passes() {
    for (max, longest) in [(MAX, 64 << 10), (10, 10)] {
        let line = vec![b'x'; longest + 1];
        for end in [&b"\n"[..], b"\r\n"] {
            for chunk in [1_000, usize::MAX] {
                let fits = [&line[1..], end].concat();
                let (requests, ended) = read(max, fits.chunks(chunk.min(fits.len())), Patience::LooksAtOnce);
                assert_eq!((requests.len(), ended), (1, End::Clean));
                let longer = [&line, end].concat();
                let (requests, ended) =
                    read(max, longer.chunks(chunk.min(longer.len())), Patience::LooksAtOnce);
                assert!(matches!(ended, End::Refused(Complaint::LineTooLong(..))), "{requests:?} {ended:?}");
            }
        }
        // Without an end it is refused as well.
        let (_, ended) = read(max, [&*line], Patience::LooksAtOnce);
        assert!(matches!(ended, End::Refused(Complaint::LineTooLong(..))), "{ended:?}");
    }
}

#[test]
fn an_argument_that_has_come_is_not_looked_at_again() {
    // Byte by byte: were all of it looked at each time, this would take hours.
    let wire = array(&vec!["a"; 60_000]);
    let mut codec = Resp::with_max_frame(MAX);
    for end in 1..wire.len() {
        assert!(matches!(codec.scan(&wire[..end]), Ok(Scan::Need(_))), "{end}");
    }
    assert_eq!(codec.scan(&wire), Ok(Scan::Frame(wire.len())));
}

#[test]
fn a_long_argument_is_asked_for_as_a_whole() {
    let mut codec = Resp::with_max_frame(MAX);
    assert_eq!(codec.scan(b"*2\r\n$3\r\nGET\r\n$1000000\r\nx"), Ok(Scan::Need(23 + 1_000_002)));
    // And no further: what comes behind it may be wrong, which is not to wait.
    assert_eq!(codec.clone().scan(b"*3\r\n$3\r\nSET\r\n"), Ok(Scan::Need(14)));
}

#[test]
fn the_words_of_complaints_are_those_of_redis() {
    let said = [
        (Complaint::Count, "invalid multibulk length"),
        (Complaint::Length, "invalid bulk length"),
        (Complaint::NoBulk(b'*'), "expected '$', got '*'"),
        (Complaint::NoBulk(b'\''), "expected '$', got '''"),
        (Complaint::NoBulk(b'\n'), "expected '$', got ' '"),
        (Complaint::NoBulk(0xff), "expected '$', got '\\xff'"),
        (Complaint::Quotes, "unbalanced quotes in request"),
        (Complaint::LineTooLong(2, 1), "too big inline request"),
    ];
    for (complaint, text) in said {
        let mut wire = Vec::new();
        let reply = Reply::Complaint(complaint);
        Resp::with_max_frame(MAX).encode(reply, &mut Output::to_vec(&mut wire)).expect("each can be said");
        assert_eq!(String::from_utf8_lossy(&wire), format!("-ERR Protocol error: {text}\r\n"));
    }
}
