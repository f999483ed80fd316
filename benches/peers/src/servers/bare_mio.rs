//! Bare mio, in safe Rust: what a library on mio can come near to, and can not be expected to beat.
//!
//! One read buffer for all connections; frames are written to the socket out of it, without a copy. A connection has bytes of its
//! own only while a frame is incomplete, or while its socket is full; it is not read while its socket is full.

use std::io::{self, ErrorKind, IoSliceMut, Read, Write};
use std::mem;
use std::net::SocketAddr;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};
use slab::Slab;

use super::{WRITE_LIMIT, announce};
use crate::frame::{TooLong, frame_len, whole_frames};
use crate::scenario::Job;

const LISTENER: Token = Token(usize::MAX - 1);
const READ_BUFFER: usize = 256 << 10;
/// A begun frame of at most so many bytes is copied in front of the next read; a longer one is read on in place.
const COPY_MAX: usize = 16 << 10;
/// What a begun frame may take before its bytes have come.
const AHEAD_MAX: usize = 1 << 20;
/// Buffers of frames that were kept for the next one.
const SPARE_MAX: usize = 64;

pub(super) fn serve(job: Job, listen: SocketAddr) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut listener = TcpListener::bind(listen)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    announce(listener.local_addr()?)?;
    let mut server =
        Server { job, connections: Slab::new(), shared: vec![0; READ_BUFFER], spare: Vec::new() };
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &events {
            match event.token() {
                LISTENER => server.accept(&listener, poll.registry())?,
                Token(key) => server.ready(key, event),
            }
        }
    }
}

/// The connection is over.
struct Gone;

impl From<TooLong> for Gone {
    fn from(_: TooLong) -> Gone {
        Gone
    }
}

struct Server {
    job: Job,
    connections: Slab<Connection>,
    shared: Vec<u8>,
    spare: Vec<Vec<u8>>,
}

