//! The way into an outbox by a policy, for messages with a label and for connections that are too slow.

use super::Context;
use super::send::{DropReason, Sent};
use crate::buffer::{Label, Payload, Shared};
use crate::codec::{EncodeError, Output};
use crate::connection::Overflow;
use crate::handler::Handler;
use crate::id::ConnId;

impl<H: Handler> Context<H> {
    /// Says what becomes of messages that `conn` does not take fast enough, from now on; messages that wait already are kept as
    /// if they had no key. Defaults to [`Limits::overflow`](crate::Limits::overflow). False when it is gone.
    pub fn set_overflow(&mut self, conn: ConnId, overflow: Overflow) -> bool {
        self.end_series();
        let Some(live) = self.table.get_mut(conn) else { return false };
        live.overflow = overflow;
        true
    }

    /// How many messages for `conn` its overflow policy has dropped so far. Zero for the gone.
    pub fn missed(&self, conn: ConnId) -> u64 {
        self.table.get(conn).and_then(|live| live.extras.as_ref()).map_or(0, |extras| extras.missed)
    }

    /// As [`append`](Context::append), for a connection that has a policy or too much that waits, and for messages with a label.
    #[inline(never)]
    pub(super) fn append_by_policy<'m, F>(&mut self, to: ConnId, label: Label, encode: F) -> Sent
    where
        F: FnOnce(&mut H::Codec, &mut Output<'_, 'm>) -> Result<(), EncodeError>,
    {
        let own = self.current == Some(to);
        match self.admit(to, label, own) {
            Err(sent) => sent,
            Ok(Way::Plain) => self.append_plain(to, encode),
            Ok(Way::Whole) => {
                let mut scratch = std::mem::take(&mut self.scratch);
                scratch.clear();
                let encoded = match self.table.get_mut(to) {
                    Some(live) => encode(&mut live.codec, &mut Output::to_vec(&mut scratch)),
                    None => Ok(()),
                };
                let sent = match encoded {
                    Ok(()) => self.push(to, Payload::Own(scratch.as_slice().into()), label, own),
                    Err(error) => self.dropped(DropReason::Refused(error)),
                };
                self.scratch = scratch;
                sent
            }
        }
    }

    /// As [`append_by_policy`](Context::append_by_policy), for bytes that were encoded for many.
    #[inline(never)]
    pub(super) fn append_encoded(&mut self, to: ConnId, label: Label, bytes: Encoded<'_>) -> Sent {
        let own = self.current == Some(to);
        match (self.admit(to, label, own), bytes) {
            (Err(sent), _) => sent,
            (Ok(Way::Whole), Encoded::Copied(bytes)) => self.push(to, Payload::Own(bytes.into()), label, own),
            (Ok(Way::Whole), Encoded::Shared(bytes)) => {
                self.push(to, Payload::Shared(bytes.clone()), label, own)
            }
            (Ok(Way::Plain), bytes) => {
                let Context { table, pool, limits, dirty, .. } = self;
                let Some(live) = table.get_mut(to) else { return Sent::Dropped(DropReason::Gone) };
                let len = match bytes {
                    Encoded::Copied(bytes) => {
                        live.outbox.copy(bytes, pool);
                        bytes.len()
                    }
                    Encoded::Shared(bytes) => {
                        live.outbox.share(bytes.clone(), pool);
                        bytes.len()
                    }
                };
                live.outbox.mark(len, pool);
                live.appended(to, limits, dirty)
            }
        }
    }

    fn push(&mut self, to: ConnId, payload: Payload, label: Label, own: bool) -> Sent {
        let Context { table, pool, limits, dirty, .. } = self;
        let Some(live) = table.get_mut(to) else { return Sent::Dropped(DropReason::Gone) };
        // What it sends to itself is not for others to drop.
        let label = Label { control: label.control || own, ..label };
        live.outbox.push(payload, label, pool);
        live.appended(to, limits, dirty)
    }

    /// Whether a message may be appended, after the policy has made what room it can; and how.
    fn admit(&mut self, to: ConnId, label: Label, own: bool) -> Result<Way, Sent> {
        let Context { table, pool, limits, .. } = self;
        let Some(live) = table.get_mut(to) else { return Err(self.dropped(DropReason::Gone)) };
        let exempt = own || label.control;
        match live.refuses(limits, exempt) {
            None => {}
            Some(DropReason::SlowConsumer) => {
                let max = limits.write_limit;
                let dropped = match live.overflow {
                    Overflow::Close => return Err(self.refused(to, DropReason::SlowConsumer)),
                    Overflow::DropNewest | Overflow::Tell => 0,
                    Overflow::DropOldest => live.outbox.drop_oldest(max, pool),
                    Overflow::Latest => {
                        let of_key = label.key.map_or(0, |key| live.outbox.drop_key(key, pool));
                        if of_key > 0 { of_key } else { live.outbox.drop_obsolete(pool) }
                    }
                };
                let replaces = live.overflow == Overflow::Latest && dropped > 0 && label.key.is_some();
                let admitted = replaces || live.outbox.bytes() <= max;
                self.overflowed(to, dropped + u64::from(!admitted));
                if !admitted {
                    // One that was dropped is in the count of overflows already.
                    self.stats.frames_dropped -= 1;
                    return Err(self.dropped(DropReason::Overflow));
                }
            }
            Some(reason) => return Err(self.dropped(reason)),
        }
        let Some(live) = self.table.get(to) else { return Err(Sent::Dropped(DropReason::Gone)) };
        let labelled = exempt || label.key.is_some();
        let whole = live.overflow != Overflow::Close && labelled || live.outbox.has_parcels();
        Ok(if whole { Way::Whole } else { Way::Plain })
    }

    /// Counts what a policy has dropped, and tells whom it says.
    fn overflowed(&mut self, to: ConnId, dropped: u64) {
        self.stats.frames_dropped += dropped;
        self.stats.frames_overflowed += dropped;
        let Some(live) = self.table.get_mut(to) else { return };
        live.extras().missed += dropped;
        if live.overflow == Overflow::Tell && !live.overflowed {
            live.overflowed = true;
            self.overflowing.push(to);
        }
        // What it holds has changed.
        self.mark_dirty(to);
    }
}

/// How a message is appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// To the bytes that wait.
    Plain,
    /// As a whole message behind them, with its label.
    Whole,
}

/// Bytes of a message that goes to many.
#[derive(Debug, Clone, Copy)]
pub(super) enum Encoded<'a> {
    Copied(&'a [u8]),
    Shared(&'a Shared),
}
