//! What is counted. Each case performs its operation so many times, after preparations that do not count.
//!
//! The same run costs the same instructions: no seed, no clock and no address decides anything. Hence deadlines in whole
//! seconds, whose comparisons do not depend on the fraction of a second at which they were begun, and hence payloads at the
//! beginning of a cache line: a search for the end of a line takes other steps elsewhere.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use mainspring::codec::{ByteCodec, LengthPrefixed, Lines, Output, Scan, Varint};
use mainspring::internals::{Buffers, Deadlines, Outbox, record};
use mainspring::{ConnId, Context, Handler, Histogram, Reactor, TimerId};

/// One line of the table.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// How often it is performed in the shorter of two runs; the longer one has five times as many.
    pub(crate) count: u64,
    pub(crate) run: fn(u64),
}

const fn case(name: &'static str, count: u64, run: fn(u64)) -> Case {
    Case { name, count, run }
}

/// Frames have 64 bytes of payload, and a batch is 32 of them.
pub(crate) const CASES: &[Case] = &[
    case("decode/length-prefixed", 2_000, |n| decode(LengthPrefixed::default(), n)),
    case("decode/varint", 2_000, |n| decode(Varint::default(), n)),
    case("decode/lines", 2_000, |n| decode(Lines::default(), n)),
    case("encode/length-prefixed", 2_000, |n| encode(LengthPrefixed::default(), n)),
    case("encode/varint", 2_000, |n| encode(Varint::default(), n)),
    case("encode/lines", 2_000, |n| encode(Lines::default(), n)),
    case("outbox/batch", 200, |n| batches(&[64], usize::MAX, n)),
    case("outbox/batch-of-two-lengths", 200, |n| batches(&[64, 32], usize::MAX, n)),
    case("outbox/batch-in-parts-of-1000", 200, |n| batches(&[64], 1_000, n)),
    case("outbox/shared-64-KiB", 500, |n| shared(usize::MAX, n)),
    case("outbox/shared-64-KiB-in-parts-of-10000", 500, |n| shared(10_000, n)),
    case("buffers/output", 2_000, buffers_out),
    case("buffers/input", 2_000, buffers_in),
    case("timers/set-and-fire-among-10000", 1_000, set_and_fire),
    case("timers/set-and-cancel-among-10000", 1_000, set_and_cancel),
    case("timers/reset-among-10000", 1_000, reset),
    case("histogram/record", 2_000, histogram),
    // Not pure: the poller, the sockets and the client's calls are in it, without what the kernel does.
    case("reactor/echo", 100, |n| echo(1, n)),
    case("reactor/echo-of-a-batch", 50, |n| echo(BATCH, n)),
];

/// Bytes from the beginning of a cache line on.
#[repr(align(64))]
struct Aligned<const N: usize>([u8; N]);

static PAYLOAD: Aligned<64> = Aligned([b'x'; 64]);
const BATCH: usize = 32;
const TIMERS: u64 = 10_000;

fn wire<C: ByteCodec>(codec: &C, frames: usize) -> Vec<u8> {
    let mut wire = Vec::new();
    for _ in 0..frames {
        codec.clone().encode(&PAYLOAD.0, &mut Output::to_vec(&mut wire)).expect("sayable");
    }
    wire
}

fn decode<C: ByteCodec>(mut codec: C, count: u64) {
    let frames = wire(&codec, BATCH);
    let mut aligned = Box::new(Aligned([0; 4_096]));
    let wire = &mut aligned.0[..frames.len()];
    wire.copy_from_slice(&frames);
    let (mut at, mut sum) = (0, 0);
    for _ in 0..count {
        if at == wire.len() {
            at = 0;
        }
        let Ok(Scan::Frame(len)) = codec.scan(black_box(&wire[at..])) else { panic!("frames in a row") };
        sum += codec.parse(black_box(&mut wire[at..at + len])).map_or(0, <[u8]>::len);
        at += len;
    }
    assert_eq!(sum as u64, count * PAYLOAD.0.len() as u64);
}

fn encode<C: ByteCodec>(mut codec: C, count: u64) {
    let mut out = Vec::with_capacity(128);
    for _ in 0..count {
        out.clear();
        codec.encode(black_box(&PAYLOAD.0), &mut Output::to_vec(&mut out)).expect("sayable");
        black_box(&out);
    }
}

