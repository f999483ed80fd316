//! Jobs, and connections and reactors that end before them.

use super::*;

#[test]
fn jobs_of_the_gone_are_not_run_and_their_answers_hit_nobody() {
    // panjf2000/gnet#621
    let ran = Arc::new(AtomicUsize::new(0));
    let (mut pool, hand) = by_hand(|pool| pool);
    let count = Arc::clone(&ran);
    let mut rig = rig(move |cx, event| {
        if let Event::Message(from, _) = event {
            let count = Arc::clone(&count);
            pool.answer(cx, *from, move || {
                count.fetch_add(1, Ordering::Relaxed);
                Bytes::from_static(b"answer")
            });
        }
    });
    let peer = rig.client();
    let slot = rig.open()[0].slot;
    peer.send(&frames([&b"a"[..], b"b", b"c"]));
    rig.settle();
    assert!(hand.work_one());
    // The result waits to be collected, and two jobs to be run.
    peer.reset();
    rig.reactor.turn(Some(Duration::ZERO)).unwrap();
    let new = rig.client();
    assert_eq!(rig.open()[0].slot, slot);
    work_all(&hand);
    rig.settle();
    assert_eq!(ran.load(Ordering::Relaxed), 1);
    assert!(new.take().is_empty());
    assert_eq!(rig.closes(), ["reset"]);
    new.send(&frame(b"mine"));
    rig.settle();
    work_all(&hand);
    rig.settle();
    assert_eq!(new.take(), frame(b"answer"));
}

#[test]
fn one_that_is_closed_by_the_handler_has_its_jobs_left_out() {
    let ran = Arc::new(AtomicUsize::new(0));
    let (mut pool, hand) = by_hand(|pool| pool);
    let count = Arc::clone(&ran);
    let mut rig = rig(move |cx, event| {
        if let Event::Message(from, message) = event {
            let count = Arc::clone(&count);
            pool.answer(cx, *from, move || {
                count.fetch_add(1, Ordering::Relaxed);
                Bytes::from_static(b"answer")
            });
            if message == b"close" {
                cx.send(*from, b"bye");
                cx.close(*from);
                let refused = pool.answer(cx, *from, Bytes::new);
                assert!(matches!(refused, Submitted::Refused(Refusal::Gone, _)));
            }
        }
    });
    let peer = rig.client();
    peer.capacity(0);
    peer.send(&frame(b"close"));
    rig.settle();
    // It is still there, as nobody reads; and takes nothing more.
    work_all(&hand);
    peer.capacity(100);
    rig.settle();
    peer.take();
    rig.settle();
    assert_eq!(ran.load(Ordering::Relaxed), 0);
}

#[test]
fn a_peer_that_has_ended_its_input_gets_what_is_owed() {
    let (mut rig, hand) = answering(Limits::default(), |pool| pool.jobs_per_connection(2));
    let peer = rig.client();
    let questions = [&b"a"[..], b"b", b"c", b"d", b"e"];
    peer.send(&frames(questions));
    peer.shut_down_writing();
    rig.settle();
    assert_eq!(rig.stats().open, 1);
    while hand.work_one() {
        assert!(!peer.sees_end());
        rig.settle();
    }
    assert_eq!(peer.take(), answers(questions));
    assert!(peer.sees_end());
    assert_eq!(rig.closes(), ["peer"]);
}

#[test]
fn a_job_that_panics_ends_its_connection_after_the_answers_before() {
    let (mut rig, hand) = answering(Limits::default(), |pool| pool);
    let (peer, other) = (rig.client(), rig.client());
    peer.send(&frames([&b"a"[..], b"!", b"b"]));
    other.send(&frame(b"other"));
    rig.settle();
    work_all(&hand);
    rig.settle();
    assert_eq!(peer.take(), answers([&b"a"[..]]));
    assert!(peer.sees_end());
    assert_eq!(other.take(), answers([&b"other"[..]]));
    assert_eq!(rig.closes(), ["panic"]);
    let counted = rig.stats().closes().find(|(name, _)| *name == "panic");
    assert_eq!(counted, Some(("panic", 1)));
}

#[test]
fn a_panic_of_a_connection_that_only_waits_for_answers_is_its_end_too() {
    let (mut rig, hand) = answering(Limits::default(), |pool| pool);
    let peer = rig.client();
    peer.send(&frames([&b"!"[..], b"b"]));
    peer.shut_down_writing();
    rig.settle();
    work_all(&hand);
    rig.settle();
    assert!(peer.sees_end() && peer.take().is_empty());
    assert_eq!(rig.closes(), ["panic"]);
}

#[test]
fn a_shutdown_waits_for_answers_and_takes_what_has_come_past_the_bound() {
    let (mut rig, hand) = answering(Limits::default(), |pool| pool.jobs_per_connection(2));
    let peer = rig.client();
    let questions: Vec<Vec<u8>> = (100..120u8).map(|n| vec![n]).collect();
    peer.send(&frames(questions.iter().map(Vec::as_slice)));
    rig.settle();
    assert_eq!(rig.stats().frames_in, 2);
    rig.cx().shutdown();
    assert_eq!(rig.settle(), Flow::Continue);
    rig.pass(Duration::from_secs(4));
    work_all(&hand);
    rig.settle();
    assert_eq!(peer.take(), answers(questions.iter().map(Vec::as_slice)));
    assert!(peer.sees_end());
    peer.shut_down_writing();
    assert_eq!(rig.settle(), Flow::Finished);
    assert_eq!((rig.reactor.shutdown_report().drained, rig.reactor.shutdown_report().cut), (1, 0));
}

