//! Other threads and a running loop: no wake-up is lost, nobody waits for ever, and sockets come and go with all their bytes.

#![allow(clippy::unwrap_used, reason = "what a test's helper cannot do has failed the test")]

#[path = "common/reactor.rs"]
mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Condvar, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use common::*;
use mainspring::codec::LengthPrefixed;
use mainspring::{CloseReason, HandleError, Limits, ListenOptions, Reactor, To};

fn codec() -> LengthPrefixed {
    LengthPrefixed::default()
}

#[test]
fn no_wake_up_is_lost() {
    // Thomasdezeeuw/heph#49 and others: the flag was up while the loop had already drained.
    const THREADS: u64 = 8;
    // In Wine, where Windows is tried, a wake-up takes milliseconds.
    const EACH: u64 = if cfg!(windows) { 1_000 } else { 12_500 };
    let server = Server::echo();
    let client = server.connect();
    let begin = now();
    // In step: all send at once, and no one sends again before all have their answer. Otherwise the next command of one
    // would bring the lost one of another to light.
    let (answered, all_answered) = (Mutex::new(0), Condvar::new());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            let handle = server.handle.clone();
            let (answered, all_answered) = (&answered, &all_answered);
            scope.spawn(move || {
                let (answers, answer) = mpsc::channel();
                for n in 0..EACH {
                    let answers = answers.clone();
                    handle.run(move |_, _| answers.send(n).expect("it waits")).unwrap();
                    assert_eq!(answer.recv_timeout(PATIENCE), Ok(n), "a lost wake-up");
                    let mut count = answered.lock().unwrap();
                    *count += 1;
                    if *count == (n + 1) * THREADS {
                        all_answered.notify_all();
                    }
                    let behind = |count: &mut u64| *count < (n + 1) * THREADS;
                    let (_count, waited) = all_answered.wait_timeout_while(count, PATIENCE, behind).unwrap();
                    assert!(!waited.timed_out(), "another one's wake-up was lost");
                }
            });
        }
        // Sockets are served meanwhile.
        (0..100).for_each(|n| expect_echo(&client, &pattern(n, 100)));
    });
    // Some two seconds; a machine with other work to do takes longer.
    assert!(now() - begin < 3 * PATIENCE, "{:?}", now() - begin);
    server.expect_rest();
}

#[test]
fn commands_of_one_thread_keep_their_order() {
    const COUNT: u32 = 30_000;
    let mut limits = Limits::default();
    limits.commands_max = 100; // so that the sender has to wait, again and again
    limits.commands_per_turn = 30;
    let builder = Reactor::<Tester>::builder().limits(limits);
    let server = Server::with(builder, &ListenOptions::default(), Tester::new(echo));
    let client = server.connect();
    let conn = server.events.wait_opened();
    let handle = server.handle.clone();
    // Not in a scope: a sender that nobody releases must not keep the test from failing.
    let sender = thread::spawn(move || {
        for n in 0..COUNT {
            handle.send(conn, Bytes::copy_from_slice(&n.to_be_bytes())).unwrap();
        }
        handle.close(conn).unwrap();
    });
    (0..COUNT).for_each(|n| expect_frame(&client, &n.to_be_bytes()));
    expect_end(&client);
    sender.join().unwrap();
    assert!(matches!(server.events.wait_closed(), CloseReason::Local));
}

