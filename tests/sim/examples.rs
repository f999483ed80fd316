//! The handlers of the examples, as they are.

use std::marker::PhantomData;
use std::time::Duration;

use mainspring::codec::{ByteCodec, LengthPrefixed, Lines, Raw, Varint};
use mainspring::workers::Pool;
use mainspring::{Limits, sim};

use super::frame;

#[allow(dead_code, reason = "the program around the handler")]
#[path = "../../examples/echo.rs"]
mod echo;

#[allow(dead_code, reason = "the program around the handler")]
#[path = "../../examples/broadcast.rs"]
mod broadcast;

#[allow(dead_code, reason = "the program around the handler")]
#[path = "../../examples/workers.rs"]
mod workers;

use broadcast::Broadcast;
use echo::Echo;

fn echoes<C: ByteCodec + 'static>(codec: C, wire: &[u8]) {
    sim::check_seeds(0..40, |world| {
        let server = world.reactor(Echo { codec: PhantomData });
        let at = server.listen("10.0.0.1:7000", codec.clone());
        let mut alice = world.dial(&at);
        alice.send(wire).expect(wire).expect_nothing();
        alice.send(wire).shut_down_writing().expect(wire).expect_end();
    });
}

#[test]
fn echo_sends_back_what_came_whatever_the_framing() {
    echoes(LengthPrefixed::default(), &[frame("one"), frame(""), frame(vec![7; 70_000])].concat());
    echoes(Varint::default(), &sim::encoded(&mut Varint::default(), &[3; 300]));
    echoes(Lines::default(), b"one\n\nthree\n");
    echoes(Raw, &[9; 30_000]);
}

#[test]
fn echo_does_not_read_a_client_that_does_not_read_and_serves_the_others() {
    sim::check_seeds(0..30, |world| {
        let server = world.reactor(Echo { codec: PhantomData });
        let at = server.listen("10.0.0.1:7000", LengthPrefixed::default());
        let mut deaf = world.dial(&at);
        deaf.stop_reading();
        let wire = frame(vec![5; 50_000]).repeat(100);
        deaf.send(&wire);
        world.settle();
        let held = server.stats().buffered_bytes;
        assert!(held < 3 << 20, "{held} bytes for one that does not read");
        world.dial(&at).send(frame("hi")).expect(frame("hi"));
        deaf.read_again().expect(&wire);
    });
}

#[test]
fn broadcast_reaches_everyone_or_all_others_in_one_order() {
    for others in [false, true] {
        sim::check_seeds(0..40, |world| {
            let server = world.reactor(Broadcast { others, codec: PhantomData });
            let at = server.listen("10.0.0.1:7000", LengthPrefixed::default());
            let mut room: Vec<_> = (0..4).map(|_| world.dial(&at)).collect();
            world.settle();
            let wire: Vec<u8> = (0..10u8).flat_map(|n| frame([n])).collect();
            room[0].send(&wire);
            for listener in &mut room[1..] {
                listener.expect(&wire);
            }
            if !others {
                room[0].expect(&wire);
            }
            room[0].expect_nothing();
        });
    }
}

#[test]
fn broadcast_closes_who_does_not_read_and_nobody_else_notices() {
    sim::check_seeds(0..20, |world| {
        let mut limits = Limits::default();
        limits.write_limit = 200_000;
        let server = world.reactor_within(limits, Broadcast { others: true, codec: PhantomData });
        let at = server.listen("10.0.0.1:7000", LengthPrefixed::default());
        let (mut speaker, mut deaf, mut other) = (world.dial(&at), world.dial(&at), world.dial(&at));
        deaf.stop_reading();
        world.settle();
        for n in 0..20u8 {
            let message = frame([n; 50_000]);
            speaker.send(&message);
            other.expect(&message);
        }
        let closes: Vec<_> = server.stats().closes().filter(|(_, count)| *count > 0).collect();
        assert_eq!(closes, [("slow_consumer", 1)]);
    });
}

#[test]
fn workers_answer_in_order_though_jobs_end_in_any() {
    sim::check_seeds(0..60, |world| {
        let pool = world.workers(Pool::<workers::Workers<LengthPrefixed>>::builder(3));
        let work = workers::Work { time: Duration::ZERO, vary: false };
        let server = world.reactor(workers::Workers { pool, work });
        let at = server.listen("10.0.0.1:7000", LengthPrefixed::default());
        let mut clients: Vec<_> = (0..3).map(|_| world.dial(&at)).collect();
        for client in &mut clients {
            client.send((0..9u8).flat_map(|n| frame([n])).collect::<Vec<_>>()).shut_down_writing();
        }
        for client in &mut clients {
            for n in 0..9u8 {
                client.expect(frame([&b"Echo: "[..], &[n]].concat()));
            }
            client.expect_end();
        }
    });
}
