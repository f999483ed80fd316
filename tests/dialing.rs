//! Dials on the sockets of the system: each has one answer, from the loop, never from inside the call.

#![allow(clippy::unwrap_used, reason = "what a test's helper cannot do has failed the test")]

#[path = "common/reactor.rs"]
mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use common::*;
use mainspring::codec::LengthPrefixed;
use mainspring::{
    Address, ConnId, Dial, DialError, DropReason, Limits, Reactor, Reconnect, Sent, SocketOptions,
};
use socket2::{Domain, Socket, Type};

fn codec() -> LengthPrefixed {
    LengthPrefixed::default()
}

fn v4(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn reactor(tester: Tester, change: impl FnOnce(&mut Limits)) -> Reactor<Tester> {
    let mut limits = Limits::default();
    change(&mut limits);
    Reactor::<Tester>::builder().limits(limits).build(tester).unwrap()
}

/// A port that nobody listens on, and that stays so for as long as the socket lives.
fn dead_port() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&v4(0).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

/// Whether `event` is the failure of that dial; any other event is a surprise.
#[track_caller]
fn failure_of(conn: ConnId) -> impl FnMut(Event) -> Option<DialError> {
    move |event| match event {
        Event::DialFailed(failed, error) if failed == conn => Some(error),
        other => panic!("unexpected: {other:?}"),
    }
}

/// Asserts that nothing more is heard.
fn expect_silence(reactor: &mut Reactor<Tester>, events: &Events) {
    for _ in 0..20 {
        reactor.turn(Some(Duration::from_millis(1))).unwrap();
    }
    let more = events.so_far();
    assert!(more.is_empty(), "{more:?}");
}

#[test]
fn a_dial_that_succeeds_talks_both_ways() {
    let listeners = ["127.0.0.1:0", "[::1]:0"];
    for name in &listeners[..if has_ipv6() { 2 } else { 1 }] {
        let listener = TcpListener::bind(name).unwrap();
        let address = listener.local_addr().unwrap();
        let (tester, events) = Tester::new(echo);
        let mut reactor = reactor(tester, |_| {});
        let conn = reactor.connect(address, codec());
        assert!(events.so_far().is_empty(), "not from inside the call");
        assert_eq!(turn_until(&mut reactor, "on_open", |_| events.told(opened)), conn);
        let (peer, from) = listener.accept().unwrap();
        assert_eq!(reactor.context().local_addr(conn).unwrap().ip(), Some(from));
        assert_eq!(reactor.context().peer_addr(conn).unwrap().ip(), Some(address));
        assert_eq!(reactor.context().listener_of(conn), None);
        let peer = patient(peer);
        send_frame(&peer, b"there and back");
        turn_until(&mut reactor, "a message", |reactor| (reactor.stats().frames_out == 1).then_some(()));
        expect_frame(&peer, b"there and back");
        assert!(reactor.context().send(conn, b"unasked").is_queued());
        turn_until(&mut reactor, "a message", |reactor| (reactor.stats().frames_out == 2).then_some(()));
        expect_frame(&peer, b"unasked");
        drop(peer);
        turn_until(&mut reactor, "on_close", |_| events.told(closed));
        let stats = reactor.stats();
        assert_eq!((stats.connected, stats.accepted, stats.closed, stats.dials_failed), (1, 0, 1, 0));
    }
}

#[test]
fn a_dial_that_succeeded_is_not_timed_out() {
    let listener = TcpListener::bind(v4(0)).unwrap();
    let (tester, events) = Tester::new(ignore);
    let mut reactor = reactor(tester, |limits| limits.dial_timeout = Duration::from_millis(50));
    reactor.connect(listener.local_addr().unwrap(), codec());
    turn_until(&mut reactor, "on_open", |_| events.told(opened));
    let since = reactor.context().now();
    turn_until(&mut reactor, "the time to pass", |reactor| {
        (reactor.context().now() > since + Duration::from_millis(150)).then_some(())
    });
    assert_eq!((reactor.stats().open, reactor.stats().dials_failed), (1, 0));
}

#[test]
fn what_is_sent_before_the_dial_has_an_answer_waits_for_it() {
    let listener = TcpListener::bind(v4(0)).unwrap();
    let (tester, events) = Tester::new(ignore);
    let mut reactor = reactor(tester, |_| {});
    let conn = reactor.connect(listener.local_addr().unwrap(), codec());
    assert!(reactor.context().is_open(conn));
    assert_eq!(reactor.context().send(conn, b"first"), Sent::Queued);
    let large = pattern(2, 100_000);
    assert_eq!(reactor.context().send(conn, &large), Sent::Queued);
    turn_until(&mut reactor, "on_open", |_| events.told(opened));
    let peer = patient(listener.accept().unwrap().0);
    turn_until(&mut reactor, "both", |reactor| (reactor.stats().frames_out == 2).then_some(()));
    expect_frame(&peer, b"first");
    expect_frame(&peer, &large);
}

#[test]
fn a_refused_dial_is_one_failure_and_no_close() {
    let (_holder, address) = dead_port();
    let (tester, events) = Tester::new(ignore);
    let mut reactor = reactor(tester, |_| {});
    let conn = reactor.connect(address, codec());
    reactor.context().send(conn, b"into the void");
    assert!(events.so_far().is_empty(), "not from inside the call");
    let error = turn_until(&mut reactor, "a failure", |_| events.told(failure_of(conn)));
    assert!(
        matches!(&error, DialError::Failed { attempts } if attempts.len() == 1
            && attempts[0].address.ip() == Some(address)
            && attempts[0].error.kind() == ErrorKind::ConnectionRefused),
        "{error}"
    );
    assert_eq!(reactor.context().send(conn, b"again"), Sent::Dropped(DropReason::Gone));
    expect_silence(&mut reactor, &events);
    let stats = reactor.stats();
    assert_eq!((stats.dials_failed, stats.connected, stats.closed, stats.open), (1, 0, 0, 0));
    assert_eq!(stats.buffered_bytes, 0);
}

#[test]
fn a_failure_at_once_comes_from_the_loop_all_the_same() {
    let (tester, events) = Tester::new(ignore);
    let mut reactor = reactor(tester, |_| {});
    // Nobody can listen on port 0.
    let conn = reactor.connect(v4(0), codec());
    assert!(events.so_far().is_empty(), "not from inside the call");
    turn_until(&mut reactor, "a failure", |_| events.told(failure_of(conn)));

    // An option that no system takes.
    let listener = TcpListener::bind(v4(0)).unwrap();
    let mut options = SocketOptions::default();
    options.ttl = Some(100_000);
    let address = listener.local_addr().unwrap();
    let conn = reactor.context().connect_with(address, codec(), &options);
    assert!(events.so_far().is_empty(), "not from inside the call");
    assert_eq!(reactor.next_timeout(), Some(Duration::ZERO), "the failure is work left over");
    turn_until(&mut reactor, "a failure", |_| events.told(failure_of(conn)));
    expect_silence(&mut reactor, &events);
    assert_eq!(reactor.stats().dials_failed, 2);
}

#[test]
fn a_dial_that_is_closed_or_aborted_is_cancelled() {
    let listener = TcpListener::bind(v4(0)).unwrap();
    let address = listener.local_addr().unwrap();
    for abort in [false, true] {
        let (tester, events) = Tester::new(ignore);
        let mut reactor = reactor(tester, |_| {});
        let conn = reactor.connect(address, codec());
        if abort {
            reactor.context().abort(conn);
        } else {
            reactor.context().close(conn);
        }
        assert!(events.so_far().is_empty(), "not from inside the call");
        let error = turn_until(&mut reactor, "a failure", |_| events.told(failure_of(conn)));
        assert!(matches!(error, DialError::Cancelled), "{error}");
        expect_silence(&mut reactor, &events);
        assert_eq!(reactor.stats().closed, 0);
    }
}

#[test]
fn nothing_is_dialed_during_a_shutdown() {
    let (tester, events) = Tester::new(ignore);
    let mut reactor = reactor(tester, |_| {});
    let listener = TcpListener::bind(v4(0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    reactor.context().shutdown();
    let late = reactor.connect(listener.local_addr().unwrap(), codec());
    assert!(!reactor.context().is_open(late));
    reactor.run().unwrap();
    assert!(events.so_far().is_empty());
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_hundred_dials_at_once_all_open_and_talk() {
    const COUNT: usize = 100;
    let listener = TcpListener::bind(v4(0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (tester, events) = Tester::with_events(echo, |cx, event| {
        if let Event::Opened(conn) = event {
            cx.send(*conn, b"hello");
        }
    });
    let mut reactor = reactor(tester, |_| {});
    let mut dials: Vec<_> = (0..COUNT).map(|_| reactor.connect(address, codec())).collect();
    let mut open = Vec::new();
    turn_until(&mut reactor, "all to open", |_| {
        open.extend(events.so_far().into_iter().filter_map(opened));
        (open.len() == COUNT).then_some(())
    });
    open.sort();
    dials.sort();
    assert_eq!(open, dials, "each by the name that connect gave");
    let peers: Vec<_> = (0..COUNT).map(|_| patient(listener.accept().unwrap().0)).collect();
    for (n, peer) in peers.iter().enumerate() {
        send_frame(peer, &pattern(n, 500));
    }
    turn_until(&mut reactor, "all answers", |reactor| {
        (reactor.stats().frames_out == 2 * COUNT as u64).then_some(())
    });
    for (n, peer) in peers.iter().enumerate() {
        expect_frame(peer, b"hello");
        expect_frame(peer, &pattern(n, 500));
    }
}

#[test]
fn a_reactor_can_dial_itself() {
    let (tester, events) = Tester::new(|cx, from, message| {
        if cx.listener_of(from).is_some() {
            cx.send(from, message);
        } else {
            cx.close(from);
        }
    });
    let (mut reactor, address) = listening(tester);
    let conn = reactor.connect(address, codec());
    reactor.context().send(conn, b"to myself");
    turn_until(&mut reactor, "both ends", |reactor| (reactor.stats().closed == 2).then_some(()));
    let stats = reactor.stats();
    assert_eq!((stats.accepted, stats.connected, stats.frames_in), (1, 1, 2));
    drop(events);
}

#[test]
fn a_peer_that_leaves_before_on_open_still_opens_and_closes_once() {
    let listener = TcpListener::bind(v4(0)).unwrap();
    let (tester, events) = Tester::new(ignore);
    let mut reactor = reactor(tester, |_| {});
    let conn = reactor.connect(listener.local_addr().unwrap(), codec());
    let mut peer = listener.accept().unwrap().0;
    peer.write_all(&frame(b"bye")).unwrap();
    drop(peer);
    let mut told = Vec::new();
    turn_until(&mut reactor, "on_close", |_| {
        told.extend(events.so_far());
        told.iter().any(|event| matches!(event, Event::Closed(..))).then_some(())
    });
    assert!(matches!(&told[..], [Event::Opened(a), Event::HalfClosed(b), Event::Closed(c, _)]
        if [*a, *b, *c] == [conn; 3]));
    assert_eq!(reactor.stats().frames_in, 1, "data before the end is delivered");
}

/// An address that takes a client's first packet and never answers: its accept queue is full. `None` where it answers all
/// the same. The sockets keep it so.
#[cfg(target_os = "linux")]
fn silent_address() -> Option<(SocketAddr, Socket, Vec<std::net::TcpStream>)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&v4(0).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut fillers = Vec::new();
    for _ in 0..8 {
        match std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
            Ok(filler) => fillers.push(filler),
            Err(error) if error.kind() == ErrorKind::TimedOut => return Some((address, socket, fillers)),
            Err(error) => panic!("{error}"),
        }
    }
    println!("skipped: a full queue of clients answers here");
    None
}

#[test]
#[cfg(target_os = "linux")]
fn a_dial_without_an_answer_ends_in_time() {
    let Some((address, _listener, _fillers)) = silent_address() else { return };
    let (tester, events) = Tester::new(ignore);
    let mut reactor = reactor(tester, |limits| limits.dial_timeout = Duration::from_millis(150));
    let begin = now();
    let conn = reactor.connect(address, codec());
    let error = turn_until(&mut reactor, "a failure", |_| events.told(failure_of(conn)));
    assert!(matches!(error, DialError::TimedOut { .. }), "{error}");
    assert!(now() - begin >= Duration::from_millis(150), "not before its time");
    expect_silence(&mut reactor, &events);
    assert_eq!(reactor.stats().dials_failed, 1);

    // One that is closed while it really waits.
    let conn = reactor.connect(address, codec());
    reactor.turn(Some(Duration::from_millis(1))).unwrap();
    reactor.context().close(conn);
    let error = turn_until(&mut reactor, "a failure", |_| events.told(failure_of(conn)));
    assert!(matches!(error, DialError::Cancelled), "{error}");
    expect_silence(&mut reactor, &events);

    // And one that a shutdown finds.
    let conn = reactor.connect(address, codec());
    reactor.context().shutdown();
    reactor.run().unwrap();
    let error = events.told(failure_of(conn)).unwrap();
    assert!(matches!(error, DialError::Cancelled), "{error}");
}

/// Linux gives the ports of outgoing connections out in a row, those with the parity of the range's first: a dial to a dead
/// port among them meets itself within one round.
#[test]
#[cfg(target_os = "linux")]
fn a_dial_that_meets_itself_is_a_refused_one() {
    // tokio-rs/tokio#3405: it held the port, and the real server could not start.
    const AT_ONCE: usize = 200;
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let first: u16 = range.split_whitespace().next().unwrap().parse().unwrap();
    let (tester, events) = Tester::new(ignore);
    let mut reactor = reactor(tester, |_| {});
    let (mut dials, mut met_itself) = (0, false);
    // Not every port will do: someone may have had it a moment ago.
    for _ in 0..4 {
        let port = dead_port().1.port() & !1 | first & 1;
        for _ in 0..16_000 / AT_ONCE {
            for _ in 0..AT_ONCE {
                reactor.connect(v4(port), codec());
            }
            dials += AT_ONCE;
            turn_until(&mut reactor, "failures", |reactor| {
                (reactor.stats().dials_failed == dials as u64).then_some(())
            });
            for event in events.so_far() {
                let Event::DialFailed(_, DialError::Failed { attempts }) = event else { panic!("{event:?}") };
                assert_eq!(attempts[0].error.kind(), ErrorKind::ConnectionRefused);
                met_itself |= matches!(attempts[0].error, mainspring::AttemptError::Itself);
            }
            if met_itself {
                // Not bound to see: another test may have been given the port just now.
                let itself = format!(" 0100007F:{port:04X} 0100007F:{port:04X} ");
                turn_until(&mut reactor, "the port is not held by a connection to itself", |_| {
                    let all = std::fs::read_to_string("/proc/net/tcp").unwrap();
                    (!all.contains(&itself)).then_some(())
                });
                return;
            }
        }
    }
    println!("skipped: none of {dials} dials met itself");
}

#[test]
fn an_end_that_was_read_while_dialing_is_not_lost() {
    // Data, the end and the answer to the dial come in one batch.
    let listener = TcpListener::bind(v4(0)).unwrap();
    let (tester, events) = Tester::new(echo);
    let mut reactor = reactor(tester, |_| {});
    let conn = reactor.connect(listener.local_addr().unwrap(), codec());
    let peer = patient(listener.accept().unwrap().0);
    send_frame(&peer, b"question");
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    turn_until(&mut reactor, "on_close", |_| events.told(closed));
    expect_frame(&peer, b"question");
    assert_eq!((&peer).read(&mut [0; 1]).unwrap(), 0);
    assert!(!reactor.context().is_open(conn));
}

#[test]
fn every_address_of_a_name_is_tried() {
    // eventmachine/eventmachine#861: `localhost` is ::1 first, and the server listens on 127.0.0.1.
    let listeners = ["127.0.0.1:0", "[::1]:0"];
    for name in &listeners[..if has_ipv6() { 2 } else { 1 }] {
        let listener = TcpListener::bind(name).unwrap();
        let port = listener.local_addr().unwrap().port();
        if mainspring::resolve(&format!("localhost:{port}"))
            .is_ok_and(|all| !all.contains(&Address::Ip(listener.local_addr().unwrap())))
        {
            println!("skipped: localhost is not {name} here");
            continue;
        }
        let (tester, events) = Tester::new(echo);
        let mut reactor = reactor(tester, |_| {});
        let conn = reactor.connect(format!("localhost:{port}"), codec());
        assert!(reactor.context().send(conn, b"by name").is_queued());
        assert!(events.so_far().is_empty(), "not from inside the call");
        assert_eq!(turn_until(&mut reactor, "on_open", |_| events.told(opened)), conn);
        assert_eq!(reactor.context().peer_addr(conn).unwrap().ip(), listener.local_addr().ok());
        let peer = patient(listener.accept().unwrap().0);
        turn_until(&mut reactor, "the message", |reactor| (reactor.stats().frames_out == 1).then_some(()));
        expect_frame(&peer, b"by name");
        send_frame(&peer, b"and back");
        turn_until(&mut reactor, "the answer", |reactor| (reactor.stats().frames_out == 2).then_some(()));
        expect_frame(&peer, b"and back");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_dead_and_a_silent_address_do_not_keep_a_dial_from_the_third() {
    let Some((silent, _listener, _fillers)) = silent_address() else { return };
    let (_holder, dead) = dead_port();
    let listener = TcpListener::bind(v4(0)).unwrap();
    let alive = listener.local_addr().unwrap();
    let (tester, events) = Tester::new(ignore);
    let mut reactor = reactor(tester, |_| {});
    let begin = now();
    let all: Vec<Address> = [dead, silent, alive].map(Address::Ip).into();
    let conn = reactor.connect(all, codec());
    assert_eq!(turn_until(&mut reactor, "on_open", |_| events.told(opened)), conn);
    assert!(now() - begin >= Duration::from_millis(250), "the silent one had its time");
    assert_eq!(reactor.context().peer_addr(conn).unwrap().ip(), Some(alive));
    expect_silence(&mut reactor, &events);

    // Without the third, each is named.
    let all: Vec<Address> = [dead, silent].map(Address::Ip).into();
    let conn = reactor.connect(Dial::from(all).within(Duration::from_millis(300)), codec());
    let error = turn_until(&mut reactor, "a failure", |_| events.told(failure_of(conn)));
    assert!(matches!(&error, DialError::TimedOut { attempts } if attempts.len() == 2), "{error}");
    let kinds: Vec<_> = error.attempts().iter().map(|attempt| attempt.error.kind()).collect();
    assert_eq!(kinds, [ErrorKind::ConnectionRefused, ErrorKind::TimedOut]);
    let text = error.to_string();
    assert!(text.contains(&dead.to_string()) && text.contains(&silent.to_string()), "{text}");
    assert_eq!(text.lines().count(), 1);
}

#[test]
fn what_cannot_be_looked_up_is_one_failure() {
    let (tester, events) = Tester::new(ignore);
    let mut reactor = reactor(tester, |_| {});
    let conn = reactor.connect("no port", codec());
    let error = turn_until(&mut reactor, "a failure", |_| events.told(failure_of(conn)));
    assert!(matches!(&error, DialError::Malformed { text } if text == "no port"), "{error}");

    // Nobody has this name (RFC 6761). A resolver that does not know that may take its time to say so.
    let conn = reactor.connect("nobody.invalid:80", codec());
    let error = turn_until(&mut reactor, "a failure", |_| events.told(failure_of(conn)));
    let told = matches!(&error, DialError::Resolve { name, .. } if name == "nobody.invalid:80");
    assert!(told || matches!(&error, DialError::TimedOut { attempts } if attempts.is_empty()), "{error}");
    expect_silence(&mut reactor, &events);
    assert_eq!(reactor.stats().dials_failed, 2);
}

#[test]
fn a_loop_that_sleeps_is_woken_by_the_name_it_waits_for() {
    let listener = TcpListener::bind(v4(0)).unwrap();
    let (tester, events) = Tester::new(ignore);
    let mut reactor = reactor(tester, |limits| limits.dial_timeout = Duration::from_secs(3600));
    reactor.connect(format!("localhost:{}", listener.local_addr().unwrap().port()), codec());
    let server = Server::run(reactor, events, listener.local_addr().unwrap());
    server.events.wait_opened();
    server.expect_rest();
}

#[test]
fn a_reactor_that_is_dropped_waits_for_no_name() {
    let (tester, _events) = Tester::new(ignore);
    let mut reactor = reactor(tester, |_| {});
    for n in 0..8 {
        reactor.connect(format!("nobody-{n}.invalid:80"), codec());
    }
    let begin = now();
    drop(reactor);
    assert!(now() - begin < Duration::from_secs(1));
}

#[test]
fn a_connection_is_dialed_again_until_it_is_closed() {
    let mut policy = Reconnect::default();
    policy.delay_min = Duration::from_millis(5);
    policy.delay_max = Duration::from_millis(20);
    let (tester, events) = Tester::with_events(ignore, |cx, event| {
        if let Event::Closed(conn, _) | Event::DialFailed(conn, _) = event {
            if let Some(next) = cx.successor(*conn) {
                cx.send(next, b"back again");
            }
        }
    });
    let mut reactor = reactor(tester, |_| {});
    // A server that is not up yet: the port is held all along.
    let (holder, address) = dead_port();
    reactor.connect(Dial::to(address).reconnect(policy), codec());
    turn_until(&mut reactor, "some failures", |reactor| (reactor.stats().dials_failed >= 3).then_some(()));
    holder.listen(16).unwrap();
    let listener = TcpListener::from(holder);
    let first = turn_until(&mut reactor, "on_open", |_| events.told(opened));
    reset(listener.accept().unwrap().0);
    let second = turn_until(&mut reactor, "on_open", |_| events.told(opened));
    assert_ne!(first, second);
    assert_eq!(reactor.context().send(first, b"x"), Sent::Dropped(DropReason::Gone));
    turn_until(&mut reactor, "the messages", |reactor| (reactor.stats().frames_out == 2).then_some(()));
    let peer = patient(listener.accept().unwrap().0);
    expect_frame(&peer, b"back again");

    reactor.context().close(second);
    turn_until(&mut reactor, "on_close", |_| events.told(closed));
    expect_silence(&mut reactor, &events);
    assert_eq!(reactor.stats().connected, 2);
}
