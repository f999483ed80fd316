//! A test that fails tells how to see it again, and as little as is needed for it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mainspring::codec::Raw;
use mainspring::sim::{self, World};
use mainspring::{ConnId, Context, Handler};

/// Takes what one read brings for a message: wrong, and right in every calm test.
struct Hasty;

impl Handler for Hasty {
    type Codec = Raw;
    type Session = ();

    fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, bytes: &[u8]) {
        cx.send(from, if bytes == b"PING" { b"PONG" } else { b"WHAT" });
    }
}

fn ping(world: &World) {
    let server = world.reactor(Hasty);
    let at = server.listen("10.0.0.1:7000", Raw);
    let mut alice = world.dial(&at);
    for _ in 0..10 {
        alice.send("PING").expect("PONG");
    }
}

fn told(f: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(f)).expect_err("it fails");
    panic.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[test]
fn a_handler_that_is_wrong_about_reads_is_found_and_the_failure_is_one_cut() {
    let world = World::calm();
    ping(&world);
    world.end();
    let report = told(|| sim::check_seeds(0..100, ping));
    assert!(report.contains("tests/sim/failing.rs:"), "where it was found out: {report}");
    assert!(report.contains("1 things are enough for it"), "{report}");
    let line = report.split("replay(\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a line");
    assert_eq!(line.split_whitespace().count(), 2, "{line}");
    for _ in 0..3 {
        let again = told(|| sim::replay(line, ping));
        assert!(again.contains("\"WHAT"), "{again}");
    }
    let seed = line.split_whitespace().next().unwrap();
    sim::replay(&format!("{seed} none"), ping);
}

#[test]
fn what_is_left_at_the_end_fails_a_test_too() {
    struct Sticky;
    impl Handler for Sticky {
        type Codec = Raw;
        type Session = ();
        fn on_open(&mut self, cx: &mut Context<Self>, conn: ConnId) {
            cx.owe(conn);
        }
        fn on_message(&mut self, _: &mut Context<Self>, _: ConnId, _: &[u8]) {
            panic!("as the test wants it");
        }
    }
    let report = told(|| {
        sim::check_seeds(0..1, |world| {
            let server = world.reactor(Sticky);
            let at = server.listen("10.0.0.1:7000", Raw);
            world.dial(&at).send("x");
        });
    });
    assert!(report.contains("as the test wants it"), "{report}");
}

#[test]
fn a_seed_gives_the_same_world_again() {
    let run = |seed| {
        let world = World::new(seed);
        let server = world.reactor(Hasty);
        let at = server.listen("10.0.0.1:7000", Raw);
        let mut crowd = world.crowd(&at, 4, |roll, _| vec![1; roll.below(3_000)]);
        crowd.live(60);
        world.run_for(std::time::Duration::from_secs(1));
        let seen: Vec<_> = crowd.peers().map(|peer| (peer.take(), peer.ended(), peer.arrived())).collect();
        (seen, server.stats(), world.elapsed())
    };
    for seed in 0..10 {
        assert_eq!(run(seed), run(seed));
        assert_ne!(run(seed).1, run(seed + 1).1);
    }
}
