//! `proxy`, between plain sockets: nothing is lost, nothing piles up, and each end goes through as what it is.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use super::support::{Bound, PATIENCE, Peer, Program, expect_count, join, noise};

const MIB: usize = 1024 * 1024;

/// A proxy, and the listener that it goes to.
fn proxy(arguments: &str) -> (Program, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let to = listener.local_addr().expect("it is bound");
    (Program::serve("proxy", &format!("--to {to} {arguments}")), listener)
}

/// A client of a proxy, and the server's end of it.
fn through(proxy: &Program, listener: &TcpListener) -> (Peer, Peer) {
    let client = proxy.connect();
    let (server, _) = listener.accept().expect("the proxy connects");
    server.set_read_timeout(Some(PATIENCE)).expect("not zero");
    server.set_write_timeout(Some(PATIENCE)).expect("not zero");
    (client, Peer(server))
}

/// As [`through`], and something has gone through already: the proxy knows that it is connected.
fn through_and_used(proxy: &Program, listener: &TcpListener) -> (Peer, Peer) {
    let (mut client, mut server) = through(proxy, listener);
    client.send(b"x");
    server.expect(b"x");
    (client, server)
}

fn reset(peer: Peer) {
    SockRef::from(&peer.0).set_linger(Some(Duration::ZERO)).expect("an option");
}

