//! Pausing, back-pressure, and what lifts them.

use super::*;
use std::sync::{Arc, Mutex};

fn small_marks() -> Limits {
    let mut limits = Limits::default();
    (limits.high_mark, limits.low_mark) = (10_000, 2_000);
    limits
}

#[test]
fn pause_inside_a_message_stops_at_the_next_frame() {
    let mut rig = rig(|cx, event| {
        if let Event::Message(conn, message) = event {
            if message == b"stop" {
                cx.pause(*conn);
            }
        }
    });
    let peer = rig.client();
    peer.send(&frames([&b"a"[..], b"stop", b"b", b"c"]));
    rig.settle();
    peer.send(&frame(b"d"));
    rig.settle();
    assert_eq!(rig.messages(), [&b"a"[..], b"stop"], "not even one already read");
    let conn = rig.open()[0];
    rig.cx().resume(conn);
    rig.settle();
    assert_eq!(rig.messages(), [&b"b"[..], b"c", b"d"]);
}

#[test]
fn what_a_peer_sent_before_it_ended_survives_a_pause() {
    // netty/netty#6303
    let mut rig = rig(|cx, event| {
        if let Event::Open(conn) = event {
            cx.pause(*conn);
        }
    });
    let peer = rig.client();
    peer.send(&frames([&b"a"[..], b"b"]));
    peer.shut_down_writing();
    rig.settle();
    assert!(rig.messages().is_empty());
    let conn = rig.open()[0];
    rig.cx().resume(conn);
    rig.settle();
    assert_eq!(
        rig.events(),
        [
            Event::Message(conn, b"a".to_vec()),
            Event::Message(conn, b"b".to_vec()),
            Event::HalfClose(conn),
            Event::Close(conn, "peer"),
        ]
    );
}

#[test]
fn a_reset_is_noticed_while_paused() {
    // netty/netty PR #5098
    let mut rig = rig(|cx, event| {
        if let Event::Open(conn) = event {
            cx.pause(*conn);
        }
    });
    let peer = rig.client();
    peer.send(&frame(b"unread"));
    rig.settle();
    peer.reset();
    rig.settle();
    assert_eq!(rig.closes(), ["reset"]);
}

#[test]
fn a_peer_that_sends_and_never_reads_is_paused_and_gets_everything_once_it_reads() {
    let mut rig = echo_rig(small_marks());
    let (peer, other) = (rig.client(), rig.client());
    peer.capacity(1_000);
    let wire: Vec<u8> = (0..1_000u32).flat_map(|i| frame(&[i as u8; 100])).collect();
    peer.send(&wire);
    rig.settle();
    assert!(rig.stats().buffered_bytes < 400_000, "{}", rig.stats().buffered_bytes);
    let unserved = rig.stats().frames_in;
    assert!(unserved < 200, "{unserved}");
    other.send(&frame(b"meanwhile"));
    rig.settle();
    assert_eq!(other.take(), frame(b"meanwhile"));
    let mut replies = Vec::new();
    for _ in 0..1_000 {
        replies.extend(peer.take());
        rig.settle();
    }
    assert_eq!(replies, wire);
    assert_eq!(rig.stats().buffered_bytes, 0);
}

#[test]
fn crossing_the_low_mark_is_told_once() {
    let outcomes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&outcomes);
    let mut rig = rig_with(small_marks(), move |cx, event| {
        if let Event::Message(conn, _) = event {
            for _ in 0..3 {
                seen.lock().unwrap().push(cx.send(*conn, &[1; 6_000]));
            }
        }
    });
    let peer = rig.client();
    peer.capacity(1_000);
    peer.send(&frame(b"go"));
    rig.settle();
    assert_eq!(*outcomes.lock().unwrap(), [Sent::Queued, Sent::AboveMark, Sent::AboveMark]);
    rig.events();
    let mut told_at = Vec::new();
    for _ in 0..30 {
        peer.take();
        rig.settle();
        let conn = rig.open()[0];
        if rig.events().contains(&Event::Writable(conn)) {
            told_at.push(rig.cx().queued(conn));
        }
    }
    assert_eq!(told_at.len(), 1, "{told_at:?}");
    assert!(told_at[0] <= 2_000);
}

#[test]
fn a_peer_that_ends_while_it_is_paused_for_back_pressure_gets_all_replies() {
    let mut rig = echo_rig(small_marks());
    let peer = rig.client();
    peer.capacity(500);
    let wire: Vec<u8> = (0..500u32).flat_map(|i| frame(&[i as u8; 100])).collect();
    peer.send(&wire);
    peer.shut_down_writing();
    rig.settle();
    let mut replies = Vec::new();
    for _ in 0..200 {
        replies.extend(peer.take());
        rig.settle();
    }
    assert_eq!(replies, wire);
    assert!(peer.sees_end());
    assert_eq!(rig.closes(), ["peer"]);
}

