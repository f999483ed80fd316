//! The way into an outbox by a policy, for messages with a label and for connections that are too slow.

use super::Context;
use super::live::Live;
use super::send::{DropReason, Sent};
use crate::buffer::{Label, Payload};
use crate::codec::{Codec, EncodeError, Output};
use crate::connection::{CloseReason, Overflow};
use crate::handler::Handler;
use crate::id::ConnId;
use crate::limits::Limits;

impl<C: Codec, S: Default> Live<C, S> {
    /// Whether a message is appended as a whole one, behind those that wait as such, or not at all: because a policy may drop it or
    /// must not, because such messages wait already, or because too much waits. `own`: it is sent from its own callback.
    #[inline]
    pub(super) fn takes_whole(&self, limits: &Limits, label: Label, own: bool) -> bool {
        let exempt = own || label.control;
        self.refuses(limits, exempt).is_some()
            || self.outbox.has_parcels()
            || (self.overflow != Overflow::Close && (exempt || label.key.is_some()))
    }
}

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

    /// As [`append`](Context::append), for a message that [takes this way](Live::takes_whole).
    #[inline(never)]
    pub(super) fn append_whole<'m, F>(&mut self, to: ConnId, label: Label, encode: F) -> Sent
    where
        F: FnOnce(&mut H::Codec, &mut Output<'_, 'm>) -> Result<(), EncodeError>,
    {
        if let Some(sent) = self.turned_down(to, label) {
            return sent;
        }
        let Some(live) = self.table.get_mut(to) else { return self.dropped(DropReason::Gone) };
        // Before anything is dropped for it: a message that cannot be said must not cost others their place.
        let mut bytes = Vec::new();
        match encode(&mut live.codec, &mut Output::to_vec(&mut bytes)) {
            Ok(()) => self.push(to, Payload::Own(bytes.into()), label),
            Err(error) => self.dropped(DropReason::Refused(error)),
        }
    }

    /// Appends a whole message that was encoded, if the connection takes it and its policy finds room.
    pub(super) fn push(&mut self, to: ConnId, payload: Payload, label: Label) -> Sent {
        if let Some(sent) = self.turned_down(to, label) {
            return sent;
        }
        if !self.make_room(to, label) {
            return Sent::Dropped(DropReason::Overflow);
        }
        // What it sends to itself is not for others to drop.
        let label = Label { control: label.control || self.current == Some(to), ..label };
        let Context { table, pool, limits, dirty, .. } = self;
        let Some(live) = table.get_mut(to) else { return self.dropped(DropReason::Gone) };
        live.outbox.push(payload, label, pool);
        live.appended(to, limits, dirty)
    }

    /// The outcome for a message that is not taken, and for which nothing else may be dropped.
    fn turned_down(&mut self, to: ConnId, label: Label) -> Option<Sent> {
        let own = self.current == Some(to);
        let Some(live) = self.table.get(to) else { return Some(self.dropped(DropReason::Gone)) };
        match (live.refuses(&self.limits, own || label.control)?, live.overflow) {
            (DropReason::SlowConsumer, Overflow::DropOldest | Overflow::Latest) => None,
            (DropReason::SlowConsumer, Overflow::DropNewest | Overflow::Tell) => {
                self.overflowed(to, 1);
                Some(Sent::Dropped(DropReason::Overflow))
            }
            (DropReason::SlowConsumer, Overflow::Close) => {
                self.end(to, CloseReason::SlowConsumer);
                Some(self.dropped(DropReason::SlowConsumer))
            }
            (reason, _) => Some(self.dropped(reason)),
        }
    }

    /// Drops what the policy says when more than the limit waits. False when the message itself has to go.
    fn make_room(&mut self, to: ConnId, label: Label) -> bool {
        let exempt = self.current == Some(to) || label.control;
        let Context { table, pool, limits, .. } = self;
        let Some(live) = table.get_mut(to) else { return false };
        if live.refuses(limits, exempt).is_none() {
            return true;
        }
        let (mut replaced, mut dropped) = (0, 0);
        if live.overflow == Overflow::DropOldest {
            dropped = live.outbox.drop_oldest(limits.write_limit, pool);
        } else {
            replaced = label.key.map_or(0, |key| live.outbox.drop_key(key, pool));
            if replaced == 0 {
                dropped = live.outbox.drop_obsolete(pool);
            }
        }
        let room = replaced > 0 || live.outbox.bytes() <= limits.write_limit;
        self.overflowed(to, replaced + dropped + u64::from(!room));
        room
    }

    /// Counts what a policy has dropped, and tells whom it says.
    fn overflowed(&mut self, to: ConnId, dropped: u64) {
        self.stats.frames_dropped += dropped;
        self.stats.frames_overflowed += dropped;
        let Some(live) = self.table.get_mut(to) else { return };
        live.extras().missed += dropped;
        if live.overflow == Overflow::Tell && !live.overflowed {
            live.overflowed = true;
            // A dial is told of when it is open.
            if live.is_open() {
                self.overflowing.push(to);
            }
        }
        // What it holds has changed.
        self.mark_dirty(to);
    }
}
