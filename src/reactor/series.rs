//! Broadcasts that follow each other: gathered, and given out in one pass.

use super::Context;
use super::broadcast::Broadcast;
use crate::codec::{Codec, Output};
use crate::handler::{Handler, Outgoing};
use crate::id::ConnId;

/// How many bytes are gathered at most. Far below any mark, so that no judgement could turn out otherwise in the meantime.
const GATHER_MAX: usize = 16 * 1024;

/// A row of broadcasts to the same receivers, of which the first was given out as usual and found every receiver's outbox
/// empty. For the next ones the outcome is known without a look at each, so that they are encoded behind each other here.
/// Whatever touches a connection ends the series first ([`Context::end_series`]), which appends the bytes to each outbox in
/// one pass: order and outcome are those of single broadcasts. 16 broadcasts to 500 receivers cost two walks over them, not 16.
#[derive(Debug)]
pub(super) struct Series<C> {
    codec: C,
    but: Option<ConnId>,
    receivers: usize,
    bytes: Vec<u8>,
    /// Lengths of the gathered frames, and how many of each in a row.
    runs: Vec<(usize, usize)>,
}

impl<C> Series<C> {
    /// Takes back what an encoder had written when it panicked.
    pub(super) fn forget_half_a_frame(&mut self) {
        self.bytes.truncate(self.runs.iter().map(|(len, count)| len * count).sum());
    }
}

impl<H: Handler> Context<H> {
    /// Begins a series after a broadcast to all (but one) that met nothing but empty outboxes.
    pub(super) fn begin_series(&mut self, codec: H::Codec, but: Option<ConnId>, receivers: usize) {
        let limits = &self.limits;
        if receivers > 1 && limits.high_mark.min(limits.write_limit) > 4 * GATHER_MAX {
            let (mut bytes, mut runs) = std::mem::take(&mut self.series_memory);
            bytes.clear();
            runs.clear();
            self.series = Some(Series { codec, but, receivers, bytes, runs });
        }
    }

    /// Adds a broadcast to the series under way. `None` when there is none that it belongs to.
    #[inline]
    pub(super) fn gather(&mut self, but: Option<ConnId>, message: Outgoing<'_, H>) -> Option<Broadcast> {
        let series = self.series.as_mut()?;
        let from = series.bytes.len();
        if series.but != but || from >= GATHER_MAX {
            return None;
        }
        let encoded = series.codec.encode(message, &mut Output::to_vec(&mut series.bytes));
        let len = series.bytes.len() - from;
        if encoded.is_err() || len > GATHER_MAX {
            // Rare enough to be told the usual way.
            series.bytes.truncate(from);
            return None;
        }
        match series.runs.last_mut() {
            Some((last, count)) if *last == len => *count += 1,
            _ => series.runs.push((len, 1)),
        }
        Some(Broadcast { queued: series.receivers, ..Broadcast::default() })
    }

    /// Gives out what was gathered. Called before anything looks at an outbox, or changes who is open.
    #[inline]
    pub(super) fn end_series(&mut self) {
        if self.series.is_some() {
            self.give_out();
        }
    }

    #[inline(never)]
    fn give_out(&mut self) {
        let Some(series) = self.series.take() else { return };
        if !series.bytes.is_empty() {
            let Context { table, pool, limits, dirty, .. } = self;
            for place in 0..table.open().len() {
                let conn = table.open()[place];
                if series.but == Some(conn) {
                    continue;
                }
                if let Some(live) = table.get_mut(conn) {
                    live.outbox.tail(pool).extend_from_slice(&series.bytes);
                    for (len, count) in &series.runs {
                        live.outbox.commit_many(*len, *count, pool);
                    }
                    live.appended(conn, limits, dirty);
                }
            }
        }
        self.series_memory = (series.bytes, series.runs);
    }
}
