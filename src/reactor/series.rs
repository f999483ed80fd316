//! Messages that follow each other: gathered, and given out in one pass.

use log::trace;

use super::Context;
use super::broadcast::{Broadcast, Encoded};
use super::send::{DropReason, Sent};
use crate::buffer::Label;
use crate::codec::{Codec, Output};
use crate::handler::{Handler, Outgoing};
use crate::id::ConnId;

/// How many bytes are gathered at most. Far below any mark, so that no judgement could turn out otherwise in the meantime.
const GATHER_MAX: usize = 16 * 1024;
/// A reply longer than this is not gathered: copying it twice would cost more than judging it does.
const REPLY_MAX: usize = 1024;

/// A row of messages to the same receivers, who were judged when it began. For the next ones the outcome is known without a
/// look, so that they are encoded behind each other here. Whatever touches a connection ends the series first
/// ([`Context::end_series`]), which appends the bytes to each outbox in one pass: order and outcome are those of single
/// messages. 16 broadcasts to 500 receivers cost two walks over them, not 16; of 32 replies to 32 messages of one read two
/// are judged.
///
/// Broadcasts that nothing has ended are given out at the end of the turn, each receiver's copy written before the next one is
/// made: so all copies are made in one buffer, which never leaves the processor's cache.
#[derive(Debug)]
pub(super) struct Series<C> {
    to: Receivers<C>,
    /// What was gathered. Kept when there is no series, for its memory.
    bytes: Vec<u8>,
    /// Lengths of the gathered frames, and how many of each in a row.
    runs: Vec<(usize, usize)>,
    /// Somebody was in the way of a series of broadcasts, and is likely to be so for the rest of the turn.
    barred: bool,
}

#[derive(Debug)]
enum Receivers<C> {
    /// There is no series.
    Nobody,
    /// All who are open, or all but one. Their outboxes are empty, and their codecs encode alike.
    Everybody { codec: C, but: Option<ConnId>, count: usize },
    /// The connection whose message is being handed over, with room for so many bytes below its marks. Something waits
    /// in its outbox, the first replies.
    Sender { conn: ConnId, room: usize },
}

impl<C> Series<C> {
    pub(super) fn new() -> Series<C> {
        Series { to: Receivers::Nobody, bytes: Vec::new(), runs: Vec::new(), barred: false }
    }

    fn begin(&mut self, to: Receivers<C>) {
        self.bytes.clear();
        self.runs.clear();
        self.to = to;
    }

    /// A frame ends here.
    #[inline]
    fn mark(&mut self, len: usize) {
        if len == 0 {
            return; // a message without bytes, as some framings have it
        }
        match self.runs.last_mut() {
            Some((last, count)) if *last == len => *count += 1,
            _ => self.runs.push((len, 1)),
        }
    }

    /// Whether broadcasts are gathered.
    #[inline]
    pub(super) fn is_for_everybody(&self) -> bool {
        matches!(self.to, Receivers::Everybody { .. })
    }

    /// Takes back what an encoder had written when it panicked.
    pub(super) fn forget_half_a_frame(&mut self) {
        self.bytes.truncate(self.runs.iter().map(|(len, count)| len * count).sum());
    }
}

impl<H: Handler> Context<H> {
    /// Begins a series with this broadcast, if nothing stands in the way of anybody. `None` when it has to be told to each.
    pub(super) fn begin_broadcasts(
        &mut self,
        but: Option<ConnId>,
        message: Outgoing<'_, H>,
        encoded: &mut Option<Encoded<H::Codec>>,
    ) -> Option<Broadcast> {
        let limits = &self.limits;
        if self.series.barred || limits.high_mark.min(limits.write_limit) <= 4 * GATHER_MAX {
            return None;
        }
        let Some((codec, count)) = self.judge_everybody(but) else {
            self.series.barred = true;
            return None;
        };
        self.series.begin(Receivers::Everybody { codec, but, count });
        let begun = self.gather(but, message, encoded);
        if begun.is_none() {
            self.series.to = Receivers::Nobody;
        }
        begun
    }

    /// A codec for all but one of the open, and how many they are, if nothing waits for any of them.
    fn judge_everybody(&self, but: Option<ConnId>) -> Option<(H::Codec, usize)> {
        let mut codec: Option<&H::Codec> = None;
        let mut count = 0;
        for conn in self.table.open() {
            if but == Some(*conn) {
                continue;
            }
            let live = self.table.get(*conn)?;
            let own = self.current == Some(*conn);
            if !live.outbox.is_empty() || live.takes_whole(&self.limits, Label::default(), own) {
                return None;
            }
            if !codec.unwrap_or(&live.codec).same_encoding(&live.codec) {
                return None;
            }
            codec = codec.or(Some(&live.codec));
            count += 1;
        }
        // One alone is sent to as well as broadcast to.
        codec.filter(|_| count > 1).map(|codec| (codec.clone(), count))
    }

