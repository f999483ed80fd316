//! The loop in an in-memory world with a virtual clock: its order, its bounds, its ends. Nothing sleeps.

mod accepting;
mod before_open;
mod closing;
mod commands;
mod crowd;
mod dialing;
mod flow;
mod halves;
mod messages;
mod names;
mod overflow;
mod panicking;
mod random;
mod rates;
mod redialing;
mod seats;
mod sending;
mod series;
mod shutdown;
mod threads;
mod timing;
#[cfg(feature = "tls")]
mod tls;
mod workers;

use std::collections::HashMap;
use std::time::Duration;

use super::{Context, Flow, Reactor};
use crate::codec::{FrameError, LengthPrefixed};
use crate::connection::CloseReason;
use crate::error::DialError;
use crate::handler::{Admission, HalfClose, Handler, Timer};
use crate::id::{ConnId, ListenerId};
use crate::limits::Limits;
use crate::net::mem::{Peer, World};
use crate::net::{Poller, SocketOptions};
use crate::{Address, Sent, Stats};

/// What a handler was told, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    Open(ConnId),
    Message(ConnId, Vec<u8>),
    Writable(ConnId),
    Overflow(ConnId),
    Overload,
    Timer(u64),
    HalfClose(ConnId),
    BadFrame(ConnId),
    Close(ConnId, &'static str),
    DialFailed(ConnId),
    Shutdown,
}

/// What a test does at each event.
type Script = Box<dyn FnMut(&mut Context<Recorder>, &Event) + Send>;

/// A handler that notes everything, does what its script says, and checks the promises that hold for every handler.
pub(super) struct Recorder {
    pub(super) events: Vec<Event>,
    script: Script,
    half_close: HalfClose,
    admit: Admission,
    /// Why dials have failed.
    failures: Vec<DialError>,
    inside: bool,
    /// Open connections and their fate: false once closed.
    alive: HashMap<ConnId, bool>,
}

impl Recorder {
    fn note(&mut self, cx: &mut Context<Self>, event: Event) {
        assert!(!std::mem::replace(&mut self.inside, true), "a callback runs inside another: {event:?}");
        match &event {
            Event::Open(conn) => {
                assert_eq!(self.alive.insert(*conn, true), None, "opened twice: {conn}");
            }
            Event::Close(conn, _) => {
                assert_eq!(self.alive.insert(*conn, false), Some(true), "closed without being open: {conn}");
                assert!(cx.peer_addr(*conn).is_some(), "on_close can say who has left");
                assert!(cx.session(*conn).is_none(), "the session was given back");
                assert!(!cx.send(*conn, b"to the dead").is_queued(), "the dead take nothing");
            }
            Event::Message(conn, _)
            | Event::Writable(conn)
            | Event::Overflow(conn)
            | Event::HalfClose(conn)
            | Event::BadFrame(conn) => {
                assert_eq!(self.alive.get(conn), Some(&true), "{event:?} of a connection that is not open");
            }
            Event::DialFailed(conn) => {
                assert_eq!(self.alive.insert(*conn, false), None, "a dial with two answers: {conn}");
                assert!(!cx.send(*conn, b"to the dead").is_queued(), "the dead take nothing");
            }
            Event::Overload | Event::Timer(_) | Event::Shutdown => {}
        }
        (self.script)(cx, &event);
        self.events.push(event);
        self.inside = false;
    }
}

impl Handler for Recorder {
    type Codec = LengthPrefixed;
    type Session = u32;

