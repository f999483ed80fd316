//! Clients behind a proxy: who is believed, what the handler sees, and what becomes of those without a proper header.

#![cfg(feature = "proxy-protocol")]
#![allow(clippy::unwrap_used, reason = "what a test's helper cannot do has failed the test")]

#[path = "common/reactor.rs"]
mod common;
#[path = "common/foreign.rs"]
mod foreign;

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use common::*;
use foreign::{Foreign, installed};
use mainspring::codec::LengthPrefixed;
use mainspring::pool::{Balance, ReactorPool};
use mainspring::proxy_protocol::{Prefix, ProxyHeader, ProxyProtocol};
use mainspring::{Address, CloseReason, ConnId, Context, Handler, Limits, ListenOptions, Reactor, Stats};

/// What a handler was told of a client that came.
#[derive(Debug)]
struct Arrival {
    peer: Option<Address>,
    header: Option<ProxyHeader>,
}

fn loopback() -> ProxyProtocol {
    ProxyProtocol::trusting(["127.0.0.0/8".parse::<Prefix>().unwrap()])
}

fn options(wanted: ProxyProtocol) -> ListenOptions {
    let mut options = ListenOptions::default();
    options.proxy_protocol = Some(wanted);
    options
}

/// An echo server behind a proxy, and who has come to it.
fn serve_with(limits: Limits, wanted: ProxyProtocol) -> (Server, Receiver<Arrival>) {
    let (tells, told) = mpsc::channel();
    let tester = Tester::with_events(echo, move |cx, event| {
        if let Event::Opened(conn) = event {
            let (peer, header) = (cx.peer_addr(*conn).cloned(), cx.proxy_header(*conn).cloned());
            // A test may have seen enough.
            let _ = tells.send(Arrival { peer, header });
        }
    });
    let builder = Reactor::<Tester>::builder().limits(limits);
    (Server::with(builder, &options(wanted), tester), told)
}

fn serve(wanted: ProxyProtocol) -> (Server, Receiver<Arrival>) {
    serve_with(Limits::default(), wanted)
}

fn arrival(told: &Receiver<Arrival>) -> Arrival {
    told.recv_timeout(PATIENCE).expect("a client")
}

fn at(text: &str) -> Option<Address> {
    Some(text.parse().unwrap())
}

const V1: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 4660 80\r\n";

fn v1_from(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 192.0.2.2 4660 80\r\n").into_bytes()
}

/// From 192.0.2.7:1800, with two values of no meaning.
fn v2(command: u8) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    bytes.extend_from_slice(&[0x20 | command, 0x11, 0, 20]);
    bytes.extend_from_slice(&[192, 0, 2, 7, 192, 0, 2, 2, 7, 8, 0, 80]);
    bytes.extend_from_slice(&[0xe0, 0, 2, b'h', b'i', 0xe1, 0, 0]);
    bytes
}

#[track_caller]
fn expect_gone(mut stream: &TcpStream) {
    match std::io::Read::read(&mut stream, &mut [0; 16]) {
        Ok(0) => {}
        Err(error) if is_cut(error.kind()) => {}
        other => panic!("it is not gone: {other:?}"),
    }
}

#[track_caller]
fn expect_balance(stats: &Stats) {
    assert_eq!(stats.accepted + stats.connected, stats.open + stats.closed, "{stats:?}");
}

#[test]
fn the_handler_sees_the_client_and_not_the_proxy() {
    let (server, told) = serve(loopback());
    for (header, peer, version) in [(V1.to_vec(), "192.0.2.1:4660", 1), (v2(1), "192.0.2.7:1800", 2)] {
        let client = server.connect();
        (&client).write_all(&[&header[..], &frame(b"in one segment")].concat()).unwrap();
        expect_frame(&client, b"in one segment");
        let Arrival { peer: seen, header } = arrival(&told);
        let header = header.unwrap();
        assert_eq!((seen.clone(), header.version()), (at(peer), version));
        assert_eq!((header.source(), header.destination()), (seen.as_ref(), at("192.0.2.2:80").as_ref()));
        assert_eq!(header.proxy().ip(), client.local_addr().ok());
        let tlvs: Vec<_> = header.tlvs().map(|(kind, value)| (kind, value.to_vec())).collect();
        let expected =
            if version == 2 { vec![(0xe0, b"hi".to_vec()), (0xe1, Vec::new())] } else { Vec::new() };
        assert_eq!(tlvs, expected);
        expect_echo(&client, b"and on");
        drop(client);
        assert!(matches!(server.events.wait_closed(), CloseReason::Peer { .. }));
    }
    let stats = server.stop().stats();
    assert_eq!((stats.accepted, stats.refused, stats.frames_in), (2, 0, 4));
}

