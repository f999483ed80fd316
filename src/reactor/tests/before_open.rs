//! A dial that has no answer yet, and what is sent, set and due in the meantime.

use super::dialing::V4;
use super::*;
use crate::net::mem::Answer;
use crate::net::{Readiness, Source};
use crate::{Dial, DropReason, Overflow, Reconnect};

const MS: Duration = Duration::from_millis(1);

fn narrow() -> Limits {
    let mut limits = Limits::default();
    (limits.high_mark, limits.low_mark, limits.write_limit) = (1_000, 100, 2_000);
    limits
}

#[test]
fn a_dial_that_ends_in_the_turn_of_its_redial_is_not_begun_again() {
    // One that waits to be dialed again, is sent too much, and was due in that very turn.
    let mut rig = rig_with(narrow(), |_, _| {});
    rig.world.answers(V4, Answer::Fails(std::io::ErrorKind::ConnectionRefused));
    let mut policy = Reconnect::default();
    policy.jitter_percent = 0;
    rig.dial(Dial::to(V4).reconnect(policy));
    rig.events();
    rig.world.answers(V4, Answer::Silence);
    let next = rig.cx().table.all().next().expect("a successor");
    assert_eq!(rig.dialed().len(), 1);
    rig.world.advance(100 * MS);
    for _ in 0..4 {
        rig.cx().send(next, &[1; 1_000]);
    }
    rig.settle();
    assert_eq!(rig.events(), [Event::DialFailed(next)]);
    assert_eq!(rig.dialed().len(), 1, "nobody waits for that dial");
    let after = rig.cx().table.all().next().expect("the one after it");
    rig.cx().close(after);
    rig.settle();
    assert_eq!(rig.events(), [Event::DialFailed(after)]);
    rig.expect_nothing_left();
}

#[test]
fn a_sender_that_was_told_to_wait_for_a_dial_is_told_to_go_on_whatever_was_dropped() {
    // The one large message gives way to a small one before there is a connection.
    for small_is_taken in [true, false] {
        let mut rig = rig_with(narrow(), |_, _| {});
        let conn = rig.dial(V4);
        rig.cx().set_overflow(conn, Overflow::DropOldest);
        assert_eq!(rig.cx().send(conn, &[1; 5_000]), Sent::AboveMark);
        rig.settle();
        if small_is_taken {
            assert_eq!(rig.cx().send(conn, b"small"), Sent::Queued);
            rig.settle();
        }
        assert_eq!(rig.events(), [], "it is not open");
        let peer = rig.world.dialed(V4);
        peer.accepts();
        rig.settle();
        assert_eq!(rig.events(), [Event::Open(conn), Event::Writable(conn)]);
        let sent = if small_is_taken { frame(b"small") } else { frame(&[1; 5_000]) };
        assert_eq!(peer.take(), sent);
    }
}

#[test]
fn the_first_that_a_handler_hears_of_a_connection_is_that_it_is_open() {
    let mut rig = rig_with(narrow(), |_, _| {});
    let conn = rig.dial(V4);
    rig.cx().set_overflow(conn, Overflow::Tell);
    for _ in 0..3 {
        rig.cx().send(conn, &[1; 1_000]);
    }
    assert_eq!(rig.cx().send(conn, b"one too many"), Sent::Dropped(DropReason::Overflow));
    rig.settle();
    assert_eq!(rig.events(), []);
    let peer = rig.world.dialed(V4);
    peer.capacity(10);
    peer.accepts();
    rig.settle();
    assert_eq!(rig.events(), [Event::Open(conn), Event::Overflow(conn)]);
    peer.reset();
    rig.settle();
    rig.events();

    // Once, although all of it happens in one turn.
    rig.world.answers(V4, Answer::Opens);
    let conn = rig.cx().connect(V4, LengthPrefixed::default());
    rig.cx().set_overflow(conn, Overflow::Tell);
    for _ in 0..4 {
        rig.cx().send(conn, &[1; 1_000]);
    }
    rig.settle();
    assert_eq!(rig.events(), [Event::Open(conn), Event::Writable(conn), Event::Overflow(conn)]);
    rig.cx().abort(conn);
    rig.settle();
    rig.events();
    rig.world.answers(V4, Answer::Silence);

    // One that fails has its failure, and nothing else.
    let conn = rig.dial(V4);
    rig.events();
    rig.cx().set_overflow(conn, Overflow::Tell);
    for _ in 0..4 {
        rig.cx().send(conn, &[1; 1_000]);
    }
    rig.settle();
    rig.cx().close(conn);
    rig.settle();
    assert_eq!(rig.events(), [Event::DialFailed(conn)]);
}

#[test]
fn the_wait_for_a_dial_is_no_silence_of_the_peers() {
    let mut limits = Limits::default();
    limits.write_timeout = Some(Duration::from_secs(1));
    limits.idle_timeout = Some(Duration::from_secs(1));
    let mut rig = rig_with(limits, |_, _| {});
    let conn = rig.dial(V4);
    rig.cx().send(conn, b"question");
    rig.cx().pause(conn);
    rig.settle();
    rig.pass(Duration::from_secs(5));
    let peer = rig.world.dialed(V4);
    peer.accepts();
    rig.settle();
    assert_eq!(rig.events(), [Event::Open(conn)]);
    assert_eq!(peer.take(), frame(b"question"));
}

#[test]
fn a_dial_is_not_timed_out_while_its_answer_may_be_in_the_next_batch() {
    let mut limits = Limits::default();
    limits.events = 1;
    let mut rig = rig_with(limits, |_, _| {});
    let conn = rig.dial(V4);
    rig.world.advance(Limits::default().dial_timeout);
    rig.world.inject(Source::Connection(1 << 20, 7), Readiness::WRITABLE);
    rig.reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(rig.events(), [], "a full batch may not be all");
    rig.world.dialed(V4).accepts();
    rig.settle();
    assert_eq!(rig.events(), [Event::Open(conn)]);

    // But it is not put off for ever.
    let silent = rig.dial(V4);
    rig.world.advance(Limits::default().dial_timeout);
    rig.world.inject(Source::Connection(1 << 20, 7), Readiness::WRITABLE);
    rig.settle();
    rig.pass(10 * MS);
    assert_eq!(rig.events(), [Event::DialFailed(silent)]);
}

#[test]
fn a_dial_that_ends_lets_those_who_wait_for_a_descriptor_in() {
    type End = fn(&mut Rig, ConnId);
    let ends: [End; 3] = [
        |rig, conn| rig.cx().close(conn),
        |rig, _| rig.world.dialed(V4).refuses(std::io::ErrorKind::ConnectionRefused),
        // The winner keeps its socket, the loser's is free.
        |rig, _| rig.world.dialed(V4).accepts(),
    ];
    for end in ends {
        let mut rig = rig(|_, _| {});
        rig.world.knows("server", &["192.0.2.9", "192.0.2.1"]);
        let conn = rig.dial("server:80");
        rig.pass(250 * MS);
        rig.world.dialed("192.0.2.9:80").stirs();
        rig.world.fail_accept(0, std::io::Error::from_raw_os_error(24));
        let waiting = rig.world.connect(0);
        rig.settle();
        assert_eq!(rig.stats().accepted, 0);
        end(&mut rig, conn);
        rig.settle();
        assert_eq!(rig.stats().accepted, 1, "no time has passed");
        drop(waiting);
    }
}
