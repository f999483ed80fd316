//! How connections end: every way, once, and without losing what was promised.

use super::*;
use crate::net::mem::Dropped;
use crate::net::{Readiness, Source};
use crate::reactor::{DropReason, To};

#[test]
fn a_half_close_gets_all_replies_and_then_the_end() {
    // chenshuo/muduo#130
    let mut rig = echo_rig(Limits::default());
    let peer = rig.client();
    peer.capacity(10);
    let wire = frames([&b"first"[..], b"second", b"third"]);
    peer.send(&wire);
    peer.shut_down_writing();
    rig.settle();
    let mut replies = Vec::new();
    for _ in 0..10 {
        replies.extend(peer.take());
        rig.settle();
    }
    assert_eq!(replies, wire);
    assert!(peer.sees_end());
}

#[test]
fn an_answer_owed_is_waited_for() {
    let mut rig = rig(|cx, event| match event {
        Event::Message(conn, _) => {
            cx.owe(*conn);
            cx.after(Duration::from_secs(1), 1);
        }
        Event::Timer(_) => {
            let conn = cx.connections()[0];
            cx.send(conn, b"late");
            cx.paid(conn);
        }
        _ => {}
    });
    let peer = rig.client();
    peer.send(&frame(b"question"));
    peer.shut_down_writing();
    rig.settle();
    assert!(!peer.sees_end());
    rig.pass(Duration::from_secs(1));
    assert_eq!(peer.take(), frame(b"late"));
    assert!(peer.sees_end());
    assert_eq!(rig.closes(), ["peer"]);
}

#[test]
fn paying_without_an_answer_ends_the_wait_too() {
    let mut rig = rig(|cx, event| {
        if let Event::Message(conn, _) = event {
            cx.owe(*conn);
        }
    });
    let peer = rig.client();
    peer.send(&frame(b"question"));
    peer.shut_down_writing();
    rig.settle();
    let conn = rig.open()[0];
    rig.cx().paid(conn);
    rig.settle();
    assert_eq!(rig.closes(), ["peer"]);
}

#[test]
fn a_kept_half_close_stays_open_for_sending() {
    let mut rig = rig(|_, _| {});
    rig.keep_half_closed();
    let peer = rig.client();
    peer.shut_down_writing();
    rig.settle();
    let conn = rig.open()[0];
    assert!(rig.cx().send(conn, b"still").is_queued());
    rig.settle();
    assert_eq!(peer.take(), frame(b"still"));
    peer.reset();
    rig.settle();
    assert_eq!(rig.closes(), ["reset"], "an error is noticed although nothing is read");
}

#[test]
fn closing_sends_what_is_queued_and_lingers_so_that_no_reset_eats_it() {
    let mut rig = rig(|cx, event| {
        if let Event::Message(conn, _) = event {
            cx.send(*conn, &[5; 1_000]);
            cx.close(*conn);
            assert_eq!(cx.send(*conn, b"too late"), Sent::Dropped(DropReason::Closing));
        }
    });
    let peer = rig.client();
    peer.capacity(300);
    peer.send(&frames([&b"go"[..], b"never delivered"]));
    rig.settle();
    assert_eq!(rig.messages(), [b"go"]);
    let mut got = Vec::new();
    for _ in 0..10 {
        peer.send(b"more input that nobody wants");
        got.extend(peer.take());
        rig.settle();
    }
    assert_eq!(got, frame(&[5; 1_000]));
    assert!(peer.sees_end());
    assert_eq!(rig.closes(), ["local"], "told when all was sent, not when the peer has gone");
    assert_eq!(peer.dropped(), None, "the bare socket lingers");
    assert_eq!(peer.unread(), 0, "its input is dropped as it comes");
    assert_eq!(rig.stats().open, 0);
    peer.shut_down_writing();
    rig.settle();
    assert_eq!(peer.dropped(), Some(Dropped::InOrder));
}

#[test]
fn lingering_ends_by_itself() {
    let mut rig = rig(|cx, event| {
        if let Event::Open(conn) = event {
            cx.close(*conn);
        }
    });
    let peer = rig.client();
    assert!(peer.sees_end());
    assert_eq!(peer.dropped(), None);
    rig.pass(Duration::from_millis(999));
    assert_eq!(peer.dropped(), None);
    rig.pass(Duration::from_millis(1));
    assert_eq!(peer.dropped(), Some(Dropped::InOrder));
}

