//! Messages that follow each other: order and outcome are those of single ones.

use super::*;
use crate::reactor::{Broadcast, To};
use bytes::Bytes;
use proptest::prelude::*;
use std::sync::{Arc, Mutex};

/// What a handler does with one message of the first client, of two.
#[derive(Debug, Clone)]
enum Op {
    Reply(usize),
    ReplyOwned(usize),
    ReplyControl(usize),
    Other(usize),
    ToAll(usize),
    ToOthers(usize),
}

const MAX_FRAME: u64 = 50_000;

fn ops() -> impl Strategy<Value = Vec<Op>> {
    // Of no length, of few lengths, of a length that is written through, and of one that cannot be said.
    let len = prop_oneof![6 => 0usize..3, 6 => Just(64usize), 3 => 0usize..3_000, 1 => Just(40_000), 1 => Just(60_000)];
    let op = prop_oneof![
        8 => len.clone().prop_map(Op::Reply),
        1 => len.clone().prop_map(Op::ReplyOwned),
        1 => len.clone().prop_map(Op::ReplyControl),
        1 => len.clone().prop_map(Op::Other),
        3 => len.clone().prop_map(Op::ToAll),
        1 => len.prop_map(Op::ToOthers),
    ];
    prop::collection::vec(op, 1..60)
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Sent(Sent),
    Broadcast(Broadcast),
}

/// What came of it, and what each client got. `singly`: whatever is gathered is given out after each.
fn run(ops: &[Op], per_message: usize, high_mark: usize, singly: bool) -> (Vec<Outcome>, [Vec<u8>; 2]) {
    let outcomes = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&outcomes);
    let mut rows = ops.chunks(per_message).map(<[Op]>::to_vec).collect::<Vec<_>>().into_iter();
    let mut limits = Limits::default();
    limits.high_mark = high_mark;
    limits.low_mark = high_mark / 2;
    let mut number = 0u8;
    let mut rig = rig_with(limits, move |cx, event| {
        let Event::Message(from, _) = event else { return };
        for op in rows.next().unwrap_or_default() {
            number = number.wrapping_add(1);
            let message = |len: usize| vec![number; len];
            let other = cx.connections().iter().copied().find(|conn| conn != from).expect("there are two");
            let outcome = match op {
                Op::Reply(len) => Outcome::Sent(cx.send(*from, &message(len))),
                Op::ReplyOwned(len) => Outcome::Sent(cx.send_owned(*from, &Bytes::from(message(len)))),
                Op::ReplyControl(len) => Outcome::Sent(cx.message(&message(len)).control().to(*from)),
                Op::Other(len) => Outcome::Sent(cx.send(other, &message(len))),
                Op::ToAll(len) => Outcome::Broadcast(cx.broadcast(To::All, &message(len))),
                Op::ToOthers(len) => Outcome::Broadcast(cx.broadcast(To::AllBut(*from), &message(len))),
            };
            noted.lock().unwrap().push(outcome);
            if singly {
                cx.queued(*from);
            }
        }
    });
    let peers = [rig.client(), rig.client()];
    for conn in rig.open() {
        rig.cx().set_codec(conn, LengthPrefixed::with_max_frame(MAX_FRAME));
    }
    let messages = ops.len().div_ceil(per_message);
    peers[0].send(&frame(b"go").repeat(messages));
    let mut got = [Vec::new(), Vec::new()];
    for _ in 0..50 {
        rig.settle();
        for (got, peer) in got.iter_mut().zip(&peers) {
            got.extend(peer.take());
        }
    }
    assert_eq!(rig.stats().buffered_bytes, 0);
    assert_eq!(rig.stats().frames_in, messages as u64);
    drop(rig);
    (Arc::into_inner(outcomes).unwrap().into_inner().unwrap(), got)
}

/// What each client has to get.
fn expected(ops: &[Op]) -> [Vec<u8>; 2] {
    let mut got = [Vec::new(), Vec::new()];
    let mut number = 0u8;
    for op in ops {
        number = number.wrapping_add(1);
        let (to, len) = match op {
            Op::Reply(len) | Op::ReplyOwned(len) | Op::ReplyControl(len) => (&[0][..], *len),
            Op::Other(len) | Op::ToOthers(len) => (&[1][..], *len),
            Op::ToAll(len) => (&[0, 1][..], *len),
        };
        if len as u64 <= MAX_FRAME {
            for &to in to {
                got[to].extend(frame(&vec![number; len]));
            }
        }
    }
    got
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn messages_in_a_row_have_the_order_and_the_outcome_of_single_ones(
        ops in ops(),
        per_message in 1usize..8,
        high_mark in prop_oneof![Just(1_500usize), Just(20_000), Just(1 << 20)],
    ) {
        let (outcomes, got) = run(&ops, per_message, high_mark, false);
        let (singly, got_singly) = run(&ops, per_message, high_mark, true);
        prop_assert!(got == expected(&ops), "{ops:?}");
        prop_assert!(got_singly == expected(&ops), "{ops:?}");
        prop_assert_eq!(outcomes, singly);
    }
}

#[test]
fn a_broadcast_of_the_last_callback_of_a_turn_is_not_left_lying() {
    // Told by a close: its callback comes after everything was written.
    let mut rig = rig(|cx, event| {
        if let Event::Close(..) = event {
            assert_eq!(cx.broadcast(To::All, b"somebody has gone").queued, 2);
        }
    });
    let (one, two, three) = (rig.client(), rig.client(), rig.client());
    three.reset();
    rig.settle();
    for peer in [one, two] {
        assert_eq!(peer.take(), frame(b"somebody has gone"));
    }
}
