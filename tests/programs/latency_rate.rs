//! `latency --rate`: messages go out by the clock, and their delays are counted from there.
//!
//! Nothing here is decided by a speed: the delays that are asserted are such as no reply can have undercut.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

use super::latency::{expect_keys, json};
use super::support::{Ended, Program, expect_count, join};

/// Besides the keys that are promised: `rate` and `late_max_us`.
#[track_caller]
fn report(ended: &Ended) -> Value {
    let report = json(ended);
    expect_keys(&report, 2);
    report
}

fn number(report: &Value, key: &str) -> f64 {
    report[key].as_f64().unwrap_or_else(|| panic!("{key} is a number in {report}"))
}

/// A server of one connection that gets each message of eight bytes, with its prefix and its number, and says what goes back.
fn serve(
    mut answer: impl FnMut(u64, [u8; 12]) -> Option<[u8; 12]> + Send + 'static,
) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let serving = thread::spawn(move || {
        let (mut peer, _) = listener.accept().expect("it connects");
        let mut message = [0; 12];
        let mut number = 0;
        while peer.read_exact(&mut message).is_ok() {
            let reply = answer(number, message);
            if reply.is_some_and(|reply| peer.write_all(&reply).is_err()) {
                break;
            }
            number += 1;
        }
    });
    (address, serving)
}

#[test]
fn as_many_messages_go_out_as_were_asked_for() {
    let server = Program::serve("echo", "");
    let arguments =
        format!("{} --json --rate 2000 --connections 3 --duration 500ms --warmup 100ms", server.address());
    let ended = Program::start("latency", &arguments).ended();
    ended.expect_success();
    let report = report(&ended);
    expect_count(&report, "messages", 1000);
    expect_count(&report, "errors", 0);
    expect_count(&report, "rate", 2000);
    assert!(number(&report, "duration_s") >= 0.5, "{report}");
    let per_second = number(&report, "messages") / number(&report, "duration_s");
    assert!((number(&report, "messages_per_s") - per_second).abs() < 1e-6 * per_second, "{report}");
    assert!(number(&report, "late_max_us") <= number(&report, "max_us") * 1.001, "{report}");
    let stats = server.stop();
    expect_count(&stats, "accepted", 3);
    expect_count(&stats, "frames_in", 1200);
}

#[test]
fn every_framing_goes_by_the_clock() {
    let cases = [
        ("u32be", 2, 64, 500),
        ("varint", 3, 0, 300),
        ("lines", 1, 77, 400),
        ("raw", 2, 5, 1000),
        ("raw", 1, 300_000, 50),
    ];
    for (framing, connections, size, rate) in cases {
        let arguments = format!(
            "--json --duration 200ms --warmup 0 --framing {framing} --connections {connections} --size {size} --rate {rate}"
        );
        let ended = Program::start("latency", &arguments).ended();
        ended.expect_success();
        let report = report(&ended);
        expect_count(&report, "messages", rate / 5);
        expect_count(&report, "errors", 0);
        expect_count(&report, "pipeline", 1);
    }
}

#[test]
fn a_slow_rate_is_kept_to_the_end() {
    let ended = Program::start("latency", "--json --rate 10 --duration 450ms --warmup 0").ended();
    ended.expect_success();
    let report = report(&ended);
    expect_count(&report, "messages", 5);
    assert!(number(&report, "duration_s") >= 0.45, "{report}");
}

#[test]
fn a_stall_is_in_the_delays_of_all_who_had_to_wait_for_it() {
    // Message 200 is held up for 300 ms, and all that come behind it.
    let (never, stall) = mpsc::channel::<()>();
    let (address, serving) = serve(move |number, message| {
        if number == 200 {
            stall.recv_timeout(Duration::from_millis(300)).expect_err("nothing is sent");
        }
        Some(message)
    });
    let arguments = format!("{address} --json --size 8 --rate 1000 --duration 1s --warmup 0 --timeout 1m");
    let ended = Program::start("latency", &arguments).ended();
    ended.expect_success();
    let report = report(&ended);
    expect_count(&report, "messages", 1000);
    // A message that is due d after number 200 is answered 300 ms after that one at the earliest: ten have waited for 290 ms
    // or more, a hundred for 200 ms. A closed loop would have seen one.
    for (key, at_least) in [("max_us", 300e3), ("p99_us", 285e3), ("p90_us", 195e3)] {
        assert!(number(&report, key) >= at_least, "{key} in {report}");
    }
    drop(never);
    join(serving);
}