#[test]
fn lingering_is_bounded_in_bytes_and_in_number() {
    let mut limits = Limits::default();
    limits.linger_bytes = 1_000;
    limits.lingering_max = 2;
    let mut rig = rig_with(limits, |cx, event| {
        if let Event::Open(conn) = event {
            cx.close(*conn);
        }
    });
    let talker = rig.client();
    talker.send(&[0; 2_000]);
    rig.settle();
    assert_eq!(talker.dropped(), Some(Dropped::ByReset));
    let others: Vec<_> = (0..3).map(|_| rig.client()).collect();
    assert_eq!(others[0].dropped(), Some(Dropped::ByReset), "the oldest makes room");
    assert_eq!((others[1].dropped(), others[2].dropped()), (None, None));
}

#[test]
fn what_was_dropped_before_a_socket_lingers_counts_too() {
    let mut limits = Limits::default();
    limits.linger_bytes = 1_000;
    for (before, after, cut) in [(600, 600, true), (600, 300, false)] {
        let mut rig = rig_with(limits.clone(), |cx, event| {
            if let Event::Open(conn) = event {
                cx.send(*conn, &[1; 2_000]);
                cx.close(*conn);
            }
        });
        let peer = rig.world.connect(0);
        peer.capacity(1_000);
        rig.settle();
        peer.send(&vec![0; before]);
        rig.settle();
        assert_eq!(peer.unread(), 0, "dropped, while the rest of the reply waits");
        while !peer.take().is_empty() {
            rig.settle();
        }
        assert_eq!(rig.closes(), ["local"]);
        peer.send(&vec![0; after]);
        rig.settle();
        assert_eq!(peer.dropped(), cut.then_some(Dropped::ByReset), "{before} and {after}");
    }
}

#[test]
fn a_close_that_nobody_reads_is_cut_in_time() {
    // twisted/twisted#7153
    let mut rig = rig(|cx, event| {
        if let Event::Open(conn) = event {
            cx.send(*conn, &[1; 10_000]);
            cx.close(*conn);
        }
    });
    let peer = rig.world.connect(0);
    peer.capacity(10);
    rig.settle();
    assert!(rig.closes().is_empty());
    rig.pass(Duration::from_secs(30));
    assert_eq!(rig.closes(), ["local"]);
    assert_eq!(peer.dropped(), Some(Dropped::ByReset));
}

#[test]
fn abort_is_at_once_and_a_reset() {
    let mut rig = rig(|cx, event| {
        if let Event::Message(conn, _) = event {
            cx.send(*conn, b"lost");
            cx.abort(*conn);
        }
    });
    let peer = rig.client();
    peer.send(&frames([&b"a"[..], b"b"]));
    rig.settle();
    assert_eq!(rig.events().len(), 3, "open, message, close");
    assert_eq!(peer.dropped(), Some(Dropped::ByReset));
}

#[test]
fn closing_another_connection_with_an_event_in_the_same_batch() {
    // Smithay/calloop#155, libevent/libevent#689
    let mut rig = rig(|cx, event| {
        if let Event::Message(from, message) = event {
            if message == b"kill" {
                let others: Vec<_> = cx.connections().iter().copied().filter(|conn| conn != from).collect();
                others.into_iter().for_each(|conn| cx.abort(conn));
            }
        }
    });
    let (a, b) = (rig.client(), rig.client());
    rig.events();
    a.send(&frame(b"kill"));
    b.send(&frame(b"never"));
    let late = rig.world.connect(0);
    late.send(&frame(b"mine"));
    rig.settle();
    assert_eq!(b.dropped(), Some(Dropped::ByReset));
    let messages = rig.messages();
    assert!(!messages.contains(&b"never".to_vec()), "{messages:?}");
    assert!(messages.contains(&b"mine".to_vec()));
}

#[test]
fn a_slot_is_not_given_out_again_before_the_turn_ends() {
    let mut rig = rig(|_, _| {});
    let first = rig.client();
    let conn = rig.open()[0];
    rig.cx().abort(conn);
    let second = rig.world.connect(0);
    rig.reactor.turn(Some(Duration::ZERO)).unwrap();
    let open = rig.open();
    assert_eq!(open.len(), 1);
    assert_ne!(open[0].slot, conn.slot);
    drop((first, second));
}

