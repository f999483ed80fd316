//! What `echo` does with frames.

use std::io::Read;
use std::thread;
use std::time::Duration;

use super::support::{Bound, PATIENCE, Peer, Program, expect_count, frame, framed, join, many_frames, noise};

const LENGTH_FRAMINGS: [&str; 5] = ["u32be", "u32le", "u16be", "u8", "varint"];

#[test]
fn each_framing_gives_each_frame_back_even_an_empty_one() {
    for framing in LENGTH_FRAMINGS {
        let server = Program::serve("echo", &format!("--framing {framing}"));
        let mut peer = server.connect();
        let mut payloads = vec![b"".to_vec(), b"x".to_vec(), b"a\r\nb\n\0".to_vec(), noise(1, 255)];
        if framing != "u8" {
            payloads.extend([noise(2, 300), noise(3, 65_535)]);
        }
        payloads.push(Vec::new());
        let wire: Vec<u8> = payloads.iter().flat_map(|payload| framed(framing, payload)).collect();
        peer.send(&wire);
        peer.expect(&wire);
        peer.end_output();
        peer.expect_end();
        let stats = server.stop();
        expect_count(&stats, "frames_in", payloads.len() as u64);
        expect_count(&stats, "frames_out", payloads.len() as u64);
        expect_count(&stats, "bytes_in", wire.len() as u64);
        expect_count(&stats, "bytes_out", wire.len() as u64);
        expect_count(&stats, "closes.peer", 1);
    }
}

#[test]
fn frames_that_come_a_byte_at_a_time_are_whole_all_the_same() {
    for framing in LENGTH_FRAMINGS {
        let server = Program::serve("echo", &format!("--framing {framing}"));
        let mut peer = server.connect();
        let wire = [framed(framing, b""), framed(framing, &noise(1, 150)), framed(framing, b"")].concat();
        for byte in &wire {
            peer.send(&[*byte]);
        }
        peer.expect(&wire);
        drop(peer);
        expect_count(&server.stop(), "frames_in", 3);
    }
}

#[test]
fn lines_end_in_lf_whatever_ended_them_and_the_last_one_needs_no_end() {
    let server = Program::serve("echo", "--framing lines");
    let mut peer = server.connect();
    for byte in b"one\r\ntwo\n\n\r\nlast" {
        peer.send(&[*byte]);
    }
    peer.end_output();
    peer.expect(b"one\ntwo\n\n\nlast\n");
    peer.expect_end();
    expect_count(&server.stop(), "frames_in", 5);
}

#[test]
fn raw_gives_the_stream_back() {
    let server = Program::serve("echo", "--framing raw");
    let mut peer = server.connect();
    let bytes = noise(1, 100_000);
    peer.send(&bytes);
    peer.expect(&bytes);
    peer.send(b"a");
    peer.expect(b"a");
}

#[test]
fn a_frame_of_exactly_the_maximum_passes_and_a_longer_one_closes_its_connection_alone() {
    let framings = [("u32be", 5), ("u16be", 3), ("varint", 2), ("lines", 1000)];
    for (framing, shown) in framings {
        let server = Program::serve("echo", &format!("--framing {framing} --max-frame 999"));
        let (mut broken, mut other) = (server.connect(), server.connect());
        let line = vec![b'x'; 1000];
        let good = [framed(framing, &line[..10]), framed(framing, &line[..999])].concat();
        let long = framed(framing, &line);
        broken.send(&[&good[..], &long[..shown.min(long.len())]].concat());
        broken.expect(&good);
        broken.expect_end();
        other.send(&good);
        other.expect(&good);
        other.end_output();
        other.expect_end();
        drop(broken);
        let stats = server.stop();
        expect_count(&stats, "closes.frame_too_long", 1);
        expect_count(&stats, "closes.peer", 1);
        expect_count(&stats, "frames_out", 4);
    }
}

#[test]
fn replies_before_a_broken_frame_arrive_although_more_input_is_under_way() {
    let server = Program::serve("echo", "--framing varint");
    let mut peer = server.connect();
    let good = framed("varint", &noise(1, 50_000));
    peer.send(&good);
    peer.send(&[0xff; 11]);
    // Input that nobody reads: a plain close would answer it with a reset, and that would eat the reply.
    peer.send(&noise(2, 200_000));
    peer.expect(&good);
    peer.expect_end();
    expect_count(&server.stop(), "closes.bad_frame", 1);
}

#[test]
fn after_a_half_close_everything_comes_back_then_the_end() {
    const FRAMES: u64 = 2_000;
    let server = Program::serve("echo", "");
    let mut peer = server.connect();
    let mut writer = peer.duplicate();
    let wire = frame(&noise(7, 64 * 1024));
    let to_send = wire.clone();
    let writing = thread::spawn(move || {
        for number in 0..FRAMES {
            let mut wire = to_send.clone();
            wire[4..12].copy_from_slice(&number.to_be_bytes());
            writer.send(&wire);
        }
        writer.end_output();
    });
    // Slowly: by a few kilobytes at a time, and so later than it was sent.
    let mut arrived = vec![0; wire.len()];
    for number in 0..FRAMES {
        for part in arrived.chunks_mut(8 * 1024) {
            peer.0.read_exact(part).expect("all of it comes back");
        }
        assert_eq!(arrived[4..12], number.to_be_bytes());
        assert!(arrived[12..] == wire[12..] && arrived[..4] == wire[..4], "frame {number}");
    }
    peer.expect_end();
    join(writing);
    let stats = server.stop();
    expect_count(&stats, "frames_out", FRAMES);
    expect_count(&stats, "closes.peer", 1);
}

