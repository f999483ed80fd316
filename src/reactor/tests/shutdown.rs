//! Shutting down: in order, in time, and with a report.

use super::*;
use crate::net::mem::Dropped;
use crate::reactor::To;

fn shut_down(rig: &mut Rig) -> Flow {
    rig.cx().shutdown();
    rig.settle()
}

#[test]
fn idle_connections_end_at_once() {
    // hyperium/hyper#1885
    let mut rig = echo_rig(Limits::default());
    let peers: Vec<_> = (0..3).map(|_| rig.client()).collect();
    peers[0].send(&frame(b"long ago"));
    rig.settle();
    rig.pass(Duration::from_secs(1));
    assert_eq!(shut_down(&mut rig), Flow::Finished, "there is nothing that a reset could eat");
    assert!(peers.iter().all(Peer::sees_end));
    assert_eq!(rig.closes(), ["shutdown"; 3]);
    assert_eq!(rig.reactor.shutdown_report().drained, 3);
    assert!(rig.world.listener_is_closed(0));
}

#[test]
fn those_that_just_got_a_reply_linger_for_it() {
    let mut rig = echo_rig(Limits::default());
    let peer = rig.client();
    peer.send(&frame(b"just now"));
    rig.settle();
    rig.pass(Duration::from_millis(400));
    assert_eq!(shut_down(&mut rig), Flow::Continue);
    assert!(peer.sees_end());
    assert_eq!(rig.pass(Duration::from_millis(599)), Flow::Continue);
    assert_eq!(rig.pass(Duration::from_millis(1)), Flow::Finished);
}

#[test]
fn frames_that_were_whole_are_answered_and_what_is_queued_is_sent() {
    let mut rig = echo_rig(Limits::default());
    let peer = rig.client();
    peer.capacity(100);
    let mut wire = frame(&[1; 500]);
    wire.extend_from_slice(&frame(&[2; 500])[..200]);
    peer.send(&wire);
    rig.cx().shutdown();
    let mut got = Vec::new();
    for _ in 0..10 {
        rig.settle();
        got.extend(peer.take());
    }
    assert_eq!(got, frame(&[1; 500]));
    assert!(peer.sees_end());
    assert_eq!(rig.reactor.shutdown_report().drained, 1);
    assert_eq!(rig.reactor.shutdown_report().bytes_lost, 0);
}

#[test]
fn clients_in_the_accept_queue_are_served() {
    // benoitc/gunicorn PR #3612
    let mut rig = echo_rig(Limits::default());
    rig.settle();
    let peers: Vec<_> = (0..50)
        .map(|i| {
            let peer = rig.world.connect(0);
            peer.send(&frame(&[i]));
            peer
        })
        .collect();
    shut_down(&mut rig);
    for (i, peer) in peers.iter().enumerate() {
        assert_eq!(peer.take(), frame(&[i as u8]));
        assert!(peer.sees_end());
    }
}

#[test]
fn a_peer_that_never_reads_is_cut_at_the_deadline_and_reported() {
    let mut rig = echo_rig(Limits::default());
    let (stuck, idle) = (rig.client(), rig.client());
    stuck.capacity(100);
    stuck.send(&frame(&[1; 500]));
    shut_down(&mut rig);
    idle.shut_down_writing();
    assert_eq!(rig.settle(), Flow::Continue);
    assert_eq!(rig.pass(Duration::from_millis(4_999)), Flow::Continue);
    assert_eq!(rig.pass(Duration::from_millis(1)), Flow::Finished);
    let report = rig.reactor.shutdown_report();
    assert_eq!((report.drained, report.cut, report.bytes_lost), (1, 1, 404));
    assert_eq!(stuck.dropped(), Some(Dropped::ByReset));
}

#[test]
fn a_second_call_ends_at_once() {
    let mut rig = echo_rig(Limits::default());
    let peer = rig.client();
    peer.capacity(100);
    peer.send(&frame(&[1; 500]));
    assert_eq!(shut_down(&mut rig), Flow::Continue);
    assert_eq!(shut_down(&mut rig), Flow::Finished);
    assert_eq!(rig.reactor.shutdown_report().cut, 1);
}

