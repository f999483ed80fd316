//! Dials: names, the race of their addresses, and one answer for each.

use std::io::ErrorKind;

use super::*;
use crate::Dial;
use crate::error::AttemptError;
use crate::net::mem::{Answer, Dropped};
use crate::net::{Readiness, Source};

const MS: Duration = Duration::from_millis(1);
pub(super) const V6: &str = "[2001:db8::1]:80";
pub(super) const V4: &str = "192.0.2.1:80";
const OTHER: &str = "192.0.2.2:80";

fn codec() -> LengthPrefixed {
    LengthPrefixed::default()
}

/// A rig that knows a name with an address of each family.
pub(super) fn named_rig() -> Rig {
    let rig = rig(|_, _| {});
    rig.world.knows("server", &["2001:db8::1", "192.0.2.1"]);
    rig
}

impl Rig {
    pub(super) fn dial(&mut self, to: impl Into<Dial>) -> ConnId {
        let conn = self.cx().connect(to, codec());
        assert!(self.events().is_empty(), "not from inside the call");
        self.settle();
        conn
    }

    /// When dials began, in milliseconds, and where to.
    pub(super) fn dialed(&self) -> Vec<(u64, String)> {
        self.world.dials().into_iter().map(|(at, address)| (at.as_millis() as u64, address)).collect()
    }

    /// Asserts that nothing of a dial is left but its connection.
    pub(super) fn expect_nothing_left(&mut self) {
        assert!(self.cx().dials.is_empty(), "{:?}", self.cx().dials);
        self.pass(Duration::from_secs(3)); // free buffers are looked over
        self.pass(Duration::from_secs(3));
        assert_eq!(self.cx().timers.len(), 0);
        assert!(self.events().is_empty(), "nothing comes after the answer");
    }
}

#[test]
fn each_address_has_a_quarter_of_a_second_before_the_next_is_tried() {
    let mut rig = named_rig();
    rig.world.knows("server", &["2001:db8::1", "2001:db8::2", "192.0.2.1", "192.0.2.2"]);
    rig.dial("server:80");
    rig.pass(249 * MS);
    assert_eq!(rig.dialed(), [(0, V6.to_owned())]);
    rig.pass(MS);
    for _ in 0..3 {
        rig.pass(250 * MS);
    }
    let order = [V6, V4, "[2001:db8::2]:80", OTHER];
    let expected: Vec<_> =
        order.iter().zip([0, 250, 500, 750]).map(|(a, at)| (at, (*a).to_owned())).collect();
    assert_eq!(rig.dialed(), expected, "both families by turns, and each once");
}

#[test]
fn the_next_address_is_tried_at_once_when_one_has_failed() {
    let mut rig = named_rig();
    rig.world.answers(V6, Answer::FailsAtOnce(ErrorKind::NetworkUnreachable));
    rig.world.answers(V4, Answer::Opens);
    let conn = rig.dial("server:80");
    assert_eq!(rig.dialed(), [(0, V6.to_owned()), (0, V4.to_owned())]);
    assert_eq!(rig.events(), [Event::Open(conn)]);

    // And when it has failed a little later.
    rig.world.answers(V6, Answer::Silence);
    let conn = rig.dial("server:80");
    rig.pass(7 * MS);
    rig.world.dialed(V6).refuses(ErrorKind::ConnectionRefused);
    rig.settle();
    assert_eq!(rig.dialed()[2..], [(0, V6.to_owned()), (7, V4.to_owned())]);
    assert_eq!(rig.events(), [Event::Open(conn)]);
    rig.cx().abort(conn);
    rig.settle();
}

#[test]
fn a_failure_beside_an_attempt_without_an_answer_lets_the_next_begin_at_once() {
    let mut rig = named_rig();
    rig.world.knows("server", &["2001:db8::1", "192.0.2.1", "192.0.2.2"]);
    rig.dial("server:80");
    rig.pass(250 * MS);
    rig.pass(3 * MS);
    rig.world.dialed(V6).refuses(ErrorKind::ConnectionRefused);
    rig.settle();
    assert_eq!(rig.dialed(), [(0, V6.to_owned()), (250, V4.to_owned()), (253, OTHER.to_owned())]);
}

