//! The measuring end: dials, sends, compares what comes back, and notes how long it took.
//!
//! In a closed loop each reply sends the next message; in an open one the [`Schedule`] says when a message goes out, and its
//! delay is counted from there. All the rest is the same.

use std::collections::VecDeque;
use std::time::Duration;

use mainspring::codec::ByteCodec;
use mainspring::{Address, CloseReason, ConnId, Context, Dial, DialError, Handler, Timer};

use crate::clock::Clock;
use crate::common::dial_failure;
use crate::options::Options;
use crate::pattern::Pattern;
use crate::progress::Progress;
use crate::report::Outcome;
use crate::schedule::{Schedule, nanos};

/// Dials that are under way at a time: more would only wait for the server's `accept`.
const DIALS_AT_ONCE: u32 = 128;
/// Messages that are late and go out in one turn: replies are read in between.
const SENDS_AT_ONCE: u32 = 512;
/// The system's timers are coarse: for so long before a message is due the loop does not sleep.
const AWAKE: Duration = Duration::from_millis(2);

// The keys of the timers.
const BEGIN: u64 = 0;
const END: u64 = 1;
const LOOK: u64 = 2;
const SEND: u64 = 3;
const DRAW: u64 = 4;

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
    /// When those under way were sent, or should have been, the oldest first.
    sent: VecDeque<u64>,
    /// Bytes of the oldest reply that have come. More than zero only in raw, where a reply may come in parts.
    arrived: usize,
}

impl Flight {
    /// Makes the next message, which goes out at once and counts from `at`.
    #[inline]
    fn make_next(&mut self, pattern: &Pattern, message: &mut [u8], at: u64) {
        pattern.fill(self.number, self.next, message);
        self.next += 1;
        self.sent.push_back(at);
    }
}

/// An open loop.
struct Open {
    schedule: Schedule,
    /// When the schedule begins.
    start: u64,
    /// Whose turn it is to send.
    turn: usize,
    /// When the last reply came.
    last_reply: u64,
}

/// All times are nanoseconds of [`Clock`].
pub(crate) struct Probe<C> {
    options: Options,
    codec: C,
    /// As the user has written it.
    to: String,
    dial: Dial,
    /// Where the first connection has succeeded: all others go there.
    server: Option<Address>,
    dialed: u32,
    /// Those that are open or were, in the order of their numbers.
    conns: Vec<ConnId>,
    open: u32,
    phase: Phase,
    pattern: Pattern,
    /// Where each message is made.
    message: Vec<u8>,
    /// Messages under way, on all connections.
    under_way: u64,
    clock: Clock,
    /// None in a closed loop.
    schedule: Option<Open>,
    /// When measuring has begun.
    begin: Option<u64>,
    progress: Progress,
    outcome: Outcome,
}

impl<C: ByteCodec> Handler for Probe<C> {
    type Codec = C;
    type Session = Flight;