#[test]
fn a_header_may_come_byte_by_byte_and_none_of_it_is_a_frame() {
    let (server, told) = serve(loopback());
    for header in [V1.to_vec(), v2(1)] {
        let client = server.connect();
        for byte in &header {
            assert!(told.try_recv().is_err(), "not before the header is whole");
            (&client).write_all(&[*byte]).unwrap();
            // The loop has taken a turn by then.
            server.stats();
        }
        arrival(&told);
        expect_echo(&client, b"hi");
    }
}

#[test]
fn a_proxy_that_speaks_for_itself_or_does_not_know_keeps_its_own_address() {
    let (server, told) = serve(loopback());
    for (header, local) in [(v2(0), true), (b"PROXY UNKNOWN\r\n".to_vec(), false)] {
        let client = server.connect();
        (&client).write_all(&header).unwrap();
        let Arrival { peer, header } = arrival(&told);
        assert_eq!(peer.unwrap().ip(), client.local_addr().ok());
        let header = header.unwrap();
        assert_eq!((header.is_local(), header.source()), (local, None));
        expect_echo(&client, b"hi");
    }
}

/// Whatever it sends, nothing of it is looked at.
#[test]
fn who_is_not_trusted_is_closed() {
    for trusted in [Vec::new(), vec!["10.0.0.0/8".parse().unwrap(), "::/0".parse().unwrap()]] {
        let (server, told) = serve(ProxyProtocol::trusting(trusted));
        let client = server.connect();
        // The server may be faster.
        drop((&client).write_all(V1));
        expect_gone(&client);
        let stats = server.wait_stats("a refusal", |stats| stats.refused == 1);
        assert_eq!((stats.proxy_refused, stats.accepted, stats.bytes_in), (1, 0, 0));
        assert!(told.try_recv().is_err() && server.events.so_far().is_empty());
    }
}

#[test]
fn who_begins_with_anything_else_is_closed() {
    let (server, _told) = serve(loopback());
    let mut wrong = v2(1);
    wrong[15] = 9;
    let mut long = v2(1);
    (long[14], long[15]) = (0xff, 0xff);
    let beginnings: [&[u8]; 6] = [
        &frame(b"a frame"),
        b"GET / HTTP/1.1\r\nHost: here\r\n\r\n",
        b"PROXY TCP4 nobody nowhere 1 2\r\n.......",
        &[b'P'; 200],
        &wrong,
        &long,
    ];
    for (count, beginning) in (1..).zip(beginnings) {
        let client = server.connect();
        drop((&client).write_all(beginning));
        expect_gone(&client);
        let stats = server.wait_stats("a refusal", |stats| stats.refused == count);
        assert_eq!((stats.proxy_refused, stats.accepted), (count, 0));
        expect_balance(&stats);
    }
    // Nobody is told of what was never a connection.
    assert!(server.events.so_far().is_empty());
    let early = server.connect();
    (&early).write_all(&V1[..20]).unwrap();
    drop(early);
    server.wait_stats("one that has ended early", |stats| stats.proxy_refused == 7);
    server.expect_rest();
    assert_eq!(server.stop().stats().open, 0);
}

#[test]
fn a_header_that_is_not_whole_in_time_closes() {
    let mut wanted = loopback();
    wanted.timeout = Duration::from_millis(50);
    let (server, _told) = serve(wanted);
    let (silent, half) = (server.connect(), server.connect());
    (&half).write_all(&V1[..V1.len() - 1]).unwrap();
    expect_gone(&silent);
    expect_gone(&half);
    let stats = server.wait_stats("two refusals", |stats| stats.refused == 2);
    assert_eq!((stats.proxy_refused, stats.accepted), (2, 0));
}

#[test]
fn a_limit_for_each_source_counts_clients_and_not_their_proxy() {
    let mut limits = Limits::default();
    limits.connections_per_source = Some(1);
    let (server, told) = serve_with(limits, loopback());
    let clients: Vec<_> = ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
        .map(|source| {
            let client = server.connect();
            (&client).write_all(&v1_from(source)).unwrap();
            arrival(&told);
            client
        })
        .into();
    let again = server.connect();
    (&again).write_all(&v1_from("192.0.2.2")).unwrap();
    expect_gone(&again);
    let stats = server.wait_stats("a refusal", |stats| stats.refused == 1);
    // Its header was fine.
    assert_eq!((stats.proxy_refused, stats.open), (0, 3));
    drop(clients);
    server.wait_stats("their ends", |stats| stats.open == 0);
    let again = server.connect();
    (&again).write_all(&v1_from("192.0.2.2")).unwrap();
    assert_eq!(arrival(&told).peer, at("192.0.2.2:4660"));
}

