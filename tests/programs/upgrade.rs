//! `upgrade`: lines first, then frames, on the same connection.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::foreign::installed;
use super::support::{PATIENCE, Peer, Program, expect_count, frame, framed};

const DIALOGUE: &[u8] = b"ann\r\nsesame\n";
const ANSWERS: &[u8] = b"who are you?\npassword?\nwelcome, ann\n";

#[track_caller]
fn expect_framed(peer: &mut Peer, framing: &str, messages: &[&[u8]]) {
    for message in messages {
        peer.expect(&framed(framing, &[b"ann: ", *message].concat()));
    }
}

#[test]
fn a_person_logs_in_line_by_line() {
    let server = Program::serve("upgrade", "");
    let mut peer = server.connect();
    peer.expect(b"who are you?\n");
    peer.send(b"ann\n");
    peer.expect(b"password?\n");
    peer.send(b"wrong\r\n");
    peer.expect(b"wrong, 2 left\n");
    peer.send(b"sesame\r\n");
    peer.expect(b"welcome, ann\n");
    peer.send(&frame(b"hello"));
    expect_framed(&mut peer, "u32be", &[b"hello"]);
    drop(peer);
    let stats = server.stop();
    expect_count(&stats, "frames_in", 4);
    expect_count(&stats, "closes.peer", 1);
}

#[test]
fn frames_in_the_same_segment_as_the_last_line_are_delivered() {
    for framing in ["u32be", "u32le", "u16be", "u8", "varint", "lines"] {
        let server = Program::serve("upgrade", &format!("--framing {framing}"));
        let mut peer = server.connect();
        // A frame that looks like a line, in a framing of lengths; an empty one; one with the dialogue's words.
        let messages = [&b"first"[..], b"", b"ann", b"sesame"];
        let wire: Vec<u8> = messages.iter().flat_map(|message| framed(framing, message)).collect();
        peer.send(&[DIALOGUE, &wire].concat());
        peer.end_output();
        peer.expect(ANSWERS);
        expect_framed(&mut peer, framing, &messages);
        peer.expect_end();
        expect_count(&server.stop(), "frames_in", 6);
    }
}

#[test]
fn wherever_the_dialogue_is_cut_nothing_is_lost() {
    let server = Program::serve("upgrade", "");
    // The length of the second holds a line feed: as a line it would be another.
    let long = [b'x'; 10];
    let wire = [DIALOGUE, &frame(b"a\nb"), &frame(&long)].concat();
    let expected = [ANSWERS, &frame(b"ann: a\nb"), &frame(b"ann: xxxxxxxxxx")].concat();
    for at in 1..wire.len() {
        let mut peer = server.connect();
        // What has come of the first half is answered before the second half is sent.
        peer.send(&wire[..at]);
        let lines = wire[..at.min(DIALOGUE.len())].iter().filter(|byte| **byte == b'\n').count();
        let known: usize =
            ANSWERS.split_inclusive(|byte| *byte == b'\n').take(lines + 1).map(<[u8]>::len).sum();
        peer.expect(&expected[..known]);
        peer.send(&wire[at..]);
        peer.expect(&expected[known..]);
    }
    let mut peer = server.connect();
    for byte in wire.chunks(1) {
        peer.send(byte);
    }
    peer.expect(&expected);
    drop(peer);
    expect_count(&server.stop(), "closes.peer", wire.len() as u64);
}

#[test]
fn many_frames_behind_the_last_line_are_all_delivered() {
    let server = Program::serve("upgrade", "--reactors 2");
    let wire: Vec<u8> = (0..20_000u32).flat_map(|number| frame(&number.to_be_bytes())).collect();
    let mut peer = server.connect();
    let mut writer = peer.duplicate();
    let writing = std::thread::spawn(move || writer.send(&[DIALOGUE, &wire].concat()));
    peer.expect(ANSWERS);
    for number in 0..20_000u32 {
        expect_framed(&mut peer, "u32be", &[&number.to_be_bytes()]);
    }
    super::support::join(writing);
    drop(peer);
    expect_count(&server.stop(), "frames_in", 20_002);
}

#[test]
fn whoever_does_not_know_the_password_stays_outside() {
    let server = Program::serve("upgrade", "--tries 2 --password mellon");
    let mut peer = server.connect();
    peer.send(b"ann\nsesame\nSesame\nmellon\n");
    peer.expect(b"who are you?\npassword?\nwrong, 1 left\nwrong, 0 left\n");
    peer.expect_end();
    let mut peer = server.connect();
    peer.send(b"ann\nsesame\nmellon\n");
    peer.expect(b"who are you?\npassword?\nwrong, 1 left\nwelcome, ann\n");
    drop(peer);
    let stats = server.stop();
    expect_count(&stats, "closes.local", 1);
    expect_count(&stats, "closes.peer", 1);
}

#[test]
fn a_stranger_gets_no_long_lines_and_no_long_time() {
    let server = Program::serve("upgrade", "--login-timeout 300ms");
    let mut long = server.connect();
    long.send(&[b'x'; 300]);
    long.expect(b"who are you?\n");
    long.expect_end();
    let mut inside = server.connect();
    inside.send(DIALOGUE);
    inside.expect(ANSWERS);
    let mut slow = server.connect();
    slow.send(b"ann\n");
    slow.expect(b"who are you?\npassword?\ntoo late\n");
    slow.expect_end();
    // Whoever is in stays in.
    inside.expect_nothing(Duration::from_millis(300));
    inside.send(&frame(b"still here"));
    expect_framed(&mut inside, "u32be", &[b"still here"]);
    drop((long, inside, slow));
    let stats = server.stop();
    expect_count(&stats, "closes.frame_too_long", 1);
    expect_count(&stats, "closes.local", 1);
    expect_count(&stats, "closes.peer", 1);
}

#[test]
fn options_that_cannot_be_are_usage_errors() {
    for arguments in ["--tries 0", "--login-timeout 0s", "--login-timeout 5", "--password"] {
        let ended = Program::start("upgrade", arguments).ended();
        assert_eq!(ended.status.code(), Some(2), "{arguments}: {ended:?}");
    }
}

#[test]
fn nc_logs_in_by_hand() {
    if !installed("nc", &["-h"]) {
        return;
    }
    let server = Program::serve("upgrade", "--framing lines");
    let address = server.address();
    let mut nc = Command::new("nc")
        .args([address.ip().to_string(), address.port().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it is installed");
    let mut input = nc.stdin.take().expect("it is piped");
    let mut output = nc.stdout.take().expect("it is piped");
    input.write_all(b"ann\nsesame\nhello by hand\n").expect("it reads");
    let expected = [ANSWERS, b"ann: hello by hand\n"].concat();
    let (shown, told) = std::sync::mpsc::channel();
    let len = expected.len();
    std::thread::spawn(move || {
        let mut arrived = vec![0; len];
        let read = output.read_exact(&mut arrived).map(|()| arrived);
        // The test may have given up.
        let _ = shown.send(read);
    });
    let arrived = told.recv_timeout(PATIENCE);
    drop(input);
    let _ = nc.kill();
    let _ = nc.wait();
    let arrived = arrived.expect("in time").expect("enough is printed");
    assert_eq!(String::from_utf8_lossy(&arrived), String::from_utf8_lossy(&expected));
}
