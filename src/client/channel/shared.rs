//! What the two threads of a channel and all its senders share.

use std::io;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::ChannelOptions;
use super::sender::closed;
use crate::address::Address;
use crate::buffer::{Pool, WriteQueue};
use crate::client::blocking::LINGER_TIMEOUT;
use crate::client::error::{Error, Step, again};
use crate::client::parts::WritingHalf;
use crate::client::wire::{Patience, Tcp};
use crate::codec::Codec;
use crate::net::{AnyStream, clock};

pub(super) struct Shared<C: Codec> {
    pub(super) peer: Address,
    pub(super) options: ChannelOptions,
    /// How long a send may wait.
    pub(super) send_timeout: Option<Duration>,
    state: Mutex<State<C>>,
    /// For the writing thread: something waits, somebody has ended, the phase is another.
    work: Condvar,
    /// For senders: there may be room.
    pub(super) room: Condvar,
    /// What comes is not for the callback any more. Also in the phase; here it costs no lock for each message.
    closing: AtomicBool,
    receiving_thread: OnceLock<ThreadId>,
}

/// How far a channel is. It only goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Open,
    /// Nothing more is taken; this side ends behind what is queued.
    Finishing,
    /// As `Finishing`, and then all of it ends, at this moment at the latest.
    Closing(Instant),
}

pub(super) struct State<C: Codec> {
    pub(super) phase: Phase,
    pub(super) codec: C,
    /// The turn to write. Whoever has taken it is the only one that writes; none while somebody has it.
    pub(super) turn: Option<Tcp>,
    /// For ending it, whoever has the turn. None once all is over.
    stream: Option<Arc<AnyStream>>,
    /// The rest of a message whose sender has run out of time: it goes before what is queued.
    pub(super) front: WriteQueue,
    pub(super) queue: WriteQueue,
    pub(super) pool: Pool,
    /// The copied parts of a message, while it is encoded.
    pub(super) copied: Vec<u8>,
    /// Bytes that the writing thread has taken and not written.
    pub(super) in_flight: usize,
    /// Why nothing can be sent any more.
    failure: Option<io::Error>,
    /// Bytes that were queued then.
    lost: usize,
    /// This side was ended.
    pub(super) ended: bool,
    /// The receiving thread needs the socket no more.
    pub(super) received_all: bool,
}

/// Memory kept for queues to come.
const POOLED: usize = 1024 * 1024;

impl<C: Codec> Shared<C> {
    pub(super) fn new(peer: Address, options: ChannelOptions, half: WritingHalf<C>) -> Shared<C> {
        let mut pool = Pool::new(POOLED);
        let mut front = WriteQueue::default();
        front.copy(&half.unsent, &mut pool);
        let state = State {
            phase: if half.finished { Phase::Finishing } else { Phase::Open },
            codec: half.codec,
            turn: Some(half.tcp),
            stream: Some(half.stream),
            front,
            queue: WriteQueue::default(),
            pool,
            copied: Vec::new(),
            in_flight: 0,
            failure: half.broken,
            lost: 0,
            ended: half.finished,
            received_all: false,
        };
        Shared {
            peer,
            options,
            send_timeout: half.timeout,
            state: Mutex::new(state),
            work: Condvar::new(),
            room: Condvar::new(),
            closing: AtomicBool::new(false),
            receiving_thread: OnceLock::new(),
        }
    }

    /// A codec that panics while it encodes leaves everything else as it was.
    pub(super) fn lock(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for work, and for no longer than until then.
    pub(super) fn wait_for_work<'a>(
        &self,
        state: MutexGuard<'a, State<C>>,
        until: Option<Instant>,
    ) -> MutexGuard<'a, State<C>> {
        let Some(until) = until else {
            return self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        let left = until.saturating_duration_since(clock::now());
        self.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Waits for room while there is patience. False when time is up.
    pub(super) fn wait_for_room<'a>(
        &self,
        state: MutexGuard<'a, State<C>>,
        patience: &Patience,
    ) -> (MutexGuard<'a, State<C>>, bool) {
        match patience.left() {
            None => (self.room.wait(state).unwrap_or_else(PoisonError::into_inner), true),
            Some(Duration::ZERO) => (state, false),
            Some(left) => {
                let waited = self.room.wait_timeout(state, left);
                (waited.unwrap_or_else(PoisonError::into_inner).0, true)
            }
        }
    }

    pub(super) fn wake_writer(&self) {
        self.work.notify_one();
    }

    fn wake_all(&self) {
        self.work.notify_one();
        self.room.notify_all();
    }

    pub(super) fn begin_receiving(&self) {
        // Once: there is one receiving thread.
        let _ = self.receiving_thread.set(thread::current().id());
    }

