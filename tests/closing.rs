//! How connections end on the sockets of the system: what was sent arrives, or the handler knows that it did not.

#[path = "common/reactor.rs"]
mod common;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use common::*;
use mainspring::codec::LengthPrefixed;
use mainspring::{CloseReason, ConnId, Context, DropReason, Limits, ListenOptions, Reactor, Sent};

const LARGE: usize = 3_000_000;

/// Reads to the end or the first error, in small steps, and calls `after` at each of them.
fn read_all(mut stream: &TcpStream, mut after: impl FnMut(usize)) -> (Vec<u8>, io::Result<()>) {
    let (mut got, mut part) = (Vec::new(), vec![0; 32 * 1024]);
    loop {
        match stream.read(&mut part) {
            Ok(0) => return (got, Ok(())),
            Ok(n) => got.extend_from_slice(&part[..n]),
            Err(error) => return (got, Err(error)),
        }
        after(got.len());
    }
}

/// A server that lingers for as long as a test may take.
fn patient_server(on_message: impl FnMut(&mut Context<Tester>, ConnId, &[u8]) + Send + 'static) -> Server {
    let mut limits = Limits::default();
    limits.linger_timeout = PATIENCE;
    let builder = Reactor::<Tester>::builder().limits(limits);
    Server::with(builder, &ListenOptions::default(), Tester::new(on_message))
}

#[test]
fn all_that_was_sent_before_a_close_arrives_although_input_is_unread() {
    let server = patient_server(|cx, from, message| {
        if message == b"go" {
            cx.send(from, &pattern(1, LARGE));
            cx.close(from);
        }
    });
    let client = server.connect();
    let mut wire = frame(b"go");
    wire.extend(frame(&[0; 100_000])); // never delivered
    (&client).write_all(&wire).unwrap();
    let mut closed_at = None;
    let (got, end) = read_all(&client, |got| {
        // Slowly, until the server has let go of it with much still on its way. What comes then finds a socket that
        // nobody reads, and the kernel's answer to that would be a reset.
        if closed_at.is_none() && server.events.within(Duration::from_millis(10), closed).is_some() {
            closed_at = Some(got);
            (&client).write_all(&[0; 50_000]).unwrap();
        }
    });
    assert_eq!(end.map_err(|error| error.kind()), Ok(()), "after {} bytes", got.len());
    assert!(got == frame(&pattern(1, LARGE)), "{} bytes", got.len());
    assert!(closed_at.is_some_and(|at| at < LARGE), "nothing was on its way any more: {closed_at:?}");
}

#[test]
fn an_abort_loses_what_is_on_its_way() {
    // The other side of the test above: the same bytes, and the way that is meant to lose them.
    let server = patient_server(|cx, from, _| {
        cx.send(from, &pattern(1, 2 * LARGE));
        cx.abort(from);
    });
    let client = server.connect();
    send_frame(&client, b"go");
    assert!(matches!(server.events.wait_closed(), CloseReason::Aborted));
    let (got, end) = read_all(&client, |_| {});
    assert!(got.len() < 2 * LARGE);
    assert!(is_cut(end.unwrap_err().kind()));
}

#[test]
fn a_bad_frame_does_not_cost_the_replies_to_the_good_ones() {
    let server = patient_server(echo);
    let client = server.connect();
    let good: Vec<_> = (0..5).map(|n| pattern(n, 150_000)).collect();
    let expected: Vec<_> = good.iter().flat_map(|message| frame(message)).collect();
    let (got, end) = thread::scope(|scope| {
        scope.spawn(|| {
            let mut wire = expected.clone();
            wire.extend(u32::MAX.to_be_bytes());
            (&client).write_all(&wire).unwrap();
            // It goes on and on. At some time the server has had enough, which is no concern of this test.
            let garbage = vec![0xee; 64 * 1024];
            for _ in 0..(8 << 20) / garbage.len() {
                if (&client).write_all(&garbage).is_err() {
                    break;
                }
            }
        });
        read_all(&client, |_| {})
    });
    assert_eq!(end.map_err(|error| error.kind()), Ok(()), "after {} bytes", got.len());
    assert!(got == expected, "{} bytes of {}", got.len(), expected.len());
    let reason = server.events.wait_closed();
    assert!(matches!(reason, CloseReason::FrameTooLong(_)), "{reason}");
}

