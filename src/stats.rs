//! What has happened so far, in numbers.

use crate::connection::CloseReason;

/// The counters of one reactor, at one moment. Sums over reactors with [`add`](Stats::add).
///
/// Always true between turns: `accepted + connected == open + closed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Connections that were opened for a client, sockets that were adopted included.
    pub accepted: u64,
    /// Dials that succeeded.
    pub connected: u64,
    /// Connections open now.
    pub open: u64,
    /// Connections that have ended.
    pub closed: u64,
    /// Clients turned away: over the limit, by the handler, or because their socket or their TLS handshake failed before
    /// they were open.
    pub refused: u64,
    /// Of those, because of their header of the PROXY protocol: none, a wrong one, not in time, or from somebody who is not
    /// trusted to send one.
    pub proxy_refused: u64,
    /// Those of them with whom no TLS could be agreed on, or not in time.
    pub handshakes_failed: u64,
    /// Dials that failed.
    pub dials_failed: u64,
    /// Errors of `accept`: no descriptors, or clients that were gone by then.
    pub accept_errors: u64,
    /// Whole messages handed to the handler.
    pub frames_in: u64,
    /// Bytes of frames longer than the maximum that were skipped.
    pub bytes_skipped: u64,
    /// Messages handed to the kernel whole.
    pub frames_out: u64,
    /// Messages that were sent to a connection and dropped: it is gone, closing, or too slow, or its framing cannot say them.
    pub frames_dropped: u64,
    /// Of those, by an [`Overflow`](crate::Overflow) policy.
    pub frames_overflowed: u64,
    /// Bytes of the streams that were read, prefixes and delimiters included.
    pub bytes_in: u64,
    /// Bytes that the kernel took.
    pub bytes_out: u64,
    /// Bytes held for connections now, both ways, by capacity.
    pub buffered_bytes: u64,
    /// Events for connections that were gone, and ignored.
    pub stale_events: u64,
    /// Turns of the loop.
    pub turns: u64,
    /// Callbacks that have held the loop for longer than the stall threshold.
    pub stalls: u64,
    /// Panics that were caught.
    pub panics: u64,
    /// How often other threads have woken the loop for what they had queued: once for all that is queued until it looks.
    pub wakeups: u64,
    /// Waits that began with asking again and again, see [`Builder::busy_poll`](crate::Builder::busy_poll).
    pub busy_polls: u64,
    /// Those of them to which an event came before they slept.
    pub busy_poll_hits: u64,
    closes: [u64; CloseReason::KINDS],
}

impl Stats {
    /// How many connections have ended for each kind of reason, by its [name](CloseReason::name).
    pub fn closes(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        CloseReason::NAMES.into_iter().zip(self.closes)
    }

    pub(crate) fn count_close(&mut self, reason: &CloseReason) {
        self.closed += 1;
        self.closes[reason.kind()] += 1;
    }

    /// Adds the counters of another reactor.
    pub fn add(&mut self, other: &Stats) {
        let pairs = [
            (&mut self.accepted, other.accepted),
            (&mut self.connected, other.connected),
            (&mut self.open, other.open),
            (&mut self.closed, other.closed),
            (&mut self.refused, other.refused),
            (&mut self.proxy_refused, other.proxy_refused),
            (&mut self.handshakes_failed, other.handshakes_failed),
            (&mut self.dials_failed, other.dials_failed),
            (&mut self.accept_errors, other.accept_errors),
            (&mut self.frames_in, other.frames_in),
            (&mut self.bytes_skipped, other.bytes_skipped),
            (&mut self.frames_out, other.frames_out),
            (&mut self.frames_dropped, other.frames_dropped),
            (&mut self.frames_overflowed, other.frames_overflowed),
            (&mut self.bytes_in, other.bytes_in),
            (&mut self.bytes_out, other.bytes_out),
            (&mut self.buffered_bytes, other.buffered_bytes),
            (&mut self.stale_events, other.stale_events),
            (&mut self.turns, other.turns),
            (&mut self.stalls, other.stalls),
            (&mut self.panics, other.panics),
            (&mut self.wakeups, other.wakeups),
            (&mut self.busy_polls, other.busy_polls),
            (&mut self.busy_poll_hits, other.busy_poll_hits),
        ];
        for (mine, theirs) in pairs {
            *mine += theirs;
        }
        for (mine, theirs) in self.closes.iter_mut().zip(other.closes) {
            *mine += theirs;
        }
    }
}
