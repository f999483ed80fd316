//! Frames of all sizes come back whole.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, mpsc};

use mainspring::client::{Builder, Channel, Ended, Event};
use mainspring::codec::LengthPrefixed;
use mainspring::tls::rustls::pki_types::ServerName;
use mainspring::tls::rustls::version::TLS12;
use mainspring::tls::rustls::{ClientConnection, ProtocolVersion, StreamOwned};
use mainspring::{CloseReason, Dial};

use crate::certificates::local;
use crate::common::{PATIENCE, connect, pattern};
use crate::peers::{client_config, client_of_version, dialing, echo_server, expect_echo, plain_client};

/// Around the length of a record, of what is sealed at a time, and of what is read at a time.
const SIZES: [usize; 14] =
    [0, 1, 100, 16_379, 16_380, 16_381, 16_384, 40_000, 65_532, 65_536, 131_072, 300_000, 1 << 20, 16 << 20];

#[test]
fn frames_of_all_sizes_come_back_to_a_client_of_rustls() {
    let (authority, issued) = local();
    let server = echo_server(issued.acceptor());
    let mut client = plain_client(&authority, server.address);
    for (seed, len) in SIZES.into_iter().enumerate() {
        if len < 1 << 20 {
            expect_echo(&mut client, &pattern(seed, len));
        }
    }
    client.conn.send_close_notify();
    client.flush().expect("it is taken");
    assert!(matches!(server.events.wait_closed(), CloseReason::Peer { truncated: false }));
    let stats = server.stats();
    assert_eq!((stats.accepted, stats.closed, stats.open, stats.refused), (1, 1, 0, 0));
    assert_eq!(stats.frames_out, stats.frames_in);
    assert_eq!(stats.buffered_bytes, 0);
    server.expect_rest();
}

#[test]
fn frames_of_all_sizes_come_back_to_a_dial() {
    let (authority, issued) = local();
    let server = echo_server(issued.acceptor());
    let to = Dial::to(format!("localhost:{}", server.address.port())).tls(authority.connector());
    let (dialing, answers) = dialing(to);
    let conn = dialing.events.wait_opened();
    for (seed, len) in SIZES.into_iter().enumerate() {
        let message = pattern(seed, len);
        let sent = message.clone();
        dialing.ask(move |cx| cx.send(conn, &sent));
        let got = answers.recv_timeout(PATIENCE).expect("an answer");
        assert!(got == message, "{} bytes came back of {len}", got.len());
    }
    dialing.ask(move |cx| cx.close(conn));
    assert!(matches!(dialing.events.wait_closed(), CloseReason::Local));
    assert!(matches!(server.events.wait_closed(), CloseReason::Peer { truncated: false }));
    for stats in [dialing.stats(), server.stats()] {
        assert_eq!((stats.accepted + stats.connected, stats.closed, stats.open), (1, 1, 0));
        assert_eq!((stats.frames_out, stats.frames_in), (SIZES.len() as u64, SIZES.len() as u64));
        assert_eq!(stats.buffered_bytes, 0);
    }
    server.expect_rest();
}

#[test]
fn frames_of_all_sizes_come_back_to_the_blocking_client() {
    let (authority, issued) = local();
    let server = echo_server(issued.acceptor());
    let builder = Builder::new().read_timeout(Some(PATIENCE)).tls(authority.connector());
    let mut client =
        builder.connect(("localhost", server.address.port()), LengthPrefixed::default()).expect("a server");
    for (seed, len) in SIZES.into_iter().enumerate() {
        if len > 1 << 20 {
            // It does not receive while it sends: two that only send would wait for each other.
            continue;
        }
        let message = pattern(seed, len);
        client.send(&message).expect("it is taken");
        let got = client.recv().expect("an answer").expect("not the end");
        assert!(got == message, "{} bytes came back of {len}", got.len());
    }
    assert_eq!(client.unsent(), 0);
    assert!(client.is_open());
    let version = client.tls(|tls| tls.version()).expect("it speaks TLS");
    assert_eq!(version, Some(ProtocolVersion::TLSv1_3));
    client.shut_down_writing().expect("it is open");
    assert_eq!(client.recv().expect("an end in order"), None);
    assert!(matches!(server.events.wait_closed(), CloseReason::Peer { truncated: false }));
}

#[test]
fn frames_of_all_sizes_come_back_to_a_channel() {
    let (authority, issued) = local();
    let server = echo_server(issued.acceptor());
    let builder = Builder::new().tls(authority.connector());
    let client =
        builder.connect(("localhost", server.address.port()), LengthPrefixed::default()).expect("a server");
    let (messages, received) = mpsc::channel();
    let channel = Channel::new(client, move |_, event| {
        drop(messages.send(match event {
            Event::Message(message) => Some(message.to_vec()),
            Event::Ended(why) => {
                assert!(matches!(why, Ended::Closed | Ended::Peer), "{why:?}");
                None
            }
        }));
    })
    .expect("threads");
    for (seed, len) in SIZES.into_iter().enumerate() {
        channel.send(&pattern(seed, len)).expect("it is taken");
    }
    for (seed, len) in SIZES.into_iter().enumerate() {
        let got = received.recv_timeout(PATIENCE).expect("in time").expect("not the end");
        assert!(got == pattern(seed, len), "{} bytes came back of {len}", got.len());
    }
    channel.close().expect("all was sent");
    assert!(matches!(server.events.wait_closed(), CloseReason::Peer { truncated: false }));
}

#[test]
fn a_peer_that_sends_single_bytes_is_served_like_any_other() {
    let (authority, issued) = local();
    let server = echo_server(issued.acceptor());
    let name = ServerName::try_from("localhost").expect("a name");
    let config = Arc::new(client_config(&authority, None));
    let session = ClientConnection::new(config, name).expect("a session");
    let mut client = StreamOwned::new(session, Dribble(connect(server.address)));
    for len in [0, 1, 20, 300] {
        expect_echo(&mut client, &pattern(len, len));
    }
    client.conn.send_close_notify();
    client.flush().expect("it is taken");
    assert!(matches!(server.events.wait_closed(), CloseReason::Peer { truncated: false }));
}

/// Writes single bytes.
struct Dribble(TcpStream);

impl Read for Dribble {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Dribble {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(&bytes[..bytes.len().min(1)])
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_older_version_is_spoken_too() {
    let (authority, issued) = local();
    let server = echo_server(issued.acceptor());
    let mut client = client_of_version(&authority, server.address, &TLS12);
    for len in [0, 1, 16_380, 16_384, 200_000] {
        expect_echo(&mut client, &pattern(len, len));
    }
    let conn = server.events.wait_opened();
    assert_eq!(
        server.ask(move |cx| cx.tls(conn).and_then(|tls| tls.version())),
        Some(ProtocolVersion::TLSv1_2)
    );
    client.conn.send_close_notify();
    client.flush().expect("it is taken");
    assert!(matches!(server.events.wait_closed(), CloseReason::Peer { truncated: false }));
}

#[test]
fn keys_are_changed_in_the_middle_of_it() {
    let (authority, issued) = local();
    let server = echo_server(issued.acceptor());
    let mut client = plain_client(&authority, server.address);
    for round in 0..5 {
        expect_echo(&mut client, &pattern(round, 100_000));
        client.conn.refresh_traffic_keys().expect("TLS 1.3");
    }
    expect_echo(&mut client, b"with other keys");
}
