//! Handshakes that come to nothing cost their own connection, and nobody is told of one that never was.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use mainspring::client::{Builder, Step};
use mainspring::codec::LengthPrefixed;
use mainspring::tls::{Acceptor, Connector};
use mainspring::{Dial, DialError, Limits, ListenOptions, Reactor, Stats};

use crate::certificates::{Authority, SHORT, local};
use crate::common::{Event, PATIENCE, Server, Tester, connect, dial_failed, echo, frame, now, reset};
use crate::peers::{client, client_config, echo_server, expect_echo, plain_client};

fn with_limits(acceptor: Acceptor, change: impl FnOnce(&mut Limits)) -> Server {
    let mut limits = Limits::default();
    change(&mut limits);
    let builder = Reactor::<Tester>::builder().limits(limits);
    Server::with(builder, &ListenOptions::tls(acceptor), Tester::new(echo))
}

/// A hello of a client, as it is on the wire.
fn hello(authority: &Authority) -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let mut client = plain_client(authority, address);
    let mut wire = Vec::new();
    client.conn.write_tls(&mut wire).expect("a hello");
    wire
}

/// What comes until the end, however it ends.
fn read_all(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 1024];
    while let Ok(n) = stream.read(&mut chunk) {
        if n == 0 {
            break;
        }
        bytes.extend_from_slice(&chunk[..n]);
    }
    bytes
}

/// So many were turned away, nobody was told of any, and the next client is served.
#[track_caller]
fn expect_turned_away(server: &Server, count: u64, authority: &Authority) -> Stats {
    let stats = server.wait_stats("the end of all handshakes", |stats| stats.handshakes_failed == count);
    assert_eq!((stats.refused, stats.accepted, stats.open, stats.closed), (count, 0, 0, 0));
    assert!(server.events.so_far().is_empty(), "nobody is told of what was never open");
    expect_echo(&mut plain_client(authority, server.address), b"the next one");
    stats
}

const ALERT: u8 = 21;

#[test]
fn garbage_in_the_place_of_a_hello_is_answered_by_an_alert() {
    let (authority, issued) = local();
    let server = echo_server(issued.acceptor());
    let mut garbage = connect(server.address);
    garbage.write_all(&[0xa5; 4_000]).expect("it is taken");
    assert_eq!(read_all(garbage).first(), Some(&ALERT));
    expect_turned_away(&server, 1, &authority);
}

#[test]
fn plain_text_on_a_port_of_tls_is_answered_by_an_alert() {
    let (authority, issued) = local();
    let server = echo_server(issued.acceptor());
    for text in [&b"GET / HTTP/1.1\r\n\r\n"[..], &frame(b"hi")] {
        let mut plain = connect(server.address);
        plain.write_all(text).expect("it is taken");
        plain.shutdown(Shutdown::Write).expect("it is open");
        let answer = read_all(plain);
        assert!(answer.is_empty() || answer[0] == ALERT, "{answer:?}");
    }
    expect_turned_away(&server, 2, &authority);
}

#[test]
fn a_handshake_that_does_not_end_has_a_deadline() {
    let (authority, issued) = local();
    let server = with_limits(issued.acceptor(), |limits| limits.handshake_timeout = SHORT);
    let hello = hello(&authority);
    let silent = connect(server.address);
    let mut half = connect(server.address);
    half.write_all(&hello[..hello.len() / 2]).expect("it is taken");
    let mut begun = connect(server.address);
    begun.write_all(&hello).expect("it is taken");
    for stream in [silent, half, begun] {
        read_all(stream);
    }
    expect_turned_away(&server, 3, &authority);
    server.expect_rest();
}

#[test]
fn a_handshake_that_is_cut_short_costs_its_own_connection() {
    let (authority, issued) = local();
    let server = echo_server(issued.acceptor());
    let hello = hello(&authority);
    let mut half = connect(server.address);
    half.write_all(&hello[..hello.len() / 2]).expect("it is taken");
    half.shutdown(Shutdown::Write).expect("it is open");
    read_all(half);
    let mut begun = connect(server.address);
    begun.write_all(&hello).expect("it is taken");
    let mut answer = [0; 64];
    begun.read_exact(&mut answer).expect("the server's hello");
    reset(begun);
    expect_turned_away(&server, 2, &authority);
}

#[test]
fn those_who_shake_hands_count_among_the_connections() {
    let (_, issued) = local();
    let server = with_limits(issued.acceptor(), |limits| limits.connections_max = Some(2));
    let _shaking = [connect(server.address), connect(server.address)];
    // Those two have to be there first.
    server.wait_stats("two that were accepted", |_| {
        let third = connect(server.address);
        third.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        matches!((&third).read(&mut [0]), Ok(0))
    });
    let stats = server.stats();
    assert!(stats.refused >= 1 && stats.handshakes_failed == 0, "{stats:?}");
}

#[test]
fn a_shutdown_does_not_wait_for_handshakes() {
    let (_, issued) = local();
    let server = echo_server(issued.acceptor());
    let shaking = connect(server.address);
    let begun = now();
    let reactor = server.stop();
    assert!(now() - begun < Duration::from_secs(4), "less than the time for a drain");
    let stats = reactor.stats();
    assert_eq!((stats.refused, stats.accepted, stats.closed), (1, 0, 0));
    drop(shaking);
}