#[test]
fn a_hundred_thousand_sends_cost_one_wake_up_while_the_loop_is_busy() {
    const COUNT: u32 = 100_000;
    let mut limits = Limits::default();
    limits.commands_max = COUNT as usize;
    let builder = Reactor::<Tester>::builder().limits(limits);
    let server = Server::with(builder, &ListenOptions::default(), Tester::new(echo));
    let client = server.connect();
    let conn = server.events.wait_opened();
    let (release, released) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel();
    server
        .handle
        .run(move |_, cx| {
            tell.send(cx.stats().wakeups).expect("the test listens");
            // Until the test lets go of it.
            let _ = released.recv();
        })
        .unwrap();
    let before = told.recv_timeout(PATIENCE).expect("it runs");
    for n in 0..COUNT {
        server.handle.try_send(conn, Bytes::copy_from_slice(&n.to_be_bytes())).unwrap();
    }
    drop(release);
    (0..COUNT).for_each(|n| expect_frame(&client, &n.to_be_bytes()));
    let stats = server.stats();
    assert_eq!(stats.wakeups, before + 2, "one for all of them, and one for this question");
    assert!(stats.wakeups <= stats.turns, "a queue that was not looked at wakes nobody twice");
}

#[test]
fn broadcasts_of_many_threads_reach_all_in_the_order_of_each() {
    let server = Server::echo();
    let clients: Vec<_> = (0..10).map(|_| server.connect()).collect();
    server.wait_stats("all to be open", |stats| stats.open == 10);
    thread::scope(|scope| {
        for thread in 0..4u8 {
            let handle = server.handle.clone();
            scope.spawn(move || {
                for n in 0..100 {
                    handle.broadcast(To::All, Bytes::copy_from_slice(&[thread, n])).unwrap();
                }
            });
        }
    });
    for client in &clients {
        let mut next = [0u8; 4];
        for _ in 0..400 {
            let message = read_frame(client);
            let expected = &mut next[usize::from(message[0])];
            assert_eq!(message[1], *expected);
            *expected += 1;
        }
        assert_eq!(next, [100; 4]);
    }
}

#[test]
fn a_handle_outlives_its_reactor_and_says_so() {
    let (tester, _events) = Tester::new(ignore);
    let (mut reactor, _) = listening(tester);
    let handle = reactor.handle();
    let (ours, _theirs) = pair();
    let conn = reactor.context().adopt(ours, codec()).unwrap();
    assert!(!handle.is_gone());
    // What waits is dropped with the reactor: what it owns is let go of.
    let (kept, was_dropped) = mpsc::channel::<()>();
    handle.run(move |_, _| drop(kept)).unwrap();
    drop(reactor);
    assert_eq!(was_dropped.recv_timeout(PATIENCE), Err(mpsc::RecvTimeoutError::Disconnected));
    assert!(handle.is_gone());
    let message = Bytes::from_static(b"comes back");
    assert_eq!(handle.send(conn, message.clone()), Err(HandleError::Gone(message.clone())));
    assert_eq!(handle.try_broadcast(To::All, message.clone()), Err(HandleError::Gone(message)));
    assert_eq!(handle.run(|_, _| {}), Err(HandleError::Gone(())));
    assert_eq!(handle.close(conn), Err(HandleError::Gone(())));
    assert_eq!(handle.try_close(conn), Err(HandleError::Gone(())));
    handle.shutdown(); // as nobody is there, nothing happens
}

#[test]
fn another_thread_shuts_down_a_loop_that_sleeps() {
    let mut server = Server::echo();
    let client = server.connect();
    expect_echo(&client, b"awake");
    server.expect_rest();
    server.handle.shutdown();
    expect_end(&client);
    drop(client);
    let begin = now();
    assert!(server.join().is_some());
    assert!(now() - begin < Limits::default().drain_timeout, "there was nothing to wait for");
}

#[test]
fn a_second_shutdown_ends_what_the_first_waits_for() {
    let mut server = Server::new(|cx, from, _| {
        cx.owe(from); // and is never paid
    });
    let client = server.connect();
    send_frame(&client, b"question");
    server.wait_stats("the question", |stats| stats.frames_in == 1);
    server.handle.shutdown();
    assert!(!server.ask(|cx| cx.connections().is_empty()), "it serves what is owed");
    server.handle.shutdown();
    let reactor = server.join().unwrap();
    assert_eq!(reactor.shutdown_report().cut, 1);
}

