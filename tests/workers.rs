//! Pools of workers before real sockets: order, bounds, ends, and threads that live on.

#![allow(clippy::unwrap_used, reason = "what a test's helper cannot do has failed the test")]

#[path = "common/reactor.rs"]
mod common;

use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;

use bytes::Bytes;
use common::*;
use mainspring::codec::LengthPrefixed;
use mainspring::workers::{Pool, Submitted};
use mainspring::{CloseReason, Error, Handle, Limits, ListenOptions, OnPanic, Reactor, serve};

fn answered(
    pool: mainspring::workers::Builder,
    work: impl Fn(&[u8]) -> Bytes + Send + Sync + 'static,
) -> Server {
    let mut pool: Pool<Tester> = pool.build().unwrap();
    let work = Arc::new(work);
    Server::new(move |cx, from, message| {
        let (work, message) = (Arc::clone(&work), message.to_vec());
        assert!(pool.answer(cx, from, move || work(&message)).is_queued());
    })
}

fn pool(threads: usize) -> mainspring::workers::Builder {
    Pool::<Tester>::builder(threads)
}

/// Work of a length that the message says, without looking at a clock.
fn spin(message: &[u8]) -> Bytes {
    let rounds = u32::from(message[0] % 16) * 3_000;
    let sum = (0..rounds).fold(1_u32, |sum, n| std::hint::black_box(sum.wrapping_mul(31) ^ n));
    std::hint::black_box(sum);
    Bytes::copy_from_slice(message)
}

#[test]
fn answers_keep_their_order_on_many_connections_at_once() {
    const COUNT: u32 = 2_000;
    let server = answered(pool(4), spin);
    thread::scope(|scope| {
        for n in 0..4u8 {
            let client = server.connect();
            scope.spawn(move || {
                let message = |i: u32| [&[(i % 251) as u8, n][..], &i.to_be_bytes()].concat();
                thread::scope(|scope| {
                    scope.spawn(|| (0..COUNT).for_each(|i| send_frame(&client, &message(i))));
                    (0..COUNT).for_each(|i| expect_frame(&client, &message(i)));
                });
            });
        }
    });
    let stats = server.stats();
    assert_eq!((stats.frames_in, stats.frames_out), (8_000, 8_000));
    server.expect_rest();
}

#[test]
fn jobs_of_one_connection_meet_each_other_on_their_threads() {
    // It takes all three at once.
    let together = Barrier::new(3);
    let server = answered(pool(3), move |message| {
        together.wait();
        Bytes::copy_from_slice(message)
    });
    let client = server.connect();
    for n in 0..9u8 {
        send_frame(&client, &[n]);
    }
    (0..9u8).for_each(|n| expect_frame(&client, &[n]));
}

#[test]
fn the_loop_serves_others_while_every_thread_is_busy() {
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let mut pool: Pool<Tester> = Pool::new(1).unwrap();
    let released = Arc::new(released);
    let server = Server::new(move |cx, from, message| {
        if message == b"slow" {
            let released = Arc::clone(&released);
            pool.answer(cx, from, move || {
                let _ = released.lock().unwrap().recv();
                Bytes::from_static(b"at last")
            });
        } else {
            cx.send(from, message);
        }
    });
    let (slow, other) = (server.connect(), server.connect());
    send_frame(&slow, b"slow");
    (0..100).for_each(|n| expect_echo(&other, &pattern(n, 100)));
    server.expect_rest();
    drop(release);
    expect_frame(&slow, b"at last");
}

#[test]
fn a_peer_that_has_ended_its_input_gets_every_answer() {
    let server = answered(pool(2).jobs_per_connection(3), spin);
    let client = server.connect();
    for n in 0..100u8 {
        send_frame(&client, &[n]);
    }
    client.shutdown(std::net::Shutdown::Write).unwrap();
    (0..100u8).for_each(|n| expect_frame(&client, &[n]));
    expect_end(&client);
    assert!(matches!(server.events.wait_closed(), CloseReason::Peer { truncated: false }));
}

#[test]
fn a_job_that_panics_ends_its_connection_and_no_thread() {
    let server = answered(pool(1), |message| match message {
        b"panic" => panic!("as the test wants it"),
        _ => Bytes::copy_from_slice(message),
    });
    let other = server.connect();
    for _ in 0..5 {
        let client = server.connect();
        send_frame(&client, b"before");
        send_frame(&client, b"panic");
        send_frame(&client, b"after");
        expect_frame(&client, b"before");
        expect_end(&client);
        assert!(matches!(server.events.wait_closed(), CloseReason::Panicked));
        expect_echo(&other, b"the one thread lives");
    }
    let stats = server.stats();
    assert_eq!(stats.closes().find(|(name, _)| *name == "panic"), Some(("panic", 5)));
}

