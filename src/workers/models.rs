//! The pool's own threads and the loop, under the orders in which they can run.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --lib loom` tries all of them for the tray and the queue,
//! `RUSTFLAGS="--cfg shuttle" cargo test --release --lib shuttle` many of them for a whole pool with a model of the loop.

use std::collections::VecDeque;
use std::sync::Arc;

use super::tray::Tray;
use crate::handle::model::{Poller, explore};
use crate::handle::queue::{Queue, WhenFull};

/// A connection, the number of a job, and its result.
type Done = (u32, u64, u64);

/// What workers see of a reactor.
#[derive(Clone)]
struct Front {
    tray: Arc<Tray<Done>>,
    queue: Arc<Queue<(), Poller>>,
}

impl Front {
    fn bring(&self, done: Done) {
        if self.tray.put(done) {
            // A reactor that is gone wants no answers.
            let _ = self.queue.push((), WhenFull::Exceed);
        }
    }
}

/// A loop that does nothing but collect.
struct Loop {
    front: Front,
    poller: Poller,
}

impl Loop {
    fn new() -> Loop {
        let poller = Poller::new();
        let queue = Arc::new(Queue::new(poller.clone(), 1, usize::MAX));
        Loop { front: Front { tray: Arc::new(Tray::new()), queue }, poller }
    }

    /// Takes one turn, and gives what it has collected.
    fn turn(&self) -> Vec<Done> {
        let queue = &self.front.queue;
        if !queue.is_due() {
            self.poller.wait();
        }
        let (mut commands, mut all) = (VecDeque::new(), Vec::new());
        if queue.begin() {
            queue.drain(1, &mut commands);
        }
        for () in commands {
            let mut results = Vec::new();
            self.front.tray.take(&mut results);
            all.extend(results);
        }
        all
    }
}

#[test]
#[cfg(loom)]
fn loom_no_result_is_left_in_the_tray() {
    use crate::handle::sync::thread;
    explore(|| {
        let model = Loop::new();
        let workers: Vec<_> = (0..2)
            .map(|conn| {
                let front = model.front.clone();
                thread::spawn(move || (0..2).for_each(|n| front.bring((conn, n, 0))))
            })
            .collect();
        let mut collected = 0;
        while collected < 4 {
            collected += model.turn().len();
        }
        for worker in workers {
            worker.join().unwrap();
        }
    });
}

#[cfg(shuttle)]
mod whole {
    use super::*;
    use crate::handle::sync::{AtomicUsize, Ordering};
    use crate::id::ConnId;
    use crate::workers::crew::Crew;
    use crate::workers::lanes::{Bounds, Lanes};

    const BOUNDS: Bounds = Bounds { jobs_each: 2, bytes_each: 1_000, jobs: 3, bytes: 1_000 };

    fn conn(slot: u32) -> ConnId {
        ConnId { slot, generation: 1 }
    }

    /// Connections that have each so many questions, and are asked for the next one when they are not held.
    struct Clients {
        left: Vec<u64>,
        held: Vec<bool>,
        answered: Vec<u64>,
    }

    fn serve(threads: usize, clients: usize, questions: u64) {
        let crew: Crew<u32> = Crew::start(threads).unwrap();
        let model = Loop::new();
        let mut lanes: Lanes<u64> = Lanes::new(BOUNDS);
        let mut clients = Clients {
            left: vec![questions; clients],
            held: vec![false; clients],
            answered: vec![0; clients],
        };
        let begun = Arc::new(AtomicUsize::new(0));
        while clients.answered.iter().any(|answered| *answered < questions) {
            for slot in 0..clients.left.len() {
                while clients.left[slot] > 0 && !clients.held[slot] {
                    clients.left[slot] -= 1;
                    let question = questions - clients.left[slot];
                    let added = lanes.add(conn(slot as u32), 1, None, false);
                    clients.held[slot] |= added.hold;
                    let (front, begun) = (model.front.clone(), Arc::clone(&begun));
                    let work = move || {
                        begun.fetch_add(1, Ordering::Relaxed);
                        front.bring((slot as u32, added.number, question));
                    };
                    crew.push(slot as u32, Box::new(work));
                }
            }
            assert!(lanes.jobs() <= BOUNDS.jobs + clients.left.len(), "{} are under way", lanes.jobs());
            let mut released = Vec::new();
            for (slot, number, result) in model.turn() {
                lanes.fill(conn(slot), number, result);
                while let Some(result) = lanes.take(conn(slot), &mut released) {
                    let answered = &mut clients.answered[slot as usize];
                    *answered += 1;
                    assert_eq!(result, *answered, "in the order of the questions");
                }
            }
            let again = lanes.release_waiting(&mut released);
            assert!(!again || !released.is_empty());
            for conn in released {
                clients.held[conn.slot as usize] = false;
            }
        }
        crew.join();
        assert_eq!(begun.load(Ordering::Relaxed), questions as usize * clients.left.len());
    }

    #[test]
    fn shuttle_every_question_is_answered_once_and_in_order() {
        explore(|| serve(3, 3, 4));
    }

    #[test]
    fn shuttle_one_thread_is_enough() {
        explore(|| serve(1, 4, 3));
    }

    /// Two threads with four jobs.
    fn busy_crew() -> (Crew<u32>, Loop) {
        let (crew, model) = (Crew::start(2).unwrap(), Loop::new());
        for n in 0..4 {
            let front = model.front.clone();
            crew.push(n, Box::new(move || front.bring((n, 0, 0))));
        }
        (crew, model)
    }

    #[test]
    fn shuttle_a_crew_that_is_let_go_of_finishes_what_it_has() {
        explore(|| {
            let (crew, model) = busy_crew();
            drop(crew);
            let mut collected = 0;
            while collected < 4 {
                collected += model.turn().len();
            }
        });
    }

    #[test]
    fn shuttle_workers_never_wait_for_a_loop_that_is_gone() {
        explore(|| {
            let (crew, model) = busy_crew();
            model.front.queue.close();
            crew.join();
        });
    }
}
