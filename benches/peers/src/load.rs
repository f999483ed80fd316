//! The load: one thread, mio, and no memory for each frame. Loopback only, bounded in connections and time.
//!
//! What comes back is known in advance: the frame number `k` of connection `c` is a length, `k`, `c`, and a pattern. So every byte is
//! compared as it arrives, and a byte that is wrong, missing, or too much ends the measurement.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use serde::{Deserialize, Serialize};

use crate::frame::PREFIX;
use crate::scenario::{Job, Scenario};
use crate::system;

/// Descriptors that a load may hold.
pub(crate) const DESCRIPTORS_MAX: u64 = 20_000;
const CONNECTIONS_MAX: usize = 10_000;
/// No load runs for longer.
pub(crate) const SECONDS_MAX: f64 = 120.0;
/// All connections stand within this time, or there is no load.
const DIAL: Duration = Duration::from_secs(20);
/// Replies that have not come so long after the end are missing.
const DRAIN: Duration = Duration::from_secs(10);
/// A broadcast begins when the server has had time to accept everybody.
const SETTLE: Duration = Duration::from_millis(300);
const BUFFER: usize = 512 << 10;
/// Longer frames are written out of the template, one by one.
const COPY_MAX: usize = 32 << 10;
/// The prefix, `k`, and `c`.
const HEAD: usize = PREFIX + 8 + 4;

/// What one load has found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// The server's time on a core for each message; None where the system does not tell.
    pub(crate) server_cpu_us: Option<f64>,
    /// Shares of the measured time in which the server, and this generator, had a core.
    pub(crate) server_share: Option<f64>,
    pub(crate) generator_share: Option<f64>,
    /// All that the generator has used of a core, in seconds.
    pub(crate) generator_seconds: f64,
}

/// How long, and against whom.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// The server's process, if its share of a core is to be known.
    pub(crate) process: Option<u32>,
    pub(crate) warm_up: Duration,
    pub(crate) measure: Duration,
}

pub(crate) fn run(scenario: &Scenario, target: &Target) -> Result<Measured, String> {
    let connections = scenario.connections + usize::from(scenario.job == Job::Broadcast);
    if !target.address.ip().is_loopback() {
        return Err(format!("{} is not on the loopback", target.address));
    }
    if connections > CONNECTIONS_MAX || (target.warm_up + target.measure).as_secs_f64() > SECONDS_MAX {
        return Err(format!("at most {CONNECTIONS_MAX} connections for {SECONDS_MAX} s"));
    }
    if connections == 0 || scenario.pipeline == 0 || scenario.size < HEAD - PREFIX {
        return Err(format!("frames hold at least {} bytes, and there is at least one", HEAD - PREFIX));
    }
    let mut load =
        Load::connect(scenario, connections, target).map_err(|error| format!("dialling: {error}"))?;
    if scenario.job == Job::Broadcast {
        std::thread::sleep(SETTLE);
    }
    load.run(target)
}

// ---- frames ----------------------------------------------------------------------------------------------------------

/// Every frame, but for its `k` and `c`.
struct Template {
    frame: Vec<u8>,
}

impl Template {
    fn new(size: usize) -> Template {
        let mut frame = (size as u32).to_be_bytes().to_vec();
        let mut x = 0x9E37_79B9_7F4A_7C15_u64;
        frame.extend((0..size).map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x as u8
        }));
        Template { frame }
    }

    fn len(&self) -> usize {
        self.frame.len()
    }

    fn head(&self, number: u64, connection: u32) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        head[..PREFIX].copy_from_slice(&self.frame[..PREFIX]);
        head[PREFIX..PREFIX + 8].copy_from_slice(&number.to_le_bytes());
        head[PREFIX + 8..].copy_from_slice(&connection.to_le_bytes());
        head
    }

    /// Are these the bytes of that frame from `at` on?
    fn matches(&self, bytes: &[u8], at: usize, number: u64, connection: u32) -> bool {
        let in_head = HEAD.saturating_sub(at).min(bytes.len());
        let (first, others) = bytes.split_at(in_head);
        let head = self.head(number, connection);
        (in_head == 0 || *first == head[at..at + in_head])
            && *others == self.frame[at + in_head..at + bytes.len()]
    }
}