// ---- what a dial finds ---------------------------------------------------------------------------------------------

/// Dials, and answers how that has failed.
#[track_caller]
fn failure(to: Dial) -> DialError {
    let dialing = Server::new(echo);
    dialing.ask(move |cx| cx.connect(to, LengthPrefixed::default()));
    let (_, error) = dialing.events.wait("on_dial_failed", dial_failed);
    assert_eq!(dialing.stats().dials_failed, 1);
    assert!(dialing.events.so_far().is_empty());
    error
}

#[track_caller]
fn expect_failure(to: Dial, says: &str) {
    let error = failure(to);
    assert!(matches!(error, DialError::Tls { .. }), "{error:?}");
    assert!(error.to_string().contains(says), "{error}");
}

fn blocking_failure(connector: Connector, address: SocketAddr) -> String {
    let builder = Builder::new().connect_timeout(Some(PATIENCE)).tls(connector);
    let error = builder.connect(address, LengthPrefixed::default()).expect_err("no TLS can be agreed on");
    assert_eq!(error.step(), Step::Connect);
    error.to_string()
}

#[test]
fn a_server_that_cannot_be_trusted_is_not_spoken_to() {
    let authority = Authority::new();
    let here = |issued: crate::certificates::Issued| echo_server(issued.acceptor());
    let server = here(authority.issue(&["other.example"]));
    let to = |server: &Server, authority: &Authority| Dial::to(server.address).tls(authority.connector());
    expect_failure(to(&server, &authority), "certificate");
    assert!(blocking_failure(authority.connector(), server.address).contains("certificate"));
    // The name that is wanted may be another than the address.
    let named = to(&server, &authority).server_name("other.example");
    let dialing = Server::new(echo);
    dialing.ask(move |cx| cx.connect(named, LengthPrefixed::default()));
    dialing.events.wait_opened();

    let server = here(authority.issue(&["127.0.0.1"]));
    let stranger = Authority::named("somebody else");
    expect_failure(to(&server, &stranger), "UnknownIssuer");
    assert!(blocking_failure(stranger.connector(), server.address).contains("UnknownIssuer"));

    let server = here(authority.issue_expired("127.0.0.1"));
    expect_failure(to(&server, &authority), "xpired");
    assert!(blocking_failure(authority.connector(), server.address).contains("xpired"));
    expect_failure(to(&server, &authority).server_name("no name at all"), "no name of a server");
    // The server has seen two alerts and an end.
    server.wait_stats("three handshakes that have failed", |stats| stats.handshakes_failed == 3);
}

#[test]
fn a_server_that_speaks_no_tls_is_a_dial_that_fails() {
    let (authority, _) = local();
    let plain = Server::new(|cx, conn, _| cx.close(conn));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let text = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut client, _) = listener.accept().expect("a client");
            client.write_all(b"220 ready\r\n").expect("it is taken");
            read_all(client);
        }
    });
    expect_failure(Dial::to(address).tls(authority.connector()), "corrupt");
    assert!(blocking_failure(authority.connector(), address).contains("corrupt"));
    text.join().expect("no panic");
    // One that takes the hello for a frame that is too long.
    let error = failure(Dial::to(plain.address).tls(authority.connector()));
    assert!(matches!(error, DialError::Tls { .. }), "{error:?}");
}

#[test]
fn a_server_that_does_not_answer_is_a_dial_that_ends_in_time() {
    let (authority, _) = local();
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("an address");
    expect_failure(Dial::to(address).tls(authority.connector()).within(SHORT), "in time");
    let builder = Builder::new().connect_timeout(Some(SHORT)).tls(authority.connector());
    let error = builder.connect(address, LengthPrefixed::default()).expect_err("nobody answers");
    assert!(error.is_timeout() && error.step() == Step::Connect, "{error}");
}

#[test]
fn a_client_without_the_certificate_that_is_asked_for_is_turned_away() {
    let (authority, issued) = local();
    let clients = Authority::new();
    let acceptor = Acceptor::builder(issued.certificates())
        .client_ca_pem(clients.pem().as_bytes())
        .build()
        .expect("a root");
    let server = echo_server(acceptor);
    // With TLS 1.3 the client is done before the server has judged: it hears of it with what it reads next.
    let mut anonymous = plain_client(&authority, server.address);
    let answer = anonymous.write_all(&frame(b"let me in")).and_then(|()| anonymous.read(&mut [0; 16]));
    assert!(answer.is_err(), "{answer:?}");
    let stranger = Authority::new().issue(&["a stranger"]);
    let mut stranger = client(client_config(&authority, Some(&stranger)), "localhost", server.address);
    let answer = stranger.write_all(&frame(b"let me in")).and_then(|()| stranger.read(&mut [0; 16]));
    assert!(answer.is_err(), "{answer:?}");
    let stats = server.wait_stats("two turned away", |stats| stats.handshakes_failed == 2);
    assert_eq!((stats.refused, stats.accepted), (2, 0));
    let ours = clients.issue(&["a client"]);
    let mut ours = client(client_config(&authority, Some(&ours)), "localhost", server.address);
    expect_echo(&mut ours, b"one with a certificate");
    let told = server.events.so_far();
    assert!(matches!(told[..], [Event::Opened(_)]), "{told:?}");
}
