//! Sends, broadcasts and groups.

use super::*;
use crate::codec::{Codec, EncodeError, FrameError, Output, Scan};
use crate::reactor::{Broadcast, DropReason, To};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn sends_from_a_callback_keep_their_order_around_a_large_one() {
    let large: Vec<u8> = (0..200_000u32).map(|i| i as u8).collect();
    let messages = [b"before".to_vec(), large.clone(), b"between".to_vec(), large, b"after".to_vec()];
    for (capacity, write_max) in [(usize::MAX, usize::MAX), (50_000, usize::MAX), (1 << 20, 7_777)] {
        let to_send = messages.clone();
        let mut rig = rig(move |cx, event| {
            if let Event::Message(conn, _) = event {
                for message in &to_send {
                    assert!(cx.send(*conn, message).is_queued());
                }
            }
        });
        let peer = rig.client();
        peer.capacity(capacity);
        peer.pieces(usize::MAX, write_max);
        peer.send(&frame(b"go"));
        let mut got = Vec::new();
        for _ in 0..40 {
            rig.settle();
            got.extend(peer.take());
        }
        assert_eq!(got, frames(messages.iter().map(Vec::as_slice)));
        assert_eq!(rig.stats().frames_out, 5);
        assert_eq!(rig.stats().bytes_out, got.len() as u64);
        assert_eq!(rig.stats().buffered_bytes, 0);
    }
}

#[test]
fn a_large_message_with_nothing_before_it_is_not_copied() {
    let mut rig = echo_rig(Limits::default());
    let peer = rig.client();
    peer.capacity(1 << 22);
    let wire = frame(&vec![3; 1 << 20]);
    peer.send(&wire);
    rig.settle();
    assert_eq!(peer.take(), wire);
    assert_eq!(peer.calls().1, 1, "header and payload went out in one vectored write");
}

#[test]
fn a_message_counts_as_sent_when_the_kernel_has_all_of_it() {
    let mut rig = echo_rig(Limits::default());
    let peer = rig.client();
    peer.capacity(150);
    peer.send(&frames([&[1; 96][..], &[2; 96], &[3; 96]]));
    rig.settle();
    assert_eq!((rig.stats().frames_out, rig.stats().bytes_out), (1, 150));
    peer.take();
    rig.settle();
    assert_eq!((rig.stats().frames_out, rig.stats().bytes_out), (3, 300));
}

#[test]
fn what_the_framing_cannot_say_is_refused_before_a_byte_is_queued() {
    // tokio-rs/tokio#5080
    let narrow = LengthPrefixed::builder().width(1).build().unwrap();
    let mut rig = rig(|_, _| {});
    let peer = rig.client();
    let conn = rig.open()[0];
    rig.cx().set_codec(conn, narrow);
    assert!(rig.cx().send(conn, b"ok").is_queued());
    let refused = rig.cx().send(conn, &[0; 256]);
    assert_eq!(refused, Sent::Dropped(DropReason::Refused(EncodeError::TooLong { len: 256, limit: 255 })));
    assert!(rig.cx().send(conn, b"on").is_queued());
    rig.settle();
    assert_eq!(peer.take(), b"\x02ok\x02on");
}

#[test]
fn an_owned_message_is_shared_while_it_waits() {
    let mut rig = rig(|_, _| {});
    let peer = rig.client();
    peer.capacity(10);
    let conn = rig.open()[0];
    let payload = Bytes::from(vec![7; 100_000]);
    assert!(rig.cx().send_owned(conn, &payload).is_queued());
    rig.settle();
    assert!(!payload.is_unique(), "queued by reference");
    peer.capacity(1 << 20);
    peer.take();
    rig.settle();
    peer.take();
    assert!(payload.is_unique());
}

/// Counts how often it encodes.
#[derive(Clone)]
struct Counting(Arc<AtomicUsize>, bool);

impl Codec for Counting {
    type Message<'a> = &'a [u8];
    type Outgoing<'a> = &'a [u8];
    type Owned = Bytes;
    fn lend(owned: &Bytes) -> &[u8] {
        owned
    }
    fn scan(&mut self, input: &[u8]) -> Result<Scan, FrameError> {
        LengthPrefixed::default().scan(input)
    }
    fn parse<'a>(&mut self, frame: &'a mut [u8]) -> Result<&'a [u8], FrameError> {
        Ok(&frame[4..])
    }
    fn encode<'m>(&mut self, message: &'m [u8], out: &mut Output<'_, 'm>) -> Result<(), EncodeError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        LengthPrefixed::default().encode(message, out)
    }
    fn same_encoding(&self, other: &Counting) -> bool {
        self.1 && other.1
    }
}

