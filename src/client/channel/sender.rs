//! The way into a channel, for any thread.

use std::fmt;
use std::io::{self, IoSlice};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use super::shared::{Phase, Shared};
use crate::address::Address;
use crate::buffer::{Ledger, Pool, WriteQueue};
use crate::client::error::{Error, Step, again};
use crate::client::outgoing::{BY_REFERENCE, PARTS_MAX};
use crate::client::wire::{Patience, Stop, send_all};
use crate::codec::{Codec, EncodeError, Output, Part, Segments};

/// Sends into a [`Channel`](super::Channel), from any thread. Cheap to clone, and may outlive the channel: then every send
/// is an error.
pub struct Sender<C: Codec> {
    pub(super) shared: Arc<Shared<C>>,
}

impl<C: Codec> Clone for Sender<C> {
    fn clone(&self) -> Sender<C> {
        Sender { shared: Arc::clone(&self.shared) }
    }
}

impl<C: Codec> Sender<C> {
    pub(super) fn new(shared: Arc<Shared<C>>) -> Sender<C> {
        Sender { shared }
    }

    /// Sends one message, behind all that was sent before it.
    ///
    /// When nothing waits, this thread writes it, without copying a large payload. Otherwise it is queued, and this returns
    /// at once, unless more than [`queue_max`](super::ChannelOptions::queue_max) waits before it: then this waits for
    /// room. All of it takes no longer than the write timeout that the client had.
    ///
    /// Inside the callback it never waits: it is queued, or there is no room. So a peer that does not read cannot stop the
    /// receiving.
    ///
    /// `Ok` says that the message was written or is queued whole, and goes out in order while the connection lives.
    ///
    /// # Errors
    /// All at [`Step::Send`], and nothing of the message was sent:
    /// - [`encode_error`](Error::encode_error): the framing cannot say it.
    /// - [`is_timeout`](Error::is_timeout): the peer does not read, and there was no room in time.
    /// - [`io::ErrorKind::WouldBlock`]: inside the callback, and there is no room.
    /// - [`io::ErrorKind::NotConnected`]: the channel was closed.
    /// - otherwise the connection is broken, and part of the message may have gone.
    pub fn send(&self, message: C::Outgoing<'_>) -> Result<(), Error> {
        self.append(self.shared.send_timeout, |codec, out| codec.encode(message, out))
    }

    /// As [`send`](Sender::send), for an owned message. A large payload of [`Bytes`](bytes::Bytes) is queued by reference.
    ///
    /// # Errors
    /// As [`send`](Sender::send).
    pub fn send_owned(&self, message: &C::Owned) -> Result<(), Error> {
        self.append(self.shared.send_timeout, |codec, out| codec.encode_owned(message, out))
    }

    /// As [`send`](Sender::send), and never waits, on whatever thread: the message is queued, or there is no room.
    ///
    /// # Errors
    /// As [`send`](Sender::send) inside the callback.
    pub fn try_send(&self, message: C::Outgoing<'_>) -> Result<(), Error> {
        self.append(Some(Duration::ZERO), |codec, out| codec.encode(message, out))
    }

    /// As [`try_send`](Sender::try_send), for an owned message.
    ///
    /// # Errors
    /// As [`try_send`](Sender::try_send).
    pub fn try_send_owned(&self, message: &C::Owned) -> Result<(), Error> {
        self.append(Some(Duration::ZERO), |codec, out| codec.encode_owned(message, out))
    }

    /// Begins to close the channel in order, as [`Channel::close`](super::Channel::close) does, and waits for nothing.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Whether a message would be taken, if there were room.
    pub fn is_open(&self) -> bool {
        self.shared.lock().refusal().is_none()
    }

    /// Bytes that wait to be written, without those that a sender is just writing itself.
    pub fn queued(&self) -> usize {
        self.shared.lock().waiting()
    }

    /// The peer's address.
    pub fn peer_addr(&self) -> &Address {
        &self.shared.peer
    }

