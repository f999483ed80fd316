//! How servers begin and end: their lines, signals, limits and mistakes.

use std::io::Read;
use std::net::TcpListener;
use std::time::Duration;

use super::support::{Bound, PATIENCE, Peer, Program, expect_count, frame, many_frames};

#[test]
fn every_listener_has_its_line_and_its_clients() {
    let mut server = Program::start("echo", "--listen 127.0.0.1:0 --listen localhost:0 --listen 127.0.0.2:0");
    let addresses = [server.expect_listening(), server.expect_listening(), server.expect_listening()];
    for address in addresses {
        Peer::connect(address).expect_echo();
    }
    expect_count(&server.stop(), "accepted", 3);
}

#[test]
fn the_stats_have_every_key_that_is_promised() {
    let server = Program::serve("broadcast", "");
    let stats = server.stop();
    let promised = [
        "accepted",
        "connected",
        "open",
        "closed",
        "refused",
        "frames_in",
        "frames_out",
        "bytes_in",
        "bytes_out",
        "buffered_bytes",
    ];
    for key in promised {
        expect_count(&stats, key, 0);
    }
    let reasons = [
        "peer",
        "reset",
        "local",
        "idle_timeout",
        "slow_consumer",
        "frame_too_long",
        "bad_frame",
        "memory_limit",
        "io_error",
        "shutdown",
    ];
    for reason in reasons {
        expect_count(&stats, &format!("closes.{reason}"), 0);
    }
}

#[test]
fn a_closed_standard_output_stops_no_server() {
    let mut server = Program::serve("echo", "--stats-every 10ms");
    server.close_stdout();
    let mut peer = server.connect();
    for number in 0..20_u32 {
        peer.send(&frame(&number.to_be_bytes()));
        peer.expect(&frame(&number.to_be_bytes()));
        peer.expect_nothing(Duration::from_millis(5));
    }
    server.signal("INT");
    peer.expect_end();
    drop(peer);
    let ended = server.ended();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
}

#[test]
fn an_idle_connection_does_not_hold_up_the_end() {
    for signal in ["TERM", "INT"] {
        let server = Program::serve("echo", "--drain 1h");
        let mut idle = server.connect();
        idle.send(&frame(b"hi"));
        idle.expect(&frame(b"hi"));
        server.signal(signal);
        idle.expect_end();
        drop(idle);
        expect_count(&server.ended_with_stats(), "closes.shutdown", 1);
    }
}

#[test]
fn what_is_queued_is_handed_over_at_the_end_and_counted_right() {
    let server = Program::serve("echo", "--drain 1h");
    let mut peer = server.connect();
    let wire = many_frames(2_000, 30_000);
    let sent = peer.send_until_full(&wire);
    server.signal("TERM");
    // Nothing was read until now; what comes is whole, in order, and ends in order.
    let mut arrived = Vec::new();
    peer.0.read_to_end(&mut arrived).expect("an end, no reset");
    assert!(arrived.len() <= sent && arrived[..] == wire[..arrived.len()], "{} bytes", arrived.len());
    drop(peer);
    let stats = server.ended_with_stats();
    let frames = arrived.len() / 30_004;
    assert!(frames > 0);
    assert_eq!(arrived.len() % 30_004, 0, "the last frame is whole");
    expect_count(&stats, "frames_out", frames as u64);
    expect_count(&stats, "bytes_out", arrived.len() as u64);
    expect_count(&stats, "closes.shutdown", 1);
}

#[test]
fn the_drain_has_an_end_although_a_client_never_reads() {
    let server = Program::serve("echo", "--drain 200ms");
    let mut peer = server.connect();
    let wire = many_frames(2_000, 30_000);
    peer.send_until_full(&wire);
    server.signal("TERM");
    let ended = server.ended();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(ended.errors.contains("1 connections were cut"), "{ended:?}");
}

#[test]
fn a_second_signal_ends_at_once() {
    let server = Program::serve("echo", "--drain 1h");
    let (mut idle, mut stuck) = (server.connect(), server.connect());
    idle.send(&frame(b"hi"));
    idle.expect(&frame(b"hi"));
    let wire = many_frames(2_000, 30_000);
    stuck.send_until_full(&wire);
    server.signal("TERM");
    // Now the first one was heard.
    idle.expect_end();
    server.signal("TERM");
    assert_eq!(server.ended().status.code(), Some(130));
}

