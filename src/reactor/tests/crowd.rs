//! A hundred thousand connections, each with deadlines of its own.

use std::time::{Duration, Instant};

use super::*;

const CROWD: usize = 100_000;
const GROUPS: usize = 100;
const STEP: Duration = Duration::from_millis(100);
const IDLE: Duration = Duration::from_secs(60);

/// Notes when each connection has ended, and with what.
#[derive(Default)]
struct Clerk {
    closed: Vec<(ConnId, Instant)>,
}

impl Handler for Clerk {
    type Codec = LengthPrefixed;
    type Session = ();

    fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, message: &[u8]) {
        cx.send(from, message);
    }
    fn on_close(&mut self, cx: &mut Context<Self>, conn: ConnId, reason: CloseReason, (): ()) {
        assert_eq!(reason.name(), "idle_timeout");
        self.closed.push((conn, cx.now()));
    }
}

#[test]
fn a_hundred_thousand_deadlines_are_kept_to_the_millisecond_by_one_structure() {
    let mut limits = Limits::default();
    limits.idle_timeout = Some(IDLE);
    limits.frame_timeout = Some(IDLE / 2);
    limits.first_message_timeout = Some(IDLE / 2);
    let (world, mut reactor) = world_with(Clerk::default(), limits, LengthPrefixed::default());
    let peers: Vec<_> = (0..CROWD).map(|_| world.connect(0)).collect();
    let settle = |reactor: &mut Reactor<Clerk>| {
        while {
            reactor.turn(Some(Duration::ZERO)).unwrap();
            reactor.context().has_work() || world.has_events()
        } {}
    };
    settle(&mut reactor);
    assert_eq!(reactor.stats().open, CROWD as u64);
    let conns = reactor.context().connections().to_vec();

    // Each speaks once, some later than others.
    let begin = reactor.context().now();
    for group in 0..GROUPS {
        for peer in peers.iter().skip(group).step_by(GROUPS) {
            peer.send(&frame(b"here"));
        }
        settle(&mut reactor);
        world.advance(STEP);
    }
    assert_eq!(reactor.stats().frames_in, CROWD as u64);
    assert!(reactor.context().timers.len() <= CROWD + 2, "one timer each, whatever many deadlines");

    // Time jumps from one deadline to the next.
    let before = reactor.stats().turns;
    while reactor.stats().open > 0 {
        reactor.turn(None).unwrap();
    }
    let turns = reactor.stats().turns - before;
    assert!(turns < 10 * GROUPS as u64, "{turns} turns for {GROUPS} moments at which somebody is due");
    let mut ends: HashMap<_, _> = reactor.handler().closed.iter().copied().collect();
    assert_eq!(ends.len(), CROWD);
    for (place, conn) in conns.iter().enumerate() {
        let due = begin + STEP * (place % GROUPS) as u32 + IDLE;
        let end = ends.remove(conn).unwrap();
        assert!(end >= due && end <= due + Duration::from_millis(1), "{:?} late", end - due);
    }
    drop(peers);
    world.advance(Duration::from_secs(3)); // free buffers are looked over once more
    settle(&mut reactor);
    assert_eq!(reactor.context().timers.len(), 0, "no timer is left");
}
