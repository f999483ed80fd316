//! Rate limits: what comes too fast waits, and nothing is dropped.

use super::*;
use crate::reactor::Direction;
use crate::{Rate, RateGroup};

const MS: Duration = Duration::from_millis(1);

fn messages_per_second(n: u64) -> Rate {
    Rate::default().messages_per_second(n).burst(Duration::from_millis(100))
}

fn many(n: u32) -> Vec<u8> {
    (0..n).flat_map(|n| frame(&n.to_be_bytes())).collect()
}

/// How many messages have come after each step.
fn counts(rig: &mut Rig, steps: usize, step: Duration) -> Vec<u64> {
    (0..steps)
        .map(|_| {
            rig.pass(step);
            rig.stats().frames_in
        })
        .collect()
}

#[test]
fn messages_beyond_the_rate_wait_and_none_is_lost() {
    let mut rig = rig(|_, _| {});
    let peer = rig.client();
    let conn = rig.open()[0];
    assert!(rig.cx().limit_rate(conn, Direction::Input, Some(messages_per_second(100))));
    peer.send(&many(50));
    rig.settle();
    assert_eq!(rig.stats().frames_in, 10, "the burst");
    assert_eq!(counts(&mut rig, 4, 100 * MS), [20, 30, 40, 50]);
    let expected: Vec<Vec<u8>> = (0..50u32).map(|n| n.to_be_bytes().to_vec()).collect();
    assert_eq!(rig.messages(), expected);
    // Nothing is left to wake up for.
    rig.pass(Duration::from_secs(5));
    rig.pass(Duration::from_secs(5));
    assert_eq!(rig.reactor.next_timeout(), None);
}

#[test]
fn bytes_beyond_the_rate_are_not_read() {
    let mut rig = rig(|_, _| {});
    let peer = rig.client();
    let conn = rig.open()[0];
    let rate = Rate::default().bytes_per_second(10_000).burst(100 * MS);
    rig.cx().limit_rate(conn, Direction::Input, Some(rate));
    peer.send(&frame(&vec![1; 9_996]));
    rig.settle();
    assert_eq!(peer.unread(), 9_000);
    for left in (0..=8_000).rev().step_by(1_000) {
        rig.pass(100 * MS);
        assert_eq!(peer.unread(), left);
    }
    assert_eq!(rig.stats().frames_in, 1);
}

#[test]
fn a_lifted_rate_lets_all_through() {
    let mut rig = rig(|_, _| {});
    let peer = rig.client();
    let conn = rig.open()[0];
    rig.cx().limit_rate(conn, Direction::Input, Some(messages_per_second(1)));
    peer.send(&many(50));
    rig.settle();
    assert_eq!(rig.stats().frames_in, 1);
    rig.cx().limit_rate(conn, Direction::Input, Some(messages_per_second(100)));
    rig.settle();
    assert_eq!(rig.stats().frames_in, 11, "a new rate begins with a full bucket");
    rig.cx().limit_rate(conn, Direction::Input, None);
    rig.settle();
    assert_eq!(rig.stats().frames_in, 50);
}

#[test]
fn output_beyond_the_rate_waits_in_the_outbox() {
    let mut rig = rig(|_, _| {});
    let peer = rig.client();
    let conn = rig.open()[0];
    rig.cx().limit_rate(conn, Direction::Output, Some(messages_per_second(100)));
    for n in 0..50u32 {
        rig.cx().send(conn, &n.to_be_bytes());
    }
    rig.settle();
    let mut got = peer.take();
    assert_eq!(got.len(), 80, "whole messages, and no more than the burst");
    for _ in 0..4 {
        rig.pass(100 * MS);
        let more = peer.take();
        assert_eq!(more.len(), 80);
        got.extend(more);
    }
    assert_eq!(got, many(50));
    assert_eq!((rig.stats().frames_out, rig.stats().buffered_bytes), (50, 0));
}

