//! Jobs of a pool in the in-memory world. The pools have no threads: the test runs each job, when it wants.

use bytes::Bytes;

use super::*;
use crate::workers::{Builder, Pool, Refusal, Submitted};
use crate::{DropReason, HandleError};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

mod ends;

type Hand = Arc<Pool<Recorder>>;

/// A pool for the handler, and one to run its jobs by hand.
fn by_hand(bounds: impl FnOnce(Builder) -> Builder) -> (Pool<Recorder>, Hand) {
    let pool: Pool<Recorder> = bounds(Pool::<Recorder>::builder(0)).build().unwrap();
    let hand = Arc::new(pool.share());
    (pool, hand)
}

fn work_all(hand: &Hand) {
    while hand.work_one() {}
}

/// What each message makes a job do: `!` panics, `2` has the two next jobs run first, anything else is answered.
fn work(hand: &Hand, question: &[u8]) -> Bytes {
    match question {
        b"!" => panic!("as the test wants it"),
        b"2" => assert!(hand.work_one() && hand.work_one(), "two more are there to run"),
        _ => {}
    }
    Bytes::from([b"re: ", question].concat())
}

fn asked(mut pool: Pool<Recorder>, hand: &Hand) -> impl FnMut(&mut Context<Recorder>, &Event) + Send + use<> {
    let hand = Arc::clone(hand);
    move |cx, event| {
        if let Event::Message(from, message) = event {
            let (hand, message) = (Arc::clone(&hand), message.clone());
            assert!(pool.answer(cx, *from, move || work(&hand, &message)).is_queued());
        }
    }
}

fn answers<'a>(questions: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    questions.into_iter().flat_map(|question| frame(&[b"re: ", question].concat())).collect()
}

fn answering(limits: Limits, bounds: impl FnOnce(Builder) -> Builder) -> (Rig, Hand) {
    let (pool, hand) = by_hand(bounds);
    (rig_with(limits, asked(pool, &hand)), hand)
}

#[test]
fn answers_keep_the_order_of_their_questions_though_jobs_end_in_another() {
    // guzba/mummy#142 and others
    let (mut rig, hand) = answering(Limits::default(), |pool| pool);
    let peer = rig.client();
    let questions = [&b"a"[..], b"2", b"b", b"c", b""];
    peer.send(&frames(questions));
    rig.settle();
    assert!(hand.work_one());
    rig.settle();
    assert_eq!(peer.take(), answers([&b"a"[..]]));
    let wakes = rig.world.wakes();
    assert!(hand.work_one(), "the one that has the next two run first");
    assert_eq!(rig.world.wakes(), wakes + 1, "three results, one wake-up");
    rig.settle();
    assert_eq!(peer.take(), answers([&b"2"[..], b"b", b"c"]));
    work_all(&hand);
    rig.settle();
    assert_eq!(peer.take(), answers([&b""[..]]));
}

#[test]
fn a_result_that_is_early_waits_for_its_turn() {
    let (mut pool, hand) = by_hand(|pool| pool);
    let inner = Arc::clone(&hand);
    let mut rig = rig(move |cx, event| {
        if let Event::Message(from, message) = event {
            let (hand, message) = (Arc::clone(&inner), message.clone());
            let handle = cx.handle();
            pool.answer(cx, *from, move || {
                if message == b"slow" {
                    assert!(hand.work_one());
                    // The loop takes a turn before this one ends.
                    handle.run(|handler, _| handler.events.clear()).unwrap();
                }
                Bytes::from(message)
            });
        }
    });
    let peer = rig.client();
    peer.send(&frames([&b"slow"[..], b"fast"]));
    rig.settle();
    assert!(hand.work_one() && !hand.work_one());
    rig.settle();
    assert_eq!(peer.take(), frames([&b"slow"[..], b"fast"]));
}

#[test]
fn a_connection_at_its_bound_is_not_read_and_others_are() {
    let (mut rig, hand) = answering(Limits::default(), |pool| pool.jobs_per_connection(4));
    let (peer, other) = (rig.client(), rig.client());
    let questions: Vec<Vec<u8>> = (100..150u8).map(|n| vec![n]).collect();
    peer.send(&frames(questions.iter().map(Vec::as_slice)));
    rig.settle();
    assert_eq!(rig.stats().frames_in, 4);
    assert_eq!(hand.jobs(), 0, "each pool counts its own reactor's");
    other.send(&frame(b"other"));
    rig.settle();
    assert_eq!(rig.stats().frames_in, 5);
    // They take turns: the late one is second.
    assert!(hand.work_one() && hand.work_one());
    rig.settle();
    assert_eq!(other.take(), answers([&b"other"[..]]));
    assert_eq!(rig.stats().frames_in, 5, "three are under way: reading goes on at half of the bound");
    assert!(hand.work_one());
    rig.settle();
    assert_eq!(rig.stats().frames_in, 7);
    for _ in 0..50 {
        work_all(&hand);
        rig.settle();
    }
    assert_eq!(peer.take(), answers(questions.iter().map(Vec::as_slice)));
    assert_eq!(rig.stats().frames_in, 51);
}

