//! The queue under every order in which its threads can run.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --lib loom`. A wake-up that is lost shows as a deadlock: the loop of the
//! model waits, and nobody is left to wake it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::HandleError;
use super::model::{Poller, explore};
use super::queue::{Queue, WhenFull};
use super::sync::{AtomicBool, Ordering, thread};

/// The part of a reactor that this is about: it waits unless the queue is due, clears the flag, and drains.
struct Loop {
    queue: Arc<Queue<u32, Poller>>,
    poller: Poller,
    per_turn: usize,
    ran: Vec<u32>,
    shutdowns: u32,
}

impl Loop {
    fn new(max: usize, per_turn: usize) -> Loop {
        let poller = Poller::new();
        let queue = Arc::new(Queue::new(poller.clone(), max, usize::MAX));
        Loop { queue, poller, per_turn, ran: Vec::new(), shutdowns: 0 }
    }

    fn turn(&mut self) {
        if !self.queue.is_due() {
            self.poller.wait();
        }
        if self.queue.begin() {
            self.shutdowns += self.queue.take_shutdowns();
            let mut commands = VecDeque::new();
            self.queue.drain(self.per_turn, &mut commands);
            self.ran.extend(commands);
        }
    }

    fn turn_until(&mut self, done: impl Fn(&Loop) -> bool) {
        while !done(self) {
            self.turn();
        }
    }

    /// A thread that queues these, and gives what became of each.
    fn sender(
        &self,
        commands: &'static [u32],
        when_full: WhenFull,
    ) -> thread::JoinHandle<Vec<Result<(), HandleError<u32>>>> {
        let queue = Arc::clone(&self.queue);
        thread::spawn(move || commands.iter().map(|n| queue.push(*n, when_full)).collect())
    }
}

#[test]
fn loom_no_wake_up_is_lost() {
    explore(|| {
        let mut model = Loop::new(8, 8);
        let senders = [model.sender(&[1, 2], WhenFull::Wait), model.sender(&[11], WhenFull::GiveBack)];
        model.turn_until(|model| model.ran.len() == 3);
        assert!(model.ran.iter().filter(|n| **n < 10).eq(&[1, 2]), "in the order of each: {:?}", model.ran);
        for sender in senders {
            assert!(sender.join().unwrap().iter().all(Result::is_ok));
        }
        assert!(model.queue.wakeups() <= 3);
    });
}

#[test]
fn loom_what_a_turn_leaves_is_seen_by_the_next_one() {
    explore(|| {
        let mut model = Loop::new(8, 1);
        let sender = model.sender(&[1, 2, 3], WhenFull::Wait);
        model.turn_until(|model| model.ran.len() == 3);
        assert_eq!(model.ran, [1, 2, 3]);
        sender.join().unwrap();
    });
}

#[test]
fn loom_one_that_waits_for_room_gets_it() {
    explore(|| {
        let mut model = Loop::new(1, 1);
        let senders = [model.sender(&[1], WhenFull::Wait), model.sender(&[2], WhenFull::Wait)];
        model.turn_until(|model| model.ran.len() == 2);
        for sender in senders {
            assert_eq!(sender.join().unwrap(), [Ok(())]);
        }
    });
}

#[test]
fn loom_a_close_answers_everyone_and_loses_nothing_that_was_refused() {
    explore(|| {
        let model = Loop::new(1, 1);
        let waiting = model.sender(&[1, 2], WhenFull::Wait);
        let queue = Arc::clone(&model.queue);
        let closing = thread::spawn(move || queue.close());
        // Drains once, before or after the close or not at all.
        if model.queue.begin() {
            model.queue.drain(1, &mut VecDeque::new());
        }
        closing.join().unwrap();
        // It comes back, whether it waited for room, was queued, or came too late.
        let answers = waiting.join().unwrap();
        for (answer, command) in answers.iter().zip([1, 2]) {
            assert!(*answer == Ok(()) || *answer == Err(HandleError::Gone(command)), "{answers:?}");
        }
        assert_eq!(model.queue.push(3, WhenFull::Wait), Err(HandleError::Gone(3)));
        assert!(model.queue.is_closed());
        let mut left = VecDeque::new();
        model.queue.drain(9, &mut left);
        assert!(left.is_empty(), "nothing is queued for a reactor that is gone");
    });
}

#[test]
fn loom_a_shutdown_is_seen_by_a_loop_that_sleeps() {
    // tokio-rs/tokio#2119
    explore(|| {
        let mut model = Loop::new(1, 1);
        let queue = Arc::clone(&model.queue);
        let stopping = thread::spawn(move || queue.shut_down());
        let sender = model.sender(&[1], WhenFull::Wait);
        model.turn_until(|model| model.shutdowns == 1 && model.ran == [1]);
        stopping.join().unwrap();
        sender.join().unwrap();
    });
}

#[test]
fn loom_a_shutdown_passes_a_full_queue() {
    explore(|| {
        let mut model = Loop::new(1, 1);
        model.queue.push(1, WhenFull::Wait).unwrap();
        let queue = Arc::clone(&model.queue);
        let both = thread::spawn(move || {
            queue.shut_down();
            queue.shut_down();
            // And so does what nobody has two of.
            queue.push(2, WhenFull::Exceed).unwrap();
        });
        model.turn_until(|model| model.shutdowns == 2 && model.ran == [1, 2]);
        both.join().unwrap();
    });
}

#[test]
fn loom_the_loop_itself_never_waits() {
    explore(|| {
        let model = Loop::new(1, 1);
        let moved = Arc::new(AtomicBool::new(false));
        // The thread that has made it takes its turns, until another one does.
        model.queue.push(1, WhenFull::Wait).unwrap();
        assert_eq!(model.queue.push(2, WhenFull::Wait), Err(HandleError::WouldDeadlock(2)));
        let (queue, told) = (Arc::clone(&model.queue), Arc::clone(&moved));
        let other = thread::spawn(move || {
            queue.owned_by_this_thread();
            told.store(true, Ordering::Release);
            assert_eq!(queue.push(3, WhenFull::Wait), Err(HandleError::WouldDeadlock(3)));
        });
        other.join().unwrap();
        assert!(moved.load(Ordering::Acquire));
    });
}
