//! A pool that starts and stops, over and over. Alone in its process, whose descriptors and threads it counts.

#![allow(clippy::unwrap_used, reason = "what a test's helper cannot do has failed the test")]

#[path = "common/reactor.rs"]
mod common;

use std::thread;

use common::*;
use mainspring::codec::LengthPrefixed;
use mainspring::pool::{Balance, ReactorPool};

/// What the process has open, and how many threads it has, where the system tells.
fn holds() -> (usize, usize) {
    let count = |folder| std::fs::read_dir(folder).map_or(0, Iterator::count);
    (count("/proc/self/fd"), count("/proc/self/task"))
}

#[test]
fn a_thousand_starts_and_stops_leave_nothing_behind() {
    // tokio-rs/tokio#2119: a worker that slept for ever, because a shutdown came between its look and its sleep.
    let begin = now();
    let before = holds();
    // In Wine, where Windows is tried, one process serves every call.
    for round in 0..if cfg!(windows) { 30 } else { 1_000 } {
        let balance = if round % 2 == 0 { Balance::Auto } else { Balance::HandOut };
        let builder = ReactorPool::<Tester>::builder().reactors(2 + round % 3).balance(balance);
        let mut pool = builder.build(|_| Tester::new(echo).0).unwrap();
        let listening = pool.listen("127.0.0.1:0", LengthPrefixed::default()).unwrap();
        let handle = pool.handle();
        let running = pool.start().unwrap();
        // Some end before their threads have taken a turn, some while a client is on its way to them.
        match round % 4 {
            0 => {}
            1 => expect_echo(&connect(listening.address.ip().unwrap()), b"hi"),
            2 => drop(connect(listening.address.ip().unwrap())),
            _ => thread::yield_now(),
        }
        match round % 5 {
            0 => handle.shutdown(),
            1 => handle.of(0).unwrap().shutdown(),
            2 => handle.of(1).unwrap().shutdown(),
            3 => running.shutdown(),
            _ => {
                drop(running);
                assert!(handle.is_gone());
                continue;
            }
        }
        let end = running.join().unwrap();
        assert_eq!((end.report.cut, end.total().open), (0, 0));
    }
    // Some two seconds. Had one of them slept, it would not have ended.
    assert!(now() - begin < 3 * PATIENCE, "{:?}", now() - begin);
    // The last threads may not have left the system's list yet.
    wait_for("nothing to be left", || (holds() == before).then_some(()));
}
