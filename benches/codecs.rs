//! What a frame costs in user space: scanning and encoding, against a plain loop over slices.
//!
//! Not against `tokio-util`, whose codecs bring tokio with them: everybody's `cargo test` would compile it. That comparison has
//! its place in `benches/peers`, a member of the workspace.

#![allow(missing_docs, reason = "criterion's macros make a public function")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mainspring::codec::{ByteCodec, LengthPrefixed, Lines, Output, Scan, Varint};

const FRAMES: usize = 1_000;

fn wire<C: ByteCodec>(codec: &C, payload: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    for _ in 0..FRAMES {
        codec.clone().encode(payload, &mut Output::to_vec(&mut wire)).expect("sayable");
    }
    wire
}

fn scan_all<C: ByteCodec>(mut codec: C, wire: &mut [u8]) -> usize {
    let mut at = 0;
    let mut sum = 0;
    while let Ok(Scan::Frame(len)) = codec.scan(&wire[at..]) {
        if len > wire.len() - at {
            break;
        }
        sum += codec.parse(&mut wire[at..at + len]).map_or(0, <[u8]>::len);
        at += len;
    }
    sum
}

/// What a hand-written server does for the default framing.
fn plain_loop(wire: &[u8]) -> usize {
    let mut rest = wire;
    let mut sum = 0;
    while let Some((head, tail)) = rest.split_first_chunk::<4>() {
        let len = u32::from_be_bytes(*head) as usize;
        let Some(payload) = tail.get(..len) else { break };
        sum += black_box(payload).len();
        rest = &tail[len..];
    }
    sum
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode 1,000 frames");
    for size in [16, 64, 1024] {
        let payload = vec![b'x'; size];
        group.throughput(Throughput::Elements(FRAMES as u64));
        let mut bytes = wire(&LengthPrefixed::default(), &payload);
        group.bench_function(BenchmarkId::new("length prefixed", size), |b| {
            b.iter(|| scan_all(LengthPrefixed::default(), black_box(&mut bytes)));
        });
        group.bench_function(BenchmarkId::new("plain loop", size), |b| {
            b.iter(|| plain_loop(black_box(&bytes)));
        });
        let mut bytes = wire(&Varint::default(), &payload);
        group.bench_function(BenchmarkId::new("varint", size), |b| {
            b.iter(|| scan_all(Varint::default(), black_box(&mut bytes)));
        });
        let mut bytes = wire(&Lines::default(), &payload);
        group.bench_function(BenchmarkId::new("lines", size), |b| {
            b.iter(|| scan_all(Lines::default(), black_box(&mut bytes)));
        });
    }
    group.finish();
}

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode 1,000 frames");
    for size in [16, 64, 1024] {
        let payload = vec![b'x'; size];
        let mut out = Vec::new();
        group.throughput(Throughput::Elements(FRAMES as u64));
        group.bench_function(BenchmarkId::new("length prefixed", size), |b| {
            b.iter(|| {
                out.clear();
                let mut codec = LengthPrefixed::default();
                for _ in 0..FRAMES {
                    let _ = mainspring::codec::Codec::encode(
                        &mut codec,
                        black_box(&payload),
                        &mut Output::to_vec(&mut out),
                    );
                }
                out.len()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode, encode);
criterion_main!(benches);
