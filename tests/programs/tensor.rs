//! What `tensor` does with arrays of float32.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::thread;

use super::support::{Ended, PATIENCE, Peer, Program, expect_count, frame, join, noise};

fn send(address: impl std::fmt::Display, arguments: &str) -> Ended {
    Program::start("tensor", &format!("send {address} {arguments}")).ended()
}

/// As [`Program::serve`], for a program that has more than one thing to do.
fn serve(arguments: &str) -> (Program, std::net::SocketAddr) {
    let mut server = Program::start("tensor", &format!("serve --listen 127.0.0.1:0 {arguments}"));
    let address = server.expect_listening();
    (server, address)
}

fn lines(ended: &Ended) -> Vec<String> {
    ended.lines.iter().map(|line| String::from_utf8(line.clone()).expect("text")).collect()
}

fn wire(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|bits| bits.to_le_bytes()).collect()
}

#[test]
fn values_that_are_easily_lost_come_back_and_are_printed() {
    let (server, address) = serve("");
    let ended = send(address, "1.5 -2.25 NaN inf -inf -0.0 0 1e-45 3.4028235e38");
    ended.expect_success();
    let expected = ["1.5", "-2.25", "NaN", "inf", "-inf", "-0.0", "0.0", "1e-45", "3.4028235e38"];
    assert_eq!(lines(&ended), expected);
    expect_count(&server.stop(), "frames_out", 1);
}

#[test]
fn an_empty_array_is_an_array() {
    let (server, address) = serve("");
    let ended = send(address, "");
    ended.expect_success();
    assert_eq!(ended.lines.len(), 0);
    let stats = server.stop();
    expect_count(&stats, "frames_in", 1);
    expect_count(&stats, "bytes_in", 4);
}

#[test]
fn every_framing_that_can_say_it_brings_it_back() {
    // With a length of one byte or of a varint the values lie at odd addresses.
    for framing in ["u32be", "u32le", "u16be", "u8", "varint", "lines"] {
        let (_server, address) = serve(&format!("--framing {framing}"));
        let ended = send(address, &format!("--framing {framing} 1 -2 3.5 NaN"));
        ended.expect_success();
        assert_eq!(lines(&ended), ["1.0", "-2.0", "3.5", "NaN"], "{framing}");
    }
}

#[test]
fn the_server_gives_each_bit_back_little_endian() {
    let (server, address) = serve("");
    let mut peer = Peer::connect(address);
    // Quiet and signalling NaN with payloads, both zeros, both infinities, the smallest and a plain one.
    let bits =
        [0x7fc0_1234, 0xffa0_0001, 0x7f80_0001, 0x8000_0000, 0, 0xff80_0000, 0x7f80_0000, 1, 0x3fc0_0000];
    peer.send(&frame(&wire(&bits)));
    peer.expect(&frame(&wire(&bits)));
    for len in [0, 4, 8, 65_536, 1_000_000] {
        let array = noise(len as u64, len);
        peer.send(&frame(&array));
        peer.expect(&frame(&array));
    }
    drop(peer);
    expect_count(&server.stop(), "frames_out", 6);
}

#[test]
fn what_is_sent_is_little_endian() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let sending = thread::spawn(move || send(address, "1.5 -0.0"));
    let mut peer = Peer(listener.accept().expect("it connects").0);
    let expected = frame(&wire(&[0x3fc0_0000, 0x8000_0000]));
    peer.expect(&expected);
    peer.send(&expected);
    join(sending).expect_success();
}

/// Answers the first array with this, and keeps the connection.
fn answer(with: Vec<u8>) -> (std::net::SocketAddr, thread::JoinHandle<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let answering = thread::spawn(move || {
        let mut peer = Peer(listener.accept().expect("it connects").0);
        peer.0.set_read_timeout(Some(PATIENCE)).expect("not zero");
        peer.expect(&frame(&wire(&[0x7fc0_0000, 0x8000_0000])));
        peer.0.write_all(&with).expect("it reads");
        peer.0
    });
    (address, answering)
}

