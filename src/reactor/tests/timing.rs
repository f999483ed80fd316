//! Timers and deadlines, on a clock that only moves when told to.

use super::*;
use std::sync::{Arc, Mutex};

const SECOND: Duration = Duration::from_secs(1);

fn timer_keys(rig: &mut Rig) -> Vec<u64> {
    let key = |event| match event {
        Event::Timer(key) => Some(key),
        _ => None,
    };
    rig.events().into_iter().filter_map(key).collect()
}

#[test]
fn timers_fire_in_order_and_never_early() {
    let mut rig = rig(|_, _| {});
    let cx = rig.cx();
    cx.after(SECOND * 3, 3);
    cx.after(SECOND, 1);
    cx.after(SECOND * 2, 2);
    cx.after(SECOND, 11);
    rig.pass(SECOND - Duration::from_nanos(1));
    assert!(timer_keys(&mut rig).is_empty());
    rig.pass(Duration::from_nanos(1));
    assert_eq!(timer_keys(&mut rig), [1, 11]);
    rig.pass(SECOND * 10);
    assert_eq!(timer_keys(&mut rig), [2, 3]);
    assert_eq!(rig.cx().timers.len(), 0);
}

#[test]
fn a_timer_cancelled_by_another_of_the_same_batch_does_not_fire() {
    // chenshuo/muduo#668
    let victim = Arc::new(Mutex::new(None));
    let named = Arc::clone(&victim);
    let mut rig = rig(move |cx, event| {
        if *event == Event::Timer(1) {
            assert!(cx.cancel(named.lock().unwrap().unwrap()));
        }
    });
    rig.cx().after(SECOND, 1);
    *victim.lock().unwrap() = Some(rig.cx().after(SECOND, 2));
    rig.pass(SECOND);
    assert_eq!(timer_keys(&mut rig), [1]);
    let gone = victim.lock().unwrap().unwrap();
    assert!(!rig.cx().cancel(gone));
}

#[test]
fn a_timer_set_by_a_timer_waits_for_the_next_turn() {
    let mut rig = rig(|cx, event| {
        if let Event::Timer(key) = event {
            if *key < 5 {
                cx.after(Duration::ZERO, key + 1);
            }
        }
    });
    rig.cx().after(Duration::ZERO, 0);
    rig.reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(timer_keys(&mut rig), [0]);
    rig.settle_timers();
    assert_eq!(timer_keys(&mut rig), [1, 2, 3, 4, 5]);
}

#[test]
fn a_repeating_timer_keeps_its_beat_and_can_be_cancelled() {
    let mut rig = rig(|_, _| {});
    let timer = rig.cx().every(SECOND, 9);
    for _ in 0..3 {
        rig.pass(SECOND);
    }
    assert_eq!(timer_keys(&mut rig), [9, 9, 9]);
    rig.pass(SECOND * 10 + Duration::from_millis(300));
    assert_eq!(timer_keys(&mut rig), [9], "no burst for those that were missed");
    rig.pass(Duration::from_millis(700));
    assert_eq!(timer_keys(&mut rig), [9]);
    assert!(rig.cx().cancel(timer));
    rig.pass(SECOND * 10);
    assert!(timer_keys(&mut rig).is_empty());
}

#[test]
fn huge_and_zero_delays_are_what_they_say() {
    // joyent/libuv PR #779, nodejs/node#4541
    let mut rig = rig(|_, _| {});
    rig.cx().after(Duration::MAX, 1);
    rig.cx().every(Duration::ZERO, 2);
    rig.reactor.turn(Some(Duration::ZERO)).unwrap();
    let wait = rig.reactor.next_timeout().unwrap();
    assert!(
        wait > Duration::ZERO && wait <= Duration::from_millis(1),
        "a period of zero does not spin: {wait:?}"
    );
    rig.pass(Duration::from_secs(3600 * 24 * 365));
    assert_eq!(timer_keys(&mut rig), [2]);
}

