//! What a deadline costs among others, against the ordered map that does without an index of its own.

#![allow(missing_docs, reason = "criterion's macros make a public function")]

use std::collections::BTreeMap;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use mainspring::TimerId;
use mainspring::internals::Deadlines;

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn hour(&mut self) -> Duration {
        Duration::from_millis(1 + self.below(3_600_000))
    }
}

/// Names a timer of the map: its deadline, and a number for those that are equal.
type Key = (Duration, u64);

#[derive(Default)]
struct Map {
    timers: BTreeMap<Key, u64>,
    sequence: u64,
}

impl Map {
    fn set(&mut self, at: Duration, what: u64) -> Key {
        self.sequence += 1;
        self.timers.insert((at, self.sequence), what);
        (at, self.sequence)
    }

    fn reset(&mut self, key: Key, at: Duration) -> Option<Key> {
        let what = self.timers.remove(&key)?;
        Some(self.set(at, what))
    }
}

fn millis(at: Duration) -> u64 {
    at.as_millis() as u64
}

fn filled(count: u64, dice: &mut Dice) -> (Deadlines, Vec<TimerId>, Map, Vec<Key>) {
    let (mut heap, mut map) = (Deadlines::new(), Map::default());
    let (mut ids, mut keys) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let at = dice.hour();
        ids.push(heap.set(at, millis(at)));
        keys.push(map.set(at, millis(at)));
    }
    (heap, ids, map, keys)
}

fn timers(c: &mut Criterion) {
    for count in [100, 10_000, 100_000] {
        let mut dice = Dice(1);
        let (mut heap, ids, mut map, mut keys) = filled(count, &mut dice);

        let mut group = c.benchmark_group("timers: reset");
        group.bench_function(BenchmarkId::new("heap", count), |b| {
            b.iter(|| heap.reset(ids[dice.below(count) as usize], dice.hour()));
        });
        group.bench_function(BenchmarkId::new("map", count), |b| {
            b.iter(|| {
                let key = &mut keys[dice.below(count) as usize];
                *key = map.reset(*key, dice.hour()).expect("it is there");
            });
        });
        group.finish();

        let mut group = c.benchmark_group("timers: set and cancel");
        group.bench_function(BenchmarkId::new("heap", count), |b| {
            b.iter(|| {
                let timer = heap.set(dice.hour(), 0);
                heap.cancel(timer)
            });
        });
        group.bench_function(BenchmarkId::new("map", count), |b| {
            b.iter(|| {
                let key = map.set(dice.hour(), 0);
                map.timers.remove(&key)
            });
        });
        group.finish();

        // The next one within an hour of the last one's time, so that as many are there all the time.
        let (mut heap, _, mut map, _) = filled(count, &mut dice);
        let mut group = c.benchmark_group("timers: set and fire");
        let mut now = Duration::ZERO;
        group.bench_function(BenchmarkId::new("heap", count), |b| {
            b.iter(|| {
                now = Duration::from_millis(heap.fire(now + Duration::from_secs(3_600)).expect("one is due"));
                let at = now + dice.hour();
                heap.set(at, millis(at))
            });
        });
        group.bench_function(BenchmarkId::new("map", count), |b| {
            b.iter(|| {
                let ((now, _), _) = map.timers.pop_first().expect("one is due");
                let at = now + dice.hour();
                map.set(at, millis(at))
            });
        });
        group.finish();
    }
}

criterion_group!(benches, timers);
criterion_main!(benches);
