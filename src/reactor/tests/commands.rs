//! Commands of other threads.

use super::*;
use crate::HandleError;
use crate::codec::Codec;
use crate::reactor::To;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn commands_of_other_threads_run_in_order_and_wake_once() {
    let mut rig = rig(|_, _| {});
    let peer = rig.client();
    let conn = rig.open()[0];
    let handle = rig.reactor.handle();
    let wakes = rig.world.wakes();
    for i in 0..1_000u32 {
        handle.send(conn, Bytes::copy_from_slice(&i.to_be_bytes())).unwrap();
    }
    handle
        .run(|_, cx| {
            cx.broadcast(To::All, b"end");
        })
        .unwrap();
    assert_eq!(rig.world.wakes(), wakes + 1, "a thousand commands cost one wake-up");
    rig.settle();
    let mut expected: Vec<u8> = (0..1_000u32).flat_map(|i| frame(&i.to_be_bytes())).collect();
    expected.extend(frame(b"end"));
    assert_eq!(peer.take(), expected);
}

#[test]
fn a_full_queue_gives_the_message_back() {
    let mut limits = Limits::default();
    limits.commands_max = 2;
    let mut rig = rig_with(limits, |_, _| {});
    let conn = {
        let _ = rig.client();
        rig.open()[0]
    };
    let handle = rig.reactor.handle();
    let message = Bytes::from_static(b"m");
    handle.try_send(conn, message.clone()).unwrap();
    handle.try_broadcast(To::All, message.clone()).unwrap();
    assert_eq!(handle.try_send(conn, message.clone()), Err(HandleError::Full(message.clone())));
    assert_eq!(handle.send(conn, message.clone()), Err(HandleError::WouldDeadlock(message.clone())));
    rig.settle();
    handle.try_send(conn, message.clone()).unwrap();
    drop(rig);
    assert!(handle.is_gone());
    assert_eq!(handle.send(conn, message.clone()), Err(HandleError::Gone(message)));
}

#[test]
fn a_busy_producer_does_not_starve_the_sockets() {
    // netty/netty#1154
    let mut limits = Limits::default();
    limits.commands_per_turn = 10;
    let mut rig = rig_with(limits, echo);
    let peer = rig.client();
    let handle = rig.reactor.handle();
    for _ in 0..1_000 {
        handle.run(|_, _| {}).unwrap();
    }
    peer.send(&frame(b"hi"));
    rig.reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(peer.take(), frame(b"hi"));
    assert!(rig.cx().has_work(), "990 commands are left");
    rig.settle();
}

#[test]
fn a_thread_that_waits_for_room_gets_it() {
    let mut limits = Limits::default();
    limits.commands_max = 1;
    let mut rig = rig_with(limits, |_, _| {});
    let handle = rig.reactor.handle();
    let ran = Arc::new(AtomicUsize::new(0));
    let thread = std::thread::spawn({
        let ran = Arc::clone(&ran);
        move || {
            for _ in 0..1_000 {
                let ran = Arc::clone(&ran);
                handle
                    .run(move |_, _| {
                        ran.fetch_add(1, Ordering::Relaxed);
                    })
                    .unwrap();
            }
        }
    });
    while ran.load(Ordering::Relaxed) < 1_000 {
        rig.reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    thread.join().unwrap();
}

#[test]
fn commands_of_other_threads_count_as_memory_and_have_a_bound_in_bytes() {
    let mut limits = Limits::default();
    limits.memory_limit = 100_000;
    let mut rig = rig_with(limits, |_, _| {});
    let (reader, talker, holder) = (rig.client(), rig.client(), rig.client());
    reader.capacity(usize::MAX);
    talker.capacity(usize::MAX);
    let conn = rig.open()[0];
    let handle = rig.reactor.handle();
    let large = Bytes::from(vec![1; 40_000]);
    assert!(handle.try_send(conn, large.clone()).is_ok());
    assert!(
        handle.try_broadcast(To::AllBut(rig.open()[2]), large.clone()).is_ok(),
        "the first leaves room for a message of any size"
    );
    assert!((80_000..81_000).contains(&rig.stats().buffered_bytes), "{}", rig.stats().buffered_bytes);
    assert_eq!(handle.try_send(conn, large.clone()), Err(HandleError::Full(large.clone())));
    assert!(!rig.cx().is_over_memory(), "half of it is left to read with");
    holder.capacity(1_000);
    let held = rig.open()[2];
    rig.cx().send(held, &[1; 60_000]);
    rig.settle();
    (0..2).for_each(|_| handle.try_send(conn, large.clone()).unwrap());
    assert!(rig.cx().is_over_memory(), "and nobody is read meanwhile");
    talker.send(&frame(b"hi"));
    rig.reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(rig.stats().frames_in, 0);
    rig.settle();
    assert_eq!(reader.take().len(), 4 * 40_004);
    talker.take();
    rig.settle();
    assert_eq!(rig.stats().frames_in, 1, "read once there is room");
    assert!(rig.stats().buffered_bytes < 100_000 && handle.try_send(conn, large).is_ok());
}

#[test]
fn what_an_owned_message_holds_is_known_for_bytes_and_text() {
    let place = size_of::<Bytes>();
    assert_eq!(LengthPrefixed::owned_len(&Bytes::from_static(b"payload")), place + 7);
    let text = String::with_capacity(50);
    assert_eq!(crate::codec::Utf8::<LengthPrefixed>::owned_len(&text), size_of::<String>() + text.capacity());
}

/// Fills the queue with messages for `conn`, and sees to it that it is full again at the end of each turn: others push as
/// fast as the loop takes.
fn keep_full(cx: &mut Context<Recorder>, conn: ConnId, message: &Bytes) {
    let again = message.clone();
    let handle = cx.handle();
    handle.try_run(move |_, cx| keep_full(cx, conn, &again)).unwrap();
    while handle.try_send(conn, message.clone()).is_ok() {}
}

#[test]
fn commands_that_come_as_fast_as_they_are_taken_close_nobody_and_stop_no_reading() {
    let mut limits = Limits::default();
    limits.memory_limit = 100_000;
    let mut rig = rig_with(limits, echo);
    let (reader, talker) = (rig.client(), rig.client());
    reader.capacity(usize::MAX);
    let conn = rig.open()[0];
    keep_full(rig.cx(), conn, &Bytes::from(vec![1; 10_000]));
    for _ in 0..100 {
        talker.send(&frame(b"hi"));
        rig.world.advance(Duration::from_millis(50));
        rig.reactor.turn(Some(Duration::ZERO)).unwrap();
        reader.take();
    }
    assert_eq!(rig.closes(), [""; 0], "the queue holds the memory, and it moves");
    assert!(talker.take().len() >= 90 * 6, "read all the time");
}
