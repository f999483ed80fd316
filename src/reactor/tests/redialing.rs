//! Connections that are dialed again when they have ended.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex};

use super::*;
use crate::net::mem::Answer;
use crate::{Dial, Reconnect};

const MS: Duration = Duration::from_millis(1);
const HOME: &str = "192.0.2.1:80";

fn codec() -> LengthPrefixed {
    LengthPrefixed::default()
}

/// 100 ms, 200 ms, 400 ms and so on, up to 1 s.
fn policy() -> Reconnect {
    let mut policy = Reconnect::default();
    policy.jitter_percent = 0;
    policy.delay_max = Duration::from_secs(1);
    policy
}

type Successors = Arc<Mutex<Vec<(ConnId, Option<ConnId>)>>>;

/// A rig that notes the successor of each connection that ends.
fn home_rig(limits: Limits, answer: Answer) -> (Rig, Successors) {
    let successors = Successors::default();
    let noted = Arc::clone(&successors);
    let rig = rig_with(limits, move |cx, event| {
        if let Event::Close(conn, _) | Event::DialFailed(conn) = event {
            noted.lock().unwrap().push((*conn, cx.successor(*conn)));
        }
    });
    rig.world.answers(HOME, answer);
    (rig, successors)
}

impl Rig {
    fn dial_home(&mut self) -> ConnId {
        let conn = self.cx().connect(Dial::to(HOME).reconnect(policy()), codec());
        self.settle();
        conn
    }

    /// The milliseconds at which dials began.
    fn moments(&self) -> Vec<u64> {
        self.world.dials().iter().map(|(at, _)| at.as_millis() as u64).collect()
    }

    /// Lets time pass, a millisecond at a time.
    fn pass_slowly(&mut self, ms: u32) {
        for _ in 0..ms {
            self.pass(MS);
        }
    }
}

#[test]
fn a_dial_that_fails_is_dialed_again_later_each_time() {
    let (mut rig, successors) = home_rig(Limits::default(), Answer::Fails(ErrorKind::ConnectionRefused));
    let first = rig.dial_home();
    rig.pass_slowly(3_800);
    assert_eq!(rig.moments(), [0, 100, 300, 700, 1_500, 2_500, 3_500]);
    let successors = successors.lock().unwrap();
    assert_eq!(successors.len(), 7);
    assert_eq!(successors[0].0, first);
    for pair in successors.windows(2) {
        assert_eq!(pair[0].1, Some(pair[1].0), "each has told of the next");
        assert_ne!(pair[0].0, pair[1].0, "and has a name of its own");
    }
    assert_eq!(rig.stats().dials_failed, 7);
}

#[test]
fn every_end_of_a_connection_leads_to_the_next_dial() {
    type End = fn(&mut Rig, &Peer);
    let ends: [(&str, End); 6] = [
        ("peer", |_, peer| peer.shut_down_writing()),
        ("reset", |_, peer| peer.reset()),
        ("bad_frame", |_, peer| peer.send(&[0xff; 8])),
        ("idle_timeout", |rig, _| {
            rig.pass(Duration::from_secs(5));
        }),
        ("slow_consumer", |rig, peer| {
            peer.capacity(0);
            let conn = rig.open()[0];
            for _ in 0..20 {
                rig.cx().send(conn, &[1; 1024 * 1024]);
            }
        }),
        ("io_error", |_, peer| peer.refuses(ErrorKind::HostUnreachable)),
    ];
    for (name, end) in ends {
        let mut limits = Limits::default();
        limits.idle_timeout = Some(Duration::from_secs(5));
        let (mut rig, successors) = home_rig(limits, Answer::Opens);
        let first = rig.dial_home();
        assert_eq!(rig.events(), [Event::Open(first)], "{name}");
        let peer = rig.world.dialed(HOME);
        end(&mut rig, &peer);
        rig.settle();
        let reason = if name == "bad_frame" { "frame_too_long" } else { name };
        assert!(rig.events().contains(&Event::Close(first, reason)), "{name}");
        let (ended, next) = successors.lock().unwrap()[0];
        assert_eq!(ended, first);
        rig.pass(100 * MS);
        assert_eq!(rig.events(), [Event::Open(next.unwrap())], "{name}");
        assert_eq!(rig.cx().successor(first), None, "known inside the callback only");
        assert!(!rig.cx().send(first, b"to the old one").is_queued());
    }
}