#[test]
fn an_event_of_the_past_reaches_nobody() {
    let mut rig = echo_rig(Limits::default());
    let first = rig.client();
    let stale = first.source().unwrap();
    first.reset();
    rig.settle();
    let second = rig.client();
    let Source::Connection(slot, _) = stale else { panic!("{stale:?}") };
    assert!(
        matches!(second.source(), Some(Source::Connection(now, _)) if now == slot),
        "the slot is used again"
    );
    rig.world.inject(stale, Readiness::READABLE.and(Readiness::ERROR));
    rig.settle();
    assert_eq!(rig.stats().stale_events, 1);
    assert_eq!(rig.stats().open, 1);
}

#[test]
fn what_is_sent_to_a_connection_of_the_past_reaches_nobody() {
    // panjf2000/gnet#621
    let mut rig = rig(|_, _| {});
    let first = rig.client();
    let old = rig.open()[0];
    first.reset();
    rig.settle();
    let second = rig.client();
    assert_eq!(rig.cx().send(old, b"not yours"), Sent::Dropped(DropReason::Gone));
    rig.reactor.handle().send(old, bytes::Bytes::from_static(b"not yours")).unwrap();
    rig.settle();
    assert!(second.take().is_empty());
    assert_eq!(rig.stats().frames_dropped, 2 + 1, "and what the recorder sent to the dead");
}

#[test]
fn a_broadcast_from_on_close_reaches_all_others_and_not_the_dead() {
    let mut rig = rig(|cx, event| {
        if let Event::Close(_, _) = event {
            cx.broadcast(To::All, b"someone left");
        }
    });
    let (leaver, stayer) = (rig.client(), rig.client());
    leaver.reset();
    rig.settle();
    assert_eq!(stayer.take(), frame(b"someone left"));
    assert!(leaver.take().is_empty());
}

#[test]
fn a_chain_of_closes_from_on_close_takes_no_stack_and_loses_none() {
    let mut rig = rig(|cx, event| {
        if let Event::Close(_, _) = event {
            if let Some(next) = cx.connections().first().copied() {
                cx.close(next);
            }
        }
    });
    let peers: Vec<_> = (0..50).map(|_| rig.client()).collect();
    peers[0].reset();
    rig.settle();
    assert_eq!(rig.closes().len(), 50);
}

#[test]
fn the_first_cause_wins() {
    let mut rig = rig(|cx, event| {
        if let Event::Message(conn, _) = event {
            cx.abort(*conn);
            cx.close(*conn);
            cx.abort(*conn);
        }
    });
    let peer = rig.client();
    peer.send(&frame(b"x"));
    peer.reset();
    rig.settle();
    assert_eq!(rig.closes(), ["aborted"]);
}

#[test]
fn a_write_error_ends_the_connection_at_once() {
    // chenshuo/muduo#280
    let mut rig = rig(|_, _| {});
    let peer = rig.client();
    let conn = rig.open()[0];
    peer.reset_quietly();
    rig.cx().send(conn, b"into the void");
    rig.settle();
    assert_eq!(rig.closes(), ["reset"]);
    assert_eq!(rig.cx().send(conn, b"again"), Sent::Dropped(DropReason::Gone));
}

#[test]
fn all_orders_of_the_two_ends_close_once() {
    // twisted/twisted#3037: the "lost" callback never came.
    for order in 0..4 {
        let mut rig = echo_rig(Limits::default());
        let peer = rig.client();
        let conn = rig.open()[0];
        match order {
            0 => {
                rig.cx().close(conn);
                rig.settle();
                peer.shut_down_writing();
            }
            1 => {
                peer.shut_down_writing();
                rig.settle();
                rig.cx().close(conn);
            }
            2 => {
                peer.shut_down_writing();
                rig.cx().close(conn);
            }
            _ => {
                rig.cx().close(conn);
                peer.reset();
            }
        }
        rig.settle();
        rig.pass(Duration::from_secs(40));
        assert_eq!(rig.closes().len(), 1, "order {order}");
        assert!(peer.dropped().is_some(), "order {order}");
        assert_eq!(rig.cx().timers.len(), 0, "order {order}: no timer is left");
    }
}

#[test]
fn room_to_write_does_not_have_a_lingering_socket_read() {
    // Under poll(2) each of the two asked for the other: a whole core for as long as it lingered.
    let mut rig = echo_rig(Limits::default());
    let peer = rig.lingering();
    let looks = peer.looks();
    rig.world.inject(peer.source().unwrap(), Readiness::WRITABLE);
    rig.settle();
    assert_eq!(peer.looks(), looks);
    rig.world.inject(peer.source().unwrap(), Readiness::READABLE);
    rig.settle();
    assert_eq!(peer.looks(), looks + 1);
}
