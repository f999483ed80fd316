//! The codec of `examples/http`: every cut of its input gives the same, and what is no request is told so.

#![allow(clippy::unwrap_used, reason = "what a test's helper cannot do has failed the test")]

mod common;
#[path = "../examples/http/protocol/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the program uses all of it")]
mod protocol;

use common::{Patience, Reader};
use mainspring::codec::{Codec, FrameErrorKind, Output, Scan};
use proptest::prelude::*;
use protocol::{Http, Incoming, Method, Persistence, Reply, Status};

const BODY_MAX: u64 = 1000;

/// What came of a stream, without what it borrowed.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Request { method: Method, target: String, body: Vec<u8>, persistence: Persistence },
    Expects,
    Refused(Status),
    Error(FrameErrorKind),
}

fn seen(incoming: Incoming<'_>) -> Seen {
    match incoming {
        Incoming::Expects => Seen::Expects,
        Incoming::Request(request) => Seen::Request {
            method: request.method,
            target: String::from_utf8_lossy(&request.target).into_owned(),
            body: request.body.to_vec(),
            persistence: request.persistence,
        },
    }
}

fn read<'a>(chunks: impl IntoIterator<Item = &'a [u8]>, patience: Patience) -> Vec<Seen> {
    let mut reader = Reader::new(Http::with_max_body(BODY_MAX), patience);
    let mut all = Vec::new();
    let fed =
        chunks.into_iter().try_for_each(|chunk| reader.feed(chunk, |incoming| all.push(seen(incoming))));
    if let Err(error) = fed.and_then(|()| reader.end(|incoming| all.push(seen(incoming)))) {
        all.extend(reader.codec().refusal().map(|refusal| Seen::Refused(refusal.status())));
        all.push(Seen::Error(error.kind()));
    }
    all
}

fn whole(input: &[u8]) -> Vec<Seen> {
    read([input], Patience::LooksAtOnce)
}

#[track_caller]
fn expect_refused(input: &[u8], status: Status) {
    let all = whole(input);
    assert!(
        matches!(&all[..], [Seen::Refused(told), Seen::Error(_)] if *told == status),
        "{all:?} of {}",
        input.escape_ascii()
    );
    expect_same_by_bytes(input, &all);
}

#[track_caller]
fn expect_same_by_bytes(input: &[u8], all: &[Seen]) {
    for patience in [Patience::LooksAtOnce, Patience::WaitsForNeed] {
        assert_eq!(read(input.chunks(1), patience), all, "{}", input.escape_ascii());
    }
}

fn request(method: Method, target: &str, body: &[u8], persistence: Persistence) -> Seen {
    Seen::Request { method, target: target.to_owned(), body: body.to_vec(), persistence }
}

fn get(target: &str) -> Seen {
    request(Method::Get, target, b"", Persistence::Stays)
}

