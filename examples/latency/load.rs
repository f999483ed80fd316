//! The measuring end: dials, sends, compares what comes back, and notes how long it took.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use mainspring::codec::ByteCodec;
use mainspring::{Address, CloseReason, ConnId, Context, DialError, Handler, Timer};

use crate::common::dial_failure;
use crate::options::Options;
use crate::pattern::Pattern;
use crate::report::Outcome;

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
pub(crate) struct Flight {
    number: u32,
    /// The sequence number of the next message.
    next: u64,
    /// When those under way were sent, the oldest first.
    sent: VecDeque<Instant>,
    /// Bytes of the oldest reply that have come. More than zero only in raw, where a reply may come in parts.
    arrived: usize,
}

pub(crate) struct Probe<C> {
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
    outcome: Outcome,
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
        self.outcome.error(1, || what);
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
            self.outcome
                .error(missing.max(1), || format!("connection {} has ended: {reason}", flight.number));
        }
        if self.open == 0 || self.phase == Phase::Connecting {
            self.finish(cx);
            end(cx);
        }
    }
}

impl<C: ByteCodec> Probe<C> {
    pub(crate) fn new(options: Options, codec: C, to: String) -> Probe<C> {
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
            outcome: Outcome::new(),
            options,
        }
    }

    pub(crate) fn into_outcome(self) -> Outcome {
        self.outcome
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
            self.outcome.latencies.saturating_record(nanos);
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
        self.outcome.measured = self.begin.map(|begin| cx.now() - begin);
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
        self.outcome.error(missing.max(1), || format!("connection {number}: {what}"));
        cx.abort(conn);
        if self.phase == Phase::Finishing && self.under_way == 0 {
            end(cx);
        }
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
