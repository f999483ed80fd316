//! Messages: whole, in order, once, however the bytes come.

use super::*;
use crate::codec::{Lines, Oversize};

#[test]
fn messages_arrive_whole_in_order_and_once_for_every_cut() {
    let messages: [&[u8]; 5] = [b"one", b"", b"three", &[7; 300], b"five"];
    let wire = frames(messages);
    for cut in 0..=wire.len() {
        let mut rig = echo_rig(Limits::default());
        let peer = rig.client();
        peer.send(&wire[..cut]);
        rig.settle();
        peer.send(&wire[cut..]);
        rig.settle();
        assert_eq!(rig.messages(), messages, "cut at {cut}");
        assert_eq!(peer.take(), wire);
        assert_eq!(rig.stats().buffered_bytes, 0, "nothing is held between messages");
    }
}

#[test]
fn one_byte_at_a_time_both_ways() {
    let mut rig = echo_rig(Limits::default());
    let peer = rig.client();
    peer.pieces(1, 1);
    let wire = frames([&b"hello"[..], b"", b"world"]);
    for byte in &wire {
        peer.send(&[*byte]);
        rig.settle();
    }
    assert_eq!(peer.take(), wire);
}

#[test]
fn an_empty_message_is_a_message() {
    let mut rig = echo_rig(Limits::default());
    let peer = rig.client();
    peer.send(&[0, 0, 0, 0]);
    rig.settle();
    assert_eq!(rig.messages(), [b""]);
    assert_eq!(peer.take(), [0, 0, 0, 0]);
    assert_eq!(rig.stats().open, 1);
}

#[test]
fn a_long_message_is_read_in_place_whatever_the_pieces() {
    let message: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
    let wire = frames([&message[..], b"after", &message[..70_000]]);
    for piece in [usize::MAX, 65_536, 10_000, 4_097] {
        let mut limits = Limits::default();
        limits.read_bytes_per_turn = 300_000;
        let mut rig = rig_with(limits, |_, _| {});
        let peer = rig.client();
        peer.pieces(piece, usize::MAX);
        peer.send(&wire);
        rig.settle();
        assert_eq!(rig.messages(), [&message[..], b"after", &message[..70_000]]);
        assert_eq!(rig.stats().buffered_bytes, 0);
    }
}

#[test]
fn data_and_the_end_in_one_event_are_both_seen() {
    // rust-lang/miri PR #5106: the short read cleared readiness, and the end was never read.
    let mut rig = echo_rig(Limits::default());
    let peer = rig.client();
    peer.send(&frame(b"last words"));
    peer.shut_down_writing();
    rig.settle();
    assert_eq!(peer.take(), frame(b"last words"));
    assert_eq!(rig.closes(), ["peer"]);
    assert!(peer.sees_end());
}

#[test]
fn the_end_inside_a_frame_says_so() {
    let truncated = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    struct Looks(std::sync::Arc<std::sync::Mutex<Vec<bool>>>);
    impl Handler for Looks {
        type Codec = LengthPrefixed;
        type Session = ();
        fn on_message(&mut self, _: &mut Context<Self>, _: ConnId, _: &[u8]) {}
        fn on_close(&mut self, _: &mut Context<Self>, _: ConnId, reason: CloseReason, (): ()) {
            self.0.lock().unwrap().push(matches!(reason, CloseReason::Peer { truncated: true }));
        }
    }
    for (bytes, expected) in
        [(&b"\0\0\0\x02hi"[..], false), (b"\0\0\0\x02h", true), (b"\0\0", true), (b"", false)]
    {
        let (world, mut reactor) =
            world_with(Looks(truncated.clone()), Limits::default(), LengthPrefixed::default());
        let peer = world.connect(0);
        peer.send(bytes);
        peer.shut_down_writing();
        for _ in 0..5 {
            reactor.turn(Some(Duration::ZERO)).unwrap();
        }
        assert_eq!(truncated.lock().unwrap().pop(), Some(expected), "{bytes:?}");
    }
}

