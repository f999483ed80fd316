//! A handler that does anything at any time, and a world that does too. What must hold for every handler is checked by the
//! recorder and after each rest of the loop.

use super::*;
use crate::net::mem::Answer;
use crate::net::{Readiness, Source};
use crate::reactor::{Direction, To};
use crate::{Dial, Overflow, Rate, Reconnect};

/// A small generator (xorshift64*), so that a seed says all.
#[derive(Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    pub(super) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n.max(1)
    }
}

/// One of the verbs, for one of the connections.
fn act(cx: &mut Context<Recorder>, random: &mut Random, own: Option<ConnId>) {
    let all: Vec<_> = if random.below(3) == 0 { cx.table.all().collect() } else { cx.connections().to_vec() };
    if random.below(12) == 0 {
        return dial(cx, random);
    }
    let Some(any) = all.get(random.below(all.len())).copied().or(own) else { return };
    let conn = if random.below(2) == 0 { own.unwrap_or(any) } else { any };
    match random.below(23) {
        22 => drop(cx.end_output(conn)),
        0 => cx.close(conn),
        1 => cx.abort(conn),
        2 => drop(cx.pause(conn)),
        3 | 4 => drop(cx.resume(conn)),
        5 => drop(cx.broadcast(To::AllBut(conn), b"to all")),
        6 => drop(cx.owe(conn)),
        7 | 8 => drop(cx.paid(conn)),
        9 => drop(cx.join(conn, random.below(3) as u64)),
        10 => drop(cx.leave(conn, random.below(3) as u64)),
        11 => drop(cx.broadcast(To::Group(random.below(3) as u64), &[4; 500])),
        12 => drop(cx.after_for(conn, Duration::from_millis(random.below(3_000) as u64), 1)),
        13 => drop(cx.after(Duration::from_millis(random.below(3_000) as u64), 2)),
        14 => drop(cx.send(conn, &vec![8; random.below(100_000)])),
        15 => drop(cx.set_overflow(conn, policy(random.below(5)))),
        16 => drop(cx.message(&[5; 700]).key(random.below(3) as u64).broadcast(To::All)),
        17 => drop(cx.message(&vec![6; random.below(20_000)]).key(random.below(3) as u64).to(conn)),
        18 => drop(cx.message(b"control").control().to(conn)),
        19 => {
            let rate = Rate::default().bytes_per_second(random.below(50_000) as u64);
            let rate = rate.messages_per_second(random.below(300) as u64);
            cx.limit_rate(conn, direction(random), (random.below(3) > 0).then_some(rate));
        }
        20 => {
            // One group, that comes and goes.
            let group = match cx.session(conn) {
                Some(_) if random.below(4) > 0 => cx.add_rate_group(Rate::default().messages_per_second(50)),
                _ => return,
            };
            for member in cx.connections().to_vec() {
                let direction = direction(random);
                cx.join_rate_group(member, direction, group);
                if random.below(3) == 0 {
                    cx.leave_rate_group(member, direction, group);
                }
            }
            if random.below(2) == 0 {
                cx.remove_rate_group(group);
            }
        }
        _ => drop(cx.send(conn, b"small")),
    }
}

fn policy(n: usize) -> Overflow {
    [Overflow::Close, Overflow::DropNewest, Overflow::DropOldest, Overflow::Latest, Overflow::Tell][n]
}

fn direction(random: &mut Random) -> Direction {
    if random.below(2) == 0 { Direction::Input } else { Direction::Output }
}

/// A dial to somewhere or nowhere, perhaps again and again.
fn dial(cx: &mut Context<Recorder>, random: &mut Random) {
    let places =
        ["192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1", "near:1", "far:1", "slow:1", "unknown:1", "nonsense"];
    let mut dial = Dial::to(places[random.below(places.len())]);
    if random.below(2) == 0 {
        dial = dial.within(Duration::from_millis(random.below(2_000) as u64));
    }
    if random.below(3) == 0 {
        dial = dial.reconnect(Reconnect::default());
    }
    cx.connect(dial, LengthPrefixed::default());
}

