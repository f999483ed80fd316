//! TLS on the socket of a blocking client: one session, which the two threads of a channel share.
//!
//! The lock is held while something is sealed or opened, and never while a thread waits for the socket. What is sealed is
//! written by the one thread that writes, so that records go out in their order.

use std::io::{self, IoSlice};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::wire::{Patience, Tcp, Wait};
use crate::net::{Session, tls_failed};
use crate::tls::Connector;

/// So much cipher text is read at a time.
const READ: usize = 64 * 1024;
/// So much plain text is sealed at a time.
const SEAL: usize = 64 * 1024;

/// What a thread has of a session.
#[derive(Debug)]
pub(super) struct Tls {
    session: Arc<Mutex<Session>>,
    /// Where cipher text is read to.
    reading: Vec<u8>,
    /// Cipher text that is to be written; up to `sent` it is.
    out: Vec<u8>,
    sent: usize,
    /// The last byte of what is in `out` was not taken: so whoever sends it knows that there is something left, and comes
    /// back with that byte.
    held_back: bool,
    to_gather: Vec<u8>,
}

impl Tls {
    /// A session that has its handshake still before it.
    pub(super) fn new(connector: &Connector, name: &str) -> io::Result<Tls> {
        let session = Session::client(connector.config(), name).map_err(tls_failed)?;
        Ok(Tls::of(Arc::new(Mutex::new(session))))
    }

    fn of(session: Arc<Mutex<Session>>) -> Tls {
        Tls {
            session,
            reading: Vec::new(),
            out: Vec::new(),
            sent: 0,
            held_back: false,
            to_gather: Vec::new(),
        }
    }

    /// For two threads: this half reads, the other one writes what is left to be written.
    pub(super) fn split(&mut self) -> Tls {
        let mut writing = Tls::of(Arc::clone(&self.session));
        (writing.out, writing.sent) = (mem::take(&mut self.out), mem::take(&mut self.sent));
        writing.held_back = mem::take(&mut self.held_back);
        writing
    }

