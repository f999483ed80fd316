//! Options of sockets, as the system sees them.

#![allow(clippy::unwrap_used, reason = "what a test's helper cannot do has failed the test")]

#[path = "common/reactor.rs"]
mod common;

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use common::*;
use mainspring::codec::LengthPrefixed;
use mainspring::{ConnId, Error, ListenOptions, Reactor, SocketOptions};
use socket2::SockRef;

fn codec() -> LengthPrefixed {
    LengthPrefixed::default()
}

fn with(change: impl FnOnce(&mut SocketOptions)) -> SocketOptions {
    let mut options = SocketOptions::default();
    change(&mut options);
    options
}

/// The socket of a client that a listener with these options has accepted.
fn accepted(name: &str, options: SocketOptions) -> TcpStream {
    let (tester, events) = Tester::new(ignore);
    let mut reactor = Reactor::new(tester).unwrap();
    let mut listen = ListenOptions::default();
    listen.socket = options;
    let address = reactor.listen_with(name, codec(), &listen).unwrap().address.ip().unwrap();
    let _client = connect(address);
    let conn = turn_until(&mut reactor, "on_open", |_| events.told(opened));
    reactor.into_std(conn).unwrap().stream.tcp().unwrap()
}

/// The socket of a dial of a reactor with these options.
fn dialed(name: &str, options: SocketOptions) -> TcpStream {
    let listener = TcpListener::bind(name).unwrap();
    let (tester, events) = Tester::new(ignore);
    let mut reactor = Reactor::<Tester>::builder().dial_options(options).build(tester).unwrap();
    let dial = reactor.connect(listener.local_addr().unwrap(), codec());
    let conn = turn_until(&mut reactor, "on_open", |_| events.told(opened));
    assert_eq!(conn, dial);
    reactor.into_std(conn).unwrap().stream.tcp().unwrap()
}

/// A socket that such a reactor has adopted.
fn adopted(options: SocketOptions) -> TcpStream {
    let (tester, events) = Tester::new(ignore);
    let mut reactor = Reactor::<Tester>::builder().dial_options(options).build(tester).unwrap();
    let (ours, _theirs) = pair();
    ours.set_nodelay(!options.nodelay).unwrap();
    let conn = reactor.context().adopt(ours, codec()).unwrap();
    turn_until(&mut reactor, "on_open", |_| events.told(opened));
    reactor.into_std(conn).unwrap().stream.tcp().unwrap()
}

/// Each way a socket comes to a reactor, with the same options.
fn each_way(options: SocketOptions) -> [(&'static str, TcpStream); 3] {
    [
        ("accepted", accepted("127.0.0.1:0", options)),
        ("dialed", dialed("127.0.0.1:0", options)),
        ("adopted", adopted(options)),
    ]
}

#[test]
fn nodelay_is_on_unless_told_otherwise() {
    for (way, stream) in each_way(SocketOptions::default()) {
        assert!(stream.nodelay().unwrap(), "{way}");
    }
    for (way, stream) in each_way(with(|options| options.nodelay = false)) {
        assert!(!stream.nodelay().unwrap(), "{way}");
    }
}

#[test]
fn all_else_is_the_systems_default() {
    let plain = connect(TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let plain = SockRef::from(&plain);
    for (way, stream) in each_way(SocketOptions::default()) {
        let socket = SockRef::from(&stream);
        assert!(!socket.keepalive().unwrap(), "{way}");
        assert_eq!(socket.linger().unwrap(), None, "{way}");
        assert_eq!(socket.ttl_v4().unwrap(), plain.ttl_v4().unwrap(), "{way}");
    }
}

#[test]
#[cfg(any(target_os = "linux", target_vendor = "apple", target_os = "freebsd"))]
fn keepalive_is_set_with_all_its_numbers() {
    let (idle, interval) = (Duration::from_secs(33), Duration::from_secs(7));
    let keepalive = mainspring::Keepalive { idle, interval, count: 5 };
    for (way, stream) in each_way(with(|options| options.keepalive = Some(keepalive))) {
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap(), "{way}");
        assert_eq!(socket.tcp_keepalive_time().unwrap(), keepalive.idle, "{way}");
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), keepalive.interval, "{way}");
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), keepalive.count, "{way}");
    }
}

#[test]
fn buffer_sizes_reach_the_socket() {
    // Linux doubles what it is told, for its own bookkeeping; others may round.
    let range = |wanted: usize| wanted..=wanted * 2;
    let options = with(|options| {
        options.send_buffer = Some(40_000);
        options.receive_buffer = Some(50_000);
    });
    for (way, stream) in each_way(options) {
        let socket = SockRef::from(&stream);
        let (send, receive) = (socket.send_buffer_size().unwrap(), socket.recv_buffer_size().unwrap());
        assert!(range(40_000).contains(&send), "{way}: {send}");
        assert!(range(50_000).contains(&receive), "{way}: {receive}");
    }
}

#[test]
fn linger_reaches_the_socket() {
    let linger = Some(Duration::from_secs(3));
    for (way, stream) in each_way(with(|options| options.linger = linger)) {
        assert_eq!(SockRef::from(&stream).linger().unwrap(), linger, "{way}");
        // Or dropping it here might wait.
        SockRef::from(&stream).set_linger(None).unwrap();
    }
}

