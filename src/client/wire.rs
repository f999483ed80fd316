//! Reads and writes of a blocking client, each of which waits for no longer than what is left of its call's time.
//!
//! The one judge of what they answer, for the client and the channel alike. What is below is behind [`Socket`], so that a
//! test can interrupt it, and give it bytes in pieces.

use std::io::{self, IoSlice, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::net::{AnyStream, clock, write_slices};

/// How long one system call may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    Never,
    /// Never zero.
    AtMost(Duration),
    Forever,
}

/// How long a whole call may take, however many system calls that is.
#[derive(Debug)]
pub(super) struct Patience {
    began: Instant,
    limit: Option<Duration>,
    begun: bool,
}

impl Patience {
    /// From now on, for no longer than `limit`. Zero means: what can be done without waiting.
    pub(super) fn new(limit: Option<Duration>) -> Patience {
        Patience { began: clock::now(), limit, begun: false }
    }

    pub(super) fn elapsed(&self) -> Duration {
        clock::now().saturating_duration_since(self.began)
    }

    /// How long the next system call may wait; none when time is up. The first one may always be made, and has the whole
    /// time, so that the socket's own timeout is the same in each call and need not be set again.
    pub(super) fn next_wait(&mut self) -> Option<Wait> {
        let first = !std::mem::replace(&mut self.begun, true);
        match self.limit {
            None => Some(Wait::Forever),
            Some(Duration::ZERO) if first => Some(Wait::Never),
            Some(limit) if first => Some(Wait::AtMost(limit)),
            // Those that wait for nothing may go on for as long as there is something.
            Some(Duration::ZERO) => Some(Wait::Never),
            Some(limit) => {
                let left = limit.saturating_sub(self.elapsed());
                (left > Duration::ZERO).then_some(Wait::AtMost(left))
            }
        }
    }

    /// What is left; none means for ever.
    pub(super) fn left(&self) -> Option<Duration> {
        self.limit.map(|limit| limit.saturating_sub(self.elapsed()))
    }
}