#[test]
fn a_half_close_gets_every_reply_however_slowly_it_reads() {
    // chenshuo/muduo#130, #636: it passed at 10 MB and lost at 100.
    const COUNT: usize = 2_000;
    const LEN: usize = 16 * 1024;
    let server = Server::echo();
    let client = server.connect();
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..COUNT {
                send_frame(&client, &pattern(n, LEN));
            }
            client.shutdown(Shutdown::Write).unwrap();
        });
        for n in 0..COUNT {
            if n % 100 == 0 {
                thread::park_timeout(Duration::from_millis(5));
            }
            expect_frame(&client, &pattern(n, LEN));
        }
    });
    expect_end(&client);
    assert!(matches!(server.events.wait_closed(), CloseReason::Peer { truncated: false }));
}

#[test]
fn a_half_close_behind_a_full_pipe_neither_spins_nor_loses() {
    // netty/netty#6303 threw away what nobody had read yet; tokio-rs/mio PR #933 spun.
    let server = Server::echo();
    let client = server.connect();
    client.set_nonblocking(true).unwrap();
    // Everything that fits: nothing is read, so that the server has to stop reading.
    let mut wire = Vec::new();
    (0..1024).for_each(|n| wire.extend(frame(&pattern(n, 64 * 1024 - 4))));
    let (mut sent, mut quiet) = (0, now());
    while sent < wire.len() && now() < quiet + A_WHILE {
        match (&client).write(&wire[sent..]) {
            Ok(n) => (sent, quiet) = (sent + n, now()),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                thread::park_timeout(Duration::from_millis(1));
            }
        }
    }
    assert!(sent < wire.len(), "backpressure");
    client.shutdown(Shutdown::Write).unwrap();
    server.expect_rest();
    client.set_nonblocking(false).unwrap();
    let (got, end) = read_all(&client, |_| {});
    assert!(end.is_ok(), "{end:?} after {}", got.len());
    let whole = sent - sent % (64 * 1024);
    assert!(got == wire[..whole], "{} bytes of {whole}", got.len());
    let reason = server.events.wait_closed();
    assert!(matches!(reason, CloseReason::Peer { truncated } if truncated == (sent > whole)), "{reason}");
}

#[test]
fn a_peer_that_dies_while_we_write_is_one_reset() {
    // joyent/libuv#1244, chenshuo/muduo#280
    let server = Server::new(|cx, from, _| {
        cx.send(from, &[7; 16 << 20]);
    });
    let bystander = server.connect();
    let conn = server.events.wait_opened();
    let client = server.connect();
    let victim = server.events.wait_opened();
    send_frame(&client, b"go");
    let mut some = [0; 1_000];
    (&client).read_exact(&mut some).unwrap();
    reset(client);
    let (closed, reason) = server.events.wait("on_close", |event| match event {
        Event::Closed(conn, reason) => Some((conn, reason)),
        _ => None,
    });
    assert_eq!(closed, victim);
    assert!(matches!(reason, CloseReason::Reset), "{reason}");
    let sent = server.ask(move |cx| (cx.send(victim, b"more"), cx.send(conn, b"you live")));
    assert_eq!(sent, (Sent::Dropped(DropReason::Gone), Sent::Queued));
    expect_frame(&bystander, b"you live");
    server.expect_rest();
    let rest = server.events.so_far();
    assert!(rest.is_empty(), "nothing after on_close: {rest:?}");
}

#[test]
fn a_reset_of_a_paused_connection_is_noticed_at_once() {
    // netty/netty PR #5098: sockets piled up, as nobody noticed while reading was paused.
    let server = Server::new(|cx, from, message| match message {
        b"pause" => assert!(cx.pause(from)),
        _ => panic!("paused"),
    });
    let client = server.connect();
    let mut wire = frame(b"pause");
    wire.extend(frame(b"never delivered"));
    (&client).write_all(&wire).unwrap();
    server.wait_stats("the pause", |stats| stats.frames_in == 1);
    (&client).write_all(&frame(&[0; 100_000])).unwrap();
    server.expect_rest();
    reset(client);
    let reason = server.events.wait_closed();
    assert!(matches!(reason, CloseReason::Reset), "{reason}");
}