    /// A session is as good as before when another thread has panicked in it: rustls leaves an error in it then.
    pub(super) fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shakes hands, within what is left of the time.
    pub(super) fn shake_hands(&mut self, tcp: &mut Tcp, patience: &mut Patience) -> io::Result<()> {
        loop {
            self.take_output();
            while self.unsent() > 0 {
                let wait = patience.next_wait().ok_or(io::ErrorKind::TimedOut)?;
                match self.write_out(tcp, wait) {
                    Ok(()) => {}
                    Err(error) if is_for_later(&error) => {}
                    // A server that has refused may have said why.
                    Err(error) => return Err(self.read_failure(tcp).unwrap_or(error)),
                }
            }
            if !self.session().is_handshaking() {
                return Ok(());
            }
            let wait = patience.next_wait().ok_or(io::ErrorKind::TimedOut)?;
            match self.read_once(tcp, &mut [], wait) {
                Ok(_) => {}
                Err(error) if is_for_later(&error) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    let what = "the server has ended the connection during the TLS handshake";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn read_failure(&mut self, tcp: &mut Tcp) -> Option<io::Error> {
        let error = self.read_once(tcp, &mut [], Wait::Never).err()?;
        (error.kind() == io::ErrorKind::InvalidData).then_some(error)
    }

    /// Reads plain text. `Interrupted` when what has come is not enough for any: there may be time left for another try.
    pub(super) fn read(&mut self, tcp: &mut Tcp, into: &mut [u8], wait: Wait) -> io::Result<usize> {
        let mut session = self.session();
        let taken = session.take(into);
        if taken > 0 {
            return Ok(taken);
        }
        if let Some(error) = session.failure() {
            return Err(tls_failed(error.clone()));
        }
        if session.is_closed() {
            return Ok(0);
        }
        drop(session);
        match self.read_once(tcp, into, wait)? {
            0 if self.session().is_closed() => Ok(0),
            0 => Err(io::ErrorKind::Interrupted.into()),
            n => Ok(n),
        }
    }

    /// Reads cipher text once, and opens it.
    fn read_once(&mut self, tcp: &mut Tcp, into: &mut [u8], wait: Wait) -> io::Result<usize> {
        let mut reading = mem::take(&mut self.reading);
        let had = self.session().lay_out(&mut reading, READ);
        let read = tcp.raw_read(&mut reading[had..had + READ], wait);
        let opened = match read {
            Ok(0) => Err(cut()),
            Ok(n) => {
                let mut session = self.session();
                let opened = session.open(&mut reading[..had + n], into);
                match session.failure() {
                    Some(error) if opened == 0 => Err(tls_failed(error.clone())),
                    _ => Ok(opened),
                }
            }
            Err(error) => Err(error),
        };
        self.reading = reading;
        if opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::InvalidData) {
            // The alert that says why, if there is room. One that writes as well is about to find the end.
            self.take_output();
            drop(self.write_out(tcp, Wait::Never));
        }
        opened
    }

    /// Looks what has come without taking anything: whether there may be more.
    pub(super) fn look(&mut self, tcp: &mut Tcp) -> io::Result<bool> {
        loop {
            let session = self.session();
            if session.opened() > 0 {
                return Ok(true);
            }
            if session.is_closed() {
                return Ok(false);
            }
            drop(session);
            match self.read_once(tcp, &mut [], Wait::Never) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    // ---- writing ---------------------------------------------------------------------------------------------------

    pub(super) fn unsent(&self) -> usize {
        self.out.len() - self.sent
    }

    /// Takes what the session has to say, behind what waits already.
    fn take_output(&mut self) {
        let mut said = self.session().take_output();
        self.out.append(&mut said);
    }

    /// Writes what waits, once. `Interrupted` when that was not all.
    fn write_out(&mut self, tcp: &mut Tcp, wait: Wait) -> io::Result<()> {
        if self.unsent() > 0 {
            self.sent += tcp.raw_write(&[IoSlice::new(&self.out[self.sent..])], wait)?;
        }
        if self.unsent() > 0 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        (self.out, self.sent) = (Vec::new(), 0);
        Ok(())
    }

    /// Seals the front of `slices` and writes it. All but the last byte of what is sealed counts as taken at once, that one when
    /// the socket has taken all: so nothing is left behind unknown to the sender.
    pub(super) fn write(&mut self, tcp: &mut Tcp, slices: &[IoSlice<'_>], wait: Wait) -> io::Result<usize> {
        if self.unsent() > 0 {
            self.write_out(tcp, wait)?;
        }
        if mem::take(&mut self.held_back) {
            return Ok(1);
        }
        let mut plain = mem::take(&mut self.to_gather);
        plain.clear();
        for slice in slices {
            let room = SEAL - plain.len();
            plain.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        let sealed = self.session().seal(&plain);
        let len = plain.len();
        self.to_gather = plain;
        if !sealed {
            let failure = self.session().failure().cloned();
            return Err(failure.map_or_else(|| io::ErrorKind::BrokenPipe.into(), tls_failed));
        }
        self.take_output();
        match self.write_out(tcp, wait) {
            Ok(()) => Ok(len),
            Err(error) if is_for_later(&error) => {
                self.held_back = len > 1;
                Ok(len - usize::from(self.held_back))
            }
            Err(error) => Err(error),
        }
    }

    /// Says close_notify, behind all that was sent.
    pub(super) fn say_goodbye(&mut self, tcp: &mut Tcp, patience: &mut Patience) -> io::Result<()> {
        self.session().finish();
        self.take_output();
        while self.unsent() > 0 {
            let wait = patience.next_wait().ok_or(io::ErrorKind::TimedOut)?;
            match self.write_out(tcp, wait) {
                Err(error) if !is_for_later(&error) => return Err(error),
                Err(error) if wait == Wait::Never && error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(error);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether a call has brought nothing and may bring something later.
fn is_for_later(error: &io::Error) -> bool {
    match error.kind() {
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock => true,
        io::ErrorKind::TimedOut => cfg!(windows),
        _ => false,
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the stream was cut before the end of TLS (no close_notify)")
}
