//! Measures an echo server: how long each message takes there and back, and how many do so in a second.
//!
//! ```text
//! cargo run --release --example latency
//! cargo run --release --example latency -- 127.0.0.1:7000 --connections 50 --pipeline 16
//! ```
//!
//! It is a closed loop: each connection keeps `--pipeline` messages under way, and each reply sends the next one. So it finds
//! what a server can do at its fastest, and how long a message takes under that load; it does not find what clients would
//! see that send by the clock, since a slow reply delays the next question.

mod common;

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::process::ExitCode;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use clap::{CommandFactory, Parser};
use common::framing::{FramingOptions, with_codec};
use common::{dial_failure, failure, say, start_log, values};
use hdrhistogram::Histogram;
use mainspring::codec::ByteCodec;
use mainspring::{
    Address, CloseReason, ConnId, Context, DialError, Error, Handle, Handler, Limits, Reactor, Timer,
};
use serde_json::json;

/// Measures an echo server: messages a second, and how long each takes there and back
///
/// Each connection keeps --pipeline messages under way, and every reply is compared with what was sent. A reply that is wrong
/// or missing makes the exit status 1.
#[derive(Debug, Clone, Parser)]
#[command(name = "latency", version)]
struct Options {
    /// The server: HOST:PORT or [V6]:PORT. Without it, one is started in this process, on a thread of its own
    #[arg(value_name = "ADDR", value_parser = values::address)]
    address: Option<String>,
    /// So many connections, all from one thread
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..1 << 20))]
    connections: u32,
    /// The length of each message
    #[arg(long, value_name = "SIZE", default_value = "64", value_parser = values::size)]
    size: u64,
    /// Messages that each connection keeps under way
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..1 << 20))]
    pipeline: u32,
    /// Measure for so long
    #[arg(long, value_name = "DUR", default_value = "3s", value_parser = values::positive_duration)]
    duration: Duration,
    /// Run for so long before that
    #[arg(long, value_name = "DUR", default_value = "500ms", value_parser = values::duration)]
    warmup: Duration,
    /// No connection, or no reply, within this time is an error
    #[arg(long, value_name = "DUR", default_value = "5s", value_parser = values::positive_duration)]
    timeout: Duration,
    #[command(flatten)]
    framing: FramingOptions,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let longest = options.framing.longest().min(MESSAGE_MAX);
    let shortest = u64::from(options.framing.is_raw());
    if options.size > longest || options.size < shortest {
        let what = format!(
            "--size {} does not go with this framing: {shortest} to {longest} bytes do",
            options.size
        );
        Options::command().error(clap::error::ErrorKind::ValueValidation, what).exit();
    }
    start_log();
    with_codec!(options.framing, |codec| measure(&options, codec)).unwrap_or_else(failure)
}

/// Every message is compared with a copy in memory.
const MESSAGE_MAX: u64 = 1 << 30;

fn measure<C: ByteCodec + Send + 'static>(options: &Options, codec: C) -> Result<ExitCode, Error> {
    let own = if options.address.is_none() { Some(OwnServer::start(codec.clone())?) } else { None };
    let own_address = own.as_ref().map(|server| server.address.to_string());
    let to = options.address.clone().or(own_address).unwrap_or_default();
    let mut limits = Limits::default();
    limits.connections_max = Some(options.connections as usize);
    limits.dial_timeout = options.timeout;
    // A pipeline is as long as the user says, whatever waits already.
    limits.write_limit = usize::MAX;
    let probe = Probe::new(options.clone(), codec, to);
    let mut reactor = Reactor::<Probe<C>>::builder().limits(limits).build(probe)?;
    reactor.run()?;
    let probe = reactor.into_handler();
    if let Some(server) = own {
        server.stop();
    }
    Ok(probe.report())
}

// ---- the server of our own -------------------------------------------------------------------------------------------

struct Echo<C> {
    codec: PhantomData<C>,
}

impl<C: ByteCodec> Handler for Echo<C> {
    type Codec = C;
    type Session = ();

    fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, message: &[u8]) {
        cx.send(from, message);
    }
}

struct OwnServer<C: ByteCodec + 'static> {
    address: Address,
    handle: Handle<Echo<C>>,
    thread: JoinHandle<()>,
}

impl<C: ByteCodec + Send + 'static> OwnServer<C> {
    fn start(codec: C) -> Result<OwnServer<C>, Error> {
        let mut reactor = Reactor::new(Echo { codec: PhantomData })?;
        let address = reactor.listen("127.0.0.1:0", codec)?.address;
        let handle = reactor.handle();
        let thread = thread::spawn(move || {
            if let Err(error) = reactor.run() {
                log::error!("the server: {error}");
            }
        });
        Ok(OwnServer { address, handle, thread })
    }

    fn stop(self) {
        self.handle.shutdown();
        // A panic over there has said so itself.
        let _ = self.thread.join();
    }
}

