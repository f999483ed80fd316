//! Panics of the handler and of its codec, and callbacks that hold the loop.

use super::*;
use crate::codec::{Codec, EncodeError, FrameError, Output, Scan};
use crate::net::Source;
use crate::reactor::{Callback, OnPanic, To};
use crate::{Error, ListenerId};
use bytes::Bytes;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

/// Frames with a 4-byte length; the message `encoder` panics in the middle of its encoding.
#[derive(Debug, Default)]
struct Brittle {
    inner: LengthPrefixed,
    drop_panics: Option<&'static AtomicBool>,
    clone_panics: Option<&'static AtomicBool>,
}

impl Clone for Brittle {
    fn clone(&self) -> Brittle {
        if self.clone_panics.is_some_and(|flag| flag.swap(false, Ordering::Relaxed)) {
            panic!("a codec's clone");
        }
        Brittle { inner: self.inner.clone(), ..*self }
    }
}

impl Drop for Brittle {
    fn drop(&mut self) {
        if self.drop_panics.is_some_and(|flag| flag.swap(false, Ordering::Relaxed)) {
            panic!("a codec's drop");
        }
    }
}

impl Codec for Brittle {
    type Message<'a> = &'a [u8];
    type Outgoing<'a> = &'a [u8];
    type Owned = Bytes;
    fn lend(owned: &Bytes) -> &[u8] {
        owned
    }
    fn scan(&mut self, input: &[u8]) -> Result<Scan, FrameError> {
        self.inner.scan(input)
    }
    fn parse<'a>(&mut self, frame: &'a mut [u8]) -> Result<&'a [u8], FrameError> {
        self.inner.parse(frame)
    }
    fn encode<'m>(&mut self, message: &'m [u8], out: &mut Output<'_, 'm>) -> Result<(), EncodeError> {
        if message == b"encoder" {
            out.put(b"half a frame");
            panic!("an encoder");
        }
        self.inner.encode(message, out)
    }
    fn same_encoding(&self, _: &Brittle) -> bool {
        true
    }
}

/// Does what the first byte of a message says.
#[derive(Debug, Default)]
struct Panicky {
    closed: Vec<&'static str>,
    panic_in: &'static str,
}

impl Panicky {
    fn at(&self, place: &str) {
        assert!(self.panic_in != place, "a panic in {place}");
    }
}

impl Handler for Panicky {
    type Codec = Brittle;
    type Session = ();

    fn on_start(&mut self, _: &mut Context<Self>) {
        self.at("start");
    }
    fn on_accept(&mut self, _: &mut Context<Self>, _: &Address, _: ListenerId) -> Admission {
        self.at("accept");
        Admission::Admit
    }
    fn on_open(&mut self, _: &mut Context<Self>, _: ConnId) {
        self.at("open");
    }
    fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, message: &[u8]) {
        self.at("message");
        match message {
            b"boom" => panic!("a message"),
            b"others" => {
                cx.broadcast(To::AllBut(from), b"first");
                cx.broadcast(To::AllBut(from), b"encoder");
            }
            b"group" => {
                cx.broadcast(To::Group(7), b"encoder");
            }
            b"join" => {
                cx.join(from, 7);
            }
            b"timer" => {
                cx.after(Duration::ZERO, 1);
            }
            b"own timer" => {
                cx.after_for(from, Duration::ZERO, 1);
            }
            b"shutdown" => cx.shutdown(),
            b"to each" => {
                for conn in cx.connections().to_vec() {
                    if conn != from {
                        cx.send(conn, b"encoder");
                    }
                }
            }
            _ => {
                cx.send(from, message);
            }
        }
    }
    fn on_timer(&mut self, _: &mut Context<Self>, _: Timer) {
        panic!("a timer");
    }
    fn on_half_close(&mut self, _: &mut Context<Self>, _: ConnId) -> HalfClose {
        self.at("half-close");
        HalfClose::CloseWhenFlushed
    }
    fn on_close(&mut self, _: &mut Context<Self>, _: ConnId, reason: CloseReason, (): ()) {
        self.closed.push(reason.name());
        self.at("close");
    }
    fn on_shutdown(&mut self, _: &mut Context<Self>) {
        self.at("shutdown");
    }
}

