//! What the free list of buffers is worth: taking one and giving it back, against the allocator.

#![allow(missing_docs, reason = "criterion's macros make a public function")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use mainspring::internals::Buffers;

/// How many are in use at once.
const HELD: usize = 32;

/// 32 buffers for output are taken, begun and given back.
fn output(c: &mut Criterion) {
    let mut group = c.benchmark_group("32 buffers for output");
    for size in [4 * 1024, 256 * 1024] {
        let mut buffers = Buffers::new(64 << 20);
        let mut held = Vec::with_capacity(HELD);
        group.bench_function(BenchmarkId::new("free list", size), |b| {
            b.iter(|| {
                for _ in 0..HELD {
                    let mut buffer = buffers.output(black_box(size));
                    buffer.push(b'x');
                    held.push(buffer);
                }
                for buffer in held.drain(..) {
                    buffers.give_output(buffer);
                }
            });
        });
        group.bench_function(BenchmarkId::new("allocator", size), |b| {
            b.iter(|| {
                for _ in 0..HELD {
                    let mut buffer = Vec::with_capacity(black_box(size));
                    buffer.push(b'x');
                    held.push(buffer);
                }
                held.clear();
            });
        });
    }
    group.finish();
}

/// The same for input, whose memory has to be initialised.
fn input(c: &mut Criterion) {
    let mut group = c.benchmark_group("32 buffers for input");
    for size in [1_000, 64 * 1024] {
        let mut buffers = Buffers::new(64 << 20);
        let mut held = Vec::with_capacity(HELD);
        group.bench_function(BenchmarkId::new("free list", size), |b| {
            b.iter(|| {
                for _ in 0..HELD {
                    held.push(buffers.input(black_box(size)));
                }
                for buffer in held.drain(..) {
                    buffers.give_input(buffer);
                }
            });
        });
        group.bench_function(BenchmarkId::new("allocator", size), |b| {
            b.iter(|| {
                for _ in 0..HELD {
                    held.push(black_box(vec![0; black_box(size)]));
                }
                held.clear();
            });
        });
    }
    group.finish();
}

criterion_group!(benches, output, input);
criterion_main!(benches);
