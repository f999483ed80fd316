//! What becomes of messages that a connection does not take fast enough.

use super::*;
use crate::Overflow;
use crate::reactor::{Broadcast, DropReason, To};

/// Ten messages of [`numbered`] wait within the limit, an eleventh passes.
const LIMIT: usize = 1_000;

fn limits() -> Limits {
    let mut limits = Limits::default();
    (limits.high_mark, limits.low_mark, limits.write_limit) = (500, 200, LIMIT);
    limits
}

/// A message whose frame has 100 bytes.
fn numbered(n: u8) -> Vec<u8> {
    vec![n; 96]
}

/// A rig with one client that takes only so many bytes before the test reads them, under a policy.
fn slow(overflow: Overflow, capacity: usize) -> (Rig, Peer, ConnId) {
    let mut rig = echo_rig(limits());
    let peer = rig.client();
    peer.capacity(capacity);
    let conn = rig.open()[0];
    assert!(rig.cx().set_overflow(conn, overflow));
    (rig, peer, conn)
}

/// All that the peer gets once it reads, as numbers.
fn numbers(rig: &mut Rig, peer: &Peer) -> Vec<u8> {
    let mut bytes = peer.take();
    for _ in 0..1_000 {
        rig.settle();
        let got = peer.take();
        if got.is_empty() {
            break;
        }
        bytes.extend(got);
    }
    assert_eq!(bytes.len() % 100, 0, "whole messages and nothing else");
    assert_eq!(rig.stats().buffered_bytes, 0);
    bytes
        .chunks(100)
        .map(|frame| {
            assert_eq!(frame[..4], [0, 0, 0, 96]);
            assert!(frame[4..].iter().all(|byte| *byte == frame[4]), "a message is one piece");
            frame[4]
        })
        .collect()
}

#[test]
fn drop_newest_keeps_what_waits() {
    let (mut rig, peer, conn) = slow(Overflow::DropNewest, 150);
    for n in 0..20 {
        let sent = rig.cx().send(conn, &numbered(n));
        rig.settle();
        assert_eq!(sent == Sent::Dropped(DropReason::Overflow), n > 11, "{n}: {sent:?}");
    }
    assert_eq!(rig.cx().missed(conn), 8);
    let stats = rig.stats();
    assert_eq!((stats.frames_dropped, stats.frames_overflowed, stats.open), (8, 8, 1));
    assert_eq!(numbers(&mut rig, &peer), (0..=11).collect::<Vec<_>>());
    assert_eq!(rig.stats().frames_out, 12);
}

#[test]
fn drop_oldest_keeps_what_is_begun_and_the_latest() {
    let (mut rig, peer, conn) = slow(Overflow::DropOldest, 150);
    for n in 0..40 {
        assert!(rig.cx().send(conn, &numbered(n)).is_queued(), "{n}");
        rig.settle();
    }
    let missed = rig.cx().missed(conn);
    let got = numbers(&mut rig, &peer);
    assert_eq!(got[..2], [0, 1], "the first was sent, the second was begun");
    assert!(got[2..].windows(2).all(|pair| pair[1] == pair[0] + 1), "{got:?}");
    assert_eq!(got.last(), Some(&39));
    assert_eq!(got.len() as u64 + missed, 40);
    assert!((10..=13).contains(&got.len()), "what waits is at the limit: {got:?}");
    assert_eq!(rig.stats().frames_overflowed, missed);
    assert_eq!(rig.stats().frames_out, got.len() as u64);
}

#[test]
fn drop_oldest_acts_before_anything_is_written_too() {
    let (mut rig, peer, conn) = slow(Overflow::DropOldest, usize::MAX);
    for n in 0..40 {
        rig.cx().send(conn, &numbered(n));
    }
    let got = numbers(&mut rig, &peer);
    assert_eq!(got, (29..40).collect::<Vec<_>>());
}

#[test]
fn the_latest_of_each_key_is_kept_at_its_place() {
    let (mut rig, peer, conn) = slow(Overflow::Latest, 0);
    // Within the limit nothing is dropped.
    for n in 0..10 {
        rig.cx().message(&numbered(n)).key(u64::from(n % 2)).to(conn);
    }
    assert_eq!(rig.cx().missed(conn), 0);
    rig.cx().message(&numbered(10)).key(0).to(conn);
    assert_eq!(rig.cx().missed(conn), 0, "the eleventh passes: ten were within the limit");
    // Past it, all older ones of its key go.
    assert!(rig.cx().message(&numbered(11)).key(0).to(conn).is_queued());
    assert_eq!(rig.cx().missed(conn), 6);
    for n in 12..40 {
        assert!(rig.cx().message(&numbered(n)).key(0).to(conn).is_queued(), "{n}");
    }
    peer.capacity(usize::MAX);
    assert_eq!(
        numbers(&mut rig, &peer)[..5],
        [1, 3, 5, 7, 9],
        "other keys keep their order and their values"
    );
}