#[test]
fn a_large_message_goes_out_at_the_rate_of_its_bytes() {
    let mut rig = rig(|_, _| {});
    let peer = rig.client();
    peer.capacity(usize::MAX);
    let conn = rig.open()[0];
    let rate = Rate::default().bytes_per_second(1_000_000).burst(100 * MS);
    rig.cx().limit_rate(conn, Direction::Output, Some(rate));
    let large = vec![9; 499_996];
    rig.cx().send(conn, &large);
    rig.settle();
    let mut got = peer.take();
    assert_eq!(got.len(), 100_000);
    for _ in 0..4 {
        rig.pass(100 * MS);
        got.extend(peer.take());
    }
    assert_eq!(got, frame(&large));
}

fn group_of(rig: &mut Rig, direction: Direction, rate: Rate) -> RateGroup {
    let group = rig.cx().add_rate_group(rate);
    for conn in rig.open() {
        assert!(rig.cx().join_rate_group(conn, direction, group));
    }
    group
}

#[test]
fn a_group_shares_one_rate_in_turn() {
    let mut rig = rig(|_, _| {});
    let peers: Vec<Peer> = (0..10).map(|_| rig.client()).collect();
    group_of(&mut rig, Direction::Input, messages_per_second(100));
    for peer in &peers {
        peer.send(&many(100));
    }
    rig.settle();
    assert_eq!(rig.stats().frames_in, 10);
    rig.pass(Duration::from_secs(2));
    let mut counts = HashMap::new();
    for _ in 0..200 {
        rig.pass(10 * MS);
    }
    let total = rig.stats().frames_in;
    assert!((200..=230).contains(&total), "{total}");
    for event in rig.events() {
        if let Event::Message(conn, _) = event {
            *counts.entry(conn).or_insert(0) += 1;
        }
    }
    assert_eq!(counts.len(), 10, "nobody starves: {counts:?}");
    assert!(counts.values().all(|n| (10..=45).contains(n)), "{counts:?}");
}

#[test]
fn a_member_that_dies_in_the_queue_holds_nobody_up() {
    let mut rig = rig(|_, _| {});
    let peers: Vec<Peer> = (0..4).map(|_| rig.client()).collect();
    group_of(&mut rig, Direction::Input, messages_per_second(10));
    for peer in &peers {
        peer.send(&many(5));
    }
    rig.settle();
    peers[1].reset();
    peers[2].reset();
    rig.settle();
    for _ in 0..100 {
        rig.pass(100 * MS);
    }
    assert_eq!(rig.stats().open, 2);
    assert!(rig.stats().frames_in >= 10, "both that are left got through");
    assert_eq!((peers[0].unread(), peers[3].unread()), (0, 0));
}

#[test]
fn a_group_that_is_removed_lets_its_members_go() {
    for direction in [Direction::Input, Direction::Output] {
        let mut rig = echo_rig(Limits::default());
        let peers: Vec<Peer> = (0..4).map(|_| rig.client()).collect();
        let group = group_of(&mut rig, direction, messages_per_second(10));
        for peer in &peers {
            peer.send(&many(50));
        }
        rig.settle();
        assert!(rig.cx().remove_rate_group(group));
        assert!(!rig.cx().remove_rate_group(group));
        rig.settle();
        assert_eq!(rig.stats().frames_out, 200, "{direction:?}");
        let conn = rig.open()[0];
        assert!(!rig.cx().join_rate_group(conn, direction, group), "it is gone");
    }
}

#[test]
fn the_strictest_of_several_rates_counts() {
    let mut rig = rig(|_, _| {});
    let peer = rig.client();
    let conn = rig.open()[0];
    let wide = group_of(&mut rig, Direction::Input, messages_per_second(1_000));
    rig.cx().limit_rate(conn, Direction::Input, Some(messages_per_second(100)));
    peer.send(&many(200));
    rig.settle();
    assert_eq!(rig.stats().frames_in, 10);
    assert!(rig.cx().leave_rate_group(conn, Direction::Input, wide));
    assert!(!rig.cx().leave_rate_group(conn, Direction::Input, wide));
    assert_eq!(counts(&mut rig, 2, 100 * MS), [20, 30], "its own still holds");
}