struct Speaker;
impl Handler for Speaker {
    type Codec = Counting;
    type Session = ();
    fn on_message(&mut self, _: &mut Context<Self>, _: ConnId, _: &[u8]) {}
}

#[test]
fn a_broadcast_to_500_encodes_once() {
    for (same, len, expected) in [(true, 100, 1), (true, 100_000, 1), (false, 100, 500)] {
        let count = Arc::new(AtomicUsize::new(0));
        let codec = Counting(Arc::clone(&count), same);
        let (world, mut reactor) = world_with(Speaker, Limits::default(), codec);
        let peers: Vec<_> = (0..500).map(|_| world.connect(0)).collect();
        peers.iter().for_each(|peer| peer.capacity(1 << 20));
        for _ in 0..10 {
            reactor.turn(Some(Duration::ZERO)).unwrap();
        }
        let message = vec![1; len];
        let result = reactor.context().broadcast(To::All, &message);
        assert_eq!((result.queued, result.dropped, result.refused), (500, 0, 0));
        for _ in 0..3 {
            reactor.turn(Some(Duration::ZERO)).unwrap();
        }
        assert_eq!(count.load(Ordering::Relaxed), expected);
        assert!(peers.iter().all(|peer| peer.take() == frame(&message)));
        assert_eq!(reactor.stats().buffered_bytes, 0);
    }
}

#[test]
fn broadcasts_that_follow_each_other_keep_their_order_among_everything_else() {
    let mut rig = rig(|cx, event| {
        let Event::Message(from, message) = event else { return };
        let others = cx.connections().len() - 1;
        match message.first() {
            Some(b'a') => assert_eq!(cx.broadcast(To::All, message).queued, others + 1),
            Some(b'b') => assert_eq!(cx.broadcast(To::AllBut(*from), message).queued, others),
            Some(b's') => assert!(cx.send(*from, message).is_queued()),
            Some(b'q') => assert_eq!(cx.queued(*from), 5 * 6),
            _ => cx.close(*from),
        }
    });
    let (one, two) = (rig.client(), rig.client());
    one.send(&frames([
        &b"a1"[..],
        b"a2",
        b"s3",
        b"a3",
        b"a4",
        b"q",
        b"a4",
        b"a55",
        b"b6",
        b"b7",
        b"a8",
        b"a9",
        b"a0",
        b"x",
    ]));
    let late = rig.world.connect(0);
    rig.settle();
    let all = [&b"a1"[..], b"a2", b"s3", b"a3", b"a4", b"a4", b"a55", b"b6", b"b7", b"a8", b"a9", b"a0"];
    let own = all.iter().filter(|m| m[0] != b'b').copied();
    let others = all.iter().filter(|m| m[0] != b's').copied();
    assert_eq!(one.take(), frames(own));
    assert_eq!(two.take(), frames(others));
    assert!(late.take().is_empty(), "it was not open yet");
    assert_eq!(rig.stats().frames_out, 10 + 11);
}

#[test]
fn who_opens_in_the_middle_of_a_series_gets_nothing_of_before() {
    let mut rig = rig(|cx, event| {
        if let Event::Open(conn) = event {
            for round in 0..3u8 {
                cx.broadcast(To::All, &[conn.slot as u8, round]);
            }
        }
    });
    // The first finds nothing in its way to a series when the others come, all in one turn.
    let mut peers = vec![rig.client()];
    peers.extend((0..3).map(|_| rig.world.connect(0)));
    rig.settle();
    for (place, peer) in peers.iter().enumerate() {
        let heard = (place as u8..4).flat_map(|slot| (0..3).map(move |round| vec![slot, round]));
        assert_eq!(peer.take(), heard.flat_map(|message| frame(&message)).collect::<Vec<_>>());
    }
}

#[test]
fn own_replies_are_not_held_to_the_write_limit() {
    let mut limits = Limits::default();
    limits.write_limit = 20_000;
    let mut rig = rig_with(limits, |cx, event| {
        if let Event::Message(conn, _) = event {
            for _ in 0..10 {
                assert!(cx.send(*conn, &[1; 10_000]).is_queued());
            }
        }
    });
    let peer = rig.client();
    peer.send(&frame(b"everything"));
    let mut got = 0;
    for _ in 0..20 {
        rig.settle();
        got += peer.take().len();
    }
    assert_eq!(got, 10 * 10_004);
}

