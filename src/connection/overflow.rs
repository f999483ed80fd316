//! What becomes of messages for a connection that does not take them fast enough.

/// What becomes of a message that others send to a connection for which more than
/// [`Limits::write_limit`](crate::Limits::write_limit) waits already. Others are all but its own callback: broadcasts, timers,
/// other connections, other threads.
///
/// Every message that is dropped is counted, in [`Stats::frames_dropped`](crate::Stats::frames_dropped), in
/// [`frames_overflowed`](crate::Stats::frames_overflowed), and for the connection in [`Context::missed`](crate::Context::missed). What a connection sends
/// to itself in its own callback, and messages marked as [`control`](crate::Envelope::control), are never dropped. A message of
/// which the first byte was written is always sent to its end. What is dropped was encoded already under `DropOldest` and `Latest`,
/// which therefore are not for codecs whose encoder has a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
#[non_exhaustive]
pub enum Overflow {
    /// The connection is closed, as a slow consumer. The default, because a stream with a hole in it is worse than none for
    /// most protocols.
    #[default]
    Close,
    /// The new message is dropped.
    DropNewest,
    /// The oldest messages that are not begun are dropped until no more than the limit waits. When that is not enough, the new
    /// one is dropped.
    DropOldest,
    /// Conflation: of the messages with the same [`key`](crate::Envelope::key) only the latest is kept, at its own place in the
    /// order. When the new message makes none obsolete (it has no key, or none of its key waits), those that have become so
    /// before are dropped; when more than the limit waits all the same, the new one is dropped.
    Latest,
    /// The new message is dropped and the handler is told, by [`Handler::on_overflow`](crate::Handler::on_overflow), once until the outbox has fallen to the
    /// low mark.
    Tell,
}