/// A reactor whose queue of one command is full.
fn full() -> (Reactor<Tester>, mainspring::Handle<Tester>) {
    let mut limits = Limits::default();
    limits.commands_max = 1;
    let reactor = Reactor::<Tester>::builder().limits(limits).build(Tester::new(ignore).0).unwrap();
    let handle = reactor.handle();
    handle.run(|_, _| {}).unwrap();
    assert_eq!(handle.try_run(|_, _| {}), Err(HandleError::Full(())));
    (reactor, handle)
}

/// A thread that waits for room in the queue, until it tells how that ended.
fn waits_for_room(handle: &mainspring::Handle<Tester>) -> mpsc::Receiver<Result<(), HandleError<()>>> {
    let (tell, told) = mpsc::channel();
    let handle = handle.clone();
    thread::spawn(move || tell.send(handle.run(|_, _| {})).expect("the test listens"));
    assert_eq!(told.recv_timeout(A_WHILE / 2), Err(mpsc::RecvTimeoutError::Timeout), "it has to wait");
    told
}

#[test]
fn a_sender_that_waits_is_released_when_the_reactor_is_dropped() {
    let (reactor, handle) = full();
    let told = waits_for_room(&handle);
    drop(reactor);
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Err(HandleError::Gone(()))));
}

#[test]
fn a_sender_that_waits_is_released_when_there_is_room() {
    let (mut reactor, handle) = full();
    let told = waits_for_room(&handle);
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Ok(())));
}

#[test]
fn the_loop_never_waits_for_itself() {
    let mut limits = Limits::default();
    limits.commands_max = 1;
    let builder = Reactor::<Tester>::builder().limits(limits);
    let (tell, told) = mpsc::channel();
    let tester = Tester::new(move |cx, _, _| {
        let handle = cx.handle();
        // Another thread's command may be in the queue already.
        let sent: Vec<_> = (0..2).map(|_| handle.run(|_, _| {})).collect();
        tell.send(sent[1]).expect("the test listens");
    });
    let server = Server::with(builder, &ListenOptions::default(), tester);
    send_frame(&server.connect(), b"go");
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Err(HandleError::WouldDeadlock(()))));
}

// ---- sockets that come from elsewhere and go there -----------------------------------------------------------------

