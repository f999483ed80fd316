//! Overflow policies, rates, panics and stalls on the sockets of the system.

#[path = "common/reactor.rs"]
mod common;

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use common::*;
use mainspring::{
    Callback, CloseReason, ConnId, Context, Direction, Limits, ListenOptions, OnPanic, Overflow, Rate,
    Reactor, To,
};

const COUNT: u32 = 800;
const DONE: &[u8] = b"done";

/// Message number `n`, of 32 KiB: all of them are more than the kernel's buffers of one connection.
fn numbered(n: u32) -> Vec<u8> {
    let mut message = n.to_be_bytes().to_vec();
    message.resize(32 * 1024, n as u8);
    message
}

fn limited() -> Server {
    let mut limits = Limits::default();
    limits.write_limit = 1024 * 1024;
    Server::with(Reactor::<Tester>::builder().limits(limits), &ListenOptions::default(), Tester::new(echo))
}

/// Sends a client that does not read more than it may have, and answers how many it missed and what it gets in the end.
fn flood(server: &Server, overflow: Overflow) -> (u64, Vec<u32>) {
    let client = server.connect();
    let conn = server.events.wait_opened();
    let missed = server.ask(move |cx| {
        assert!(cx.set_overflow(conn, overflow));
        for n in 0..COUNT {
            // Two keys, of which each has the latest message once more at the end.
            cx.message(&numbered(n)).key(u64::from(n % 2)).to(conn);
        }
        assert!(cx.message(DONE).control().to(conn).is_queued());
        cx.missed(conn)
    });
    (missed, read_numbers(&client))
}

/// The numbers of all messages until the last one.
fn read_numbers(client: &TcpStream) -> Vec<u32> {
    let mut numbers = Vec::new();
    loop {
        let message = read_frame(client);
        if message == DONE {
            return numbers;
        }
        let number = u32::from_be_bytes(message[..4].try_into().expect("four bytes"));
        assert!(message == numbered(number), "each message is whole");
        numbers.push(number);
    }
}

#[test]
fn a_slow_consumer_gets_what_its_policy_keeps() {
    let server = limited();
    for overflow in [Overflow::DropNewest, Overflow::DropOldest, Overflow::Latest, Overflow::Tell] {
        let (missed, numbers) = flood(&server, overflow);
        assert!(missed > 0, "{overflow:?}: or this shows nothing");
        assert_eq!(numbers.len() as u64 + missed, u64::from(COUNT), "{overflow:?}");
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{overflow:?}: in order");
        let newest = numbers.last() == Some(&(COUNT - 1));
        assert_eq!(newest, matches!(overflow, Overflow::DropOldest | Overflow::Latest), "{overflow:?}");
        if overflow == Overflow::Latest {
            assert!(numbers.contains(&(COUNT - 2)), "the latest of the other key too");
        }
    }
    let stats = server.wait_stats("all that was held to be free", |stats| stats.buffered_bytes == 0);
    assert_eq!(stats.frames_dropped, stats.frames_overflowed);
    assert!(stats.frames_overflowed > 0);
}

#[test]
fn by_default_a_slow_consumer_is_closed_and_others_are_not() {
    let server = limited();
    let slow = server.connect();
    server.events.wait_opened();
    let other = server.connect();
    let reads = server.events.wait_opened();
    let reading = thread::spawn(move || read_numbers(&other));
    for n in 0..COUNT {
        // As fast as it reads.
        wait_for("room", || (server.ask(move |cx| cx.queued(reads)) < 512 * 1024).then_some(()));
        server.ask(move |cx| cx.broadcast(To::All, &numbered(n)));
    }
    assert!(matches!(server.events.wait_closed(), CloseReason::SlowConsumer));
    server.ask(|cx| cx.message(DONE).control().broadcast(To::All));
    assert_eq!(reading.join().expect("it gets all"), (0..COUNT).collect::<Vec<_>>());
    drop(slow);
}