#[test]
fn those_that_were_held_do_not_pass_the_bound_for_all_in_the_last_read_of_a_shutdown() {
    let (mut rig, hand) = answering(Limits::default(), |pool| pool.jobs_per_connection(2).jobs(6));
    let peers = [rig.client(), rig.client()];
    for peer in &peers {
        (0..100).for_each(|n| peer.send(&frame(&[n])));
    }
    rig.settle();
    assert_eq!(rig.stats().frames_in, 4, "each is at its own bound");
    rig.cx().shutdown();
    rig.settle();
    assert_eq!(rig.stats().frames_in, 7, "as many as may be, and one for the second");
    work_all(&hand);
    rig.settle();
    for (peer, answered) in peers.iter().zip([4, 3]) {
        let questions: Vec<_> = (0..answered).map(|n| [n]).collect();
        assert_eq!(peer.take(), answers(questions.iter().map(|question| &question[..])));
    }
}

#[test]
fn a_job_that_does_not_end_holds_a_shutdown_until_its_deadline() {
    let (mut rig, hand) = answering(Limits::default(), |pool| pool);
    let peer = rig.client();
    peer.send(&frame(b"a"));
    rig.settle();
    rig.cx().shutdown();
    assert_eq!(rig.settle(), Flow::Continue);
    assert_eq!(rig.pass(Duration::from_millis(4_999)), Flow::Continue);
    assert_eq!(rig.pass(Duration::from_millis(1)), Flow::Finished);
    assert_eq!(rig.reactor.shutdown_report().cut, 1);
    // Too late, and nobody minds.
    work_all(&hand);
    assert_eq!(rig.reactor.handle().try_run(|_, _| {}), Err(HandleError::Gone(())));
}

#[test]
fn what_an_owed_answer_delays_is_no_idleness() {
    let mut limits = Limits::default();
    limits.idle_timeout = Some(Duration::from_secs(1));
    let (mut rig, hand) = answering(limits, |pool| pool.jobs(1));
    let (peer, waits) = (rig.client(), rig.client());
    peer.send(&frame(b"slow"));
    rig.settle();
    waits.send(&frames([&b"a"[..], b"b"]));
    rig.settle();
    for _ in 0..10 {
        rig.pass(Duration::from_millis(900));
    }
    assert_eq!(rig.stats().open, 2);
    for _ in 0..3 {
        work_all(&hand);
        rig.settle();
    }
    assert_eq!((peer.take(), waits.take()), (answers([&b"slow"[..]]), answers([&b"a"[..], b"b"])));
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.closes(), ["idle_timeout"; 2], "from then on it is theirs");
}

#[test]
fn an_answer_that_the_framing_cannot_say_ends_the_connection() {
    struct Long(Pool<Long>);
    impl Handler for Long {
        type Codec = LengthPrefixed;
        type Session = ();
        fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, message: &[u8]) {
            let len = usize::from(message[0]) * 100;
            self.0.answer(cx, from, move || vec![7; len].into());
        }
    }
    let pool: Pool<Long> = Pool::<Long>::builder(0).build().unwrap();
    let hand = pool.share::<Long>();
    let codec = LengthPrefixed::builder().width(1).build().unwrap();
    let (world, mut reactor) = world_with(Long(pool), Limits::default(), codec);
    let peer = world.connect(0);
    peer.send(b"\x01\x01\x01\x03\x01\x01");
    for _ in 0..4 {
        reactor.turn(Some(Duration::ZERO)).unwrap();
        while hand.work_one() {}
    }
    assert_eq!(peer.take().len(), 101, "and not the third one in the place of the second");
    assert!(peer.sees_end());
}

#[test]
fn a_pool_that_gets_to_another_reactor_serves_that_one() {
    struct Asks(Pool<Asks>);
    impl Handler for Asks {
        type Codec = LengthPrefixed;
        type Session = ();
        fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, message: &[u8]) {
            let message = Bytes::copy_from_slice(message);
            self.0.answer(cx, from, move || message);
        }
    }
    let pool: Pool<Asks> = Pool::<Asks>::builder(0).build().unwrap();
    let hand = pool.share::<Asks>();
    let mut asks = Asks(pool);
    for _ in 0..2 {
        let (world, mut reactor) = world_with(asks, Limits::default(), LengthPrefixed::default());
        let peer = world.connect(0);
        peer.send(&frames([&b"a"[..], b"b"]));
        reactor.turn(Some(Duration::ZERO)).unwrap();
        reactor.turn(Some(Duration::ZERO)).unwrap();
        // The second one of the first reactor is left behind, and runs into nothing.
        assert!(hand.work_one());
        reactor.turn(Some(Duration::ZERO)).unwrap();
        assert_eq!(peer.take(), frame(b"a"));
        asks = reactor.into_handler();
        while hand.work_one() {}
    }
}

#[test]
fn one_that_waits_for_room_in_the_whole_is_not_idle_though_nothing_is_owed_to_it() {
    let mut limits = Limits::default();
    limits.idle_timeout = Some(Duration::from_secs(1));
    let (mut rig, hand) = answering(limits, |pool| pool.jobs(1));
    let peers = [rig.client(), rig.client(), rig.client()];
    for peer in &peers {
        peer.send(&frame(b"a"));
        rig.settle();
    }
    assert!(hand.work_one());
    rig.settle();
    assert_eq!(peers[0].take(), answers([&b"a"[..]]));
    // Two are before it still: it is held, and has nothing to wait for but room.
    for _ in 0..9 {
        rig.pass(Duration::from_millis(900));
    }
    assert_eq!(rig.stats().open, 3);
    work_all(&hand);
    rig.settle();
    // Its time begins now.
    rig.pass(Duration::from_millis(900));
    assert_eq!(rig.stats().open, 3);
    rig.pass(Duration::from_millis(200));
    assert_eq!(rig.closes(), ["idle_timeout"; 3]);
}
