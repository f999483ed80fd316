//! TLS in the world of tests: its deadlines, its budget, and what is held for slow peers. The other side is rustls' own.

use std::io::{Read, Write};
use std::sync::{Arc, OnceLock};

use proptest::prelude::*;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;
use crate::reactor::Listening;
use crate::tls::Acceptor;

const TENTH: Duration = Duration::from_millis(100);

/// A certificate that is made once, for all tests here.
fn certificate() -> &'static (Acceptor, Arc<ClientConfig>) {
    static MADE: OnceLock<(Acceptor, Arc<ClientConfig>)> = OnceLock::new();
    MADE.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let chain = made.cert.pem();
        let acceptor =
            Acceptor::from_pem(chain.as_bytes(), made.key_pair.serialize_pem().as_bytes()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        (acceptor, Arc::new(config))
    })
}

/// Makes the listener of a rig one with TLS.
fn sealed(mut rig: Rig) -> Rig {
    let id = rig.cx().listener_ids()[0];
    let listening = Listening { id, address: "127.0.0.1:1".parse().unwrap() };
    let options = crate::ListenOptions::tls(certificate().0.clone());
    rig.cx().secure_listener(&listening, &options);
    rig
}

/// The far end of a connection with TLS.
struct Client {
    session: ClientConnection,
    peer: Peer,
    got: Vec<u8>,
    /// The end of the other side, in order.
    ended: bool,
}

impl Client {
    fn connect(rig: &Rig) -> Client {
        let name = ServerName::try_from("localhost").unwrap();
        let mut session = ClientConnection::new(Arc::clone(&certificate().1), name).unwrap();
        session.set_buffer_limit(None);
        Client { session, peer: rig.world.connect(0), got: Vec::new(), ended: false }
    }

    /// Takes what has come and says what that asks for. Returns whether there was anything.
    fn pump(&mut self) -> bool {
        let wire = self.peer.take();
        let mut rest = &wire[..];
        while !rest.is_empty() {
            self.session.read_tls(&mut rest).unwrap();
            let state = self.session.process_new_packets().unwrap();
            let had = self.got.len();
            self.got.resize(had + state.plaintext_bytes_to_read(), 0);
            self.session.reader().read_exact(&mut self.got[had..]).unwrap();
            self.ended |= state.peer_has_closed();
        }
        let said = self.say();
        said || !wire.is_empty()
    }

    /// Sends what is to be sent.
    fn say(&mut self) -> bool {
        let mut wire = Vec::new();
        while self.session.wants_write() {
            self.session.write_tls(&mut wire).unwrap();
        }
        if !wire.is_empty() {
            self.peer.send(&wire);
        }
        !wire.is_empty()
    }

    fn send(&mut self, bytes: &[u8]) {
        self.session.writer().write_all(bytes).unwrap();
        self.say();
    }

    /// Lets both sides talk until neither has anything to say.
    fn talk(&mut self, rig: &mut Rig) {
        for _ in 0..100_000 {
            rig.settle();
            if !self.pump() {
                return;
            }
        }
        panic!("they do not come to an end");
    }

    fn open(rig: &mut Rig) -> Client {
        let mut client = Client::connect(rig);
        client.talk(rig);
        assert!(!client.session.is_handshaking());
        client
    }
}

#[test]
fn a_connection_is_told_of_when_the_handshake_is_done() {
    let mut rig = sealed(echo_rig(Limits::default()));
    let mut client = Client::connect(&rig);
    rig.settle();
    assert!(rig.events().is_empty() && rig.stats().accepted == 0, "it is no connection yet");
    client.talk(&mut rig);
    let conn = rig.open()[0];
    assert_eq!(rig.events(), [Event::Open(conn)]);
    client.send(&frames([&b"one"[..], b"", b"two"]));
    client.talk(&mut rig);
    assert_eq!(client.got, frames([&b"one"[..], b"", b"two"]));
    let stats = rig.stats();
    assert_eq!((stats.accepted, stats.open, stats.refused, stats.buffered_bytes), (1, 1, 0, 0));
}

