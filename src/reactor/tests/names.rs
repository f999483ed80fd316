//! Dials to names: what looking up costs, and whom.

use super::dialing::{V4, V6, named_rig};
use super::*;
use crate::Dial;
use crate::net::mem::Answer;

#[test]
fn a_name_that_hangs_holds_up_no_other_dial_and_ends_in_time() {
    let mut rig = named_rig();
    rig.world.hangs("slow");
    rig.world.answers(V6, Answer::Opens);
    let slow = rig.dial("slow:80");
    let fast = rig.dial("server:80");
    assert_eq!(rig.events(), [Event::Open(fast)]);
    rig.pass(Duration::from_secs(10));
    assert_eq!(rig.events(), [Event::DialFailed(slow)]);
    assert_eq!(rig.failures(), ["no answer in time: the name was still being looked up"]);
    assert_eq!(rig.world.given_up(), 1, "nobody waits for it");
    rig.world.knows("slow", &["192.0.2.9"]);
    rig.settle();
    assert!(rig.events().is_empty(), "an answer that comes too late is none");
}

#[test]
fn a_name_that_was_found_slowly_has_what_is_left_of_the_time() {
    let mut rig = named_rig();
    rig.world.hangs("slow");
    let conn = rig.dial("slow:80");
    rig.pass(Duration::from_secs(9));
    rig.world.knows("slow", &["192.0.2.1"]);
    rig.settle();
    assert_eq!(rig.dialed(), [(9_000, V4.to_owned())]);
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.events(), [Event::DialFailed(conn)]);
    assert_eq!(rig.failures(), [format!("no answer in time: {V4}: no answer")]);

    // Found in the very turn of the deadline: one answer.
    rig.world.hangs("slower");
    let conn = rig.dial("slower:80");
    rig.world.advance(Duration::from_secs(10));
    rig.world.knows("slower", &["192.0.2.1"]);
    rig.settle();
    assert_eq!(rig.events(), [Event::DialFailed(conn)]);
    rig.expect_nothing_left();
}

#[test]
fn what_cannot_be_dialed_fails_once_and_from_the_loop() {
    let mut rig = named_rig();
    for (to, why) in [
        (Dial::to("nowhere"), "\"nowhere\" is no address: HOST:PORT, [IPV6]:PORT or unix:PATH is"),
        (Dial::to("unknown:80"), "cannot resolve \"unknown:80\": nobody knows that name"),
        (Dial::from(Vec::new()), "there is no address to dial"),
    ] {
        let conn = rig.dial(to);
        assert_eq!(rig.events(), [Event::DialFailed(conn)]);
        assert_eq!(rig.failures(), [why]);
    }
    rig.expect_nothing_left();
}