#[test]
fn the_first_to_answer_is_taken_and_the_others_are_dropped() {
    let mut rig = named_rig();
    let conn = rig.cx().connect("server:80", codec());
    assert!(rig.cx().send(conn, b"queued before").is_queued());
    assert_eq!(rig.cx().session_mut(conn).map(|session| std::mem::replace(session, 7)), Some(0));
    rig.settle();
    assert_eq!(rig.cx().peer_addr(conn), None, "nobody knows yet");
    rig.pass(250 * MS);
    let (v6, v4) = (rig.world.dialed(V6), rig.world.dialed(V4));
    v4.accepts();
    rig.settle();
    assert_eq!(rig.events(), [Event::Open(conn)], "by the name that connect gave");
    assert_eq!(v4.take(), frame(b"queued before"));
    assert_eq!(rig.cx().session(conn), Some(&7), "the session is the same");
    assert_eq!(rig.cx().peer_addr(conn).map(ToString::to_string).as_deref(), Some(V4));
    assert!(v6.dropped().is_some());
    v6.accepts(); // too late
    v4.send(&frame(b"hello"));
    rig.settle();
    assert_eq!(rig.events(), [Event::Message(conn, b"hello".to_vec())]);
    let stats = rig.stats();
    assert_eq!((stats.connected, stats.dials_failed), (1, 0));
    rig.cx().abort(conn);
    rig.settle();
    rig.events();
    rig.expect_nothing_left();
}

#[test]
fn two_answers_in_one_batch_are_one_connection() {
    for first in [V6, V4] {
        let mut rig = named_rig();
        let conn = rig.dial("server:80");
        rig.pass(250 * MS);
        let last = if first == V6 { V4 } else { V6 };
        rig.world.dialed(first).accepts();
        rig.world.dialed(last).accepts();
        rig.settle();
        assert_eq!(rig.events(), [Event::Open(conn)]);
        assert_eq!(rig.cx().peer_addr(conn).map(ToString::to_string).as_deref(), Some(first));
        assert_eq!(rig.world.dialed(last).dropped(), Some(Dropped::InOrder));
        assert_eq!(rig.world.dialed(first).dropped(), None);
    }
}

#[test]
fn a_failure_names_each_address_and_why() {
    let mut rig = named_rig();
    rig.world.answers(V6, Answer::Fails(ErrorKind::ConnectionRefused));
    rig.world.answers(V4, Answer::FailsAtOnce(ErrorKind::HostUnreachable));
    let conn = rig.dial("server:80");
    assert_eq!(rig.events(), [Event::DialFailed(conn)]);
    assert_eq!(rig.failures(), [format!("{V6}: connection refused; {V4}: host unreachable")]);
    assert_eq!(rig.stats().dials_failed, 1);
    rig.expect_nothing_left();
}

#[test]
fn a_dial_without_an_answer_ends_in_time_whatever_is_tried() {
    let mut rig = named_rig();
    rig.world.answers(V6, Answer::Fails(ErrorKind::ConnectionRefused));
    let conn = rig.dial(Dial::to("server:80").within(300 * MS));
    rig.pass(299 * MS);
    assert!(rig.events().is_empty());
    rig.pass(MS);
    assert_eq!(rig.events(), [Event::DialFailed(conn)]);
    assert_eq!(rig.failures(), [format!("no answer in time: {V6}: connection refused; {V4}: no answer")]);
    assert!(rig.world.dialed(V4).dropped().is_some());
    rig.expect_nothing_left();
}

#[test]
fn many_addresses_share_a_short_time() {
    let mut rig = named_rig();
    rig.dial(Dial::to("server:80").within(300 * MS));
    rig.pass(150 * MS);
    assert_eq!(rig.dialed(), [(0, V6.to_owned()), (150, V4.to_owned())]);
}

