//! Writes down what goes over live connections.

use std::collections::HashMap;
use std::fmt;
use std::time::Instant;

use super::record::{Chunk, Recording, Way};
use crate::codec::Raw;
use crate::connection::CloseReason;
use crate::dial::Dial;
use crate::error::DialError;
use crate::handler::{HalfClose, Handler};
use crate::id::ConnId;
use crate::reactor::{Context, Sent};

/// What is given each recording, when its connection has ended.
type Done = Box<dyn FnMut(Recording) + Send>;

/// A handler that records connections: it stands between clients and their server, passes everything on as it is, and hands over
/// a [`Recording`] of each connection when it has ended.
///
/// ```no_run
/// use mainspring::{Reactor, codec::Raw, sim::Recorder};
///
/// let mut number = 0;
/// let recorder = Recorder::new("127.0.0.1:7000", move |recording| {
///     number += 1;
///     if let Err(error) = std::fs::write(format!("{number}.recording"), recording.to_string()) {
///         eprintln!("connection {number} is lost: {error}");
///     }
/// });
/// let mut reactor = Reactor::new(recorder)?;
/// reactor.listen("127.0.0.1:7001", Raw)?;
/// reactor.run()?;
/// # Ok::<(), mainspring::Error>(())
/// ```
///
/// All of a connection is held in memory until it ends, in the recording and beside the reactor's limits: it is a tool for
/// tests, not for servers.
pub struct Recorder {
    to: Dial,
    done: Done,
    tapes: HashMap<ConnId, Tape>,
}

/// What is kept for one client until both its ends are gone.
struct Tape {
    began: Instant,
    recording: Recording,
    ends: u8,
}

/// One end of a connection that is passed on.
#[derive(Debug, Clone, Copy)]
pub struct Side {
    client: ConnId,
    other: ConnId,
    way: Way,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("to", &self.to)
            .field("open", &self.tapes.len())
            .finish_non_exhaustive()
    }
}

impl Recorder {
    /// Records connections to the server at `to`.
    pub fn new(to: impl Into<Dial>, done: impl FnMut(Recording) + Send + 'static) -> Recorder {
        Recorder { to: to.into(), done: Box::new(done), tapes: HashMap::new() }
    }

    fn side(cx: &Context<Self>, conn: ConnId) -> Option<Side> {
        *cx.session(conn)?
    }

    fn note(&mut self, cx: &Context<Self>, side: Side, chunk: Chunk) {
        if let Some(tape) = self.tapes.get_mut(&side.client) {
            let at = cx.now().saturating_duration_since(tape.began);
            tape.recording.add(at, side.way, chunk);
        }
    }

    fn ends(&mut self, client: ConnId) {
        let Some(tape) = self.tapes.get_mut(&client) else { return };
        tape.ends -= 1;
        if tape.ends == 0 {
            if let Some(tape) = self.tapes.remove(&client) {
                (self.done)(tape.recording);
            }
        }
    }
}

impl Handler for Recorder {
    type Codec = Raw;
    type Session = Option<Side>;

    fn on_open(&mut self, cx: &mut Context<Self>, client: ConnId) {
        if cx.listener_of(client).is_none() {
            return;
        }
        let server = cx.connect(self.to.clone(), Raw);
        if !cx.is_open(server) {
            return cx.close(client);
        }
        // Each way goes on for itself: it is whoever sends too much that waits, see `on_message`.
        cx.read_above_mark(client, true);
        for (conn, other, way) in [(client, server, Way::ToServer), (server, client, Way::ToClient)] {
            if let Some(session) = cx.session_mut(conn) {
                *session = Some(Side { client, other, way });
            }
        }
        let tape = Tape { began: cx.now(), recording: Recording::new(), ends: 2 };
        self.tapes.insert(client, tape);
    }

    fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, bytes: &[u8]) {
        let Some(side) = Recorder::side(cx, from) else { return };
        self.note(cx, side, Chunk::Bytes(bytes.to_vec()));
        if cx.send(side.other, bytes) == Sent::AboveMark {
            cx.pause(from);
        }
    }

    fn on_writable(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        if let Some(side) = Recorder::side(cx, conn) {
            cx.resume(side.other);
        }
    }

    fn on_half_close(&mut self, cx: &mut Context<Self>, conn: ConnId) -> HalfClose {
        if let Some(side) = Recorder::side(cx, conn) {
            self.note(cx, side, Chunk::End);
            cx.end_output(side.other);
        }
        HalfClose::Keep
    }

    fn on_close(&mut self, cx: &mut Context<Self>, _: ConnId, reason: CloseReason, side: Option<Side>) {
        let Some(side) = side else { return };
        match reason {
            // Both ways have ended, and the other end knows.
            CloseReason::Peer { .. } => {}
            CloseReason::Reset | CloseReason::Io(_) => {
                self.note(cx, side, Chunk::Reset);
                cx.abort(side.other);
            }
            _ => cx.close(side.other),
        }
        self.ends(side.client);
    }

    fn on_dial_failed(&mut self, cx: &mut Context<Self>, _: ConnId, _: DialError, side: Option<Side>) {
        if let Some(side) = side {
            self.note(cx, side, Chunk::Reset);
            cx.abort(side.other);
            self.ends(side.client);
        }
    }
}
