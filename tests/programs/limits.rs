//! What servers do when clients or the machine do not play along: memory, slow and stuck clients, deadlines, descriptors.
//!
//! A client that vanishes without a word is not among them: on one machine every end is told. The tests of the loop's own
//! virtual world have it.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use socket2::SockRef;

use super::support::{Bound, PATIENCE, Peer, Program, expect_count, frame, join, many_frames, noise};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

fn n(stats: &Value, key: &str) -> u64 {
    let value = stats.pointer(&format!("/{}", key.replace('.', "/"))).and_then(Value::as_u64);
    value.unwrap_or_else(|| panic!("{key} is a count: {stats}"))
}

/// Closes by a reset.
fn reset(peer: Peer) {
    SockRef::from(&peer.0).set_linger(Some(Duration::ZERO)).expect("an option");
}

#[track_caller]
fn expect_served(server: &Program) -> Peer {
    let mut peer = server.connect();
    peer.expect_echo();
    peer
}

/// Connects until one is served, which has to come soon.
#[track_caller]
fn served_in_the_end(server: &Program) -> Peer {
    let bound = Bound::new(PATIENCE);
    loop {
        let mut peer = server.connect();
        let mut reply = [0; 9];
        let said = peer.0.write_all(&frame(b"hello"));
        peer.0.set_read_timeout(Some(Duration::from_secs(2))).expect("not zero");
        if said.is_ok() && peer.0.read_exact(&mut reply).is_ok() {
            assert_eq!(reply[..], frame(b"hello"));
            peer.0.set_read_timeout(Some(PATIENCE)).expect("not zero");
            return peer;
        }
        assert!(!bound.is_over(), "nobody is served");
        thread::park_timeout(Duration::from_millis(20));
    }
}

// ---- clients that do not read --------------------------------------------------------------------------------------

#[test]
fn one_that_floods_ends_its_output_and_reads_nothing_costs_no_time_and_gets_all() {
    // netty/netty#6303, tokio-rs/mio PR #933: the end lost what was unread, or was taken for room to write.
    let mut server = Program::serve("echo", "--stats-every 20ms");
    let mut peer = server.connect();
    // More than the mark, less than the kernel's buffers take together with it.
    let wire = many_frames(200, 10_000);
    let mut writer = peer.duplicate();
    let to_send = wire.clone();
    let writing = thread::spawn(move || {
        writer.send(&to_send);
        writer.end_output();
    });
    join(writing);
    server.stats_until("it has read something", |stats| n(stats, "frames_in") > 0);
    server.expect_rest();
    let mut other = expect_served(&server);
    peer.expect(&wire);
    peer.expect_end();
    other.send(&frame(b"still here"));
    other.expect(&frame(b"still here"));
    let stats = server.stop();
    expect_count(&stats, "closes.peer", 1);
    expect_count(&stats, "frames_out", 202);
}

#[test]
fn a_stopped_reader_costs_neither_time_nor_much_memory() {
    // redis/redis#91, lemunozm/message-io#177
    let mut server = Program::serve("echo", "--stats-every 20ms");
    let mut peer = server.connect();
    let wire = many_frames(400, 100_000);
    let sent = peer.send_until_full(&wire);
    let resident = server.resident();
    server.expect_rest();
    let stats = server.stats_until("a line", |_| true);
    assert!(n(&stats, "buffered_bytes") < 4 * MIB, "{stats}");
    if let Some(resident) = resident {
        assert!(resident < 64 * KIB, "{resident} KiB are resident");
    }
    let mut writer = peer.duplicate();
    let rest = wire[sent..].to_vec();
    let writing = thread::spawn(move || writer.send(&rest));
    peer.expect(&wire);
    join(writing);
    server.stats_until("nothing is held", |stats| n(stats, "buffered_bytes") == 0);
    expect_count(&server.stop(), "frames_out", 400);
}

#[test]
fn one_message_longer_than_the_write_limit_passes_an_empty_queue() {
    // redis/redis#11621, #6412: no reader, however fast, could take it.
    let server = Program::serve("broadcast", "--others --write-limit 64KiB");
    let (mut member, mut sender) = (server.connect(), server.connect());
    for number in 0..3 {
        let large = frame(&noise(number, 3 * MIB as usize));
        sender.send(&large);
        member.expect(&large);
    }
    drop((member, sender));
    expect_count(&server.stop(), "closes.slow_consumer", 0);
}

