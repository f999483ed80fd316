//! What waiting in an outbox costs: frames are appended, and taken off as a socket takes them; against the plain vector that a
//! hand-written server has.

#![allow(missing_docs, reason = "criterion's macros make a public function")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mainspring::codec::{Codec, LengthPrefixed, Output};
use mainspring::internals::Outbox;

const BATCH: usize = 32;
/// What a socket takes at once, when it does not take all.
const ROOM: usize = 1_000;

/// The bytes that wait are moved to the front after each write.
fn plain_vector(out: &mut Vec<u8>, payload: &[u8], room: usize) -> usize {
    for _ in 0..BATCH {
        LengthPrefixed::default().encode(black_box(payload), &mut Output::to_vec(out)).expect("sayable");
    }
    let mut writes = 0;
    while !out.is_empty() {
        out.drain(..out.len().min(black_box(room)));
        writes += 1;
    }
    writes
}

fn outbox(outbox: &mut Outbox, payload: &[u8], room: usize) -> u64 {
    let mut codec = LengthPrefixed::default();
    for _ in 0..BATCH {
        outbox.send(&mut codec, black_box(payload)).expect("sayable");
    }
    flush(outbox, room)
}

fn flush(outbox: &mut Outbox, room: usize) -> u64 {
    let mut frames = 0;
    while !outbox.is_empty() {
        frames += outbox.flush(black_box(room)).1;
    }
    frames
}

fn small(c: &mut Criterion) {
    let mut group = c.benchmark_group("outbox, 32 frames");
    for (how, room) in [("whole", usize::MAX), ("in parts", ROOM)] {
        for size in [64, 1024] {
            let payload = vec![b'x'; size];
            group.throughput(Throughput::Elements(BATCH as u64));
            let mut queue = Outbox::new();
            group.bench_function(BenchmarkId::new(format!("queue, written {how}"), size), |b| {
                b.iter(|| outbox(&mut queue, &payload, room));
            });
            let mut out = Vec::new();
            group.bench_function(BenchmarkId::new(format!("plain vector, written {how}"), size), |b| {
                b.iter(|| plain_vector(&mut out, &payload, room));
            });
        }
    }
    group.finish();
}

/// A large payload by one more reference, against a copy.
fn large(c: &mut Criterion) {
    let mut group = c.benchmark_group("outbox, a large payload");
    for size in [32 * 1024, 1024 * 1024] {
        let payload = Bytes::from(vec![b'x'; size]);
        let header = (size as u32).to_be_bytes();
        group.throughput(Throughput::Bytes(size as u64));
        for (how, room) in [("whole", usize::MAX), ("in parts", 64 * 1024)] {
            let mut queue = Outbox::new();
            group.bench_function(BenchmarkId::new(format!("shared, written {how}"), size), |b| {
                b.iter(|| {
                    queue.share(&header, black_box(&payload));
                    flush(&mut queue, room)
                });
            });
        }
        let mut queue = Outbox::new();
        let mut codec = LengthPrefixed::default();
        group.bench_function(BenchmarkId::new("copied, written whole", size), |b| {
            b.iter(|| {
                queue.send(&mut codec, black_box(&payload)).expect("sayable");
                flush(&mut queue, usize::MAX)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, small, large);
criterion_main!(benches);