    /// Begins a series after the second reply to messages of one read, which had `len` bytes; so many bytes wait by now.
    #[inline(never)]
    pub(super) fn begin_replies(&mut self, conn: ConnId, len: usize, waiting: usize) {
        if len > REPLY_MAX {
            return;
        }
        let room = self.limits.high_mark.saturating_sub(waiting).min(GATHER_MAX);
        self.series.begin(Receivers::Sender { conn, room });
    }

    /// Adds a broadcast to the series under way. `None` when there is none that it belongs to, or when it is a long one; then
    /// it may have been encoded already.
    #[inline]
    pub(super) fn gather(
        &mut self,
        to_all_but: Option<ConnId>,
        message: Outgoing<'_, H>,
        encoded: &mut Option<Encoded<H::Codec>>,
    ) -> Option<Broadcast> {
        let Context { series, scratch, ledger, .. } = self;
        let Receivers::Everybody { codec, but, count } = &series.to else { return None };
        if *but != to_all_but || series.bytes.len() >= GATHER_MAX {
            return None;
        }
        let queued = *count;
        let fresh = Encoded::new(codec.clone(), message, scratch, ledger);
        if !fresh.is_copied() {
            *encoded = Some(fresh);
            return None;
        }
        series.bytes.extend_from_slice(scratch);
        series.mark(scratch.len());
        Some(Broadcast { queued, ..Broadcast::default() })
    }

    /// Whether a message to `to` belongs to the replies that are gathered.
    #[inline]
    pub(super) fn is_replying_to(&self, to: ConnId) -> bool {
        matches!(self.series.to, Receivers::Sender { conn, .. } if conn == to)
    }

    /// Adds a reply to the series under way, which is one of [replies to `to`](Context::is_replying_to).
    #[inline]
    pub(super) fn reply(&mut self, to: ConnId, message: Outgoing<'_, H>) -> Sent {
        let Context { series, table, pool, .. } = self;
        let (Receivers::Sender { room, .. }, Some(live)) = (&series.to, table.get_mut(to)) else {
            return self.dropped(DropReason::Gone);
        };
        let room = *room;
        let from = series.bytes.len();
        let mut out = Output::new(&mut series.bytes, REPLY_MAX);
        match live.codec.encode(message, &mut out) {
            Ok(()) if out.has_copied_all() => {
                let end = series.bytes.len();
                trace!("connection {to}: a frame of {} bytes to send", end - from);
                series.mark(end - from);
                if end > room {
                    series.to = Receivers::Nobody;
                    return self.give_out_to(to);
                }
                Sent::Queued
            }
            // It goes behind what was gathered, by the usual way.
            Ok(()) => {
                let segments = out.into_segments();
                let mut copied = pool.output(0);
                copied.extend_from_slice(&series.bytes[from..]);
                series.bytes.truncate(from);
                self.give_out();
                self.append_parts(to, copied, &segments)
            }
            Err(error) => {
                series.bytes.truncate(from);
                self.dropped(DropReason::Refused(error))
            }
        }
    }

    /// Gives out and writes what was gathered for everybody. At the end of a turn.
    pub(super) fn flush_series(&mut self) {
        self.series.barred = false;
        if !self.series.is_for_everybody() {
            return;
        }
        if let Receivers::Everybody { but, .. } = std::mem::replace(&mut self.series.to, Receivers::Nobody) {
            // Nothing in here opens or removes a connection, so that places stay what they are.
            for place in 0..self.table.open().len() {
                let conn = self.table.open()[place];
                if but != Some(conn) {
                    if let Some(live) = self.table.get_mut(conn) {
                        // It is flushed at once, and need not be listed for that.
                        live.dirty = true;
                    }
                    self.give_out_to(conn);
                    self.flush(conn);
                }
            }
        }
    }

    /// Gives out what was gathered. Called before anything looks at an outbox, or changes who is open.
    #[inline]
    pub(super) fn end_series(&mut self) {
        if !matches!(self.series.to, Receivers::Nobody) {
            self.give_out();
        }
    }

    #[inline(never)]
    fn give_out(&mut self) {
        match std::mem::replace(&mut self.series.to, Receivers::Nobody) {
            Receivers::Nobody => {}
            Receivers::Everybody { but, .. } => {
                // Nothing in here opens or removes a connection, so that places stay what they are.
                for place in 0..self.table.open().len() {
                    let conn = self.table.open()[place];
                    if but != Some(conn) {
                        self.give_out_to(conn);
                    }
                }
            }
            Receivers::Sender { conn, .. } => drop(self.give_out_to(conn)),
        }
    }

    #[inline]
    fn give_out_to(&mut self, conn: ConnId) -> Sent {
        let Context { table, pool, limits, dirty, series, .. } = self;
        let Some(live) = table.get_mut(conn) else { return Sent::Dropped(DropReason::Gone) };
        if series.bytes.is_empty() {
            return Sent::Queued;
        }
        live.outbox.tail(pool).extend_from_slice(&series.bytes);
        for (len, count) in &series.runs {
            live.outbox.commit_many(*len, *count, pool);
        }
        live.appended(conn, limits, dirty)
    }
}
