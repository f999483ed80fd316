//! The program `workers`.

use std::io::Read;
use std::thread;
use std::time::Duration;

use super::support::{Bound, Program, expect_count, frame, framed, join, many_frames, noise};

fn answer(message: &[u8]) -> Vec<u8> {
    frame(&[b"Echo: ", message].concat())
}

/// So many messages, of which no two are alike.
fn messages(count: u32) -> impl Iterator<Item = [u8; 4]> {
    (0..count).map(u32::to_be_bytes)
}

fn questions(count: u32) -> Vec<u8> {
    messages(count).flat_map(|message| frame(&message)).collect()
}

fn answers(count: u32) -> Vec<u8> {
    messages(count).flat_map(|message| answer(&message)).collect()
}

#[test]
fn each_message_is_answered_with_echo_before_it_in_every_framing() {
    for framing in ["u32be", "u32le", "u16be", "u8", "varint", "lines"] {
        let server = Program::serve("workers", &format!("--framing {framing}"));
        let mut peer = server.connect();
        for message in [&b"hi"[..], b"", b"hi again"] {
            peer.send(&framed(framing, message));
            peer.expect(&framed(framing, &[b"Echo: ", message].concat()));
        }
        drop(peer);
        let stats = server.stop();
        expect_count(&stats, "frames_in", 3);
        expect_count(&stats, "frames_out", 3);
    }
}

#[test]
fn a_large_message_comes_back_whole() {
    let server = Program::serve("workers", "");
    let mut peer = server.connect();
    let message = noise(3, 20 << 20);
    let mut writer = peer.duplicate();
    let wire = frame(&message);
    let writing = thread::spawn(move || writer.send(&wire));
    peer.expect(&answer(&message));
    join(writing);
}

#[test]
fn answers_keep_their_order_though_work_takes_its_time() {
    // guzba/mummy#142, twisted/twisted#11976 and others
    for options in ["--work 20ms --vary", "--work 3ms --vary --workers 16", "--workers 1", ""] {
        let server = Program::serve("workers", options);
        let mut peer = server.connect();
        peer.send(&questions(200));
        peer.expect(&answers(200));
        drop(peer);
        expect_count(&server.stop(), "frames_out", 200);
    }
}

#[test]
fn many_connections_are_each_answered_in_their_order() {
    let server = Program::serve("workers", "--work 2ms --vary");
    let clients: Vec<_> = (0..8)
        .map(|n| {
            let mut peer = server.connect();
            thread::spawn(move || {
                let own = |message: [u8; 4]| [&message[..], &[n]].concat();
                let wire: Vec<u8> = messages(50).flat_map(|message| frame(&own(message))).collect();
                peer.send(&wire);
                for message in messages(50) {
                    peer.expect(&answer(&own(message)));
                }
            })
        })
        .collect();
    clients.into_iter().for_each(join);
    expect_count(&server.stop(), "frames_out", 400);
}

#[test]
fn jobs_of_one_connection_and_of_many_run_side_by_side() {
    // One after the other they would take minutes.
    let server = Program::serve("workers", "--work 1s --workers 100");
    let bound = Bound::new(Duration::from_secs(15));
    let (mut one, mut other) = (server.connect(), server.connect());
    one.send(&questions(50));
    other.send(&questions(50));
    one.expect(&answers(50));
    other.expect(&answers(50));
    assert!(!bound.is_over());
}

#[test]
fn the_loop_stays_responsive_while_all_threads_are_busy() {
    let mut server = Program::serve("workers", "--work 1h --workers 2 --stats-every 10ms --max-frame 1KiB");
    let mut busy = server.connect();
    busy.send(&questions(20));
    server.stats_until("they are taken", |stats| stats["frames_in"] == 20);
    // Others come, break the framing and go, all at once.
    for _ in 0..20 {
        let mut peer = server.connect();
        peer.send(&frame(&noise(1, 2_000))[..4]);
        peer.expect_end();
    }
    server.stats_until("they have gone", |stats| stats["closes"]["frame_too_long"] == 20);
}

#[test]
fn one_that_asks_much_holds_up_another_by_little() {
    // Two minutes of work wait before it.
    let server = Program::serve("workers", "--work 500ms --workers 1");
    let (mut greedy, mut other) = (server.connect(), server.connect());
    greedy.send(&questions(250));
    greedy.expect(&answers(1));
    let bound = Bound::new(Duration::from_secs(10));
    other.send(&frame(b"short"));
    other.expect(&answer(b"short"));
    assert!(!bound.is_over());
}

#[test]
fn a_peer_that_has_ended_its_input_gets_every_answer() {
    // chenshuo/muduo#130: answers are made after the FIN.
    let server = Program::serve("workers", "--work 10ms --vary");
    let mut peer = server.connect();
    peer.send(&questions(1_000));
    peer.end_output();
    peer.expect(&answers(1_000));
    peer.expect_end();
    let stats = server.stop();
    expect_count(&stats, "closes.peer", 1);
    expect_count(&stats, "frames_out", 1_000);
}