#[test]
fn who_waits_for_its_rate_is_neither_idle_nor_stuck() {
    let mut limits = Limits::default();
    (limits.idle_timeout, limits.write_timeout) = (Some(200 * MS), Some(200 * MS));
    limits.frame_timeout = Some(200 * MS);
    for direction in [Direction::Input, Direction::Output] {
        let mut rig = echo_rig(limits.clone());
        let peer = rig.client();
        let conn = rig.open()[0];
        rig.cx().limit_rate(conn, direction, Some(Rate::default().messages_per_second(1)));
        peer.send(&many(4));
        rig.settle();
        for _ in 0..30 {
            rig.pass(100 * MS);
        }
        assert_eq!(rig.closes(), [] as [&str; 0], "{direction:?}");
        assert_eq!(rig.stats().frames_out, 4, "{direction:?}");
        for _ in 0..5 {
            rig.pass(100 * MS);
        }
        assert_eq!(rig.closes(), ["idle_timeout"], "{direction:?}");
    }
}

#[test]
fn what_is_limited_still_ends_in_order() {
    let mut rig = echo_rig(Limits::default());
    let peer = rig.client();
    let conn = rig.open()[0];
    for direction in [Direction::Input, Direction::Output] {
        rig.cx().limit_rate(conn, direction, Some(messages_per_second(20)));
    }
    peer.send(&many(10));
    peer.shut_down_writing();
    for _ in 0..10 {
        rig.pass(100 * MS);
    }
    assert_eq!(peer.take(), many(10));
    assert_eq!(rig.closes(), ["peer"]);
}

#[test]
fn those_who_wait_for_a_rate_are_served_strictly_in_turn() {
    let mut rig = rig(|_, _| {});
    let peers: Vec<Peer> = (0..3).map(|_| rig.client()).collect();
    let conns = rig.open();
    group_of(&mut rig, Direction::Input, messages_per_second(10));
    for peer in &peers {
        peer.send(&many(10));
    }
    for _ in 0..9 {
        rig.settle();
        // Whoever has more to say meanwhile does not get ahead by it.
        for peer in &peers {
            peer.send(&many(1));
        }
        rig.pass(100 * MS);
    }
    let from = |event| match event {
        Event::Message(conn, _) => conns.iter().position(|other| *other == conn),
        _ => None,
    };
    let order: Vec<usize> = rig.events().into_iter().filter_map(from).collect();
    let expected: Vec<usize> = (0..10).map(|turn| turn % 3).collect();
    assert_eq!(order, expected);
}

#[test]
fn a_peer_that_takes_nothing_is_ended_though_a_rate_held_what_was_for_it_meanwhile() {
    let mut limits = Limits::default();
    limits.write_timeout = Some(500 * MS);
    let mut rig = rig_with(limits, |_, _| {});
    let peer = rig.client();
    let conn = rig.open()[0];
    rig.cx().limit_rate(conn, Direction::Output, Some(Rate::default().messages_per_second(1)));
    peer.capacity(50);
    for _ in 0..2 {
        rig.cx().send(conn, &[1; 40]);
    }
    rig.settle();
    assert_eq!(peer.take().len(), 44, "the other one has to wait for its rate");
    peer.capacity(0);
    rig.pass(600 * MS);
    assert_eq!(rig.open(), [conn], "which is not its peer's fault, however long it takes");
    rig.pass(500 * MS);
    assert_eq!(rig.open(), [conn], "from now on it is");
    rig.pass(600 * MS);
    assert_eq!(rig.closes(), ["write_timeout"]);
}
