//! Many clients come, talk, stall, drip, reset, half-close and go, at random from a seed that is printed; afterwards the
//! books of the server balance, and nothing of anyone is left.
//!
//! Without more it takes two seconds for each mood of the server, with 200 clients at a time. The long form, with 2,000:
//!
//! ```text
//! SOAK_SECONDS=60 cargo test --release --test soak -- --nocapture
//! ```
//!
//! `SOAK_SEED` gives the same clients again, though not the same times. `SOAK_CLIENTS` changes how many there are.
#![allow(clippy::unwrap_used, reason = "what a test's helper cannot do has failed the test")]

mod clients;
#[path = "../common/reactor.rs"]
mod common;
mod script;
mod server;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clients::{Clients, End, Verdict};
use common::{A_WHILE, now, wait_for};
use mainspring::Stats;
use server::{Books, Mood, Server, limits};

/// One at a time: each counts the descriptors of the whole process.
static ALONE: Mutex<()> = Mutex::new(());

fn number_in(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")))
}

/// The seed asked for, or another one each time.
fn seed() -> u64 {
    let seed = number_in("SOAK_SEED").unwrap_or_else(|| RandomState::new().hash_one(()) % 1_000_000);
    println!("SOAK_SEED={seed}");
    seed
}

/// As many clients as the process may have descriptors for: each has two ends here.
fn clients_for(wanted: usize) -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    let most = soft.map_or(400, |soft| soft.saturating_sub(100) / 3);
    if most < wanted {
        println!("only {most} clients, for want of descriptors: `ulimit -n` raises that");
    }
    wanted.min(most)
}

/// The descriptors that this process has open, where the system tells.
fn descriptors() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count())
}

/// Memory of this process that is there, in KiB, where the system tells.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// What is told of a context: how many timers there are.
fn timers(context: &str) -> u64 {
    let (_, behind) = context.split_once("timers: ").expect("it tells of its timers");
    behind
        .split(|c: char| !c.is_ascii_digit())
        .next()
        .and_then(|number| number.parse().ok())
        .expect("a number")
}

fn books_balance(stats: &Stats) -> bool {
    stats.accepted + stats.connected == stats.open + stats.closed
}

/// Whether what a client has seen of its end goes with the reason that the server had.
fn goes_with(verdict: &Verdict, reason: &str, mood: Mood) -> bool {
    let in_order = verdict.end == End::InOrder && verdict.whole;
    match reason {
        _ if verdict.end == End::Left => true,
        // All that was asked was answered, and all answers have come.
        "peer" | "truncated" => in_order && verdict.all_complete,
        // In haste, too many linger, and some of them are reset.
        "local" | "frame_too_long" => mood == Mood::Hasty || (in_order && verdict.echoes_complete),
        "aborted" | "reset" | "slow_consumer" | "memory_limit" | "shutdown" => true,
        "idle_timeout" | "first_message_timeout" | "frame_timeout" | "write_timeout" => mood == Mood::Hasty,
        _ => false,
    }
}

/// Holds what the reactor, its handler and the clients have counted against each other.
fn compare(stats: &Stats, books: &Books, verdicts: &[Verdict], mood: Mood) {
    assert!(books_balance(stats), "{stats:?}");
    assert_eq!((stats.open, stats.buffered_bytes), (0, 0), "{stats:?}");
    assert_eq!(books.opened, stats.closed, "each that was opened is closed");
    assert_eq!(books.messages, stats.frames_in);
    assert_eq!(stats.connected + stats.dials_failed, books.dials_begun);
    assert_eq!(stats.dials_failed, books.dials_failed);
    let closes: BTreeMap<_, _> = stats.closes().filter(|(_, count)| *count > 0).collect();
    assert_eq!(closes, books.closed, "the handler was told the reasons that were counted");
    assert_eq!(closes.values().sum::<u64>(), stats.closed);
    let arrived: u64 = verdicts.iter().map(|verdict| u64::from(verdict.frames)).sum();
    let out = stats.frames_out;
    assert!(arrived <= out && out <= books.queued, "{arrived} came of {out} sent of {} queued", books.queued);

    let mut ends = BTreeMap::<_, u64>::new();
    for verdict in verdicts {
        *ends.entry(format!("{:?}", verdict.end)).or_default() += 1;
        if let Some(reason) = books.ends.get(&verdict.number) {
            assert!(goes_with(verdict, reason, mood), "closed for {reason}, but {verdict:?}");
        }
    }
    println!("{} clients: {ends:?}, {arrived} frames", verdicts.len());
    println!("{stats:?}");
    println!("{closes:?}, at most {} bytes held", books.buffered_max);
}

