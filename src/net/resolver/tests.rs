use super::*;
use crate::net::mem::World;
use std::sync::mpsc::{self, Receiver, Sender};

const PATIENCE: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(3600);

fn dial(n: u32) -> ConnId {
    ConnId { slot: n, generation: n }
}

fn job(n: u32) -> Job {
    Job { dial: dial(n), host: n.to_string(), port: 80 }
}

fn an_address() -> Found {
    Ok(vec!["192.0.2.1:80".parse().unwrap()])
}

/// Threads whose look-ups say that they have begun, and end when the test sends something.
struct Rig {
    threads: Threads,
    world: World,
    begun: Receiver<String>,
    answers: Vec<Sender<()>>,
}

fn rig(names: usize, idle_time: Duration) -> Rig {
    let world = World::new();
    let (begins, begun) = mpsc::channel();
    let (answers, gates): (Vec<_>, Vec<_>) = (0..names).map(|_| mpsc::channel::<()>()).unzip();
    let gates: Vec<_> = gates.into_iter().map(Mutex::new).collect();
    let begins = Mutex::new(begins);
    let threads = Threads::with(Waker::Mem(world.clone()), idle_time, move |host, _| {
        begins.lock().unwrap().send(host.to_owned()).ok();
        let gate = gates[host.parse::<usize>().unwrap()].lock().unwrap();
        // The test may be over.
        let _ = gate.recv_timeout(PATIENCE);
        an_address()
    });
    Rig { threads, world, begun, answers }
}

impl Rig {
    fn expect_begun(&self, names: &[&str]) {
        let mut begun: Vec<_> =
            names.iter().map(|_| self.begun.recv_timeout(PATIENCE).expect("it begins")).collect();
        begun.sort();
        assert_eq!(begun, names);
    }

    /// Waits until the state is as wanted.
    fn until(&self, what: &str, wanted: impl Fn(&State) -> bool) {
        for _ in 0..PATIENCE.as_millis() {
            if wanted(&self.threads.shared.state()) {
                return;
            }
            thread::park_timeout(Duration::from_millis(1));
        }
        panic!("waited in vain until {what}: {:?}", self.threads);
    }

    fn found(&self) -> Vec<ConnId> {
        self.threads.shared.take().into_iter().map(|(dial, _)| dial).collect()
    }
}

#[test]
fn there_is_no_thread_without_a_name_and_none_stays_for_long() {
    let rig = rig(1, Duration::from_millis(1));
    assert_eq!(rig.threads.shared.state().threads, 0);
    rig.threads.look_up(job(0));
    rig.answers[0].send(()).unwrap();
    rig.until("it has ended", |state| state.threads == 0 && !state.found.is_empty());
    assert_eq!(rig.world.wakes(), 1);
    assert_eq!(rig.found(), [dial(0)]);
    rig.threads.look_up(job(0));
    rig.answers[0].send(()).unwrap();
    rig.until("a new one has answered", |state| !state.found.is_empty());
}

#[test]
fn a_thread_takes_one_name_after_the_other() {
    let rig = rig(3, LONG);
    for n in 0..3 {
        rig.answers[n as usize].send(()).unwrap();
        rig.threads.look_up(job(n));
        rig.until("it waits again", |state| state.idle == 1 && !state.found.is_empty());
        assert_eq!(rig.threads.shared.state().threads, 1);
        assert_eq!(rig.found(), [dial(n)]);
    }
}

#[test]
fn four_names_are_looked_up_at_a_time_and_the_next_waits() {
    let rig = rig(6, LONG);
    for n in 0..6 {
        rig.threads.look_up(job(n));
    }
    rig.expect_begun(&["0", "1", "2", "3"]);
    {
        let state = rig.threads.shared.state();
        assert_eq!((state.threads, state.waiting.len()), (THREADS_MAX, 2));
    }
    rig.answers[2].send(()).unwrap();
    rig.expect_begun(&["4"]);
    rig.until("the answer is there", |state| !state.found.is_empty());
    assert_eq!(rig.found(), [dial(2)]);
}