    fn on_start(&mut self, cx: &mut Context<Self>) {
        self.dialed = 1;
        cx.connect(self.dial.clone(), self.codec.clone());
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
            flight.sent.reserve_exact(self.options.pipeline() as usize);
        }
        self.conns.push(conn);
        self.open += 1;
        self.dial_more(cx);
        if self.open == self.options.connections {
            self.start(cx);
        }
    }

    fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, reply: &[u8]) {
        let now = self.clock.of_reply(cx.now(), from, reply.len());
        let size = self.options.size as usize;
        let whole = reply.len() == size;
        if !whole && !self.options.framing.is_raw() {
            return self.lose(cx, from, "a reply has the wrong length");
        }
        // In raw this may be a part of a reply, or several. Otherwise it is one, which may be empty.
        let mut rest = reply;
        loop {
            let Some(flight) = cx.session_mut(from) else { return };
            let Some(&sent) = flight.sent.front() else {
                return self.lose(cx, from, "a reply belongs to nothing that was sent");
            };
            let (part, behind) = rest.split_at(rest.len().min(size - flight.arrived));
            let sequence = flight.next - flight.sent.len() as u64;
            if !self.pattern.matches(flight.number, sequence, flight.arrived, part) {
                return self.lose(cx, from, "a reply differs from what was sent");
            }
            flight.arrived += part.len();
            if flight.arrived == size {
                flight.arrived = 0;
                flight.sent.pop_front();
                if self.schedule.is_none() && self.phase != Phase::Finishing {
                    flight.make_next(&self.pattern, &mut self.message, now);
                    cx.send(from, &self.message);
                } else {
                    self.under_way -= 1;
                }
                self.count(sent, now);
                self.end_if_finished(cx);
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
                self.begin = Some(self.clock.at(cx.now()));
                cx.after(self.options.duration(), END);
            }
            END => self.finish(cx),
            SEND => self.send_due(cx),
            DRAW => self.progress.draw(cx.now()),
            _ => self.look_for_overdue(cx),
        }
    }

    fn on_close(&mut self, cx: &mut Context<Self>, _: ConnId, reason: CloseReason, flight: Flight) {
        self.open -= 1;
        let missing = flight.sent.len() as u64;
        self.under_way -= missing;
        let is_ours = matches!(reason, CloseReason::Shutdown | CloseReason::Aborted);
        if missing > 0 || !is_ours {
            // Even with nothing under way: the measurement goes on without it.
            self.outcome
                .error(missing.max(1), || format!("connection {} has ended: {reason}", flight.number));
        }
        if self.open == 0 || self.phase == Phase::Connecting {
            self.finish(cx);
            end(cx);
        }
        self.end_if_finished(cx);
    }
}

impl<C: ByteCodec> Probe<C> {
    pub(crate) fn new(options: Options, codec: C, to: String, dial: Dial, progress: Progress) -> Probe<C> {
        let size = options.size as usize;
        Probe {
            codec,
            to,
            dial,
            server: None,
            dialed: 0,
            conns: Vec::new(),
            open: 0,
            phase: Phase::Connecting,
            pattern: Pattern::new(size, options.framing.is_lines()),
            message: vec![0; size],
            under_way: 0,
            clock: Clock::new(),
            schedule: options.rate.map(|rate| Open {
                schedule: Schedule::new(rate, options.warmup().saturating_add(options.duration())),
                start: 0,
                turn: 0,
                last_reply: 0,
            }),
            begin: None,
            progress,
            outcome: Outcome::new(),
            options,
        }
    }

    pub(crate) fn into_outcome(mut self) -> Outcome {
        // What was asked for in the open loop may be answered after its time: that is a lower rate.
        if let (Some(open), Some(begin)) = (self.schedule, self.begin) {
            let answered = Duration::from_nanos(open.last_reply.saturating_sub(begin));
            self.outcome.measured = self.outcome.measured.map(|measured| measured.max(answered));
        }
        self.outcome
    }

    fn dial_more(&mut self, cx: &mut Context<Self>) {
        let Some(server) = &self.server else { return };
        while self.dialed < self.options.connections && self.dialed - self.open < DIALS_AT_ONCE {
            self.dialed += 1;
            // TLS needs the name.
            let tls = self.options.tls.is_asked_for();
            let to = if tls { self.dial.clone() } else { Dial::from(server) };
            cx.connect(to, self.codec.clone());
        }
    }

    /// All connections are open: the first messages go out.
    fn start(&mut self, cx: &mut Context<Self>) {
        self.phase = Phase::WarmingUp;
        let period = self.options.timeout / 4;
        cx.every(period.clamp(Duration::from_millis(5), Duration::from_millis(500)), LOOK);
        if let Some(period) = self.progress.begin(cx.now()) {
            cx.every(period, DRAW);
        }
        let now = self.clock.read();
        if let Some(open) = &mut self.schedule {
            open.start = now;
            return self.send_due(cx);
        }
        cx.after(self.options.warmup(), BEGIN);
        for conn in self.conns.clone() {
            for _ in 0..self.options.pipeline() {
                self.send_next(cx, conn, now);
            }
        }
    }