#[test]
fn a_broadcast_says_what_became_of_it() {
    let mut limits = Limits::default();
    limits.write_limit = 20_000;
    (limits.high_mark, limits.low_mark) = (5_000, 1_000);
    let mut rig = rig_with(limits, |_, _| {});
    let peers: Vec<_> = (0..4).map(|_| rig.client()).collect();
    peers[1].capacity(10);
    let ids = rig.open();
    let narrow = LengthPrefixed::builder().width(1).build().unwrap();
    rig.cx().set_codec(ids[3], narrow);
    let big = vec![1; 12_000];
    let mut results = Vec::new();
    for _ in 0..3 {
        results.push(rig.cx().broadcast(To::All, &big));
        rig.settle();
        for peer in [&peers[0], &peers[2]] {
            peer.take();
        }
    }
    let first = Broadcast { queued: 3, above_mark: 3, dropped: 0, refused: 1 };
    assert_eq!(results, [first, first, Broadcast { queued: 2, above_mark: 2, dropped: 1, refused: 1 }]);
    assert_eq!(rig.closes(), ["slow_consumer"]);
    assert_eq!(rig.stats().open, 3, "the others are undisturbed");
}

#[test]
fn the_write_limit_judges_what_was_queued_before() {
    // redis/redis#11621: one message larger than the limit cut a healthy client.
    let mut limits = Limits::default();
    limits.write_limit = 1_000;
    let mut rig = rig_with(limits, |_, _| {});
    let peer = rig.client();
    let conn = rig.open()[0];
    assert!(rig.cx().send(conn, &[1; 5_000]).is_queued());
    rig.settle();
    assert_eq!(peer.take().len(), 5_004);
    assert_eq!(rig.stats().open, 1);
}

#[test]
fn members_that_leave_during_a_broadcast_take_nobody_with_them() {
    let mut rig = rig(|cx, event| {
        if let Event::Message(_, message) = event {
            cx.broadcast(To::All, message);
        }
    });
    let sender = rig.client();
    let steady: Vec<_> = (0..5).map(|_| rig.client()).collect();
    let mut expected = Vec::new();
    for round in 0..100u8 {
        let leaver = rig.client();
        sender.send(&frame(&[round]));
        leaver.reset();
        rig.settle();
        expected.extend(frame(&[round]));
    }
    for peer in &steady {
        assert_eq!(peer.take(), expected);
    }
}

#[test]
fn groups_reach_their_members_alone() {
    let mut rig = rig(|_, _| {});
    let peers: Vec<_> = (0..4).map(|_| rig.client()).collect();
    let ids = rig.open();
    let cx = rig.cx();
    for conn in &ids[..3] {
        assert!(cx.join(*conn, 7));
        assert!(!cx.join(*conn, 7), "once");
    }
    assert!(cx.join(ids[0], 8));
    assert!(cx.leave(ids[0], 7));
    assert!(!cx.leave(ids[0], 7));
    assert_eq!(cx.members(7).len(), 2);
    assert_eq!(cx.broadcast(To::Group(7), b"g").queued, 2);
    assert_eq!(cx.broadcast(To::GroupBut(7, ids[1]), b"h").queued, 1);
    assert_eq!(cx.broadcast(To::Group(99), b"nobody").queued, 0);
    assert_eq!(cx.broadcast(To::Set(&[ids[3], ids[3]]), b"s").queued, 2);
    assert_eq!(cx.broadcast(To::AllBut(ids[3]), b"a").queued, 3);
    rig.settle();
    assert_eq!(peers[0].take(), frame(b"a"));
    assert_eq!(peers[1].take(), frames([&b"g"[..], b"a"]));
    assert_eq!(peers[2].take(), frames([&b"g"[..], b"h", b"a"]));
    assert_eq!(peers[3].take(), frames([&b"s"[..], b"s"]));
    peers[1].reset();
    peers[2].reset();
    rig.settle();
    assert!(rig.cx().members(7).is_empty());
    assert_eq!(rig.cx().groups.len(), 1, "a group without members is gone");
}

#[test]
fn a_detached_connection_is_told_of_and_gone() {
    let mut rig = rig(|cx, event| {
        if let Event::Message(conn, _) = event {
            assert!(cx.detach(*conn));
        }
    });
    let peer = rig.client();
    peer.send(&frames([&b"upgrade"[..], b"not for us"]));
    rig.settle();
    assert_eq!(rig.messages(), [b"upgrade"]);
    assert_eq!(rig.stats().open, 0);
    assert_eq!(rig.stats().closes().find(|(name, _)| *name == "detached"), Some(("detached", 1)));
}