struct Isolated {
    world: World,
    reactor: Reactor<Panicky>,
}

fn isolated(panic_in: &'static str, codec: Brittle) -> Isolated {
    let handler = Panicky { panic_in, ..Panicky::default() };
    let (world, mut reactor) = world_with(handler, Limits::default(), codec);
    reactor.context().on_panic = OnPanic::Isolate;
    Isolated { world, reactor }
}

impl Isolated {
    /// Turns until the loop rests, or has ended.
    fn settle(&mut self) -> Result<Flow, Error> {
        for _ in 0..1_000 {
            let flow = self.reactor.turn(Some(Duration::ZERO))?;
            if flow == Flow::Finished || !(self.reactor.context().has_work() || self.world.has_events()) {
                return Ok(flow);
            }
        }
        panic!("the loop does not come to rest");
    }

    fn expect_the_loop_goes_on(&mut self) {
        assert_eq!(self.settle().unwrap(), Flow::Continue);
        let stats = self.reactor.stats();
        assert_eq!(stats.accepted, stats.open + stats.closed, "{stats:?}");
        let peer = self.world.connect(0);
        peer.send(&frame(b"still there?"));
        self.settle().unwrap();
        assert_eq!(peer.take(), frame(b"still there?"));
    }

    /// The loop has ended in order: what was queued was sent, and the panic is the answer.
    fn expect_an_end_in_order(&mut self, text: &str) {
        for _ in 0..100 {
            match self.settle() {
                Ok(Flow::Continue) => self.world.advance(Duration::from_secs(1)),
                Ok(Flow::Finished) => panic!("the panic is forgotten"),
                Err(Error::Panicked(said)) => {
                    assert!(said.contains(text), "{said}");
                    let stats = self.reactor.stats();
                    assert_eq!(
                        (stats.open, stats.accepted + stats.connected),
                        (0, stats.closed),
                        "{stats:?}"
                    );
                    assert_eq!(stats.buffered_bytes, 0);
                    return;
                }
                Err(other) => panic!("{other}"),
            }
        }
        panic!("the loop does not end");
    }
}

#[test]
fn a_panic_costs_its_connection_alone() {
    let mut it = isolated("", Brittle::default());
    let (bad, good) = (it.world.connect(0), it.world.connect(0));
    it.settle().unwrap();
    bad.send(&frames([&b"one"[..], b"two", b"boom", b"never"]));
    good.send(&frame(b"hi"));
    it.settle().unwrap();
    assert_eq!(good.take(), frame(b"hi"));
    assert!(bad.dropped().is_some());
    assert_eq!(it.reactor.handler().closed, ["panic"]);
    let stats = it.reactor.stats();
    assert_eq!(
        (stats.frames_in, stats.panics, stats.open),
        (4, 1, 1),
        "messages up to the panic are counted"
    );
    assert_eq!(stats.closes().find(|(name, _)| *name == "panic"), Some(("panic", 1)));
    assert_eq!(stats.buffered_bytes, 0);
    it.expect_the_loop_goes_on();
}

#[test]
fn a_panic_over_half_a_held_message_gives_its_memory_back() {
    let mut it = isolated("", Brittle::default());
    let bad = it.world.connect(0);
    let bytes = frame(b"boom");
    bad.send(&bytes[..5]);
    it.settle().unwrap();
    assert!(it.reactor.stats().buffered_bytes > 0);
    bad.send(&bytes[5..]);
    it.settle().unwrap();
    assert_eq!((it.reactor.stats().buffered_bytes, it.reactor.stats().open), (0, 0));
    it.expect_the_loop_goes_on();
}

#[test]
fn every_callback_of_a_connection_is_isolated() {
    for place in ["open", "message", "half-close", "close"] {
        let mut it = isolated(place, Brittle::default());
        let peer = it.world.connect(0);
        it.settle().unwrap();
        peer.send(&frame(b"x"));
        it.settle().unwrap();
        peer.shut_down_writing();
        it.settle().unwrap();
        assert_eq!(it.reactor.stats().panics, 1, "{place}");
        assert_eq!(it.reactor.stats().open, 0, "{place}");
        let reason = if place == "close" { "peer" } else { "panic" };
        assert_eq!(it.reactor.handler().closed, [reason], "{place}");
        it.reactor.handler_mut().panic_in = "";
        it.expect_the_loop_goes_on();
    }
}