#[test]
fn those_who_have_said_nothing_yet_count_among_the_connections() {
    let mut limits = Limits::default();
    limits.connections_max = Some(2);
    let mut wanted = loopback();
    wanted.timeout = PATIENCE;
    let (server, told) = serve_with(limits, wanted);
    let waiting = [server.connect(), server.connect()];
    let third = server.connect();
    expect_gone(&third);
    server.wait_stats("the third to be refused", |stats| stats.refused == 1);
    (&waiting[0]).write_all(V1).unwrap();
    arrival(&told);
    drop(waiting);
    server.wait_stats("room", |stats| stats.open == 0 && stats.refused == 2);
    let last = server.connect();
    (&last).write_all(V1).unwrap();
    arrival(&told);
}

#[test]
fn a_shutdown_waits_for_no_header() {
    let (server, told) = serve(loopback());
    let half = server.connect();
    (&half).write_all(&V1[..10]).unwrap();
    let open = server.connect();
    (&open).write_all(V1).unwrap();
    arrival(&told);
    let stats = server.stop().stats();
    assert_eq!((stats.accepted, stats.refused, stats.open), (1, 1, 0));
    expect_balance(&stats);
    expect_gone(&half);
}

#[test]
#[cfg(unix)]
fn a_proxy_on_a_unix_socket_is_trusted_by_the_rights_of_its_file() {
    use std::os::unix::net::UnixStream;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let (tells, told) = mpsc::channel();
    let (tester, events) = Tester::with_events(echo, move |cx, event| {
        if let Event::Opened(conn) = event {
            tells.send(cx.peer_addr(*conn).cloned()).unwrap();
        }
    });
    let mut reactor = Reactor::new(tester).unwrap();
    let nobody = options(ProxyProtocol::default());
    reactor.listen_with(path.as_path(), LengthPrefixed::default(), &nobody).unwrap();
    let server = Server::run(reactor, events, SocketAddr::from(([0, 0, 0, 0], 0)));
    let client = UnixStream::connect(&path).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    (&client).write_all(&v2(1)).unwrap();
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), at("192.0.2.7:1800"));
    expect_echo(&client, b"hi");
    drop(server.stop());
}

// ---- pools ---------------------------------------------------------------------------------------------------------

/// Says where its clients come from, and on which reactor they are.
struct Names(mpsc::Sender<(usize, Option<Address>, Option<u8>)>);

impl Handler for Names {
    type Codec = LengthPrefixed;
    type Session = ();

    fn on_open(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        let version = cx.proxy_header(conn).map(ProxyHeader::version);
        self.0.send((cx.reactor_index(), cx.peer_addr(conn).cloned(), version)).unwrap();
    }

    fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, message: &[u8]) {
        cx.send(from, message);
    }
}

#[test]
fn a_client_that_is_handed_out_brings_its_header_along() {
    for balance in [Balance::Auto, Balance::HandOut] {
        let (tells, told) = mpsc::channel();
        let mut pool = ReactorPool::<Names>::builder()
            .reactors(2)
            .balance(balance)
            .build(|_| Names(tells.clone()))
            .unwrap();
        let listening =
            pool.listen_with("127.0.0.1:0", LengthPrefixed::default(), &options(loopback())).unwrap();
        let running = pool.start().unwrap();
        let mut reactors = Vec::new();
        let clients: Vec<_> = (1..=4)
            .map(|n| {
                let client = connect(listening.address.ip().unwrap());
                (&client).write_all(&v1_from(&format!("192.0.2.{n}"))).unwrap();
                let (reactor, peer, version) = told.recv_timeout(PATIENCE).unwrap();
                assert_eq!((peer, version), (at(&format!("192.0.2.{n}:4660")), Some(1)));
                reactors.push(reactor);
                expect_echo(&client, b"hi");
                client
            })
            .collect();
        if balance == Balance::HandOut {
            reactors.sort_unstable();
            assert_eq!(reactors, [0, 0, 1, 1]);
        }
        drop(clients);
        running.shutdown();
        assert_eq!(running.join().unwrap().total().accepted, 4);
    }
}

