//! One TLS session without its socket: cipher text in, plain text out, and the other way.

use std::fmt;
use std::mem;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{ClientConfig, CommonState, Error, HandshakeKind, ServerConfig};

use crate::tls::{TlsInfo, named};

/// A record with all that is around it: 16 KiB, a header, and what the oldest ciphers add.
pub(super) const RECORD_MAX: usize = 16 * 1024 + 2048 + 5;
/// So much is held of what is not whole. A message of the handshake has 64 KiB at most, in rustls as here.
const PENDING_MAX: usize = 64 * 1024 + RECORD_MAX;
/// What sealing a record adds, whatever the cipher; where it is not enough, rustls says how much is.
const OVERHEAD: usize = 64;

/// One session, of either side.
pub(crate) struct Session {
    side: Side,
    /// Cipher text that is no whole record, or no whole message of the handshake.
    pending: Vec<u8>,
    /// Plain text for which there was no room when it was opened; read from `plain_at` on.
    plain: Vec<u8>,
    plain_at: usize,
    /// Cipher text to be written, in order.
    pub(super) out: Vec<u8>,
    /// The name that the client has asked for, or that we have.
    server_name: Option<Box<str>>,
    /// close_notify has come: there is no more plain text.
    closed: bool,
    /// close_notify was sealed: nothing more can be.
    finished: bool,
    failure: Option<Error>,
}

#[allow(clippy::large_enum_variant, reason = "both are large, and each session is in a box already")]
enum Side {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// What a session is to do when it may send.
enum Task<'a> {
    Nothing,
    Seal(&'a [u8]),
    Finish,
}

/// Where plain text goes.
struct Sink<'a> {
    into: &'a mut [u8],
    filled: usize,
    /// What does not fit.
    more: &'a mut Vec<u8>,
}

impl Sink<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let room = self.into.len() - self.filled;
        // What is behind bytes that did not fit does not go before them.
        let fits = if self.more.is_empty() { bytes.len().min(room) } else { 0 };
        self.into[self.filled..self.filled + fits].copy_from_slice(&bytes[..fits]);
        self.filled += fits;
        self.more.extend_from_slice(&bytes[fits..]);
    }
}

/// What a step has come to.
enum Next {
    /// There may be more to do.
    Step,
    /// Nothing more can be done with what has come.
    Rest,
    /// The task is done.
    Done,
    /// The peer has sent its close_notify.
    Closed,
    Failed(Error),
}

impl Session {
    /// The accepting side.
    pub(crate) fn server(config: Arc<ServerConfig>) -> Result<Session, Error> {
        Ok(Session::new(Side::Server(UnbufferedServerConnection::new(config)?)))
    }

