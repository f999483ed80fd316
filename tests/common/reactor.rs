//! Words of the tests that run a reactor on real sockets. Its peers are plain ones of the standard library.
#![allow(dead_code, reason = "each test file uses its own part of it")]

mod peers;

use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mainspring::codec::LengthPrefixed;
use mainspring::{
    Builder, CloseReason, ConnId, Context, Detached, DialError, Handle, Handler, ListenOptions, Reactor,
    Stats, Timer,
};
pub(crate) use peers::*;

/// No wait is longer: who has to wait that long has failed. Windows is tried in Wine, where everything takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(if cfg!(windows) { 120 } else { 20 });
/// How long a test watches that nothing happens.
pub(crate) const A_WHILE: Duration = Duration::from_millis(300);
/// A loop with nothing to do may look after its memory, and no more, in [`A_WHILE`].
const IDLE_TURNS_MAX: u64 = 6;

#[expect(clippy::disallowed_methods, reason = "a test bounds its waits by the real clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Looks until there is something to be seen, and panics when that takes too long.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(now() < until, "waited in vain for {what}");
        thread::park_timeout(Duration::from_millis(1));
    }
}

// ---- the handler ---------------------------------------------------------------------------------------------------

/// What a [`Tester`] was told, messages left out.
#[derive(Debug)]
pub(crate) enum Event {
    Opened(ConnId),
    HalfClosed(ConnId),
    Writable(ConnId),
    Timer(u64),
    Detached(ConnId, Detached),
    Closed(ConnId, CloseReason),
    DialFailed(ConnId, DialError),
}

type OnMessage = Box<dyn FnMut(&mut Context<Tester>, ConnId, &[u8]) + Send>;
type OnEvent = Box<dyn FnMut(&mut Context<Tester>, &Event) + Send>;

/// A handler that does with messages and events what a test wants, and tells the test of the events.
pub(crate) struct Tester {
    on_message: OnMessage,
    on_event: OnEvent,
    events: Sender<Event>,
}

/// What a [`Tester`] tells.
#[derive(Debug)]
pub(crate) struct Events(Receiver<Event>);

impl Tester {
    pub(crate) fn new(
        on_message: impl FnMut(&mut Context<Tester>, ConnId, &[u8]) + Send + 'static,
    ) -> (Tester, Events) {
        Tester::with_events(on_message, |_, _| {})
    }

    pub(crate) fn with_events(
        on_message: impl FnMut(&mut Context<Tester>, ConnId, &[u8]) + Send + 'static,
        on_event: impl FnMut(&mut Context<Tester>, &Event) + Send + 'static,
    ) -> (Tester, Events) {
        let (events, told) = mpsc::channel();
        let tester = Tester { on_message: Box::new(on_message), on_event: Box::new(on_event), events };
        (tester, Events(told))
    }

    fn tell(&mut self, cx: &mut Context<Self>, event: Event) {
        (self.on_event)(cx, &event);
        // A test may have seen enough.
        drop(self.events.send(event));
    }
}

impl Handler for Tester {
    type Codec = LengthPrefixed;
    type Session = ();

    fn on_open(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        self.tell(cx, Event::Opened(conn));
    }
    fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, message: &[u8]) {
        (self.on_message)(cx, from, message);
    }
    fn on_writable(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        self.tell(cx, Event::Writable(conn));
    }
    fn on_timer(&mut self, cx: &mut Context<Self>, timer: Timer) {
        self.tell(cx, Event::Timer(timer.key));
    }
    fn on_half_close(&mut self, cx: &mut Context<Self>, conn: ConnId) -> mainspring::HalfClose {
        self.tell(cx, Event::HalfClosed(conn));
        mainspring::HalfClose::CloseWhenFlushed
    }
    fn on_close(&mut self, cx: &mut Context<Self>, conn: ConnId, reason: CloseReason, (): ()) {
        self.tell(cx, Event::Closed(conn, reason));
    }
    fn on_dial_failed(&mut self, cx: &mut Context<Self>, conn: ConnId, error: DialError, (): ()) {
        self.tell(cx, Event::DialFailed(conn, error));
    }
    fn on_detach(&mut self, cx: &mut Context<Self>, conn: ConnId, detached: Detached) {
        self.tell(cx, Event::Detached(conn, detached));
    }
}

/// Answers each message with itself.
pub(crate) fn echo(cx: &mut Context<Tester>, from: ConnId, message: &[u8]) {
    cx.send(from, message);
}

/// Answers nothing.
pub(crate) fn ignore(_: &mut Context<Tester>, _: ConnId, _: &[u8]) {}

impl Events {
    /// What has been told and not yet looked at.
    pub(crate) fn so_far(&self) -> Vec<Event> {
        self.0.try_iter().collect()
    }

    /// The first event, told already, in which `find` sees something. Those before it are dropped.
    pub(crate) fn told<T>(&self, find: impl FnMut(Event) -> Option<T>) -> Option<T> {
        self.0.try_iter().find_map(find)
    }

    /// As [`told`](Events::told), and waits for it: for a reactor on another thread.
    pub(crate) fn within<T>(&self, time: Duration, mut find: impl FnMut(Event) -> Option<T>) -> Option<T> {
        let until = now() + time;
        loop {
            let event = self.0.recv_timeout(until.saturating_duration_since(now())).ok()?;
            if let Some(seen) = find(event) {
                return Some(seen);
            }
        }
    }

    #[track_caller]
    pub(crate) fn wait<T>(&self, what: &str, find: impl FnMut(Event) -> Option<T>) -> T {
        self.within(PATIENCE, find).unwrap_or_else(|| panic!("waited in vain for {what}"))
    }

