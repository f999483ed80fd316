//! A reactor inside another loop: its descriptor wakes that loop, its timeout holds for what no descriptor tells.

#![cfg(all(unix, not(mio_unsupported_force_poll_poll)))]
#![allow(clippy::unwrap_used, reason = "what a test's helper cannot do has failed the test")]

#[path = "common/reactor.rs"]
mod common;

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use common::*;
use mainspring::codec::LengthPrefixed;
use mainspring::{Flow, Limits, Reactor};
use mio::unix::SourceFd;
use mio::{Events as Ready, Interest, Poll, Token};

/// Another loop, which knows nothing of sockets. mio's is an edge-triggered one: what a turn leaves in the reactor's
/// poller wakes it no second time.
struct Outer {
    poll: Poll,
    ready: Ready,
    wakes: u32,
}

impl Outer {
    fn new(reactor: &Reactor<Tester>) -> Outer {
        let poll = Poll::new().unwrap();
        let fd = reactor.as_fd().as_raw_fd();
        poll.registry().register(&mut SourceFd(&fd), Token(0), Interest::READABLE).unwrap();
        Outer { poll, ready: Ready::with_capacity(4), wakes: 0 }
    }

    /// Waits as the reactor says, for at most `longest`, then lets it take a turn.
    fn step(&mut self, reactor: &mut Reactor<Tester>, longest: Duration) -> Flow {
        let timeout = reactor.next_timeout().map_or(longest, |timeout| timeout.min(longest));
        self.poll.poll(&mut self.ready, Some(timeout)).unwrap();
        self.wakes += u32::from(!self.ready.is_empty());
        reactor.turn(Some(Duration::ZERO)).unwrap()
    }

    /// Steps until there is something to be seen, and waits for as long as the reactor says: a lost wake-up shows.
    #[track_caller]
    fn until<T>(
        &mut self,
        reactor: &mut Reactor<Tester>,
        what: &str,
        mut look: impl FnMut(&mut Reactor<Tester>) -> Option<T>,
    ) -> T {
        let until = now() + PATIENCE;
        loop {
            if let Some(seen) = look(reactor) {
                return seen;
            }
            assert!(now() < until, "waited in vain for {what}");
            let has_deadline = reactor.next_timeout().is_some();
            self.step(reactor, PATIENCE / 10);
            assert!(has_deadline || !self.ready.is_empty(), "nothing wakes the outer loop for {what}");
        }
    }

    /// Steps until the reactor has nothing to do.
    fn settle(&mut self, reactor: &mut Reactor<Tester>) {
        while self.step(reactor, Duration::from_millis(20)) == Flow::Continue
            && (reactor.next_timeout() == Some(Duration::ZERO) || !self.ready.is_empty())
        {}
    }
}

#[test]
fn the_outer_loop_wakes_for_clients_for_bytes_and_for_other_threads() {
    let (tester, events) = Tester::new(echo);
    let (mut reactor, address) = listening(tester);
    let mut outer = Outer::new(&reactor);
    assert_eq!(reactor.next_timeout(), Some(Duration::ZERO), "the first turn is due at once");
    outer.settle(&mut reactor);
    assert_eq!(outer.wakes, 0, "nothing has happened yet");
    assert_eq!(reactor.next_timeout(), None);

    let client = connect(address);
    let conn = outer.until(&mut reactor, "on_open", |_| events.told(opened));
    outer.settle(&mut reactor);
    let wakes = outer.wakes;
    send_frame(&client, b"hello");
    outer.until(&mut reactor, "an answer", |reactor| (reactor.stats().frames_out == 1).then_some(()));
    expect_frame(&client, b"hello");
    assert!(outer.wakes > wakes);

    outer.settle(&mut reactor);
    let handle = reactor.handle();
    let sender = thread::spawn(move || handle.send(conn, Bytes::from_static(b"from afar")));
    outer.until(&mut reactor, "a command", |reactor| (reactor.stats().frames_out == 2).then_some(()));
    expect_frame(&client, b"from afar");
    sender.join().unwrap().unwrap();

    reactor.handle().shutdown();
    drop(client);
    let until = now() + PATIENCE;
    while outer.step(&mut reactor, PATIENCE) == Flow::Continue {
        assert!(now() < until, "a shutdown ends");
    }
}