#[test]
fn data_and_the_end_in_one_segment_are_both_seen() {
    // rust-lang/miri PR #5106: the short read cleared readiness, and the end was never read.
    for message in [&b"hi"[..], b"", &[3; 20_000]] {
        let (tester, events) = Tester::new(echo);
        let (mut reactor, address) = listening(tester);
        let client = connect(address);
        turn_until(&mut reactor, "on_open", |_| events.told(opened));
        #[cfg(target_os = "linux")]
        socket2::SockRef::from(&client).set_tcp_cork(true).unwrap();
        send_frame(&client, message);
        client.shutdown(Shutdown::Write).unwrap();
        let reason = turn_until(&mut reactor, "on_close", |_| events.told(closed));
        assert!(matches!(reason, CloseReason::Peer { truncated: false }), "{reason}");
        expect_frame(&client, message);
        expect_end(&client);
    }
}

#[test]
fn an_end_inside_a_frame_is_told_from_one_between_frames() {
    let server = Server::echo();
    for (cut, truncated) in [(6, false), (0, false), (3, true), (11, true)] {
        let client = server.connect();
        let mut wire = frame(b"hi");
        wire.extend(frame(b"there"));
        (&client).write_all(&wire[..cut]).unwrap();
        drop(client);
        let reason = server.events.wait_closed();
        // Its reply may have met a socket that was closed already.
        let was_told = matches!(reason, CloseReason::Peer { truncated: is } if is == truncated);
        assert!(was_told || (cut >= 6 && matches!(reason, CloseReason::Reset)), "{cut} bytes: {reason}");
    }
}

#[test]
fn a_close_from_on_open_is_seen_as_an_end_in_order() {
    let (tester, events) = Tester::with_events(ignore, |cx, event| {
        if let Event::Opened(conn) = event {
            cx.send(*conn, b"go away");
            cx.close(*conn);
        }
    });
    let server = Server::with(Reactor::<Tester>::builder(), &ListenOptions::default(), (tester, events));
    let client = server.connect();
    // It had said something already: a plain close would have been a reset.
    drop((&client).write_all(&frame(&[1; 10_000])));
    expect_frame(&client, b"go away");
    expect_end(&client);
}

#[test]
fn a_shutdown_serves_those_in_the_accept_queue_and_lets_the_idle_go() {
    // hyperium/hyper#1885, benoitc/gunicorn PR #3612
    let mut limits = Limits::default();
    limits.accepts_per_turn = 5; // so that most are still in the queue
    limits.drain_timeout = PATIENCE; // the clients look at theirs one by one
    let mut reactor = Reactor::<Tester>::builder().limits(limits).build(Tester::new(echo).0).unwrap();
    let listening = reactor.listen("127.0.0.1:0", LengthPrefixed::default()).unwrap();
    let address = listening.address.ip().unwrap();
    let clients: Vec<_> = (0..50).map(|_| connect(address)).collect();
    clients.iter().for_each(|client| send_frame(client, b"last words"));
    let idle = connect(address);
    reactor.handle().shutdown();
    let runs = thread::spawn(move || reactor.run().map(|()| reactor));
    for client in &clients {
        expect_frame(client, b"last words");
        expect_end(client);
    }
    expect_end(&idle);
    drop((clients, idle));
    let reactor = runs.join().unwrap().unwrap();
    let report = reactor.shutdown_report();
    assert_eq!((report.drained, report.cut), (51, 0), "{report:?}");
    assert!(TcpStream::connect(address).is_err(), "the listener is closed");
}

#[test]
fn a_shutdown_is_not_held_up_by_a_peer_that_never_reads() {
    let mut limits = Limits::default();
    limits.drain_timeout = Duration::from_millis(200);
    let builder = Reactor::<Tester>::builder().limits(limits);
    let tester = Tester::new(|cx, from, _| {
        cx.send(from, &[0; 16 << 20]);
    });
    let server = Server::with(builder, &ListenOptions::default(), tester);
    let client = server.connect();
    send_frame(&client, b"go");
    server.wait_stats("the answer", |stats| stats.frames_in == 1);
    let reactor = server.stop();
    let report = reactor.shutdown_report();
    assert_eq!((report.drained, report.cut), (0, 1), "{report:?}");
    assert!(report.bytes_lost > 0);
    drop(client);
}

#[test]
fn a_socket_that_lingers_costs_no_time() {
    let server = patient_server(|cx, from, message| {
        cx.send(from, message);
        cx.close(from);
    });
    let client = server.connect();
    expect_echo(&client, b"the last word");
    expect_end(&client);
    // The client does not go, and says something now and then.
    server.expect_rest();
    send_frame(&client, b"to nobody");
    server.expect_rest();
}