#[test]
fn a_full_socket_and_a_closed_read_side_do_not_spin() {
    // tokio-rs/mio PR #933: half-close was taken for writable.
    let mut rig = echo_rig(small_marks());
    let peer = rig.client();
    peer.capacity(100);
    peer.send(&frame(&[1; 5_000]));
    peer.shut_down_writing();
    rig.settle();
    assert_eq!(
        rig.reactor.next_timeout(),
        Some(Duration::from_secs(30)),
        "it waits for the peer, and for nothing else"
    );
}

#[test]
fn a_half_closed_peer_that_takes_nothing_is_cut_and_one_that_moves_is_not() {
    let mut rig = echo_rig(small_marks());
    let (stuck, slow) = (rig.client(), rig.client());
    for peer in [&stuck, &slow] {
        peer.capacity(100);
        peer.send(&frame(&[1; 1_000]));
        peer.shut_down_writing();
    }
    let mut got = Vec::new();
    for _ in 0..12 {
        rig.settle();
        got.extend(slow.take());
        rig.pass(Duration::from_secs(20));
    }
    assert_eq!(got, frame(&[1; 1_000]));
    assert_eq!(rig.closes(), ["peer", "peer"]);
    assert_eq!(stuck.dropped(), Some(crate::net::mem::Dropped::ByReset));
}

#[test]
fn a_fast_reader_of_large_replies_leaves_turns_for_the_others() {
    let mut limits = small_marks();
    limits.write_bytes_per_turn = 50_000;
    let mut rig = rig_with(limits, |cx, event| {
        if let Event::Message(conn, _) = event {
            cx.send(*conn, &[7; 30_000]);
        }
    });
    let peer = rig.client();
    peer.capacity(usize::MAX);
    peer.send(&(0..100).flat_map(|_| frame(b"more")).collect::<Vec<_>>());
    let mut turns = 0;
    while rig.stats().frames_out < 100 {
        let before = rig.stats().bytes_out;
        rig.reactor.turn(Some(Duration::ZERO)).unwrap();
        assert!(rig.stats().bytes_out - before <= 150_000, "{}", rig.stats().bytes_out - before);
        turns += 1;
        assert!(turns < 1_000, "it does not come to its end");
    }
    assert!(turns > 20, "{turns}");
    let told = rig.events().iter().filter(|event| matches!(event, Event::Writable(_))).count();
    assert!(told <= turns, "{told} times in {turns} turns");
}

#[test]
fn resume_in_the_same_callback_goes_on() {
    let mut rig = rig(|cx, event| {
        if let Event::Message(conn, _) = event {
            cx.pause(*conn);
            cx.resume(*conn);
        }
    });
    let peer = rig.client();
    peer.send(&frames([&b"a"[..], b"b", b"c"]));
    rig.settle();
    assert_eq!(rig.messages(), [b"a", b"b", b"c"]);
}

#[test]
fn two_ends_that_both_send_first_do_not_wait_for_each_other() {
    // hyperledger-iroha/iroha#4948: a reactor that dials, against one that echoes. Here its half of the bargain.
    let mut rig = rig_with(small_marks(), |cx, event| {
        if let Event::Open(conn) = event {
            cx.read_above_mark(*conn, true);
            for _ in 0..10 {
                cx.send(*conn, &[1; 6_000]);
            }
        }
    });
    let peer = rig.world.connect(0);
    peer.capacity(1_000);
    peer.send(&frame(b"a reply"));
    rig.settle();
    assert_eq!(rig.messages(), [b"a reply"], "read while its outbox is above the mark");
    let conn = rig.open()[0];
    rig.cx().read_above_mark(conn, false);
    peer.send(&frame(b"later"));
    rig.settle();
    assert!(rig.messages().is_empty());
    rig.cx().read_above_mark(conn, true);
    rig.settle();
    assert_eq!(rig.messages(), [b"later"]);
    for _ in 0..100 {
        peer.take();
        rig.settle();
    }
    assert_eq!(rig.events(), [Event::Writable(conn)]);
}

fn tight_memory() -> Limits {
    let mut limits = Limits::default();
    limits.memory_limit = 100_000;
    limits
}

#[test]
fn past_the_memory_limit_nobody_is_read_and_then_the_largest_holder_goes() {
    let mut rig = echo_rig(tight_memory());
    let (large, small) = (rig.client(), rig.client());
    large.send(&frame(&[1; 1 << 20])[..90_000]);
    small.send(&frame(&[2; 50_000])[..30_000]);
    rig.settle();
    assert!(rig.stats().buffered_bytes > 100_000);
    small.send(&frame(&[2; 50_000])[30_000..]);
    let late = rig.world.connect(0);
    rig.settle();
    assert!(small.take().is_empty(), "not read");
    assert_eq!(late.dropped(), Some(crate::net::mem::Dropped::InOrder), "not let in");
    rig.pass(Duration::from_millis(999));
    assert_eq!(rig.stats().open, 2);
    rig.pass(Duration::from_millis(1));
    assert_eq!(rig.closes(), ["memory_limit"]);
    assert_eq!(small.take(), frame(&[2; 50_000]), "the other goes on");
    assert_eq!(rig.stats().buffered_bytes, 0);
}