#[test]
fn what_is_sent_to_a_successor_waits_for_it() {
    let mut rig = rig(|cx, event| {
        if let Event::Close(conn, _) = event {
            let next = cx.successor(*conn).unwrap();
            assert!(cx.send(next, b"I am back").is_queued());
            *cx.session_mut(next).unwrap() = 5;
        }
    });
    rig.world.answers(HOME, Answer::Opens);
    rig.dial_home();
    rig.world.dialed(HOME).reset();
    rig.settle();
    rig.pass(100 * MS);
    assert_eq!(rig.world.dialed(HOME).take(), frame(b"I am back"));
    let conn = rig.open()[0];
    assert_eq!(rig.cx().session(conn), Some(&5));
}

#[test]
fn only_a_connection_that_was_stable_begins_anew() {
    let (mut rig, _) = home_rig(Limits::default(), Answer::Opens);
    rig.dial_home();
    // A server that takes connections and drops them is no better than one that refuses.
    for _ in 0..3 {
        rig.pass(50 * MS);
        rig.world.dialed(HOME).reset();
        rig.settle();
        rig.pass(Duration::from_secs(1));
    }
    let delays: Vec<_> = rig.moments().windows(2).map(|pair| pair[1] - pair[0]).collect();
    // The last pass let each dial be late: what counts is that the fourth dial has not come before its time.
    assert_eq!(delays.len(), 3);
    rig.world.dialed(HOME).reset();
    rig.settle();
    let since = rig.moments().len();
    rig.pass(799 * MS);
    assert_eq!(rig.moments().len(), since, "the delay has grown to 800 ms");
    rig.pass(MS);
    assert_eq!(rig.moments().len(), since + 1);
    rig.pass(Duration::from_secs(10));
    rig.world.dialed(HOME).reset();
    rig.settle();
    rig.pass(100 * MS);
    assert_eq!(rig.moments().len(), since + 2, "after ten good seconds it is the first one again");
}

#[test]
fn close_and_abort_end_the_row() {
    for abort in [false, true] {
        for stage in 0..3 {
            let answer = if stage == 1 { Answer::Silence } else { Answer::Opens };
            let (mut rig, successors) = home_rig(Limits::default(), answer);
            let mut conn = rig.dial_home();
            if stage == 2 {
                // While it waits for its time.
                rig.world.dialed(HOME).reset();
                rig.settle();
                conn = successors.lock().unwrap()[0].1.unwrap();
            }
            rig.events();
            if abort {
                rig.cx().abort(conn);
            } else {
                rig.cx().close(conn);
            }
            rig.settle();
            let close = Event::Close(conn, if abort { "aborted" } else { "local" });
            assert_eq!(rig.events(), [if stage == 0 { close } else { Event::DialFailed(conn) }]);
            assert_eq!(successors.lock().unwrap().last(), Some(&(conn, None)));
            rig.pass(Duration::from_secs(60));
            assert_eq!(rig.moments().len(), 1, "nothing is dialed any more");
            assert!(rig.cx().dials.is_empty());
        }
    }
}

#[test]
fn a_close_that_ends_in_a_reset_ends_the_row_all_the_same() {
    let (mut rig, _) = home_rig(Limits::default(), Answer::Opens);
    let conn = rig.dial_home();
    let peer = rig.world.dialed(HOME);
    peer.capacity(0);
    rig.cx().send(conn, b"it has to wait");
    rig.cx().close(conn);
    rig.settle();
    peer.reset();
    rig.settle();
    rig.pass(Duration::from_secs(60));
    assert_eq!(rig.moments().len(), 1);
    assert!(rig.cx().dials.is_empty());
}

