//! How connections end: in order by close_notify, or cut.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;

use mainspring::client::{Builder, Channel, Client, Ended, Event, Step};
use mainspring::codec::{LengthPrefixed, Lines};
use mainspring::{CloseReason, ConnId, Context, Dial, Handler, ListenOptions, Reactor};

use crate::certificates::{Authority, local};
use crate::common::{PATIENCE, Server, Tester, frame, pattern, turn_until};
use crate::peers::{dialing, echo_server, expect_echo, plain_client, read_to_end, recv, send};

#[test]
fn a_stream_that_is_cut_is_no_end_in_order_and_what_came_before_is_answered() {
    let (authority, issued) = local();
    let server = echo_server(issued.acceptor());
    let mut client = plain_client(&authority, server.address);
    send(&mut client, b"before");
    client.write_all(&frame(b"not whole")[..7]).expect("it is taken");
    client.sock.shutdown(Shutdown::Write).expect("it is open");
    assert_eq!(recv(&mut client), b"before");
    let (rest, end) = read_to_end(&mut client);
    assert!(rest.is_empty() && end.is_ok(), "our end is in order: {end:?}");
    // No half close was told of.
    let told = server.events.wait_opened();
    let reason = server.events.wait("on_close", |event| match event {
        crate::common::Event::Closed(conn, reason) if conn == told => Some(Some(reason)),
        crate::common::Event::HalfClosed(_) => Some(None),
        _ => None,
    });
    assert!(matches!(reason, Some(CloseReason::TlsTruncated)), "{reason:?}");
    assert!(server.stats().closes().any(|(name, count)| name == "tls_truncated" && count == 1));
}

/// Takes an unfinished last line for a line, where the end is one in order.
struct Listener {
    lines: Vec<Vec<u8>>,
    closed: Option<CloseReason>,
}

impl Handler for Listener {
    type Codec = Lines;
    type Session = ();

    fn on_message(&mut self, _: &mut Context<Self>, _: ConnId, line: &[u8]) {
        self.lines.push(line.to_vec());
    }
    fn on_close(&mut self, _: &mut Context<Self>, _: ConnId, reason: CloseReason, (): ()) {
        self.closed = Some(reason);
    }
}

#[test]
fn a_last_line_without_an_end_counts_only_when_tls_has_ended_in_order() {
    let (authority, issued) = local();
    for in_order in [true, false] {
        let mut reactor = Reactor::new(Listener { lines: Vec::new(), closed: None }).expect("a poller");
        let options = ListenOptions::tls(issued.acceptor());
        let listening = reactor.listen_with("127.0.0.1:0", Lines::default(), &options).expect("a free port");
        let address = listening.address.ip().expect("an IP address");
        let mut client = plain_client(&authority, address);
        let peer = std::thread::spawn(move || {
            client.write_all(b"whole\npay 1000").expect("it is taken");
            if in_order {
                client.conn.send_close_notify();
                client.flush().expect("it is taken");
            }
            client.sock.shutdown(Shutdown::Write).expect("it is open");
            read_to_end(&mut client)
        });
        turn_until(&mut reactor, "on_close", |reactor| reactor.handler().closed.is_some().then_some(()));
        drop(peer.join().expect("no panic"));
        let Listener { lines, closed } = reactor.into_handler();
        if in_order {
            assert_eq!(lines, [&b"whole"[..], b"pay 1000"]);
            assert!(matches!(closed, Some(CloseReason::Peer { truncated: false })), "{closed:?}");
        } else {
            assert_eq!(lines, [b"whole"]);
            assert!(matches!(closed, Some(CloseReason::TlsTruncated)), "{closed:?}");
        }
    }
}

#[test]
fn who_has_ended_its_side_in_order_still_gets_all_answers() {
    let (authority, issued) = local();
    let server = echo_server(issued.acceptor());
    let mut client = plain_client(&authority, server.address);
    let message = pattern(1, 300_000);
    client.write_all(&frame(&message)).expect("it is taken");
    client.conn.send_close_notify();
    client.flush().expect("it is taken");
    // The socket is not shut: close_notify alone says it.
    let (rest, end) = read_to_end(&mut client);
    assert!(end.is_ok(), "{end:?}");
    assert!(rest == frame(&message), "{} bytes", rest.len());
    assert!(matches!(server.events.wait_closed(), CloseReason::Peer { truncated: false }));
}

#[test]
fn a_close_says_close_notify_behind_all_that_is_queued() {
    let (authority, issued) = local();
    let builder = Reactor::<Tester>::builder();
    let answer = |cx: &mut Context<Tester>, conn: ConnId, _: &[u8]| {
        cx.send(conn, &pattern(3, 4 << 20));
        cx.close(conn);
    };
    let server = Server::with(builder, &ListenOptions::tls(issued.acceptor()), Tester::new(answer));
    let mut client = plain_client(&authority, server.address);
    send(&mut client, b"all of it");
    // It reads only when the server has met a full socket.
    server.wait_stats("something that waits", |stats| stats.buffered_bytes > 0);
    let (rest, end) = read_to_end(&mut client);
    assert!(end.is_ok(), "{end:?}");
    assert!(rest == frame(&pattern(3, 4 << 20)), "{} bytes", rest.len());
    assert!(matches!(server.events.wait_closed(), CloseReason::Local));
    let stats = server.stats();
    assert_eq!((stats.frames_out, stats.buffered_bytes), (1, 0));
}

