//! What one reactor of a pool has for the others.

use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::handle::Team;
use crate::reactor::To;

/// Two of a pool, of which the first answers each message by one of so many bytes for all connections of the second.
fn pair_of_rigs(limits: Limits, len: usize) -> [Rig; 2] {
    let first = rig_with(limits, move |cx, event| {
        if let Event::Message(..) = event {
            assert_eq!(cx.broadcast_elsewhere(To::All, &Bytes::from(vec![7; len])), 1);
        }
    });
    let mut rigs = [first, rig_with(Limits::default(), |_, _| {})];
    let team = Arc::new(Team::new(rigs.iter().map(|rig| rig.reactor.handle()).collect(), 100));
    for (index, rig) in rigs.iter_mut().enumerate() {
        rig.reactor.take_seat(Arc::clone(&team), index);
    }
    rigs
}

#[test]
fn what_waits_for_other_reactors_counts_as_memory_and_costs_no_connection() {
    let mut limits = Limits::default();
    limits.memory_limit = 100_000;
    let [mut first, _second] = pair_of_rigs(limits, 60_000);
    let clients: Vec<_> = (0..5).map(|_| first.client()).collect();
    clients.iter().for_each(|client| client.send(&frame(b"to all others")));
    first.reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(first.stats().frames_in, 2, "with these the limit is passed, and the others have to wait");
    assert!((120_000..121_000).contains(&first.stats().buffered_bytes), "{}", first.stats().buffered_bytes);
    // Nor do they wait for ever: it leaves at the end of the turn.
    for frames in [4, 5] {
        assert!(!first.reactor.flush_elsewhere());
        assert_eq!(first.stats().buffered_bytes, 0);
        first.reactor.turn(Some(Duration::ZERO)).unwrap();
        assert_eq!(first.stats().frames_in, frames);
    }
}

#[test]
fn a_reactor_that_others_hold_up_closes_nobody_for_what_waits_for_them() {
    let mut limits = Limits::default();
    limits.memory_limit = 100_000;
    let [mut first, mut second] = pair_of_rigs(limits, 1_000_000_000 / 1_000);
    second.cx().limits.commands_max = 1;
    let client = first.client();
    // More than the second one's queue takes, and than the first may hold.
    for _ in 0..600 {
        client.send(&frame(b"to all others"));
    }
    first.reactor.turn(Some(Duration::ZERO)).unwrap();
    assert!(first.reactor.flush_elsewhere(), "some is left");
    let left = first.stats().buffered_bytes;
    assert!((1..600_000_000).contains(&left), "{left}");
    client.send(&frame(b"later"));
    first.settle();
    for _ in 0..5 {
        first.pass(Duration::from_secs(1));
    }
    assert_eq!(first.closes(), [""; 0]);
    let before = first.stats().frames_in;
    while first.reactor.flush_elsewhere() {
        second.settle();
    }
    first.settle();
    assert!(first.stats().frames_in > before, "it is read again");
}
