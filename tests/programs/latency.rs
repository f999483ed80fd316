//! `latency`: what it reports, and that it notices what is wrong.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::support::{Ended, PATIENCE, Program, expect_count};

pub(crate) const KEYS: [&str; 13] = [
    "messages",
    "messages_per_s",
    "bytes_per_s",
    "p50_us",
    "p90_us",
    "p99_us",
    "p999_us",
    "max_us",
    "errors",
    "connections",
    "size",
    "pipeline",
    "duration_s",
];

/// The one line of JSON.
#[track_caller]
pub(crate) fn json(ended: &Ended) -> Value {
    assert_eq!(ended.lines.len(), 1, "{ended:?}");
    serde_json::from_slice(&ended.lines[0]).expect("one line of JSON")
}

/// It has all that is promised, and so many keys more.
#[track_caller]
pub(crate) fn expect_keys(report: &Value, more: usize) {
    let object = report.as_object().expect("one object");
    assert_eq!(object.len(), KEYS.len() + more, "{report}");
    for key in KEYS {
        assert!(object.get(key).is_some_and(Value::is_number), "{key} in {report}");
    }
}

#[track_caller]
fn report(ended: &Ended) -> Value {
    let report = json(ended);
    expect_keys(&report, 0);
    report
}

#[test]
fn its_own_server_answers_right_in_every_framing() {
    let cases = [
        ("u32be", 1, 64, 1),
        ("u32le", 3, 100_000, 4),
        ("u16be", 2, 1000, 16),
        ("u8", 1, 255, 100),
        ("varint", 5, 0, 3),
        ("lines", 2, 77, 8),
        ("raw", 2, 5, 50),
        ("raw", 1, 300_000, 4),
    ];
    for (framing, connections, size, pipeline) in cases {
        let arguments = format!(
            "--json --duration 300ms --warmup 50ms --framing {framing} --connections {connections} --size {size} \
             --pipeline {pipeline}"
        );
        let ended = Program::start("latency", &arguments).ended();
        ended.expect_success();
        let report = report(&ended);
        expect_count(&report, "errors", 0);
        expect_count(&report, "connections", connections);
        expect_count(&report, "size", size);
        expect_count(&report, "pipeline", pipeline);
        let number = |key: &str| report[key].as_f64().expect("a number");
        assert!(number("messages") > 0.0, "{report}");
        assert!(number("duration_s") >= 0.3 && number("duration_s") < PATIENCE.as_secs_f64(), "{report}");
        let rate = number("messages") / number("duration_s");
        assert!((number("messages_per_s") - rate).abs() <= rate / 1e6, "{report}");
        let quantiles = ["p50_us", "p90_us", "p99_us", "p999_us", "max_us"].map(number);
        assert!(quantiles[0] > 0.0 && quantiles.is_sorted(), "{report}");
    }
}

#[test]
fn a_server_elsewhere_is_measured_and_a_person_can_read_it() {
    let server = Program::serve("echo", "--framing lines");
    let address = format!("localhost:{}", server.address().port());
    let arguments = format!("{address} --framing lines --duration 300ms --warmup 0 --connections 3");
    let ended = Program::start("latency", &arguments).ended();
    ended.expect_success();
    let table = String::from_utf8(ended.lines.join(&b'\n')).expect("it is text");
    for word in ["messages/s", "MB/s", "p50", "p90", "p99", "p99.9", "max"] {
        assert!(table.contains(word), "{word} in {table}");
    }
    let stats = server.stop();
    expect_count(&stats, "accepted", 3);
    expect_count(&stats, "closes.peer", 3);
}

#[test]
fn replies_that_belong_to_others_are_errors() {
    // What one connection says, both get: a broadcast is no echo.
    let server = Program::serve("broadcast", "");
    let arguments = format!("{} --json --duration 300ms --warmup 0 --connections 2", server.address());
    let ended = Program::start("latency", &arguments).ended();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert_eq!(ended.errors.lines().count(), 1, "{ended:?}");
}

