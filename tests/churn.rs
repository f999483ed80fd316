//! Clients that come and go without end: nobody gets what is another's, and nothing is left behind.

#![allow(clippy::unwrap_used, reason = "what a test's helper cannot do has failed the test")]

#[path = "common/reactor.rs"]
mod common;

use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use common::*;
use mainspring::Stats;
use socket2::SockRef;

const CLIENTS: usize = 50;
// In Wine, where Windows is tried, one process serves every call.
const ROUNDS: usize = if cfg!(windows) { 3 } else { 20 };

fn books_balance(stats: &Stats) -> bool {
    stats.accepted + stats.connected == stats.open + stats.closed
}

/// Connects, sends its own pattern, checks that it gets that and nothing else, and goes in one of many ways.
fn churn(server: SocketAddr, client: usize) {
    for round in 0..ROUNDS {
        let stream = connect(server);
        let seed = client * ROUNDS + round;
        // Long enough that no two are alike, and now and then longer than what is copied.
        let message = pattern(seed, if seed % 16 == 3 { 40_000 + seed } else { 8 + seed % 500 });
        let mut tagged = (seed as u32).to_be_bytes().to_vec();
        tagged.extend(message);
        match seed % 5 {
            0 => {
                expect_echo(&stream, &tagged);
                reset(stream);
            }
            // Gone before the answer.
            1 => {
                send_frame(&stream, &tagged);
                reset(stream);
            }
            2 => {
                send_frame(&stream, &tagged);
                drop(stream);
            }
            3 => {
                expect_echo(&stream, &tagged);
                expect_echo(&stream, &tagged);
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                expect_end(&stream);
            }
            _ => {
                expect_echo(&stream, &tagged);
                drop(stream);
            }
        }
    }
}

fn churn_all(server: &Server) {
    let address = server.address;
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || churn(address, client));
        }
    });
    let stats = server.wait_stats("all to be gone", |stats| stats.open == 0);
    assert!(books_balance(&stats), "{stats:?}");
    assert_eq!(stats.accepted, (CLIENTS * ROUNDS) as u64);
    server.wait_stats("their memory", |stats| stats.buffered_bytes == 0);
    server.expect_rest();
}

#[test]
fn clients_that_come_and_go_only_ever_get_their_own_bytes() {
    // Smithay/calloop#155: what was meant for one source ran on the one that had taken its slot.
    churn_all(&Server::echo());
}

#[test]
fn answers_of_another_thread_never_reach_the_next_client() {
    // panjf2000/gnet#621: a late answer went to the new connection with the old one's descriptor.
    let (questions, asked) = mpsc::channel::<(_, Bytes)>();
    let server = Server::new(move |_, from, message| {
        questions.send((from, Bytes::copy_from_slice(message))).expect("the worker runs");
    });
    let handle = server.handle.clone();
    let worker = thread::spawn(move || {
        // In batches, so that many of those who asked are gone by then.
        let mut batch = Vec::new();
        while let Ok(question) = asked.recv_timeout(Duration::from_secs(60)) {
            batch.push(question);
            batch.extend(asked.try_iter());
            for (conn, message) in batch.drain(..) {
                drop(handle.send(conn, message));
            }
        }
    });
    churn_all(&server);
    let dropped = server.stats().frames_dropped;
    assert!(dropped > 0, "some were too late, or this shows nothing");
    drop(server);
    worker.join().unwrap();
}

#[test]
fn a_storm_of_clients_that_reset_at_once_leaves_a_quiet_server() {
    // housleyjk/ws-rs#181: a port scan sent the server into an endless loop.
    const STORM: u64 = if cfg!(windows) { 100 } else { 2_000 };
    let server = Server::echo();
    for _ in 0..STORM {
        let stream = TcpStream::connect(server.address).unwrap();
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    let stats = server.wait_stats("the storm to pass", |stats| {
        stats.accepted + stats.refused + stats.accept_errors >= STORM && stats.open == 0
    });
    assert!(books_balance(&stats), "{stats:?}");
    server.expect_rest();
    expect_echo(&server.connect(), b"a fresh client is served");
}

#[test]
fn a_thousand_connections_at_once_are_all_served_and_all_end() {
    const COUNT: usize = if cfg!(windows) { 100 } else { 1_000 };
    let server = Server::echo();
    let clients: Vec<_> = (0..COUNT).map(|_| server.connect()).collect();
    clients.iter().enumerate().for_each(|(n, client)| send_frame(client, &pattern(n, 100)));
    clients.iter().enumerate().for_each(|(n, client)| expect_frame(client, &pattern(n, 100)));
    assert_eq!(server.stats().open, COUNT as u64);
    server.expect_rest();
    drop(clients);
    let stats = server.wait_stats("all to be gone", |stats| stats.open == 0);
    assert_eq!(stats.closes().find(|(name, _)| *name == "peer"), Some(("peer", COUNT as u64)));
}