    /// False when the connection is gone.
    #[inline]
    fn send_next(&mut self, cx: &mut Context<Self>, to: ConnId, at: u64) -> bool {
        let Some(flight) = cx.session_mut(to) else { return false };
        flight.make_next(&self.pattern, &mut self.message, at);
        self.under_way += 1;
        cx.send(to, &self.message);
        true
    }

    /// The open loop: all that is due by now goes out, each connection in its turn.
    fn send_due(&mut self, cx: &mut Context<Self>) {
        let Some(Open { start, .. }) = self.schedule else { return };
        if self.phase == Phase::Finishing {
            return;
        }
        let now = self.clock.read() - start;
        let warmup = nanos(self.options.warmup());
        if now >= warmup && self.begin.is_none() {
            self.phase = Phase::Measuring;
            self.begin = Some(start + warmup);
        }
        for _ in 0..SENDS_AT_ONCE {
            let Some(conn) = self.next_with_room(cx) else { break };
            let Some(open) = &mut self.schedule else { return };
            let Some(due) = open.schedule.next_due(now) else { break };
            open.turn += 1;
            if open.turn == self.conns.len() {
                open.turn = 0;
            }
            if due >= warmup {
                self.outcome.late_max = self.outcome.late_max.max(now - due);
            }
            if !self.send_next(cx, conn, start + due) {
                self.outcome.error(1, || "its connection is gone".to_owned());
            }
        }
        let Some(open) = &self.schedule else { return };
        match open.schedule.idle(now) {
            None => self.finish(cx),
            // Asleep, the loop would be late for a reply or for a message, and the server would be blamed for it.
            Some(idle) => {
                let asleep = if self.under_way > 0 { Duration::ZERO } else { idle.saturating_sub(AWAKE) };
                cx.after(asleep, SEND);
            }
        }
    }

    /// Whose turn it is to send; those that may have no more under way are passed over. One that is gone has room: that its
    /// messages are missing has to be told. `None` when all have to wait, and what is due waits with them.
    fn next_with_room(&mut self, cx: &Context<Self>) -> Option<ConnId> {
        let (open, most) = (self.schedule.as_mut()?, self.options.under_way_max());
        for _ in 0..self.conns.len() {
            let conn = self.conns[open.turn];
            if cx.session(conn).is_none_or(|flight| flight.sent.len() < most) {
                return Some(conn);
            }
            open.turn = (open.turn + 1) % self.conns.len();
        }
        None
    }

    /// A message has come back whole.
    #[inline]
    fn count(&mut self, sent: u64, now: u64) {
        let counts = match &mut self.schedule {
            None => self.phase == Phase::Measuring,
            Some(open) => {
                open.last_reply = now;
                self.begin.is_some_and(|begin| sent >= begin)
            }
        };
        if counts {
            self.outcome.latencies.saturating_record(now.saturating_sub(sent));
        }
    }

    /// Measuring is over; what is under way is waited for.
    fn finish(&mut self, cx: &mut Context<Self>) {
        if self.phase == Phase::Finishing {
            return;
        }
        self.phase = Phase::Finishing;
        let now = self.clock.read();
        self.outcome.measured = self.begin.map(|begin| Duration::from_nanos(now.saturating_sub(begin)));
        self.end_if_finished(cx);
    }

    #[inline]
    fn end_if_finished(&self, cx: &mut Context<Self>) {
        if self.phase == Phase::Finishing && self.under_way == 0 {
            end(cx);
        }
    }

    fn look_for_overdue(&mut self, cx: &mut Context<Self>) {
        let (now, timeout) = (self.clock.read(), nanos(self.options.timeout));
        let overdue = |conn: &ConnId| {
            let oldest = cx.session(*conn).and_then(|flight| flight.sent.front());
            oldest.is_some_and(|sent| now.saturating_sub(*sent) > timeout)
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
        self.end_if_finished(cx);
    }
}

/// Ends the program, in order: a second request to shut down would cut what the first one still does.
fn end<C: ByteCodec>(cx: &mut Context<Probe<C>>) {
    if !cx.is_shutting_down() {
        cx.shutdown();
    }
}