#[test]
fn a_reset_is_noticed_by_those_who_wait_for_memory() {
    for before in [true, false] {
        let mut rig = echo_rig(tight_memory());
        let (deaf, other) = (rig.client(), rig.client());
        deaf.capacity(0);
        deaf.send(&frame(&[1; 120_000]));
        rig.settle();
        assert!(rig.stats().buffered_bytes > 100_000);
        if before {
            other.send(&frame(b"waits"));
            rig.settle();
        }
        other.reset();
        rig.settle();
        assert_eq!(rig.closes(), ["reset"], "it had to wait before: {before}");
    }
}

#[test]
fn waiting_for_memory_does_not_spin_and_is_no_silence() {
    let mut limits = tight_memory();
    limits.idle_timeout = Some(Duration::from_millis(500));
    let mut rig = rig_with(limits, echo);
    let (holder, waits) = (rig.client(), rig.client());
    holder.send(&frame(&[1; 1 << 20])[..110_000]);
    rig.settle();
    waits.send(&frame(b"unread"));
    rig.settle();
    for _ in 0..9 {
        rig.pass(Duration::from_millis(100));
        holder.send(&[1]);
        assert!(rig.reactor.next_timeout().is_some_and(|t| !t.is_zero()));
    }
    assert!(rig.open().len() == 2, "its bytes wait, and we do not read them");
    rig.pass(Duration::from_millis(200));
    assert_eq!(waits.take(), frame(b"unread"));
}

#[test]
fn above_the_memory_limit_what_moves_is_left_alone() {
    let mut rig = echo_rig(tight_memory());
    let peer = rig.client();
    peer.capacity(10_000);
    peer.send(&frame(&[1; 200_000]));
    rig.settle();
    let mut got = peer.take();
    for _ in 0..40 {
        rig.pass(Duration::from_millis(900));
        got.extend(peer.take());
        rig.settle();
    }
    assert_eq!(got, frame(&[1; 200_000]));
    assert_eq!(rig.stats().open, 1);
}

#[test]
fn what_others_are_sent_does_not_keep_the_reactor_above_its_limit_for_ever() {
    let mut rig = echo_rig(tight_memory());
    let holder = rig.client();
    let reader = rig.client();
    let conn = rig.open()[1];
    holder.send(&frame(&[1; 1 << 20])[..110_000]);
    rig.settle();
    reader.send(&frame(b"unread"));
    rig.settle();
    assert!(reader.take().is_empty(), "nobody is read");
    for _ in 0..20 {
        // A timer's news, which the reader takes at once.
        rig.cx().send(conn, b"news");
        rig.pass(Duration::from_millis(300));
    }
    assert_eq!(rig.closes(), ["memory_limit"]);
    assert!(reader.take().ends_with(&frame(b"news")));
    assert_eq!(rig.stats().frames_in, 1, "it is read again");
}

#[test]
fn verbs_on_the_gone_do_nothing() {
    // python/asyncio#488
    let mut rig = rig(|_, _| {});
    let peer = rig.client();
    let conn = rig.open()[0];
    peer.reset();
    rig.settle();
    let cx = rig.cx();
    assert!(!cx.pause(conn) && !cx.resume(conn) && !cx.owe(conn) && !cx.paid(conn) && !cx.detach(conn));
    assert!(!cx.join(conn, 1) && !cx.leave(conn, 1) && !cx.set_codec(conn, LengthPrefixed::default()));
    assert!(cx.after_for(conn, Duration::ZERO, 1).is_none() && cx.session_mut(conn).is_none());
    cx.close(conn);
    cx.abort(conn);
    assert_eq!(cx.send(conn, b"x"), Sent::Dropped(super::super::DropReason::Gone));
    rig.settle();
    assert_eq!(rig.closes(), ["reset"]);
}

#[test]
fn a_frame_that_stood_still_while_its_connection_was_paused_has_its_deadline_again() {
    let mut limits = Limits::default();
    limits.frame_timeout = Some(Duration::from_secs(2));
    let mut rig = echo_rig(limits);
    let peer = rig.client();
    let conn = rig.open()[0];
    peer.send(&frame(b"begun")[..6]);
    rig.settle();
    rig.cx().pause(conn);
    rig.pass(Duration::from_secs(3));
    assert_eq!(rig.open(), [conn], "it is not read");
    rig.cx().resume(conn);
    rig.settle();
    rig.pass(Duration::from_secs(3));
    assert_eq!(rig.closes(), ["frame_timeout"]);
}