impl Server {
    fn accept(&mut self, listener: &TcpListener, registry: &Registry) -> io::Result<()> {
        loop {
            match listener.accept() {
                Ok((mut stream, _)) => {
                    stream.set_nodelay(true)?;
                    let entry = self.connections.vacant_entry();
                    let both = Interest::READABLE | Interest::WRITABLE;
                    registry.register(&mut stream, Token(entry.key()), both)?;
                    entry.insert(Connection::new(stream));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// An event of a connection that went in the same batch finds none, or a newcomer, which then reads once in vain.
    fn ready(&mut self, key: usize, event: &Event) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.readable |= event.is_readable();
        connection.ended |= event.is_read_closed() || event.is_error();
        let flushed = if event.is_writable() { connection.flush() } else { Ok(()) };
        if flushed.and_then(|()| self.read(key)).is_err() {
            self.connections.try_remove(key);
        }
    }

    fn read(&mut self, key: usize) -> Result<(), Gone> {
        let mut shared = mem::take(&mut self.shared);
        let outcome = self.read_into(key, &mut shared);
        self.shared = shared;
        outcome
    }

    fn read_into(&mut self, key: usize, shared: &mut [u8]) -> Result<(), Gone> {
        // A broadcast may have found this connection's end.
        while let Some(connection) = self.connections.get_mut(key) {
            if !connection.readable || !connection.out.is_empty() {
                break;
            }
            let had = connection.partial.filled;
            if had > COPY_MAX {
                let (room, frame_ends) = connection.partial.room()?;
                let in_place = room.len();
                let beyond = if frame_ends { &mut *shared } else { &mut [] };
                let asked = in_place + beyond.len();
                let slices = &mut [IoSliceMut::new(room), IoSliceMut::new(beyond)];
                let Some(n) = read_once(|| (&connection.stream).read_vectored(slices))? else {
                    connection.readable = false;
                    break;
                };
                connection.readable = n == asked || connection.ended;
                connection.partial.filled += n.min(in_place);
                if frame_ends && n >= in_place {
                    let frame = mem::take(&mut connection.partial);
                    self.deliver(key, &frame.bytes[..frame.filled])?;
                    self.recycle(frame.bytes);
                    self.consume(key, &shared[..n - in_place])?;
                }
            } else {
                shared[..had].copy_from_slice(&connection.partial.bytes[..had]);
                let asked = shared.len() - had;
                let Some(n) = read_once(|| (&connection.stream).read(&mut shared[had..]))? else {
                    connection.readable = false;
                    break;
                };
                connection.readable = n == asked || connection.ended;
                let begun = mem::take(&mut connection.partial.bytes);
                connection.partial.filled = 0;
                self.recycle(begun);
                self.consume(key, &shared[..had + n])?;
            }
        }
        Ok(())
    }

    /// Delivers whole frames, and keeps the beginning of one that is not.
    fn consume(&mut self, key: usize, bytes: &[u8]) -> Result<(), Gone> {
        let (whole, begun) = bytes.split_at(whole_frames(bytes)?);
        if !whole.is_empty() {
            self.deliver(key, whole)?;
        }
        if let (false, Some(connection)) = (begun.is_empty(), self.connections.get_mut(key)) {
            connection.partial = Partial::new(begun, self.spare.pop().unwrap_or_default());
        }
        Ok(())
    }

    fn deliver(&mut self, from: usize, frames: &[u8]) -> Result<(), Gone> {
        match self.job {
            Job::Echo => self.connections[from].send(frames),
            Job::Broadcast => {
                let mut gone = Vec::new();
                for (key, connection) in &mut self.connections {
                    if connection.send(frames).is_err() {
                        gone.push(key);
                    }
                }
                for key in gone {
                    self.connections.remove(key);
                }
                Ok(())
            }
        }
    }

    fn recycle(&mut self, buffer: Vec<u8>) {
        if (1..=AHEAD_MAX).contains(&buffer.capacity()) && self.spare.len() < SPARE_MAX {
            self.spare.push(buffer);
        }
    }
}

struct Connection {
    stream: TcpStream,
    readable: bool,
    /// The peer has ended, or an error waits: a short read is not the last one.
    ended: bool,
    partial: Partial,
    /// Bytes that the socket had no room for.
    out: Vec<u8>,
    sent: usize,
}

impl Connection {
    fn new(stream: TcpStream) -> Connection {
        Connection {
            stream,
            readable: false,
            ended: false,
            partial: Partial::default(),
            out: Vec::new(),
            sent: 0,
        }
    }

    fn send(&mut self, mut bytes: &[u8]) -> Result<(), Gone> {
        if self.out.is_empty() {
            write_all(&self.stream, &mut bytes)?;
        }
        self.out.extend_from_slice(bytes);
        if self.out.len() - self.sent > WRITE_LIMIT.max(bytes.len()) { Err(Gone) } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Gone> {
        let mut bytes = &self.out[self.sent..];
        write_all(&self.stream, &mut bytes)?;
        self.sent = self.out.len() - bytes.len();
        if bytes.is_empty() {
            self.sent = 0;
            self.out = Vec::new();
        }
        Ok(())
    }
}

/// A frame of which not all has come.
#[derive(Default)]
struct Partial {
    bytes: Vec<u8>,
    /// Invariant: at most `bytes.len()`.
    filled: usize,
}

impl Partial {
    fn new(begun: &[u8], mut bytes: Vec<u8>) -> Partial {
        if bytes.len() < begun.len() {
            bytes.resize(begun.len(), 0);
        }
        bytes[..begun.len()].copy_from_slice(begun);
        Partial { bytes, filled: begun.len() }
    }

    /// Where the frame goes on, and whether it ends there. Whoever lies about a length costs little: room grows with what comes.
    fn room(&mut self) -> Result<(&mut [u8], bool), Gone> {
        let whole = frame_len(&self.bytes[..self.filled])?.ok_or(Gone)?;
        let until = whole.min(AHEAD_MAX.max(2 * self.filled));
        if self.bytes.len() < until {
            self.bytes.resize(until, 0);
        }
        Ok((&mut self.bytes[self.filled..until], until == whole))
    }
}

/// The bytes read, or None when there are none now.
fn read_once(mut read: impl FnMut() -> io::Result<usize>) -> Result<Option<usize>, Gone> {
    loop {
        match read() {
            Ok(0) => return Err(Gone),
            Ok(n) => return Ok(Some(n)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Err(Gone),
        }
    }
}

/// What remains in `bytes` the socket has no room for.
fn write_all(mut stream: &TcpStream, bytes: &mut &[u8]) -> Result<(), Gone> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(n) => *bytes = &bytes[n..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Err(Gone),
        }
    }
    Ok(())
}