#[test]
fn an_answer_owed_holds_the_shutdown_until_the_deadline() {
    let mut rig = rig(|cx, event| {
        if let Event::Message(conn, _) = event {
            cx.owe(*conn);
        }
    });
    let (answered, forgotten) = (rig.client(), rig.client());
    answered.send(&frame(b"a"));
    forgotten.send(&frame(b"b"));
    shut_down(&mut rig);
    let conn = rig.open()[0];
    let handle = rig.reactor.handle();
    handle
        .run(move |_, cx| {
            cx.send(conn, b"the answer");
            cx.paid(conn);
        })
        .unwrap();
    rig.settle();
    assert!(answered.take() == frame(b"the answer") || forgotten.take() == frame(b"the answer"));
    answered.shut_down_writing();
    forgotten.shut_down_writing();
    assert_eq!(rig.pass(Duration::from_secs(5)), Flow::Finished);
    let report = rig.reactor.shutdown_report();
    assert_eq!((report.drained, report.cut, report.bytes_lost), (1, 1, 0));
}

#[test]
fn handlers_can_say_goodbye_and_pending_dials_fail() {
    let mut rig = rig(|cx, event| {
        if *event == Event::Shutdown {
            cx.broadcast(To::All, b"bye");
        }
    });
    let peer = rig.client();
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Ip(held.local_addr().unwrap());
    let dial = rig.cx().connect(address.clone(), LengthPrefixed::default());
    rig.events();
    shut_down(&mut rig);
    assert_eq!(peer.take(), frame(b"bye"));
    assert!(rig.events().contains(&Event::DialFailed(dial)));
    let late = rig.cx().connect(address.clone(), LengthPrefixed::default());
    assert!(!rig.cx().is_open(late));
    assert!(rig.cx().listen(address, LengthPrefixed::default()).is_err());
    rig.settle();
    assert!(rig.events().is_empty());
}

#[test]
fn a_handler_that_redials_does_not_keep_the_shutdown_from_its_end() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Ip(held.local_addr().unwrap());
    let mut rig = rig(move |cx, event| {
        if let Event::DialFailed(_) | Event::Close(..) = event {
            cx.connect(address.clone(), LengthPrefixed::default());
        }
    });
    let _peer = rig.client();
    let address = Address::Ip(([127, 0, 0, 1], 1).into());
    rig.cx().connect(address, LengthPrefixed::default());
    assert_eq!(shut_down(&mut rig), Flow::Finished);
}

#[test]
fn a_thread_that_sends_after_the_end_gets_an_answer() {
    let mut limits = Limits::default();
    limits.commands_max = 1;
    let mut rig = rig_with(limits, |_, _| {});
    let handle = rig.reactor.handle();
    assert_eq!(shut_down(&mut rig), Flow::Finished);
    assert!(handle.run(|_, _| {}).is_err(), "though the reactor is still there");
}

#[test]
fn a_client_that_writes_before_it_reads_is_drained() {
    let mut rig = echo_rig(Limits::default());
    let peer = rig.client();
    peer.capacity(1_000);
    peer.send(&frame(&[1; 5_000]));
    rig.settle();
    shut_down(&mut rig);
    peer.send(&[9; 100_000]);
    rig.settle();
    assert_eq!(peer.unread(), 0, "it can go on to read");
    let mut got = Vec::new();
    for _ in 0..10 {
        got.extend(peer.take());
        rig.settle();
    }
    assert_eq!(got, frame(&[1; 5_000]));
}

#[test]
fn what_ended_before_the_drain_is_not_in_its_report() {
    let mut rig = echo_rig(Limits::default());
    let peer = rig.client();
    peer.capacity(10);
    let conn = rig.open()[0];
    rig.cx().send(conn, &[1; 30_000]);
    rig.settle();
    rig.cx().abort(conn);
    assert_eq!(shut_down(&mut rig), Flow::Finished);
    assert_eq!(rig.reactor.shutdown_report(), crate::ShutdownReport::default());
}

#[test]
fn a_shutdown_from_another_thread_needs_no_room_in_the_queue() {
    let mut limits = Limits::default();
    limits.commands_max = 1;
    let mut rig = rig_with(limits, |_, _| {});
    let handle = rig.reactor.handle();
    handle.try_run(|_, _| {}).unwrap();
    handle.shutdown();
    assert_eq!(rig.settle(), Flow::Finished);
}

#[test]
fn a_shutdown_before_the_first_turn_and_of_an_empty_reactor_ends() {
    let mut rig = rig(|_, _| {});
    assert_eq!(shut_down(&mut rig), Flow::Finished);
}