// ---- the measuring end -----------------------------------------------------------------------------------------------

/// Dials that are under way at a time: more would only wait for the server's `accept`.
const DIALS_AT_ONCE: u32 = 128;

// The keys of the timers.
const BEGIN: u64 = 0;
const END: u64 = 1;
const LOOK: u64 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    WarmingUp,
    Measuring,
    /// Nothing more is sent; replies that are under way are waited for.
    Finishing,
}

/// What one connection has under way.
#[derive(Debug, Default)]
struct Flight {
    number: u32,
    /// The sequence number of the next message.
    next: u64,
    /// When those under way were sent, the oldest first.
    sent: VecDeque<Instant>,
    /// Bytes of the oldest reply that have come. More than zero only in raw, where a reply may come in parts.
    arrived: usize,
}

struct Probe<C> {
    options: Options,
    codec: C,
    /// As the user has written it.
    to: String,
    /// Where the first connection has succeeded: all others go there.
    server: Option<Address>,
    dialed: u32,
    open: u32,
    phase: Phase,
    pattern: Pattern,
    /// Where each message is made.
    message: Vec<u8>,
    /// Messages under way, on all connections.
    under_way: u64,
    begin: Option<Instant>,
    measured: Duration,
    /// In nanoseconds, of the replies that came while measuring.
    latencies: Histogram<u64>,
    errors: u64,
    first_error: Option<String>,
}

impl<C: ByteCodec> Handler for Probe<C> {
    type Codec = C;
    type Session = Flight;

    fn on_start(&mut self, cx: &mut Context<Self>) {
        self.dialed = 1;
        cx.connect(&self.to, self.codec.clone());
    }

    fn on_dial_failed(&mut self, cx: &mut Context<Self>, _: ConnId, error: DialError, _: Flight) {
        let what = dial_failure(&self.to, &error);
        self.error(1, || what);
        end(cx);
    }

    fn on_open(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        if self.server.is_none() {
            self.server = cx.peer_addr(conn).cloned();
        }
        if let Some(flight) = cx.session_mut(conn) {
            flight.number = self.open;
            flight.sent.reserve_exact(self.options.pipeline as usize);
        }
        self.open += 1;
        self.dial_more(cx);
        if self.open == self.options.connections {
            self.start(cx);
        }
    }

    fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, reply: &[u8]) {
        let now = now();
        let size = self.options.size as usize;
        let whole = reply.len() == size;
        if !whole && !self.options.framing.is_raw() {
            return self.lose(cx, from, "a reply has the wrong length");
        }
        // In raw this may be a part of a reply, or several. Otherwise it is one, which may be empty.
        let mut rest = reply;
        loop {
            let Some(flight) = cx.session_mut(from) else { return };
            if flight.sent.is_empty() {
                return self.lose(cx, from, "a reply belongs to nothing that was sent");
            }
            let (part, behind) = rest.split_at(rest.len().min(size - flight.arrived));
            let sequence = flight.next - flight.sent.len() as u64;
            if !self.pattern.matches(flight.number, sequence, flight.arrived, part) {
                return self.lose(cx, from, "a reply differs from what was sent");
            }
            flight.arrived += part.len();
            if flight.arrived == size {
                self.replied(cx, from, now);
            }
            rest = behind;
            if rest.is_empty() {
                return;
            }
        }
    }

    fn on_timer(&mut self, cx: &mut Context<Self>, timer: Timer) {
        match timer.key {
            BEGIN => {
                self.phase = Phase::Measuring;
                self.begin = Some(cx.now());
                cx.after(self.options.duration, END);
            }
            END => self.finish(cx),
            _ => self.look_for_overdue(cx),
        }
    }

    fn on_close(&mut self, cx: &mut Context<Self>, _: ConnId, reason: CloseReason, flight: Flight) {
        self.open -= 1;
        if !matches!(reason, CloseReason::Shutdown | CloseReason::Aborted) {
            // Even with nothing under way: the measurement goes on without it.
            let missing = flight.sent.len() as u64;
            self.under_way -= missing;
            self.error(missing.max(1), || format!("connection {} has ended: {reason}", flight.number));
        }
        if self.open == 0 || self.phase == Phase::Connecting {
            self.finish(cx);
            end(cx);
        }
    }
}