/// A stream whose calls can wait.
pub(super) trait Socket {
    fn read(&mut self, into: &mut [u8], wait: Wait) -> io::Result<usize>;
    fn write(&mut self, slices: &[IoSlice<'_>], wait: Wait) -> io::Result<usize>;
}

/// What a read brought.
#[derive(Debug)]
pub(super) enum Received {
    /// So many bytes.
    Some(usize),
    /// Nothing in time.
    Nothing,
    /// The peer has ended its side.
    End,
    /// The connection is broken.
    Failed(io::Error),
}

/// Reads once. `into` is not empty: a read of nothing would look like the end.
pub(super) fn receive(socket: &mut impl Socket, into: &mut [u8], patience: &mut Patience) -> Received {
    debug_assert!(!into.is_empty(), "a read into nothing would look like the end");
    while let Some(wait) = patience.next_wait() {
        match socket.read(into, wait) {
            Ok(0) => return Received::End,
            Ok(n) => return Received::Some(n),
            Err(error) => match verdict(&error, wait) {
                Verdict::Again => {}
                Verdict::Nothing => return Received::Nothing,
                Verdict::Failed => return Received::Failed(error),
            },
        }
    }
    Received::Nothing
}

/// What a write achieved.
#[derive(Debug)]
pub(super) enum Sent {
    /// So many bytes were taken, at least one.
    Some(usize),
    /// None was taken in time.
    Nothing,
    /// The connection is broken.
    Failed(io::Error),
}

/// Writes once. There is at least one byte in `slices`.
pub(super) fn send(socket: &mut impl Socket, slices: &[IoSlice<'_>], patience: &mut Patience) -> Sent {
    while let Some(wait) = patience.next_wait() {
        match socket.write(slices, wait) {
            // A stream that takes nothing of something will never take more.
            Ok(0) => return Sent::Failed(io::ErrorKind::WriteZero.into()),
            Ok(n) => return Sent::Some(n),
            Err(error) => match verdict(&error, wait) {
                Verdict::Again => {}
                Verdict::Nothing => return Sent::Nothing,
                Verdict::Failed => return Sent::Failed(error),
            },
        }
    }
    Sent::Nothing
}

/// Why a send has stopped before its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// Time is up.
    TimedOut,
    Failed(io::Error),
}

/// Writes all of `slices`. Answers how many bytes were taken, and why no more.
pub(super) fn send_all(
    socket: &mut impl Socket,
    mut slices: &mut [IoSlice<'_>],
    patience: &mut Patience,
) -> (usize, Option<Stop>) {
    let mut written = 0;
    // Takes empty slices off the front.
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match send(socket, slices, patience) {
            Sent::Some(n) => {
                written += n;
                IoSlice::advance_slices(&mut slices, n);
            }
            Sent::Nothing => return (written, Some(Stop::TimedOut)),
            Sent::Failed(error) => return (written, Some(Stop::Failed(error))),
        }
    }
    (written, None)
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Again,
    Nothing,
    Failed,
}

/// The verdict on an error of a read or a write that could wait for so long.
fn verdict(error: &io::Error, wait: Wait) -> Verdict {
    // A socket's own timeout says that it would block; on Windows it says that it has timed out. Elsewhere that is TCP
    // itself, which has given up on the peer.
    let waited = match error.kind() {
        io::ErrorKind::Interrupted => return Verdict::Again,
        io::ErrorKind::WouldBlock => true,
        io::ErrorKind::TimedOut => cfg!(windows),
        _ => false,
    };
    match wait {
        _ if !waited => Verdict::Failed,
        Wait::Never => Verdict::Nothing,
        // It may have been a little early: whether time is up, the clock says.
        Wait::AtMost(_) => Verdict::Again,
        // Somebody has made the socket non-blocking behind our back. To try again would spin.
        Wait::Forever => Verdict::Failed,
    }
}

/// A socket of the system. The timeouts and the mode are set when they change, and not for each call.
#[derive(Debug)]
pub(super) struct Tcp {
    pub(super) stream: Arc<AnyStream>,
    /// What the socket's timeouts are set to.
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    nonblocking: bool,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<Box<super::tls::Tls>>,
}

impl Tcp {
    /// Takes a socket in. Whatever mode and timeouts it has are overwritten.
    pub(super) fn new(stream: AnyStream) -> io::Result<Tcp> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(None)?;
        stream.set_write_timeout(None)?;
        Ok(Tcp {
            stream: Arc::new(stream),
            read_timeout: None,
            write_timeout: None,
            nonblocking: false,
            #[cfg(feature = "tls")]
            tls: None,
        })
    }

    pub(super) fn stream(&self) -> &AnyStream {
        &self.stream
    }

    /// For two threads: one that reads, one that writes, and the socket itself. None of them may ask for a call that
    /// never waits: whether calls wait is a matter of the socket, for both.
    pub(super) fn split(mut self) -> io::Result<(Tcp, Tcp, Arc<AnyStream>)> {
        self.set_nonblocking(false)?;
        let writing = Tcp {
            stream: Arc::clone(&self.stream),
            #[cfg(feature = "tls")]
            tls: self.tls.as_mut().map(|tls| Box::new(tls.split())),
            ..self
        };
        let stream = Arc::clone(&self.stream);
        Ok((self, writing, stream))
    }

    /// Hands the socket out, blocking and without timeouts.
    pub(super) fn into_std(mut self) -> io::Result<AnyStream> {
        self.set_nonblocking(false)?;
        self.stream.set_read_timeout(None)?;
        self.stream.set_write_timeout(None)?;
        match Arc::try_unwrap(self.stream) {
            Ok(stream) => Ok(stream),
            Err(shared) => shared.try_clone(),
        }
    }

    pub(super) fn set_nonblocking(&mut self, nonblocking: bool) -> io::Result<()> {
        if self.nonblocking != nonblocking {
            self.stream.set_nonblocking(nonblocking)?;
            self.nonblocking = nonblocking;
        }
        Ok(())
    }
}

impl Socket for Tcp {
    fn read(&mut self, into: &mut [u8], wait: Wait) -> io::Result<usize> {
        #[cfg(feature = "tls")]
        if let Some(mut tls) = self.tls.take() {
            let read = tls.read(self, into, wait);
            self.tls = Some(tls);
            return read;
        }
        self.raw_read(into, wait)
    }

