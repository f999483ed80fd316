//! Clients on their way in.

use super::*;
use crate::net::mem::Dropped;
use std::io;

fn no_descriptors() -> io::Error {
    io::Error::from_raw_os_error(if cfg!(windows) { 10_024 } else { 24 })
}

#[test]
fn no_descriptors_pause_the_listener_which_recovers_by_itself() {
    // nanomsg/nanomsg#152, joyent/libuv#690
    let mut rig = rig(|_, _| {});
    rig.world.fail_accept(0, no_descriptors());
    let waiting = rig.world.connect(0);
    rig.settle();
    assert_eq!(rig.stats().accepted, 0);
    assert_eq!(rig.stats().accept_errors, 1);
    let sleeps = rig.world.sleeps();
    assert!(rig.reactor.next_timeout().is_some_and(|t| !t.is_zero()), "it comes back, and does not spin");
    rig.pass(Duration::from_millis(10));
    assert_eq!(rig.stats().accepted, 1, "without a further event");
    assert_eq!(rig.world.sleeps(), sleeps);
    drop(waiting);
}

#[test]
fn pauses_grow_while_the_lack_lasts() {
    let mut rig = rig(|_, _| {});
    // One, then for each pause one of the listener and one of the reserve.
    for _ in 0..21 {
        rig.world.fail_accept(0, no_descriptors());
    }
    let waiting = rig.world.connect(0);
    rig.settle();
    let mut attempts = Vec::new();
    for _ in 0..1_000 {
        rig.pass(Duration::from_millis(10));
        attempts.push(rig.stats().accept_errors);
    }
    assert!(*attempts.last().unwrap() < 25, "{attempts:?}");
    rig.pass(Duration::from_secs(15));
    for _ in 0..20 {
        rig.pass(Duration::from_secs(1));
    }
    assert_eq!(rig.stats().accepted, 1);
    drop(waiting);
}

#[test]
fn who_has_waited_for_a_whole_pause_is_turned_away() {
    let mut rig = rig(|_, _| {});
    rig.world.fail_accept(0, no_descriptors());
    let waiting: Vec<_> = (0..3).map(|_| rig.world.connect(0)).collect();
    rig.settle();
    assert_eq!(rig.stats().refused, 0, "a short lack costs nobody");
    rig.world.fail_accept(0, no_descriptors());
    rig.pass(Duration::from_millis(10));
    assert_eq!((rig.stats().refused, rig.stats().accepted), (3, 0));
    assert!(waiting.iter().all(|peer| peer.dropped().is_some()));
    let overloads = |rig: &mut Rig| rig.events().iter().filter(|e| **e == Event::Overload).count();
    assert_eq!(overloads(&mut rig), 1);
    // The episode ends with a queue that was seen empty; the next lack is another one.
    rig.pass(Duration::from_secs(1));
    let next = rig.client();
    assert_eq!(rig.stats().accepted, 1);
    rig.world.fail_accept(0, no_descriptors());
    let another = rig.client();
    assert_eq!(overloads(&mut rig), 1);
    drop((next, another));
}

#[test]
fn lingering_sockets_make_room_for_clients() {
    let mut rig = echo_rig(Limits::default());
    let peer = rig.lingering();
    rig.world.fail_accept(0, no_descriptors());
    let client = rig.client();
    assert!(peer.dropped().is_some());
    assert_eq!(rig.stats().accepted, 2, "without a pause");
    drop(client);
}

#[test]
fn clients_that_keep_coming_do_not_make_a_paused_listener_try() {
    let mut rig = rig(|_, _| {});
    for _ in 0..1_000 {
        rig.world.fail_accept(0, no_descriptors());
        rig.settle();
    }
    assert_eq!(rig.stats().accept_errors, 1);
}

#[test]
fn a_close_ends_the_pause() {
    let mut rig = rig(|_, _| {});
    let first = rig.client();
    rig.world.fail_accept(0, no_descriptors());
    let second = rig.world.connect(0);
    rig.settle();
    assert_eq!(rig.stats().open, 1);
    first.reset();
    rig.settle();
    assert_eq!(rig.stats().accepted, 2, "no time has passed");
    drop(second);
}

#[test]
fn a_client_that_died_in_the_queue_costs_nobody_else() {
    let mut rig = rig(|_, _| {});
    rig.world.fail_accept(0, io::ErrorKind::ConnectionAborted.into());
    rig.world.fail_accept(0, io::ErrorKind::Interrupted.into());
    let peer = rig.client();
    assert_eq!(rig.stats().accepted, 1);
    assert_eq!(rig.stats().accept_errors, 1, "a signal is no error");
    drop(peer);
}

#[test]
fn accepts_of_one_turn_are_bounded_and_none_is_forgotten() {
    let mut limits = Limits::default();
    limits.accepts_per_turn = 3;
    let mut rig = rig_with(limits, |_, _| {});
    let peers: Vec<_> = (0..10).map(|_| rig.world.connect(0)).collect();
    rig.reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(rig.stats().accepted, 3);
    rig.settle();
    assert_eq!(rig.stats().accepted, 10);
    drop(peers);
}