#[test]
fn what_comes_or_goes_faster_than_its_rate_takes_its_time_and_arrives() {
    for direction in [Direction::Input, Direction::Output] {
        let server = Server::echo();
        let client = server.connect();
        let conn = server.events.wait_opened();
        let rate = Rate::default().messages_per_second(100).burst(Duration::from_millis(100));
        assert!(server.ask(move |cx| cx.limit_rate(conn, direction, Some(rate))));
        let begin = now();
        for n in 0..40 {
            send_frame(&client, &pattern(n, 10));
        }
        for n in 0..40 {
            expect_frame(&client, &pattern(n, 10));
        }
        // Ten at once, thirty at a hundred a second. It may take longer, and never less.
        assert!(now() - begin > Duration::from_millis(280), "{direction:?}: {:?}", now() - begin);
        server.expect_rest();
    }
}

#[test]
fn clients_that_share_a_rate_share_its_time() {
    let server = Server::echo();
    let clients: Vec<_> = (0..4).map(|_| server.connect()).collect();
    let conns: Vec<ConnId> = clients.iter().map(|_| server.events.wait_opened()).collect();
    let group = server.ask(move |cx| {
        let rate = Rate::default().messages_per_second(100).burst(Duration::from_millis(100));
        let group = cx.add_rate_group(rate);
        assert!(conns.iter().all(|conn| cx.join_rate_group(*conn, Direction::Input, group)));
        group
    });
    let begin = now();
    for client in &clients {
        for n in 0..10 {
            send_frame(client, &pattern(n, 10));
        }
    }
    for client in &clients {
        for n in 0..10 {
            expect_frame(client, &pattern(n, 10));
        }
    }
    assert!(now() - begin > Duration::from_millis(280), "{:?}", now() - begin);
    assert!(server.ask(move |cx| cx.remove_rate_group(group)));
    expect_echo(&clients[0], b"as fast as ever");
}

fn panics_at_boom(cx: &mut Context<Tester>, from: ConnId, message: &[u8]) {
    assert_ne!(message, b"boom", "a panic that the test wants");
    cx.send(from, message);
}

#[test]
fn a_panic_that_is_isolated_costs_one_connection() {
    let builder = Reactor::<Tester>::builder().on_panic(OnPanic::Isolate);
    let server = Server::with(builder, &ListenOptions::default(), Tester::new(panics_at_boom));
    let (good, bad) = (server.connect(), server.connect());
    expect_echo(&good, b"before");
    expect_echo(&bad, b"before");
    send_frame(&bad, b"boom");
    assert!(matches!(server.events.wait_closed(), CloseReason::Panicked));
    expect_echo(&good, b"after");
    let stats = server.stats();
    assert_eq!((stats.open, stats.panics, stats.frames_in), (1, 1, 4));
    drop(good);
    server.stop();
}

#[test]
fn who_has_held_the_loop_is_named() {
    let mut limits = Limits::default();
    limits.stall_threshold = Duration::from_millis(50);
    let slow = |cx: &mut Context<Tester>, from: ConnId, message: &[u8]| {
        if message == b"slow" {
            let begin = now();
            while now() - begin < Duration::from_millis(80) {
                thread::park_timeout(Duration::from_millis(80));
            }
        }
        cx.send(from, message);
    };
    let builder = Reactor::<Tester>::builder().limits(limits);
    let server = Server::with(builder, &ListenOptions::default(), Tester::new(slow));
    let client = server.connect();
    let conn = server.events.wait_opened();
    expect_echo(&client, b"slow");
    let held = Duration::from_millis(80);
    // The reply goes out before its turn has ended, and a command may be run in that same turn.
    wait_for("the turn is measured", || server.ask(move |cx| (cx.loop_lag().max() >= held).then_some(())));
    let (stall, dispatches) = server.ask(move |cx| (cx.last_stall(), cx.dispatch_times().clone()));
    let stall = stall.expect("it was noticed");
    assert!(stall.took > Duration::from_millis(50), "{stall:?}");
    assert!(dispatches.max() >= held && dispatches.count() >= 2, "{dispatches:?}");
    // A busy machine may have held it up at another place later.
    if server.stats().stalls == 1 {
        assert!(stall.took >= held, "{stall:?}");
        assert_eq!((stall.callback, stall.conn), (Callback::Message, Some(conn)));
    }
}