    fn on_accept(&mut self, _: &mut Context<Self>, _: &Address, _: ListenerId) -> Admission {
        self.admit
    }
    fn on_open(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        self.note(cx, Event::Open(conn));
    }
    fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, message: &[u8]) {
        self.note(cx, Event::Message(from, message.to_vec()));
    }
    fn on_writable(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        self.note(cx, Event::Writable(conn));
    }
    fn on_overload(&mut self, cx: &mut Context<Self>, _: ListenerId, _: &std::io::Error) {
        self.note(cx, Event::Overload);
    }
    fn on_overflow(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        self.note(cx, Event::Overflow(conn));
    }
    fn on_timer(&mut self, cx: &mut Context<Self>, timer: Timer) {
        self.note(cx, Event::Timer(timer.key));
    }
    fn on_half_close(&mut self, cx: &mut Context<Self>, conn: ConnId) -> HalfClose {
        self.note(cx, Event::HalfClose(conn));
        self.half_close
    }
    fn on_bad_frame(&mut self, cx: &mut Context<Self>, conn: ConnId, _: &FrameError) {
        self.note(cx, Event::BadFrame(conn));
    }
    fn on_close(&mut self, cx: &mut Context<Self>, conn: ConnId, reason: CloseReason, _: u32) {
        self.note(cx, Event::Close(conn, reason.name()));
    }
    fn on_dial_failed(&mut self, cx: &mut Context<Self>, conn: ConnId, error: DialError, _: u32) {
        self.failures.push(error);
        self.note(cx, Event::DialFailed(conn));
    }
    fn on_shutdown(&mut self, cx: &mut Context<Self>) {
        self.note(cx, Event::Shutdown);
    }
}

/// A reactor in a world of its own, with one listener.
pub(super) struct Rig {
    pub(super) world: World,
    pub(super) reactor: Reactor<Recorder>,
}

/// A rig with the default limits.
pub(super) fn rig(script: impl FnMut(&mut Context<Recorder>, &Event) + Send + 'static) -> Rig {
    rig_with(Limits::default(), script)
}

/// A rig that answers each message with itself.
pub(super) fn echo_rig(limits: Limits) -> Rig {
    rig_with(limits, echo)
}

pub(super) fn echo(cx: &mut Context<Recorder>, event: &Event) {
    if let Event::Message(from, message) = event {
        let sent = cx.send(*from, message);
        assert_ne!(sent, Sent::Dropped(super::DropReason::Gone));
    }
}

/// Any handler in a world of its own, with listener number 0.
pub(super) fn world_with<H: Handler>(handler: H, limits: Limits, codec: H::Codec) -> (World, Reactor<H>) {
    limits.check().unwrap();
    let world = World::new();
    let cx = Context::new(Poller::Mem(world.clone()), limits, SocketOptions::default());
    let mut reactor = Reactor::with_context(handler, cx);
    reactor.context().keep_journal();
    let listener = world.listener();
    let address = listener.local_address().unwrap();
    reactor.context().add_listener(Ok(listener), address, codec, None).unwrap();
    (world, reactor)
}

pub(super) fn rig_with(
    limits: Limits,
    script: impl FnMut(&mut Context<Recorder>, &Event) + Send + 'static,
) -> Rig {
    let recorder = Recorder {
        events: Vec::new(),
        script: Box::new(script),
        half_close: HalfClose::CloseWhenFlushed,
        admit: Admission::Admit,
        failures: Vec::new(),
        inside: false,
        alive: HashMap::new(),
    };
    let (world, reactor) = world_with(recorder, limits, LengthPrefixed::default());
    Rig { world, reactor }
}

impl Rig {
    pub(super) fn listen(&mut self, connections_max: Option<usize>) -> ListenerId {
        let listener = self.world.listener();
        let address = listener.local_address().unwrap();
        self.cx().add_listener(Ok(listener), address, LengthPrefixed::default(), connections_max).unwrap().id
    }

    pub(super) fn cx(&mut self) -> &mut Context<Recorder> {
        self.reactor.context()
    }

    /// Takes turns, without letting time pass, until there is nothing left to do. Bounded: a loop that never rests fails.
    pub(super) fn settle(&mut self) -> Flow {
        for _ in 0..10_000 {
            let flow = self.reactor.turn(Some(Duration::ZERO)).unwrap();
            if flow == Flow::Finished {
                return flow;
            }
            if !self.cx().has_work() && !self.world.has_events() {
                self.expect_books_to_balance();
                return flow;
            }
        }
        panic!("the loop does not come to rest");
    }

    /// Lets time pass, then settles.
    pub(super) fn pass(&mut self, time: Duration) -> Flow {
        self.world.advance(time);
        self.settle()
    }

    /// A client that has connected and was accepted.
    pub(super) fn client(&mut self) -> Peer {
        let peer = self.world.connect(0);
        self.settle();
        peer
    }

