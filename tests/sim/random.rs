//! A handler that does anything, among peers that do anything, in a world where anything goes wrong. What must hold for every
//! handler is looked at by the world; what was sent and what has come, here.
//!
//! `MAINSPRING_SEEDS=100000` makes it more seeds than 10,000; `MAINSPRING_REPLAY` is for one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mainspring::codec::LengthPrefixed;
use mainspring::sim::{self, Dice, End, Roll, World};
use mainspring::workers::Pool;
use mainspring::{
    Address, Admission, CloseReason, ConnId, Context, Dial, DialError, Direction, HalfClose, Handler, Limits,
    ListenerId, OnPanic, Overflow, Rate, Reactor, Reconnect, Timer, To,
};

use super::frame;

/// The longest payload that the server takes.
const FRAME_MAX: u64 = 1 << 20;
/// What a connection is told may wait for so long before it is ended.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

fn hash(seed: u64, n: u64) -> u64 {
    let mut x = (seed ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    x ^= x >> 32;
    x.wrapping_mul(0xd6e8_feb8_6659_fd93) >> 16
}

/// The nth message of any peer, in the world of that seed: the same for all, so that what has arrived says how many.
fn message(seed: u64, n: u64) -> Vec<u8> {
    let x = hash(seed, n);
    match x % 64 {
        // A header that claims much, and one that claims too much.
        0 => 900_000_u32.to_be_bytes().to_vec(),
        1 => u32::MAX.to_be_bytes().to_vec(),
        2..=5 => frame(b""),
        k => {
            let lens = [8, 8, 20, 100, 700, 8, 20, 60, 3_000, 20_000];
            let mut payload = vec![n as u8; lens[(k % 10) as usize] + (x >> 8) as usize % 8];
            payload[..8].copy_from_slice(&n.to_be_bytes());
            frame(payload)
        }
    }
}

/// How many of those messages are whole in the first `bytes`.
fn whole(seed: u64, bytes: u64) -> u64 {
    let mut at = 0;
    for n in 0.. {
        let next = message(seed, n);
        let claims = u32::from_be_bytes([next[0], next[1], next[2], next[3]]) as usize + 4 > next.len();
        at += next.len() as u64;
        if claims || at > bytes {
            return n;
        }
    }
    0
}

/// What the handler knows of one connection.
#[derive(Debug, Default)]
struct Known {
    /// Messages that have come, and that were taken to be sent: those of its own, and those of workers.
    heard: u64,
    queued: u64,
    asked: u64,
    owed: u32,
    drops: bool,
    output_ended: bool,
    open: bool,
    reason: Option<CloseReason>,
    dialed: bool,
    /// The last turn in which something has come, and how much.
    turn: u64,
    in_turn: usize,
}

/// Does anything at any time.
struct Anything {
    dice: Dice,
    seed: u64,
    pool: Option<Pool<Anything>>,
    known: HashMap<ConnId, Known>,
    /// Who is at which address.
    at: HashMap<Address, ConnId>,
    said: u64,
    dials: usize,
    messages_per_turn: usize,
    /// When each timer may come.
    due: HashMap<u64, Instant>,
}

impl Anything {
    fn know(&mut self, conn: ConnId) -> &mut Known {
        self.known.entry(conn).or_default()
    }

    /// A message of its own: a letter, its number, and so many bytes more.
    fn say(&mut self, cx: &mut Context<Self>, to: ConnId, more: usize) {
        let number = self.know(to).queued;
        if cx.send(to, &numbered(b'm', number, more)).is_queued() {
            self.know(to).queued += 1;
        }
    }

    fn act(&mut self, cx: &mut Context<Self>, roll: &mut Roll, own: Option<ConnId>) {
        let any = cx.connections().get(roll.below(cx.connections().len())).copied().or(own);
        let Some(conn) = (if roll.one_in(2) { own.or(any) } else { any }) else { return };
        match roll.below(27) {
            26 => {
                let gone = self
                    .known
                    .iter()
                    .filter(|(_, known)| known.reason.is_some())
                    .map(|(conn, _)| *conn)
                    .min();
                if let Some(gone) = gone {
                    assert!(!cx.send(gone, b"to the dead").is_queued(), "the dead take nothing");
                }
            }
            0 => cx.close(conn),
            1 => cx.abort(conn),
            2 => drop(cx.pause(conn)),
            3..=5 => drop(cx.resume(conn)),
            6 => {
                self.said += 1;
                let to = if roll.one_in(2) { To::AllBut(conn) } else { To::Group(roll.below(3) as u64) };
                cx.broadcast(to, &numbered(b'b', self.said, roll.below(2_000)));
            }
            7 => self.know(conn).owed += u32::from(cx.owe(conn)),
            8 | 9 => {
                // What workers owe is theirs to pay.
                let known = self.know(conn);
                if known.owed > 0 {
                    known.owed -= 1;
                    cx.paid(conn);
                }
            }
            10 | 11 => drop(cx.join(conn, roll.below(3) as u64)),
            12 => drop(cx.leave(conn, roll.below(3) as u64)),
            n @ 13..=14 => {
                let (delay, key) = (Duration::from_millis(roll.below(3_000) as u64), self.due.len() as u64);
                self.due.insert(key, cx.now() + delay);
                if n == 13 {
                    cx.after_for(conn, delay, key);
                } else {
                    cx.after(delay, key);
                }
            }
            15 => self.say(cx, conn, roll.below(50_000)),
            16 => {
                let policies = [
                    Overflow::Close,
                    Overflow::DropNewest,
                    Overflow::DropOldest,
                    Overflow::Latest,
                    Overflow::Tell,
                ];
                self.know(conn).drops = true;
                cx.set_overflow(conn, policies[roll.below(5)]);
            }
            17 => drop(cx.message(b"x key").key(roll.below(3) as u64).to(conn)),
            18 => drop(cx.message(b"x control").control().to(conn)),
            19 => {
                let rate = Rate::default().bytes_per_second(5_000 + roll.below(50_000) as u64);
                let direction = if roll.one_in(2) { Direction::Input } else { Direction::Output };
                let rate = rate.messages_per_second(20 + roll.below(300) as u64);
                cx.limit_rate(conn, direction, (!roll.one_in(3)).then_some(rate));
            }
            20 => self.know(conn).output_ended |= cx.end_output(conn),
            21 if !roll.one_in(3) && self.dials < 12 => {
                self.dials += 1;
                let places =
                    ["10.9.0.1:1", "10.9.0.2:1", "10.0.0.1:7000", "near.example:1", "nobody.example:1"];
                let mut dial = Dial::to(places[roll.below(places.len())]);
                if roll.one_in(3) {
                    dial = dial.within(Duration::from_millis(roll.below(2_000) as u64));
                }
                if roll.one_in(4) {
                    dial = dial.reconnect(Reconnect::default());
                }
                let dialed = cx.connect(dial, codec());
                self.know(dialed).dialed = true;
                self.say(cx, dialed, roll.below(300));
            }
            22 if roll.one_in(8) => cx.shutdown(),
            23 => {
                let handle = cx.handle();
                // A reactor that is gone wants no commands.
                for _ in 0..=roll.below(4) {
                    let _ = handle.broadcast(To::All, "x command".into());
                }
            }
            _ => self.say(cx, conn, roll.below(200)),
        }
    }

    fn perhaps(&mut self, cx: &mut Context<Self>, own: Option<ConnId>) {
        if let Some(mut roll) = self.dice.chance(5) {
            self.act(cx, &mut roll, own);
        }
    }
}

fn numbered(letter: u8, number: u64, more: usize) -> Vec<u8> {
    let mut bytes = vec![number as u8; 9 + more];
    bytes[0] = letter;
    bytes[1..9].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// The number in a message of the server's, if it is whole and of that letter.
fn number(letter: u8, message: &[u8]) -> Option<u64> {
    let (first, rest) = message.split_first()?;
    let (number, more) = rest.split_first_chunk::<8>()?;
    let number = u64::from_be_bytes(*number);
    assert!(more == vec![number as u8; more.len()], "a message is one piece");
    (*first == letter).then_some(number)
}

impl Handler for Anything {
    type Codec = LengthPrefixed;
    type Session = u32;

    fn on_accept(&mut self, _: &mut Context<Self>, _: &Address, _: ListenerId) -> Admission {
        if self.dice.chance(40).is_some() { Admission::Refuse } else { Admission::Admit }
    }
    fn on_overload(&mut self, cx: &mut Context<Self>, _: ListenerId, _: &std::io::Error) {
        self.perhaps(cx, None);
    }
    fn on_open(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        self.know(conn).open = true;
        if let (Some(peer), Some(_)) = (cx.peer_addr(conn), cx.listener_of(conn)) {
            self.at.insert(peer.clone(), conn);
        } else {
            self.know(conn).dialed = true;
        }
        self.perhaps(cx, Some(conn));
    }
    fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, bytes: &[u8]) {
        let (turn, max) = (cx.stats().turns, self.messages_per_turn);
        let (seed, known) = (self.seed, self.know(from));
        known.in_turn = if known.turn == turn { known.in_turn + 1 } else { 1 };
        known.turn = turn;
        // Once as ever, and once more for the last time in a shutdown.
        assert!(known.in_turn <= 2 * max, "{from} holds up the others");
        if known.dialed || matches!(bytes.first(), Some(b'm' | b'w' | b'b' | b'x')) {
            // From ourselves.
            return self.perhaps(cx, None);
        }
        let n = known.heard;
        known.heard += 1;
        assert!(message(seed, n)[4..] == *bytes, "message {n} of {from} is not what was sent");
        match &mut self.pool {
            Some(pool) if n % 3 == 0 => {
                let known = self.known.entry(from).or_default();
                let asked = known.asked;
                known.asked += 1;
                let answer = move || Bytes::from(numbered(b'w', asked, 30));
                assert!(pool.answer(cx, from, answer).is_queued() || !cx.is_open(from));
            }
            _ => self.say(cx, from, bytes.len() / 2),
        }
        self.perhaps(cx, Some(from));
    }
    fn on_writable(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        self.perhaps(cx, Some(conn));
    }
    fn on_overflow(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        self.perhaps(cx, Some(conn));
    }
    fn on_timer(&mut self, cx: &mut Context<Self>, timer: Timer) {
        let due = self.due.remove(&timer.key).expect("a timer of its own, that has not come yet");
        self.due.insert(timer.key, cx.now() + Duration::from_secs(1 << 30));
        assert!(due <= cx.now(), "a timer is early");
        self.perhaps(cx, timer.conn);
    }
    fn on_half_close(&mut self, cx: &mut Context<Self>, conn: ConnId) -> HalfClose {
        self.perhaps(cx, Some(conn));
        if self.dice.chance(6).is_some() { HalfClose::Keep } else { HalfClose::CloseWhenFlushed }
    }
    fn on_close(&mut self, cx: &mut Context<Self>, conn: ConnId, reason: CloseReason, _: u32) {
        assert!(cx.session(conn).is_none() && !cx.is_open(conn), "the gone are gone");
        let known = self.know(conn);
        known.open = false;
        assert!(known.reason.replace(reason).is_none(), "closed twice");
        self.perhaps(cx, None);
    }
    fn on_dial_failed(&mut self, cx: &mut Context<Self>, conn: ConnId, _: DialError, _: u32) {
        assert!(!self.know(conn).open, "a dial with two answers");
        self.perhaps(cx, None);
    }
    fn on_shutdown(&mut self, cx: &mut Context<Self>) {
        self.perhaps(cx, None);
    }
}

fn codec() -> LengthPrefixed {
    LengthPrefixed::builder().max_frame(FRAME_MAX).build().expect("four bytes can say it")
}

fn limits(roll: &mut Roll) -> Limits {
    let mut limits = Limits::default();
    (limits.high_mark, limits.low_mark, limits.write_limit) = (20_000, 5_000, 60_000);
    (limits.messages_per_turn, limits.read_bytes_per_turn) = (1 + roll.below(8), 500 + roll.below(5_000));
    (limits.write_bytes_per_turn, limits.accepts_per_turn) = (500 + roll.below(9_000), 1 + roll.below(3));
    limits.events = 1 + roll.below(16);
    limits.commands_per_turn = 2;
    (limits.lingering_max, limits.connections_max) = (roll.below(4), Some(4 + roll.below(20)));
    limits.memory_limit = if roll.one_in(3) { 60_000 } else { 1 << 20 };
    limits.connections_per_source = roll.one_in(4).then_some(2);
    limits.idle_timeout = roll.one_in(2).then_some(Duration::from_secs(4));
    limits.frame_timeout = roll.one_in(2).then_some(Duration::from_secs(2));
    limits.first_message_timeout = roll.one_in(4).then_some(Duration::from_secs(3));
    limits.write_timeout = Some(Duration::from_secs(3));
    limits.close_timeout = CLOSE_TIMEOUT;
    limits.read_buffer = 32 * 1024;
    limits.spare_bytes = [0, 1 << 16][roll.below(2)];
    limits
}

/// What came to a peer, looked over: whole messages, each kind in order, and if it ended in order, all of them.
fn judge(came: &[u8], end: Option<End>, known: &Known, seen: &str) {
    let (mut at, mut own, mut workers, mut said) = (0, None, None, None);
    while came.len() - at >= 4 {
        let len = u32::from_be_bytes([came[at], came[at + 1], came[at + 2], came[at + 3]]) as usize;
        if came.len() - at < 4 + len {
            break;
        }
        let message = &came[at + 4..at + 4 + len];
        at += 4 + len;
        for (letter, last) in [(b'm', &mut own), (b'w', &mut workers), (b'b', &mut said)] {
            let Some(n) = number(letter, message) else { continue };
            let in_order = match *last {
                Some(before) if letter == b'b' || known.drops => n > before,
                Some(before) => n == before + 1,
                None => n == 0 || letter == b'b' || known.drops,
            };
            assert!(in_order, "{seen}: {} {n} came behind {last:?}", char::from(letter));
            *last = Some(n);
        }
        assert!(matches!(message.first(), Some(b'm' | b'w' | b'b' | b'x')), "{seen}: garbage came");
    }
    if end != Some(End::InOrder) {
        return;
    }
    assert_eq!(at, came.len(), "{seen}: it ended in order inside a message");
    if !known.drops {
        let count = |last: Option<u64>| last.map_or(0, |n| n + 1);
        assert_eq!(count(own), known.queued, "{seen}: what was queued came, with {:?}", known.reason);
        if matches!(known.reason, Some(CloseReason::Peer { .. })) && !known.output_ended {
            assert_eq!(count(workers), known.asked, "{seen}: what was asked was answered");
        }
    }
}

fn anything(world: &World) {
    let (dice, seed) = (world.dice(), world.dice().seed());
    let mut roll = dice.fixed(1);
    if roll.one_in(3) {
        world.be_harsh();
    }
    let pool = roll.one_in(2).then(|| {
        let bounds = Pool::<Anything>::builder(1 + roll.below(3)).jobs_per_connection(1 + roll.below(6));
        world.workers(bounds.jobs(2 + roll.below(20)))
    });
    let limits = limits(&mut roll);
    let handler = Anything {
        dice: dice.clone(),
        seed,
        pool,
        known: HashMap::new(),
        at: HashMap::new(),
        said: 0,
        dials: 0,
        messages_per_turn: limits.messages_per_turn,
        due: HashMap::new(),
    };
    let builder = Reactor::<Anything>::builder().limits(limits.clone()).on_panic(OnPanic::Abort);
    let server = world.reactor_with(builder, handler);
    let at = server.listen("10.0.0.1:7000", codec());
    world.silent("10.9.0.2:1");
    let _door = world.listen("10.9.0.3:1");
    let near: [IpAddr; 2] = [[10, 9, 0, 1].into(), [10, 9, 0, 3].into()];
    world.name("near.example", &near);

    let mut crowd = world.crowd(&at, 5, move |_, n| message(seed, n));
    for _ in 0..4 {
        crowd.live(6);
        if let Some(mut roll) = dice.chance(3) {
            let own = server.with(|cx| cx.connections().first().copied());
            let mut reactor = server.reactor();
            // As a program does between turns.
            match (roll.below(3), own) {
                (0, Some(conn)) => reactor.context().close(conn),
                (1, Some(conn)) => drop(reactor.context().resume(conn)),
                _ => drop(reactor.connect("near.example:1", codec())),
            }
        }
    }
    for peer in crowd.peers() {
        peer.read_again();
    }
    world.run_for(Duration::from_millis(500));
    let held = server.stats().buffered_bytes;
    // Each connection may pass the limit by what one read brings.
    assert!(held < limits.memory_limit as u64 + 25 * 150_000, "{held} bytes are held");
    log::debug!("{:?} {:?} {:?}", server.stats(), limits, server.handler().known);
    // Whoever waits for memory, or had more to be read when the reset came, is told of it when it is read.
    let full = server.stats().buffered_bytes > limits.memory_limit as u64;
    for peer in crowd.peers() {
        let handler = server.handler();
        let known = handler.at.get(peer.address()).and_then(|conn| handler.known.get(conn));
        let open = known.is_some_and(|known| known.open && known.heard == whole(seed, peer.arrived()));
        let noticed = peer.ended() != Some(End::Reset) || !open || full;
        assert!(noticed, "{} was reset, and nobody has noticed", peer.address());
    }
    server.shut_down();
    world.settle();

    let handler = server.handler();
    for peer in crowd.peers() {
        let (arrived, end, came) = (peer.arrived(), peer.ended(), peer.take());
        let Some(known) = handler.at.get(peer.address()).and_then(|conn| handler.known.get(conn)) else {
            assert!(came.is_empty(), "it was not let in");
            continue;
        };
        let seen = peer.address().to_string();
        judge(&came, end, known, &seen);
        let whole = whole(seed, arrived);
        match &known.reason {
            Some(CloseReason::Peer { .. }) => {
                assert_eq!(known.heard, whole, "{seen}: what came before its end was delivered");
            }
            Some(CloseReason::Io(error)) => panic!("{seen}: no socket has failed: {error}"),
            Some(_) => assert!(known.heard <= whole, "{seen}: {} heard of {whole}", known.heard),
            None => panic!("{seen} was opened and not closed"),
        }
    }
}

#[test]
fn whatever_handlers_peers_and_the_system_do_the_promises_hold() {
    if std::env::var("MAINSPRING_REPLAY").is_ok() {
        // With RUST_LOG=debug it tells of each connection's life.
        drop(env_logger::builder().is_test(true).try_init());
        return sim::check(anything);
    }
    let seeds = std::env::var("MAINSPRING_SEEDS").map_or(10_000, |seeds| seeds.parse().expect("a number"));
    let threads = thread::available_parallelism().map_or(1, usize::from) as u64;
    let failed = thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|part| {
                scope.spawn(move || {
                    sim::check_seeds(seeds * part / threads..seeds * (part + 1) / threads, anything);
                })
            })
            .collect();
        parts.into_iter().filter_map(|part| part.join().err()).next()
    });
    if let Some(failed) = failed {
        std::panic::resume_unwind(failed);
    }
}