#[test]
fn a_connections_timers_die_with_it() {
    let mut rig = rig(|_, _| {});
    let peer = rig.client();
    let conn = rig.open()[0];
    rig.cx().after_for(conn, SECOND, 1).unwrap();
    rig.cx().every_for(conn, SECOND, 2).unwrap();
    rig.pass(SECOND);
    assert_eq!(timer_keys(&mut rig), [1, 2]);
    peer.reset();
    rig.settle();
    rig.pass(SECOND * 10);
    assert!(timer_keys(&mut rig).is_empty());
    assert_eq!(rig.cx().timers.len(), 0);
}

fn idle_rig() -> Rig {
    let mut limits = Limits::default();
    limits.idle_timeout = Some(SECOND);
    echo_rig(limits)
}

#[test]
fn silence_closes_and_every_byte_counts() {
    let mut rig = idle_rig();
    let (quiet, drip) = (rig.client(), rig.client());
    let wire = frame(&[1; 100]);
    for byte in &wire[..10] {
        rig.pass(Duration::from_millis(500));
        drip.send(&[*byte]);
        rig.settle();
    }
    assert_eq!(rig.closes(), ["idle_timeout"]);
    assert!(quiet.sees_end() && !drip.sees_end());
    rig.pass(Duration::from_millis(999));
    assert!(!drip.sees_end());
    rig.pass(Duration::from_millis(1));
    assert!(drip.sees_end());
}

#[test]
fn a_transfer_that_moves_is_not_idle() {
    // netty/netty#6150
    let mut rig = idle_rig();
    let peer = rig.client();
    peer.capacity(1_000);
    peer.send(&frame(&[1; 20_000]));
    let mut got = 0;
    for _ in 0..30 {
        rig.settle();
        got += peer.take().len();
        rig.pass(Duration::from_millis(700));
    }
    assert_eq!(got, 20_004);
}

#[test]
fn a_peer_that_takes_nothing_is_idle_whatever_waits_for_it() {
    let mut rig = idle_rig();
    let peer = rig.client();
    peer.capacity(1_000);
    peer.send(&frame(&[1; 20_000]));
    rig.settle();
    rig.pass(SECOND);
    assert_eq!(rig.closes(), ["idle_timeout"]);
}

#[test]
fn a_peer_that_takes_something_without_an_event_is_not_cut() {
    // Linux tells of room when a third of a buffer of megabytes is free: a slow reader takes ten seconds for that.
    #[expect(clippy::type_complexity, reason = "a table of this test alone")]
    let deadlines: [(fn(&mut Limits), bool); 3] = [
        (|limits| limits.idle_timeout = Some(SECOND), false),
        (|limits| limits.write_timeout = Some(SECOND), false),
        (|limits| limits.close_timeout = SECOND, true),
    ];
    for (sets, half_closed) in deadlines {
        let mut limits = Limits::default();
        sets(&mut limits);
        let mut rig = echo_rig(limits);
        let peer = rig.client();
        peer.capacity(100);
        peer.send(&frame(&[1; 2_000]));
        if half_closed {
            peer.shut_down_writing();
        }
        rig.settle();
        for taken in 2..10 {
            // Room, and no event.
            peer.capacity(100 * taken);
            rig.pass(SECOND * 9 / 10);
        }
        assert_eq!(rig.stats().open, 1);
        rig.pass(SECOND);
        rig.pass(SECOND);
        assert_eq!(rig.stats().open, 0, "it takes nothing any more");
        assert_eq!(peer.dropped(), Some(crate::net::mem::Dropped::ByReset));
    }
}

#[test]
fn a_reset_that_a_deadline_is_the_first_to_see_is_a_reset() {
    let mut rig = idle_rig();
    let peer = rig.client();
    peer.capacity(100);
    peer.send(&frame(&[1; 2_000]));
    rig.settle();
    peer.reset_quietly();
    rig.pass(SECOND);
    assert_eq!(rig.closes(), ["reset"]);
    // Free memory is looked after for a moment.
    for _ in 0..5 {
        rig.pass(SECOND);
    }
    assert_eq!(rig.cx().timers.len(), 0);
}