#[test]
fn who_does_not_shake_hands_in_time_is_turned_away() {
    let mut limits = Limits::default();
    limits.handshake_timeout = TENTH;
    let mut rig = sealed(echo_rig(limits));
    let silent = rig.client();
    let mut begun = Client::connect(&rig);
    begun.say();
    rig.settle();
    rig.pass(TENTH / 2);
    assert!(silent.dropped().is_none());
    // It does not answer, and drips would not help it.
    rig.pass(TENTH / 2);
    assert!(silent.dropped().is_some() && begun.peer.dropped().is_some());
    let stats = rig.stats();
    assert_eq!((stats.refused, stats.handshakes_failed, stats.accepted, stats.closed), (2, 2, 0, 0));
    assert!(rig.events().is_empty(), "nobody was told of them");
    assert_eq!(rig.reactor.cx.table.live(), 0);
}

#[test]
fn a_loop_that_is_late_does_not_turn_those_away_whose_bytes_wait() {
    let mut limits = Limits::default();
    limits.handshake_timeout = TENTH;
    limits.handshakes_per_turn = 1;
    let mut rig = sealed(echo_rig(limits));
    let mut clients: Vec<_> = (0..5).map(|_| Client::connect(&rig)).collect();
    for client in &mut clients {
        client.say();
    }
    rig.reactor.turn(Some(Duration::ZERO)).unwrap();
    rig.world.advance(TENTH * 2);
    rig.settle();
    // The hellos that had waited were answered, though time had passed. The one that was answered before had its time.
    for client in &mut clients {
        assert!(client.pump() && !client.session.is_handshaking());
    }
    rig.settle();
    assert_eq!((rig.stats().accepted, rig.stats().handshakes_failed), (4, 1));
}

#[test]
fn a_storm_of_handshakes_does_not_hold_up_those_who_are_open() {
    let mut limits = Limits::default();
    limits.handshakes_per_turn = 3;
    let mut rig = sealed(echo_rig(limits));
    let mut open = Client::open(&mut rig);
    let mut storm: Vec<_> = (0..20).map(|_| Client::connect(&rig)).collect();
    rig.settle();
    for client in &mut storm {
        client.say();
    }
    open.send(&frame(b"me first"));
    let mut turns = 0;
    let mut answered = 0;
    while answered < storm.len() {
        rig.reactor.turn(Some(Duration::ZERO)).unwrap();
        turns += 1;
        if turns == 1 {
            open.pump();
            assert_eq!(open.got, frame(b"me first"), "in the first turn");
        }
        let now = storm.iter_mut().filter(|client| !client.peer.take().is_empty()).count();
        assert!(now <= 3, "{now} handshakes in one turn");
        answered += now;
        assert!(turns < 100);
    }
    assert!(turns >= 7);
}

#[test]
fn what_tls_holds_is_a_queue_that_has_to_move() {
    let mut limits = Limits::default();
    limits.write_timeout = Some(TENTH);
    let mut rig = sealed(echo_rig(limits));
    let mut client = Client::open(&mut rig);
    let conn = rig.open()[0];
    client.peer.capacity(10);
    client.send(&frame(&[7; 1_000]));
    rig.settle();
    assert!(rig.reactor.cx.table.get(conn).is_some_and(|live| live.outbox.is_empty()), "TLS has it all");
    assert!(rig.cx().queued(conn) > 0 && rig.stats().buffered_bytes > 0);
    assert_eq!(rig.stats().frames_out, 0, "it was not handed over");
    rig.pass(TENTH / 2);
    assert_eq!(client.peer.take().len(), 10);
    rig.pass(TENTH / 2);
    assert_eq!(rig.open(), [conn], "it has moved");
    rig.pass(TENTH);
    assert_eq!(rig.closes(), ["write_timeout"]);
    assert_eq!(rig.stats().frames_out, 0);
    assert_eq!(rig.stats().buffered_bytes, 0);
}

#[test]
fn a_close_waits_for_what_tls_holds_and_for_its_last_word() {
    let mut rig = sealed(echo_rig(Limits::default()));
    let mut client = Client::open(&mut rig);
    let conn = rig.open()[0];
    client.peer.capacity(100);
    client.send(&frame(&[7; 1_000]));
    rig.settle();
    rig.cx().close(conn);
    rig.settle();
    assert!(rig.closes().is_empty(), "something waits");
    while rig.closes().is_empty() {
        assert!(client.pump(), "it gets everything");
        rig.settle();
    }
    client.talk(&mut rig);
    assert_eq!(client.got, frame(&[7; 1_000]));
    assert!(client.ended, "close_notify has come");
    assert_eq!(rig.stats().frames_out, 1);
}

