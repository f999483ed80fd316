//! Sockets that were made elsewhere: listeners, and streams that other threads bring.

#![allow(clippy::unwrap_used, reason = "what a test's helper cannot do has failed the test")]

#[path = "common/reactor.rs"]
mod common;

use std::net::TcpListener;
use std::sync::mpsc;

use common::*;
use mainspring::codec::LengthPrefixed;
use mainspring::{HandleError, Limits, ListenOptions, Reactor};
use socket2::{Domain, SockRef, Socket, Type};

fn codec() -> LengthPrefixed {
    LengthPrefixed::default()
}

#[test]
fn an_adopted_listener_serves_those_who_waited_in_it_and_those_who_come() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let early = connect(address);
    send_frame(&early, b"early");
    // Blocking, as it comes: a loop that accepted from it as it is would sleep in `accept`.
    let (tester, events) = Tester::new(echo);
    let mut reactor = Reactor::new(tester).unwrap();
    let listening = reactor.adopt_listener(listener, codec()).unwrap();
    assert_eq!(listening.address.ip(), Some(address));
    let server = Server::run(reactor, events, address);
    expect_frame(&early, b"early");
    let late = server.connect();
    expect_echo(&late, b"late");
    let conn = server.events.wait_opened();
    assert_eq!(server.ask(move |cx| cx.listener_of(conn)), Some(listening.id));
    let stats = server.stop().stats();
    assert_eq!((stats.accepted, stats.refused), (2, 0));
}

#[test]
fn what_an_adopted_listener_accepts_has_the_options_given() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut options = ListenOptions::default();
    options.connections_max = Some(1);
    options.socket.ttl = Some(33);
    let (tell, told) = mpsc::channel();
    let (tester, events) = Tester::with_events(echo, move |cx, event| {
        if let Event::Opened(conn) = event {
            cx.detach(*conn);
        }
        if let Event::Detached(_, detached) = event {
            let socket = SockRef::from(&detached.stream);
            tell.send((socket.ttl_v4().unwrap(), socket.tcp_nodelay().unwrap())).unwrap();
        }
    });
    let mut reactor = Reactor::new(tester).unwrap();
    reactor.adopt_listener_with(listener, codec(), &options).unwrap();
    let _server = Server::run(reactor, events, address);
    let _client = connect(address);
    assert_eq!(told.recv_timeout(PATIENCE), Ok((33, true)));
}

#[test]
fn the_maximum_of_an_adopted_listener_holds() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut options = ListenOptions::default();
    options.connections_max = Some(1);
    let (tester, events) = Tester::new(echo);
    let mut reactor = Reactor::new(tester).unwrap();
    reactor.adopt_listener_with(listener, codec(), &options).unwrap();
    let server = Server::run(reactor, events, address);
    let first = server.connect();
    expect_echo(&first, b"first");
    let _second = server.connect();
    server.wait_stats("the second to be refused", |stats| stats.refused == 1);
}

#[test]
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn a_socket_that_does_not_listen_is_not_adopted_as_a_listener() {
    let mut reactor = Reactor::new(Tester::new(ignore).0).unwrap();
    let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    bound.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    let (connected, _peer) = pair();
    let datagram = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let unix = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    let sockets: [Socket; 4] = [bound, connected.into(), datagram.into(), unix];
    for socket in sockets {
        let error = reactor.adopt_listener(TcpListener::from(socket), codec()).unwrap_err();
        assert!(matches!(error, mainspring::Error::Adopt(_)), "{error}");
    }
}

#[test]
#[cfg(unix)]
fn a_connected_socket_that_is_not_a_tcp_one_is_not_adopted_as_a_stream() {
    let mut reactor = Reactor::new(Tester::new(ignore).0).unwrap();
    let datagram = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    datagram.connect(datagram.local_addr().unwrap()).unwrap();
    let (unix, _peer) = Socket::pair(Domain::UNIX, Type::STREAM, None).unwrap();
    for socket in [datagram.into(), unix] {
        let error = reactor.context().adopt(std::net::TcpStream::from(socket), codec()).unwrap_err();
        assert!(matches!(error, mainspring::Error::Adopt(_)), "{error}");
    }
}

#[test]
fn another_thread_hands_over_a_socket_with_all_that_has_come_for_it() {
    let server = Server::echo();
    let (ours, theirs) = pair();
    send_frame(&theirs, b"before");
    server.handle.adopt(ours, codec()).unwrap();
    expect_frame(&theirs, b"before");
    expect_echo(&theirs, b"after");
    server.events.wait_opened();
    assert_eq!(server.stats().accepted, 1);
}

#[test]
fn a_handed_over_socket_that_cannot_be_taken_in_is_counted_and_closed() {
    let server = Server::echo();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    server.handle.adopt(std::net::TcpStream::from(socket), codec()).unwrap();
    server.wait_stats("it to be refused", |stats| stats.refused == 1);
    assert!(server.events.so_far().is_empty(), "nobody is told of what was never a connection");
}

#[test]
fn a_socket_that_is_not_handed_over_comes_back() {
    let mut limits = Limits::default();
    limits.commands_max = 1;
    let (tester, _events) = Tester::new(echo);
    let mut reactor = Reactor::<Tester>::builder().limits(limits).build(tester).unwrap();
    let handle = reactor.handle();
    let (ours, theirs) = pair();
    handle.run(|_, _| {}).unwrap();
    let Err(HandleError::Full(ours)) = handle.try_adopt(ours, codec()) else { panic!("it is full") };
    reactor.turn(Some(std::time::Duration::ZERO)).unwrap();
    handle.try_adopt(ours, codec()).unwrap();
    send_frame(&theirs, b"still whole");
    turn_until(&mut reactor, "an answer", |reactor| (reactor.stats().frames_out == 1).then_some(()));
    expect_frame(&theirs, b"still whole");
    drop(reactor);
    let (ours, _theirs) = pair();
    let Err(HandleError::Gone(ours)) = handle.adopt(ours, codec()) else { panic!("it is gone") };
    assert!(ours.peer_addr().is_ok());
}
