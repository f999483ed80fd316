//! The end of a reactor: whom it serves until when, and what it reports.

use log::{debug, info};

use super::live::{Input, Phase};
use super::pace::Callback;
use super::timers::Deadline;
use super::{Context, Reactor};
use crate::connection::{CloseReason, Halt};
use crate::error::DialError;
use crate::handler::Handler;
use crate::id::ConnId;
use crate::time::deadline;

/// What a shutdown achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Connections that were open when it began and have ended with everything sent.
    pub drained: u64,
    /// Connections that have ended with something not sent or not answered: by the deadline, by a second call, or by their
    /// peer.
    pub cut: u64,
    /// Bytes that waited for those.
    pub bytes_lost: u64,
}

impl ShutdownReport {
    /// Adds the report of another reactor.
    pub fn add(&mut self, other: &ShutdownReport) {
        self.drained += other.drained;
        self.cut += other.cut;
        self.bytes_lost += other.bytes_lost;
    }
}

/// Where a shutdown stands.
#[derive(Debug)]
pub(super) struct Drain {
    /// How often it was asked for.
    pub(super) requests: u32,
    /// How many of those were acted on, and how many may be.
    acted_on: u32,
    allowed: u32,
    /// Its time is over: nothing lingers any more.
    pub(super) over: bool,
    open_at_begin: u64,
    report: ShutdownReport,
}

impl Default for Drain {
    fn default() -> Drain {
        Drain {
            requests: 0,
            acted_on: 0,
            allowed: u32::MAX,
            over: false,
            open_at_begin: 0,
            report: ShutdownReport::default(),
        }
    }
}

impl Drain {
    /// Whether a request waits to be acted on.
    pub(super) fn is_due(&self) -> bool {
        self.requests.min(2).min(self.allowed) > self.acted_on
    }

    /// No more than so many requests are acted on, whoever has asked: others are to come first.
    pub(super) fn allow(&mut self, level: u32) {
        self.allowed = level;
    }

    /// How often it was asked for, and how many of these were acted on.
    pub(super) fn level(&self) -> (u32, u32) {
        (self.requests, self.acted_on)
    }

    pub(super) fn has_begun(&self) -> bool {
        self.acted_on > 0
    }

    /// A connection ends with so many bytes not sent.
    pub(super) fn note_lost(&mut self, bytes: usize) {
        if self.has_begun() && bytes > 0 {
            self.report.cut += 1;
            self.report.bytes_lost += bytes as u64;
        }
    }
}

impl<H: Handler> Context<H> {
    pub(super) fn report(&self) -> ShutdownReport {
        let mut report = self.drain.report;
        let left = self.table.live() - self.ending.len() - self.dials_failed.len();
        report.drained = self.drain.open_at_begin.saturating_sub(report.cut + left as u64);
        report
    }

    /// How many were open when the shutdown began.
    #[cfg(feature = "sim")]
    pub(super) fn open_at_drain(&self) -> u64 {
        self.drain.open_at_begin
    }
}

impl<H: Handler> Reactor<H> {
    /// Acts on a request to shut down: the first begins the drain, the second ends it.
    pub(super) fn advance_shutdown(&mut self) {
        if !self.cx.drain.is_due() {
            return;
        }
        self.cx.drain.acted_on += 1;
        if self.cx.drain.acted_on == 1 { self.begin_drain() } else { self.cut_all() }
    }

    fn begin_drain(&mut self) {
        info!("shutting down: {} connections are open", self.cx.table.open().len());
        self.call(Callback::Shutdown, None, H::on_shutdown);
        // Clients that the kernel has accepted and we have not would be reset: they are served like the others.
        for listener in self.cx.listener_ids() {
            self.accept(listener, usize::from(u16::MAX));
            #[cfg(feature = "proxy-protocol")]
            self.end_greetings(listener);
            self.cx.unlisten(listener);
        }
        for conn in std::mem::take(&mut self.cx.opening) {
            self.open(conn);
        }
        let all: Vec<_> = self.cx.table.all().collect();
        for conn in all {
            let Some(live) = self.cx.table.get_mut(conn) else { continue };
            // Those that have ended, or leave with their socket, are not the drain's.
            if live.phase == Phase::Ended || live.is_detaching() {
                continue;
            }
            self.cx.drain.open_at_begin += u64::from(live.is_open());
            match live.phase {
                // Nothing has come from those that shake hands.
                Phase::Dialing | Phase::Handshaking => self.cx.fail_dial(conn, DialError::Cancelled),
                Phase::Open => self.read_for_the_last_time(conn),
                Phase::Opening | Phase::Finishing | Phase::Closing | Phase::Ended => {}
            }
        }
        let until = deadline(self.cx.now, self.cx.limits.drain_timeout);
        self.cx.timers.set(until, Deadline::Drain);
    }

    /// One last budgeted read, whether or not an event has told of something; then no further input.
    fn read_for_the_last_time(&mut self, conn: ConnId) {
        if let Some(live) = self.cx.table.get_mut(conn) {
            // Nor held back by the jobs under way, for what is whole is answered.
            let _ = live.halts.lift(Halt::Workers);
            if live.input == Input::Open {
                live.readable = true;
            }
        }
        self.receive(conn);
        self.cx.begin_finish(conn, CloseReason::Shutdown);
    }

    /// Ends everything that is left, lingering sockets included.
    pub(super) fn cut_all(&mut self) {
        self.cx.drain.over = true;
        let all: Vec<_> = self.cx.table.all().collect();
        debug!("cutting {} connections", all.len());
        for conn in all {
            let Some(live) = self.cx.table.get_mut(conn) else { continue };
            if live.phase == Phase::Ended {
                continue;
            }
            if !live.has_output() {
                // What it waited for was an answer, from elsewhere.
                self.cx.drain.report.cut += 1;
            }
            live.reason = None;
            self.cx.end(conn, CloseReason::Shutdown);
        }
        let lingering: Vec<_> = self.cx.table.all_lingering().collect();
        for conn in lingering {
            self.cx.cut_lingering(conn, false);
        }
    }

    /// Whether a shutdown has come to its end: nothing is left. The table's own length says so.
    pub(super) fn is_finished(&self) -> bool {
        self.cx.drain.has_begun() && self.cx.table.is_empty()
    }
}