// ---- memory --------------------------------------------------------------------------------------------------------

#[test]
fn past_the_memory_limit_reading_waits_and_while_anything_moves_nobody_is_closed() {
    let mut server = Program::serve("echo", "--memory-limit 2MiB --stats-every 10ms");
    // Connected before there is anything to be over the limit: later ones would be turned away.
    let peers: Vec<_> = (0..8).map(|_| expect_served(&server)).collect();
    let clients: Vec<_> = peers
        .into_iter()
        .map(|mut peer| {
            let wire = many_frames(80, 100_000);
            let (mut writer, to_send) = (peer.duplicate(), wire.clone());
            let writing = thread::spawn(move || writer.send(&to_send));
            let reading = thread::spawn(move || {
                // By pieces with pauses, so that it never stands still and never keeps up.
                for part in wire.chunks(500_000) {
                    thread::park_timeout(Duration::from_millis(50));
                    peer.expect(part);
                }
            });
            (writing, reading)
        })
        .collect();
    let mut most = 0;
    server.stats_until("all is echoed", |stats| {
        most = most.max(n(stats, "buffered_bytes"));
        n(stats, "frames_out") == 8 * 80 + 8
    });
    for (writing, reading) in clients {
        join(writing);
        join(reading);
    }
    // One that is read takes a turn's input in, and its replies.
    assert!(most < 6 * MIB, "{most} bytes were held");
    let stats = server.stop();
    expect_count(&stats, "closes.memory_limit", 0);
    expect_count(&stats, "closed", 8);
}

#[test]
fn when_nothing_moves_the_largest_holders_go_and_the_server_lives() {
    let mut server = Program::serve("echo", "--memory-limit 8MiB --stats-every 20ms");
    // All are let in before there is too much.
    let mut small: Vec<_> = (0..8).map(|_| expect_served(&server)).collect();
    let mut large: Vec<_> = (0..5).map(|_| expect_served(&server)).collect();
    // Frames that are not finished.
    let wire = frame(&noise(1, 2 * MIB as usize));
    for peer in &mut small {
        peer.send(&wire[..20_000]);
    }
    for peer in &mut large {
        // Not all of it is taken where reading waits.
        peer.0.set_write_timeout(Some(Duration::from_millis(100))).expect("not zero");
        let _ = peer.0.write_all(&wire[..1_900_000]);
    }
    // It may read on when one is gone, until there is too much again.
    let stats = server.stats_until("the largest are gone", |stats| {
        n(stats, "closes.memory_limit") > 0 && n(stats, "buffered_bytes") <= 8 * MIB
    });
    assert!(n(&stats, "closes.memory_limit") < 5, "no more than needed: {stats}");
    server.expect_rest();
    // The small ones were not to blame.
    for peer in &mut small {
        peer.send(&wire[20_000..]);
        peer.expect(&wire);
    }
    drop((small, large));
    drop(served_in_the_end(&server));
    let stats = server.stats_until("all are gone", |stats| n(stats, "open") == 0);
    expect_count(&stats, "buffered_bytes", 0);
    server.stop();
}

#[test]
fn after_a_burst_the_memory_goes_back() {
    // tokio-rs/tokio#7344: one large message left its buffers behind for as long as the connection lived.
    const LEN: usize = MIB as usize;
    let connections = most_connections(1_000);
    let mut server = Program::serve("echo", "--stats-every 20ms");
    let before = server.resident();
    let wire = frame(&noise(1, LEN));
    let mut peers: Vec<_> = (0..connections).map(|_| server.connect()).collect();
    // All of them at once hold a frame that lacks its last byte.
    for peer in &mut peers {
        peer.send(&wire[..LEN]);
    }
    let all = (connections * LEN) as u64;
    let full = server.stats_until("all have come", |stats| n(stats, "bytes_in") == all);
    assert!(n(&full, "buffered_bytes") >= all, "{full}");
    let during = server.resident();
    for peer in &mut peers {
        peer.send(&wire[LEN..]);
        peer.expect(&wire);
    }
    let stats = server.stats_until("nothing is held", |stats| n(stats, "buffered_bytes") == 0);
    expect_count(&stats, "open", connections as u64);
    if let (Some(before), Some(during)) = (before, during) {
        let bound = Bound::new(PATIENCE);
        // Free buffers are kept for a second or two.
        while server.resident().is_some_and(|now| now > before + (during - before) / 8) {
            assert!(!bound.is_over(), "{before} KiB before, {during} during, {:?} after", server.resident());
            thread::park_timeout(Duration::from_millis(50));
        }
    }
    drop(peers);
    expect_count(&server.stop(), "closes.peer", connections as u64);
}

