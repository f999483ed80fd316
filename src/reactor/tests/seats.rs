//! What one reactor of a pool has for the others.

use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::handle::Team;
use crate::net::mem::Peer;
use crate::reactor::To;

/// Connections that the two may have together.
const PLACES: usize = 100;

/// Two of a pool, of which the first answers each message by one of 60,000 bytes for all connections of the second, whose
/// queue takes so many.
fn two(limits: Limits, commands_max: usize) -> [Rig; 2] {
    let first = rig_with(limits, |cx, event| {
        if let Event::Message(..) = event {
            assert_eq!(cx.broadcast_elsewhere(To::All, &Bytes::from(vec![7; 60_000])), 1);
        }
    });
    let mut limits = Limits::default();
    limits.commands_max = commands_max;
    let mut rigs = [first, rig_with(limits, |_, _| {})];
    let team = Arc::new(Team::new(rigs.iter().map(|rig| rig.reactor.handle()).collect(), PLACES));
    for (index, rig) in rigs.iter_mut().enumerate() {
        rig.reactor.take_seat(Arc::clone(&team), index);
    }
    rigs
}

/// The same, when the first has 10 messages for the second, which takes one; and the client, which has sent more.
fn held_up(mut limits: Limits, count: usize) -> ([Rig; 2], Peer) {
    limits.messages_per_turn = 10;
    let [mut first, second] = two(limits, 1);
    let client = first.client();
    (0..count).for_each(|_| client.send(&frame(b"to all others")));
    first.reactor.turn(Some(Duration::ZERO)).unwrap();
    assert!(first.reactor.flush_elsewhere(), "the other takes one");
    assert_eq!(first.stats().frames_in, 10);
    ([first, second], client)
}

#[test]
fn what_waits_for_other_reactors_counts_as_memory_and_costs_no_connection() {
    let mut limits = Limits::default();
    limits.memory_limit = 100_000;
    let [mut first, _second] = two(limits, 100);
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
    let ([mut first, mut second], client) = held_up(limits, 10);
    assert!((540_000..541_000).contains(&first.stats().buffered_bytes), "{}", first.stats().buffered_bytes);
    client.send(&frame(b"later"));
    for _ in 0..5 {
        first.pass(Duration::from_secs(1));
    }
    assert_eq!((first.closes().len(), first.stats().frames_in), (0, 10));
    while first.reactor.flush_elsewhere() {
        second.settle();
    }
    first.settle();
    assert_eq!(first.stats().frames_in, 11, "it is read again");
}

#[test]
fn what_was_read_already_waits_too_while_other_reactors_are_behind() {
    let mut limits = Limits::default();
    limits.idle_timeout = Some(Duration::from_secs(5));
    let ([mut first, mut second], _client) = held_up(limits, 100);
    // As a socket's short read says: it has been drained.
    let conn = first.open()[0];
    first.cx().table.get_mut(conn).unwrap().readable = false;
    first.settle();
    assert_eq!(first.stats().frames_in, 10, "it would only make more that waits");
    for _ in 0..9 {
        first.pass(Duration::from_secs(1));
    }
    assert_eq!(first.closes(), [""; 0], "and it is not the client that is silent");
    for _ in 0..1_000 {
        second.settle();
        first.reactor.flush_elsewhere();
        first.reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(first.stats().frames_in, 100);
}

#[test]
fn a_shutdown_reads_for_the_last_time_also_while_other_reactors_are_behind() {
    let ([mut first, _second], client) = held_up(Limits::default(), 10);
    client.send(&frame(b"the last"));
    first.settle();
    assert_eq!(first.stats().frames_in, 10);
    first.cx().drain.allow(2);
    first.cx().shutdown();
    first.settle();
    assert_eq!(first.stats().frames_in, 11, "there is no later");
}

#[test]
fn a_client_that_is_lost_before_it_is_open_gives_its_place_back() {
    let [mut first, _second] = two(Limits::default(), 1);
    let (listener, peer) = (first.cx().listener_ids()[0], "192.0.2.1:7".parse::<Address>().unwrap());
    for _ in 0..PLACES {
        assert!(first.cx().take_place());
        let lost = Err(std::io::ErrorKind::ConnectionAborted.into());
        first.reactor.settle(listener, lost, peer.clone(), LengthPrefixed::default(), None);
    }
    assert!(first.cx().take_place());
    assert_eq!(first.stats().refused, PLACES as u64);
}