#[test]
fn long_messages_hold_a_connection_by_their_bytes() {
    let (mut rig, hand) = answering(Limits::default(), |pool| pool.bytes_per_connection(1_000));
    let peer = rig.client();
    let long = vec![1; 600];
    peer.send(&frames([&long[..], &long, &long]));
    rig.settle();
    assert_eq!(rig.stats().frames_in, 2);
    work_all(&hand);
    rig.settle();
    work_all(&hand);
    rig.settle();
    assert_eq!(peer.take(), answers([&long[..], &long, &long]));
}

#[test]
fn the_handlers_own_pause_is_another_matter() {
    let (pool, hand) = by_hand(|pool| pool.jobs_per_connection(1));
    let mut ask = asked(pool, &hand);
    let mut rig = rig(move |cx, event| {
        ask(cx, event);
        if let Event::Message(from, message) = event {
            if message == b"pause" {
                cx.pause(*from);
            }
        }
    });
    let peer = rig.client();
    let conn = rig.open()[0];
    peer.send(&frames([&b"pause"[..], b"a", b"b"]));
    rig.settle();
    work_all(&hand);
    rig.settle();
    assert_eq!(rig.stats().frames_in, 1, "the job is done, and the handler's pause holds");
    rig.cx().resume(conn);
    rig.settle();
    assert_eq!(rig.stats().frames_in, 2);
    rig.cx().resume(conn);
    rig.settle();
    assert_eq!(rig.stats().frames_in, 2, "and the other way round");
    for _ in 0..2 {
        work_all(&hand);
        rig.settle();
    }
    assert_eq!(peer.take(), answers([&b"pause"[..], b"a", b"b"]));
}

#[test]
fn two_pools_hold_one_connection_each_for_itself() {
    let (mut first, first_hand) = by_hand(|pool| pool.jobs_per_connection(1));
    let (mut second, second_hand) = by_hand(|pool| pool.jobs_per_connection(1));
    let mut rig = rig(move |cx, event| {
        if let Event::Message(from, _) = event {
            first.answer(cx, *from, || Bytes::from_static(b"1"));
            second.answer(cx, *from, || Bytes::from_static(b"2"));
        }
    });
    let peer = rig.client();
    peer.send(&frames([&b"x"[..], b"y"]));
    rig.settle();
    assert!(second_hand.work_one());
    rig.settle();
    assert_eq!(rig.stats().frames_in, 1, "the first one still holds it");
    assert!(first_hand.work_one());
    rig.settle();
    assert_eq!(rig.stats().frames_in, 2);
    assert_eq!(peer.take(), frames([&b"2"[..], b"1"]), "each pool has an order of its own");
}

#[test]
fn all_together_are_bounded_and_each_gets_its_turn() {
    let (mut rig, hand) = answering(Limits::default(), |pool| pool.jobs(3));
    let peers: Vec<_> = (0..10).map(|_| rig.client()).collect();
    let questions: Vec<Vec<u8>> = (100..120u8).map(|n| vec![n]).collect();
    for peer in &peers {
        peer.send(&frames(questions.iter().map(Vec::as_slice)));
    }
    rig.settle();
    assert_eq!(rig.stats().frames_in, 3 + 9, "and one for each that met the bound");
    let mut done = 0;
    while done < 200 {
        assert!(rig.stats().frames_in - done <= 3 + 9, "{:?}", rig.stats());
        assert!(hand.work_one(), "{done} are done, and nobody is let in");
        rig.settle();
        done += 1;
    }
    for peer in &peers {
        assert_eq!(peer.take(), answers(questions.iter().map(Vec::as_slice)));
    }
}

#[test]
fn those_that_wait_for_the_whole_are_let_in_although_others_want_nothing() {
    let (mut rig, hand) = answering(Limits::default(), |pool| pool.jobs(1));
    let peers: Vec<_> = (0..20).map(|_| rig.client()).collect();
    for peer in &peers {
        peer.send(&frame(b"first"));
    }
    rig.settle();
    work_all(&hand);
    rig.settle();
    // All have waited, and had nothing more to say. Each is heard again.
    for peer in &peers {
        peer.send(&frame(b"second"));
        rig.settle();
        work_all(&hand);
        rig.settle();
        assert_eq!(peer.take(), answers([&b"first"[..], b"second"]));
    }
}

#[test]
fn an_answer_is_a_connections_own_and_never_a_slow_consumers() {
    let mut limits = Limits::default();
    (limits.write_limit, limits.high_mark, limits.low_mark) = (1_000, 2_000, 500);
    let (mut rig, hand) = answering(limits, |pool| pool.jobs_per_connection(8));
    let peer = rig.client();
    peer.capacity(10);
    let question = vec![1; 900];
    peer.send(&frames([&question[..]; 30]));
    rig.settle();
    for _ in 0..30 {
        work_all(&hand);
        rig.settle();
    }
    assert!(rig.stats().frames_in < 30, "above the mark it is not read, and makes no jobs");
    peer.capacity(usize::MAX);
    let mut got = peer.take();
    for _ in 0..60 {
        rig.settle();
        work_all(&hand);
        got.extend(peer.take());
    }
    assert_eq!(got, answers([&question[..]; 30]));
    assert_eq!(rig.closes(), [""; 0]);
}