#[test]
fn a_client_that_does_not_read_is_paused_and_others_are_served_meanwhile() {
    let mut server = Program::serve("echo", "--stats-every 20ms");
    let mut peer = server.connect();
    let wire = many_frames(512, 64 * 1024);
    let sent = peer.send_until_full(&wire);
    let mut other = server.connect();
    for number in 0..100_u32 {
        other.send(&frame(&number.to_be_bytes()));
        other.expect(&frame(&number.to_be_bytes()));
    }
    let stats = server.stats_until("another was served", |stats| stats["frames_out"].as_u64() >= Some(100));
    let held = stats["buffered_bytes"].as_u64();
    assert!(held < Some(4 * 1024 * 1024), "paused means that little is held: {stats}");
    expect_count(&stats, "open", 2);

    let mut writer = peer.duplicate();
    let rest = wire[sent..].to_vec();
    let writing = thread::spawn(move || writer.send(&rest));
    peer.expect(&wire);
    join(writing);
    drop((peer, other));
    expect_count(&server.stop(), "closes.slow_consumer", 0);
}

#[test]
fn idle_connections_are_closed_and_a_drip_of_bytes_is_not_idle() {
    const IDLE: Duration = Duration::from_millis(800);
    let server = Program::serve("echo", "--idle-timeout 800ms");
    let (mut idle, mut dripping) = (server.connect(), server.connect());
    let wire = frame(&noise(1, 32));
    let idle = thread::spawn(move || {
        idle.expect_nothing(IDLE / 2);
        idle.expect_end();
    });
    // More than twice the timeout, with never a whole frame.
    for byte in &wire[..30] {
        dripping.send(&[*byte]);
        dripping.expect_nothing(IDLE / 12);
    }
    join(idle);
    dripping.send(&wire[30..]);
    dripping.expect(&wire);
    dripping.expect_end();
    expect_count(&server.stop(), "closes.idle_timeout", 2);
}

#[test]
fn clients_past_the_most_are_turned_away_until_there_is_room() {
    let server = Program::serve("echo", "--max-connections 2");
    let served = || {
        let mut peer = server.connect();
        peer.expect_echo();
        peer
    };
    let (first, _second) = (served(), served());
    for _ in 0..3 {
        server.connect().expect_gone();
    }
    drop(first);
    let bound = Bound::new(PATIENCE);
    let mut tries = 0;
    loop {
        tries += 1;
        let mut peer = server.connect();
        let sent = std::io::Write::write_all(&mut peer.0, &frame(b"hi"));
        let mut reply = [0; 6];
        if sent.is_ok() && peer.0.read_exact(&mut reply).is_ok() {
            break;
        }
        assert!(!bound.is_over(), "nobody is let in");
    }
    let stats = server.stop();
    expect_count(&stats, "accepted", 3);
    expect_count(&stats, "refused", 3 + tries - 1);
}

#[test]
fn a_lost_connection_is_counted_as_a_reset() {
    let mut server = Program::serve("echo", "--stats-every 20ms");
    let mut peer = server.connect();
    peer.send(&frame(b"hi"));
    peer.0.peek(&mut [0; 6]).expect("the reply is there");
    // With something unread, a close is a reset.
    drop(peer);
    server.stats_until("the reset is noticed", |stats| stats["closes"]["reset"] == 1);
}

#[test]
fn one_reader_of_two_gets_what_is_whole_after_the_other_has_died_inside_a_frame() {
    let server = Program::serve("echo", "");
    let (mut dying, mut other) = (server.connect(), server.connect());
    dying.send(&frame(b"whole"));
    dying.send(&frame(b"cut short")[..7]);
    dying.end_output();
    dying.expect(&frame(b"whole"));
    dying.expect_end();
    other.send(&frame(b"alive"));
    other.expect(&frame(b"alive"));
    expect_count(&server.stop(), "closes.peer", 1);
}

#[test]
fn five_lines_of_python_are_a_client() {
    let program = "
import socket, struct, sys
s = socket.create_connection(('127.0.0.1', int(sys.argv[1])), 20)
s.sendall(struct.pack('>I', 5) + b'hello')
n, = struct.unpack('>I', s.recv(4, socket.MSG_WAITALL))
sys.exit(s.recv(n, socket.MSG_WAITALL) != b'hello')
";
    let server = Program::serve("echo", "");
    let port = server.address().port().to_string();
    match std::process::Command::new("python3").args(["-c", program, &port]).status() {
        Ok(status) => assert!(status.success(), "{status}"),
        Err(error) => println!("skipped: no python3 here: {error}"),
    }
}

#[test]
fn a_peer_on_ipv6_is_served_where_there_is_ipv6() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        println!("skipped: no IPv6 here");
        return;
    }
    let server = Program::serve_on("echo", "[::1]:0", "");
    let mut peer = Peer::connect(server.address());
    peer.send(&frame(b"six"));
    peer.expect(&frame(b"six"));
}

#[test]
fn a_server_that_polls_busily_sleeps_when_there_is_nothing_to_do() {
    let server = Program::serve("echo", "--busy-poll 20ms");
    let mut peer = server.connect();
    for n in 0..500_u32 {
        peer.send(&frame(&n.to_be_bytes()));
        peer.expect(&frame(&n.to_be_bytes()));
    }
    server.expect_rest();
    peer.send(&frame(b"awake"));
    peer.expect(&frame(b"awake"));
    let stats = server.stop();
    let polls = stats["busy_polls"].as_u64().expect("a count");
    assert!(polls > 0, "it tried: {stats}");
    assert!(stats["busy_poll_hits"].as_u64().is_some_and(|hits| hits <= polls), "{stats}");
}