/// Lets clients come and go for so long, then go, and looks at what is left.
fn soak(mood: Mood, wanted: usize, time: Duration) -> Stats {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let seed = seed();
    let count = clients_for(wanted);
    let (descriptors_before, resident_before) = (descriptors(), resident());

    let mut server = Server::start(limits(mood, count), seed);
    let mut clients = Clients::new(server.address, seed, count);
    let begin = now();
    clients.run(begin + time / 4, false, || server.has_ended());
    let resident_early = resident();
    clients.run(begin + time, false, || server.has_ended());
    let resident_late = resident();
    if !server.has_ended() {
        server.hush();
        clients.run(begin + time, true, || server.has_ended());
    }
    if !server.has_ended() {
        let stats = server.wait_stats("the last to be gone", |stats| stats.open == 0);
        assert!(books_balance(&stats), "{stats:?}");
        server.wait_stats("their memory to be free", |stats| stats.buffered_bytes == 0);
        wait_for("the last timer", || (server.ask(|_, cx| timers(&format!("{cx:?}"))) == 0).then_some(()));
        let turns = |server: &Server| server.ask(|_, cx| cx.stats().turns);
        let before = turns(&server);
        std::thread::park_timeout(A_WHILE);
        let turns = turns(&server) - before;
        assert!(turns <= 6, "{turns} turns with nothing to do");
        server.handle.shutdown();
    }
    let verdicts = clients.into_verdicts();
    let (books, stats, _) = server.join();
    compare(&stats, &books, &verdicts, mood);
    drop((books, verdicts));
    expect_nothing_left(descriptors_before, [resident_before, resident_early, resident_late, resident()]);
    stats
}

fn expect_nothing_left(descriptors_before: Option<usize>, resident: [Option<u64>; 4]) {
    match (descriptors_before, descriptors()) {
        (Some(before), Some(after)) => assert_eq!(before, after, "descriptors of this process"),
        _ => println!("skipped: nobody tells of descriptors here"),
    }
    let [Some(before), Some(early), Some(late), Some(after)] = resident else {
        return println!("skipped: nobody tells of memory here");
    };
    println!("KiB of memory: {before} before, {early} early, {late} late, {after} after");
    // Allocators keep some; what leaks would grow with the clients, and does so all the time.
    assert!(after < before + 96 * 1024, "{before} KiB before, {after} after");
    assert!(late < early + 64 * 1024, "{early} KiB early, {late} late");
}

/// How many clients, for how long: as it is asked for, or the short form.
fn form() -> (usize, Duration) {
    let seconds = number_in("SOAK_SECONDS");
    let clients = number_in("SOAK_CLIENTS").unwrap_or(if seconds.is_some() { 2_000 } else { 200 });
    (clients as usize, Duration::from_secs(seconds.unwrap_or(2)))
}

/// From so long a time on, every reason has to have occurred.
const LONG: Duration = Duration::from_secs(30);

#[test]
fn a_server_in_haste_is_left_with_nothing_of_those_who_came_and_went() {
    let (clients, time) = form();
    let stats = soak(Mood::Hasty, clients, time);
    if time < LONG {
        return;
    }
    let often = [
        "peer",
        "reset",
        "local",
        "aborted",
        "idle_timeout",
        "first_message_timeout",
        "frame_timeout",
        "write_timeout",
        "slow_consumer",
        "frame_too_long",
    ];
    for (reason, count) in stats.closes().filter(|(reason, _)| often.contains(reason)) {
        assert!(count > 0, "nobody was closed for {reason}: this shows too little");
    }
}

#[test]
fn without_deadlines_nobody_waits_in_vain() {
    let (clients, time) = form();
    soak(Mood::Patient, clients, time);
}

#[test]
fn a_shutdown_in_the_midst_of_it_all_leaves_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let seed = seed();
    let count = clients_for(200);
    let descriptors_before = descriptors();
    let server = Server::start(limits(Mood::Hasty, count), seed);
    let mut clients = Clients::new(server.address, seed, count);
    clients.run(now() + Duration::from_millis(1_000), false, || server.has_ended());
    server.handle.shutdown();
    clients.run(now(), true, || false);
    let verdicts = clients.into_verdicts();
    let (books, stats, report) = server.join();
    println!("{report:?}");
    compare(&stats, &books, &verdicts, Mood::Hasty);
    expect_nothing_left(descriptors_before, [None; 4]);
}