#[test]
fn a_new_key_makes_room_of_what_is_obsolete() {
    let (mut rig, peer, conn) = slow(Overflow::Latest, 0);
    for n in 0..11 {
        rig.cx().message(&numbered(n)).key(0).to(conn);
    }
    assert!(rig.cx().message(&numbered(50)).key(1).to(conn).is_queued());
    assert!(
        rig.cx().send(conn, &numbered(51)).is_queued(),
        "one without a key passes as well below the limit"
    );
    peer.capacity(usize::MAX);
    assert_eq!(numbers(&mut rig, &peer), [10, 50, 51]);
}

#[test]
fn a_message_without_a_key_is_dropped_when_nothing_is_obsolete() {
    let (mut rig, peer, conn) = slow(Overflow::Latest, 0);
    for n in 0..11 {
        rig.cx().message(&numbered(n)).key(u64::from(n)).to(conn);
    }
    assert_eq!(rig.cx().send(conn, &numbered(50)), Sent::Dropped(DropReason::Overflow));
    assert_eq!(rig.cx().message(&numbered(51)).key(99).to(conn), Sent::Dropped(DropReason::Overflow));
    assert!(rig.cx().message(&numbered(52)).key(3).to(conn).is_queued());
    peer.capacity(usize::MAX);
    assert_eq!(numbers(&mut rig, &peer), [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 52]);
}

#[test]
fn tell_drops_and_tells_once_until_the_outbox_has_fallen() {
    let (mut rig, peer, conn) = slow(Overflow::Tell, 0);
    for round in 1..=2 {
        for n in 0..20 {
            rig.cx().send(conn, &numbered(n));
            rig.settle();
        }
        let told = rig.events().into_iter().filter(|event| *event == Event::Overflow(conn)).count();
        assert_eq!(told, 1, "round {round}");
        assert_eq!(rig.cx().missed(conn), 9 * round);
        peer.capacity(usize::MAX);
        assert_eq!(numbers(&mut rig, &peer).len(), 11);
        peer.capacity(0);
    }
}

#[test]
fn control_and_own_replies_are_never_dropped() {
    for overflow in [Overflow::DropNewest, Overflow::DropOldest, Overflow::Latest, Overflow::Tell] {
        let mut rig = echo_rig(Limits { high_mark: 100_000, ..limits() });
        let peer = rig.client();
        let conn = rig.open()[0];
        rig.cx().set_overflow(conn, overflow);
        peer.capacity(0);
        peer.send(&frames([numbered(100).as_slice(), &numbered(101)]));
        rig.settle();
        assert!(rig.cx().message(&numbered(102)).control().to(conn).is_queued());
        for n in 0..30 {
            rig.cx().send(conn, &numbered(n));
        }
        assert!(rig.cx().message(&numbered(103)).control().key(1).to(conn).is_queued());
        peer.send(&frame(&numbered(104)));
        rig.settle();
        peer.capacity(usize::MAX);
        let got = numbers(&mut rig, &peer);
        let kept: Vec<u8> = got.iter().copied().filter(|n| *n >= 100).collect();
        assert_eq!(kept, [100, 101, 102, 103, 104], "{overflow:?}");
        assert!(got.len() < 20, "{overflow:?}: {got:?}");
    }
}

#[test]
fn control_passes_a_full_outbox_without_a_policy() {
    let (mut rig, peer, conn) = slow(Overflow::Close, 0);
    for n in 0..11 {
        rig.cx().send(conn, &numbered(n));
    }
    assert!(rig.cx().message(&numbered(50)).control().to(conn).is_queued());
    assert_eq!(rig.stats().open, 1);
    peer.capacity(usize::MAX);
    assert_eq!(numbers(&mut rig, &peer).len(), 12);
}

#[test]
fn one_message_of_any_size_passes_an_empty_outbox() {
    for overflow in [Overflow::Close, Overflow::DropNewest, Overflow::DropOldest, Overflow::Latest] {
        let (mut rig, peer, conn) = slow(overflow, usize::MAX);
        let large = vec![7; 50 * LIMIT];
        assert!(rig.cx().send(conn, &large).is_queued());
        assert!(rig.cx().message(&large).key(1).to(conn).is_queued() || overflow == Overflow::Close);
        rig.settle();
        assert!(peer.take().starts_with(&frame(&large)), "{overflow:?}");
    }
}

#[test]
fn each_receiver_of_a_broadcast_has_its_own_policy() {
    let mut rig = echo_rig(limits());
    let peers: Vec<Peer> = (0..5).map(|_| rig.client()).collect();
    let policies =
        [Overflow::Close, Overflow::DropNewest, Overflow::DropOldest, Overflow::Latest, Overflow::Tell];
    let conns = rig.open();
    for ((peer, conn), policy) in peers.iter().zip(&conns).zip(policies) {
        peer.capacity(0);
        rig.cx().set_overflow(*conn, policy);
    }
    for n in 0..11 {
        let result = rig.cx().message(&numbered(n)).key(u64::from(n)).broadcast(To::All);
        assert_eq!((result.queued, result.dropped), (5, 0), "{n}");
    }
    let result = rig.cx().broadcast(To::All, &numbered(11));
    assert_eq!(result, Broadcast { queued: 1, above_mark: 1, dropped: 4, refused: 0 });
    rig.settle();
    assert_eq!(rig.closes(), ["slow_consumer"]);
    for peer in &peers[1..] {
        peer.capacity(usize::MAX);
        assert!(peer.take().is_empty());
    }
    rig.settle();
    let last: Vec<_> = peers[1..].iter().map(|peer| numbers(&mut rig, peer).last().copied()).collect();
    assert_eq!(last, [Some(10), Some(11), Some(10), Some(10)]);
}

