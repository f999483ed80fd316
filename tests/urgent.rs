//! TCP urgent data (Linux): a read stops at its mark with bytes behind it, and no further event tells of them.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "what a test's helper cannot do has failed the test")]

#[path = "common/reactor.rs"]
mod common;

use std::io::Write;
use std::net::{Shutdown, TcpStream};

use common::*;
use mainspring::codec::LengthPrefixed;
use mainspring::{CloseReason, Reactor};
use socket2::SockRef;

/// In-band bytes, one urgent byte, in-band bytes: all of them wait in the kernel when this returns.
fn send_around_an_urgent_byte(mut stream: &TcpStream, before: &[u8], after: &[u8]) {
    stream.write_all(before).unwrap();
    assert_eq!(SockRef::from(stream).send_out_of_band(b"!").unwrap(), 1);
    stream.write_all(after).unwrap();
}

fn expect_all_served(reactor: &mut Reactor<Tester>, client: &TcpStream, messages: &[&[u8]]) {
    let count = messages.len() as u64;
    turn_until(reactor, "the answers", |reactor| (reactor.stats().frames_out >= count).then_some(()));
    messages.iter().for_each(|message| expect_frame(client, message));
}

#[test]
fn what_comes_behind_urgent_data_is_delivered_without_a_further_event() {
    // asterinas/asterinas PR #3146: any peer could leave its own connection hanging with whole frames unread.
    let mut wire = frame(b"one");
    wire.extend(frame(b"two"));
    for at in [4, 7, 1, 13] {
        let (tester, events) = Tester::new(echo);
        let (mut reactor, address) = listening(tester);
        let client = connect(address);
        turn_until(&mut reactor, "on_open", |_| events.told(opened));
        send_around_an_urgent_byte(&client, &wire[..at], &wire[at..]);
        expect_all_served(&mut reactor, &client, &[b"one", b"two"]);
        client.shutdown(Shutdown::Write).unwrap();
        let reason = turn_until(&mut reactor, "on_close", |_| events.told(closed));
        assert!(matches!(reason, CloseReason::Peer { truncated: false }), "cut at {at}: {reason}");
    }
}

#[test]
fn urgent_data_again_and_again_does_not_stop_it_either() {
    let (tester, events) = Tester::new(echo);
    let (mut reactor, address) = listening(tester);
    let client = connect(address);
    turn_until(&mut reactor, "on_open", |_| events.told(opened));
    for n in 0..20usize {
        let message = pattern(n, 10 + n * 1_700);
        let wire = frame(&message);
        send_around_an_urgent_byte(&client, &wire[..5 + n], &wire[5 + n..]);
        let count = n as u64 + 1;
        turn_until(&mut reactor, "the answer", |reactor| (reactor.stats().frames_out == count).then_some(()));
        expect_frame(&client, &message);
    }
}

#[test]
fn urgent_data_before_the_connection_is_taken_in_is_no_different() {
    let (tester, _events) = Tester::new(echo);
    let (mut reactor, address) = listening(tester);
    let accepted = connect(address);
    let wire = frame(b"before the accept");
    send_around_an_urgent_byte(&accepted, &wire[..9], &wire[9..]);
    expect_all_served(&mut reactor, &accepted, &[b"before the accept"]);

    let (ours, theirs) = pair();
    send_around_an_urgent_byte(&theirs, &wire[..9], &wire[9..]);
    reactor.context().adopt(ours, LengthPrefixed::default()).unwrap();
    turn_until(&mut reactor, "the answer", |reactor| (reactor.stats().frames_out == 2).then_some(()));
    expect_frame(&theirs, b"before the accept");
}

#[test]
fn a_pause_in_front_of_urgent_data_is_lifted_without_loss() {
    let (tester, events) = Tester::new(|cx, from, message| {
        cx.send(from, message);
        if message == b"pause" {
            cx.pause(from);
        }
    });
    let (mut reactor, address) = listening(tester);
    let client = connect(address);
    let conn = turn_until(&mut reactor, "on_open", |_| events.told(opened));
    let (pause, rest) = (frame(b"pause"), frame(b"behind"));
    send_frame(&client, b"pause");
    turn_until(&mut reactor, "the pause", |reactor| (reactor.stats().frames_in == 1).then_some(()));
    send_around_an_urgent_byte(&client, &rest[..6], &rest[6..]);
    for _ in 0..10 {
        reactor.turn(Some(std::time::Duration::from_millis(1))).unwrap();
    }
    assert_eq!(reactor.stats().bytes_in, pause.len() as u64, "a paused connection is not read");
    assert!(reactor.context().resume(conn));
    expect_all_served(&mut reactor, &client, &[b"pause", b"behind"]);
}