#[test]
fn the_end_waits_for_the_answers_that_are_owed() {
    let mut server = Program::serve("workers", "--work 300ms --workers 40 --drain 1h --stats-every 10ms");
    let (mut peer, mut idle) = (server.connect(), server.connect());
    peer.send(&questions(200));
    server.stats_until("all are taken", |stats| stats["frames_in"] == 200);
    server.signal("TERM");
    idle.expect_end();
    peer.expect(&answers(200));
    peer.expect_end();
    drop((peer, idle));
    let stats = server.ended_with_stats();
    expect_count(&stats, "frames_out", 200);
    expect_count(&stats, "closes.shutdown", 2);
}

#[test]
fn what_was_whole_at_the_signal_is_answered_past_the_bound_of_jobs() {
    let mut server = Program::serve("workers", "--work 50ms --workers 100 --drain 1h --stats-every 10ms");
    let mut peer = server.connect();
    peer.send(&questions(900));
    // It is at its bound now, and the rest waits with us or in the kernel.
    server.stats_until("it is at its bound", |stats| stats["frames_in"].as_u64() >= Some(256));
    server.signal("TERM");
    peer.expect(&answers(900));
    peer.expect_end();
    drop(peer);
    expect_count(&server.ended_with_stats(), "frames_out", 900);
}

#[test]
fn work_that_does_not_end_is_cut_by_the_drain() {
    let mut server = Program::serve("workers", "--work 1h --drain 200ms --stats-every 10ms");
    let mut peer = server.connect();
    peer.send(&questions(20));
    server.stats_until("they are taken", |stats| stats["frames_in"] == 20);
    server.signal("TERM");
    let ended = server.ended();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(ended.errors.contains("1 connections were cut"), "{ended:?}");
    peer.expect_gone();
}

#[test]
fn answers_for_one_that_has_left_reach_nobody_else() {
    // panjf2000/gnet#621
    let mut server = Program::serve("workers", "--work 100ms --stats-every 10ms");
    let mut leaves = server.connect();
    leaves.send(&questions(4));
    server.stats_until("they are taken", |stats| stats["frames_in"] == 4);
    drop(leaves);
    server.stats_until("it has left", |stats| stats["open"] == 0 || stats["closes"]["peer"] != 0);
    let mut new = server.connect();
    new.expect_nothing(Duration::from_millis(300));
    new.send(&frame(b"mine"));
    new.expect(&answer(b"mine"));
    drop(new);
    expect_count(&server.stop(), "open", 0);
}

#[test]
fn a_client_that_floods_and_does_not_read_is_not_read_either() {
    let mut server = Program::serve("workers", "--work 1ms --stats-every 20ms");
    let mut flood = server.connect();
    let wire = many_frames(2_000, 60_004);
    let sent = flood.send_until_full(&wire);
    let mut other = server.connect();
    for message in messages(20) {
        other.send(&frame(&message));
        other.expect(&answer(&message));
    }
    let stats = server.stats_until("another was served", |stats| stats["frames_out"].as_u64() >= Some(20));
    assert!(stats["buffered_bytes"].as_u64() < Some(16 << 20), "{stats}");
    let resident = server.resident();
    assert!(resident.is_none_or(|kib| kib < 100 << 10), "{resident:?} KiB after {sent} were sent");

    let mut writer = flood.duplicate();
    let rest = wire[sent..].to_vec();
    let writing = thread::spawn(move || writer.send(&rest));
    for at in (0..wire.len()).step_by(60_008) {
        let mut arrived = vec![0; 60_008 + 6];
        flood.0.read_exact(&mut arrived).expect("all of it comes back");
        assert!(arrived == answer(&wire[at + 4..at + 60_008]), "frame {}", at / 60_008);
    }
    join(writing);
    drop((flood, other));
    expect_count(&server.stop(), "closes.slow_consumer", 0);
}

#[test]
fn a_client_that_floods_work_is_not_read_beyond_the_bound() {
    let mut server = Program::serve("workers", "--work 1h --stats-every 20ms");
    let mut flood = server.connect();
    let wire = many_frames(2_000, 60_004);
    flood.send_until_full(&wire);
    let stats = server.stats_until("a look", |_| true);
    assert!(stats["frames_in"].as_u64() <= Some(256), "{stats}");
    assert!(stats["buffered_bytes"].as_u64() < Some(16 << 20), "{stats}");
    let resident = server.resident();
    assert!(resident.is_none_or(|kib| kib < 60 << 10), "{resident:?} KiB");
}

#[test]
fn an_answer_that_the_framing_cannot_say_closes_only_that_connection() {
    let server = Program::serve("workers", "--framing u8");
    let (mut long, mut other) = (server.connect(), server.connect());
    long.send(&framed("u8", &[b'x'; 249]));
    long.expect(&framed("u8", &[&b"Echo: "[..], &[b'x'; 249]].concat()));
    long.send(&framed("u8", &[b'x'; 250]));
    long.expect_end();
    other.send(&framed("u8", b"hi"));
    other.expect(&framed("u8", b"Echo: hi"));
}

#[test]
fn numbers_of_threads_that_cannot_be_are_usage_errors() {
    for arguments in
        ["--workers 0", "--workers -1", "--workers many", "--workers 100000", "--work 5", "--work -1s"]
    {
        let ended = Program::start("workers", arguments).ended();
        assert_eq!(ended.status.code(), Some(2), "{arguments}: {ended:?}");
    }
}