#[test]
fn a_frame_too_long_ends_its_connection_after_the_replies_before_it() {
    let mut rig = echo_rig(Limits::default());
    let (bad, good) = (rig.client(), rig.client());
    let mut wire = frame(b"fine");
    wire.extend_from_slice(b"GET / HTTP/1.1\r\n");
    bad.send(&wire);
    good.send(&frame(b"still here"));
    rig.settle();
    assert_eq!(bad.take(), frame(b"fine"));
    assert!(bad.sees_end());
    assert_eq!(good.take(), frame(b"still here"));
    assert_eq!(rig.closes(), ["frame_too_long"]);
    assert_eq!(rig.stats().buffered_bytes, 0);
}

#[test]
fn the_last_word_on_a_bad_frame_goes_behind_the_replies_and_changes_no_reason() {
    let mut rig = rig(|cx, event| match event {
        Event::BadFrame(conn) => assert!(cx.send(*conn, b"what was that?").is_queued()),
        event => echo(cx, event),
    });
    let (peer, half) = (rig.client(), rig.client());
    let mut wire = frame(b"fine");
    wire.extend_from_slice(b"GET / HTTP/1.1\r\n");
    wire.extend_from_slice(&frame(b"not delivered"));
    peer.send(&wire);
    // An end inside a frame is no bad one.
    half.send(&[0, 0]);
    half.shut_down_writing();
    rig.settle();
    assert_eq!(peer.take(), frames([&b"fine"[..], b"what was that?"]));
    assert!(peer.sees_end());
    assert_eq!(half.take(), b"");
    let events = rig.events();
    let bad = events.iter().filter(|event| matches!(event, Event::BadFrame(_))).count();
    let reasons: Vec<_> =
        events.iter().filter_map(|e| if let Event::Close(_, why) = e { Some(*why) } else { None }).collect();
    assert_eq!((bad, reasons), (1, vec!["frame_too_long", "peer"]));
    assert_eq!(rig.stats().frames_in, 1);
    assert_eq!(rig.stats().buffered_bytes, 0);
}

#[test]
fn whatever_is_done_about_a_bad_frame_ends_its_connection_once() {
    type Deed = fn(&mut Context<Recorder>, ConnId);
    let deeds: [(Deed, &str); 5] = [
        (|cx, conn| assert!(cx.pause(conn)), "frame_too_long"),
        (|cx, conn| assert!(cx.set_codec(conn, LengthPrefixed::default())), "frame_too_long"),
        (|cx, conn| assert!(cx.end_output(conn)), "frame_too_long"),
        (|cx, conn| cx.close(conn), "local"),
        (|cx, conn| cx.abort(conn), "aborted"),
    ];
    for (deed, reason) in deeds {
        let mut rig = rig(move |cx, event| {
            if let Event::BadFrame(conn) = event {
                deed(cx, *conn);
            }
        });
        let peer = rig.client();
        peer.send(&[0xff; 20]);
        rig.settle();
        assert_eq!(rig.closes(), [reason]);
        assert_eq!(rig.stats().open, 0);
    }
}

#[test]
fn memory_follows_what_came_and_not_what_a_header_claims() {
    let mut rig = echo_rig(Limits::default());
    let peers: Vec<_> = (0..100).map(|_| rig.client()).collect();
    for peer in &peers {
        peer.send(&(100u32 << 20).to_be_bytes());
        peer.send(&[1; 100]);
    }
    rig.settle();
    assert!(rig.stats().buffered_bytes <= 100 * 1024, "{}", rig.stats().buffered_bytes);
    assert!(rig.messages().is_empty());
}