fn post(body: &[u8]) -> Seen {
    request(Method::Post, "/echo", body, Persistence::Stays)
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn posted(headers: &str, body: &[u8]) -> Vec<u8> {
    [format!("POST /echo HTTP/1.1\r\nHost: a\r\n{headers}\r\n").as_bytes(), body].concat()
}

fn chunked(body: &[u8]) -> Vec<u8> {
    posted("Transfer-Encoding: chunked\r\n", body)
}

#[test]
fn pipelined_requests_come_one_by_one() {
    let input =
        [GET, &posted("Content-Length: 5\r\n", b"hello"), &chunked(b"5\r\nhello\r\n0\r\n\r\n"), GET].concat();
    let all = whole(&input);
    assert_eq!(all, [get("/"), post(b"hello"), post(b"hello"), get("/")]);
    expect_same_by_bytes(&input, &all);
}

#[test]
fn a_connection_stays_as_its_version_and_its_header_say() {
    let of = |version: &str, header: &str| match &whole(
        format!("GET / HTTP/{version}\r\nHost: a\r\n{header}\r\n").as_bytes(),
    )[..]
    {
        [Seen::Request { persistence, .. }] => *persistence,
        other => panic!("{other:?}"),
    };
    assert_eq!(of("1.1", ""), Persistence::Stays);
    assert_eq!(of("1.1", "Connection: keep-alive\r\n"), Persistence::Stays);
    assert_eq!(of("1.1", "connection:  Close \r\n"), Persistence::Closes);
    assert_eq!(of("1.1", "Connection: te, close\r\n"), Persistence::Closes);
    assert_eq!(of("1.1", "Connection: keep-alive, close\r\n"), Persistence::Closes);
    assert_eq!(of("1.0", ""), Persistence::Closes);
    assert_eq!(of("1.0", "Connection: Keep-Alive\r\n"), Persistence::StaysIfTold);
    assert_eq!(whole(b"GET / HTTP/1.0\r\n\r\n").len(), 1, "HTTP/1.0 needs no host");
}

#[test]
fn a_path_is_without_query_scheme_and_host() {
    let of = |target: &str| {
        let mut frame = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
        let mut codec = Http::with_max_body(0);
        assert_eq!(codec.scan(&frame), Ok(Scan::Frame(frame.len())));
        match codec.parse(&mut frame).unwrap() {
            Incoming::Request(request) => String::from_utf8(request.path().to_vec()).unwrap(),
            other => panic!("{other:?}"),
        }
    };
    for (target, path) in [
        ("/", "/"),
        ("/a/b?c=/d?e", "/a/b"),
        ("http://host:80/a?b", "/a"),
        ("http://host", "/"),
        ("/to?u=http://host/b", "/to"),
        ("/://b", "/://b"),
        ("*", "*"),
    ] {
        assert_eq!(of(target), path);
    }
    expect_refused(b"CONNECT host:443 HTTP/1.1\r\nHost: a\r\n\r\n", Status::BadRequest);
}

#[test]
fn empty_lines_before_a_request_are_passed_over() {
    let input = [b"\r\n\n\r\n", GET, b"\r\n\r\n"].concat();
    assert_eq!(whole(&input), [get("/")]);
    expect_same_by_bytes(&input, &[get("/")]);
    assert_eq!(whole(b"GET / HTTP/1.1\nHost: a\n\n"), [get("/")], "as one types it");
}

#[test]
fn who_waits_for_a_word_gets_it_before_the_body() {
    let with = posted("Expect: 100-continue\r\nContent-Length: 2\r\n", b"hi");
    for input in [
        with.clone(),
        posted("Expect: 100-Continue\r\nTransfer-Encoding: chunked\r\n", b"2\r\nhi\r\n0\r\n\r\n"),
    ] {
        assert_eq!(whole(&[&input, GET].concat()), [Seen::Expects, post(b"hi"), get("/")]);
        expect_same_by_bytes(&input, &[Seen::Expects, post(b"hi")]);
    }
    let without_body = posted("Expect: 100-continue\r\n", b"");
    assert_eq!(whole(&without_body), [post(b"")]);
    expect_refused(&posted("Expect: 100-continue\r\nContent-Length: 1001\r\n", b""), Status::ContentTooLarge);
    expect_refused(&posted("Expect: 200-maybe\r\n", b""), Status::ExpectationFailed);
    // A chunk that is none is the first byte of its frame, and nothing is behind it.
    let broken = posted("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", b"x");
    let all = whole(&broken);
    assert!(matches!(all[..], [Seen::Expects, Seen::Refused(Status::BadRequest), Seen::Error(_)]), "{all:?}");
    expect_same_by_bytes(&broken, &all);
}

#[test]
fn what_two_servers_could_read_in_two_ways_is_refused() {
    let bad = |headers: &str| expect_refused(&posted(headers, b"0\r\n\r\n"), Status::BadRequest);
    bad("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n");
    bad("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n");
    bad("Content-Length: 5\r\nContent-Length: 6\r\n");
    bad("Content-Length: 5, 5\r\n");
    bad("Content-Length: +5\r\n");
    bad("Content-Length: -1\r\n");
    bad("Content-Length: 0x5\r\n");
    bad("Content-Length: 5 5\r\n");
    bad("Content-Length:\r\n");
    bad("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n");
    bad("Content-Length : 5\r\n");
    bad(" Content-Length: 5\r\n");
    bad("X: a\r\n folded\r\n");
    bad("X: a\rContent-Length: 5\r\n");
    bad("X: a\0b\r\n");
    bad("X\r\n");
    bad("Host: b\r\n");
    expect_refused(&posted("Transfer-Encoding: gzip, chunked\r\n", b""), Status::NotImplemented);
    expect_refused(&posted("Transfer-Encoding: xchunked\r\n", b""), Status::NotImplemented);
    expect_refused(&posted("Transfer-Encoding: identity\r\n", b""), Status::NotImplemented);
    let old = b"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    expect_refused(old, Status::BadRequest);
    // The same length twice is one length.
    let twice = posted("Content-Length: 2\r\nContent-Length: 2\r\n", b"hi");
    assert_eq!(whole(&twice), [post(b"hi")]);
}

#[test]
fn what_is_no_request_is_refused() {
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00"[..],
        b"GET\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1 \r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / http/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"G\xc3T / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET nowhere HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\0\0",
    ] {
        expect_refused(garbage, Status::BadRequest);
    }
    expect_refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Status::VersionNotSupported);
    expect_refused(b"GET / HTTP/3.0\r\n\r\n", Status::VersionNotSupported);
}