#[test]
fn a_shutdown_hands_over_what_tls_still_holds() {
    let (authority, issued) = local();
    let server = echo_server(issued.acceptor());
    let mut client = plain_client(&authority, server.address);
    let message = pattern(5, 8 << 20);
    let mut writer = client.sock.try_clone().expect("a socket");
    let (mut wire, mut sent) = (Vec::new(), 0);
    client.conn.set_buffer_limit(None);
    client.conn.complete_io(&mut client.sock).expect("a handshake");
    client.conn.writer().write_all(&frame(&message)).expect("no limit");
    while client.conn.wants_write() {
        client.conn.write_tls(&mut wire).expect("memory");
    }
    let writing = std::thread::spawn(move || {
        while sent < wire.len() {
            sent += writer.write(&wire[sent..]).expect("it is taken");
        }
    });
    server.wait_stats("the message", |stats| stats.frames_in == 1);
    server.handle.shutdown();
    let (rest, end) = read_to_end(&mut client);
    writing.join().expect("no panic");
    assert!(end.is_ok(), "{end:?}");
    assert!(rest == frame(&message), "{} bytes", rest.len());
    let mut server = server;
    let reactor = server.join().expect("no panic");
    let report = reactor.shutdown_report();
    assert_eq!((report.drained, report.cut, report.bytes_lost), (1, 0, 0));
    assert_eq!(reactor.stats().frames_out, 1);
}

#[test]
fn our_side_can_end_alone() {
    let (authority, issued) = local();
    let server = echo_server(issued.acceptor());
    let to = Dial::to(("localhost", server.address.port())).tls(authority.connector());
    let (dialing, answers) = dialing(to);
    let conn = dialing.events.wait_opened();
    dialing.ask(move |cx| {
        cx.send(conn, b"the last one");
        cx.end_output(conn)
    });
    assert_eq!(answers.recv_timeout(PATIENCE).expect("an answer"), b"the last one");
    assert!(matches!(server.events.wait_closed(), CloseReason::Peer { truncated: false }));
    assert!(matches!(dialing.events.wait_closed(), CloseReason::Peer { truncated: false }));
}

#[test]
fn what_cannot_be_opened_ends_its_connection() {
    let (authority, issued) = local();
    let server = echo_server(issued.acceptor());
    let mut client = plain_client(&authority, server.address);
    expect_echo(&mut client, b"fine so far");
    // A record of the right shape that nobody has sealed.
    let forged = [&[23, 3, 3, 0, 40][..], &[0x5a; 40]].concat();
    client.sock.write_all(&forged).expect("it is taken");
    assert!(matches!(server.events.wait_closed(), CloseReason::Tls(_)));
    let error = client.read(&mut [0; 16]).expect_err("an alert");
    assert!(error.to_string().contains("BadRecordMac"), "{error}");
    assert_eq!(server.stats().buffered_bytes, 0);
}

#[test]
fn an_abort_is_a_reset_and_no_end_in_order() {
    let (authority, issued) = local();
    let builder = Reactor::<Tester>::builder();
    let abort = |cx: &mut Context<Tester>, conn: ConnId, _: &[u8]| cx.abort(conn);
    let server = Server::with(builder, &ListenOptions::tls(issued.acceptor()), Tester::new(abort));
    let mut client = plain_client(&authority, server.address);
    send(&mut client, b"go");
    let (_, end) = read_to_end(&mut client);
    assert!(end.is_err(), "{end:?}");
    assert!(matches!(server.events.wait_closed(), CloseReason::Aborted));
}

#[test]
fn a_socket_under_tls_is_not_handed_out() {
    let (authority, issued) = local();
    let server = echo_server(issued.acceptor());
    let mut client = plain_client(&authority, server.address);
    expect_echo(&mut client, b"open");
    let conn = server.events.wait_opened();
    assert!(!server.ask(move |cx| cx.detach(conn)));
    expect_echo(&mut client, b"still open");
}

// ---- the blocking client -------------------------------------------------------------------------------------------

/// A server of rustls' own for one client, which it treats so.
fn one_client(
    authority: &Authority,
    treat: impl FnOnce(&mut rustls_server::Stream) + Send + 'static,
) -> (Client<LengthPrefixed>, std::thread::JoinHandle<()>) {
    let (address, thread) = rustls_server::once(authority, treat);
    let builder = Builder::new().read_timeout(Some(PATIENCE)).tls(authority.connector());
    let client = builder.connect(("localhost", address.port()), LengthPrefixed::default());
    (client.expect("a server"), thread)
}

