//! Deadlines: the user's timers, and those that the reactor watches over.

use std::time::{Duration, Instant};

use super::deadlines::AGAIN;
use super::live::Phase;
use super::pace::Callback;
use super::rates::RateGroup;
use super::{Context, Reactor};
use crate::connection::CloseReason;
use crate::handler::{Handler, Timer};
use crate::id::{ConnId, ListenerId, TimerId};
use crate::time::{TimerKey, deadline};

/// The shortest period of a repeating timer: shorter ones would only spin.
const PERIOD_MIN: Duration = Duration::from_millis(1);
/// How often free buffers are looked over while there are any.
const TRIM_EVERY: Duration = Duration::from_secs(1);

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deadline {
    /// A user's timer, by its place. What is kept of it is elsewhere: nearly all deadlines are those of connections, each of which
    /// has one, and that is to be small.
    User(u32),
    Open(ConnId),
    /// No answer in time.
    Dial(ConnId),
    /// No end of a client's handshake in time.
    Handshake(ConnId),
    /// The next address may be tried.
    Attempt(ConnId),
    /// It is time to dial again.
    Redial(ConnId),
    Close(ConnId),
    Linger(ConnId),
    Accept(ListenerId),
    /// No whole header of a client's proxy in time.
    #[cfg(feature = "proxy-protocol")]
    Greeting(u32),
    Drain,
    Memory,
    Rate(RateGroup),
    Trim,
}

/// A timer that the handler has set.
#[derive(Debug, Clone, Copy)]
pub(super) struct UserTimer {
    key: u64,
    conn: Option<ConnId>,
    period: Option<Duration>,
}

impl<H: Handler> Context<H> {
    /// Calls `on_timer` once, after `delay` from now. It may be late, never early. A delay longer than the clock can say
    /// means never.
    pub fn after(&mut self, delay: Duration, key: u64) -> TimerId {
        self.set_timer(delay, key, None, None)
    }

    /// Calls `on_timer` every `period`, the first time after one. The next time is the last one that was due plus the
    /// period, so that it does not drift; those that were missed are left out, so that it does not fire in a burst. A
    /// period below a millisecond is taken for one.
    pub fn every(&mut self, period: Duration, key: u64) -> TimerId {
        let period = period.max(PERIOD_MIN);
        self.set_timer(period, key, None, Some(period))
    }

    /// As [`after`](Context::after), for a connection: the timer is gone when the connection ends, before its `on_close`.
    /// `None` when it is gone already.
    pub fn after_for(&mut self, conn: ConnId, delay: Duration, key: u64) -> Option<TimerId> {
        self.set_timer_for(conn, delay, key, None)
    }

    /// As [`every`](Context::every), for a connection.
    pub fn every_for(&mut self, conn: ConnId, period: Duration, key: u64) -> Option<TimerId> {
        let period = period.max(PERIOD_MIN);
        self.set_timer_for(conn, period, key, Some(period))
    }

    /// Takes a timer out: it will not fire any more, not even when it is due in this very turn. False when it has fired for
    /// the last time, or is gone.
    pub fn cancel(&mut self, timer: TimerId) -> bool {
        let taken = self.take_timer(timer.0);
        if let Some(UserTimer { conn, .. }) = taken {
            self.forget_timer(conn, timer.0);
        }
        taken.is_some()
    }

    fn set_timer_for(
        &mut self,
        conn: ConnId,
        delay: Duration,
        key: u64,
        period: Option<Duration>,
    ) -> Option<TimerId> {
        if self.table.get(conn).is_none_or(|live| live.phase == Phase::Ended) {
            return None;
        }
        let timer = self.set_timer(delay, key, Some(conn), period);
        self.table.get_mut(conn)?.extras().timers.push(timer.0);
        Some(timer)
    }

    fn set_timer(
        &mut self,
        delay: Duration,
        key: u64,
        conn: Option<ConnId>,
        period: Option<Duration>,
    ) -> TimerId {
        let at = deadline(self.now, delay);
        let place = self.user_timers.insert(UserTimer { key, conn, period });
        TimerId(self.timers.set(at, Deadline::User(place as u32)))
    }

    /// Takes a user's timer out. Its connection still knows of it.
    pub(super) fn take_timer(&mut self, timer: TimerKey) -> Option<UserTimer> {
        let Some(Deadline::User(place)) = self.timers.get_mut(timer).copied() else { return None };
        self.timers.cancel(timer);
        self.user_timers.try_remove(place as usize)
    }

    fn forget_timer(&mut self, conn: Option<ConnId>, key: TimerKey) {
        let Some(conn) = conn else { return };
        if let Some(extras) = self.table.get_mut(conn).and_then(|live| live.extras.as_mut()) {
            extras.timers.retain(|other| *other != key);
        }
    }

    /// Sets the one deadline of a connection's phase, in the place of the last.
    pub(super) fn watch(&mut self, conn: ConnId, within: Duration, what: Deadline) {
        let at = deadline(self.now, within);
        let Some(live) = self.table.get_mut(conn) else { return };
        if let Some(old) = live.watch.replace(self.timers.set(at, what)) {
            self.timers.cancel(old);
        }
    }