impl<C: ByteCodec> Probe<C> {
    fn new(options: Options, codec: C, to: String) -> Probe<C> {
        let size = options.size as usize;
        Probe {
            codec,
            to,
            server: None,
            dialed: 0,
            open: 0,
            phase: Phase::Connecting,
            pattern: Pattern::new(size, options.framing.is_lines()),
            message: vec![0; size],
            under_way: 0,
            begin: None,
            measured: Duration::ZERO,
            // Up to an hour: whatever takes longer is counted as that.
            latencies: Histogram::new_with_bounds(1, 3_600_000_000_000, 3).expect("3 digits are allowed"),
            errors: 0,
            first_error: None,
            options,
        }
    }

    fn dial_more(&mut self, cx: &mut Context<Self>) {
        let Some(server) = &self.server else { return };
        while self.dialed < self.options.connections && self.dialed - self.open < DIALS_AT_ONCE {
            self.dialed += 1;
            cx.connect(server.clone(), self.codec.clone());
        }
    }

    /// All connections are open: each gets its messages under way.
    fn start(&mut self, cx: &mut Context<Self>) {
        self.phase = Phase::WarmingUp;
        cx.after(self.options.warmup, BEGIN);
        let period = self.options.timeout / 4;
        cx.every(period.clamp(Duration::from_millis(5), Duration::from_millis(500)), LOOK);
        let all = cx.connections().to_vec();
        for conn in all {
            for _ in 0..self.options.pipeline {
                self.send_next(cx, conn, now());
            }
        }
    }

    #[inline]
    fn send_next(&mut self, cx: &mut Context<Self>, to: ConnId, now: Instant) {
        let Some(flight) = cx.session_mut(to) else { return };
        self.pattern.fill(flight.number, flight.next, &mut self.message);
        flight.next += 1;
        flight.sent.push_back(now);
        self.under_way += 1;
        cx.send(to, &self.message);
    }

    /// The oldest message under way has come back whole.
    #[inline]
    fn replied(&mut self, cx: &mut Context<Self>, from: ConnId, now: Instant) {
        let Some(flight) = cx.session_mut(from) else { return };
        flight.arrived = 0;
        let Some(sent) = flight.sent.pop_front() else { return };
        self.under_way -= 1;
        if self.phase == Phase::Measuring {
            let nanos = u64::try_from((now - sent).as_nanos()).unwrap_or(u64::MAX);
            self.latencies.saturating_record(nanos);
        }
        if self.phase != Phase::Finishing {
            self.send_next(cx, from, now);
        } else if self.under_way == 0 {
            end(cx);
        }
    }

    /// Measuring is over; what is under way is waited for.
    fn finish(&mut self, cx: &mut Context<Self>) {
        if self.phase == Phase::Finishing {
            return;
        }
        self.phase = Phase::Finishing;
        self.measured = self.begin.map_or(Duration::ZERO, |begin| cx.now() - begin);
        if self.under_way == 0 {
            end(cx);
        }
    }

    fn look_for_overdue(&mut self, cx: &mut Context<Self>) {
        let now = now();
        let timeout = self.options.timeout;
        let overdue = |conn: &ConnId| {
            let oldest = cx.session(*conn).and_then(|flight| flight.sent.front());
            oldest.is_some_and(|sent| now - *sent > timeout)
        };
        let all: Vec<ConnId> = cx.connections().iter().copied().filter(overdue).collect();
        for conn in all {
            self.lose(cx, conn, "no reply in time");
        }
    }

    /// Nothing that comes on this connection can be told any more: all that is under way there is missing.
    #[cold]
    fn lose(&mut self, cx: &mut Context<Self>, conn: ConnId, what: &str) {
        let Some(flight) = cx.session_mut(conn) else { return };
        let missing = flight.sent.len() as u64;
        flight.sent.clear();
        let number = flight.number;
        self.under_way -= missing;
        self.error(missing.max(1), || format!("connection {number}: {what}"));
        cx.abort(conn);
        if self.phase == Phase::Finishing && self.under_way == 0 {
            end(cx);
        }
    }

    fn error(&mut self, count: u64, what: impl FnOnce() -> String) {
        self.errors += count;
        self.first_error.get_or_insert_with(what);
    }

    fn report(&self) -> ExitCode {
        if self.begin.is_some() {
            let report = if self.options.json { self.json() } else { self.table() };
            say(report);
        }
        match &self.first_error {
            None => ExitCode::SUCCESS,
            Some(first) if self.begin.is_none() => failure(first),
            Some(first) => failure(format_args!("{} replies are wrong or missing: {first}", self.errors)),
        }
    }