#[test]
fn a_broadcast_that_waits_in_many_outboxes_is_held_once() {
    for policy in [Overflow::Close, Overflow::DropOldest] {
        let mut rig = echo_rig(Limits::default());
        let peers: Vec<Peer> = (0..10).map(|_| rig.client()).collect();
        for (peer, conn) in peers.iter().zip(rig.open()) {
            peer.capacity(0);
            rig.cx().set_overflow(conn, policy);
        }
        let payload = vec![1; 100_000];
        assert_eq!(rig.cx().broadcast(To::All, &payload).queued, 10);
        assert_eq!(rig.cx().message(&payload).key(1).broadcast(To::All).queued, 10);
        rig.settle();
        let held = rig.stats().buffered_bytes;
        assert!((200_000..250_000).contains(&held), "{held}");
        for peer in &peers {
            assert!(rig.stats().buffered_bytes >= 200_000);
            peer.capacity(usize::MAX);
            peer.take();
            rig.settle();
            assert_eq!(peer.take().len(), 200_008);
        }
        assert_eq!(rig.stats().buffered_bytes, 0);
    }
}

#[test]
fn the_default_policy_is_a_limit() {
    let mut rig = echo_rig(Limits { overflow: Overflow::DropNewest, ..limits() });
    let peer = rig.client();
    peer.capacity(0);
    let conn = rig.open()[0];
    for n in 0..20 {
        rig.cx().send(conn, &numbered(n));
    }
    assert_eq!((rig.cx().missed(conn), rig.stats().open), (9, 1));
}

fn one_byte_length() -> LengthPrefixed {
    LengthPrefixed::builder().width(1).build().unwrap()
}

#[test]
fn a_receiver_with_another_framing_does_not_disturb_the_bytes_of_the_others() {
    let mut rig = echo_rig(limits());
    let peers: Vec<Peer> = (0..3).map(|_| rig.client()).collect();
    let conns = rig.open();
    for conn in &conns {
        rig.cx().set_overflow(*conn, Overflow::Latest);
    }
    rig.cx().set_codec(conns[1], one_byte_length());
    assert_eq!(rig.cx().message(b"quote").key(1).broadcast(To::Set(&conns)).queued, 3);
    rig.settle();
    assert_eq!(peers[0].take(), frame(b"quote"));
    assert_eq!(peers[1].take(), b"\x05quote");
    assert_eq!(peers[2].take(), frame(b"quote"));
}

#[test]
fn a_policy_that_is_lifted_keeps_the_order_of_what_waits() {
    let (mut rig, peer, conn) = slow(Overflow::Latest, 0);
    rig.cx().message(&numbered(1)).key(1).to(conn);
    rig.cx().set_overflow(conn, Overflow::Close);
    rig.cx().send(conn, &numbered(2));
    rig.cx().broadcast(To::All, &numbered(3));
    rig.cx().broadcast(To::All, &numbered(4));
    peer.capacity(usize::MAX);
    assert_eq!(numbers(&mut rig, &peer), [1, 2, 3, 4]);
}

#[test]
fn a_message_that_cannot_be_said_costs_no_other_its_place() {
    for policy in [Overflow::DropOldest, Overflow::Latest] {
        let (mut rig, peer, conn) = slow(policy, 0);
        for n in 0..11 {
            rig.cx().message(&numbered(n)).key(1).to(conn);
        }
        rig.cx().set_codec(conn, one_byte_length());
        let sent = rig.cx().message(&[0; 300]).key(1).to(conn);
        assert!(matches!(sent, Sent::Dropped(DropReason::Refused(_))), "{sent:?}");
        assert_eq!(rig.cx().missed(conn), 0);
        peer.capacity(usize::MAX);
        assert_eq!(numbers(&mut rig, &peer).len(), 11);
    }
}

#[test]
fn a_new_key_has_no_room_when_what_is_obsolete_makes_too_little() {
    let (mut rig, peer, conn) = slow(Overflow::Latest, 0);
    for n in 0..10 {
        rig.cx().message(&numbered(n)).key(u64::from(n)).to(conn);
    }
    let large = [7; 1_996];
    assert!(rig.cx().message(&large).key(0).to(conn).is_queued());
    // The message of key 0 from the beginning is obsolete now, and goes; 2,900 bytes are still too many.
    assert_eq!(rig.cx().message(&numbered(50)).key(50).to(conn), Sent::Dropped(DropReason::Overflow));
    assert_eq!(rig.cx().missed(conn), 2);
    assert_eq!(rig.cx().queued(conn), 2_900);
    drop(peer);
}