#[test]
fn chunks_are_read_strictly() {
    assert_eq!(
        whole(&chunked(b"1\r\na\r\n00A;ext=\"x\"\r\n0123456789\r\n0;last\r\nTrailer: x\r\n\r\n")),
        [post(b"a0123456789")]
    );
    for body in [
        &b"\r\n"[..],
        b"g\r\n",
        b"-1\r\n",
        b"0x1\r\na\r\n",
        b" 1\r\na\r\n",
        b"1 \r\na\r\n",
        b"1\na\r\n",
        b"1;x\ny\r\na\r\n",
        b"1\r\nab\r\n",
        b"1\r\na\n0",
        b"1\r\na\rb",
        b"11111111111111111\r\n",
        b"0\r\nno header\r\n\r\n",
        b"0\r\nA: b\n\n",
        b"0\r\n\n",
    ] {
        expect_refused(&chunked(body), Status::BadRequest);
    }
    let longest = [b"1;", &[b'x'; 251][..], b"\r\na\r\n0\r\n\r\n"].concat();
    assert_eq!(whole(&chunked(&longest)), [post(b"a")]);
    let longer = [b"1;", &[b'x'; 300][..], b"\r\na\r\n0\r\n\r\n"].concat();
    expect_refused(&chunked(&longer), Status::BadRequest);
}

#[test]
fn bodies_have_a_bound() {
    let max = BODY_MAX as usize;
    assert_eq!(whole(&posted("Content-Length: 1000\r\n", &[b'x'; 1000])), [post(&[b'x'; 1000])]);
    expect_refused(&posted("Content-Length: 1001\r\n", b""), Status::ContentTooLarge);
    expect_refused(&posted("Content-Length: 99999999999999999999999999\r\n", b""), Status::ContentTooLarge);
    let ones = |n: usize| [b"1\r\nx\r\n".repeat(n), b"0\r\n\r\n".to_vec()].concat();
    assert_eq!(whole(&chunked(&ones(max))), [post(&vec![b'x'; max])]);
    expect_refused(&chunked(&ones(max + 1)), Status::ContentTooLarge);
    expect_refused(&chunked(b"3e9\r\n"), Status::ContentTooLarge);
    expect_refused(&chunked(b"FFFFFFFFFFFFFFFF\r\n"), Status::ContentTooLarge);
    // What chunks say beside their content is bounded too.
    let talkative =
        [[b"1;", &[b'x'; 240][..], b"\r\nx\r\n"].concat().repeat(200), b"0\r\n\r\n".to_vec()].concat();
    expect_refused(&chunked(&talkative), Status::ContentTooLarge);

    let mut unbounded = Http::with_max_body(u64::MAX);
    let huge = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", u64::MAX);
    assert_eq!(unbounded.scan(huge.as_bytes()), Ok(Scan::Frame(usize::MAX)));
    let mut unbounded = Http::with_max_body(u64::MAX);
    assert_eq!(unbounded.scan(&chunked(b"FFFFFFFFFFFFFFFF\r\n")), Ok(Scan::Need(usize::MAX)));
}

#[test]
fn heads_have_a_bound() {
    let max = 16 * 1024;
    let filled = |len: usize| {
        let (before, behind) = ("GET / HTTP/1.1\r\nHost: a\r\nX: ", "\r\n\r\n");
        format!("{before}{}{behind}", "x".repeat(len - before.len() - behind.len())).into_bytes()
    };
    assert_eq!(whole(&filled(max)), [get("/")]);
    expect_refused(&filled(max + 1), Status::HeadersTooLarge);
    let target = format!("GET /{}", "x".repeat(max));
    expect_refused(target.as_bytes(), Status::UriTooLong);
    let counted =
        |n: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a: b\r\n".repeat(n - 1)).into_bytes();
    assert_eq!(whole(&counted(100)), [get("/")]);
    expect_refused(&counted(101), Status::HeadersTooLarge);
    let trailers = |n: usize| chunked(format!("0\r\n{}\r\n", "a: b\r\n".repeat(n)).as_bytes());
    assert_eq!(whole(&trailers(32)), [post(b"")]);
    expect_refused(&trailers(33), Status::HeadersTooLarge);
    let long = chunked(format!("0\r\na: {}\r\n\r\n", "x".repeat(4096)).as_bytes());
    expect_refused(&long, Status::HeadersTooLarge);
}