    /// The dialing side, which wants to see a certificate of this name.
    pub(crate) fn client(config: Arc<ClientConfig>, name: &str) -> Result<Session, Error> {
        let asked_for = name.into();
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| Error::General(format!("\"{name}\" is no name of a server")))?;
        let mut session = Session::new(Side::Client(UnbufferedClientConnection::new(config, name)?));
        session.server_name = Some(asked_for);
        // The hello.
        session.open(&mut [], &mut []);
        match session.failure.take() {
            Some(error) => Err(error),
            None => Ok(session),
        }
    }

    fn new(side: Side) -> Session {
        Session {
            side,
            pending: Vec::new(),
            plain: Vec::new(),
            plain_at: 0,
            out: Vec::new(),
            server_name: None,
            closed: false,
            finished: false,
            failure: None,
        }
    }

    fn state(&self) -> &CommonState {
        match &self.side {
            Side::Server(conn) => conn,
            Side::Client(conn) => conn,
        }
    }

    // ---- questions -------------------------------------------------------------------------------------------------

    pub(crate) fn is_handshaking(&self) -> bool {
        self.state().is_handshaking()
    }

    /// Whether the peer has ended its side in order.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Why nothing goes on. The alert that tells the peer is in what is to be written.
    pub(crate) fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }

    /// Plain text that was opened and not taken.
    pub(crate) fn opened(&self) -> usize {
        self.plain.len() - self.plain_at
    }

    /// What it holds in buffers, by capacity.
    pub(crate) fn held(&self) -> usize {
        self.pending.capacity() + self.plain.capacity() + self.out.capacity()
    }

    /// What was agreed.
    pub(crate) fn info(&self) -> TlsInfo<'_> {
        let state = self.state();
        TlsInfo {
            version: state.protocol_version(),
            suite: state.negotiated_cipher_suite(),
            alpn: state.alpn_protocol(),
            server_name: self.server_name.as_deref(),
            certificates: state.peer_certificates().unwrap_or_default(),
            resumed: state.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }

    // ---- cipher text in --------------------------------------------------------------------------------------------

    /// Puts what waits for more in front of `buffer`, and room for `more` bytes behind it. Returns where that room begins. What
    /// is read there is [opened](Session::open) with all that is before it.
    pub(crate) fn lay_out(&self, buffer: &mut Vec<u8>, more: usize) -> usize {
        let had = self.pending.len();
        if buffer.len() < had + more {
            buffer.resize(had + more, 0);
        }
        buffer[..had].copy_from_slice(&self.pending);
        had
    }

    /// Opens all that is whole in `input`, and keeps the rest. Returns how much plain text was put into `into`; what did not fit
    /// is [taken](Session::take) later.
    pub(crate) fn open(&mut self, input: &mut [u8], into: &mut [u8]) -> usize {
        let mut more = mem::take(&mut self.plain);
        let mut sink = Sink { into, filled: 0, more: &mut more };
        let used = self.run(input, &mut sink, Task::Nothing);
        let filled = sink.filled;
        self.plain = more;
        self.keep(&input[used..]);
        filled
    }

    fn keep(&mut self, rest: &[u8]) {
        if rest.is_empty() {
            self.pending = Vec::new();
            return;
        }
        self.pending.clear();
        self.pending.extend_from_slice(rest);
        if rest.len() > PENDING_MAX && self.failure.is_none() {
            self.failure = Some(Error::General("a message of the handshake is too long".to_owned()));
            self.pending = Vec::new();
        }
    }

    /// Takes plain text that was opened before.
    pub(crate) fn take(&mut self, into: &mut [u8]) -> usize {
        let n = self.opened().min(into.len());
        into[..n].copy_from_slice(&self.plain[self.plain_at..self.plain_at + n]);
        self.plain_at += n;
        if self.plain_at == self.plain.len() {
            (self.plain, self.plain_at) = (Vec::new(), 0);
        }
        n
    }

    // ---- plain text out --------------------------------------------------------------------------------------------

    /// Seals `plain` behind what is to be written already. False when nothing can be sent: before the end of the handshake,
    /// after the end of this side, or after a failure.
    pub(crate) fn seal(&mut self, plain: &[u8]) -> bool {
        !self.finished && self.when_sending(Task::Seal(plain))
    }

    /// Seals close_notify, once: nothing more can be sent behind it.
    pub(crate) fn finish(&mut self) {
        if !self.finished && !self.is_handshaking() {
            self.when_sending(Task::Finish);
        }
        self.finished = true;
    }

    fn when_sending(&mut self, task: Task<'_>) -> bool {
        if self.failure.is_some() {
            return false;
        }
        let mut input = mem::take(&mut self.pending);
        let mut more = mem::take(&mut self.plain);
        let done = {
            let mut sink = Sink { into: &mut [], filled: 0, more: &mut more };
            let mut done = false;
            let used = self.run_task(&mut input, &mut sink, task, &mut done);
            input.drain(..used);
            done
        };
        self.plain = more;
        self.pending = input;
        done
    }

    /// What is to be written, in order, for one who writes it elsewhere.
    pub(crate) fn take_output(&mut self) -> Vec<u8> {
        mem::take(&mut self.out)
    }

    // ---- the machine -----------------------------------------------------------------------------------------------

    fn run(&mut self, input: &mut [u8], sink: &mut Sink<'_>, task: Task<'_>) -> usize {
        self.run_task(input, sink, task, &mut false)
    }

    /// Goes on for as long as there is something to do. Returns how much of `input` is used up.
    fn run_task(&mut self, input: &mut [u8], sink: &mut Sink<'_>, task: Task<'_>, done: &mut bool) -> usize {
        let mut used = 0;
        loop {
            if self.failure.is_some() {
                return input.len();
            }
            let rest = &mut input[used..];
            let (discard, next) = match &mut self.side {
                Side::Server(conn) => {
                    let stepped = step(conn.process_tls_records(rest), sink, &mut self.out, &task);
                    // Each time, so that a name is never left for another session.
                    if let Some(name) = named::take() {
                        self.server_name = Some(name);
                    }
                    stepped
                }
                Side::Client(conn) => step(conn.process_tls_records(rest), sink, &mut self.out, &task),
            };
            used = input.len().min(used + discard);
            match next {
                Next::Step => {}
                Next::Rest => break,
                Next::Done => {
                    *done = true;
                    break;
                }
                Next::Closed => self.closed = true,
                Next::Failed(error) => {
                    self.say_why(&mut input[used..]);
                    self.failure = Some(error);
                }
            }
        }
        // What comes behind close_notify is nobody's.
        if self.closed { input.len() } else { used }
    }

    /// Takes the alert that tells the peer of a failure.
    fn say_why(&mut self, rest: &mut [u8]) {
        let mut none = Vec::new();
        let mut sink = Sink { into: &mut [], filled: 0, more: &mut none };
        // No further than what is there to be sent: to look at the input again would find the same once more.
        while self.state().wants_write() {
            let (_, next) = match &mut self.side {
                Side::Server(conn) => {
                    step(conn.process_tls_records(rest), &mut sink, &mut self.out, &Task::Nothing)
                }
                Side::Client(conn) => {
                    step(conn.process_tls_records(rest), &mut sink, &mut self.out, &Task::Nothing)
                }
            };
            if !matches!(next, Next::Step) {
                return;
            }
        }
    }
}

