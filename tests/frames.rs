//! Frames of all sizes through real sockets, however their bytes are cut.

#![allow(clippy::unwrap_used, reason = "what a test's helper cannot do has failed the test")]

#[path = "common/reactor.rs"]
mod common;

use std::io::Write;
use std::net::TcpStream;
use std::thread;

use common::*;
use mainspring::{Limits, ListenOptions, Reactor, SocketOptions};

/// Around every constant inside: copies and references, chunks of the outbox, the read buffer. Of the payload, and of the
/// frame with its header.
fn sizes(around: usize) -> impl Iterator<Item = usize> {
    [around - 5, around - 4, around - 3, around - 1, around, around + 1].into_iter()
}

/// Sends all these messages in writes of `cut` bytes, and expects each back in its turn.
fn exchange(client: &TcpStream, lengths: &[usize], cut: usize) {
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut wire = Vec::new();
            for (n, len) in lengths.iter().enumerate() {
                wire.extend(frame(&pattern(n, *len)));
            }
            for part in wire.chunks(cut) {
                (&*client).write_all(part).unwrap();
            }
        });
        for (n, len) in lengths.iter().enumerate() {
            expect_frame(client, &pattern(n, *len));
        }
    });
}

#[test]
fn frames_around_every_constant_come_back_whole() {
    // matthunz/futures-codec PR #15, tokio-rs/tokio-io#42: the encoder's buffer was a fixed 8 KB.
    let server = Server::echo();
    let lengths: Vec<_> =
        [8_192, 16_384, 32_768, 65_536, 262_144].into_iter().flat_map(sizes).chain([0, 1, 2]).collect();
    for cut in [usize::MAX, 65_536, 10_007] {
        let client = server.connect();
        exchange(&client, &lengths, cut);
        drop(client);
    }
    assert_eq!(server.stop().stats().frames_out, 3 * lengths.len() as u64);
}

#[test]
fn frames_that_come_byte_by_byte_come_back_whole() {
    let server = Server::echo();
    let lengths: Vec<_> = sizes(8_192).chain([0, 0, 1, 16_385]).collect();
    exchange(&server.connect(), &lengths, 1);
}

#[test]
fn many_small_frames_in_one_write_all_come_back_in_order() {
    let server = Server::echo();
    // More than a turn's budget of messages, and more than a read.
    let lengths: Vec<_> = (0..40_000).map(|n| n % 23).collect();
    exchange(&server.connect(), &lengths, usize::MAX);
}

#[test]
fn a_frame_of_16_mib_goes_both_ways() {
    const LEN: usize = 16 << 20;
    let server = Server::echo();
    let message = pattern(7, LEN);
    let wire = frame(&message);
    let client = server.connect();
    // Its ends byte by byte, the rest in large pieces.
    let (head, rest) = wire.split_at(3_000);
    let (middle, tail) = rest.split_at(rest.len() - 3_000);
    head.chunks(1).for_each(|byte| (&client).write_all(byte).unwrap());
    middle.chunks(1 << 20).for_each(|part| (&client).write_all(part).unwrap());
    tail.chunks(1).for_each(|byte| (&client).write_all(byte).unwrap());
    expect_frame(&client, &message);
    // And once more, at once; the connection is as good as new.
    expect_echo(&client, &message);
    expect_echo(&client, b"small");
}

#[test]
fn tiny_buffers_of_the_kernel_only_make_it_slower() {
    let mut options = ListenOptions::default();
    options.socket.send_buffer = Some(4_096);
    options.socket.receive_buffer = Some(4_096);
    let server = Server::with(Reactor::<Tester>::builder(), &options, Tester::new(echo));
    exchange(&server.connect(), &[100_000, 0, 40_000, 7], 3_001);
}

#[test]
fn the_smallest_limits_lose_nothing() {
    let mut limits = Limits::default();
    limits.messages_per_turn = 1;
    limits.read_bytes_per_turn = 1;
    limits.write_bytes_per_turn = 1;
    limits.accepts_per_turn = 1;
    limits.events = 1;
    limits.high_mark = 1;
    limits.low_mark = 0;
    limits.spare_bytes = 0;
    let builder = Reactor::<Tester>::builder().limits(limits).dial_options(SocketOptions::default());
    let server = Server::with(builder, &ListenOptions::default(), Tester::new(echo));
    let clients: Vec<_> = (0..5).map(|_| server.connect()).collect();
    clients.iter().for_each(|client| exchange(client, &[0, 1, 900, 17, 0], usize::MAX));
}