    fn append<'m, F>(&self, timeout: Option<Duration>, encode: F) -> Result<(), Error>
    where
        F: FnOnce(&mut C, &mut Output<'_, 'm>) -> Result<(), EncodeError>,
    {
        let shared = &*self.shared;
        let waits = timeout != Some(Duration::ZERO) && !shared.is_receiving_thread();
        let mut patience = Patience::new(if waits { timeout } else { Some(Duration::ZERO) });
        let failed =
            |patience: &Patience, error| Error::io(Step::Send, &shared.peer, patience.elapsed(), error);

        let mut state = shared.lock();
        loop {
            if let Some(error) = state.refusal() {
                return Err(failed(&patience, error));
            }
            if state.waiting() <= shared.options.queue_max {
                break;
            }
            let in_time;
            (state, in_time) = shared.wait_for_room(state, &patience);
            if !in_time {
                return Err(failed(&patience, no_room(waits)));
            }
        }

        let mut copied = mem::take(&mut state.copied);
        copied.clear();
        copied.shrink_to(COPIED_KEPT_MAX);
        let mut out = Output::new(&mut copied, BY_REFERENCE);
        let encoded = encode(&mut state.codec, &mut out).map(|()| out.into_segments());
        let segments = match encoded {
            Ok(segments) => segments,
            Err(error) => {
                state.copied = copied;
                return Err(Error::encode(&shared.peer, error));
            }
        };

        // With nothing to wait behind, this thread writes, and lets others queue meanwhile.
        let turn = if waits && state.waiting() == 0 { state.turn.take() } else { None };
        let Some(mut turn) = turn else {
            let state = &mut *state;
            append_parts(&mut state.queue, &segments, &copied, 0, &mut state.pool);
            state.copied = copied;
            shared.wake_writer();
            return Ok(());
        };
        drop(state);
        let mut slices = [IoSlice::new(&[]); PARTS_MAX];
        let mut count = 0;
        for (slice, part) in slices.iter_mut().zip(segments.parts(&copied)) {
            *slice = IoSlice::new(part.bytes());
            count += 1;
        }
        let (written, stop) = send_all(&mut turn, &mut slices[..count], &mut patience);

        let mut state = shared.lock();
        state.turn = Some(turn);
        let outcome = match stop {
            None => Ok(()),
            // The socket was taken away under it: by a close that would not wait longer, or by what the receiving thread met.
            Some(_) if state.has_failed() && state.phase > Phase::Open => Err(closed()),
            Some(_) if state.has_failed() => state.refusal().map_or(Ok(()), Err),
            // An encoder with state has counted this message: it cannot be unsaid.
            Some(Stop::TimedOut) if written > 0 || !state.codec.same_encoding(&state.codec) => {
                let state = &mut *state;
                append_parts(&mut state.front, &segments, &copied, written, &mut state.pool);
                Ok(())
            }
            Some(Stop::TimedOut) => Err(io::ErrorKind::TimedOut.into()),
            Some(Stop::Failed(error)) => {
                let told = again(&error);
                state.fail(error);
                Err(told)
            }
        };
        state.copied = copied;
        if state.waiting() > 0 || state.phase > Phase::Open || state.has_failed() {
            shared.wake_writer();
        }
        shared.room.notify_all();
        drop(state);
        outcome.map_err(|error| failed(&patience, error))
    }
}

/// A larger buffer for copied parts is not kept.
const COPIED_KEPT_MAX: usize = 256 * 1024;

pub(super) fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the channel is closed")
}

fn no_room(waited: bool) -> io::Error {
    if waited {
        return io::ErrorKind::TimedOut.into();
    }
    io::Error::new(io::ErrorKind::WouldBlock, "more waits to be written than may wait")
}

/// Queues a message without its first `written` bytes.
fn append_parts(
    queue: &mut WriteQueue,
    segments: &Segments<'_>,
    copied: &[u8],
    written: usize,
    pool: &mut Pool,
) {
    // What a channel holds is bounded by its own limit: nobody else counts it.
    let ledger = Ledger::default();
    let mut skip = written;
    for part in segments.parts(copied) {
        let skipped = skip.min(part.bytes().len());
        skip -= skipped;
        match part {
            Part::Borrowed(bytes) => queue.copy(&bytes[skipped..], pool),
            Part::Shared(whole, bytes) => queue.share(ledger.enter(whole.slice_ref(&bytes[skipped..])), pool),
        }
    }
}

impl<C: Codec> fmt::Debug for Sender<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("peer", &self.shared.peer)
            .field("queued", &self.queued())
            .field("open", &self.is_open())
            .finish_non_exhaustive()
    }
}