    fn per_second(&self, count: u64) -> f64 {
        let seconds = self.measured.as_secs_f64();
        if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
    }

    fn json(&self) -> String {
        let messages = self.latencies.len();
        let us = |quantile| micros(self.latencies.value_at_quantile(quantile));
        let report = json!({
            "messages": messages,
            "messages_per_s": self.per_second(messages),
            "bytes_per_s": self.per_second(messages * self.options.size),
            "p50_us": us(0.5),
            "p90_us": us(0.9),
            "p99_us": us(0.99),
            "p999_us": us(0.999),
            "max_us": us(1.0),
            "errors": self.errors,
            "connections": self.options.connections,
            "size": self.options.size,
            "pipeline": self.options.pipeline,
            "duration_s": self.measured.as_secs_f64(),
        });
        report.to_string()
    }

    fn table(&self) -> String {
        let Options { connections, size, pipeline, .. } = self.options;
        let messages = self.latencies.len();
        let us = |quantile| micros(self.latencies.value_at_quantile(quantile));
        format!(
            "{connections} connection(s), {pipeline} message(s) of {size} bytes under way on each, {:.1} s\n\n\
             {:>12} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>8}\n\
             {:>12.0} {:>10.2} {:>10.1} {:>10.1} {:>10.1} {:>10.1} {:>10.1} {:>8}",
            self.measured.as_secs_f64(),
            "messages/s",
            "MB/s",
            "p50 us",
            "p90 us",
            "p99 us",
            "p99.9 us",
            "max us",
            "errors",
            self.per_second(messages),
            self.per_second(messages * size) / 1e6,
            us(0.5),
            us(0.9),
            us(0.99),
            us(0.999),
            us(1.0),
            self.errors,
        )
    }
}

/// Ends the program, in order: a second request to shut down would cut what the first one still does.
fn end<C: ByteCodec>(cx: &mut Context<Probe<C>>) {
    if !cx.is_shutting_down() {
        cx.shutdown();
    }
}

#[expect(clippy::disallowed_methods, reason = "a turn has one time, and each message needs its own")]
fn now() -> Instant {
    Instant::now()
}

fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}

// ---- what is sent ----------------------------------------------------------------------------------------------------

/// The messages: each differs from those before and behind it, and from those of other connections, so that a reply that
/// is wrong, swapped or doubled is noticed. Making one, and comparing one, is a copy of a stretch of noise, at a place that
/// the message's own number decides, with that number in front of it.
struct Pattern {
    size: usize,
    /// Only bytes that no line ends with.
    text: bool,
    /// Longer than a message by `SHIFTS`.
    noise: Vec<u8>,
}

const SHIFTS: u64 = 256;
/// The length of the number in front, for messages that have room for it.
const FRONT: usize = 8;

impl Pattern {
    fn new(size: usize, text: bool) -> Pattern {
        let mut noise = vec![0; size + SHIFTS as usize];
        for (i, byte) in noise.iter_mut().enumerate() {
            *byte = printable(mix(i as u64) as u8, text);
        }
        Pattern { size, text, noise }
    }

    /// The front of a message, and the place in the noise where the rest of it begins.
    #[inline]
    fn parts(&self, connection: u32, sequence: u64) -> ([u8; FRONT], usize) {
        let number = mix(sequence ^ u64::from(connection).rotate_right(24));
        let front = number.to_le_bytes().map(|byte| printable(byte, self.text));
        (front, (number % SHIFTS) as usize)
    }

    #[inline]
    fn fill(&self, connection: u32, sequence: u64, message: &mut [u8]) {
        let (front, shift) = self.parts(connection, sequence);
        let (head, body) = message.split_at_mut(FRONT.min(self.size));
        head.copy_from_slice(&front[..head.len()]);
        body.copy_from_slice(&self.noise[shift..][..body.len()]);
    }

    /// Whether `part` is what the message has from its byte `at` on.
    #[inline]
    fn matches(&self, connection: u32, sequence: u64, at: usize, part: &[u8]) -> bool {
        let (front, shift) = self.parts(connection, sequence);
        let front = front.get(at..FRONT.min(self.size)).unwrap_or_default();
        let (head, body) = part.split_at(front.len().min(part.len()));
        let into = (at + head.len()).saturating_sub(FRONT);
        front.starts_with(head) && self.noise[shift + into..].starts_with(body)
    }
}

/// Spreads a number over all bits (the finish of splitmix64).
#[inline]
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[inline]
fn printable(byte: u8, text: bool) -> u8 {
    if text { 0x40 | byte & 0x3f } else { byte }
}
