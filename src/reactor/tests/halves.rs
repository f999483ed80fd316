//! The two sides of a connection end each for itself.

use super::*;
use crate::net::mem::Dropped;
use crate::{DropReason, Sent};

#[test]
fn the_end_of_our_output_goes_behind_what_is_queued_and_input_goes_on() {
    let mut rig = rig(|_, _| {});
    let peer = rig.client();
    peer.capacity(10);
    let conn = rig.open()[0];
    rig.cx().send(conn, &[7; 30]);
    assert!(rig.cx().end_output(conn));
    assert_eq!(rig.cx().send(conn, b"late"), Sent::Dropped(DropReason::Closing));
    assert!(!rig.cx().is_open(conn), "it takes nothing more");
    let mut got = Vec::new();
    for _ in 0..4 {
        assert!(!peer.sees_end(), "not before all of it was written");
        rig.settle();
        got.extend(peer.take());
    }
    assert_eq!(got, frame(&[7; 30]));
    assert!(peer.sees_end());
    peer.send(&frame(b"still here"));
    rig.settle();
    assert_eq!(rig.messages(), [b"still here"]);
    assert!(rig.cx().end_output(conn), "a second time changes nothing");
    peer.shut_down_writing();
    rig.settle();
    assert_eq!(rig.events(), [Event::HalfClose(conn), Event::Close(conn, "peer")]);
    assert_eq!(peer.dropped(), Some(Dropped::InOrder));
    assert!(!rig.cx().end_output(conn));
}

#[test]
fn an_output_without_anything_queued_ends_at_once() {
    let mut rig = rig(|cx, event| {
        if let Event::Open(conn) = event {
            cx.end_output(*conn);
        }
    });
    let peer = rig.client();
    assert!(peer.sees_end());
    assert_eq!(peer.dropped(), None);
    assert_eq!(rig.open().len(), 1);
}

#[test]
fn a_dial_ends_its_output_when_it_is_open() {
    for (queued, paused) in [(&b""[..], false), (b"request", false), (b"", true)] {
        let mut rig = rig(|_, _| {});
        let conn = rig.cx().connect("192.0.2.1:80", LengthPrefixed::default());
        if !queued.is_empty() {
            rig.cx().send(conn, queued);
        }
        assert!(rig.cx().end_output(conn));
        if paused {
            rig.cx().pause(conn);
        }
        rig.settle();
        let peer = rig.world.dialed("192.0.2.1:80");
        assert!(!peer.sees_end());
        peer.accepts();
        rig.settle();
        assert_eq!(peer.take(), if queued.is_empty() { Vec::new() } else { frame(queued) });
        assert!(peer.sees_end());
        rig.cx().resume(conn);
        peer.send(&frame(b"reply"));
        peer.shut_down_writing();
        rig.settle();
        let expected = [
            Event::Open(conn),
            Event::Message(conn, b"reply".to_vec()),
            Event::HalfClose(conn),
            Event::Close(conn, "peer"),
        ];
        assert_eq!(rig.events(), expected);
    }
}

#[test]
fn a_kept_connection_ends_when_its_output_has() {
    let mut rig = rig(|_, _| {});
    rig.keep_half_closed();
    let peer = rig.client();
    peer.capacity(10);
    let conn = rig.open()[0];
    peer.shut_down_writing();
    rig.settle();
    assert_eq!(rig.open(), [conn]);
    rig.cx().send(conn, &[1; 20]);
    rig.cx().end_output(conn);
    rig.settle();
    assert_eq!(rig.closes(), Vec::<&str>::new(), "it waits for what is queued");
    peer.take();
    rig.settle();
    peer.take();
    rig.settle();
    assert_eq!(peer.take(), [1; 4]);
    assert_eq!(rig.closes(), ["peer"]);
    assert_eq!(peer.dropped(), Some(Dropped::InOrder));
}