#[test]
fn a_dial_with_tls_has_its_time_for_all_of_it() {
    let mut rig = rig(|_, _| {});
    rig.world.answers("127.0.0.1:9", crate::net::mem::Answer::Opens);
    let connector = crate::tls::Connector::from_config(Arc::clone(&certificate().1));
    let dial = crate::Dial::to("127.0.0.1:9").tls(connector).server_name("localhost").within(TENTH);
    let conn = rig.cx().connect(dial, LengthPrefixed::default());
    rig.cx().send(conn, b"it waits");
    rig.settle();
    assert!(rig.events().is_empty());
    rig.pass(TENTH);
    assert_eq!(rig.events(), [Event::DialFailed(conn)]);
    assert_eq!(rig.failures(), ["TLS with 127.0.0.1:9: no handshake in time"]);
    assert_eq!(rig.stats().buffered_bytes, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    /// However reads and writes are cut, and however little room there is: everything comes back, once and in order.
    #[test]
    fn everything_comes_back_however_it_is_cut(
        lens in prop::collection::vec(0usize..70_000, 1..6),
        read_max in 1usize..40_000,
        write_max in 1usize..40_000,
        capacity in 1usize..100_000,
    ) {
        let mut rig = sealed(echo_rig(Limits::default()));
        let mut client = Client::open(&mut rig);
        client.peer.pieces(read_max.max(40), write_max.max(40));
        client.peer.capacity(capacity.max(40));
        let mut sent = Vec::new();
        for (seed, len) in lens.into_iter().enumerate() {
            let message: Vec<u8> = (0..len).map(|at| (at * 7 + seed) as u8).collect();
            client.send(&frame(&message));
            sent.extend(frame(&message));
        }
        client.session.send_close_notify();
        client.say();
        client.talk(&mut rig);
        prop_assert!(client.got == sent, "{} of {} bytes", client.got.len(), sent.len());
        prop_assert!(client.ended);
        prop_assert_eq!(rig.closes(), ["peer"]);
        prop_assert_eq!(rig.stats().buffered_bytes, 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    /// Whatever a peer sends in the place of what it should: nothing panics, nothing spins, and the books balance.
    #[test]
    fn a_byte_that_is_wrong_costs_its_connection_at_most(
        at in 0usize..1_200,
        flip in 1u8..,
        pieces in 1usize..400,
        insert in any::<bool>(),
    ) {
        let mut rig = sealed(echo_rig(Limits::default()));
        let mut client = Client::connect(&rig);
        client.peer.pieces(pieces, usize::MAX);
        let mut passed = 0;
        for _ in 0..8 {
            let mut wire = Vec::new();
            while client.session.wants_write() {
                client.session.write_tls(&mut wire).unwrap();
            }
            if at >= passed && at - passed < wire.len() {
                if insert { wire.insert(at - passed, flip) } else { wire[at - passed] ^= flip }
            }
            passed += wire.len();
            client.peer.send(&wire);
            rig.settle();
            let answer = client.peer.take();
            let read = client.session.read_tls(&mut &answer[..]).and_then(|_| {
                client.session.process_new_packets().map_err(std::io::Error::other)
            });
            if read.is_err() {
                break;
            }
            if !client.session.is_handshaking() {
                client.session.writer().write_all(&frame(&[7; 300])).unwrap();
            }
        }
        client.peer.shut_down_writing();
        rig.settle();
        rig.pass(Duration::from_secs(60));
        let stats = rig.stats();
        prop_assert_eq!(stats.open, 0);
        prop_assert_eq!(stats.buffered_bytes, 0);
    }

    /// Bytes that are no TLS at all.
    #[test]
    fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..600), pieces in 1usize..80) {
        let mut rig = sealed(echo_rig(Limits::default()));
        let peer = rig.client();
        peer.pieces(pieces, usize::MAX);
        for piece in bytes.chunks(97) {
            peer.send(piece);
            rig.settle();
        }
        peer.shut_down_writing();
        rig.settle();
        rig.pass(Duration::from_secs(60));
        prop_assert_eq!((rig.stats().refused, rig.stats().accepted), (1, 0));
        prop_assert!(peer.dropped().is_some());
    }
}
