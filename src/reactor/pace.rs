//! How long the loop was held, and by whom.

use std::fmt;
use std::time::{Duration, Instant};

use log::warn;

use super::{Context, Reactor};
use crate::handler::Handler;
use crate::histogram::Histogram;
use crate::id::ConnId;

/// A method of the handler, as a stall names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Callback {
    /// `on_start`
    Start,
    /// `on_accept`
    Accept,
    /// `on_open`
    Open,
    /// `on_message`, all those of one read, or `on_half_close`.
    Message,
    /// `on_writable`
    Writable,
    /// `on_overflow`
    Overflow,
    /// `on_timer`
    Timer,
    /// `on_close`
    Close,
    /// `on_dial_failed`
    DialFailed,
    /// `on_detach`
    Detach,
    /// `on_overload`
    Overload,
    /// `on_shutdown`
    Shutdown,
    /// A command of another thread.
    Command,
    /// What follows a job of a pool of workers: its answer, or its `then`.
    Job,
}

impl fmt::Display for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Callback::Start => "on_start",
            Callback::Accept => "on_accept",
            Callback::Open => "on_open",
            Callback::Message => "on_message",
            Callback::Writable => "on_writable",
            Callback::Overflow => "on_overflow",
            Callback::Timer => "on_timer",
            Callback::Close => "on_close",
            Callback::DialFailed => "on_dial_failed",
            Callback::Detach => "on_detach",
            Callback::Overload => "on_overload",
            Callback::Shutdown => "on_shutdown",
            Callback::Command => "a command",
            Callback::Job => "the end of a job",
        })
    }
}

/// A callback that has held the loop for longer than [`Limits::stall_threshold`](crate::Limits::stall_threshold): in that
/// time nobody else was served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stall {
    /// What was called.
    pub callback: Callback,
    /// For which connection.
    pub conn: Option<ConnId>,
    /// How long it took.
    pub took: Duration,
    /// When it had ended.
    pub at: Instant,
}

/// The times of one reactor.
#[derive(Debug)]
pub(super) struct Pace {
    /// When the dispatch before has ended.
    mark: Instant,
    lag: Histogram,
    dispatch: Histogram,
    stall: Option<Stall>,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Pace {
        Pace { mark: now, lag: Histogram::default(), dispatch: Histogram::default(), stall: None }
    }
}

impl<H: Handler> Context<H> {
    /// How long turns have taken, from their events to the end of their work: an event that comes in the meantime waits
    /// for so long.
    pub fn loop_lag(&self) -> &Histogram {
        &self.pace.lag
    }

    /// How long the dispatches of callbacks have taken, with the system calls around them: all messages of one read of one
    /// connection and the write of its replies are one dispatch, every other callback is one.
    pub fn dispatch_times(&self) -> &Histogram {
        &self.pace.dispatch
    }

    /// The last callback that has held the loop for too long. [`Stats::stalls`](crate::Stats::stalls) counts them.
    pub fn last_stall(&self) -> Option<Stall> {
        self.pace.stall
    }

    /// When the turn before had ended: the present, for one who takes turn after turn.
    pub(super) fn turn_ended(&self) -> Instant {
        self.pace.mark
    }

    pub(super) fn turn_begins(&mut self) {
        self.pace.mark = self.now;
    }

    pub(super) fn turn_ends(&mut self) {
        let end = self.poller.now();
        self.pace.mark = end;
        self.pace.lag.record(end.saturating_duration_since(self.now));
    }

    /// A dispatch has ended. The next one begins where it did, so that each costs one look at the clock.
    #[inline]
    pub(super) fn dispatched(&mut self, callback: Callback, conn: Option<ConnId>) {
        let end = self.poller.now();
        let took = end.saturating_duration_since(self.pace.mark);
        self.pace.mark = end;
        self.pace.dispatch.record(took);
        if took > self.limits.stall_threshold {
            self.stalled(Stall { callback, conn, took, at: end });
        }
    }

    #[cold]
    fn stalled(&mut self, stall: Stall) {
        self.stats.stalls += 1;
        self.pace.stall = Some(stall);
        if self.gate.opens("stall", stall.at) {
            let Stall { callback, conn, took, .. } = stall;
            match conn.and_then(|conn| Some((conn, self.peer_addr(conn)?))) {
                Some((conn, peer)) => {
                    warn!("{callback} of connection {conn} from {peer} held the loop for {took:?}");
                }
                None => warn!("{callback} held the loop for {took:?}"),
            }
        }
    }
}

impl<H: Handler> Reactor<H> {
    /// See [`Context::loop_lag`].
    pub fn loop_lag(&self) -> &Histogram {
        self.cx.loop_lag()
    }

    /// See [`Context::dispatch_times`].
    pub fn dispatch_times(&self) -> &Histogram {
        self.cx.dispatch_times()
    }
}