    pub(super) fn is_receiving_thread(&self) -> bool {
        self.receiving_thread.get() == Some(&thread::current().id())
    }

    #[inline]
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    pub(super) fn finish(&self) {
        let mut state = self.lock();
        state.phase = state.phase.max(Phase::Finishing);
        self.wake_all();
    }

    /// Begins an ordered close. What is begun already keeps its deadline.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        self.closing.store(true, Ordering::Release);
        if state.phase <= Phase::Finishing {
            let within = if state.ended { LINGER_TIMEOUT } else { self.options.close_timeout };
            let until = clock::now().checked_add(within);
            // What no clock can say is for ever; a day is as good.
            state.phase = Phase::Closing(until.unwrap_or_else(|| clock::now() + Duration::from_secs(86_400)));
        }
        self.wake_all();
    }

    pub(super) fn abort(&self) {
        let mut state = self.lock();
        self.closing.store(true, Ordering::Release);
        if state.drop_all(io::Error::new(io::ErrorKind::ConnectionAborted, "the channel was aborted")) {
            state.reset_on_close();
        }
        self.wake_all();
    }

    /// Nothing can be sent any more, and nothing will come.
    pub(super) fn fail(&self, error: io::Error) {
        self.lock().fail(error);
        self.wake_all();
    }

    pub(super) fn failure(&self) -> Option<io::Error> {
        self.lock().failure.as_ref().map(again)
    }

    /// Whether an end that was read is really a reset: the system tells a reset once, and a thread that writes may be the one
    /// that is told. A connection of which only the peer has ended its side still has a peer.
    pub(super) fn was_reset(&self) -> bool {
        let state = self.lock();
        !state.ended && state.stream.as_ref().is_some_and(|stream| stream.peer_addr().is_err())
    }

    /// The receiving thread has come to its end, or has not begun.
    pub(super) fn receiving_is_over(&self) {
        self.lock().received_all = true;
        self.wake_all();
    }

    /// The error of a close that has lost something.
    pub(super) fn loss(&self) -> Option<Error> {
        let state = self.lock();
        let failure = state.failure.as_ref().filter(|_| state.lost > 0)?;
        Some(Error::io(Step::Send, &self.peer, Duration::ZERO, again(failure)))
    }
}

impl<C: Codec> State<C> {
    /// Bytes that wait to be written.
    pub(super) fn waiting(&self) -> usize {
        self.front.bytes() + self.queue.bytes() + self.in_flight
    }

    /// Why nothing can be sent, if so.
    pub(super) fn refusal(&self) -> Option<io::Error> {
        match &self.failure {
            Some(error) => Some(again(error)),
            None if self.phase > Phase::Open => Some(closed()),
            None => None,
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// The first failure is the one that is told. Whoever waits at the socket is woken by its end.
    pub(super) fn fail(&mut self, error: io::Error) {
        if self.drop_all(error) {
            self.shut_down();
        }
    }

    /// Notes the first failure, and drops what is queued. False when it is not the first.
    fn drop_all(&mut self, error: io::Error) -> bool {
        if self.failure.is_some() {
            return false;
        }
        self.failure = Some(error);
        self.lost = self.waiting();
        self.in_flight = 0;
        self.front.clear(&mut self.pool);
        self.queue.clear(&mut self.pool);
        true
    }

    /// Makes the closing a reset, and wakes whoever waits at the socket.
    fn reset_on_close(&self) {
        let Some(stream) = &self.stream else { return };
        // A failure leaves a close in order, which is no worse.
        drop(SockRef::from(&**stream).set_linger(Some(Duration::ZERO)));
        if self.turn.is_some() && cfg!(unix) {
            // Wakes who reads. An end of this side would go before the reset, and the peer would see it instead.
            drop(stream.shutdown(Shutdown::Read));
        } else {
            // Somebody writes, and may wait. Then there is no room, and an end has to wait behind what is in the way.
            self.shut_down();
        }
    }

    /// Ends both sides. Who reads finds the end, who writes an error.
    pub(super) fn shut_down(&self) {
        if let Some(stream) = &self.stream {
            // It may be ended already.
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    /// Ends this side, behind all that is written.
    pub(super) fn end_writing(&mut self) {
        self.ended = true;
        if let Some(stream) = &self.stream {
            // A reset may have come before: receiving will tell.
            drop(stream.shutdown(Shutdown::Write));
        }
    }

    /// Gives up the socket, which is closed when the last one has done so. Senders may live on.
    pub(super) fn let_go(&mut self) {
        self.turn = None;
        self.stream = None;
        self.failure
            .get_or_insert_with(|| io::Error::new(io::ErrorKind::NotConnected, "the channel is closed"));
    }
}