#[test]
fn a_full_queue_of_commands_loses_no_answer_and_holds_up_no_worker() {
    let mut limits = Limits::default();
    limits.commands_max = 1;
    let (mut rig, hand) = answering(limits, |pool| pool);
    let peer = rig.client();
    peer.send(&frames([&b"a"[..], b"b"]));
    rig.settle();
    rig.reactor.handle().run(|_, _| {}).unwrap();
    work_all(&hand);
    rig.settle();
    assert_eq!(peer.take(), answers([&b"a"[..], b"b"]));
}

#[test]
fn a_direct_send_may_go_behind_the_answers() {
    let (mut pool, hand) = by_hand(|pool| pool.jobs_per_connection(3));
    let mut rig = rig(move |cx, event| match event {
        Event::Message(from, message) if message == b"?" => {
            pool.answer(cx, *from, || Bytes::from_static(b"answer"));
        }
        Event::Message(from, message) => {
            assert!(pool.send_in_order(cx, *from, Bytes::from(message.clone())).is_queued());
        }
        Event::Timer(conn) => {
            let conn = cx.connections()[*conn as usize];
            let full = pool.jobs_of(conn) == 3;
            let sent = pool.send_in_order(cx, conn, Bytes::from_static(b"from elsewhere"));
            assert_eq!(sent == Sent::Dropped(DropReason::Behind), full, "{sent:?}");
        }
        _ => {}
    });
    let peer = rig.client();
    peer.send(&frame(b"at once"));
    rig.settle();
    assert_eq!(peer.take(), frame(b"at once"));
    peer.send(&frames([&b"?"[..], b"behind"]));
    rig.settle();
    assert!(peer.take().is_empty());
    rig.cx().after(Duration::ZERO, 0);
    rig.settle();
    let before = rig.stats().frames_dropped;
    rig.cx().after(Duration::ZERO, 0);
    rig.settle();
    assert_eq!(rig.stats().frames_dropped, before + 1);
    work_all(&hand);
    rig.settle();
    assert_eq!(peer.take(), frames([&b"answer"[..], b"behind", b"from elsewhere"]));
}

#[test]
fn who_makes_jobs_of_his_own_accord_is_told_of_the_bound() {
    let (pool, hand) = by_hand(|pool| pool.jobs_per_connection(2));
    let pool = Arc::new(std::sync::Mutex::new(pool));
    let mut rig = rig(|_, _| {});
    let peer = rig.client();
    let conn = rig.open()[0];
    let job = |rig: &mut Rig| pool.lock().unwrap().answer(rig.cx(), conn, || Bytes::from_static(b"news"));
    assert!(matches!(job(&mut rig), Submitted::Queued));
    assert!(matches!(job(&mut rig), Submitted::AtBound));
    let Submitted::Refused(Refusal::Full, back) = job(&mut rig) else { panic!("it is full") };
    assert_eq!(back(), "news");
    work_all(&hand);
    rig.settle();
    assert_eq!(peer.take(), frames([&b"news"[..], b"news"]));
    peer.send(&frame(b"heard"));
    rig.settle();
    assert_eq!(rig.messages(), [b"heard"], "it was held, and is no more");
    peer.reset();
    rig.settle();
    assert!(matches!(job(&mut rig), Submitted::Refused(Refusal::Gone, _)));
}

#[test]
fn what_follows_a_job_runs_on_the_loop_in_order_and_may_ask_for_more() {
    struct Steps(Pool<Steps>);
    impl Handler for Steps {
        type Codec = LengthPrefixed;
        type Session = u32;
        fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, message: &[u8]) {
            let n = message[0];
            self.0.run(
                cx,
                from,
                move || n + 1,
                |handler, cx, conn, n| {
                    *cx.session_mut(conn).unwrap() += 1;
                    cx.send(conn, &[n]);
                    cx.send(conn, b"one more");
                    if n < 10 {
                        handler.0.answer(cx, conn, || Bytes::from_static(b"second step"));
                    }
                },
            );
        }
    }
    let pool: Pool<Steps> = Pool::<Steps>::builder(0).build().unwrap();
    let hand = pool.share::<Steps>();
    let (world, mut reactor) = world_with(Steps(pool), Limits::default(), LengthPrefixed::default());
    let peer = world.connect(0);
    peer.send(&frames([&b"\x01"[..], b"\x0a"]));
    for _ in 0..5 {
        reactor.turn(Some(Duration::ZERO)).unwrap();
        while hand.work_one() {}
    }
    let expected = [&b"\x02"[..], b"one more", b"\x0b", b"one more", b"second step"];
    assert_eq!(peer.take(), frames(expected));
    let conn = reactor.context().connections()[0];
    assert_eq!(reactor.context().session(conn), Some(&2));
    // One that is gone is not told.
    peer.send(&frame(b"\x01"));
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert!(hand.work_one());
    peer.reset();
    for _ in 0..3 {
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(reactor.handler().0.jobs(), 0);
}
