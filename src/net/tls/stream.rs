//! A TLS session on a stream.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::mem;

use super::super::io::{Received, Written, receive, send};
use super::super::sealed::Handshake;
use super::super::stream::Stream;
use super::session::RECORD_MAX;
use super::{Session, failed};

/// So much cipher text is read at a time: four records.
const READ: usize = 64 * 1024;
/// So much plain text is sealed at a time. What the socket does not take of it is the most that TLS holds for a slow reader.
const SEAL: usize = 64 * 1024;
/// A handshake reads so often before others get their turn. A usual one is in one or two reads.
const HANDSHAKE_READS: usize = 8;

thread_local! {
    /// What is read, and what is sealed, while it is: one buffer of each kind for all connections of a thread.
    static READING: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static SEALING: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// What is to be sealed, when it is in several places.
    static GATHERING: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A session, and the stream below it, whatever that is.
///
/// What is sealed has to go out, and is taken from whoever sends it at once. Until the socket has all of it the stream
/// [holds output](TlsStream::holds_output), and the messages in it are [not counted](TlsStream::count_out). Handshakes, tickets and
/// close_notify are output too, of which nobody else knows.
#[derive(Debug)]
pub(crate) struct TlsStream {
    inner: Stream,
    session: Session,
    /// So much of the session's output is written.
    sent: usize,
    /// Messages that were sealed, and are counted when the socket has taken them.
    uncounted: u64,
    /// The stream has ended without a close_notify.
    cut: bool,
    /// How much cipher text the last read has taken.
    cost: usize,
    /// Our side of the stream is to be shut when all is written.
    shuts: bool,
    /// The failure of the session was told, once.
    told: bool,
    /// Writing has failed: told with the next write.
    broken: Option<io::Error>,
}

impl TlsStream {
    pub(crate) fn new(inner: Stream, session: Session) -> TlsStream {
        TlsStream {
            inner,
            session,
            sent: 0,
            uncounted: 0,
            cut: false,
            cost: 0,
            shuts: false,
            told: false,
            broken: None,
        }
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    pub(crate) fn inner(&self) -> &Stream {
        &self.inner
    }

    pub(crate) fn inner_mut(&mut self) -> &mut Stream {
        &mut self.inner
    }

    // ---- the handshake ---------------------------------------------------------------------------------------------

    /// Goes on with the handshake, as far as what has come allows.
    pub(crate) fn shake_hands(&mut self) -> Handshake {
        let mut worked = false;
        for _ in 0..HANDSHAKE_READS {
            if let Written::Failed(error) = self.push() {
                // A peer that has refused may have said why.
                self.read_once(&mut [], false);
                return Handshake::Failed(self.tell_failure().unwrap_or(error));
            }
            if let Some(error) = self.tell_failure() {
                return Handshake::Failed(error);
            }
            if !self.session.is_handshaking() {
                return Handshake::Done;
            }
            match self.read_once(&mut [], false).1 {
                Received::Some { .. } => worked = true,
                Received::Empty => return Handshake::Pending { worked, more: false },
                Received::End => {
                    let what = "the peer has ended the connection during the TLS handshake";
                    return Handshake::Failed(io::Error::new(io::ErrorKind::UnexpectedEof, what));
                }
                Received::Failed(error) => return Handshake::Failed(error),
            }
        }
        Handshake::Pending { worked, more: true }
    }

    // ---- reading ---------------------------------------------------------------------------------------------------

    /// Reads plain text. It is drained when the socket is, and the session holds none.
    ///
    /// A read that brings none, because no record is whole or because records say something to TLS itself, is one of no bytes:
    /// it has its cost all the same, so that nobody can hold a loop up with them.
    pub(crate) fn receive(&mut self, into: &mut [u8], trust: bool) -> Received {
        self.cost = 0;
        let taken = self.session.take(into);
        if taken > 0 {
            return Received::Some { n: taken, drained: false };
        }
        if let Some(error) = self.tell_failure() {
            // The alert that says why, as far as it goes.
            self.push();
            return Received::Failed(error);
        }
        if self.session.failure().is_some() {
            // Only somebody who drops it still reads.
            return receive(&mut self.inner, into, trust);
        }
        if self.session.is_closed() || self.cut {
            return Received::End;
        }
        let (n, received) = self.read_once(into, trust);
        match received {
            Received::Some { drained, .. } => {
                let more =
                    self.session.opened() > 0 || self.session.is_closed() || self.session.failure().is_some();
                Received::Some { n, drained: drained && !more }
            }
            Received::End => {
                // TCP's end is not TLS' end.
                self.cut = true;
                Received::End
            }
            other => other,
        }
    }

    pub(crate) fn cost(&self) -> usize {
        self.cost
    }

    /// Reads cipher text once, and opens it into `into`. Returns how much plain text that was, and what the stream has answered.
    fn read_once(&mut self, into: &mut [u8], trust: bool) -> (usize, Received) {
        let mut buffer = READING.take();
        // What a small `into` has no room for is held by the session: a record or two.
        let room = READ.min(into.len() + RECORD_MAX);
        let had = self.session.lay_out(&mut buffer, room);
        let received = receive(&mut self.inner, &mut buffer[had..had + room], trust);
        let opened = match received {
            Received::Some { n, .. } => {
                self.cost = n;
                self.session.open(&mut buffer[..had + n], into)
            }
            _ => 0,
        };
        READING.set(buffer);
        (opened, received)
    }

    /// The failure of the session, once.
    fn tell_failure(&mut self) -> Option<io::Error> {
        let error = self.session.failure().filter(|_| !self.told)?;
        let error = failed(error.clone());
        self.told = true;
        Some(error)
    }

    /// Whether the stream has ended without a close_notify: what has come may not be all that was sent.
    pub(crate) fn was_cut(&self) -> bool {
        self.cut
    }

    // ---- writing ---------------------------------------------------------------------------------------------------

    /// Whether something waits to be written that nobody above knows of.
    pub(crate) fn holds_output(&self) -> bool {
        self.unsent() > 0 || self.broken.is_some() || (self.shuts && self.session.failure().is_none())
    }

    /// Bytes that were sealed and not written.
    pub(crate) fn unsent(&self) -> usize {
        self.session.out.len() - self.sent
    }

    /// What it holds in buffers, by capacity.
    pub(crate) fn held(&self) -> usize {
        self.session.held()
    }

    /// So many messages were sealed. Returns how many can be counted as handed over: none while something waits.
    pub(crate) fn count_out(&mut self, frames: u64) -> u64 {
        self.uncounted += frames;
        if self.unsent() > 0 { 0 } else { mem::take(&mut self.uncounted) }
    }

    /// Writes what waits, as far as the socket takes it.
    pub(crate) fn push(&mut self) -> Written {
        if let Some(error) = self.broken.take() {
            return self.fail(error);
        }
        let mut n = 0;
        while self.unsent() > 0 {
            match send(&mut self.inner, &self.session.out[self.sent..]) {
                Written::Some { n: taken, full } => {
                    n += taken;
                    self.sent += taken;
                    if full && self.unsent() > 0 {
                        return Written::Some { n, full };
                    }
                }
                Written::Full if n > 0 => return Written::Some { n, full: true },
                Written::Full => return Written::Full,
                Written::Failed(error) => return self.fail(error),
            }
        }
        (self.session.out, self.sent) = (Vec::new(), 0);
        if mem::take(&mut self.shuts) {
            // It fails on a socket that is broken, and that has an event of its own.
            drop(self.inner.shut_down_writing());
        }
        Written::Some { n, full: false }
    }

    fn fail(&mut self, error: io::Error) -> Written {
        (self.session.out, self.sent, self.shuts) = (Vec::new(), 0, false);
        Written::Failed(error)
    }

    /// Seals and writes the front of `bytes`. What was sealed has to go out: it is taken, whether or not the socket has room.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Written {
        self.send_sealed(bytes.len().min(SEAL), |session| session.seal(&bytes[..bytes.len().min(SEAL)]))
    }

    /// As [`send`](TlsStream::send), of several slices.
    pub(crate) fn send_vectored(&mut self, slices: &[IoSlice<'_>]) -> Written {
        if let [only] = slices {
            return self.send(only);
        }
        // A record for each small slice would cost more than a copy.
        let mut gathered = GATHERING.take();
        gathered.clear();
        for slice in slices {
            let room = SEAL - gathered.len();
            gathered.extend_from_slice(&slice[..slice.len().min(room)]);
            if gathered.len() == SEAL {
                break;
            }
        }
        let written = self.send(&gathered);
        GATHERING.set(gathered);
        written
    }

    fn send_sealed(&mut self, len: usize, seal: impl FnOnce(&mut Session) -> bool) -> Written {
        if self.unsent() > 0 || self.broken.is_some() {
            match self.push() {
                Written::Some { full: false, .. } => {}
                Written::Some { .. } | Written::Full => return Written::Full,
                failed @ Written::Failed(_) => return failed,
            }
        }
        let mut lent = SEALING.take();
        lent.clear();
        mem::swap(&mut self.session.out, &mut lent);
        let sealed = seal(&mut self.session);
        let pushed = self.push_lent(&mut lent);
        SEALING.set(lent);
        if !sealed {
            return Written::Failed(io::ErrorKind::BrokenPipe.into());
        }
        match pushed {
            Written::Some { full, .. } => Written::Some { n: len, full },
            Written::Full => Written::Some { n: len, full: true },
            failed => failed,
        }
    }

    /// Writes the session's output, which is in memory that is lent, and keeps what is left of it in memory of its own. The lent
    /// one is left in `into`.
    fn push_lent(&mut self, into: &mut Vec<u8>) -> Written {
        let mut n = 0;
        let outcome = loop {
            let rest = &self.session.out[n..];
            if rest.is_empty() {
                break Written::Some { n, full: false };
            }
            match send(&mut self.inner, rest) {
                Written::Some { n: taken, full } => {
                    n += taken;
                    if full && n < self.session.out.len() {
                        break Written::Some { n, full };
                    }
                }
                Written::Full => break Written::Some { n, full: true },
                failed @ Written::Failed(_) => {
                    n = self.session.out.len();
                    break failed;
                }
            }
        };
        let rest = self.session.out[n..].to_vec();
        *into = mem::replace(&mut self.session.out, rest);
        self.sent = 0;
        outcome
    }

    // ---- the end ---------------------------------------------------------------------------------------------------

    /// Says close_notify, behind all that was sent. True when the socket has taken it, or never will.
    pub(crate) fn say_goodbye(&mut self) -> bool {
        self.session.finish();
        match self.push() {
            Written::Some { full, .. } => !full,
            Written::Full => false,
            Written::Failed(error) => {
                self.broken = Some(error);
                true
            }
        }
    }

    /// Says close_notify, and shuts our side of the stream behind it.
    pub(crate) fn shut_down_writing(&mut self) -> io::Result<()> {
        if self.broken.is_some() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.shuts = true;
        self.session.finish();
        match self.push() {
            Written::Failed(error) => Err(error),
            _ => Ok(()),
        }
    }
}