#[test]
fn a_panic_in_what_follows_a_job_costs_its_connection_where_panics_are_isolated() {
    let mut pool: Pool<Tester> = Pool::new(2).unwrap();
    let tester = Tester::new(move |cx, from, message| {
        let message = message.to_vec();
        pool.run(
            cx,
            from,
            || {},
            move |_, cx, conn, ()| {
                assert_ne!(message, b"panic", "as the test wants it");
                cx.send(conn, &message);
            },
        );
    });
    let builder = Reactor::<Tester>::builder().on_panic(OnPanic::Isolate);
    let server = Server::with(builder, &ListenOptions::default(), tester);
    let (client, other) = (server.connect(), server.connect());
    for n in 0..50u8 {
        send_frame(&other, &[n]);
    }
    send_frame(&client, b"panic");
    send_frame(&client, b"after");
    assert!(matches!(server.events.wait_closed(), CloseReason::Panicked));
    (0..50u8).for_each(|n| expect_frame(&other, &[n]));
    expect_echo(&other, b"goes on");
}

#[test]
fn no_answer_is_lost_while_the_queue_of_commands_is_full() {
    let mut limits = Limits::default();
    (limits.commands_max, limits.commands_per_turn) = (4, 1);
    let mut pool: Pool<Tester> = Pool::new(3).unwrap();
    let tester = Tester::new(move |cx, from, message| {
        let message = Bytes::copy_from_slice(message);
        pool.answer(cx, from, move || message);
    });
    let server = Server::with(Reactor::<Tester>::builder().limits(limits), &ListenOptions::default(), tester);
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            let (handle, done) = (server.handle.clone(), &done);
            scope.spawn(move || {
                while done.load(Ordering::Relaxed) < 2 {
                    handle.run(|_, _| {}).unwrap();
                }
            });
        }
        for n in 0..2u8 {
            let (client, done) = (server.connect(), &done);
            scope.spawn(move || {
                // Each waits for its answer, so that no later one brings a lost one to light.
                for i in 0..1_000u32 {
                    expect_echo(&client, &[&[n][..], &i.to_be_bytes()].concat());
                }
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
}

#[test]
fn a_lost_wake_up_would_be_a_lost_answer() {
    // One at a time in step: nothing else wakes the loop.
    let server = answered(pool(2), Bytes::copy_from_slice);
    let client = server.connect();
    (0..20_000u32).for_each(|n| expect_echo(&client, &n.to_be_bytes()));
    let stats = server.stats();
    assert!(stats.wakeups <= stats.turns);
}

#[test]
fn answers_of_one_who_has_left_reach_nobody_else() {
    // Clients come, ask, and leave without waiting; those who stay get their own and nothing else.
    let server = answered(pool(3), spin);
    for round in 0..200u32 {
        let leaves = server.connect();
        for _ in 0..5 {
            send_frame(&leaves, b"\x0fnot for others");
        }
        let stays = server.connect();
        drop(leaves);
        expect_echo(&stays, &[&b"\x03"[..], &round.to_be_bytes()].concat());
    }
}

#[test]
fn a_shutdown_waits_for_jobs_and_a_second_one_does_not() {
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(std::sync::Mutex::new(released));
    let mut server = answered(pool(1), move |message| {
        if message == b"wait" {
            let _ = released.lock().unwrap().recv();
        }
        Bytes::copy_from_slice(message)
    });
    let client = server.connect();
    send_frame(&client, b"wait");
    server.wait_stats("the question", |stats| stats.frames_in == 1);
    server.handle.shutdown();
    assert!(!server.ask(|cx| cx.connections().is_empty()), "it serves what is owed");
    release.send(()).unwrap();
    expect_frame(&client, b"wait");
    expect_end(&client);
    drop(client);
    assert_eq!(server.join().unwrap().shutdown_report().cut, 0);

    let mut server = answered(pool(1), |_| {
        loop {
            thread::park();
        }
    });
    let client = server.connect();
    send_frame(&client, b"for ever");
    server.wait_stats("the question", |stats| stats.frames_in == 1);
    server.handle.shutdown();
    server.handle.shutdown();
    assert_eq!(server.join().unwrap().shutdown_report().cut, 1);
    expect_gone(&client);
}

/// Reads until the connection is gone, one way or another.
fn expect_gone(mut client: &TcpStream) {
    let _ = std::io::copy(&mut client, &mut std::io::sink());
}

#[test]
fn dropping_reactor_and_pool_waits_for_no_job() {
    let (began, begun) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(std::sync::Mutex::new(released));
    let mut pool: Pool<Tester> = Pool::new(1).unwrap();
    let threads = pool.share::<Tester>();
    let mut count = 0;
    let (tester, _events) = Tester::new(move |cx, from, _| {
        let (began, released) = (began.clone(), Arc::clone(&released));
        count += 1;
        pool.answer(cx, from, move || {
            began.send(count).unwrap();
            let _ = released.lock().unwrap().recv();
            Bytes::new()
        });
    });
    let (mut reactor, address) = listening(tester);
    let client = connect(address);
    send_frame(&client, b"1");
    send_frame(&client, b"2");
    turn_until(&mut reactor, "both jobs", |reactor| (reactor.stats().frames_in == 2).then_some(()));
    assert_eq!(begun.recv_timeout(PATIENCE), Ok(1));
    drop(reactor);
    drop(release);
    // The job that had not begun is not run for nobody, and then the thread ends.
    threads.join();
    assert_eq!(begun.recv_timeout(PATIENCE), Err(mpsc::RecvTimeoutError::Disconnected));
}

#[test]
fn a_pool_that_is_dropped_in_the_middle_leaves_nobody_without_an_answer() {
    let mut pool: Option<Pool<Tester>> = Some(pool(2).jobs_per_connection(2).build().unwrap());
    let server = Server::new(move |cx, from, message| {
        if message == b"drop it" {
            pool = None;
        }
        let message = message.to_vec();
        match &mut pool {
            Some(pool) => drop(pool.answer(cx, from, move || spin(&message))),
            None => drop(cx.send(from, b"no pool")),
        }
    });
    let (client, other) = (server.connect(), server.connect());
    send_frame(&client, b"\x0f1");
    send_frame(&client, b"\x0f2");
    server.wait_stats("both", |stats| stats.frames_in == 2);
    expect_frame_after(&other, b"drop it", b"no pool");
    expect_frame(&client, b"\x0f1");
    expect_frame(&client, b"\x0f2");
    expect_frame_after(&client, b"heard", b"no pool");
}

fn expect_frame_after(client: &TcpStream, question: &[u8], answer: &[u8]) {
    send_frame(client, question);
    expect_frame(client, answer);
}

#[test]
fn reactors_share_threads_and_keep_their_connections_apart() {
    let first: Pool<Tester> = Pool::new(2).unwrap();
    let pools = [first.share(), first];
    let servers = pools.map(|mut pool: Pool<Tester>| {
        Server::new(move |cx, from, message| {
            let message = message.to_vec();
            pool.answer(cx, from, move || spin(&message));
        })
    });
    // Their names are alike.
    let clients: Vec<_> = servers.iter().map(Server::connect).collect();
    let names: Vec<_> = servers.iter().map(|server| server.events.wait_opened()).collect();
    assert_eq!(names[0], names[1]);
    for n in 0..500u32 {
        for (i, client) in clients.iter().enumerate() {
            send_frame(client, &[&[n as u8, i as u8][..], &n.to_be_bytes()].concat());
        }
    }
    for n in 0..500u32 {
        for (i, client) in clients.iter().enumerate() {
            expect_frame(client, &[&[n as u8, i as u8][..], &n.to_be_bytes()].concat());
        }
    }
}

#[test]
fn a_server_of_one_function_has_workers_too() {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut pool = Pool::new(2).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        tell.send(address).unwrap();
        serve(address, LengthPrefixed::default(), move |cx, from, message: &[u8]| {
            let message = message.to_vec();
            pool.run(
                cx,
                from,
                || {},
                move |_, cx, conn, ()| {
                    cx.send(conn, &message);
                    cx.shutdown();
                },
            );
        })
        .unwrap();
    });
    let address = told.recv_timeout(PATIENCE).unwrap();
    let client = wait_for("the server", || TcpStream::connect(address).ok());
    expect_frame_after(&patient(client), b"hi", b"hi");
}

