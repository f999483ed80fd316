//! Servers and their clients on the sockets of the system.

#[path = "common/reactor.rs"]
mod common;

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

use common::*;
use mainspring::codec::LengthPrefixed;
use mainspring::{
    Address, CloseReason, ConnId, Context, Handler, ListenOptions, Listening, Reactor, Stats, serve,
};

fn codec() -> LengthPrefixed {
    LengthPrefixed::default()
}

fn ip(listening: &Listening) -> SocketAddr {
    listening.address.ip().expect("an IP address")
}

/// A loopback address of that port.
fn v4(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

#[test]
fn one_reactor_serves_both_families() {
    if !has_ipv6() {
        return;
    }
    let (tester, events) = Tester::new(echo);
    let mut reactor = Reactor::new(tester).unwrap();
    let four = ip(&reactor.listen("127.0.0.1:0", codec()).unwrap());
    let six = ip(&reactor.listen("[::1]:0", codec()).unwrap());
    assert!(four.is_ipv4() && six.is_ipv6() && four.port() != 0 && six.port() != 0);
    let server = Server::run(reactor, events, four);
    for address in [four, six] {
        let client = connect(address);
        expect_echo(&client, b"hello");
        expect_echo(&client, b"");
        let conn = server.events.wait_opened();
        let (peer, local) = server.ask(move |cx| (cx.peer_addr(conn).cloned(), cx.local_addr(conn)));
        assert_eq!(peer, Some(Address::Ip(client.local_addr().unwrap())));
        assert_eq!(local, Some(Address::Ip(address)));
    }
}

#[test]
fn an_ipv4_client_of_a_dual_stack_listener_has_an_ipv4_address() {
    if !has_ipv6() {
        return;
    }
    let (tester, events) = Tester::new(echo);
    let mut reactor = Reactor::new(tester).unwrap();
    let mut options = ListenOptions::default();
    options.dual_stack = true;
    let address = ip(&reactor.listen_with("[::]:0", codec(), &options).unwrap());
    let server = Server::run(reactor, events, address);
    for target in [v4(address.port()), format!("[::1]:{}", address.port()).parse().unwrap()] {
        let client = connect(target);
        expect_echo(&client, b"hello");
        let conn = server.events.wait_opened();
        let peer = server.ask(move |cx| cx.peer_addr(conn).cloned());
        assert_eq!(peer, Some(Address::Ip(client.local_addr().unwrap())), "as the client sees itself");
    }
}

#[test]
fn an_ipv6_listener_leaves_ipv4_alone_unless_told_otherwise() {
    if !has_ipv6() {
        return;
    }
    // A server of the other family has the port already, and keeps its clients.
    let other = TcpListener::bind(v4(0)).unwrap();
    let port = other.local_addr().unwrap().port();
    let any = SocketAddr::from(([0u16; 8], port));
    let mut reactor = Reactor::new(Tester::new(echo).0).unwrap();
    let mut options = ListenOptions::default();
    options.dual_stack = true;
    assert!(reactor.listen_with(any, codec(), &options).is_err(), "with both families the port is in use");
    reactor.listen(any, codec()).unwrap();
    let client = connect(v4(port));
    assert_eq!(other.accept().unwrap().1, client.local_addr().unwrap());
}

#[test]
fn listeners_come_and_go_while_the_loop_runs() {
    let server = Server::echo();
    let old = server.connect();
    expect_echo(&old, b"before");

    let listening = server.ask(|cx| cx.listen(v4(0), codec()).unwrap());
    let address = ip(&listening);
    assert_eq!(server.ask(move |cx| cx.listener_addr(listening.id)), Some(Address::Ip(address)));
    let client = connect(address);
    expect_echo(&client, b"through the new one");
    let of = server.ask(|cx| cx.connections().iter().map(|conn| cx.listener_of(*conn)).collect::<Vec<_>>());
    assert_eq!(of.len(), 2);
    assert!(of.contains(&Some(listening.id)), "{of:?}");

    assert!(server.ask(move |cx| cx.unlisten(listening.id)));
    assert!(!server.ask(move |cx| cx.unlisten(listening.id)), "once");
    assert!(TcpStream::connect(address).is_err(), "nobody listens there any more");
    expect_echo(&client, b"connections stay");
    expect_echo(&old, b"the others too");
    let next = server.ask(|cx| cx.listen(v4(0), codec()).unwrap());
    assert_ne!(next.id, listening.id, "a name is never given out again");
    expect_echo(&connect(ip(&next)), b"and the next");
    expect_echo(&server.connect(), b"and the first");
}

#[test]
fn a_client_that_waited_in_the_queue_is_served_by_the_first_turn() {
    let (tester, _events) = Tester::new(echo);
    let (mut reactor, address) = listening(tester);
    let clients: Vec<_> = (0..20u8).map(|n| (n, connect(address))).collect();
    for (n, client) in &clients {
        send_frame(client, &[*n]);
    }
    turn_until(&mut reactor, "20 messages", |reactor| (reactor.stats().frames_out == 20).then_some(()));
    for (n, client) in &clients {
        expect_frame(client, &[*n]);
    }
}

#[test]
fn a_function_serves_until_it_asks_for_the_end() {
    // The port is ours before the server's, which listens later: bound is not listening, so nobody else gets it.
    let holder = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    if cfg!(unix) {
        holder.set_reuse_address(true).unwrap();
    }
    holder.bind(&v4(0).into()).unwrap();
    let address = holder.local_addr().unwrap().as_socket().unwrap();
    if !cfg!(unix) {
        drop(holder);
    }
    let (ends, ended) = mpsc::channel();
    let server = thread::spawn(move || {
        let mut count = 0u32;
        let result = serve(address, codec(), move |cx, from, message| {
            count += 1;
            cx.send(from, &count.to_be_bytes());
            if message == b"enough" {
                cx.shutdown();
            }
        });
        ends.send(result.is_ok()).unwrap();
    });
    let client = wait_for("the server", || TcpStream::connect(address).ok().map(patient));
    let idle = connect(address);
    send_frame(&client, b"");
    expect_frame(&client, &1u32.to_be_bytes());
    send_frame(&client, b"enough");
    expect_frame(&client, &2u32.to_be_bytes());
    expect_end(&client);
    expect_end(&idle);
    drop((client, idle));
    assert!(ended.recv_timeout(PATIENCE).unwrap());
    server.join().unwrap();
}

#[test]
fn a_function_cannot_serve_an_address_in_use() {
    let taken = TcpListener::bind(v4(0)).unwrap();
    let address = taken.local_addr().unwrap();
    let error = serve(address, codec(), |_, _, _| {}).unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

/// Answers with how many messages, and how many bytes, this connection has sent.
struct Counter {
    closed: mpsc::Sender<Tally>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tally {
    messages: u32,
    bytes: u32,
}

impl Handler for Counter {
    type Codec = LengthPrefixed;
    type Session = Tally;

    fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, message: &[u8]) {
        let tally = cx.session_mut(from).expect("it is open");
        tally.messages += 1;
        tally.bytes += message.len() as u32;
        let answer = format!("{} {}", tally.messages, tally.bytes);
        cx.send(from, answer.as_bytes());
    }

    fn on_close(&mut self, cx: &mut Context<Self>, conn: ConnId, _: CloseReason, session: Tally) {
        assert!(cx.session(conn).is_none(), "it is given back");
        self.closed.send(session).expect("the test listens");
    }
}

#[test]
fn sessions_are_one_for_each_connection_of_each_reactor() {
    let start = || {
        let (closed, tallies) = mpsc::channel();
        let mut reactor = Reactor::new(Counter { closed }).unwrap();
        let address = ip(&reactor.listen("127.0.0.1:0", codec()).unwrap());
        let handle = reactor.handle();
        let thread = thread::spawn(move || reactor.run().map(|()| reactor.stats()));
        (address, handle, tallies, thread)
    };
    let (one, two) = (start(), start());
    let clients: Vec<_> = [one.0, one.0, two.0, two.0].into_iter().map(connect).collect();
    for round in 1..=5u32 {
        for (n, client) in (1..).zip(&clients) {
            send_frame(client, &vec![0; n]);
            expect_frame(client, format!("{round} {}", round * n as u32).as_bytes());
        }
    }
    drop(clients);
    for (reactor, total) in [(one, 5 * (1 + 2)), (two, 5 * (3 + 4))] {
        let back: Vec<Tally> = (0..2).map(|_| reactor.2.recv_timeout(PATIENCE).unwrap()).collect();
        assert_eq!(back.iter().map(|tally| tally.bytes).sum::<u32>(), total);
        assert!(back.iter().all(|tally| tally.messages == 5), "{back:?}");
        reactor.1.shutdown();
        let stats: Stats = reactor.3.join().unwrap().unwrap();
        assert_eq!((stats.accepted, stats.closed, stats.frames_in), (2, 2, 10));
    }
}

#[test]
fn names_are_looked_up() {
    let mut reactor = Reactor::new(Tester::new(echo).0).unwrap();
    let listening = reactor.listen("localhost:0", codec()).unwrap();
    assert!(ip(&listening).ip().is_loopback());
    let error = reactor.listen("127.0.0.1", codec()).unwrap_err();
    assert!(error.to_string().contains("127.0.0.1"), "a port is missing: {error}");
}

#[test]
fn a_small_message_is_not_held_back_by_a_large_one_of_another() {
    let server = Server::echo();
    let (big, small) = (server.connect(), server.connect());
    let header = (8u32 << 20).to_be_bytes();
    (&big).write_all(&header).unwrap();
    for part in 0..64u8 {
        (&big).write_all(&vec![part; (8 << 20) / 64]).unwrap();
        expect_echo(&small, &[part]);
    }
    assert_eq!(read_frame(&big).len(), 8 << 20);
}