/// Reads from `stream` until it has as many bytes as wanted.
fn read_exactly(mut stream: &TcpStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_socket_goes_in_and_comes_out_with_every_byte_in_order() {
    let (tester, events) = Tester::new(|cx, from, message| {
        cx.send(from, message);
        if message == b"stop" {
            cx.pause(from);
        }
    });
    let mut reactor = Reactor::new(tester).unwrap();
    let (ours, theirs) = pair();
    send_frame(&theirs, b"before it was adopted");
    let conn = reactor.context().adopt(ours, codec()).unwrap();
    assert!(events.so_far().is_empty(), "not from inside the call");
    assert_eq!(turn_until(&mut reactor, "on_open", |_| events.told(opened)), conn);
    turn_until(&mut reactor, "a message", |reactor| (reactor.stats().frames_out == 1).then_some(()));
    expect_frame(&theirs, b"before it was adopted");

    // One segment: a message that stops the delivery, one that is read and not delivered, and half of one.
    let mut wire = frame(b"stop");
    let behind: Vec<u8> = [frame(b"undelivered"), frame(&pattern(3, 1_000))].concat();
    wire.extend_from_slice(&behind[..500]);
    (&theirs).write_all(&wire).unwrap();
    turn_until(&mut reactor, "a message", |reactor| (reactor.stats().frames_out == 2).then_some(()));
    // And bytes that only the kernel has.
    (&theirs).write_all(&behind[500..]).unwrap();

    let detached = reactor.into_std(conn).unwrap();
    assert!(matches!(events.told(closed), Some(CloseReason::Detached)));
    assert!(reactor.into_std(conn).is_none(), "once");
    assert_eq!(detached.undelivered, behind[..500]);
    assert!(detached.unsent.is_empty());
    assert_eq!(detached.peer.ip(), Some(theirs.local_addr().unwrap()));
    let stream = patient(detached.stream.tcp().unwrap());
    stream.set_nonblocking(false).unwrap();
    assert_eq!(read_exactly(&stream, behind.len() - 500), behind[500..]);
    expect_frame(&theirs, b"stop");
    send_frame(&stream, b"by hand");
    expect_frame(&theirs, b"by hand");
    // The reactor has forgotten it.
    assert_eq!(reactor.stats().open, 0);
    send_frame(&theirs, b"not for the reactor");
    for _ in 0..5 {
        reactor.turn(Some(Duration::from_millis(1))).unwrap();
    }
    assert_eq!(reactor.stats().stale_events, 0);
    expect_frame(&stream, b"not for the reactor");
    // And takes it in again.
    let again = reactor.context().adopt(stream, codec()).unwrap();
    assert_ne!(again, conn);
    expect_served(&mut reactor, &theirs);
}

fn expect_served(reactor: &mut Reactor<Tester>, peer: &TcpStream) {
    let before = reactor.stats().frames_out;
    send_frame(peer, b"as ever");
    turn_until(reactor, "an answer", |reactor| (reactor.stats().frames_out > before).then_some(()));
    expect_frame(peer, b"as ever");
}

#[test]
fn what_was_not_sent_comes_out_with_the_socket() {
    let (tester, events) = Tester::new(ignore);
    let mut reactor = Reactor::new(tester).unwrap();
    let (ours, theirs) = pair();
    let conn = reactor.context().adopt(ours, codec()).unwrap();
    turn_until(&mut reactor, "on_open", |_| events.told(opened));
    let messages: Vec<_> = (0..8).map(|n| pattern(n, 2 << 20)).collect();
    for message in &messages {
        assert!(reactor.context().send(conn, message).is_queued());
    }
    reactor.turn(Some(Duration::ZERO)).unwrap();

    // This time from inside: a callback asks, and another one gets it.
    assert!(reactor.context().detach(conn));
    let detached = turn_until(&mut reactor, "on_detach", |_| events.told(detached));
    assert!(!detached.unsent.is_empty(), "the kernel has not taken it all");
    assert!(matches!(events.told(closed), Some(CloseReason::Detached)), "on_close follows");
    let stream = patient(detached.stream.tcp().unwrap());
    stream.set_nonblocking(false).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| (&stream).write_all(&detached.unsent).unwrap());
        messages.iter().for_each(|message| expect_frame(&theirs, message));
    });
    drop(stream);
    expect_end(&theirs);
}

#[test]
fn a_detach_asked_for_by_a_message_leaves_the_next_ones_to_the_new_owner() {
    let tester = Tester::new(|cx, from, message| match message {
        b"upgrade" => assert!(cx.detach(from)),
        _ => panic!("not for the reactor"),
    });
    let server = Server::with(Reactor::<Tester>::builder(), &ListenOptions::default(), tester);
    let client = server.connect();
    let mut wire = frame(b"upgrade");
    wire.extend(b"another protocol");
    (&client).write_all(&wire).unwrap();
    let detached = server.events.wait("on_detach", detached);
    let stream = patient(detached.stream.tcp().unwrap());
    stream.set_nonblocking(false).unwrap();
    let mut got = detached.undelivered;
    got.extend(read_exactly(&stream, b"another protocol".len() - got.len()));
    assert_eq!(got, b"another protocol");
}

#[test]
fn a_socket_that_is_not_connected_is_not_adopted() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let mut reactor = Reactor::new(Tester::new(ignore).0).unwrap();
    let error = reactor.context().adopt(TcpStream::from(socket), codec()).unwrap_err();
    assert!(matches!(error, mainspring::Error::Adopt(_)), "{error}");
    assert_eq!(reactor.stats().open, 0);
}