    /// A client that was answered, and whose connection was closed: its socket lingers.
    pub(super) fn lingering(&mut self) -> Peer {
        let peer = self.client();
        peer.send(&frame(b"hi"));
        self.settle();
        let conn = self.open()[0];
        self.cx().close(conn);
        self.settle();
        assert!(peer.dropped().is_none(), "it lingers");
        peer
    }

    /// The events since the last call.
    pub(super) fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.reactor.handler_mut().events)
    }

    /// Why dials have failed since the last call, as text.
    pub(super) fn failures(&mut self) -> Vec<String> {
        let failures = std::mem::take(&mut self.reactor.handler_mut().failures);
        failures.iter().map(ToString::to_string).collect()
    }

    /// The messages since the last look at the events, without who sent them.
    pub(super) fn messages(&mut self) -> Vec<Vec<u8>> {
        let message = |event| match event {
            Event::Message(_, message) => Some(message),
            _ => None,
        };
        self.events().into_iter().filter_map(message).collect()
    }

    /// The names of the reasons of all closes since the last look at the events.
    pub(super) fn closes(&mut self) -> Vec<&'static str> {
        let reason = |event| match event {
            Event::Close(_, reason) => Some(reason),
            _ => None,
        };
        self.events().into_iter().filter_map(reason).collect()
    }

    pub(super) fn open(&mut self) -> Vec<ConnId> {
        self.cx().connections().to_vec()
    }

    pub(super) fn stats(&self) -> Stats {
        self.reactor.stats()
    }

    pub(super) fn keep_half_closed(&mut self) {
        self.reactor.handler_mut().half_close = HalfClose::Keep;
    }

    fn expect_books_to_balance(&mut self) {
        if let Err(broken) = self.reactor.audit() {
            panic!("{broken}");
        }
        let stats = self.stats();
        let alive = self.reactor.handler().alive.values().filter(|alive| **alive).count();
        assert_eq!(stats.open, alive as u64, "open connections are those with on_open and without on_close");
    }
}

/// `message` as a frame of the default codec.
pub(super) fn frame(message: &[u8]) -> Vec<u8> {
    let mut bytes = (message.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(message);
    bytes
}

pub(super) fn frames<'a>(messages: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    messages.into_iter().flat_map(frame).collect()
}

#[test]
fn a_reactor_can_be_moved_to_another_thread() {
    fn is_send<T: Send>() {}
    fn is_shared<T: Send + Sync + Clone>() {}
    is_send::<Reactor<Recorder>>();
    is_shared::<crate::Handle<Recorder>>();
}

#[test]
fn an_idle_loop_sleeps() {
    let mut rig = echo_rig(Limits::default());
    let peer = rig.client();
    peer.send(&frame(b"hi"));
    rig.settle();
    rig.pass(Duration::from_secs(3)); // free buffers are looked over, then nothing is left to wait for
    rig.pass(Duration::from_secs(3));
    let before = rig.world.sleeps();
    rig.reactor.turn(None).unwrap();
    assert_eq!(rig.world.sleeps(), before + 1, "no deadline and no work is left");
    assert_eq!(rig.reactor.next_timeout(), None);
}

// Where a socket of mio's is a descriptor and nothing else.
#[test]
#[cfg(all(target_os = "linux", target_pointer_width = "64", not(mio_unsupported_force_poll_poll)))]
fn a_connection_stays_small() {
    // An idle connection costs its slot and nothing else: growth is a decision.
    let size = size_of::<super::table::Slot<LengthPrefixed, ()>>();
    assert!(size <= 312, "{size} bytes"); // a stream of these tests is larger by eight
    assert_eq!(size_of::<ConnId>(), 8);
    // Each open one with a deadline has one of these too.
    assert!(size_of::<super::timers::Deadline>() <= 12);
    assert_eq!(size_of::<Option<crate::time::TimerKey>>(), 8);
    assert!(size_of::<CloseReason>() <= 40, "{}", size_of::<CloseReason>());
    assert!(size_of::<crate::Sent>() <= 24, "{}", size_of::<crate::Sent>());
}