#[test]
fn names_that_hang_do_not_hold_up_others_when_they_are_given_up() {
    let mut rig = rig(5, LONG);
    for n in 0..5 {
        rig.threads.look_up(job(n));
    }
    rig.expect_begun(&["0", "1", "2", "3"]);
    rig.threads.give_up(dial(1));
    rig.expect_begun(&["4"]);
    rig.answers[4].send(()).unwrap();
    rig.until("the answer is there", |state| !state.found.is_empty());
    assert_eq!(rig.found(), [dial(4)]);
    // The one that hung comes back at last: nobody is told, and it ends.
    rig.answers[1].send(()).unwrap();
    rig.until("it has ended", |state| state.hung == 0);
    let state = rig.threads.shared.state();
    assert_eq!((state.threads, state.found.len()), (THREADS_MAX, 0));
    drop(state);
    rig.answers.clear();
}

#[test]
fn a_name_that_waits_is_given_up_before_anyone_looks_it_up() {
    let rig = rig(6, LONG);
    for n in 0..6 {
        rig.threads.look_up(job(n));
    }
    rig.expect_begun(&["0", "1", "2", "3"]);
    rig.threads.give_up(dial(4));
    rig.answers[0].send(()).unwrap();
    rig.expect_begun(&["5"]);
    rig.threads.give_up(dial(0));
    assert!(rig.found().is_empty(), "an answer that nobody waits for is none");
}

#[test]
fn the_threads_that_hang_are_bounded() {
    let count = HUNG_MAX + THREADS_MAX + 1;
    let rig = rig(count, LONG);
    for n in 0..count as u32 {
        rig.threads.look_up(job(n));
        if n < HUNG_MAX as u32 {
            rig.expect_begun(&[&n.to_string()]);
            rig.threads.give_up(dial(n));
        }
    }
    rig.until("all places are taken", |state| state.running.len() == THREADS_MAX);
    for n in HUNG_MAX..count {
        rig.threads.give_up(dial(n as u32));
    }
    let state = rig.threads.shared.state();
    assert_eq!((state.hung, state.threads, state.waiting.len()), (HUNG_MAX, THREADS_MAX, 0));
}

#[test]
fn one_of_too_many_that_hang_gives_its_place_up_when_another_has_ended() {
    let count = HUNG_MAX + THREADS_MAX;
    let rig = rig(count + 1, LONG);
    for n in 0..count as u32 {
        rig.threads.look_up(job(n));
        rig.expect_begun(&[&n.to_string()]);
        if n < HUNG_MAX as u32 {
            rig.threads.give_up(dial(n));
        }
    }
    for n in HUNG_MAX..count {
        rig.threads.give_up(dial(n as u32));
    }
    rig.threads.look_up(job(count as u32));
    rig.answers[0].send(()).unwrap();
    rig.expect_begun(&[&count.to_string()]);
    rig.answers[count].send(()).unwrap();
    rig.until("the answer is there", |state| !state.found.is_empty());
    assert_eq!(rig.found(), [dial(count as u32)]);
    // All that hung come back: each is counted out once.
    for n in 1..count {
        rig.answers[n].send(()).unwrap();
    }
    rig.until("nothing hangs", |state| state.hung == 0 && state.running.is_empty());
    let state = rig.threads.shared.state();
    assert_eq!((state.threads, state.idle, state.found.len()), (THREADS_MAX, THREADS_MAX, 0));
}

#[test]
fn many_answers_are_one_wake_up_until_they_are_taken() {
    let rig = rig(3, LONG);
    for n in 0..3 {
        rig.answers[n as usize].send(()).unwrap();
        rig.threads.look_up(job(n));
    }
    rig.until("all are there", |state| state.found.len() == 3);
    assert_eq!(rig.world.wakes(), 1);
    assert_eq!(rig.found().len(), 3);
    assert!(rig.found().is_empty());
}

#[test]
fn an_end_with_names_under_way_waits_for_none() {
    let rig = rig(6, LONG);
    for n in 0..6 {
        rig.threads.look_up(job(n));
    }
    rig.expect_begun(&["0", "1", "2", "3"]);
    let shared = Arc::clone(&rig.threads.shared);
    drop(rig.threads);
    for answer in &rig.answers {
        answer.send(()).unwrap();
    }
    for _ in 0..PATIENCE.as_millis() {
        if shared.state().threads == 0 {
            return;
        }
        thread::park_timeout(Duration::from_millis(1));
    }
    panic!("threads are left");
}

#[test]
fn the_system_knows_localhost_and_not_everything() {
    let found = ask_the_system("localhost", 7).unwrap();
    assert!(found.iter().all(|address| address.ip().unwrap().ip().is_loopback()), "{found:?}");
    assert!(ask_the_system("no\0name", 7).is_err());
}