mod rustls_server {
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::sync::Arc;
    use std::thread::{self, JoinHandle};

    use mainspring::tls::rustls::crypto::ring::default_provider;
    use mainspring::tls::rustls::pki_types::pem::PemObject;
    use mainspring::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use mainspring::tls::rustls::{ServerConfig, ServerConnection, StreamOwned};

    use crate::certificates::Authority;
    use crate::common::patient;

    pub(super) type Stream = StreamOwned<ServerConnection, TcpStream>;

    pub(super) fn once(
        authority: &Authority,
        treat: impl FnOnce(&mut Stream) + Send + 'static,
    ) -> (SocketAddr, JoinHandle<()>) {
        let issued = authority.issue(&["localhost", "127.0.0.1"]);
        let chain = CertificateDer::from_pem_slice(issued.chain.as_bytes()).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)
            .expect("a certificate");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let thread = thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a client");
            let session = ServerConnection::new(Arc::new(config)).expect("a session");
            treat(&mut StreamOwned::new(session, patient(stream)));
        });
        (address, thread)
    }
}

#[test]
fn the_blocking_client_tells_a_cut_from_an_end() {
    let authority = Authority::new();
    let (mut client, server) = one_client(&authority, |stream| {
        send(stream, b"before");
        stream.sock.shutdown(Shutdown::Both).expect("it is open");
    });
    assert_eq!(client.recv().expect("a message"), Some(&b"before"[..]));
    for _ in 0..2 {
        let error = client.recv().expect_err("it was cut");
        assert_eq!((error.step(), error.io_kind()), (Step::Receive, Some(ErrorKind::UnexpectedEof)));
    }
    assert!(!client.is_open());
    server.join().expect("no panic");

    let (mut client, server) = one_client(&authority, |stream| {
        stream.flush().expect("a handshake");
        stream.conn.send_close_notify();
        stream.flush().expect("it is taken");
        // Its answers still come.
        assert_eq!(recv(stream), b"still");
        let (rest, end) = read_to_end(stream);
        assert!(rest.is_empty() && end.is_ok(), "{end:?}");
    });
    assert_eq!(client.recv().expect("an end in order"), None);
    assert!(!client.is_open());
    client.send(b"still").expect("only the other side has ended");
    client.close().expect("in order");
    server.join().expect("no panic");
}

#[test]
fn the_blocking_client_keeps_what_its_peer_has_no_room_for() {
    let authority = Authority::new();
    let (go, gone) = std::sync::mpsc::channel();
    let (mut client, server) = one_client(&authority, move |stream| {
        stream.flush().expect("a handshake");
        gone.recv_timeout(PATIENCE).expect("the client has tried");
        let mut count = 0;
        loop {
            let message = recv(stream);
            if message == b"the end" {
                break;
            }
            assert!(message == pattern(count, 1 << 20), "message {count}");
            count += 1;
        }
        stream.conn.send_close_notify();
        stream.flush().expect("it is taken");
    });
    client.set_write_timeout(Some(std::time::Duration::from_millis(50)));
    let mut sent = 0;
    let error = loop {
        match client.send(&pattern(sent, 1 << 20)) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 1_000, "a socket holds so much?");
    };
    assert!(error.is_timeout(), "{error}");
    if error.is_kept() {
        assert!(client.unsent() > 0);
    }
    go.send(()).expect("the server waits");
    client.set_write_timeout(Some(PATIENCE));
    client.flush().expect("there is room now");
    assert_eq!(client.unsent(), 0);
    client.send(b"the end").expect("there is room now");
    assert_eq!(client.recv().expect("an end in order"), None);
    server.join().expect("no panic");
}

#[test]
fn a_channel_says_close_notify_and_knows_a_cut() {
    let authority = Authority::new();
    let (client, server) = one_client(&authority, |stream| {
        assert_eq!(recv(stream), b"hello");
        let (rest, end) = read_to_end(stream);
        assert!(rest.is_empty() && end.is_ok(), "{end:?}");
    });
    let channel = Channel::new(client, |_, _| {}).expect("threads");
    channel.send(b"hello").expect("it is taken");
    channel.close().expect("in order");
    server.join().expect("no panic");

    let (client, server) = one_client(&authority, |stream| {
        send(stream, b"before");
        stream.sock.shutdown(Shutdown::Both).expect("it is open");
    });
    let (tells, told) = std::sync::mpsc::channel();
    let channel = Channel::new(client, move |_, event| {
        if let Event::Ended(why) = event {
            drop(tells.send(why));
        }
    })
    .expect("threads");
    match told.recv_timeout(PATIENCE).expect("an end") {
        Ended::Lost(error) => assert_eq!(error.io_kind(), Some(ErrorKind::UnexpectedEof), "{error}"),
        other => panic!("{other:?}"),
    }
    drop(channel);
    server.join().expect("no panic");
}