    fn write(&mut self, slices: &[IoSlice<'_>], wait: Wait) -> io::Result<usize> {
        #[cfg(feature = "tls")]
        if let Some(mut tls) = self.tls.take() {
            let written = tls.write(self, slices, wait);
            self.tls = Some(tls);
            return written;
        }
        self.raw_write(slices, wait)
    }
}

impl Tcp {
    pub(super) fn raw_read(&mut self, into: &mut [u8], wait: Wait) -> io::Result<usize> {
        self.set_nonblocking(wait == Wait::Never)?;
        let timeout = if let Wait::AtMost(time) = wait { Some(time) } else { None };
        if wait != Wait::Never && self.read_timeout != timeout {
            self.stream.set_read_timeout(timeout)?;
            self.read_timeout = timeout;
        }
        (&*self.stream).read(into)
    }

    pub(super) fn raw_write(&mut self, slices: &[IoSlice<'_>], wait: Wait) -> io::Result<usize> {
        self.set_nonblocking(wait == Wait::Never)?;
        let timeout = if let Wait::AtMost(time) = wait { Some(time) } else { None };
        if wait != Wait::Never && self.write_timeout != timeout {
            self.stream.set_write_timeout(timeout)?;
            self.write_timeout = timeout;
        }
        write_slices(SockRef::from(&*self.stream), slices)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// A socket that answers what a test has written down.
    #[derive(Debug, Default)]
    pub(in crate::client) struct Script {
        pub(in crate::client) answers: VecDeque<Result<usize, io::ErrorKind>>,
        pub(in crate::client) waits: Vec<Wait>,
        pub(in crate::client) written: Vec<u8>,
    }

    impl Script {
        pub(in crate::client) fn new<const N: usize>(answers: [Result<usize, io::ErrorKind>; N]) -> Script {
            Script { answers: answers.into(), ..Script::default() }
        }

        fn next(&mut self, wait: Wait) -> io::Result<usize> {
            self.waits.push(wait);
            self.answers.pop_front().expect("no call more than is written down").map_err(io::Error::from)
        }
    }

    impl Socket for Script {
        fn read(&mut self, into: &mut [u8], wait: Wait) -> io::Result<usize> {
            let n = self.next(wait)?.min(into.len());
            into[..n].fill(7);
            Ok(n)
        }

        fn write(&mut self, slices: &[IoSlice<'_>], wait: Wait) -> io::Result<usize> {
            let n = self.next(wait)?;
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            let n = n.min(all.len());
            self.written.extend_from_slice(&all[..n]);
            Ok(n)
        }
    }

    use io::ErrorKind::{ConnectionReset, Interrupted, TimedOut, WouldBlock};

    #[test]
    fn an_interrupted_read_is_made_again() {
        let mut script = Script::new([Err(Interrupted), Err(Interrupted), Ok(3)]);
        let received = receive(&mut script, &mut [0; 8], &mut Patience::new(None));
        assert!(matches!(received, Received::Some(3)), "{received:?}");
        assert_eq!(script.waits, [Wait::Forever; 3]);
    }

    #[test]
    fn an_interrupted_read_has_what_is_left_of_the_time_and_no_more() {
        let limit = Duration::from_secs(3600);
        let mut script = Script::new([Err(Interrupted), Ok(1)]);
        receive(&mut script, &mut [0; 8], &mut Patience::new(Some(limit)));
        assert_eq!(script.waits[0], Wait::AtMost(limit));
        assert!(matches!(script.waits[1], Wait::AtMost(left) if left < limit), "{:?}", script.waits);
    }

    #[test]
    fn a_read_that_was_too_early_waits_on_and_one_whose_time_is_up_does_not() {
        let mut script = Script::new([Err(WouldBlock), Ok(1)]);
        let received = receive(&mut script, &mut [0; 8], &mut Patience::new(Some(Duration::from_secs(3600))));
        assert!(matches!(received, Received::Some(1)), "{received:?}");
        let mut script = Script::new([Err(WouldBlock)]);
        let mut patience = Patience::new(Some(Duration::from_nanos(1)));
        assert!(matches!(receive(&mut script, &mut [0; 8], &mut patience), Received::Nothing));
    }

    #[test]
    fn each_error_has_its_verdict() {
        let some = Wait::AtMost(Duration::from_secs(1));
        let rows = [
            (Interrupted, Wait::Forever, Verdict::Again),
            (Interrupted, Wait::Never, Verdict::Again),
            (WouldBlock, Wait::Never, Verdict::Nothing),
            (WouldBlock, some, Verdict::Again),
            (WouldBlock, Wait::Forever, Verdict::Failed),
            (ConnectionReset, some, Verdict::Failed),
            (io::ErrorKind::Other, Wait::Never, Verdict::Failed),
        ];
        for (kind, wait, expected) in rows {
            assert_eq!(verdict(&kind.into(), wait), expected, "{kind:?} {wait:?}");
        }
        // The retransmission limit of TCP, or its keepalive: the peer is gone, whatever our own time limit is.
        #[cfg(unix)]
        assert_eq!(verdict(&TimedOut.into(), some), Verdict::Failed);
        #[cfg(windows)]
        assert_eq!(verdict(&TimedOut.into(), some), Verdict::Again);
    }

    #[test]
    fn zero_patience_makes_one_try_that_never_waits() {
        let mut script = Script::new([Err(WouldBlock)]);
        let mut patience = Patience::new(Some(Duration::ZERO));
        assert!(matches!(receive(&mut script, &mut [0; 8], &mut patience), Received::Nothing));
        assert_eq!(script.waits, [Wait::Never]);
    }

    #[test]
    fn a_send_in_pieces_puts_out_every_byte_once() {
        let mut script = Script::new([Ok(1), Err(Interrupted), Ok(3), Ok(1), Ok(100)]);
        let parts: [&[u8]; 4] = [b"", b"head", b"", b"payload"];
        let mut slices = parts.map(IoSlice::new);
        let (written, stop) = send_all(&mut script, &mut slices, &mut Patience::new(None));
        assert_eq!((written, stop.is_none()), (11, true));
        assert_eq!(script.written, b"headpayload");
    }

    #[test]
    fn a_send_of_nothing_writes_nothing() {
        let mut script = Script::new([]);
        let (written, stop) = send_all(&mut script, &mut [IoSlice::new(b"")], &mut Patience::new(None));
        assert_eq!((written, stop.is_none()), (0, true));
    }

    #[test]
    fn a_send_that_stops_says_how_far_it_came() {
        let mut script = Script::new([Ok(2), Err(ConnectionReset)]);
        let (written, stop) =
            send_all(&mut script, &mut [IoSlice::new(b"message")], &mut Patience::new(None));
        assert!(matches!(stop, Some(Stop::Failed(error)) if error.kind() == ConnectionReset));
        assert_eq!(written, 2);
        let mut script = Script::new([Ok(0)]);
        let (_, stop) = send_all(&mut script, &mut [IoSlice::new(b"m")], &mut Patience::new(None));
        assert!(matches!(stop, Some(Stop::Failed(error)) if error.kind() == io::ErrorKind::WriteZero));
    }
}
