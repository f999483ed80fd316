//! Into an outbox: the one way in, whoever sends.

use std::io::IoSlice;

use log::trace;

use super::Context;
use super::live::{Live, OurSide, Phase};
use crate::buffer::Label;
use crate::codec::{Codec, EncodeError, Output, Part, Segments};
use crate::connection::{CloseReason, Halt};
use crate::handler::{Handler, Outgoing, Owned};
use crate::id::ConnId;
use crate::limits::Limits;
use crate::net::{Written, send_vectored};

/// A payload of at least this is not copied while nothing waits before it: it is written straight through, and a shared
/// one is queued by reference. Below it a copy costs less than a system call.
pub(super) const BY_REFERENCE: usize = 32 * 1024;

/// What became of a message that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It is queued, or was taken by the kernel.
    Queued,
    /// It is queued, and the outbox is above the high mark: that connection is not read until it falls to the low mark, and
    /// `on_writable` will tell. A sender that can wait should.
    AboveMark,
    /// It was not queued, and why.
    Dropped(DropReason),
}

impl Sent {
    /// Whether the message is on its way.
    pub fn is_queued(self) -> bool {
        !matches!(self, Sent::Dropped(_))
    }
}

/// Why a message was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DropReason {
    /// There is no such connection any more.
    Gone,
    /// It is closing, or [its output was ended](Context::end_output), and takes nothing more.
    Closing,
    /// More than the write limit waits for it already; it is closed as a slow consumer.
    SlowConsumer,
    /// More than the write limit waits for it already, and its [`Overflow`](crate::Overflow) policy has dropped the message.
    Overflow,
    /// It was to be sent behind answers that are still to come, and as many as may be are.
    Behind,
    /// Its framing cannot say this message. The connection is as it was.
    Refused(EncodeError),
}

impl<C: Codec, S: Default> Live<C, S> {
    /// Why nothing can be appended, if so. `exempt`: it is sent from its own callback, or for control.
    #[inline]
    pub(super) fn refuses(&self, limits: &Limits, exempt: bool) -> Option<DropReason> {
        if self.phase >= Phase::Closing || self.output != OurSide::Open {
            return Some(DropReason::Closing);
        }
        if !exempt && self.queued() > limits.write_limit {
            return Some(DropReason::SlowConsumer);
        }
        None
    }

    /// Something was appended: it has to be flushed, and is judged by the high mark.
    #[inline]
    pub(super) fn appended(&mut self, me: ConnId, limits: &Limits, dirty: &mut Vec<ConnId>) -> Sent {
        if !self.dirty {
            self.dirty = true;
            dirty.push(me);
        }
        if self.outbox.bytes() > limits.high_mark {
            self.above_mark = true;
            if !self.reads_above_mark {
                self.halts.set(Halt::HighMark);
            }
            return Sent::AboveMark;
        }
        Sent::Queued
    }
}

impl<H: Handler> Context<H> {
    /// Sends one message to `to`.
    ///
    /// The message is encoded now and written after the callback, together with what else goes there; only a large one
    /// with nothing before it may be written at once, without being copied. From inside a callback of another connection
    /// (or a timer), [`Limits::write_limit`](crate::Limits::write_limit) applies: more than that already waiting closes `to`
    /// as a slow consumer, unless it has another [`Overflow`](crate::Overflow) policy. See [`message`](Context::message) for options.
    pub fn send(&mut self, to: ConnId, message: Outgoing<'_, H>) -> Sent {
        if self.is_replying_to(to) {
            return self.reply(to, message);
        }
        self.append(to, Label::default(), |codec, out| codec.encode(message, out))
    }

    /// Sends one owned message to `to`. Large [`Bytes`](bytes::Bytes) are shared, never copied.
    pub fn send_owned(&mut self, to: ConnId, message: &Owned<H>) -> Sent {
        self.append(to, Label::default(), |codec, out| codec.encode_owned(message, out))
    }