fn expect_reset(mut peer: Peer) {
    let error = peer.0.read(&mut [0]).expect_err("no end in order");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn bytes_go_through_bit_for_bit_both_ways_at_once() {
    let (proxy, listener) = proxy("");
    let (client, server) = through(&proxy, &listener);
    let bytes = Arc::new(noise(1, 65 * MIB));
    let directions = [(client.duplicate(), server.duplicate(), 0), (server, client, MIB)];
    let threads: Vec<_> = directions
        .into_iter()
        .flat_map(|(mut from, mut to, skip)| {
            let (sent, expected) = (Arc::clone(&bytes), Arc::clone(&bytes));
            let sender = thread::spawn(move || {
                from.send(&sent[skip..][..64 * MIB]);
                from.end_output();
            });
            let receiver = thread::spawn(move || {
                let mut arrived = Vec::with_capacity(64 * MIB);
                to.0.read_to_end(&mut arrived).expect("an end in order");
                assert!(arrived == expected[skip..][..64 * MIB], "{} bytes arrived", arrived.len());
            });
            [sender, receiver]
        })
        .collect();
    threads.into_iter().for_each(join);
    let stats = proxy.stop();
    expect_count(&stats, "bytes_in", 128 * MIB as u64);
    expect_count(&stats, "bytes_out", 128 * MIB as u64);
    expect_count(&stats, "closes.peer", 2);
}

#[test]
fn a_side_that_does_not_read_makes_the_other_wait() {
    let bytes = Arc::new(noise(3, 64 * MIB));
    for server_sleeps in [true, false] {
        let (mut proxy, listener) = proxy("--stats-every 50ms");
        let (client, server) = through(&proxy, &listener);
        let (mut busy, mut asleep) = if server_sleeps { (client, server) } else { (server, client) };
        let sent = busy.send_until_full(&bytes);
        // What waits in the proxy is a megabyte and what one read brings, whatever waits in the kernel.
        let stats = proxy.stats_until("it holds much", |stats| {
            stats["buffered_bytes"].as_u64().is_some_and(|held| held > MIB as u64 / 2)
        });
        let held = stats["buffered_bytes"].as_u64().expect("a count");
        assert!(held <= 3 * MIB as u64, "{held} bytes are held");
        expect_count(&stats, "open", 2);
        // The other way is open all the while.
        asleep.send(b"meanwhile");
        busy.expect(b"meanwhile");
        let all = Arc::clone(&bytes);
        let rest = thread::spawn(move || {
            busy.send(&all[sent..]);
            busy.end_output();
            busy
        });
        asleep.expect(&bytes);
        asleep.expect_end();
        asleep.end_output();
        rest.join().expect("it is sent").expect_end();
        let stats = proxy.stop();
        expect_count(&stats, "closes.slow_consumer", 0);
        expect_count(&stats, "closes.peer", 2);
    }
}

#[test]
fn an_end_of_output_goes_through_and_the_other_way_stays_open() {
    for client_first in [true, false] {
        let (proxy, listener) = proxy("");
        let (client, server) = through(&proxy, &listener);
        let (mut first, mut second) = if client_first { (client, server) } else { (server, client) };
        first.send(b"the question");
        first.end_output();
        second.expect(b"the question");
        second.expect_end();
        for _ in 0..3 {
            second.send(&noise(5, 100_000));
            first.expect(&noise(5, 100_000));
        }
        second.end_output();
        first.expect_end();
        expect_count(&proxy.stop(), "closes.peer", 2);
    }
}

#[test]
fn a_client_that_sends_all_it_has_at_once_and_ends_is_served() {
    let (proxy, listener) = proxy("");
    let mut client = proxy.connect();
    // Before the proxy has an answer of its own, perhaps.
    client.send(b"all at once");
    client.end_output();
    let (mut server, _) = listener.accept().expect("the proxy connects");
    server.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let mut arrived = String::new();
    server.read_to_string(&mut arrived).expect("an end in order");
    assert_eq!(arrived, "all at once");
    server.write_all(b"reply").expect("it is open");
    drop(server);
    client.expect(b"reply");
    client.expect_end();
    expect_count(&proxy.stop(), "closes.peer", 2);
}

#[test]
fn a_reset_goes_through_as_one() {
    let (proxy, listener) = proxy("");
    let (client, server) = through_and_used(&proxy, &listener);
    reset(client);
    expect_reset(server);
    let (client, server) = through_and_used(&proxy, &listener);
    reset(server);
    expect_reset(client);
    // One that comes after an end of output, too.
    let (client, mut server) = through_and_used(&proxy, &listener);
    client.end_output();
    server.expect_end();
    reset(client);
    // Its end was read before: only a write meets the reset.
    let bound = Bound::new(PATIENCE);
    let error = loop {
        assert!(!bound.is_over(), "the server hears nothing of it");
        if let Err(error) = server.0.write(b"x") {
            break error;
        }
        thread::park_timeout(Duration::from_millis(1));
    };
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    let stats = proxy.stop();
    expect_count(&stats, "closes.reset", 3);
    expect_count(&stats, "closes.aborted", 3);
}

#[test]
fn a_close_of_both_ways_loses_nothing_that_was_sent() {
    let (proxy, listener) = proxy("");
    let (client, mut server) = through(&proxy, &listener);
    let bytes = noise(9, 8 * MIB);
    let expected = bytes.clone();
    let sending = thread::spawn(move || {
        let mut client = client;
        client.send(&bytes);
        drop(client);
    });
    server.expect(&expected);
    server.expect_end();
    join(sending);
    drop(server);
    proxy.stop();
}

#[test]
fn a_client_without_a_server_is_closed() {
    let (proxy, listener) = proxy("");
    let to = listener.local_addr().expect("it is bound");
    drop(listener);
    let mut client = proxy.connect();
    client.expect_end();
    proxy.signal("TERM");
    let ended = proxy.ended();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(ended.errors.lines().count(), 1, "{ended:?}");
    assert!(ended.errors.contains(&to.to_string()) && ended.errors.contains("refused"), "{ended:?}");
    let last = String::from_utf8_lossy(ended.lines.last().expect("there is a last line")).into_owned();
    assert!(last.contains("\"dials_failed\":1"), "{last}");
}

#[test]
fn a_client_that_leaves_while_its_server_is_dialed_leaves_nothing_behind() {
    let (mut proxy, listener) = proxy("--stats-every 20ms");
    for _ in 0..20 {
        reset(proxy.connect());
    }
    proxy.stats_until("all have gone", |stats| {
        stats["accepted"].as_u64() == Some(20) && stats["open"].as_u64() == Some(0)
    });
    drop(listener);
    proxy.stop();
}

#[test]
fn a_name_is_dialed_at_the_address_that_answers() {
    let echo = Program::serve("echo", "--framing raw");
    let proxy = Program::serve("proxy", &format!("--to localhost:{}", echo.address().port()));
    let mut client = proxy.connect();
    client.send(b"by name");
    client.expect(b"by name");
    drop(client);
    proxy.stop();
    echo.stop();
}

#[test]
fn many_clients_at_once_each_have_their_own_way() {
    let echo = Program::serve("echo", "--framing raw");
    let proxy = Program::serve("proxy", &format!("--to {} --max-connections 50", echo.address()));
    let mut clients: Vec<Peer> = (0..50).map(|_| proxy.connect()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(&noise(n as u64, 20_000));
    }
    for (n, client) in clients.iter_mut().enumerate() {
        client.expect(&noise(n as u64, 20_000));
    }
    // One more than may be.
    proxy.connect().expect_gone();
    for client in &mut clients {
        client.end_output();
        client.expect_end();
    }
    let stats = proxy.stop();
    expect_count(&stats, "refused", 1);
    expect_count(&stats, "closes.peer", 100);
    echo.stop();
}

#[test]
fn an_end_by_a_signal_hands_over_what_is_queued() {
    let (proxy, listener) = proxy("");
    let (mut client, mut server) = through(&proxy, &listener);
    let sent = client.send_until_full(&noise(4, 64 * MIB));
    let bound = Bound::new(PATIENCE);
    proxy.signal("TERM");
    let mut arrived = vec![0; MIB];
    let mut total = 0;
    loop {
        match server.0.read(&mut arrived) {
            Ok(0) => break,
            Ok(n) => total += n,
            Err(error) => panic!("no end in order: {error}"),
        }
        assert!(!bound.is_over());
    }
    // What the proxy had taken by then, and not what waited in the kernel for it.
    assert!(total > MIB && total <= sent, "{total} of {sent}");
    let ended = proxy.ended();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
}

#[test]
fn what_cannot_be_meant_is_a_usage_error() {
    for arguments in ["", "--to nowhere", "--to 127.0.0.1:1 --framing lines", "--to 1.2:80"] {
        let ended = Program::start("proxy", arguments).ended();
        assert_eq!(ended.status.code(), Some(2), "{arguments}: {ended:?}");
    }
    let help = Program::start("proxy", "--help").ended();
    let text = help.lines.join(&b'\n');
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("--to") && text.contains("--drain") && !text.contains("--framing"), "{text}");
}

#[test]
fn a_server_that_ends_first_is_an_end_for_the_client() {
    let (proxy, listener) = proxy("");
    let (mut client, mut server) = through(&proxy, &listener);
    server.send(b"bye");
    drop(server);
    client.expect(b"bye");
    client.expect_end();
    client.end_output();
    expect_count(&proxy.stop(), "closed", 2);
}