#[test]
fn with_a_pipeline_no_more_is_under_way_and_delays_count_from_the_schedule_all_the_same() {
    let asked = Arc::new(AtomicU64::new(0));
    let counter = asked.clone();
    let (address, serving) = serve(move |_, _| {
        counter.fetch_add(1, Ordering::Relaxed);
        None
    });
    let arguments = "--json --size 8 --rate 1000 --pipeline 3 --duration 100ms --warmup 0 --timeout 300ms";
    let ended = Program::start("latency", &format!("{address} {arguments}")).ended();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    join(serving);
    assert_eq!(asked.load(Ordering::Relaxed), 3);

    // Message 50 is held up for 200 ms, and all that come behind it wait here instead of there.
    let (never, stall) = mpsc::channel::<()>();
    let (address, serving) = serve(move |number, message| {
        if number == 50 {
            stall.recv_timeout(Duration::from_millis(200)).expect_err("nothing is sent");
        }
        Some(message)
    });
    let arguments = "--json --size 8 --rate 1000 --pipeline 1 --duration 500ms --warmup 0 --timeout 1m";
    let ended = Program::start("latency", &format!("{address} {arguments}")).ended();
    ended.expect_success();
    let report = report(&ended);
    expect_count(&report, "messages", 500);
    for (key, at_least) in [("max_us", 200e3), ("p90_us", 140e3)] {
        assert!(number(&report, key) >= at_least, "{key} in {report}");
    }
    drop(never);
    join(serving);
}

#[test]
fn what_is_never_answered_is_an_error() {
    let (address, serving) = serve(|number, message| (number < 10).then_some(message));
    let arguments = format!("{address} --json --size 8 --rate 100 --duration 200ms --warmup 0 --timeout 2s");
    let ended = Program::start("latency", &arguments).ended();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert_eq!(ended.errors.lines().count(), 1, "{ended:?}");
    assert!(ended.errors.contains("no reply in time"), "{ended:?}");
    let report = report(&ended);
    assert!(number(&report, "messages") <= 10.0, "{report}");
    assert!(number(&report, "errors") >= 1.0, "{report}");
    assert!(number(&report, "messages") + number(&report, "errors") <= 20.0, "{report}");
    join(serving);
}

#[test]
fn a_reply_that_is_altered_is_an_error() {
    let (address, serving) = serve(|number, mut message| {
        message[11] ^= u8::from(number == 5);
        Some(message)
    });
    let arguments = format!("{address} --json --size 8 --rate 100 --duration 200ms --warmup 0");
    let ended = Program::start("latency", &arguments).ended();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.errors.contains("differs"), "{ended:?}");
    join(serving);
}

#[test]
fn a_connection_that_is_lost_costs_its_own_messages_alone() {
    // One of two ends after its first message; every second message is its.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let serving = thread::spawn(move || {
        let (mut kept, _) = listener.accept().expect("it connects");
        let (mut lost, _) = listener.accept().expect("it connects");
        let losing = thread::spawn(move || lost.read_exact(&mut [0; 12]));
        let mut copy = kept.try_clone().expect("there are descriptors");
        let _ = std::io::copy(&mut kept, &mut copy);
        join(losing).expect("a message came");
    });
    let arguments = format!(
        "{address} --json --size 8 --rate 500 --connections 2 --duration 400ms --warmup 0 --timeout 1m"
    );
    let ended = Program::start("latency", &arguments).ended();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let report = report(&ended);
    expect_count(&report, "messages", 100);
    expect_count(&report, "errors", 100);
    join(serving);
}

#[test]
fn a_person_can_read_it() {
    let ended = Program::start("latency", "--rate 1000 --duration 200ms --warmup 0").ended();
    ended.expect_success();
    let table = String::from_utf8(ended.lines.join(&b'\n')).expect("it is text");
    for word in ["1,000 messages/s by the clock", "at most", "messages/s", "p99.9", "max", "errors"] {
        assert!(table.contains(word), "{word} in {table}");
    }
}