    /// Encodes a message into the outbox of `to`.
    #[inline(never)]
    pub(super) fn append<'m, F>(&mut self, to: ConnId, label: Label, encode: F) -> Sent
    where
        F: FnOnce(&mut H::Codec, &mut Output<'_, 'm>) -> Result<(), EncodeError>,
    {
        self.end_series();
        let Context { table, pool, limits, current, dirty, encoding, frame_len, replied, .. } = self;
        let Some(live) = table.get_mut(to) else { return self.dropped(DropReason::Gone) };
        if live.takes_whole(limits, label, *current == Some(to)) {
            return self.append_whole(to, label, encode);
        }
        *encoding = Some(to);
        let tail = live.outbox.tail(pool);
        let base = tail.len();
        let mut out = Output::new(tail, BY_REFERENCE);
        match encode(&mut live.codec, &mut out) {
            Ok(()) if out.has_copied_all() => {
                let len = tail.len() - base;
                live.outbox.commit(len, pool);
                trace!("connection {to}: a frame of {len} bytes to send");
                let (sent, waiting) = (live.appended(to, limits, dirty), live.outbox.bytes());
                if *current == Some(to) && *frame_len > 0 && sent == Sent::Queued {
                    if *replied {
                        self.begin_replies(to, len, waiting);
                    } else {
                        *replied = len > 0;
                    }
                }
                sent
            }
            Ok(()) => {
                let segments = out.into_segments();
                let copied = live.outbox.split_tail(base, pool);
                self.append_parts(to, copied, &segments)
            }
            Err(error) => {
                live.outbox.undo(pool);
                self.dropped(DropReason::Refused(error))
            }
        }
    }

    #[cold]
    pub(super) fn dropped(&mut self, reason: DropReason) -> Sent {
        self.stats.frames_dropped += 1;
        Sent::Dropped(reason)
    }

    /// Appends a message with parts by reference, and with these that were copied. With nothing before it, as much as the
    /// kernel takes is written straight through.
    #[inline(never)]
    pub(super) fn append_parts(&mut self, to: ConnId, copied: Vec<u8>, segments: &Segments<'_>) -> Sent {
        let Context { table, pool, .. } = self;
        let Some(live) = table.get_mut(to) else { return Sent::Dropped(DropReason::Gone) };
        let total = segments.parts(&copied).map(|part| part.bytes().len()).sum();
        let through =
            live.outbox.is_empty() && live.writable && live.phase >= Phase::Open && !live.rated.output();
        live.outbox.mark(total, pool);
        trace!("connection {to}: a frame of {total} bytes to send");
        let written = if through { self.write_through(to, segments.parts(&copied)) } else { 0 };
        let Context { table, pool, limits, dirty, ledger, .. } = self;
        let Some(live) = table.get_mut(to) else { return Sent::Dropped(DropReason::Gone) };
        if live.phase < Phase::Ended {
            let mut skip = written;
            for part in segments.parts(&copied) {
                let skipped = skip.min(part.bytes().len());
                skip -= skipped;
                match part {
                    Part::Borrowed(bytes) => live.outbox.copy(&bytes[skipped..], pool),
                    Part::Shared(whole, bytes) => {
                        live.outbox.share(ledger.enter(whole.slice_ref(&bytes[skipped..])), pool);
                    }
                }
            }
            if live.outbox.is_empty() {
                live.outbox.clear(pool);
            }
        }
        pool.give_output(copied);
        live.appended(to, limits, dirty)
    }

    /// Writes what the kernel takes of a message that has nothing before it. What that finds, an error or a full socket, is
    /// noted, and acted on after the callback.
    fn write_through<'a>(&mut self, to: ConnId, parts: impl Iterator<Item = Part<'a>>) -> usize {
        let mut slices = [IoSlice::new(&[]); 8];
        let (mut count, mut total) = (0, 0);
        for (slice, part) in slices.iter_mut().zip(parts) {
            *slice = IoSlice::new(part.bytes());
            count += 1;
            total += part.bytes().len();
        }
        let now = self.tick;
        let Some(live) = self.table.get_mut(to) else { return 0 };
        match send_vectored(&mut live.stream, &slices[..count], total) {
            Written::Some { n, full } => {
                live.writable &= !full;
                live.active = now;
                live.spoke = true;
                self.stats.bytes_out += n as u64;
                self.stats.frames_out += live.stream.count_out(live.outbox.unmark(n));
                n
            }
            Written::Full => {
                live.writable = false;
                0
            }
            // The flush that follows finds it again, and what that means.
            Written::Failed(_) if live.hears_the_gone() => 0,
            Written::Failed(error) => {
                self.end(to, CloseReason::from_io(error));
                0
            }
        }
    }
}