#[test]
fn both_sides_ended_while_paused_is_no_reset_and_loses_nothing() {
    let mut rig = rig(|_, _| {});
    rig.keep_half_closed();
    let peer = rig.client();
    let conn = rig.open()[0];
    rig.cx().end_output(conn);
    rig.cx().pause(conn);
    rig.settle();
    peer.send(&frame(b"last words"));
    peer.shut_down_writing();
    // As the system tells it when both sides are shut.
    let source = peer.source().unwrap();
    let all = crate::net::Readiness::READABLE.and(crate::net::Readiness::READ_CLOSED);
    rig.world.inject(source, all.and(crate::net::Readiness::WRITE_CLOSED));
    rig.settle();
    assert_eq!(rig.events(), [Event::Open(conn)]);
    rig.cx().resume(conn);
    rig.settle();
    let expected =
        [Event::Message(conn, b"last words".to_vec()), Event::HalfClose(conn), Event::Close(conn, "peer")];
    assert_eq!(rig.events(), expected);
}

#[test]
fn a_reset_is_noticed_after_our_output_has_ended() {
    for paused in [false, true] {
        let mut rig = rig(|_, _| {});
        let peer = rig.client();
        let conn = rig.open()[0];
        rig.cx().end_output(conn);
        if paused {
            rig.cx().pause(conn);
        }
        rig.settle();
        peer.reset();
        rig.settle();
        assert_eq!(rig.closes(), ["reset"], "paused: {paused}");
    }
}

#[test]
fn a_broadcast_leaves_out_those_whose_output_has_ended() {
    let mut rig = rig(|_, _| {});
    let peers = [rig.client(), rig.client(), rig.client()];
    let ended = rig.open()[1];
    rig.cx().broadcast(crate::To::All, b"one");
    rig.cx().end_output(ended);
    for _ in 0..3 {
        let result = rig.cx().broadcast(crate::To::All, b"two");
        assert_eq!((result.queued, result.dropped), (2, 1));
    }
    rig.settle();
    let lens = peers.map(|peer| peer.take().len());
    let mut sorted = lens;
    sorted.sort_unstable();
    assert_eq!(sorted, [7, 28, 28]);
}

#[test]
fn an_end_inside_a_frame_is_no_clean_end_because_ours_came_after_it() {
    /// When our output is ended: before the peer's end, with it, or after it.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum When {
        Before,
        With,
        After,
    }
    struct Ends(When, Vec<CloseReason>);
    impl Handler for Ends {
        type Codec = LengthPrefixed;
        type Session = ();
        fn on_open(&mut self, cx: &mut Context<Self>, conn: ConnId) {
            if self.0 == When::Before {
                cx.end_output(conn);
            }
        }
        fn on_message(&mut self, _: &mut Context<Self>, _: ConnId, _: &[u8]) {}
        fn on_half_close(&mut self, cx: &mut Context<Self>, conn: ConnId) -> HalfClose {
            if self.0 == When::With {
                cx.end_output(conn);
            }
            HalfClose::Keep
        }
        fn on_close(&mut self, _: &mut Context<Self>, _: ConnId, reason: CloseReason, (): ()) {
            self.1.push(reason);
        }
    }
    for when in [When::Before, When::With, When::After] {
        for (bytes, cut) in [(&b"\0\0\0\x02hi"[..], false), (b"\0\0\0\x02h", true)] {
            let handler = Ends(when, Vec::new());
            let (world, mut reactor) = world_with(handler, Limits::default(), LengthPrefixed::default());
            let peer = world.connect(0);
            peer.send(bytes);
            peer.shut_down_writing();
            let turns = |reactor: &mut crate::Reactor<Ends>| {
                for _ in 0..5 {
                    reactor.turn(Some(Duration::ZERO)).unwrap();
                }
            };
            turns(&mut reactor);
            if when == When::After {
                let conn = reactor.context().connections()[0];
                reactor.context().end_output(conn);
                turns(&mut reactor);
            }
            let told = &reactor.handler().1;
            let as_it_was =
                |reason: &CloseReason| matches!(reason, CloseReason::Peer { truncated } if *truncated == cut);
            assert!(told.len() == 1 && told.iter().all(as_it_was), "{when:?}, cut {cut}: {told:?}");
        }
    }
}

#[test]
fn no_message_is_being_handed_over_in_on_half_close() {
    let (tell, told) = std::sync::mpsc::channel();
    let mut rig = rig(move |cx, event| match event {
        Event::Message(conn, _) | Event::HalfClose(conn) => tell.send(cx.message_len(*conn)).unwrap(),
        _ => {}
    });
    let peer = rig.client();
    peer.send(&frame(b"last words"));
    peer.shut_down_writing();
    rig.settle();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [14, 0], "a job of it counts for nothing");
}
