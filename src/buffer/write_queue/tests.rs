//! The queue against a plain vector.

use bytes::Bytes;

use super::*;
use proptest::prelude::*;

fn queued(queue: &WriteQueue) -> Vec<u8> {
    let mut slices = [IoSlice::new(&[]); SLICES];
    let (count, total) = queue.slices(&mut slices, usize::MAX);
    let bytes: Vec<u8> = slices[..count].iter().flat_map(|s| s.to_vec()).collect();
    assert_eq!(bytes.len(), total);
    bytes
}

#[test]
fn an_empty_queue_holds_no_memory() {
    let mut pool = Pool::new(1 << 20);
    let mut queue = WriteQueue::default();
    queue.tail(&mut pool).extend_from_slice(b"reply");
    queue.commit(5, &mut pool);
    assert_eq!(queue.single(), Some(&b"reply"[..]));
    assert_eq!(queue.advance(5, &mut pool), 1);
    assert_eq!((queue.held(), queue.bytes()), (0, 0));
}

#[test]
fn a_message_counts_when_its_last_byte_is_written() {
    let mut pool = Pool::new(1 << 20);
    let mut queue = WriteQueue::default();
    for message in [&b"aaaa"[..], b"bb", b"cc"] {
        queue.tail(&mut pool).extend_from_slice(message);
        queue.commit(message.len(), &mut pool);
    }
    assert_eq!(queue.messages(), 3);
    assert_eq!(queue.advance(3, &mut pool), 0);
    assert_eq!(queue.advance(2, &mut pool), 1);
    assert_eq!(queue.advance(2, &mut pool), 1);
    assert_eq!(queued(&queue), b"c");
    assert_eq!(queue.advance(1, &mut pool), 1);
}

#[test]
fn a_message_without_bytes_has_no_end_of_its_own() {
    let mut pool = Pool::new(1 << 20);
    let mut queue = WriteQueue::default();
    queue.tail(&mut pool);
    queue.commit(0, &mut pool);
    assert_eq!(queue.held(), 0);
    queue.commit_many(0, 3, &mut pool);
    queue.tail(&mut pool).extend_from_slice(b"ab");
    queue.commit_many(1, 2, &mut pool);
    assert_eq!(queue.messages(), 2);
    assert_eq!(queue.advance(1, &mut pool), 1);
}

#[derive(Debug, Clone)]
enum Op {
    Small(usize),
    Copy(usize),
    Share(usize),
    Push(usize, Option<u64>, bool),
    Advance(usize),
    DropOldest(usize),
    DropKey(u64),
    DropObsolete,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (1usize..50).prop_map(Op::Small),
        2 => (1usize..40_000).prop_map(Op::Copy),
        2 => (1usize..40_000).prop_map(Op::Share),
        1 => (1usize..2_000, prop::option::of(0u64..2), any::<bool>()).prop_map(|(n, k, c)| Op::Push(n, k, c)),
        3 => (1usize..60_000).prop_map(Op::Advance),
        1 => (0usize..60_000).prop_map(Op::DropOldest),
        1 => (0u64..2).prop_map(Op::DropKey),
        1 => Just(Op::DropObsolete),
    ]
}

/// A plain list of messages, and how much of the first is sent.
#[derive(Debug, Default)]
struct Naive {
    messages: VecDeque<(Vec<u8>, Label)>,
    sent: usize,
}

impl Naive {
    fn bytes(&self) -> usize {
        self.messages.iter().map(|(bytes, _)| bytes.len()).sum::<usize>() - self.sent
    }