#[test]
fn idleness_stands_still_while_it_is_we_who_do_not_read() {
    let mut rig = idle_rig();
    let peer = rig.client();
    let conn = rig.open()[0];
    rig.cx().pause(conn);
    for _ in 0..10 {
        rig.pass(SECOND);
    }
    assert_eq!(rig.stats().open, 1);
    rig.cx().resume(conn);
    rig.settle();
    rig.pass(SECOND);
    rig.pass(SECOND);
    assert_eq!(rig.closes(), ["idle_timeout"]);
    drop(peer);
}

#[test]
fn idleness_begins_anew_after_a_pause() {
    let mut rig = idle_rig();
    let _peer = rig.client();
    let conn = rig.open()[0];
    rig.cx().pause(conn);
    rig.pass(SECOND * 9 + Duration::from_millis(900));
    rig.cx().resume(conn);
    rig.pass(Duration::from_millis(900));
    assert_eq!(rig.stats().open, 1);
    rig.pass(SECOND);
    assert_eq!(rig.closes(), ["idle_timeout"]);
}

#[test]
fn who_waits_for_our_answer_is_not_idle() {
    let mut limits = Limits::default();
    limits.idle_timeout = Some(SECOND);
    let mut rig = rig_with(limits, |cx, event| {
        if let Event::Message(conn, _) = event {
            cx.owe(*conn);
        }
    });
    let peer = rig.client();
    peer.send(&frame(b"question"));
    peer.shut_down_writing();
    for _ in 0..10 {
        rig.pass(SECOND);
    }
    let conn = rig.open()[0];
    rig.cx().send(conn, b"answer");
    rig.cx().paid(conn);
    rig.settle();
    assert_eq!(peer.take(), frame(b"answer"));
    assert_eq!(rig.closes(), ["peer"]);
}

#[test]
fn one_that_floods_does_not_suspend_the_deadlines_of_others() {
    let mut limits = Limits::default();
    (limits.idle_timeout, limits.messages_per_turn) = (Some(SECOND), 1);
    let mut rig = rig_with(limits, |_, _| {});
    let (flood, quiet) = (rig.client(), rig.client());
    flood.send(&vec![0; 4_000]);
    rig.reactor.turn(Some(Duration::ZERO)).unwrap();
    rig.world.advance(SECOND);
    for _ in 0..3 {
        rig.reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    assert!(quiet.sees_end());
    assert!(!flood.sees_end(), "its own messages are not delivered yet");
}

#[test]
fn time_that_passed_between_turns_does_not_make_a_timer_early() {
    let mut rig = rig(|_, _| {});
    rig.settle();
    rig.world.advance(SECOND * 5);
    rig.cx().after(SECOND * 3, 1);
    rig.settle();
    assert!(timer_keys(&mut rig).is_empty());
}

#[test]
fn a_frame_has_to_be_finished_in_time_however_it_drips() {
    // SpigotMC/BungeeCord#3066: bytes kept a half frame alive.
    let mut limits = Limits::default();
    limits.frame_timeout = Some(SECOND * 10);
    let mut rig = rig_with(limits, echo);
    let (drip, steady) = (rig.client(), rig.client());
    let wire = frame(&[1; 100]);
    steady.send(&wire[..50]);
    for second in 0..=10 {
        drip.send(&wire[second..=second]);
        rig.pass(SECOND);
        // Each frame of this one is finished in time, and the next begun at once.
        steady.send(&wire[50..]);
        steady.send(&wire[..50]);
    }
    assert_eq!(rig.closes(), ["frame_timeout"]);
    assert!(drip.sees_end() && !steady.sees_end());
    rig.settle();
    rig.pass(SECOND * 10);
    assert_eq!(rig.closes(), ["frame_timeout"]);
}

#[test]
fn the_first_message_has_to_come_in_time() {
    let mut limits = Limits::default();
    limits.first_message_timeout = Some(SECOND * 5);
    let mut rig = rig_with(limits, echo);
    let (silent, drip, speaks) = (rig.client(), rig.client(), rig.client());
    speaks.send(&frame(b"hello"));
    for byte in frame(b"too slow").into_iter().take(5) {
        drip.send(&[byte]);
        rig.pass(SECOND);
    }
    assert_eq!(rig.closes(), ["first_message_timeout", "first_message_timeout"]);
    assert!(silent.sees_end() && drip.sees_end() && !speaks.sees_end());
    rig.pass(SECOND * 100);
    assert!(!speaks.sees_end());
}

#[test]
fn an_outbox_has_to_move() {
    let mut limits = Limits::default();
    limits.write_timeout = Some(SECOND * 5);
    let mut rig = rig_with(limits, echo);
    let (stuck, slow, quick) = (rig.client(), rig.client(), rig.client());
    for peer in [&stuck, &slow] {
        peer.capacity(100);
        peer.send(&frame(&[1; 2_000]));
    }
    quick.send(&frame(b"hi"));
    for _ in 0..20 {
        rig.pass(SECOND * 4);
        slow.take();
        rig.settle();
    }
    assert_eq!(rig.closes(), ["write_timeout"]);
    assert_eq!(stuck.dropped(), Some(crate::net::mem::Dropped::ByReset));
    assert_eq!(rig.stats().open, 2);
}

#[test]
fn a_peer_that_vanished_while_it_was_not_read_does_not_stay_for_ever() {
    // netty/netty PR #5098: by default, without a line from the user.
    let mut rig = echo_rig(Limits::default());
    let peer = rig.client();
    peer.capacity(100);
    peer.send(&frame(&[1; 2_000]));
    rig.settle();
    rig.pass(Duration::from_secs(599));
    assert_eq!(rig.stats().open, 1);
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.closes(), ["write_timeout"]);
}