// ---- connections -----------------------------------------------------------------------------------------------------

struct Connection {
    stream: TcpStream,
    number: u32,
    writable: bool,
    /// The frame that is written next, and how much of it is.
    next_out: u64,
    out_at: usize,
    /// Frames that may be written, the begun one among them.
    owed: u64,
    next_in: u64,
    in_at: usize,
}

impl Connection {
    fn flush(&mut self, template: &Template, scratch: &mut Vec<u8>) -> io::Result<()> {
        while self.owed > 0 && self.writable {
            let len = template.len();
            let (wanted, written) = if len <= COPY_MAX {
                scratch.clear();
                let frames = self.owed.min((BUFFER / len) as u64);
                for number in self.next_out..self.next_out + frames {
                    let start = scratch.len();
                    scratch.extend_from_slice(&template.frame);
                    scratch[start..start + HEAD].copy_from_slice(&template.head(number, self.number));
                }
                let bytes = &scratch[self.out_at..];
                (bytes.len(), self.stream.write(bytes))
            } else {
                let head = template.head(self.next_out, self.number);
                let in_head = self.out_at.min(HEAD);
                let tail = &template.frame[self.out_at.max(HEAD)..];
                let slices = [IoSlice::new(&head[in_head..]), IoSlice::new(tail)];
                (len - self.out_at, self.stream.write_vectored(&slices))
            };
            match written {
                Ok(written) => {
                    let at = self.out_at + written;
                    self.next_out += (at / len) as u64;
                    self.owed -= (at / len) as u64;
                    self.out_at = at % len;
                    self.writable = written == wanted;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

// ---- the loop --------------------------------------------------------------------------------------------------------

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    WarmUp,
    Measure,
    Drain,
}

struct Load<'a> {
    scenario: &'a Scenario,
    poll: Poll,
    connections: Vec<Connection>,
    template: Template,
    scratch: Vec<u8>,
    input: Vec<u8>,
    tally: Tally,
}

/// What was sent, when, and what of it has come back.
struct Tally {
    job: Job,
    pipeline: usize,
    measuring: bool,
    /// When frame `k` of connection `c` was handed to the write that may send it, at `c * pipeline + k % pipeline`.
    sent: Vec<Instant>,
    /// Of a broadcast, the deliveries that frame `k` still lacks, at `k % pipeline`.
    lacking: Vec<usize>,
    /// Frames of a broadcast that everybody has.
    complete: u64,
    outstanding: u64,
    measured: u64,
    times: Histogram<u64>,
}

impl Tally {
    fn sending(&mut self, connection: u32, first: u64, frames: u64, receivers: usize) {
        let now = Instant::now();
        for number in first..first + frames {
            let slot = (number % self.pipeline as u64) as usize;
            self.sent[connection as usize * self.pipeline + slot] = now;
            if self.job == Job::Broadcast {
                self.lacking[slot] = receivers;
            }
        }
        self.outstanding += frames * receivers as u64;
    }

    #[inline]
    fn received(&mut self, sender: u32, number: u64, now: Instant) {
        let slot = (number % self.pipeline as u64) as usize;
        self.outstanding -= 1;
        self.measured += u64::from(self.measuring);
        if self.job == Job::Broadcast {
            self.lacking[slot] -= 1;
            if self.lacking[slot] > 0 {
                return;
            }
            self.complete += 1;
        }
        if self.measuring {
            let sent = self.sent[sender as usize * self.pipeline + slot];
            self.times.saturating_record(now.duration_since(sent).as_nanos() as u64);
        }
    }
}

impl Load<'_> {
    fn connect<'a>(scenario: &'a Scenario, connections: usize, target: &Target) -> io::Result<Load<'a>> {
        let poll = Poll::new()?;
        let begun = Instant::now();
        let dial = |number: usize| {
            // One after the other, so that no backlog overflows. No time left is an error as well.
            let left = DIAL.saturating_sub(begun.elapsed());
            let stream = std::net::TcpStream::connect_timeout(&target.address, left)?;
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(number), Interest::READABLE | Interest::WRITABLE)?;
            Ok(Connection {
                stream,
                number: number as u32,
                writable: true,
                next_out: 0,
                out_at: 0,
                owed: 0,
                next_in: 0,
                in_at: 0,
            })
        };
        let connections = (0..connections).map(dial).collect::<io::Result<Vec<_>>>()?;
        let tally = Tally {
            job: scenario.job,
            pipeline: scenario.pipeline,
            measuring: false,
            sent: vec![Instant::now(); connections.len() * scenario.pipeline],
            lacking: vec![0; scenario.pipeline],
            complete: 0,
            outstanding: 0,
            measured: 0,
            // To 1 %, up to a minute.
            times: Histogram::new_with_max(60_000_000_000, 2).map_err(io::Error::other)?,
        };
        let template = Template::new(scenario.size);
        let (scratch, input) = (Vec::with_capacity(BUFFER), vec![0; BUFFER]);
        Ok(Load { scenario, poll, connections, template, scratch, input, tally })
    }

    fn run(&mut self, target: &Target) -> Result<Measured, String> {
        let mut events = Events::with_capacity(1024);
        let pipeline = self.scenario.pipeline as u64;
        let senders = if self.scenario.job == Job::Echo { self.connections.len() } else { 1 };
        for key in 0..senders {
            self.send(key, pipeline)?;
        }
        let mut phase = Phase::WarmUp;
        let mut until = Instant::now() + target.warm_up;
        let mut window = Window::open(target.process);
        let mut measured = None;
        while phase != Phase::Drain || self.tally.outstanding > 0 {
            match self.poll.poll(&mut events, Some(Duration::from_millis(100))) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(format!("poll: {error}")),
                _ => {}
            }
            if Instant::now() >= until {
                match phase {
                    Phase::WarmUp => {
                        phase = Phase::Measure;
                        self.tally.measuring = true;
                        window = Window::open(target.process);
                        until = window.opened + target.measure;
                    }
                    Phase::Measure => {
                        phase = Phase::Drain;
                        self.tally.measuring = false;
                        measured = Some(window.close(&self.tally));
                        until = Instant::now() + DRAIN;
                    }
                    Phase::Drain => return Err(format!("{} replies are missing", self.tally.outstanding)),
                }
            }
            for event in &events {
                let Token(key) = event.token();
                self.connections[key].writable |= event.is_writable();
                let mut frames = 0;
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    frames = self.receive(key)?;
                }
                let more = self.scenario.job == Job::Echo && phase != Phase::Drain;
                self.send(key, if more { frames } else { 0 })?;
            }
            if self.scenario.job == Job::Broadcast && phase != Phase::Drain {
                let sender = &self.connections[0];
                let under_way = sender.next_out + sender.owed - self.tally.complete;
                self.send(0, pipeline - under_way)?;
            }
        }
        let mut measured = measured.ok_or("nothing was measured")?;
        measured.generator_seconds = system::cpu_time(std::process::id()).unwrap_or_default().as_secs_f64();
        Ok(measured)
    }

    /// So many more frames, after those that could not be written before.
    fn send(&mut self, key: usize, frames: u64) -> Result<(), String> {
        let receivers = if self.scenario.job == Job::Echo { 1 } else { self.connections.len() };
        let connection = &mut self.connections[key];
        if frames > 0 {
            let first = connection.next_out + connection.owed;
            self.tally.sending(connection.number, first, frames, receivers);
            connection.owed += frames;
        }
        let flushed = connection.flush(&self.template, &mut self.scratch);
        flushed.map_err(|error| format!("writing on connection {key}: {error}"))
    }

    /// The frames that are complete now.
    fn receive(&mut self, key: usize) -> Result<u64, String> {
        let connection = &mut self.connections[key];
        let sender = if self.scenario.job == Job::Echo { connection.number } else { 0 };
        let before = connection.next_in;
        loop {
            let n = match connection.stream.read(&mut self.input) {
                Ok(0) => return Err(format!("the server has closed connection {key}")),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(format!("reading on connection {key}: {error}")),
            };
            let now = Instant::now();
            let mut bytes = &self.input[..n];
            while !bytes.is_empty() {
                let take = (self.template.len() - connection.in_at).min(bytes.len());
                let (these, rest) = bytes.split_at(take);
                if !self.template.matches(these, connection.in_at, connection.next_in, sender) {
                    return Err(format!("wrong bytes in frame {} on connection {key}", connection.next_in));
                }
                bytes = rest;
                connection.in_at += take;
                if connection.in_at == self.template.len() {
                    // More than was sent would match, too.
                    if self.tally.outstanding == 0 {
                        return Err(format!("a reply too many on connection {key}"));
                    }
                    self.tally.received(sender, connection.next_in, now);
                    connection.in_at = 0;
                    connection.next_in += 1;
                }
            }
            if n < self.input.len() {
                break;
            }
        }
        Ok(connection.next_in - before)
    }
}