#[test]
fn past_the_maximum_clients_are_closed_at_once() {
    let mut limits = Limits::default();
    limits.connections_max = Some(2);
    let mut rig = rig_with(limits, |_, _| {});
    let (a, b, c) = (rig.client(), rig.client(), rig.client());
    assert_eq!(c.dropped(), Some(Dropped::InOrder));
    assert_eq!((rig.stats().open, rig.stats().refused), (2, 1));
    a.reset();
    rig.settle();
    let d = rig.client();
    assert_eq!(d.dropped(), None);
    drop(b);
}

#[test]
fn each_listener_and_each_source_has_its_own_maximum() {
    let mut limits = Limits::default();
    limits.connections_per_source = Some(3);
    let mut rig = rig_with(limits, |_, _| {});
    rig.listen(Some(1));
    let narrow = [rig.world.connect(1), rig.world.connect(1)];
    rig.settle();
    assert_eq!((rig.stats().open, rig.stats().refused), (1, 1));
    let wide: Vec<_> = (0..3).map(|_| rig.world.connect(0)).collect();
    rig.settle();
    assert_eq!((rig.stats().open, rig.stats().refused), (3, 2), "all come from one address");
    narrow[0].reset();
    wide[0].reset();
    rig.settle();
    let again = [rig.world.connect(1), rig.world.connect(0)];
    rig.settle();
    assert_eq!((rig.stats().open, rig.stats().refused), (3, 2), "places come free again");
    for peer in narrow.iter().chain(&wide).chain(&again) {
        peer.reset();
    }
    rig.settle();
    assert!(rig.cx().sources.is_empty());
}

#[test]
fn a_handler_can_refuse_by_address() {
    let mut rig = rig(|_, _| {});
    rig.reactor.handler_mut().admit = Admission::Refuse;
    let peer = rig.client();
    assert_eq!(peer.dropped(), Some(Dropped::InOrder));
    assert_eq!((rig.stats().accepted, rig.stats().refused), (0, 1));
    assert!(rig.events().is_empty());
}

#[test]
fn listeners_come_and_go_while_running() {
    let mut rig = rig(|_, _| {});
    let second = rig.listen(None);
    let peer = rig.world.connect(1);
    rig.settle();
    let conn = rig.open()[0];
    assert_eq!(rig.cx().listener_of(conn), Some(second));
    assert!(rig.cx().unlisten(second));
    assert!(!rig.cx().unlisten(second));
    assert!(rig.world.listener_is_closed(1));
    peer.send(&frame(b"its connections stay"));
    rig.settle();
    assert_eq!(rig.messages().len(), 1);
}

#[test]
fn a_listener_may_be_ended_from_the_callback_of_its_own_client() {
    let mut rig = rig(|cx, event| {
        if let Event::Open(conn) = event {
            if let Some(listener) = cx.listener_of(*conn) {
                cx.unlisten(listener);
            }
        }
    });
    let peers = [rig.world.connect(0), rig.world.connect(0)];
    rig.settle();
    assert_eq!(rig.stats().accepted, 1);
    drop(peers);
}

#[test]
fn an_adopted_stream_that_is_closed_before_it_opens_is_told_of() {
    let mut rig = echo_rig(Limits::default());
    let peer = rig.world.link();
    let conn = rig.cx().adopt_stream(peer.stream(), LengthPrefixed::default()).unwrap();
    rig.cx().close(conn);
    rig.settle();
    assert_eq!(rig.events(), [Event::DialFailed(conn)]);
    assert!(peer.dropped().is_some());
}

#[test]
fn an_error_of_accept_that_does_not_pass_does_not_spin() {
    let mut limits = Limits::default();
    limits.accepts_per_turn = 4;
    let mut rig = rig_with(limits, |_, _| {});
    for _ in 0..1_000 {
        rig.world.fail_accept(0, io::ErrorKind::ConnectionAborted.into());
    }
    rig.settle();
    assert_eq!(rig.stats().accept_errors, 4);
    assert!(rig.reactor.next_timeout().is_some_and(|t| !t.is_zero()));
}

#[test]
fn an_adopted_stream_is_opened_outside_of_the_call() {
    let mut rig = echo_rig(Limits::default());
    let peer = rig.world.link();
    let conn = rig.cx().adopt_stream(peer.stream(), LengthPrefixed::default()).unwrap();
    assert!(rig.events().is_empty(), "never from inside the call");
    assert!(rig.cx().send(conn, b"early").is_queued());
    peer.send(&frame(b"hi"));
    rig.settle();
    assert_eq!(rig.events()[0], Event::Open(conn));
    assert_eq!(peer.take(), frames([&b"early"[..], b"hi"]));
    assert_eq!(rig.stats().accepted, 1);
}