#[test]
fn one_bit_that_differs_is_told() {
    for (bits, told) in [([0x7fc0_0000, 0], "value 2"), ([0x7fc0_0001, 0x8000_0000], "value 1")] {
        let (address, answering) = answer(frame(&wire(&bits)));
        let ended = send(address, "NaN -0.0");
        ended.expect_failure(&[told]);
        assert_eq!(ended.lines.len(), 2);
        join(answering);
    }
}

#[test]
fn answers_that_are_no_such_array_are_one_line() {
    let short = frame(&wire(&[0x7fc0_0000]));
    let torn = frame(&[0; 7]);
    for (with, told) in [(short, "1 values"), (torn, "four bytes"), (frame(b"1234")[..6].to_vec(), "in time")]
    {
        let (address, answering) = answer(with);
        send(address, "NaN -0.0 --wait 300ms").expect_failure(&[told]);
        join(answering);
    }
}

#[test]
fn a_peer_that_ends_or_resets_is_one_line() {
    for reset in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let sending = thread::spawn(move || send(address, "1"));
        let mut peer = Peer(listener.accept().expect("it connects").0);
        if reset {
            peer.0.peek(&mut [0; 8]).expect("something comes");
        } else {
            peer.expect(&frame(&1_f32.to_le_bytes()));
        }
        // With something unread, a close is a reset.
        drop(peer);
        join(sending).expect_failure(&[&address.to_string()]);
    }
}

#[test]
fn a_payload_that_is_not_whole_values_closes_its_connection_alone() {
    let (server, address) = serve("");
    let (mut broken, mut other) = (Peer::connect(address), Peer::connect(address));
    let good = frame(&noise(1, 4000));
    broken.send(&[&good[..], &frame(&[1; 4001])].concat());
    broken.expect(&good);
    broken.expect_end();
    other.send(&good);
    other.expect(&good);
    drop((broken, other));
    let stats = server.stop();
    expect_count(&stats, "closes.bad_frame", 1);
    expect_count(&stats, "frames_out", 2);
}

#[test]
fn an_array_of_64_mib_goes_there_and_back() {
    let (server, address) = serve("");
    let mut sending = Program::start("tensor", &format!("send {address} --count 16777216"));
    // It is compared all the same. To print so many lines would only take time.
    sending.close_stdout();
    sending.ended().expect_success();
    let stats = server.stop();
    expect_count(&stats, "bytes_in", 4 + (64 << 20));
    expect_count(&stats, "bytes_out", 4 + (64 << 20));
}

#[test]
fn a_ramp_is_printed_whole() {
    let (_server, address) = serve("");
    let ended = send(address, "--count 100000");
    ended.expect_success();
    let expected: Vec<String> = (0..100_000).map(|number| format!("{number}.0")).collect();
    assert!(lines(&ended) == expected);
}

#[test]
fn what_cannot_be_done_is_one_line() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    drop(listener);
    send(&address, "1").expect_failure(&[&address, "refused"]);
    send(&address, "--count 18446744073709551615").expect_failure(&["18446744073709551615"]);
    send(&address, "--count 26214401").expect_failure(&["26214401"]);
    let (_server, address) = serve("--framing u8");
    send(address, "--framing u8 --count 64").expect_failure(&["64 values"]);
    // 10.0 has a byte that is an LF.
    let (_server, address) = serve("--framing lines");
    send(address, "--framing lines 1.4e-44").expect_failure(&["LF"]);
}

#[test]
fn what_cannot_be_meant_is_a_usage_error() {
    let wrong = [
        "",
        "sing",
        "send",
        "send nowhere",
        "send 127.0.0.1:1 x",
        "send 127.0.0.1:1 1e39",
        "send 127.0.0.1:1 --count -1",
        "send 127.0.0.1:1 --count 1 1",
        "send 127.0.0.1:1 --wait 0",
        "serve --listen nowhere",
        "serve 1",
    ];
    for arguments in wrong {
        let ended = Program::start("tensor", arguments).ended();
        assert_eq!(ended.status.code(), Some(2), "{arguments}: {ended:?}");
    }
}
