//! In the steady state no message costs an allocation: the crate `allocation-counter` counts those of the reactor's thread.
//!
//! Not under poll(2) and on Windows, where mio itself allocates in each wait.

#![cfg(not(any(windows, mio_unsupported_force_poll_poll)))]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use mainspring::codec::{ByteCodec, LengthPrefixed, Lines};
use mainspring::{ConnId, Context, Handler, Reactor, To};

const CLIENTS: usize = 20;
const ROUNDS: usize = 20;
/// Frames of one round of one client, so that they come in batches.
const BATCH: usize = 8;

/// Answers, or tells everyone.
struct Server<C> {
    everyone: bool,
    codec: std::marker::PhantomData<C>,
}

impl<C: ByteCodec> Handler for Server<C> {
    type Codec = C;
    type Session = ();

    fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, message: &[u8]) {
        if self.everyone {
            cx.broadcast(To::All, message);
        } else {
            cx.send(from, message);
        }
    }
}

/// A server and its clients on one thread, so that everything that is allocated is seen.
struct Scene<C: ByteCodec> {
    reactor: Reactor<Server<C>>,
    clients: Vec<TcpStream>,
    wire: Vec<u8>,
    got: Vec<u8>,
}

impl<C: ByteCodec> Scene<C> {
    fn new(codec: C, everyone: bool, frame: &[u8]) -> Scene<C> {
        let server = Server { everyone, codec: std::marker::PhantomData };
        let mut reactor = Reactor::new(server).expect("a poller");
        let listening = reactor.listen("127.0.0.1:0", codec).expect("a free port");
        let address = listening.address.ip().expect("an IP address");
        let clients: Vec<_> = (0..CLIENTS).map(|_| TcpStream::connect(address).expect("listening")).collect();
        let mut scene =
            Scene { reactor, clients, wire: frame.repeat(BATCH), got: vec![0; frame.len() * BATCH] };
        while scene.reactor.stats().open < CLIENTS as u64 {
            scene.turn();
        }
        scene
    }

    fn turn(&mut self) {
        self.reactor.turn(Some(Duration::from_secs(10))).expect("a poller that works");
    }

    /// Each client that speaks sends a batch, and all that is due is read and compared.
    fn rounds(&mut self, count: usize, speakers: usize) {
        for _ in 0..count {
            let before = self.reactor.stats();
            let deliveries = if self.reactor.handler().everyone { CLIENTS } else { 1 };
            for mut client in &self.clients[..speakers] {
                client.write_all(&self.wire).expect("an open connection");
            }
            let due = before.frames_out + (speakers * BATCH * deliveries) as u64;
            while self.reactor.stats().frames_out < due {
                self.turn();
            }
            let each = if deliveries == 1 { 1 } else { speakers };
            let readers = if deliveries == 1 { speakers } else { CLIENTS };
            for mut client in &self.clients[..readers] {
                for _ in 0..each {
                    client.read_exact(&mut self.got).expect("what was sent");
                    assert!(self.got == self.wire);
                }
            }
        }
    }

    /// Asserts that rounds allocate nothing, once memory for them is there: lists grow to what was needed at most, a few times.
    #[track_caller]
    fn expect_no_allocation(&mut self, speakers: usize) {
        let counts: Vec<_> = (0..6)
            .map(|_| allocation_counter::measure(|| self.rounds(ROUNDS, speakers)).count_total)
            .collect();
        let (messages, len) = (ROUNDS * speakers * BATCH, self.wire.len() / BATCH);
        assert!(
            counts.contains(&0),
            "allocations in series of {messages} messages of {len} bytes: {counts:?}"
        );
    }
}

fn frame(payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u32).to_be_bytes()[..], payload].concat()
}

#[test]
fn an_echo_allocates_nothing() {
    for len in [0, 64, 4_000, 20_000] {
        Scene::new(LengthPrefixed::default(), false, &frame(&vec![7; len])).expect_no_allocation(CLIENTS);
    }
}

#[test]
fn a_broadcast_allocates_nothing() {
    for len in [0, 128, 2_000] {
        Scene::new(LengthPrefixed::default(), true, &frame(&vec![7; len])).expect_no_allocation(1);
    }
}

#[test]
fn lines_allocate_nothing() {
    Scene::new(Lines::default(), false, b"as short as a line is\n").expect_no_allocation(CLIENTS);
    Scene::new(Lines::default(), true, b"to everyone\n").expect_no_allocation(2);
}

#[test]
fn what_is_allocated_is_counted() {
    let counted = allocation_counter::measure(|| drop(vec![0_u8; 10]));
    assert_eq!(counted.count_total, 1, "or the other tests could not fail");
}
