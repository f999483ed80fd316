//! Slow readers, many at once, and what they cost.

use std::sync::mpsc;
use std::thread;

use mainspring::client::{Builder, Channel, Event};
use mainspring::codec::LengthPrefixed;
use mainspring::pool::ReactorPool;
use mainspring::{ConnId, Context, Handler, ListenOptions, Reactor, To};

use crate::certificates::local;
use crate::common::{PATIENCE, Server, Tester, connect, pattern, read_frame, wait_for};
use crate::peers::{echo_server, expect_echo, plain_client, recv, send};

#[test]
fn a_client_that_does_not_read_is_paused_and_gets_everything_once_it_does() {
    const COUNT: usize = 300;
    const LEN: usize = 100_000;
    let (authority, issued) = local();
    let server = echo_server(issued.acceptor());
    let builder = Builder::new().tls(authority.connector());
    let client =
        builder.connect(("localhost", server.address.port()), LengthPrefixed::default()).expect("a server");
    let (opens, open) = mpsc::channel::<()>();
    let (messages, received) = mpsc::channel();
    let mut gate = Some(open);
    let channel = Channel::new(client, move |_, event| {
        if let Some(gate) = gate.take() {
            let _ = gate.recv();
        }
        if let Event::Message(message) = event {
            drop(messages.send(message.to_vec()));
        }
    })
    .expect("threads");
    let sender = channel.sender().clone();
    let sending = thread::spawn(move || {
        for seed in 0..COUNT {
            sender.send(&pattern(seed, LEN)).expect("it is taken");
        }
    });
    // It stands still when the sockets are full and the outbox is above the mark.
    let mut last = 0;
    let stats = wait_for("a server that stands still", || {
        let stats = server.stats();
        let stands = stats.frames_in == last && stats.buffered_bytes > 0;
        last = stats.frames_in;
        thread::park_timeout(std::time::Duration::from_millis(100));
        stands.then_some(stats)
    });
    assert!(stats.frames_in < COUNT as u64, "all of it fitted?");
    assert!(stats.buffered_bytes < 4 << 20, "{} bytes are held", stats.buffered_bytes);
    opens.send(()).expect("the callback waits");
    for seed in 0..COUNT {
        let got = received.recv_timeout(PATIENCE).expect("a message");
        assert!(got == pattern(seed, LEN), "message {seed}");
    }
    sending.join().expect("no panic");
    channel.close().expect("in order");
    server.wait_stats("nothing held any more", |stats| stats.buffered_bytes == 0 && stats.open == 0);
}

#[test]
fn a_broadcast_reaches_those_with_tls_and_those_without_alike() {
    let (authority, issued) = local();
    let (tester, events) = Tester::new(|cx, _, message: &[u8]| {
        cx.broadcast(To::All, message);
    });
    let mut reactor = Reactor::new(tester).expect("a reactor");
    let codec = LengthPrefixed::default();
    let options = ListenOptions::tls(issued.acceptor());
    let sealed = reactor.listen_with("127.0.0.1:0", codec.clone(), &options).expect("a free port");
    let plain = reactor.listen("127.0.0.1:0", codec).expect("a free port");
    let sealed = sealed.address.ip().expect("an IP address");
    let server = Server::run(reactor, events, plain.address.ip().expect("an IP address"));
    let mut by_tls: Vec<_> = (0..3).map(|_| plain_client(&authority, sealed)).collect();
    for client in &mut by_tls {
        std::io::Write::flush(client).expect("a handshake");
    }
    let without: Vec<_> = (0..3).map(|_| connect(server.address)).collect();
    server.wait_stats("all of them", |stats| stats.open == 6);
    // Shared by reference, copied, and in a series.
    for len in [200_000, 10, 10, 10, 5_000] {
        send(&mut by_tls[0], &pattern(len, len));
        for client in &mut by_tls {
            assert!(recv(client) == pattern(len, len));
        }
        for client in &without {
            assert!(read_frame(client) == pattern(len, len));
        }
    }
}

struct Echo;

impl Handler for Echo {
    type Codec = LengthPrefixed;
    type Session = ();

    fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, message: &[u8]) {
        cx.send(from, message);
    }
}

#[test]
fn the_reactors_of_a_pool_serve_tls_however_clients_get_to_them() {
    use mainspring::pool::Balance;
    let (authority, issued) = local();
    for balance in [Balance::Auto, Balance::HandOut] {
        let builder = ReactorPool::<Echo>::builder().reactors(2).balance(balance);
        let mut pool = builder.build(|_| Echo).expect("reactors");
        let options = ListenOptions::tls(issued.acceptor());
        let listening =
            pool.listen_with("127.0.0.1:0", LengthPrefixed::default(), &options).expect("a free port");
        let address = listening.address.ip().expect("an IP address");
        let handle = pool.handle();
        let running = thread::spawn(move || pool.run().expect("pollers that work"));
        let mut clients: Vec<_> = (0..6).map(|_| plain_client(&authority, address)).collect();
        for (seed, client) in clients.iter_mut().enumerate() {
            expect_echo(client, &pattern(seed, 20_000));
        }
        handle.shutdown();
        let end = running.join().expect("no panic");
        assert_eq!((end.total().accepted, end.total().handshakes_failed), (6, 0));
    }
}

#[test]
fn an_idle_connection_holds_no_buffer() {
    let (authority, issued) = local();
    let server = echo_server(issued.acceptor());
    let mut client = plain_client(&authority, server.address);
    expect_echo(&mut client, &pattern(1, 500_000));
    server.wait_stats("nothing held", |stats| stats.buffered_bytes == 0);
    server.expect_rest();
}