/// The time that counts, and who had a core in it.
struct Window {
    process: Option<u32>,
    opened: Instant,
    server: Option<Duration>,
    generator: Option<Duration>,
}

impl Window {
    fn open(process: Option<u32>) -> Window {
        let server = process.and_then(system::cpu_time);
        let generator = system::cpu_time(std::process::id());
        Window { process, opened: Instant::now(), server, generator }
    }

    fn close(&self, tally: &Tally) -> Measured {
        let seconds = self.opened.elapsed().as_secs_f64();
        let used = |process: Option<u32>, before: Option<Duration>| {
            Some(process.and_then(system::cpu_time)?.saturating_sub(before?).as_secs_f64())
        };
        let server = used(self.process, self.server);
        let quantile_us = |q| tally.times.value_at_quantile(q) as f64 / 1e3;
        Measured {
            per_second: tally.measured as f64 / seconds,
            p50_us: quantile_us(0.5),
            p99_us: quantile_us(0.99),
            server_cpu_us: server.map(|s| s * 1e6 / tally.measured.max(1) as f64),
            server_share: server.map(|s| s / seconds),
            generator_share: used(Some(std::process::id()), self.generator).map(|s| s / seconds),
            generator_seconds: 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_matches_itself_in_any_pieces() {
        let template = Template::new(40);
        let mut frame = template.frame.clone();
        frame[..HEAD].copy_from_slice(&template.head(7, 3));
        for from in 0..frame.len() {
            for to in from..=frame.len() {
                assert!(template.matches(&frame[from..to], from, 7, 3), "{from}..{to}");
            }
        }
    }

    #[test]
    fn each_wrong_byte_is_seen() {
        let template = Template::new(40);
        let mut frame = template.frame.clone();
        frame[..HEAD].copy_from_slice(&template.head(7, 3));
        for at in 0..frame.len() {
            frame[at] ^= 1;
            assert!(!template.matches(&frame, 0, 7, 3), "byte {at}");
            assert!(!template.matches(&frame[at..], at, 7, 3), "byte {at}");
            frame[at] ^= 1;
        }
        assert!(!template.matches(&frame, 0, 8, 3));
        assert!(!template.matches(&frame, 0, 7, 2));
    }

    #[test]
    fn a_load_refuses_targets_that_are_not_here() {
        let target = Target {
            address: "192.0.2.1:7000".parse().unwrap(),
            process: None,
            warm_up: Duration::ZERO,
            measure: Duration::ZERO,
        };
        assert!(run(&Scenario::all()[0], &target).unwrap_err().contains("loopback"));
    }
}