    fn drop_where(&mut self, mut doomed: impl FnMut(&Naive, usize) -> bool) -> u64 {
        let mut at = 0;
        let mut dropped = 0;
        while at < self.messages.len() {
            let can_go = !self.messages[at].1.control && (at > 0 || self.sent == 0);
            if can_go && doomed(self, at) {
                self.messages.remove(at);
                dropped += 1;
            } else {
                at += 1;
            }
        }
        dropped
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_order_of_operations_is_that_of_a_plain_list(ops in prop::collection::vec(op(), 1..40)) {
        let mut pool = Pool::new(1 << 20);
        let mut queue = WriteQueue::default();
        let ledger = Ledger::default();
        let mut naive = Naive::default();
        for (step, op) in ops.into_iter().enumerate() {
            let fill = |n: usize| vec![step as u8; n];
            match op {
                Op::Small(n) | Op::Copy(n) | Op::Share(n) | Op::Push(n, ..)
                    if queue.has_parcels() || matches!(op, Op::Push(..)) =>
                {
                    let label = match op {
                        Op::Push(_, key, control) => Label { key, control },
                        _ => Label::default(),
                    };
                    let payload = match op {
                        Op::Share(_) => Payload::Shared(ledger.enter(Bytes::from(fill(n)))),
                        _ => Payload::Own(fill(n).into()),
                    };
                    queue.push(payload, label, &mut pool);
                    naive.messages.push_back((fill(n), label));
                }
                Op::Small(n) => {
                    queue.tail(&mut pool).extend_from_slice(&fill(n));
                    queue.commit(n, &mut pool);
                    naive.messages.push_back((fill(n), Label::default()));
                }
                Op::Copy(n) | Op::Push(n, ..) => {
                    queue.copy(&fill(n), &mut pool);
                    queue.mark(n, &mut pool);
                    naive.messages.push_back((fill(n), Label::default()));
                }
                Op::Share(n) => {
                    queue.share(ledger.enter(Bytes::from(fill(n))), &mut pool);
                    queue.mark(n, &mut pool);
                    naive.messages.push_back((fill(n), Label::default()));
                }
                Op::Advance(n) => {
                    let n = n.min(queue.bytes());
                    let frames = queue.advance(n, &mut pool);
                    naive.sent += n;
                    let mut expected = 0;
                    while naive.messages.front().is_some_and(|(bytes, _)| bytes.len() <= naive.sent) {
                        naive.sent -= naive.messages.pop_front().map_or(0, |(bytes, _)| bytes.len());
                        expected += 1;
                    }
                    prop_assert_eq!(frames, expected);
                }
                Op::DropOldest(max) => {
                    let expected = naive.drop_where(|naive, _| naive.bytes() > max);
                    prop_assert_eq!(queue.drop_oldest(max, &mut pool), expected);
                }
                Op::DropKey(key) => {
                    let expected = naive.drop_where(|naive, at| naive.messages[at].1.key == Some(key));
                    prop_assert_eq!(queue.drop_key(key, &mut pool), expected);
                }
                Op::DropObsolete => {
                    let expected = naive.drop_where(|naive, at| {
                        let key = naive.messages[at].1.key;
                        let newer = naive.messages.iter().skip(at + 1);
                        key.is_some() && newer.clone().any(|(_, label)| label.key == key)
                    });
                    prop_assert_eq!(queue.drop_obsolete(&mut pool), expected);
                }
            }
            if !queue.has_parcels() && step % 3 == 0 {
                queue.tail(&mut pool).extend_from_slice(b"half a frame");
                queue.undo(&mut pool);
            }
            let all: Vec<u8> = naive.messages.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
            let unsent = &all[naive.sent..];
            prop_assert_eq!(queue.bytes(), unsent.len());
            prop_assert_eq!(queue.messages(), naive.messages.len() as u64);
            prop_assert!(unsent.starts_with(&queued(&queue)));
            prop_assert_eq!(&queue.to_vec(), unsent);
            let of_two: usize = naive.messages.iter().take(2).map(|(bytes, _)| bytes.len()).sum();
            prop_assert_eq!(queue.bytes_of(2), of_two - naive.sent);
            prop_assert_eq!(queue.bytes_of(usize::MAX), unsent.len());
            let mut slices = [IoSlice::new(&[]); SLICES];
            prop_assert!(queue.slices(&mut slices, 1_000).1 <= 1_000);
            if let Some(single) = queue.single() {
                prop_assert_eq!(single, unsent);
            }
            prop_assert!(queue.held() + queue.shared() >= queue.bytes());
        }
        queue.clear(&mut pool);
        prop_assert_eq!((queue.held(), queue.bytes(), queue.messages()), (0, 0, 0));
        prop_assert_eq!((queue.shared(), ledger.bytes()), (0, 0));
    }
}