#[test]
fn an_answer_in_the_turn_of_the_deadline_is_an_answer() {
    for opens in [true, false] {
        let mut rig = named_rig();
        let conn = rig.dial(V4);
        rig.world.advance(Duration::from_secs(10));
        if opens {
            rig.world.dialed(V4).accepts();
        } else {
            rig.world.dialed(V4).refuses(ErrorKind::ConnectionRefused);
        }
        rig.settle();
        let answer = if opens { Event::Open(conn) } else { Event::DialFailed(conn) };
        assert_eq!(rig.events(), [answer], "exactly one, and I/O comes first");
        if opens {
            rig.cx().abort(conn);
            rig.settle();
            rig.events();
        } else {
            assert!(rig.failures()[0].contains("refused"));
        }
        rig.expect_nothing_left();
    }
}

#[test]
fn an_address_that_is_due_in_the_turn_of_the_deadline_changes_nothing() {
    let mut rig = named_rig();
    let conn = rig.dial(Dial::to("server:80").within(20 * MS));
    rig.pass(20 * MS);
    assert_eq!(rig.events(), [Event::DialFailed(conn)]);
    rig.expect_nothing_left();
}

#[test]
fn a_dial_that_is_closed_has_one_answer_wherever_it_stands() {
    for abort in [false, true] {
        for stage in 0..4 {
            let mut rig = named_rig();
            rig.world.hangs("slow");
            let conn = rig.dial(if stage == 0 { "slow:80" } else { "server:80" });
            if stage > 1 {
                rig.pass(250 * MS);
            }
            if stage == 3 {
                // The answer is on its way.
                rig.world.dialed(V6).accepts();
            }
            if abort {
                rig.cx().abort(conn);
            } else {
                rig.cx().close(conn);
            }
            assert!(rig.events().is_empty(), "not from inside the call");
            assert!(!rig.cx().is_open(conn));
            rig.settle();
            assert_eq!(rig.events(), [Event::DialFailed(conn)]);
            assert_eq!(rig.failures(), ["cancelled"]);
            assert_eq!(rig.world.given_up(), usize::from(stage == 0));
            assert_eq!(rig.dialed().len(), [0, 1, 2, 2][stage]);
            for (_, address) in rig.dialed() {
                assert!(rig.world.dialed(&address).dropped().is_some());
            }
            rig.expect_nothing_left();
        }
    }
}

#[test]
fn a_dial_that_is_closed_in_the_turn_of_its_deadline_has_one_answer() {
    let mut rig = rig(|cx, event| {
        if let Event::Timer(slot) = event {
            let conn = cx.table.all().find(|conn| u64::from(conn.slot) == *slot);
            conn.into_iter().for_each(|conn| cx.close(conn));
        }
    });
    for before in [true, false] {
        let wait = Duration::from_secs(10);
        let slot = u64::from(rig.cx().table.next_id().slot);
        if before {
            rig.cx().after(wait, slot);
        }
        let conn = rig.dial(V4);
        if !before {
            rig.cx().after(wait, slot);
        }
        rig.pass(wait);
        let failed = rig.events().into_iter().filter(|event| *event == Event::DialFailed(conn)).count();
        assert_eq!(failed, 1);
        assert_eq!(rig.failures()[0].contains("in time"), !before, "the first cause wins");
    }
}