#[test]
fn a_successor_can_be_closed_by_the_callback_that_learns_of_it() {
    let mut rig = rig(|cx, event| {
        if let Event::Close(conn, _) = event {
            let next = cx.successor(*conn).unwrap();
            cx.close(next);
        }
    });
    rig.world.answers(HOME, Answer::Opens);
    let first = rig.dial_home();
    rig.world.dialed(HOME).reset();
    rig.settle();
    rig.pass(Duration::from_secs(60));
    let events = rig.events();
    assert_eq!(events[..2], [Event::Open(first), Event::Close(first, "reset")]);
    assert!(matches!(events[2..], [Event::DialFailed(_)]), "one answer for it too");
    assert_eq!(rig.moments().len(), 1);
}

#[test]
fn a_shutdown_ends_the_row_wherever_it_stands() {
    for stage in 0..3 {
        let answer = if stage == 1 { Answer::Silence } else { Answer::Opens };
        let (mut rig, successors) = home_rig(Limits::default(), answer);
        rig.dial_home();
        if stage == 2 {
            rig.world.dialed(HOME).reset();
            rig.settle();
        }
        rig.cx().shutdown();
        rig.settle();
        rig.pass(Duration::from_secs(1));
        assert_eq!(rig.pass(Duration::from_secs(5)), Flow::Finished);
        assert_eq!(successors.lock().unwrap().last().unwrap().1, None);
        assert_eq!(rig.moments().len(), 1);
    }
}

#[test]
fn a_detached_connection_is_not_dialed_again() {
    let (mut rig, _) = home_rig(Limits::default(), Answer::Opens);
    let conn = rig.dial_home();
    assert!(rig.cx().detach(conn));
    rig.settle();
    rig.pass(Duration::from_secs(60));
    assert_eq!(rig.moments().len(), 1);
    assert!(rig.cx().dials.is_empty());
}

#[test]
fn a_name_is_looked_up_anew_and_one_that_fails_is_tried_again() {
    let (mut rig, _) = home_rig(Limits::default(), Answer::Opens);
    let dial = Dial::to("home:80").reconnect(policy());
    rig.cx().connect(dial, codec());
    rig.settle();
    assert_eq!(rig.failures(), ["cannot resolve \"home:80\": nobody knows that name"]);
    rig.world.knows("home", &["192.0.2.1"]);
    rig.pass(100 * MS);
    assert_eq!(rig.open().len(), 1);
    rig.world.knows("home", &["192.0.2.2"]);
    rig.world.dialed(HOME).reset();
    rig.settle();
    rig.pass(200 * MS);
    assert_eq!(rig.world.dials().last().unwrap().1, "192.0.2.2:80");
}

#[test]
fn text_that_is_no_address_is_not_tried_again() {
    let (mut rig, successors) = home_rig(Limits::default(), Answer::Opens);
    rig.cx().connect(Dial::to("nonsense").reconnect(policy()), codec());
    rig.settle();
    rig.pass(Duration::from_secs(60));
    assert_eq!(successors.lock().unwrap()[..].iter().map(|s| s.1).collect::<Vec<_>>(), [None]);
    assert_eq!(rig.stats().dials_failed, 1);
}

#[test]
fn a_row_of_dials_starts_each_connection_with_the_first_codec() {
    let mut rig = rig(|_, _| {});
    rig.world.answers(HOME, Answer::Opens);
    let conn = rig.dial_home();
    rig.cx().set_codec(conn, LengthPrefixed::builder().width(1).build().unwrap());
    rig.settle();
    rig.world.dialed(HOME).reset();
    rig.settle();
    rig.pass(100 * MS);
    let next = rig.open()[0];
    rig.cx().send(next, b"four bytes again");
    rig.settle();
    assert_eq!(rig.world.dialed(HOME).take(), frame(b"four bytes again"));
}

#[test]
fn jitter_leaves_out_up_to_its_part_and_differs_from_dial_to_dial() {
    let (mut rig, _) = home_rig(Limits::default(), Answer::Fails(ErrorKind::ConnectionRefused));
    let mut policy = Reconnect::default();
    policy.delay_max = 100 * MS;
    rig.cx().connect(Dial::to(HOME).reconnect(policy), codec());
    rig.settle();
    rig.pass_slowly(1_500);
    let moments = rig.moments();
    let delays: Vec<_> = moments.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(delays.len() >= 14 && delays.iter().all(|delay| (50..=101).contains(delay)), "{delays:?}");
    assert!(delays.iter().any(|delay| *delay != delays[0]), "{delays:?}");
}
