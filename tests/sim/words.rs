//! What the words of a test mean: each one in a calm world, and what it says when it is not met.

use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use mainspring::codec::Lines;
use mainspring::sim::{self, End, World};
use mainspring::{CloseReason, ConnId, Context, DialError, HandleError, Handler, Limits, Timer};

/// Answers lines; `later` after a second, `bye` by closing; tells what it was told.
#[derive(Default)]
struct Talker {
    told: Vec<String>,
}

impl Handler for Talker {
    type Codec = Lines;
    type Session = ();

    fn on_open(&mut self, _: &mut Context<Self>, conn: ConnId) {
        self.told.push(format!("open {conn}"));
    }
    fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, line: &[u8]) {
        match line {
            b"later" => drop(cx.after_for(from, Duration::from_secs(1), 7)),
            b"bye" => {
                cx.send(from, b"bye");
                cx.close(from);
            }
            b"abort" => cx.abort(from),
            _ => drop(cx.send(from, line)),
        }
    }
    fn on_timer(&mut self, cx: &mut Context<Self>, timer: Timer) {
        if let Some(conn) = timer.conn {
            cx.send(conn, b"now");
        }
    }
    fn on_close(&mut self, _: &mut Context<Self>, conn: ConnId, reason: CloseReason, (): ()) {
        self.told.push(format!("close {conn}: {}", reason.name()));
    }
    fn on_dial_failed(&mut self, _: &mut Context<Self>, _: ConnId, error: DialError, (): ()) {
        self.told.push(error.to_string());
    }
}

fn calm() -> (World, mainspring::sim::Server<Talker>, mainspring::Address) {
    let world = World::calm();
    let server = world.reactor(Talker::default());
    let at = server.listen("10.0.0.1:0", Lines::default());
    (world, server, at.address)
}

fn fails(f: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(f)).expect_err("it is not met");
    panic.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[test]
fn an_hour_of_the_worlds_time_costs_nothing() {
    let (world, _server, at) = calm();
    let mut alice = world.dial(&at);
    alice.send("later\n").expect_nothing();
    assert_eq!(world.elapsed(), Duration::ZERO, "a timer that lies ahead is nothing that is under way");
    alice.after(Duration::from_millis(999)).expect_nothing();
    alice.after(Duration::from_millis(1)).expect("now\n");
    alice.send("later\n").expect("now\n");
    assert_eq!(world.elapsed(), Duration::from_secs(2), "whoever waits jumps to what it waits for");
    world.run_for(Duration::from_secs(3_600));
    alice.send("still\n").expect("still\n");
    world.end();
}

#[test]
fn an_expectation_that_is_not_met_says_what_came() {
    let (world, _server, at) = calm();
    world.patience(Duration::from_secs(1));
    let mut alice = world.dial(&at);
    let said = fails(|| {
        alice.send("one\n").expect("two\n");
    });
    assert!(said.ends_with("expected \"two\\n\", and \"one\\n\" came"), "{said}");
    let said = fails(|| {
        alice.expect("one\ntwo\n");
    });
    assert!(said.ends_with("\"one\\n\" came"), "{said}");
    let said = fails(|| {
        alice.expect_nothing();
    });
    assert!(said.contains("expected nothing, and \"one\\n\" came"), "{said}");
    let said = fails(|| {
        alice.expect("one\n").expect_end();
    });
    assert!(said.contains("it was None"), "{said}");
    let said = fails(|| {
        alice.send("bye\n").expect("bye\nagain\n");
    });
    assert!(said.contains("\"bye\\n\" came, then the end"), "{said}");
    world.end();
}

#[test]
fn ends_are_told_apart() {
    let (world, server, at) = calm();
    let mut alice = world.dial(&at);
    alice.send("bye\nignored\n").expect("bye\n").expect_end();
    assert_eq!(alice.ended(), Some(End::InOrder));
    world.dial(&at).send("abort\n").expect_reset();
    world.dial("10.9.9.9:1").expect_reset();
    world.dial(&at).send("half").shut_down_writing().expect("half\n").expect_end();
    world.dial(&at).send("a\n").expect("a\n").reset();
    let mut gone = world.dial(&at);
    gone.send("later\n").close();
    world.settle();
    let told: Vec<_> =
        server.handler().told.iter().filter(|told| told.starts_with("close")).cloned().collect();
    let reasons: Vec<_> = told.iter().filter_map(|told| told.split(": ").nth(1)).collect();
    assert_eq!(reasons, ["local", "aborted", "peer", "reset", "peer"]);
    world.end();
}