#[test]
fn a_panic_in_a_timer_of_a_connection_costs_that_connection() {
    let mut it = isolated("", Brittle::default());
    let (peer, other) = (it.world.connect(0), it.world.connect(0));
    it.settle().unwrap();
    peer.send(&frame(b"own timer"));
    it.settle().unwrap();
    it.world.advance(Duration::from_millis(1));
    it.settle().unwrap();
    assert_eq!(it.reactor.handler().closed, ["panic"]);
    assert!(other.dropped().is_none());
    it.expect_the_loop_goes_on();
}

#[test]
fn a_panic_with_no_connection_to_blame_ends_the_loop_in_order() {
    for place in ["start", "accept", "timer", "command", "shutdown"] {
        let panic_in = if ["timer", "command"].contains(&place) { "" } else { place };
        let mut it = isolated(panic_in, Brittle::default());
        let handle = it.reactor.handle();
        if place != "start" {
            if place == "accept" {
                it.reactor.handler_mut().panic_in = "";
            }
            let peer = it.world.connect(0);
            it.settle().unwrap();
            it.reactor.handler_mut().panic_in = panic_in;
            peer.send(&frame(b"answered"));
            match place {
                "accept" => drop(it.world.connect(0)),
                "timer" => peer.send(&frame(b"timer")),
                "command" => handle.run(|_, _| panic!("a command")).unwrap(),
                _ => peer.send(&frame(b"shutdown")),
            }
            let mut got = Vec::new();
            for _ in 0..5 {
                if it.settle().is_err() {
                    break;
                }
                got.extend(peer.take());
                peer.shut_down_writing();
                it.world.advance(Duration::from_millis(1));
            }
            got.extend(peer.take());
            assert_eq!(got, frame(b"answered"), "{place}");
            assert_eq!(it.reactor.stats().panics, 1);
            assert_eq!(it.reactor.stats().open, 0, "{place}");
            assert!(handle.is_gone(), "{place}");
        } else {
            it.expect_an_end_in_order("start");
        }
    }
}

#[test]
fn an_encoder_that_panics_leaves_no_half_frame() {
    for way in [&b"others"[..], b"to each", b"group"] {
        let mut it = isolated("", Brittle::default());
        let (from, to) = (it.world.connect(0), it.world.connect(0));
        to.send(&frame(b"join"));
        it.settle().unwrap();
        from.send(&frame(way));
        it.settle().unwrap();
        assert_eq!(it.reactor.handler().closed, ["panic"]);
        to.send(&frame(b"after"));
        it.settle().unwrap();
        let expected = if way == b"others" { frames([&b"first"[..], b"after"]) } else { frame(b"after") };
        assert_eq!(to.take(), expected, "{way:?}");
        let conn = it.reactor.context().connections()[0];
        let cx = it.reactor.context();
        assert_eq!(cx.broadcast(To::Group(7), b"members").queued, 1, "the group is whole after {way:?}");
        cx.close(conn);
        it.settle().unwrap();
        assert_eq!(to.take(), frame(b"members"));
    }
}

#[test]
fn an_encoder_that_panics_behind_other_replies_leaves_them_whole() {
    let mut it = isolated("", Brittle::default());
    let peer = it.world.connect(0);
    it.settle().unwrap();
    let before = [&b"one"[..], b"two", b"three", b"four"];
    peer.send(&frames(before.iter().copied().chain([&b"encoder"[..], b"six"])));
    it.settle().unwrap();
    assert_eq!(it.reactor.handler().closed, ["panic"]);
    let got = peer.take();
    assert!(frames(before).starts_with(&got), "{got:?}");
    assert!(got.is_empty() || it.reactor.stats().frames_out == 4, "{got:?}");
    // What is gathered for the next one begins with nothing.
    let next = it.world.connect(0);
    next.send(&frames([&b"five"[..], b"six", b"seven"]));
    it.settle().unwrap();
    assert_eq!(next.take(), frames([&b"five"[..], b"six", b"seven"]));
}

