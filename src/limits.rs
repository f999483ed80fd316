//! Every bound of a reactor in one place.

use std::time::Duration;

use crate::connection::Overflow;
use crate::error::Error;

/// The bounds of one reactor. Each breach has a named outcome, and none of them is a surprise of the machine.
///
/// ```
/// use mainspring::Limits;
/// use std::time::Duration;
///
/// let mut limits = Limits::default();
/// limits.idle_timeout = Some(Duration::from_secs(60));
/// assert!(limits.check().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Connections, dialing and adopted ones included. Past it, new clients are accepted and closed at once, and counted as
    /// refused. A number that the process's descriptor limit cannot hold (`RLIMIT_NOFILE`, less 32 for everything else) is
    /// refused when the reactor is built, or lowered by [`Builder::fit_descriptors`](crate::Builder::fit_descriptors). Defaults
    /// to none, which means 100,000 or as many as the descriptors hold: a connection costs some 400 bytes, and that many are an
    /// everyday machine's measure.
    pub connections_max: Option<usize>,
    /// Accepted connections from one source: an IPv4 address, or the /64 of an IPv6 one. Past it, new ones are closed at once,
    /// and counted as refused. Defaults to none, because many clients may share an address behind a gateway or a proxy.
    /// Those of a Unix socket have no address and are not counted: [`ListenOptions::connections_max`](crate::ListenOptions::connections_max)
    /// bounds them.
    pub connections_per_source: Option<usize>,
    /// Connections taken from one listener in one turn. Defaults to 128, because a storm of clients must not delay the
    /// others by more than some hundred microseconds.
    pub accepts_per_turn: usize,
    /// Messages handed over for one connection in one turn. Defaults to 1,024, because at a microsecond each that is a
    /// millisecond for the others to wait; the rest is served in the next turn.
    pub messages_per_turn: usize,
    /// Bytes read from one connection in one turn. Defaults to 1 MiB, a fraction of a millisecond of copying.
    pub read_bytes_per_turn: usize,
    /// Bytes written to one connection in one turn. Defaults to 4 MiB, for the same reason.
    pub write_bytes_per_turn: usize,
    /// Commands of other threads that wait. Past it, or past half of the memory limit, a sender is told, and keeps its message. Defaults to 16,384, because
    /// commands are small and a loop runs that many in some milliseconds.
    pub commands_max: usize,
    /// Commands of other threads run in one turn. Defaults to 1,024, so that a busy producer does not starve the sockets.
    pub commands_per_turn: usize,
    /// Bytes in a connection's outbox above which it is not read, unless we dialed it, see
    /// [`Context::read_above_mark`](crate::Context::read_above_mark). Defaults to 1 MiB, because that keeps the kernel's own
    /// buffer full. It judges what is queued after a message, so that a longer message passes all the same.
    pub high_mark: usize,
    /// Bytes in the outbox below which reading goes on, and `on_writable` comes. Defaults to 256 KiB, a quarter of the high mark, so that it does
    /// not flutter.
    pub low_mark: usize,
    /// Bytes in the outbox above which what *others* send to a connection closes it as a slow consumer. It judges what was
    /// queued before a message, so that one message of any size passes an empty outbox. [`overflow`](Limits::overflow) may say
    /// otherwise. Defaults to 16 MiB, some seconds of a slow line.
    pub write_limit: usize,
    /// What becomes of messages past the write limit, for connections that were not told otherwise. Defaults to
    /// [`Overflow::Close`], see there.
    pub overflow: Overflow,
    /// Bytes held for all connections together: half messages and outboxes by capacity, what is shared once, and commands of
    /// other threads, which are refused as for a full queue when they alone hold half as much. Past it no connection is read
    /// and no client let in; when nothing moves for a second, those that hold the most are closed until the rest fits.
    /// Defaults to 1 GiB, because a process without a bound ends by the system's hand.
    pub memory_limit: usize,
    /// No byte either way for so long closes a connection. Defaults to none, because only the protocol knows how long a
    /// silence may be.
    pub idle_timeout: Option<Duration>,
    /// No whole message within so long after a connection was opened closes it. Defaults to none, because in some protocols
    /// the server speaks first.
    pub first_message_timeout: Option<Duration>,
    /// A frame that is not whole so long after its first byte closes its connection, however many bytes have come since: a
    /// peer that drips is not idle. Stands still while it is not read. Defaults to none, because a long frame on a slow line
    /// may take any time.
    pub frame_timeout: Option<Duration>,
    /// An outbox of which the kernel has taken nothing for so long closes its connection. Defaults to 10 minutes, because a
    /// peer that vanished while it was not read would stay for ever, and TCP itself gives up after about a quarter of an hour.
    pub write_timeout: Option<Duration>,
    /// A dial without an answer ends after this, the look-up of its name and all its addresses together. Defaults to 10 s, because the system's own limit is minutes.
    pub dial_timeout: Duration,
    /// A connection on its way to the end, whose peer has taken nothing of what is queued for so long, is cut. Defaults to
    /// 30 s, because a peer that still reads takes something within that.
    pub close_timeout: Duration,
    /// After a close the peer's further input is discarded for at most so long, so that the kernel's reset does not eat
    /// the last reply. Defaults to 1 s, some round trips of any line.
    pub linger_timeout: Duration,
    /// And at most so many bytes of it. Defaults to 16 MiB, which is more than the kernel's buffers of one connection.
    pub linger_bytes: u64,
    /// So many sockets linger at once; past it the oldest is reset. Defaults to 1,024, because they hold descriptors.
    pub lingering_max: usize,
    /// A callback that holds the loop for longer is reported: counted, kept as the last stall, and written to the log. Defaults
    /// to 500 ms, because a busy machine may take a thread off its processor for a good part of that; the loop itself
    /// needs microseconds.
    pub stall_threshold: Duration,
    /// A client of a listener with TLS that has not ended its handshake within so long is turned away, before it is a connection; it
    /// counts among the connections all the while. Defaults to 10 s, some round trips of the worst line. Dials have
    /// [`dial_timeout`](Limits::dial_timeout) for all of it.
    pub handshake_timeout: Duration,
    /// Handshakes of TLS that are taken further in one turn. Defaults to 8, because one costs up to a millisecond of
    /// arithmetic, which is what open connections wait behind a storm of them.
    pub handshakes_per_turn: usize,
    /// How long a shutdown serves what is left. Defaults to 5 s, within the patience of most supervisors.
    pub drain_timeout: Duration,
    /// Free buffers kept for later, in bytes of capacity. Defaults to 64 MiB, because fresh memory costs a quarter of the
    /// throughput of large messages; what is not needed for a second or two is freed.
    pub spare_bytes: usize,
    /// The read buffer that all connections share, in bytes. Defaults to 256 KiB, because with 64 KiB every frame of that
    /// size arrives in halves.
    pub read_buffer: usize,
    /// Events taken from the system at a time. Defaults to 1,024.
    pub events: usize,
}