#[test]
fn whoever_does_not_read_is_waited_for() {
    let (world, server, at) = calm();
    let mut alice = world.dial(&at);
    alice.room(10).stop_reading().send("0123456789abcdef\n").expect_nothing();
    assert!(server.stats().buffered_bytes > 0);
    alice.read_again().expect("0123456789abcdef\n").expect_nothing();
    assert_eq!(server.stats().buffered_bytes, 0);
    alice.send_in_pieces("pieces\n", 1).expect("pieces\n");
    assert_eq!(alice.arrived(), 24);
    world.end();
}

#[test]
fn reactors_reach_peers_and_each_other() {
    let (world, server, at) = calm();
    let mut door = world.listen("10.0.0.9:80");
    let [near, far] = ["10.0.0.9", "10.0.0.8"].map(|text| text.parse::<IpAddr>().unwrap());
    world.name("far.example", &[far, near]);
    let conn = server.connect("far.example:80", Lines::default());
    let mut peer = door.accept();
    peer.send("hello\n").expect("hello\n");
    server.with(|cx| cx.send(conn, b"from the test"));
    peer.expect("from the test\n").shut_down_writing().expect_end();

    let other = world.reactor(Talker::default());
    let conn = other.connect(&at, Lines::default());
    other.with(|cx| cx.send(conn, b"bye"));
    world.settle();
    assert!(server.handler().told.iter().any(|told| told.ends_with("local")));
    assert_eq!(other.stats().closed, 1, "{:?}", other.handler().told);
    assert_eq!(other.stats().frames_in, 1);

    world.silent("10.0.0.7:80");
    for to in ["10.0.0.6:80", "10.0.0.7:80", "nobody.example:80"] {
        other.connect(to, Lines::default());
    }
    world.name_hangs("slow.example");
    other.connect("slow.example:80", Lines::default());
    world.run_for(Duration::from_secs(11));
    assert_eq!(other.stats().dials_failed, 4, "{:?}", other.handler().told);
    world.end();
}

#[test]
fn handles_work_as_from_another_thread() {
    let (world, server, at) = calm();
    let handle = server.handle();
    let mut alice = world.dial(&at);
    world.settle();
    let all = mainspring::To::All;
    handle.broadcast(all, "to all".into()).unwrap();
    alice.expect("to all\n");
    let report = server.shut_down();
    assert_eq!((report.drained, report.cut), (1, 0));
    alice.expect_end();
    assert!(matches!(handle.run(|_, _| {}), Err(HandleError::Gone(_))));
    world.end();
}

#[test]
fn limits_and_deadlines_are_those_of_the_reactor() {
    let world = World::calm();
    let mut limits = Limits::default();
    limits.idle_timeout = Some(Duration::from_secs(60));
    limits.connections_max = Some(2);
    let server = world.reactor_within(limits, Talker::default());
    let at = server.listen("10.0.0.1:7000", Lines::default());
    let (mut alice, mut bob) = (world.dial(&at), world.dial(&at));
    world.settle();
    world.dial(&at).expect_end();
    alice.after(Duration::from_secs(59)).send("awake\n").expect("awake\n");
    bob.after(Duration::from_secs(1)).expect_end();
    alice.expect_nothing();
    world.end();
}

#[test]
fn the_last_reply_is_not_eaten_by_what_was_not_read() {
    sim::check_seeds(0..40, |world| {
        let server = world.reactor(Talker::default());
        let at = server.listen("10.0.0.1:7000", Lines::default());
        let mut alice = world.dial(&at);
        // More than one read takes, and more than fits between.
        alice.send("bye\n").send("x".repeat(1 << 20)).expect("bye\n").expect_end();
    });
}

#[test]
fn two_listeners_do_not_share_an_address() {
    let (world, server, at) = calm();
    let other = world.reactor(Talker::default());
    let said = fails(|| {
        other.listen(&at, Lines::default());
    });
    assert!(said.contains("cannot listen"), "{said}");
    let any = server.listen("0.0.0.0:7001", Lines::default());
    assert_eq!(any.to_string(), "0.0.0.0:7001");
    world.dial("10.1.2.3:7001").send("hi\n").expect("hi\n");
    world.end();
}