/// A look at all that is there for each byte that comes would be tens of thousands of millions of bytes here.
#[test]
fn what_drips_in_is_not_looked_at_from_its_beginning_each_time() {
    const LEN: usize = 1 << 20;
    let body = [b"1\r\nx\r\n".repeat(LEN / 6), b"0\r\n\r\n".to_vec()].concat();
    for input in [posted(&format!("Content-Length: {LEN}\r\n"), &vec![b'x'; LEN]), chunked(&body)] {
        let mut codec = Http::with_max_body(LEN as u64);
        let mut looks = 0;
        let found = (0..=input.len()).find_map(|len| {
            looks += 1;
            match codec.scan(&input[..len]).unwrap() {
                Scan::Frame(frame) if frame <= len => Some(frame),
                _ => None,
            }
        });
        assert_eq!((found, looks), (Some(input.len()), input.len() + 1));
    }
}

#[test]
fn the_end_inside_a_request_is_no_request() {
    for input in [
        &GET[..GET.len() - 1],
        b"G",
        &posted("Content-Length: 2\r\n", b"h"),
        &chunked(b"1\r\nx"),
        &chunked(b"0\r\n"),
    ] {
        let all = whole(input);
        assert!(matches!(all[..], [Seen::Error(FrameErrorKind::Truncated { .. })]), "{all:?}");
        expect_same_by_bytes(input, &all);
    }
    assert_eq!(whole(b""), []);
}

#[test]
fn a_reply_says_what_its_client_has_to_know() {
    let sent = |reply: Reply<'_>| {
        let mut wire = Vec::new();
        Http::with_max_body(0).encode(reply, &mut Output::to_vec(&mut wire)).unwrap();
        String::from_utf8(wire).unwrap()
    };
    let plain = Reply::new(Status::Ok, b"hello");
    let text = "Content-Type: text/plain; charset=utf-8\r\nContent-Length";
    assert_eq!(sent(plain), format!("HTTP/1.1 200 OK\r\n{text}: 5\r\n\r\nhello"));
    assert_eq!(sent(Reply { to_head: true, ..plain }), format!("HTTP/1.1 200 OK\r\n{text}: 5\r\n\r\n"));
    let closing =
        Reply { persistence: Persistence::Closes, date: "now", ..Reply::new(Status::NotFound, b"") };
    let all = format!("HTTP/1.1 404 Not Found\r\nDate: now\r\n{text}: 0\r\nConnection: close\r\n\r\n");
    assert_eq!(sent(closing), all);
    let told = Reply { persistence: Persistence::StaysIfTold, allow: Some("GET"), ..plain };
    assert!(
        sent(told).contains("\r\nContent-Length: 5\r\nAllow: GET\r\nConnection: keep-alive\r\n\r\nhello")
    );
    assert_eq!(sent(Reply::CONTINUE), "HTTP/1.1 100 Continue\r\n\r\n");
}

/// Requests that are right, and some that nearly are.
fn requests() -> impl Strategy<Value = Vec<u8>> {
    let body = prop::collection::vec(any::<u8>(), 0..40);
    let header = prop_oneof![
        Just("Connection: close\r\n".to_owned()),
        Just("Expect: 100-continue\r\n".to_owned()),
        Just("Transfer-Encoding: chunked\r\n".to_owned()),
        Just("Content-Length: 3\r\n".to_owned()),
        "[A-Za-z-]{1,8}: [ -~]{0,12}\r\n",
    ];
    let fixed = (body.clone(), prop::collection::vec(header, 0..3)).prop_map(|(body, more)| {
        posted(&format!("{}Content-Length: {}\r\n", more.concat(), body.len()), &body)
    });
    let in_chunks = prop::collection::vec(body, 0..4).prop_map(|parts| {
        let mut wire = Vec::new();
        for part in parts.iter().filter(|part| !part.is_empty()) {
            wire.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
            wire.extend_from_slice(part);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b"0\r\n\r\n");
        chunked(&wire)
    });
    prop_oneof![Just(GET.to_vec()), Just(b"\r\nGET /a HTTP/1.0\n\n".to_vec()), fixed, in_chunks]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_cut_gives_the_same(
        stream in prop::collection::vec(requests(), 0..5),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        end in any::<prop::sample::Index>(),
        whole_stream in any::<bool>(),
    ) {
        let mut input = stream.concat();
        if !input.is_empty() {
            changes.iter().for_each(|(at, byte)| input[at.index(stream.concat().len())] = *byte);
            if !whole_stream {
                input.truncate(end.index(input.len()));
            }
        }
        let all = whole(&input);
        let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        places.extend([0, input.len()]);
        places.sort_unstable();
        let chunks = || places.windows(2).map(|pair| &input[pair[0]..pair[1]]);
        for patience in [Patience::LooksAtOnce, Patience::WaitsForNeed] {
            prop_assert_eq!(&read(chunks(), patience), &all);
            prop_assert_eq!(&read(input.chunks(1), patience), &all);
        }
    }
}