/// What [`Limits::connections_max`] means by default, where descriptors suffice.
pub(crate) const CONNECTIONS_MAX: usize = 100_000;

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: None,
            connections_per_source: None,
            accepts_per_turn: 128,
            messages_per_turn: 1_024,
            read_bytes_per_turn: 1024 * 1024,
            write_bytes_per_turn: 4 * 1024 * 1024,
            commands_max: 16_384,
            commands_per_turn: 1_024,
            high_mark: 1024 * 1024,
            low_mark: 256 * 1024,
            write_limit: 16 * 1024 * 1024,
            overflow: Overflow::Close,
            memory_limit: 1024 * 1024 * 1024,
            idle_timeout: None,
            first_message_timeout: None,
            frame_timeout: None,
            write_timeout: Some(Duration::from_secs(600)),
            dial_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(30),
            linger_timeout: Duration::from_secs(1),
            linger_bytes: 16 * 1024 * 1024,
            lingering_max: 1_024,
            stall_threshold: Duration::from_millis(500),
            handshake_timeout: Duration::from_secs(10),
            handshakes_per_turn: 8,
            drain_timeout: Duration::from_secs(5),
            spare_bytes: 64 * 1024 * 1024,
            read_buffer: 256 * 1024,
            events: 1_024,
        }
    }
}

impl Limits {
    /// So much may commands of other threads hold. Half of all, so that however fast they come there is memory left to read
    /// with.
    pub(crate) fn command_bytes(&self) -> usize {
        (self.memory_limit / 2).max(1)
    }

    /// Whether the limits can hold together.
    ///
    /// # Errors
    /// A bound that would stop everything is zero, or two contradict each other. The text says which.
    pub fn check(&self) -> Result<(), Error> {
        let positive = [
            (self.accepts_per_turn, "accepts_per_turn is zero: nobody would be accepted"),
            (self.handshakes_per_turn, "handshakes_per_turn is zero: nobody would be let in by TLS"),
            (self.messages_per_turn, "messages_per_turn is zero: nothing would be delivered"),
            (self.read_bytes_per_turn, "read_bytes_per_turn is zero: nothing would be read"),
            (self.write_bytes_per_turn, "write_bytes_per_turn is zero: nothing would be written"),
            (self.commands_max, "commands_max is zero: no thread could send anything"),
            (self.commands_per_turn, "commands_per_turn is zero: no command would be run"),
            (self.memory_limit, "memory_limit is zero: nothing would be read"),
            (self.high_mark, "high_mark is zero: nothing would be read"),
            (self.events, "events is zero: nothing would be seen"),
        ];
        for (value, what) in positive {
            if value == 0 {
                return Err(Error::Config(what));
            }
        }
        if self.low_mark > self.high_mark {
            return Err(Error::Config(
                "low_mark is above high_mark: a paused connection would not know when to go on",
            ));
        }
        if self.read_buffer < 2 * crate::connection::COPY_IN_MAX {
            return Err(Error::Config(
                "read_buffer is below 32 KiB: half a message would not fit in front of a read",
            ));
        }
        if self.connections_max.is_some_and(|max| max >= 1 << 30) {
            return Err(Error::Config("connections_max is above a thousand million"));
        }
        let timeouts = [
            (self.idle_timeout, "idle_timeout is zero: every connection would be closed at once"),
            (self.first_message_timeout, "first_message_timeout is zero: nobody could be so fast"),
            (self.frame_timeout, "frame_timeout is zero: no frame could come in pieces"),
            (self.write_timeout, "write_timeout is zero: nothing could wait"),
        ];
        for (timeout, what) in timeouts {
            if timeout == Some(Duration::ZERO) {
                return Err(Error::Config(what));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictory_limits_are_refused() {
        assert!(Limits::default().check().is_ok());
        let broken: [fn(&mut Limits); 5] = [
            |l| l.low_mark = l.high_mark + 1,
            |l| l.messages_per_turn = 0,
            |l| l.read_buffer = 1_000,
            |l| l.idle_timeout = Some(Duration::ZERO),
            |l| l.connections_max = Some(usize::MAX),
        ];
        for breaks in broken {
            let mut limits = Limits::default();
            breaks(&mut limits);
            assert!(matches!(limits.check(), Err(Error::Config(_))), "{limits:?}");
        }
    }
}