/// One step of rustls' machine. Returns how much of the input it has used up.
fn step<D>(
    status: UnbufferedStatus<'_, '_, D>,
    sink: &mut Sink<'_>,
    out: &mut Vec<u8>,
    task: &Task<'_>,
) -> (usize, Next) {
    let UnbufferedStatus { mut discard, state } = status;
    let state = match state {
        Ok(state) => state,
        Err(error) => return (discard, Next::Failed(error)),
    };
    let next = match state {
        ConnectionState::ReadTraffic(mut traffic) => loop {
            match traffic.next_record() {
                None => break Next::Step,
                Some(Ok(record)) => {
                    discard += record.discard;
                    sink.put(record.payload);
                }
                Some(Err(error)) => break Next::Failed(error),
            }
        },
        ConnectionState::EncodeTlsData(mut record) => {
            append(out, 4096, |room| match record.encode(room) {
                Ok(n) => Ok(n),
                Err(EncodeError::InsufficientSize(size)) => Err(Some(size.required_size)),
                Err(EncodeError::AlreadyEncoded) => Err(None),
            });
            Next::Step
        }
        ConnectionState::TransmitTlsData(transmit) => {
            // It is in `out`, from where it goes in order.
            transmit.done();
            Next::Step
        }
        ConnectionState::PeerClosed => Next::Closed,
        ConnectionState::WriteTraffic(mut traffic) => match task {
            Task::Nothing => Next::Rest,
            Task::Seal(plain) => {
                let records = plain.len() / (16 * 1024) + 1;
                let sealed = append(out, plain.len() + records * OVERHEAD, |room| {
                    traffic.encrypt(plain, room).map_err(required)
                });
                if sealed { Next::Done } else { Next::Failed(Error::EncryptError) }
            }
            Task::Finish => {
                append(out, OVERHEAD, |room| traffic.queue_close_notify(room).map_err(required));
                Next::Done
            }
        },
        // Early data is not taken, see `Acceptor::from_config`.
        ConnectionState::ReadEarlyData(_) => Next::Failed(Error::General("early data".to_owned())),
        _ => Next::Rest,
    };
    (discard, next)
}

fn required(error: EncryptError) -> Option<usize> {
    match error {
        EncryptError::InsufficientSize(size) => Some(size.required_size),
        EncryptError::EncryptExhausted => None,
    }
}

/// Appends what `put` puts into the room it is given. It says how much it needs when that was too little, or that it cannot.
fn append(
    out: &mut Vec<u8>,
    mut room: usize,
    mut put: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> bool {
    let at = out.len();
    loop {
        out.resize(at + room, 0);
        match put(&mut out[at..]) {
            Ok(n) => {
                out.truncate(at + n);
                return true;
            }
            Err(Some(needed)) if needed > room => room = needed,
            Err(_) => {
                out.truncate(at);
                return false;
            }
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("server", &matches!(self.side, Side::Server(_)))
            .field("handshaking", &self.is_handshaking())
            .field("closed", &self.closed)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}