#[test]
fn time_to_live_reaches_the_socket_of_either_family() {
    let options = with(|options| options.ttl = Some(42));
    for (way, stream) in each_way(options) {
        assert_eq!(SockRef::from(&stream).ttl_v4().unwrap(), 42, "{way}");
    }
    if has_ipv6() {
        for stream in [accepted("[::1]:0", options), dialed("[::1]:0", options)] {
            assert_eq!(SockRef::from(&stream).unicast_hops_v6().unwrap(), 42);
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn type_of_service_reaches_the_socket_of_either_family() {
    let options = with(|options| options.tos = Some(0x10));
    for (way, stream) in each_way(options) {
        assert_eq!(SockRef::from(&stream).tos_v4().unwrap(), 0x10, "{way}");
    }
    if has_ipv6() {
        for stream in [accepted("[::1]:0", options), dialed("[::1]:0", options)] {
            assert_eq!(SockRef::from(&stream).tclass_v6().unwrap(), 0x10);
        }
    }
}

#[test]
fn options_of_an_open_connection_can_be_changed() {
    let (tester, events) = Tester::new(ignore);
    let (mut reactor, address) = listening(tester);
    let client = connect(address);
    let conn: ConnId = turn_until(&mut reactor, "on_open", |_| events.told(opened));
    let options = with(|options| {
        options.nodelay = false;
        options.ttl = Some(17);
    });
    let refused = reactor.context().set_options(conn, &with(|options| options.ttl = Some(100_000)));
    assert!(refused.is_err(), "what the system does not take is told");
    reactor.context().set_options(conn, &options).unwrap();
    drop(client);
    let stream = reactor.into_std(conn).unwrap().stream;
    assert_eq!(SockRef::from(&stream).ttl_v4().unwrap(), 17);
    assert!(!stream.tcp().unwrap().nodelay().unwrap());
    let gone = reactor.context().set_options(conn, &options).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotConnected);
}

#[test]
fn any_backlog_is_taken_and_clients_get_through() {
    for backlog in [0, 1, 4096, u32::MAX] {
        let mut options = ListenOptions::default();
        options.backlog = backlog;
        let server = Server::with(Reactor::<Tester>::builder(), &options, Tester::new(echo));
        for n in 0..5u8 {
            expect_echo(&server.connect(), &[n]);
        }
    }
}

// ---- addresses that are in use, or were --------------------------------------------------------------------------

#[track_caller]
fn expect_in_use(result: Result<mainspring::Listening, Error>, wanted: SocketAddr) {
    match result {
        Err(Error::Listen { address, source }) => {
            assert_eq!(address.ip(), Some(wanted));
            assert_eq!(source.kind(), ErrorKind::AddrInUse);
        }
        other => panic!("not in use: {other:?}"),
    }
}

#[test]
fn a_second_server_cannot_take_the_port() {
    // yhirose/cpp-httplib PR #2409: it started without a word, and took half of the connections.
    let (mut first, address) = listening(Tester::new(ignore).0);
    let mut second = Reactor::new(Tester::new(ignore).0).unwrap();
    expect_in_use(second.listen(address, codec()), address);
    let mut options = ListenOptions::default();
    options.reuse_port = true;
    if cfg!(unix) {
        expect_in_use(second.listen_with(address, codec(), &options), address);
    }
    expect_in_use(first.listen(address, codec()), address);
    // And it is none the worse for it.
    let other = second.listen("127.0.0.1:0", codec()).unwrap();
    assert_ne!(other.address.ip(), Some(address));
}

#[test]
#[cfg(unix)]
fn servers_that_both_ask_for_it_share_a_port() {
    let mut options = ListenOptions::default();
    options.reuse_port = true;
    let mut first = Reactor::new(Tester::new(echo).0).unwrap();
    let address = first.listen_with("127.0.0.1:0", codec(), &options).unwrap().address.ip().unwrap();
    let mut second = Reactor::new(Tester::new(echo).0).unwrap();
    assert_eq!(second.listen_with(address, codec(), &options).unwrap().address.ip(), Some(address));
    let clients: Vec<_> = (0..20).map(|_| connect(address)).collect();
    clients.iter().for_each(|client| send_frame(client, b"whoever"));
    let mut answered = 0;
    while answered < 20 {
        let until = now() + PATIENCE;
        first.turn(Some(Duration::from_millis(1))).unwrap();
        second.turn(Some(Duration::from_millis(1))).unwrap();
        answered = first.stats().frames_out + second.stats().frames_out;
        assert!(now() < until, "{answered} of 20");
    }
    clients.iter().for_each(|client| expect_frame(client, b"whoever"));
}

#[test]
#[cfg(target_os = "linux")]
fn a_server_can_be_started_again_over_the_connections_of_its_past() {
    let (tester, events) = Tester::new(|cx, from, _| cx.close(from));
    let (mut reactor, address) = listening(tester);
    // The server closes first, so that TIME_WAIT is on its side.
    let client = connect(address);
    send_frame(&client, b"close me");
    turn_until(&mut reactor, "on_close", |_| events.told(closed));
    expect_end(&client);
    drop(client);
    // Its lingering socket meets the client's end.
    for _ in 0..5 {
        reactor.turn(Some(Duration::from_millis(1))).unwrap();
    }
    drop(reactor);

    let mut options = ListenOptions::default();
    options.reuse_address = false;
    let mut again = Reactor::new(Tester::new(echo).0).unwrap();
    expect_in_use(again.listen_with(address, codec(), &options), address);
    again.listen(address, codec()).expect("as reuse_address is on by default");
    let client = connect(address);
    send_frame(&client, b"hello again");
    turn_until(&mut again, "an answer", |reactor| (reactor.stats().frames_out == 1).then_some(()));
    expect_frame(&client, b"hello again");
}