#[test]
fn a_socket_that_met_itself_was_refused_and_does_not_hold_the_port() {
    let mut rig = rig(|_, _| {});
    rig.world.answers(V4, Answer::Itself);
    rig.world.answers(OTHER, Answer::Opens);
    let both = vec![V4.parse().unwrap(), OTHER.parse().unwrap()];
    let conn = rig.dial(both);
    assert_eq!(rig.world.dialed(V4).dropped(), Some(Dropped::ByReset));
    assert_eq!(rig.events(), [Event::Open(conn)], "the next address is tried");
    let conn = rig.dial(V4);
    assert_eq!(rig.events(), [Event::DialFailed(conn)]);
    let error = &rig.reactor.handler().failures[0];
    assert!(matches!(&error.attempts()[0].error, AttemptError::Itself), "{error}");
    assert_eq!(error.attempts()[0].error.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn an_event_that_says_nothing_leaves_a_dial_as_it_is() {
    let mut rig = rig(|_, _| {});
    let conn = rig.dial(V4);
    rig.world.dialed(V4).stirs();
    rig.settle();
    assert!(rig.events().is_empty());
    rig.world.dialed(V4).accepts();
    rig.settle();
    assert_eq!(rig.events(), [Event::Open(conn)]);
}

#[test]
fn an_event_of_an_attempt_of_the_past_reaches_nobody() {
    let mut rig = named_rig();
    let conn = rig.dial("server:80");
    let stale = rig.world.dialed(V6).source().unwrap();
    assert!(matches!(stale, Source::Attempt(_)));
    rig.cx().close(conn);
    rig.settle();
    assert_eq!(rig.events(), [Event::DialFailed(conn)]);
    rig.dial("server:80");
    rig.world.inject(stale, Readiness::WRITABLE.and(Readiness::ERROR));
    // Nor does one that claims to be of the connection itself: that has no socket yet.
    for slot in 0..4 {
        for generation in 0..4 {
            rig.world.inject(Source::Connection(slot, generation), Readiness::WRITABLE.and(Readiness::ERROR));
        }
    }
    rig.settle();
    assert!(rig.events().is_empty());
    assert!(rig.stats().stale_events > 0);
}

#[test]
fn what_a_peer_has_sent_with_its_answer_is_not_lost() {
    let mut rig = echo_rig(Limits::default());
    let conn = rig.dial(V4);
    let peer = rig.world.dialed(V4);
    peer.accepts();
    peer.send(&frame(b"at once"));
    peer.shut_down_writing();
    rig.settle();
    assert_eq!(
        rig.events(),
        [
            Event::Open(conn),
            Event::Message(conn, b"at once".to_vec()),
            Event::HalfClose(conn),
            Event::Close(conn, "peer"),
        ]
    );
    assert_eq!(peer.take(), frame(b"at once"));
    assert!(peer.sees_end());
}

#[test]
fn a_dial_may_be_answered_within_the_callback_that_began_another() {
    let mut rig = rig(|cx, event| {
        if let Event::Open(_) | Event::DialFailed(_) = event {
            if cx.stats().connected + cx.stats().dials_failed < 6 {
                cx.connect(if cx.stats().connected % 2 == 0 { V4 } else { "nonsense" }, codec());
            }
        }
    });
    rig.world.answers(V4, Answer::Opens);
    rig.cx().connect(V4, codec());
    rig.settle();
    let stats = rig.stats();
    assert_eq!(stats.connected + stats.dials_failed, 6, "{stats:?}");
    assert_eq!(rig.events().len(), 6);
}

#[test]
fn a_dial_that_is_sent_too_much_says_so() {
    let mut limits = Limits::default();
    (limits.high_mark, limits.low_mark, limits.write_limit) = (1_000, 100, 2_000);
    let mut rig = rig_with(limits, |_, _| {});
    let conn = rig.dial(V4);
    for _ in 0..4 {
        rig.cx().send(conn, &[1; 1_000]);
    }
    rig.settle();
    assert_eq!(rig.events(), [Event::DialFailed(conn)]);
    assert_eq!(rig.failures(), ["more waited to be sent to it than may wait"]);
    assert_eq!(rig.stats().buffered_bytes, 0);
    rig.expect_nothing_left();
}

#[test]
fn a_shutdown_cancels_dials_wherever_they_stand() {
    let mut rig = named_rig();
    rig.world.hangs("slow");
    rig.dial("slow:80");
    rig.dial("server:80");
    rig.dial(Dial::to(OTHER).reconnect(crate::Reconnect::default()));
    rig.cx().shutdown();
    assert_eq!(rig.settle(), Flow::Finished);
    assert_eq!(rig.failures(), ["cancelled"; 3]);
    assert!(rig.cx().dials.is_empty());
    assert_eq!(rig.world.given_up(), 1);
}

#[test]
fn a_dial_that_nobody_waits_for_ends_with_the_reactor() {
    let mut rig = named_rig();
    rig.dial("server:80");
    let peer = rig.world.dialed(V6);
    drop(rig);
    assert!(peer.dropped().is_some());
}