#[test]
fn huge_durations_mean_never() {
    let forever = "100000000000s";
    let options = format!("--idle-timeout {forever} --drain {forever} --stats-every {forever}");
    let server = Program::serve("echo", &options);
    let mut peer = server.connect();
    peer.expect_echo();
    peer.expect_nothing(Duration::from_millis(100));
    server.signal("TERM");
    peer.expect_end();
    drop(peer);
    expect_count(&server.ended_with_stats(), "closes.shutdown", 1);
}

#[test]
fn a_server_can_be_started_again_at_once_on_its_port() {
    let server = Program::serve("echo", "");
    let address = server.address();
    let mut peer = server.connect();
    peer.expect_echo();
    server.signal("TERM");
    peer.expect_end();
    drop(peer);
    server.ended_with_stats();
    let again = Program::serve_on("echo", &address.to_string(), "");
    let mut peer = again.connect();
    peer.send(&frame(b"again"));
    peer.expect(&frame(b"again"));
}

#[test]
fn an_address_in_use_is_one_line_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it is bound").to_string();
    // The listener before it has no line: nothing is said before all are bound.
    let ended = Program::start("echo", &format!("--listen 127.0.0.1:0 --listen {address}")).ended();
    ended.expect_failure(&[&address, "in use"]);
    assert!(ended.lines.is_empty(), "{ended:?}");
}

#[test]
fn a_name_that_nobody_has_is_one_line_that_names_it() {
    // Longer than a label may be, so that no name server has to be asked.
    let name = format!("{}.invalid:7000", "x".repeat(64));
    Program::start("echo", &format!("--listen {name}")).ended().expect_failure(&[&name]);
    Program::start("client", &name).ended().expect_failure(&[&name]);
    Program::start("latency", &name).ended().expect_failure(&[&name]);
}

#[test]
fn what_cannot_be_meant_is_a_usage_error() {
    let wrong = [
        "--no-such-option",
        "--listen",
        "--listen localhost",
        "--listen 127.0.0.1:65536",
        "--listen ::1:7000",
        "--listen :7000",
        "--framing u64",
        "--framing U32BE",
        "--max-frame 1.5MiB",
        "--max-frame -1",
        "--max-frame 99999999999GiB",
        "--max-connections many",
        "--max-connections 99999999999",
        "--idle-timeout 0s",
        "--idle-timeout 5",
        "--stats-every 0s",
        "--stats-every 0ms",
        "--drain 18446744073709551615m",
        "--drain 99999999999999999999s",
        "--write-limit x",
        "--reactors 0",
        "--reactors 1025",
        "--reactors two",
        "surplus",
    ];
    for arguments in wrong {
        let ended = Program::start("echo", arguments).ended();
        assert_eq!(ended.status.code(), Some(2), "{arguments}: {ended:?}");
        assert!(ended.errors.starts_with("error: "), "{arguments}: {ended:?}");
        assert!(ended.lines.is_empty(), "{arguments}: {ended:?}");
    }
}

#[test]
fn each_program_tells_what_it_is() {
    for name in ["echo", "broadcast", "client", "latency", "workers"] {
        let ended = Program::start(name, "--version").ended();
        ended.expect_success();
        let version = format!("{name} {}", env!("CARGO_PKG_VERSION"));
        assert_eq!(ended.lines, [version.into_bytes()]);
        let ended = Program::start(name, "--help").ended();
        ended.expect_success();
        let help = String::from_utf8(ended.lines.join(&b'\n')).expect("help is text");
        assert!(help.contains("--framing <KIND>") && help.contains("Usage:"), "{help}");
    }
}

#[test]
fn signals_count_from_the_first_line_on() {
    // The first line is all that a script waits for.
    for _ in 0..10 {
        let server = Program::serve("broadcast", "");
        expect_count(&server.stop(), "accepted", 0);
    }
}

#[test]
fn clients_that_wait_in_the_kernel_are_answered_before_the_end() {
    let bound = Bound::new(PATIENCE);
    let server = Program::serve("echo", "");
    let mut peers: Vec<Peer> = (0..50).map(|_| server.connect()).collect();
    for peer in &mut peers {
        peer.send(&frame(b"last"));
    }
    server.signal("TERM");
    for mut peer in peers {
        peer.expect(&frame(b"last"));
        peer.expect_end();
    }
    assert!(!bound.is_over());
    let stats = server.ended_with_stats();
    expect_count(&stats, "accepted", 50);
    expect_count(&stats, "frames_out", 50);
}
