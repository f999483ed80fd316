//! The thread that writes what is queued, and sees to it that a close comes to its end.

use std::io::{self, IoSlice};
use std::mem;
use std::sync::MutexGuard;
use std::time::Duration;

use super::shared::{Phase, Shared, State};
use crate::buffer::{Pool, SLICES, WriteQueue};
use crate::client::blocking::LINGER_TIMEOUT;
use crate::client::wire::{Patience, Sent, Tcp, send};
use crate::codec::Codec;
use crate::net::clock;

/// A write that waits looks so often whether the channel is to be closed without it.
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(super) fn run<C: Codec>(shared: &Shared<C>) {
    while let Some(batch) = next_batch(shared) {
        write(shared, batch);
    }
    shared.lock().let_go();
    shared.room.notify_all();
}

/// Bytes to be written, and the turn to do it.
struct Batch {
    turn: Tcp,
    queues: [WriteQueue; 2],
}

/// Waits for something to write; none when there never will be anything, and nothing more is to be received.
fn next_batch<C: Codec>(shared: &Shared<C>) -> Option<Batch> {
    let mut state = shared.lock();
    loop {
        if state.has_failed() {
            if state.received_all {
                return None;
            }
            state = shared.wait_for_work(state, None);
            continue;
        }
        let waiting = state.waiting();
        if waiting > 0 {
            if let Some(turn) = state.turn.take() {
                let queues = [mem::take(&mut state.front), mem::take(&mut state.queue)];
                state.in_flight = waiting;
                return Some(Batch { turn, queues });
            }
        } else if state.phase > Phase::Open && state.turn.is_some() && !state.ended {
            state = end_writing(shared, state);
            if let Phase::Closing(_) = state.phase {
                // What still comes is dropped for a while, so that no reset destroys what was sent last.
                state.phase = Phase::Closing(clock::now() + LINGER_TIMEOUT);
            }
        }
        let Phase::Closing(until) = state.phase else {
            state = shared.wait_for_work(state, None);
            continue;
        };
        if state.ended && state.received_all {
            return None;
        }
        if clock::now() < until {
            state = shared.wait_for_work(state, Some(until));
            continue;
        }
        if state.ended {
            // The peer does not end its side: this wakes the receiving thread. Nothing was lost.
            state.shut_down();
            state = shared.wait_for_work(state, None);
            while !state.received_all {
                state = shared.wait_for_work(state, None);
            }
            return None;
        }
        // Who waits for room was told when the close began.
        state.fail(io::ErrorKind::TimedOut.into());
    }
}

/// Ends this side. Where a last word goes before that, the turn is taken for it, and nobody waits for the lock meanwhile.
fn end_writing<'a, C: Codec>(
    shared: &'a Shared<C>,
    mut state: MutexGuard<'a, State<C>>,
) -> MutexGuard<'a, State<C>> {
    if state.turn.as_ref().is_some_and(Tcp::is_sealed) {
        if let Some(mut turn) = state.turn.take() {
            drop(state);
            // A peer that takes nothing hears no last word.
            drop(turn.say_goodbye(&mut Patience::new(Some(LOOK_EVERY))));
            state = shared.lock();
            state.turn = Some(turn);
        }
    }
    state.end_writing();
    state
}

/// Writes a batch. What cannot be written ends the connection.
fn write<C: Codec>(shared: &Shared<C>, batch: Batch) {
    let Batch { mut turn, mut queues } = batch;
    // The memory of a batch is not kept: the next one has its own already.
    let mut pool = Pool::new(0);
    for queue in &mut queues {
        while !queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let (count, _) = queue.slices(&mut slices, usize::MAX);
            let sent = send(&mut turn, &slices[..count], &mut Patience::new(Some(LOOK_EVERY)));
            let mut state = shared.lock();
            if state.has_failed() {
                return;
            }
            let failure = match sent {
                Sent::Some(n) => {
                    queue.advance(n, &mut pool);
                    state.in_flight -= n;
                    shared.room.notify_all();
                    None
                }
                Sent::Nothing => None,
                Sent::Failed(error) => Some(error),
            };
            // A peer that takes a little now and then does not make a close wait longer than one that takes nothing.
            let out_of_time = || match state.phase {
                Phase::Closing(until) if state.waiting() > 0 && clock::now() >= until => {
                    Some(io::ErrorKind::TimedOut.into())
                }
                _ => None,
            };
            if let Some(error) = failure.or_else(out_of_time) {
                drop(state);
                return shared.fail(error);
            }
        }
    }
    shared.lock().turn = Some(turn);
}