#[test]
fn what_cannot_be_a_pool_is_refused() {
    let wrong = [
        pool(0).build::<Tester>(),
        pool(1).jobs(0).build(),
        pool(1).bytes(0).build(),
        pool(1).jobs_per_connection(0).build(),
        pool(1).bytes_per_connection(0).build(),
    ];
    for result in wrong {
        assert!(matches!(result, Err(Error::Config(_))), "{result:?}");
    }
    let pool: Pool<Tester> = pool(3).build().unwrap();
    assert_eq!((pool.threads(), pool.jobs()), (3, 0));
}

#[test]
fn one_that_is_told_of_the_bound_can_wait() {
    let mut pool: Pool<Tester> = pool(1).jobs_per_connection(2).build().unwrap();
    let (tell, told) = mpsc::channel();
    let server = Server::new(move |cx, from, _| {
        let told = [(); 3].map(|()| {
            let submitted = pool.answer(cx, from, || Bytes::from_static(b"part"));
            matches!(submitted, Submitted::AtBound)
        });
        tell.send(told).unwrap();
    });
    let client = server.connect();
    send_frame(&client, b"go");
    assert_eq!(told.recv_timeout(PATIENCE), Ok([false, true, true]), "own jobs are taken all the same");
    (0..3).for_each(|_| expect_frame(&client, b"part"));
}

#[test]
fn pools_and_handles_cross_threads() {
    fn is_send<T: Send>() {}
    fn is_shared<T: Send + Sync>() {}
    is_send::<Pool<Tester>>();
    is_shared::<Handle<Tester>>();
}
