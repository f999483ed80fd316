//! What time it is, without asking the system for each message.

use std::time::Instant;

use mainspring::ConnId;

use crate::schedule::nanos;

/// Nanoseconds since it was made.
pub(crate) struct Clock {
    start: Instant,
    /// What was read last, for which turn and which connection, and how many more bytes of replies it holds for.
    nanos: u64,
    turn: Instant,
    conn: Option<ConnId>,
    bytes: usize,
}

impl Clock {
    /// What comes in one read came before it was asked what time it is, and is looked at within a few microseconds: one look
    /// at the clock does for it. This is less than the reactor reads at a time.
    const BYTES: usize = 16 << 10;

    pub(crate) fn new() -> Clock {
        let start = now();
        Clock { start, nanos: 0, turn: start, conn: None, bytes: 0 }
    }

    #[inline]
    pub(crate) fn read(&self) -> u64 {
        self.at(now())
    }

    pub(crate) fn at(&self, time: Instant) -> u64 {
        nanos(time.saturating_duration_since(self.start))
    }

    /// The time at which a reply of `len` bytes has come.
    #[inline]
    pub(crate) fn of_reply(&mut self, turn: Instant, conn: ConnId, len: usize) -> u64 {
        if self.bytes < len || self.conn != Some(conn) || self.turn != turn {
            (self.turn, self.conn, self.bytes) = (turn, Some(conn), Clock::BYTES.max(len));
            self.nanos = self.read();
        }
        self.bytes -= len;
        self.nanos
    }
}

#[expect(clippy::disallowed_methods, reason = "a turn has one time, and what it brings comes at several")]
fn now() -> Instant {
    Instant::now()
}