#[test]
fn what_a_timer_sends_is_held_to_the_write_limit() {
    let mut limits = Limits::default();
    limits.write_limit = 100_000;
    let mut rig = rig_with(limits, |cx, event| match event {
        Event::Open(conn) => drop(cx.every_for(*conn, SECOND, 1)),
        Event::Timer(_) => {
            for conn in cx.connections().to_vec() {
                cx.send(conn, &[1; 30_000]);
            }
        }
        _ => {}
    });
    let peer = rig.client();
    peer.capacity(10);
    for _ in 0..10 {
        rig.pass(SECOND);
    }
    assert_eq!(rig.closes(), ["slow_consumer"]);
}

#[test]
fn a_loop_that_was_held_up_does_not_time_out_those_whose_bytes_wait() {
    let mut rig = idle_rig();
    let peer = rig.client();
    rig.world.advance(SECOND * 5);
    peer.send(&frame(b"in time"));
    rig.settle();
    assert_eq!(peer.take(), frame(b"in time"));
    assert_eq!(rig.stats().open, 1);
}

#[test]
fn a_dial_that_is_cancelled_gives_exactly_one_answer() {
    let mut rig = rig(|_, _| {});
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Ip(held.local_addr().unwrap());
    let conn = rig.cx().connect(address.clone(), LengthPrefixed::default());
    assert!(rig.cx().send(conn, b"queued").is_queued());
    rig.cx().close(conn);
    rig.cx().abort(conn);
    rig.settle();
    assert_eq!(rig.events(), [Event::DialFailed(conn)]);
    // This world tells nothing of real sockets, so that this one never gets an answer.
    let conn = rig.cx().connect(address, LengthPrefixed::default());
    rig.pass(Duration::from_secs(10));
    assert_eq!(rig.events(), [Event::DialFailed(conn)]);
    assert_eq!(rig.stats().dials_failed, 2);
    rig.pass(SECOND * 2); // free buffers are looked over
    rig.pass(SECOND * 2);
    assert_eq!(rig.cx().timers.len(), 0);
}

impl Rig {
    /// Settles, timers that are due at once included.
    fn settle_timers(&mut self) {
        for _ in 0..20 {
            self.reactor.turn(Some(Duration::ZERO)).unwrap();
        }
    }
}
