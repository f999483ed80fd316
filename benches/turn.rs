//! A whole turn over loopback: clients write, the reactor turns until all is answered, clients read. All on one thread, so
//! that nothing waits for a wake-up, and a round is what the machine spends on it; most of that is the kernel's.

#![allow(missing_docs, reason = "criterion's macros make a public function")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mainspring::codec::LengthPrefixed;
use mainspring::{ConnId, Context, Handler, Reactor, To};

/// Answers, or tells everyone.
struct Server {
    everyone: bool,
}

impl Handler for Server {
    type Codec = LengthPrefixed;
    type Session = ();

    fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, message: &[u8]) {
        if self.everyone {
            cx.broadcast(To::All, message);
        } else {
            cx.send(from, message);
        }
    }
}

struct Scene {
    reactor: Reactor<Server>,
    clients: Vec<TcpStream>,
    /// What a client that speaks writes in one round.
    wire: Vec<u8>,
    got: Vec<u8>,
    /// Frames in that.
    batch: usize,
}

impl Scene {
    fn new(everyone: bool, clients: usize, batch: usize) -> Scene {
        let mut reactor = Reactor::new(Server { everyone }).expect("a poller");
        let listening = reactor.listen("127.0.0.1:0", LengthPrefixed::default()).expect("a free port");
        let address = listening.address.ip().expect("an IP address");
        let connect = |_| {
            let client = TcpStream::connect(address).expect("listening");
            client.set_nodelay(true).expect("an open socket");
            client
        };
        let clients: Vec<_> = (0..clients).map(connect).collect();
        let wire = [&64u32.to_be_bytes()[..], &[b'x'; 64]].concat().repeat(batch);
        let got = vec![0; wire.len()];
        let mut scene = Scene { reactor, clients, wire, got, batch };
        while scene.reactor.stats().open < scene.clients.len() as u64 {
            scene.turn();
        }
        scene
    }

    fn turn(&mut self) {
        self.reactor.turn(Some(Duration::from_secs(10))).expect("a poller that works");
    }

    fn round(&mut self, speakers: usize) {
        let readers = if self.reactor.handler().everyone { self.clients.len() } else { speakers };
        let due = self.reactor.stats().frames_out + (readers * self.batch) as u64;
        for mut client in &self.clients[..speakers] {
            client.write_all(&self.wire).expect("an open connection");
        }
        while self.reactor.stats().frames_out < due {
            self.turn();
        }
        for mut client in &self.clients[..readers] {
            client.read_exact(&mut self.got).expect("what was sent");
        }
    }
}

fn echo(c: &mut Criterion) {
    let mut group = c.benchmark_group("a round of echo");
    for (clients, batch) in [(1, 1), (1, 32), (64, 1), (64, 32)] {
        let mut scene = Scene::new(false, clients, batch);
        group.throughput(Throughput::Elements((clients * batch) as u64));
        group.bench_function(BenchmarkId::new(format!("{clients} clients"), batch), |b| {
            b.iter(|| scene.round(clients));
        });
    }
    group.finish();
}

/// Connections that say nothing cost nothing.
fn idle(c: &mut Criterion) {
    let mut group = c.benchmark_group("a round of echo among idle connections");
    for idle in [0, 1_000] {
        let mut scene = Scene::new(false, 1 + idle, 1);
        group.bench_function(BenchmarkId::from_parameter(idle), |b| b.iter(|| scene.round(1)));
    }
    group.finish();
}

fn broadcast(c: &mut Criterion) {
    let mut group = c.benchmark_group("a frame for everyone");
    for clients in [1, 64] {
        let mut scene = Scene::new(true, clients, 1);
        group.throughput(Throughput::Elements(clients as u64));
        group.bench_function(BenchmarkId::from_parameter(clients), |b| b.iter(|| scene.round(1)));
    }
    group.finish();
}

criterion_group!(benches, echo, idle, broadcast);
criterion_main!(benches);
