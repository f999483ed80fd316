//! Why a connection gets no messages at the moment.

/// One cause for handing over no further message. Each is lifted by whoever set it; a message is delivered when none is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Halt {
    /// The handler paused it.
    Handler = 1,
    /// Its outbox is above the high mark.
    HighMark = 2,
    /// It is closing, draining, or not open yet: there will be no further message in this phase.
    Phase = 4,
    /// It has brought more than its rate.
    Rate = 8,
    /// As many of its jobs are under way as may be.
    Workers = 16,
}

/// A set of [`Halt`]s, looked at before each message.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Halts(u8);

impl Halts {
    #[inline]
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[inline]
    pub(crate) fn contains(self, halt: Halt) -> bool {
        self.0 & halt as u8 != 0
    }

    #[inline]
    pub(crate) fn set(&mut self, halt: Halt) {
        self.0 |= halt as u8;
    }

    /// Lifts one cause. True when it was the last one, so that the connection has to be looked at again.
    #[inline]
    #[must_use]
    pub(crate) fn lift(&mut self, halt: Halt) -> bool {
        let before = self.0;
        self.0 &= !(halt as u8);
        before != 0 && self.0 == 0
    }
}