/// So many connections as this process may have, and a server with the same limit.
fn most_connections(wanted: usize) -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    // Other tests have connections at the same time.
    let most = soft.map_or(100, |soft| soft.saturating_sub(400).max(100));
    if most < wanted {
        println!("only {most} connections, for want of descriptors");
    }
    wanted.min(most)
}

// ---- deadlines -----------------------------------------------------------------------------------------------------

#[test]
fn a_slow_transfer_that_moves_is_alive_both_ways() {
    // netty/netty#6150 and many after it: judged by whole messages, a slow reader was cut as idle.
    let wire = frame(&noise(1, 12 * MIB as usize));
    let server = Program::serve("echo", "--idle-timeout 1s --write-limit 64MiB");
    let stream = TcpStream::connect(server.address()).expect("the server accepts");
    // The less the kernel holds for us, the finer it tells the server that something was taken.
    SockRef::from(&stream).set_recv_buffer_size(32 * 1024).expect("an option");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let mut peer = Peer(stream);
    // Slowly there: nearly all at once, then a byte at a time for longer than the timeout.
    let (most, last) = wire.split_at(wire.len() - 15);
    peer.send(most);
    for byte in last {
        peer.send(&[*byte]);
        thread::park_timeout(Duration::from_millis(100));
    }
    // And slowly back: the kernel has megabytes for us, and tells the server that there is room when it has hardly any left.
    let slowly = 40 * 16 * 1024;
    for part in wire[..slowly].chunks(16 * 1024) {
        peer.expect(part);
        thread::park_timeout(Duration::from_millis(70));
    }
    peer.expect(&wire[slowly..]);
    peer.expect_end();
    drop(peer);
    let stats = server.stop();
    expect_count(&stats, "frames_out", 1);
    expect_count(&stats, "closes.idle_timeout", 1);
}

// ---- ends ----------------------------------------------------------------------------------------------------------

#[test]
fn many_that_reset_at_once_leave_a_server_at_rest() {
    // housleyjk/ws-rs#181
    const STORM: u64 = 500;
    let mut server = Program::serve("echo", "--stats-every 20ms");
    for number in 0..STORM {
        let mut peer = server.connect();
        if number % 2 == 0 {
            peer.send(&frame(b"no answer is wanted"));
        }
        reset(peer);
    }
    server.stats_until("all are gone", |stats| {
        n(stats, "open") == 0
            && n(stats, "accepted") + n(stats, "refused") + n(stats, "accept_errors") >= STORM
    });
    server.expect_rest();
    expect_served(&server);
    server.stop();
}

#[test]
fn a_client_that_is_killed_under_load_ends_its_own_connections_alone() {
    // joyent/libuv#1244
    let mut server = Program::serve("echo", "--stats-every 20ms");
    let mut other = expect_served(&server);
    let address = server.address();
    let load = Program::start(
        "latency",
        &format!("{address} --connections 20 --pipeline 32 --size 10KiB --duration 1h"),
    );
    server.stats_until("it is under load", |stats| n(stats, "frames_out") > 1_000);
    // As `kill -9` does it.
    drop(load);
    let stats = server.stats_until("they are gone", |stats| n(stats, "open") == 1);
    assert_eq!(n(&stats, "closes.reset") + n(&stats, "closes.peer"), 20, "{stats}");
    expect_count(&stats, "buffered_bytes", 0);
    other.send(&frame(b"still here"));
    other.expect(&frame(b"still here"));
    server.stop();
}

