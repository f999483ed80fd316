//! Commands of other threads: what they cost, and what becomes of those that come too late.

use bytes::Bytes;

use super::*;
use crate::HandleError;
use crate::reactor::To;

#[test]
fn many_sends_cost_one_wake_up_for_each_turn() {
    let mut limits = Limits::default();
    (limits.commands_max, limits.commands_per_turn) = (5_000, 5_000);
    let mut rig = rig_with(limits, |_, _| {});
    let peer = rig.client();
    peer.capacity(usize::MAX);
    let conn = rig.open()[0];
    let handle = rig.reactor.handle();
    let wakes = rig.world.wakes();
    for turn in 1..=20 {
        for _ in 0..5_000 {
            handle.try_send(conn, Bytes::from_static(b"m")).unwrap();
        }
        rig.settle();
        assert_eq!(rig.world.wakes(), wakes + turn, "100,000 sends cost twenty wake-ups");
    }
    assert_eq!(peer.take().len(), 100_000 * 5);
    assert_eq!(rig.stats().wakeups, rig.world.wakes() as u64);
}

#[test]
fn what_a_turn_leaves_in_the_queue_wakes_nobody() {
    let mut limits = Limits::default();
    limits.commands_per_turn = 10;
    let mut rig = rig_with(limits, |_, _| {});
    rig.settle();
    let (handle, wakes) = (rig.reactor.handle(), rig.world.wakes());
    for _ in 0..100 {
        handle.run(|_, _| {}).unwrap();
    }
    rig.settle();
    assert_eq!(rig.world.wakes(), wakes + 1);
}

#[test]
fn commands_for_the_gone_are_counted_and_hit_nobody() {
    let mut rig = echo_rig(Limits::default());
    let gone = rig.client();
    let old = rig.open()[0];
    gone.shut_down_writing();
    rig.settle();
    // Its slot is another one's by now.
    let peer = rig.client();
    assert_eq!(rig.open()[0].slot, old.slot);
    let handle = rig.reactor.handle();
    handle.send(old, Bytes::from_static(b"not yours")).unwrap();
    handle.close(old).unwrap();
    handle.try_close(old).unwrap();
    let before = rig.stats().frames_dropped;
    rig.settle();
    assert_eq!(rig.stats().frames_dropped, before + 1);
    peer.send(&frame(b"alive"));
    rig.settle();
    assert_eq!(peer.take(), frame(b"alive"));
}

#[test]
fn a_close_that_finds_no_room_is_told() {
    let mut limits = Limits::default();
    limits.commands_max = 1;
    let mut rig = rig_with(limits, |_, _| {});
    let peer = rig.client();
    let (conn, handle) = (rig.open()[0], rig.reactor.handle());
    handle.run(|_, _| {}).unwrap();
    assert_eq!(handle.try_close(conn), Err(HandleError::Full(())));
    assert_eq!(handle.close(conn), Err(HandleError::WouldDeadlock(())));
    assert_eq!(
        handle.try_broadcast(To::All, Bytes::from_static(b"m")),
        Err(HandleError::Full(Bytes::from_static(b"m")))
    );
    rig.settle();
    handle.try_close(conn).unwrap();
    rig.settle();
    assert!(peer.sees_end());
    drop(rig);
    assert_eq!(handle.try_close(conn), Err(HandleError::Gone(())));
}

#[test]
fn the_thread_that_has_made_a_reactor_does_not_wait_for_its_first_turn() {
    let mut limits = Limits::default();
    limits.commands_max = 1;
    let rig = rig_with(limits, |_, _| {});
    let handle = rig.reactor.handle();
    handle.run(|_, _| {}).unwrap();
    assert_eq!(handle.run(|_, _| {}), Err(HandleError::WouldDeadlock(())));
}