#[test]
fn a_long_line_is_not_read_byte_by_byte() {
    struct Longest(usize);
    impl Handler for Longest {
        type Codec = Lines;
        type Session = ();
        fn on_message(&mut self, _: &mut Context<Self>, _: ConnId, message: &[u8]) {
            self.0 = message.len();
        }
    }
    let (world, mut reactor) = world_with(Longest(0), Limits::default(), Lines::default());
    let peer = world.connect(0);
    for _ in 0..200 {
        peer.send(&[b'x'; 1_000]);
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    peer.send(b"\n");
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(reactor.handler().0, 200_000);
    assert!(peer.calls().0 < 450, "{} reads", peer.calls().0);
}

#[test]
fn an_oversized_frame_is_skipped_without_being_held() {
    let codec = LengthPrefixed::builder().max_frame(10).oversize(Oversize::Skip).build().unwrap();
    let mut rig = rig(move |cx, event| {
        if let Event::Open(conn) = event {
            cx.set_codec(*conn, codec.clone());
        }
    });
    let peer = rig.client();
    let wire = frames([&b"before"[..], &[9; 5_000], b"after"]);
    for piece in wire.chunks(700) {
        peer.send(piece);
        rig.settle();
        assert!(rig.stats().buffered_bytes < 2_000);
    }
    assert_eq!(rig.messages(), [&b"before"[..], b"after"]);
    assert_eq!(rig.stats().bytes_skipped, 5_004);
}

#[test]
fn a_flood_of_empty_messages_starves_nobody() {
    // libuv/libuv#2027
    let mut limits = Limits::default();
    limits.messages_per_turn = 100;
    let mut rig = echo_rig(limits);
    let (flood, quiet) = (rig.client(), rig.client());
    rig.events();
    flood.send(&vec![0; 4 * 16_384]);
    rig.reactor.turn(Some(Duration::ZERO)).unwrap();
    quiet.send(&frame(b"me too"));
    rig.reactor.turn(Some(Duration::ZERO)).unwrap();
    let quiet_at = rig.events().iter().position(|e| matches!(e, Event::Message(_, m) if !m.is_empty()));
    assert!(quiet_at.is_some_and(|at| at <= 200), "{quiet_at:?}");
    assert_eq!(rig.reactor.next_timeout(), Some(Duration::ZERO), "work is left over");
    rig.settle();
    assert_eq!(rig.stats().frames_in, 16_385);
    assert_eq!(flood.take().len(), 4 * 16_384);
}

#[test]
fn a_framing_can_change_between_two_messages_of_one_read() {
    // The handler below switches between two settings of one codec; an enum of codecs works the same way.
    let narrow = LengthPrefixed::builder().width(1).build().unwrap();
    let mut rig = rig(move |cx, event| {
        if let Event::Message(conn, message) = event {
            if message == b"switch" {
                assert!(cx.set_codec(*conn, narrow.clone()));
            }
            cx.send(*conn, message);
        }
    });
    let peer = rig.client();
    let mut wire = frames([&b"old"[..], b"switch"]);
    wire.extend_from_slice(b"\x03new\x05after");
    peer.send(&wire);
    rig.settle();
    assert_eq!(rig.messages(), [&b"old"[..], b"switch", b"new", b"after"]);
    let mut reply = frame(b"old");
    reply.extend_from_slice(b"\x06switch\x03new\x05after");
    assert_eq!(peer.take(), reply);
}

#[test]
fn a_last_line_without_its_end_is_delivered() {
    struct Collects(Vec<Vec<u8>>);
    impl Handler for Collects {
        type Codec = Lines;
        type Session = ();
        fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, message: &[u8]) {
            self.0.push(message.to_vec());
            cx.send(from, message);
        }
    }
    let (world, mut reactor) = world_with(Collects(Vec::new()), Limits::default(), Lines::default());
    let peer = world.connect(0);
    peer.send(b"first\r\nlast");
    peer.shut_down_writing();
    for _ in 0..5 {
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(reactor.handler().0, [&b"first"[..], b"last"]);
    assert_eq!(peer.take(), b"first\nlast\n");
    assert!(peer.sees_end());
}

#[test]
fn an_interrupted_call_is_made_again() {
    let mut rig = echo_rig(Limits::default());
    let peer = rig.client();
    peer.interrupt(3);
    peer.send(&frame(b"hi"));
    rig.settle();
    assert_eq!(peer.take(), frame(b"hi"));
    let conn = rig.open()[0];
    peer.interrupt(2);
    rig.cx().send(conn, &[1; 100_000]);
    rig.settle();
    assert!(!peer.take().is_empty());
    assert_eq!(rig.stats().open, 1);
}

#[test]
fn replies_to_one_read_go_out_in_one_write() {
    let mut rig = echo_rig(Limits::default());
    let peer = rig.client();
    let wire: Vec<u8> = (0..32u8).flat_map(|i| frame(&[i; 64])).collect();
    peer.send(&wire);
    rig.settle();
    assert_eq!(peer.take(), wire);
    assert_eq!(peer.calls(), (1, 1));
}