/// The reactor that accepts is full, and the other one is not.
#[test]
fn a_full_reactor_hands_out_those_who_come_through_a_proxy() {
    let (tells, told) = mpsc::channel();
    let mut limits = Limits::default();
    limits.connections_max = Some(1);
    let mut pool = ReactorPool::<Names>::builder()
        .reactors(2)
        .balance(Balance::HandOut)
        .each(Reactor::<Names>::builder().limits(limits))
        .build(|_| Names(tells.clone()))
        .unwrap();
    let listening = pool.listen_with("127.0.0.1:0", LengthPrefixed::default(), &options(loopback())).unwrap();
    let running = pool.start().unwrap();
    let mut reactors = [0, 0].map(|_: usize| {
        let client = connect(listening.address.ip().unwrap());
        (&client).write_all(V1).unwrap();
        (told.recv_timeout(PATIENCE).unwrap().0, client)
    });
    reactors.sort_unstable_by_key(|(reactor, _)| *reactor);
    assert_eq!(reactors.each_ref().map(|(reactor, _)| *reactor), [0, 1]);
    let third = connect(listening.address.ip().unwrap());
    (&third).write_all(V1).unwrap();
    expect_gone(&third);
    running.shutdown();
    assert_eq!(running.join().unwrap().total().refused, 1);
}

// ---- a real proxy --------------------------------------------------------------------------------------------------

/// HAProxy in front of a server: a port that speaks version 1 to it, and one that speaks version 2.
struct HaProxy {
    _child: Foreign,
    _folder: tempfile::TempDir,
    ports: [SocketAddr; 2],
}

impl HaProxy {
    /// `None` where there is none, and says so.
    fn start(server: SocketAddr) -> Option<HaProxy> {
        if !installed("haproxy", &["-v"]) {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        // Somebody may take a port that was free a moment ago.
        for _ in 0..5 {
            let held = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
            let ports = held.each_ref().map(|listener| listener.local_addr().unwrap());
            drop(held);
            let config = format!(
                "global\n  maxconn 50\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 20s\n  timeout server 20s\n\
                 listen one\n  bind {}\n  server s {server} send-proxy\n\
                 listen two\n  bind {}\n  unique-id-format id-%cp\n  \
                 server s {server} send-proxy-v2 proxy-v2-options unique-id check inter 50ms\n",
                ports[0], ports[1],
            );
            let file = folder.path().join("haproxy.cfg");
            std::fs::write(&file, config).unwrap();
            let mut command = Command::new("haproxy");
            command.arg("-db").arg("-f").arg(&file).stdout(Stdio::null()).stderr(Stdio::piped());
            let mut child = Foreign(command.spawn().unwrap());
            let up = wait_for("haproxy to listen or to end", || match child.try_wait().unwrap() {
                Some(_) => Some(false),
                None => ports.iter().all(|port| TcpStream::connect(port).is_ok()).then_some(true),
            });
            if up {
                return Some(HaProxy { _child: child, _folder: folder, ports });
            }
            let mut said = String::new();
            std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
            println!("haproxy does not start: {said}");
        }
        panic!("haproxy does not start");
    }
}

#[test]
fn clients_come_through_haproxy_with_their_own_address() {
    let (server, told) = serve(loopback());
    let Some(haproxy) = HaProxy::start(server.address) else { return };
    for (port, version) in haproxy.ports.into_iter().zip(1..) {
        let client = connect(port);
        let ours = client.local_addr().unwrap();
        // Whoever looked whether it listens, and its own checks, come through too.
        let header = wait_for("our own client", || {
            let Arrival { peer, header } = arrival(&told);
            (peer == Some(Address::Ip(ours))).then_some(header.unwrap())
        });
        assert_eq!(header.version(), version);
        assert_eq!(header.destination(), Some(&Address::Ip(port)));
        assert_ne!(header.proxy(), &Address::Ip(ours));
        let id = (version == 2).then(|| format!("id-{}", ours.port()));
        assert_eq!(header.tlv(5), id.as_ref().map(String::as_bytes));
        for len in [0, 1, 100_000] {
            expect_echo(&client, &pattern(len, len));
        }
    }
    // Its check of the server is its own affair, and says so.
    wait_for("a check", || arrival(&told).header.filter(ProxyHeader::is_local));
    drop(haproxy);
    let stats = server.wait_stats("all to be gone", |stats| stats.open == 0);
    assert_eq!(stats.proxy_refused, 0);
    expect_balance(&stats);
}