#[test]
fn the_drain_ends_in_time_and_others_get_their_replies_meanwhile() {
    let server = Program::serve("echo", "--drain 1s");
    let (mut deaf, mut reader) = (server.connect(), server.connect());
    let wire = many_frames(2_000, 30_000);
    deaf.send_until_full(&wire);
    reader.send_until_full(&wire);
    let bound = Bound::new(Duration::from_secs(10));
    server.signal("TERM");
    // All frames that were whole by then, and nothing but whole frames.
    let mut arrived = Vec::new();
    reader.0.read_to_end(&mut arrived).expect("an end, no reset");
    assert!(!arrived.is_empty() && arrived.len() % 30_004 == 0 && wire.starts_with(&arrived));
    drop(reader);
    let stats = server.ended_with_stats();
    assert!(!bound.is_over(), "it ends at its deadline");
    expect_count(&stats, "closes.shutdown", 2);
}

// ---- descriptors ---------------------------------------------------------------------------------------------------

const DESCRIPTORS: usize = 64;

/// Those whose reply has come, those that wait, and how many were turned away.
fn sort_out(peers: Vec<Peer>) -> (Vec<Peer>, Vec<Peer>, usize) {
    let (mut served, mut waiting, mut refused) = (Vec::new(), Vec::new(), 0);
    for peer in peers {
        peer.0.set_nonblocking(true).expect("an option");
        let seen = peer.0.peek(&mut [0; 16]);
        peer.0.set_nonblocking(false).expect("an option");
        match seen {
            Ok(0) => refused += 1,
            Ok(_) => served.push(peer),
            Err(error) if error.kind() == ErrorKind::WouldBlock => waiting.push(peer),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                refused += 1;
            }
        }
    }
    (served, waiting, refused)
}

/// More clients than there are descriptors for, each with a question: those that are served, and the others.
fn crowd(server: &Program, count: usize) -> (Vec<Peer>, Vec<Peer>, usize) {
    let mut peers: Vec<_> = (0..count).map(|_| server.connect()).collect();
    for peer in &mut peers {
        // One that was turned away may know it by now.
        let _ = peer.0.write_all(&frame(b"hello"));
    }
    let bound = Bound::new(PATIENCE);
    let (mut served, mut refused) = (Vec::new(), 0);
    while served.len() < DESCRIPTORS / 2 || served.len() + refused < DESCRIPTORS - 20 {
        let (more, waiting, gone) = sort_out(peers);
        served.extend(more);
        peers = waiting;
        refused += gone;
        assert!(!bound.is_over(), "only {} are served, {refused} refused", served.len());
        thread::park_timeout(Duration::from_millis(5));
    }
    (served, peers, refused)
}

/// It neither spins nor dies, and serves those inside.
#[track_caller]
fn expect_calm(server: &Program, served: &mut [Peer]) {
    for peer in &mut *served {
        peer.expect(&frame(b"hello"));
    }
    let before = server.processor_time();
    for round in 0..20_u32 {
        for peer in served.iter_mut().take(3) {
            peer.send(&frame(&round.to_be_bytes()));
            peer.expect(&frame(&round.to_be_bytes()));
        }
        thread::park_timeout(Duration::from_millis(100));
    }
    let (Some(before), Some(after)) = (before, server.processor_time()) else {
        return println!("skipped: nobody tells of processor time here");
    };
    assert!(after - before < 30, "{} hundredths of a second on a processor, in two", after - before);
}

#[test]
fn without_descriptors_it_rests_says_so_once_and_recovers_as_others_go() {
    let server = Program::serve_with_descriptors("echo", DESCRIPTORS, "");
    let (mut served, waiting, _) = crowd(&server, 2 * DESCRIPTORS);
    expect_calm(&server, &mut served);
    // As those go, others come in: whoever was not turned away.
    drop(served);
    let mut waiting = waiting.into_iter();
    waiting.by_ref().take(20).for_each(|mut peer| peer.expect(&frame(b"hello")));
    drop(waiting);
    let mut last = served_in_the_end(&server);
    last.send(&frame(b"again"));
    last.expect(&frame(b"again"));
    drop(last);
    server.signal("TERM");
    let ended = server.ended();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let lines = ended.errors.lines().count();
    assert!(lines <= 4, "{lines} lines for one episode: {}", ended.errors);
}