/// What becomes of dials from now on.
fn answer(rig: &Rig, random: &mut Random) {
    let kind = std::io::ErrorKind::ConnectionRefused;
    let answers = [
        Answer::Silence,
        Answer::Opens,
        Answer::Opens,
        Answer::Fails(kind),
        Answer::FailsAtOnce(kind),
        Answer::Itself,
    ];
    for address in ["192.0.2.1:1", "192.0.2.2:1", "[2001:db8::1]:1", "[2001:db8::2]:1"] {
        rig.world.answers(address, answers[random.below(answers.len())]);
    }
    rig.world.knows("near", &["2001:db8::1", "192.0.2.1"]);
    rig.world.knows("far", &["192.0.2.2", "192.0.2.1", "2001:db8::2", "2001:db8::1"]);
    if random.below(2) == 0 { rig.world.hangs("slow") } else { rig.world.knows("slow", &["192.0.2.1"]) }
}

fn run(seed: u64) {
    let mut limits = Limits::default();
    (limits.high_mark, limits.low_mark, limits.write_limit) = (20_000, 5_000, 60_000);
    (limits.messages_per_turn, limits.read_bytes_per_turn) = (5, 3_000);
    (limits.write_bytes_per_turn, limits.accepts_per_turn) = (3_000, 2);
    limits.idle_timeout = Some(Duration::from_secs(20));
    limits.connections_per_source = Some(9);
    (limits.lingering_max, limits.memory_limit) = (3, 150_000);
    let mut inner = Random::new(seed);
    let mut rig = rig_with(limits, move |cx, event| {
        let own = match event {
            Event::Open(c) | Event::Message(c, _) | Event::Writable(c) => Some(*c),
            Event::Overflow(c) | Event::HalfClose(c) => Some(*c),
            _ => None,
        };
        if inner.below(3) == 0 {
            act(cx, &mut inner, own);
        } else if let (Some(conn), Event::Message(_, message)) = (own, event) {
            cx.send(conn, message);
        }
    });
    let mut random = Random::new(seed ^ 0xabcd);
    let mut peers: Vec<Peer> = Vec::new();
    for _ in 0..150 {
        match random.below(16) {
            14 => answer(&rig, &mut random),
            15 => dial(rig.cx(), &mut random),
            0 | 1 => {
                let peer = rig.world.connect(0);
                peer.capacity(1 + random.below(30_000));
                peer.pieces(1 + random.below(5_000), 1 + random.below(5_000));
                peers.push(peer);
            }
            2 => rig.world.fail_accept(0, std::io::Error::from_raw_os_error(24)),
            3 => {
                let source = Source::Connection(random.below(8) as u32, random.below(60) as u32);
                rig.world.inject(source, Readiness::READABLE.and(Readiness::WRITABLE));
            }
            4 => rig.world.advance(Duration::from_millis(random.below(5_000) as u64)),
            5 => {
                let own = rig.open().first().copied();
                act(rig.cx(), &mut random, own);
            }
            _ => {
                if peers.is_empty() {
                    continue;
                }
                let at = random.below(peers.len());
                let peer = &peers[at];
                match random.below(12) {
                    0 => peer.reset(),
                    1 => peer.shut_down_writing(),
                    2..=5 => drop(peer.take()),
                    6 => peer.send(&frame(&vec![1; random.below(20_000)])),
                    7 => peer.send(&frame(b"")[..1 + random.below(3)]),
                    _ => peer.send(&frame(&[2; 30])),
                }
            }
        }
        if random.below(3) > 0 {
            rig.reactor.turn(Some(Duration::ZERO)).unwrap();
        } else {
            rig.settle();
        }
    }
    rig.cx().shutdown();
    rig.settle();
    rig.pass(Duration::from_secs(5));
    let flow = rig.pass(Duration::from_secs(60));
    assert_eq!(flow, Flow::Finished, "a shutdown ends");
    let stats = rig.stats();
    assert_eq!((stats.open, stats.buffered_bytes), (0, 0), "nothing is held at the end: {stats:?}");
    assert_eq!(stats.closed, stats.accepted + stats.connected);
    assert!(rig.cx().dials.is_empty(), "nothing is left of dials");
    assert!(rig.cx().groups.is_empty() && rig.cx().sources.is_empty());
    assert_eq!(rig.cx().ledger.bytes(), 0, "no shared payload is left");
    assert!(
        peers.iter().all(|peer| peer.dropped().is_some() || peer.source().is_none()),
        "no socket is left"
    );
}

#[test]
fn whatever_handlers_and_peers_do_the_promises_hold() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("MAINSPRING_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("MAINSPRING_SEEDS").unwrap_or(400),
    };
    for seed in seeds {
        let result = std::panic::catch_unwind(|| run(seed));
        if let Err(panic) = result {
            eprintln!("failed for MAINSPRING_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