    /// Whether a connection on its way to the end still gets there: its peer takes what is queued, or nothing is and it waits
    /// for an answer. Its deadline is moved then.
    fn still_moves(&mut self, conn: ConnId, key: TimerKey) -> bool {
        let within = self.limits.close_timeout;
        self.try_outbox(conn);
        let Some(live) = self.table.get(conn) else { return false };
        let stood = if live.has_output() { live.active.age(self.tick) } else { Duration::ZERO };
        let until = deadline(self.now, within.saturating_sub(stood));
        until > self.now && self.timers.reset(key, until)
    }

    /// Looks over the free buffers while there are any.
    pub(super) fn arm_trim(&mut self) {
        if !self.trim_armed && self.pool.kept() > 0 {
            self.trim_armed = true;
            self.timers.set(deadline(self.now, TRIM_EVERY), Deadline::Trim);
        }
    }
}

impl<H: Handler> Reactor<H> {
    /// Fires what is due. Timers that are set in here wait for the next turn.
    pub(super) fn expire(&mut self) {
        let mark = self.cx.timers.sequence();
        let now = self.cx.now;
        while let Some((key, due)) = self.cx.timers.due(now, mark) {
            let Some(what) = self.cx.timers.get_mut(key).copied() else { break };
            match what {
                Deadline::User(place) => self.fire(key, due, place),
                Deadline::Accept(listener) => {
                    // It is taken for due, not for recovered: the accept will tell.
                    self.cx.listener_is_due(listener);
                    self.cx.timers.reset(key, deadline(now, Duration::MAX));
                }
                Deadline::Trim => {
                    self.cx.timers.cancel(key);
                    self.cx.trim_armed = false;
                    self.cx.pool.trim();
                }
                Deadline::Memory => {
                    self.cx.timers.cancel(key);
                    self.memory_due();
                }
                Deadline::Rate(group) => {
                    self.cx.timers.reset(key, deadline(now, Duration::MAX));
                    self.cx.rate_due(group);
                }
                Deadline::Drain => {
                    self.cx.timers.cancel(key);
                    self.cut_all();
                }
                Deadline::Linger(conn) => self.cx.cut_lingering(conn, false),
                // The answer may be among the events that did not fit into this batch.
                Deadline::Dial(conn) if self.cx.batch_was_full || self.cx.handshake_may_go_on(conn) => {
                    self.cx.timers.reset(key, deadline(now, AGAIN));
                }
                Deadline::Dial(conn) => {
                    self.cx.timers.cancel(key);
                    self.cx.dial_timed_out(conn);
                }
                #[cfg(feature = "proxy-protocol")]
                Deadline::Greeting(_) if self.cx.batch_was_full => {
                    self.cx.timers.reset(key, deadline(now, AGAIN));
                }
                #[cfg(feature = "proxy-protocol")]
                Deadline::Greeting(number) => self.cx.greeting_timed_out(number),
                Deadline::Handshake(conn) if self.cx.handshake_may_go_on(conn) => {
                    self.cx.timers.reset(key, deadline(now, AGAIN));
                }
                Deadline::Handshake(conn) => {
                    self.cx.timers.cancel(key);
                    self.cx.handshake_timed_out(conn);
                }
                Deadline::Attempt(conn) => {
                    self.cx.timers.cancel(key);
                    self.cx.advance_dial(conn);
                }
                Deadline::Redial(conn) => {
                    self.cx.timers.cancel(key);
                    self.cx.dial_again(conn);
                }
                Deadline::Close(conn) if self.cx.still_moves(conn, key) => {}
                Deadline::Close(conn) => {
                    self.cx.timers.cancel(key);
                    if let Some(live) = self.cx.table.get_mut(conn) {
                        let reason = live.reason.take().map_or(CloseReason::Local, |reason| *reason);
                        self.cx.end(conn, reason);
                    }
                }
                Deadline::Open(conn) => self.cx.open_due(conn, key),
            }
        }
    }

    fn fire(&mut self, key: TimerKey, due: Instant, place: u32) {
        let Some(timer) = self.cx.user_timers.get(place as usize).copied() else { return };
        let UserTimer { key: user, conn, period } = timer;
        match period {
            Some(period) => {
                self.cx.timers.reset(key, next_period(due, self.cx.now, period));
            }
            None => {
                self.cx.take_timer(key);
                self.cx.forget_timer(conn, key);
            }
        }
        // One that has ended in this turn has no timers any more. What a timer sends is judged like what others send.
        if conn.is_none_or(|conn| self.cx.table.get(conn).is_some_and(|live| live.phase < Phase::Ended)) {
            let timer = Timer { id: TimerId(key), key: user, conn };
            self.call(Callback::Timer, conn, |handler, cx| handler.on_timer(cx, timer));
        }
    }
}

/// When a timer that was due at `due` is due next: a whole number of periods later, and after `now`.
fn next_period(due: Instant, now: Instant, period: Duration) -> Instant {
    let next = deadline(due, period);
    if next > now {
        return next;
    }
    let late = now.saturating_duration_since(due).as_nanos();
    let period = period.as_nanos().max(1);
    let ahead = period - late % period;
    deadline(now, Duration::from_nanos(u64::try_from(ahead).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_timer_skips_what_it_missed_and_keeps_its_beat() {
        let start = crate::net::clock::now();
        let ms = Duration::from_millis;
        assert_eq!(next_period(start, start, ms(10)), start + ms(10));
        assert_eq!(next_period(start, start + ms(3), ms(10)), start + ms(10));
        assert_eq!(next_period(start, start + ms(10), ms(10)), start + ms(20));
        assert_eq!(next_period(start, start + ms(37), ms(10)), start + ms(40));
    }
}