    #[track_caller]
    pub(crate) fn wait_opened(&self) -> ConnId {
        self.wait("on_open", opened)
    }

    #[track_caller]
    pub(crate) fn wait_closed(&self) -> CloseReason {
        self.wait("on_close", closed)
    }
}

pub(crate) fn opened(event: Event) -> Option<ConnId> {
    if let Event::Opened(conn) = event { Some(conn) } else { None }
}

pub(crate) fn closed(event: Event) -> Option<CloseReason> {
    if let Event::Closed(_, reason) = event { Some(reason) } else { None }
}

pub(crate) fn dial_failed(event: Event) -> Option<(ConnId, DialError)> {
    if let Event::DialFailed(conn, error) = event { Some((conn, error)) } else { None }
}

pub(crate) fn detached(event: Event) -> Option<Detached> {
    if let Event::Detached(_, detached) = event { Some(detached) } else { None }
}

// ---- a reactor in the test's own thread ----------------------------------------------------------------------------

/// Takes turns until there is something to be seen, and panics when that takes too long.
#[track_caller]
pub(crate) fn turn_until<H: Handler, T>(
    reactor: &mut Reactor<H>,
    what: &str,
    mut look: impl FnMut(&mut Reactor<H>) -> Option<T>,
) -> T {
    let until = now() + PATIENCE;
    loop {
        if let Some(seen) = look(reactor) {
            return seen;
        }
        assert!(now() < until, "waited in vain for {what}");
        reactor.turn(Some(Duration::from_millis(5))).expect("the poller works");
    }
}

/// A reactor with one listener on IPv4, for turns by hand.
pub(crate) fn listening(tester: Tester) -> (Reactor<Tester>, SocketAddr) {
    let mut reactor = Reactor::new(tester).expect("a reactor");
    let listening = reactor.listen("127.0.0.1:0", LengthPrefixed::default()).expect("a free port");
    let address = listening.address.ip().expect("an IP address");
    (reactor, address)
}

// ---- a reactor on a thread -----------------------------------------------------------------------------------------

/// A reactor that runs on a thread of its own, with one listener. Dropping it ends the loop at once.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) handle: Handle<Tester>,
    pub(crate) events: Events,
    ended: Receiver<Reactor<Tester>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Answers each message with itself.
    pub(crate) fn echo() -> Server {
        Server::new(echo)
    }

    pub(crate) fn new(
        on_message: impl FnMut(&mut Context<Tester>, ConnId, &[u8]) + Send + 'static,
    ) -> Server {
        Server::with(Reactor::<Tester>::builder(), &ListenOptions::default(), Tester::new(on_message))
    }

    pub(crate) fn with(
        builder: Builder,
        options: &ListenOptions,
        (tester, events): (Tester, Events),
    ) -> Server {
        let mut reactor = builder.build(tester).expect("a reactor");
        let codec = LengthPrefixed::default();
        let listening = reactor.listen_with("127.0.0.1:0", codec, options).expect("a free port");
        let address = listening.address.ip().expect("an IP address");
        Server::run(reactor, events, address)
    }

    pub(crate) fn run(mut reactor: Reactor<Tester>, events: Events, address: SocketAddr) -> Server {
        let handle = reactor.handle();
        let (ends, ended) = mpsc::channel();
        let thread = thread::spawn(move || {
            reactor.run().expect("the poller works");
            drop(ends.send(reactor));
        });
        Server { address, handle, events, ended, thread: Some(thread) }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        connect(self.address)
    }

    /// Asks something of the context, on its own thread.
    #[track_caller]
    pub(crate) fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Context<Tester>) -> T + Send + 'static,
    ) -> T {
        let (answers, answer) = mpsc::channel();
        self.handle.run(move |_, cx| drop(answers.send(question(cx)))).expect("the loop runs");
        answer.recv_timeout(PATIENCE).expect("the loop answers")
    }

    #[track_caller]
    pub(crate) fn stats(&self) -> Stats {
        self.ask(|cx| cx.stats())
    }

    /// Waits until the counters are as wanted.
    #[track_caller]
    pub(crate) fn wait_stats(&self, what: &str, mut wanted: impl FnMut(&Stats) -> bool) -> Stats {
        let mut last = Stats::default();
        let until = now() + PATIENCE;
        while now() < until {
            last = self.stats();
            if wanted(&last) {
                return last;
            }
            thread::park_timeout(Duration::from_millis(1));
        }
        panic!("waited in vain for {what}: {last:?}");
    }

    /// Asserts that the loop takes no turns for nothing.
    #[track_caller]
    pub(crate) fn expect_rest(&self) {
        let before = self.stats().turns;
        assert!(self.ended.recv_timeout(A_WHILE).is_err(), "the loop runs on");
        let turns = self.stats().turns - before;
        assert!(turns <= IDLE_TURNS_MAX, "{turns} turns with nothing to do");
    }

    /// Shuts the loop down in order, and gives it back.
    #[track_caller]
    pub(crate) fn stop(mut self) -> Reactor<Tester> {
        self.handle.shutdown();
        self.join().expect("the loop has not panicked")
    }

    #[track_caller]
    pub(crate) fn join(&mut self) -> Option<Reactor<Tester>> {
        let reactor = self.ended.recv_timeout(PATIENCE);
        let timed_out = matches!(reactor, Err(mpsc::RecvTimeoutError::Timeout));
        assert!(!timed_out, "the loop does not end");
        let thread = self.thread.take()?;
        if let (Err(panic), false) = (thread.join(), thread::panicking()) {
            std::panic::resume_unwind(panic);
        }
        reactor.ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.thread.is_some() && !thread::panicking() {
            self.handle.shutdown();
            self.handle.shutdown();
            drop(self.join());
        }
    }
}