#[test]
fn swapped_and_doubled_and_altered_replies_are_errors() {
    let twist = |name: &'static str, replies: fn([u8; 12], [u8; 12]) -> Vec<u8>| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let serving = thread::spawn(move || {
            let (mut peer, _) = listener.accept().expect("it connects");
            let (mut first, mut second) = ([0; 12], [0; 12]);
            peer.read_exact(&mut first).expect("a message");
            peer.read_exact(&mut second).expect("a message");
            peer.write_all(&replies(first, second)).expect("it is open");
            // Whatever comes now, up to its end.
            let _ = std::io::copy(&mut peer, &mut std::io::sink());
        });
        let arguments =
            format!("{address} --json --size 8 --pipeline 2 --duration 300ms --warmup 0 --timeout 500ms");
        let ended = Program::start("latency", &arguments).ended();
        assert_eq!(ended.status.code(), Some(1), "{name}: {ended:?}");
        assert_eq!(ended.errors.lines().count(), 1, "{name}: {ended:?}");
        super::support::join(serving);
        ended.errors
    };
    let errors = twist("swapped", |first, second| [second, first].concat());
    assert!(errors.contains("differs"), "{errors}");
    let errors = twist("doubled", |first, _| [first, first].concat());
    assert!(errors.contains("differs"), "{errors}");
    let errors = twist("altered", |mut first, second| {
        first[11] ^= 1;
        [first, second].concat()
    });
    assert!(errors.contains("differs"), "{errors}");
    let errors = twist("short", |first, _| [&[0, 0, 0, 7], &first[4..11]].concat());
    assert!(errors.contains("length"), "{errors}");
    let errors = twist("missing", |first, _| first.to_vec());
    assert!(errors.contains("no reply in time"), "{errors}");
    let errors = twist("ended", |_, _| Vec::new());
    assert!(errors.contains("no reply in time"), "{errors}");
}

#[test]
fn a_server_that_says_nothing_is_an_error_and_no_hang() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = silent.local_addr().expect("it is bound");
    let arguments = format!("{address} --json --duration 300ms --warmup 0 --timeout 400ms --pipeline 3");
    let ended = Program::start("latency", &arguments).ended();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert_eq!(ended.errors.lines().count(), 1, "{ended:?}");
    expect_count(&report(&ended), "errors", 3);
}

#[test]
fn a_connection_that_ends_while_the_others_have_nothing_under_way_is_an_error_and_no_hang() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let serving = thread::spawn(move || {
        let (mut answered, _) = listener.accept().expect("it connects");
        let (swallowed, _) = listener.accept().expect("it connects");
        answered.set_read_timeout(Some(Duration::from_millis(500))).expect("not zero");
        let mut some = [0; 4096];
        // It ends by the time limit, when nothing is sent any more.
        while let Ok(n @ 1..) = answered.read(&mut some) {
            answered.write_all(&some[..n]).expect("it is open");
        }
        drop(swallowed);
        let _ = std::io::copy(&mut answered, &mut std::io::sink());
    });
    let arguments = format!("{address} --json --connections 2 --duration 200ms --warmup 0 --timeout 1m");
    let ended = Program::start("latency", &arguments).ended();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.errors.contains("has ended"), "{ended:?}");
    expect_count(&report(&ended), "errors", 1);
    super::support::join(serving);
}

#[test]
fn a_refused_connection_is_one_line() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = free.local_addr().expect("it is bound").to_string();
    drop(free);
    Program::start("latency", &address).ended().expect_failure(&[&address, "refused"]);
}

#[test]
fn a_server_that_turns_connections_away_is_one_line() {
    let server = Program::serve("echo", "--max-connections 1");
    let ended =
        Program::start("latency", &format!("{} --connections 3 --duration 200ms", server.address())).ended();
    ended.expect_failure(&["has ended"]);
}

#[test]
fn what_cannot_be_meant_is_a_usage_error() {
    let wrong = [
        "--size 256 --framing u8",
        "--size 0 --framing raw",
        "--size 2MiB --max-frame 1MiB",
        "--connections 0",
        "--pipeline 0",
        "--duration 0s",
        "--timeout 0s",
        "--duration 3",
        "nowhere",
        "--rate 0",
        "--rate 1000000001",
        "--rate 10.5",
        "--rate 10 --pipeline 0",
        "--compare 127.0.0.1:1",
        "--with 127.0.0.1:1",
        "--rounds 2",
        "--compare 127.0.0.1:1 --with 127.0.0.1:1 --rounds 0",
        "--compare 127.0.0.1:1 --with nowhere",
        "--compare 127.0.0.1:1 --with 127.0.0.1:1 127.0.0.1:1",
        "--plot",
    ];
    for arguments in wrong {
        let ended = Program::start("latency", arguments).ended();
        assert_eq!(ended.status.code(), Some(2), "{arguments}: {ended:?}");
    }
}