#[test]
fn a_codec_whose_drop_panics_ends_the_loop_in_order() {
    static PANICS: AtomicBool = AtomicBool::new(false);
    let mut codec = Brittle::default();
    codec.drop_panics = Some(&PANICS);
    let mut it = isolated("", codec);
    let (leaves, stays) = (it.world.connect(0), it.world.connect(0));
    it.settle().unwrap();
    PANICS.store(true, Ordering::Relaxed);
    stays.send(&frame(b"answered"));
    leaves.reset();
    it.expect_an_end_in_order("a codec's drop");
    assert_eq!(stays.take(), frame(b"answered"));
}

#[test]
fn a_codec_that_cannot_be_cloned_for_the_next_dial_costs_nobody_the_end_of_the_last() {
    static PANICS: AtomicBool = AtomicBool::new(false);
    let mut it = isolated("", Brittle::default());
    let mut codec = Brittle::default();
    codec.clone_panics = Some(&PANICS);
    let to = crate::Dial::to("192.0.2.1:80").reconnect(crate::Reconnect::default());
    it.world.answers("192.0.2.1:80", crate::net::mem::Answer::Opens);
    it.reactor.connect(to, codec);
    let other = it.world.connect(0);
    it.settle().unwrap();
    PANICS.store(true, Ordering::Relaxed);
    it.world.dialed("192.0.2.1:80").reset();
    other.reset();
    it.expect_an_end_in_order("a codec's clone");
    assert_eq!(it.reactor.handler().closed, ["reset", "reset"], "each is told, and why");
}

#[test]
fn by_default_a_panic_goes_through() {
    let (world, mut reactor) = world_with(Panicky::default(), Limits::default(), Brittle::default());
    let peer = world.connect(0);
    reactor.turn(Some(Duration::ZERO)).unwrap();
    peer.send(&frame(b"boom"));
    let went = catch_unwind(AssertUnwindSafe(|| reactor.turn(Some(Duration::ZERO))));
    assert!(went.is_err());
    drop(reactor);
    assert!(peer.dropped().is_some(), "its sockets are closed with it");
}

/// Holds the loop for as many milliseconds as a message has bytes.
struct Holds(World);

impl Handler for Holds {
    type Codec = LengthPrefixed;
    type Session = ();
    fn on_message(&mut self, _: &mut Context<Self>, _: ConnId, message: &[u8]) {
        self.0.advance(Duration::from_millis(message.len() as u64));
    }
    fn on_timer(&mut self, _: &mut Context<Self>, _: Timer) {
        self.0.advance(Duration::from_millis(150));
    }
}

#[test]
fn a_callback_that_holds_the_loop_is_named() {
    let mut limits = Limits::default();
    limits.stall_threshold = Duration::from_millis(100);
    let (world, mut reactor) = world_with(Holds(World::new()), limits, LengthPrefixed::default());
    reactor.handler_mut().0 = world.clone();
    let (quick, slow) = (world.connect(0), world.connect(0));
    reactor.turn(Some(Duration::ZERO)).unwrap();
    quick.send(&frame(&[0; 99]));
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!((reactor.stats().stalls, reactor.context().last_stall()), (0, None));
    slow.send(&frame(&[0; 101]));
    reactor.turn(Some(Duration::ZERO)).unwrap();
    let stall = reactor.context().last_stall().unwrap();
    let Some(Source::Connection(slot, generation)) = slow.source() else { panic!("it is registered") };
    assert_eq!(stall.conn, Some(ConnId { slot, generation }));
    assert_eq!((stall.callback, stall.took), (Callback::Message, Duration::from_millis(101)));
    assert_eq!(reactor.stats().stalls, 1);
    assert_eq!(reactor.loop_lag().max(), Duration::from_millis(101));
    assert_eq!(reactor.dispatch_times().max(), Duration::from_millis(101));

    reactor.context().after(Duration::ZERO, 1);
    reactor.turn(Some(Duration::ZERO)).unwrap();
    let stall = reactor.context().last_stall().unwrap();
    assert_eq!((stall.callback, stall.conn), (Callback::Timer, None));
}
