//! `--reactors`: one server to those outside, however many loops it has; and sockets that a service manager passes.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::Stdio;

use super::support::{Bound, PATIENCE, Peer, Program, expect_count, frame, many_frames};

#[test]
fn many_loops_are_one_server() {
    let mut server =
        Program::start("echo", "--listen 127.0.0.1:0 --listen localhost:0 --reactors 3 --stats-every 20ms");
    let addresses = [server.expect_listening(), server.expect_listening()];
    let mut peers: Vec<Peer> = (0..40).map(|n| Peer::connect(addresses[n % 2])).collect();
    for (n, peer) in peers.iter_mut().enumerate() {
        let wire = many_frames(10, 100 + n);
        peer.send(&wire);
        peer.expect(&wire);
    }
    // One line, one sum.
    server.stats_until("all are counted", |stats| stats["open"] == 40 && stats["frames_out"] == 400);
    drop(peers);
    server.stats_until("all have left", |stats| stats["open"] == 0);
    let stats = server.stop();
    expect_count(&stats, "accepted", 40);
    expect_count(&stats, "closes.peer", 40);
}

#[test]
fn a_broadcast_reaches_the_members_in_all_loops() {
    for others in [false, true] {
        let arguments = if others { "--reactors 2 --others" } else { "--reactors 2" };
        let mut server = Program::serve("broadcast", &format!("{arguments} --stats-every 10ms"));
        let mut members: Vec<Peer> = (0..16).map(|_| server.connect()).collect();
        server.stats_until("all are in", |stats| stats["open"] == 16);
        for speaker in 0..members.len() {
            let word = frame(format!("from member {speaker}").as_bytes());
            members[speaker].send(&word);
            for (at, member) in members.iter_mut().enumerate() {
                if !(others && at == speaker) {
                    member.expect(&word);
                }
            }
        }
        let heard = if others { 16 * 15 } else { 16 * 16 };
        let stats = server.stop();
        expect_count(&stats, "frames_in", 16);
        expect_count(&stats, "frames_out", heard);
        expect_count(&stats, "frames_dropped", 0);
    }
}

#[test]
fn a_second_server_on_the_same_port_is_told_so() {
    for (first, second) in [(2, 2), (2, 1), (1, 2)] {
        let server = Program::serve("echo", &format!("--reactors {first}"));
        let address = server.address().to_string();
        let other = Program::start("echo", &format!("--reactors {second} --listen {address}")).ended();
        other.expect_failure(&[&address, "in use"]);
        let mut peer = server.connect();
        peer.send(&frame(b"still mine"));
        peer.expect(&frame(b"still mine"));
        drop(peer);
        expect_count(&server.stop(), "accepted", 1);
    }
}

#[test]
fn the_most_connections_are_those_of_all_loops() {
    let server = Program::serve("echo", "--reactors 2 --max-connections 5");
    let mut peers: Vec<Peer> = (0..5).map(|_| server.connect()).collect();
    for peer in &mut peers {
        peer.send(&frame(b"in"));
        peer.expect(&frame(b"in"));
    }
    for _ in 0..4 {
        server.connect().expect_gone();
    }
    let stats = server.stop();
    expect_count(&stats, "accepted", 5);
    expect_count(&stats, "refused", 4);
}

#[test]
fn a_signal_ends_all_loops_in_order_and_a_second_one_at_once() {
    let server = Program::serve("echo", "--reactors 2 --drain 1h");
    let mut peers: Vec<Peer> = (0..50).map(|_| server.connect()).collect();
    for peer in &mut peers {
        peer.send(&frame(b"last"));
    }
    server.signal("TERM");
    for mut peer in peers {
        peer.expect(&frame(b"last"));
        peer.expect_end();
    }
    let stats = server.ended_with_stats();
    expect_count(&stats, "accepted", 50);
    expect_count(&stats, "frames_out", 50);

    let server = Program::serve("echo", "--reactors 2 --drain 1h");
    let mut stuck: Vec<Peer> = (0..8).map(|_| server.connect()).collect();
    let wire = many_frames(2_000, 30_000);
    for peer in &mut stuck {
        peer.send_until_full(&wire);
    }
    server.signal("TERM");
    let bound = Bound::new(PATIENCE);
    while std::net::TcpStream::connect(server.address()).is_ok() {
        assert!(!bound.is_over(), "it listens on");
    }
    server.signal("INT");
    assert_eq!(server.ended().status.code(), Some(130));
}

#[test]
fn what_is_cut_at_the_end_is_said_once_for_all_loops() {
    let server = Program::serve("echo", "--reactors 2 --drain 200ms");
    let mut stuck: Vec<Peer> = (0..6).map(|_| server.connect()).collect();
    let wire = many_frames(2_000, 30_000);
    for peer in &mut stuck {
        peer.send_until_full(&wire);
    }
    server.signal("TERM");
    let ended = server.ended();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(ended.errors.contains("6 connections were cut"), "{ended:?}");
    assert_eq!(ended.lines.iter().filter(|line| line.starts_with(b"stats ")).count(), 1);
}

// ---- passed sockets ------------------------------------------------------------------------------------------------

fn socket() -> (OwnedFd, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    (listener.into(), address)
}

#[test]
fn a_socket_that_was_passed_is_served_with_those_who_waited_in_it() {
    for reactors in [1, 2] {
        let (socket, address) = socket();
        let mut early = Peer::connect(address);
        early.send(&frame(b"early"));
        let mut server = Program::activate("echo", &format!("--reactors {reactors}"), socket, 1, "$$");
        assert_eq!(server.expect_listening(), address);
        early.expect(&frame(b"early"));
        let mut peers: Vec<Peer> = (0..6).map(|_| Peer::connect(address)).collect();
        for peer in &mut peers {
            peer.send(&frame(b"late"));
            peer.expect(&frame(b"late"));
        }
        server.signal("TERM");
        for peer in &mut peers {
            peer.expect_end();
        }
        drop((peers, early));
        expect_count(&server.ended_with_stats(), "accepted", 7);
    }
}

#[test]
fn what_is_asked_for_is_served_beside_what_was_passed() {
    let (socket, passed) = socket();
    let mut server = Program::activate("echo", "--listen 127.0.0.1:0", socket, 2, "$$");
    // Two descriptors of one socket are two listeners.
    let listening = [server.expect_listening(), server.expect_listening(), server.expect_listening()];
    assert_eq!(listening[..2], [passed; 2]);
    assert_ne!(listening[2], passed);
    for address in listening {
        Peer::connect(address).expect_echo();
    }
    expect_count(&server.stop(), "accepted", 3);
}

#[test]
fn sockets_for_another_process_are_none_of_ours() {
    let (socket, passed) = socket();
    // Of a parent that has not cleared its environment.
    let mut server = Program::activate("echo", "--listen 127.0.0.1:0", socket, 1, "1");
    assert_ne!(server.expect_listening(), passed);
    expect_count(&server.stop(), "accepted", 0);
}

#[test]
fn what_was_passed_and_does_not_listen_is_one_line() {
    Program::activate("echo", "", Stdio::null(), 1, "$$")
        .ended()
        .expect_failure(&["socket 0 of LISTEN_FDS", "not a socket"]);
    let (socket, address) = socket();
    let connected = Peer::connect(address);
    let theirs = OwnedFd::from(connected.0.try_clone().expect("there are descriptors"));
    Program::activate("echo", "--reactors 2", theirs, 1, "$$")
        .ended()
        .expect_failure(&["socket 0 of LISTEN_FDS", "does not listen"]);
    drop(socket);
}