/// Batches of frames of these lengths in turn, written as far as a socket with so much room takes them.
fn batches(lengths: &[usize], room: usize, count: u64) {
    let mut outbox = Outbox::new();
    let mut codec = LengthPrefixed::default();
    let mut frames = 0;
    for _ in 0..count {
        for at in 0..BATCH {
            let payload = &PAYLOAD.0[..lengths[at % lengths.len()]];
            outbox.send(&mut codec, black_box(payload)).expect("sayable");
        }
        while !outbox.is_empty() {
            frames += outbox.flush(black_box(room)).1;
        }
    }
    assert_eq!(frames, count * BATCH as u64);
}

fn shared(room: usize, count: u64) {
    let mut outbox = Outbox::new();
    let payload = Bytes::from(vec![b'x'; 64 * 1024]);
    let mut frames = 0;
    for _ in 0..count {
        outbox.share(black_box(&[0, 1, 0, 0]), black_box(&payload));
        while !outbox.is_empty() {
            frames += outbox.flush(black_box(room)).1;
        }
    }
    assert_eq!(frames, count);
}

fn buffers_out(count: u64) {
    let mut buffers = Buffers::new(1 << 20);
    for _ in 0..count {
        let mut buffer = buffers.output(black_box(64));
        buffer.push(b'x');
        buffers.give_output(black_box(buffer));
    }
}

fn buffers_in(count: u64) {
    let mut buffers = Buffers::new(1 << 20);
    for _ in 0..count {
        let buffer = buffers.input(black_box(1_000));
        buffers.give_input(black_box(buffer));
    }
}

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn hour(&mut self) -> u64 {
        1 + self.below(3_600)
    }
}

fn deadlines(dice: &mut Dice) -> (Deadlines, Vec<TimerId>) {
    let mut deadlines = Deadlines::new();
    let mut set = |_| {
        let at = dice.hour();
        deadlines.set(Duration::from_secs(at), at)
    };
    let keys = (0..TIMERS).map(&mut set).collect();
    (deadlines, keys)
}

/// The earliest fires, and is set anew for a time within an hour from then.
fn set_and_fire(count: u64) {
    let mut dice = Dice(1);
    let (mut deadlines, _) = deadlines(&mut dice);
    let mut now = 0;
    for _ in 0..count {
        now = deadlines.fire(Duration::from_secs(now + 3_600)).expect("a timer that is due");
        let at = now + dice.hour();
        deadlines.set(Duration::from_secs(at), at);
    }
}

fn set_and_cancel(count: u64) {
    let mut dice = Dice(1);
    let (mut deadlines, _) = deadlines(&mut dice);
    for _ in 0..count {
        let at = dice.hour();
        let key = deadlines.set(Duration::from_secs(at), at);
        assert_eq!(deadlines.cancel(black_box(key)), Some(at));
    }
}

fn reset(count: u64) {
    let mut dice = Dice(1);
    let (mut deadlines, keys) = deadlines(&mut dice);
    for _ in 0..count {
        let key = keys[dice.below(TIMERS) as usize];
        assert!(deadlines.reset(key, Duration::from_secs(dice.hour())));
    }
}

fn histogram(count: u64) {
    let mut histogram = Histogram::default();
    for nanos in 0..count {
        record(&mut histogram, black_box(Duration::from_nanos(1_000 + nanos)));
    }
    assert_eq!(black_box(histogram).count(), count);
}

struct Echo;

impl Handler for Echo {
    type Codec = LengthPrefixed;
    type Session = ();

    fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, message: &[u8]) {
        cx.send(from, message);
    }
}

/// A client and its server on one thread, so that what has been written is there when the reactor looks.
fn echo(frames: usize, count: u64) {
    let mut reactor = Reactor::new(Echo).expect("a poller");
    let listening = reactor.listen("127.0.0.1:0", LengthPrefixed::default()).expect("a free port");
    let mut client = TcpStream::connect(listening.address.ip().expect("an IP address")).expect("listening");
    let turn = |reactor: &mut Reactor<Echo>| reactor.turn(Some(Duration::from_secs(10))).expect("a poller");
    while reactor.stats().open < 1 {
        turn(&mut reactor);
    }
    let wire = wire(&LengthPrefixed::default(), frames);
    let mut got = vec![0; wire.len()];
    for round in 1..=count {
        client.write_all(&wire).expect("an open connection");
        while reactor.stats().frames_out < round * frames as u64 {
            turn(&mut reactor);
        }
        client.read_exact(&mut got).expect("what was sent");
    }
    assert_eq!(got, wire);
}