#[test]
fn a_timer_needs_no_descriptor() {
    const DELAY: Duration = Duration::from_millis(80);
    let (tester, events) = Tester::new(ignore);
    let mut reactor = Reactor::new(tester).unwrap();
    let mut outer = Outer::new(&reactor);
    outer.settle(&mut reactor);
    let begin = now();
    reactor.turn(Some(Duration::ZERO)).unwrap();
    reactor.context().after(DELAY, 7);
    let timeout = reactor.next_timeout().unwrap();
    assert!(timeout <= DELAY && timeout > Duration::ZERO, "{timeout:?}");
    let turns = reactor.stats().turns;
    outer.until(&mut reactor, "a timer", |_| {
        events.told(|event| matches!(event, Event::Timer(7)).then_some(()))
    });
    assert!(now() - begin >= DELAY, "never early");
    let turns = reactor.stats().turns - turns;
    assert!(turns <= 3, "{turns} turns for one timer: a timeout that is rounded down spins");
    assert_eq!(reactor.next_timeout(), None);
    assert_eq!(outer.wakes, 0);
}

#[test]
fn work_left_over_leaves_no_time_to_wait() {
    let mut limits = Limits::default();
    limits.messages_per_turn = 2;
    let (tester, events) = Tester::new(echo);
    let mut reactor = Reactor::<Tester>::builder().limits(limits).build(tester).unwrap();
    let address = reactor.listen("127.0.0.1:0", LengthPrefixed::default()).unwrap().address.ip().unwrap();
    let mut outer = Outer::new(&reactor);
    let client = connect(address);
    outer.until(&mut reactor, "on_open", |_| events.told(opened));
    outer.settle(&mut reactor);
    let wire: Vec<u8> = (0..9u8).flat_map(|n| frame(&[n])).collect();
    (&client).write_all(&wire).unwrap();
    outer.until(&mut reactor, "the first two", |reactor| (reactor.stats().frames_in >= 2).then_some(()));
    let mut left = Vec::new();
    while reactor.stats().frames_in < 9 {
        assert_eq!(
            reactor.next_timeout(),
            Some(Duration::ZERO),
            "with {} to come",
            9 - reactor.stats().frames_in
        );
        reactor.turn(Some(Duration::ZERO)).unwrap();
        left.push(reactor.stats().frames_in);
    }
    assert_eq!(left, [4, 6, 8, 9], "two a turn");
    outer.settle(&mut reactor);
    assert_eq!(outer.step(&mut reactor, Duration::ZERO), Flow::Continue);
    (0..9u8).for_each(|n| expect_frame(&client, &[n]));
}

#[test]
fn events_beyond_a_full_batch_are_not_forgotten() {
    // An edge-triggered outer loop hears of the descriptor once; what a turn has not taken must not wait for the next edge.
    const CLIENTS: u64 = 10;
    let mut limits = Limits::default();
    limits.events = 2;
    limits.spare_bytes = 0; // no free buffers to be looked after, so that no deadline comes to the rescue
    let (tester, _events) = Tester::new(echo);
    let mut reactor = Reactor::<Tester>::builder().limits(limits).build(tester).unwrap();
    let address = reactor.listen("127.0.0.1:0", LengthPrefixed::default()).unwrap().address.ip().unwrap();
    let mut outer = Outer::new(&reactor);
    let clients: Vec<_> = (0..CLIENTS).map(|_| connect(address)).collect();
    outer.until(&mut reactor, "all to open", |reactor| (reactor.stats().open == CLIENTS).then_some(()));
    outer.settle(&mut reactor);
    clients.iter().for_each(|client| send_frame(client, b"all at once"));
    outer.until(&mut reactor, "all answers", |reactor| (reactor.stats().frames_out == CLIENTS).then_some(()));
    clients.iter().for_each(|client| expect_frame(client, b"all at once"));
    outer.settle(&mut reactor);
    assert_ne!(reactor.next_timeout(), Some(Duration::ZERO), "and then there is peace");
}
