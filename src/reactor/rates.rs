//! Rate limits: connections that may bring, or get, only so much in a time.

use std::collections::VecDeque;
use std::time::Duration;

use slab::Slab;

use super::Context;
use super::timers::Deadline;
use crate::connection::Halt;
use crate::handler::Handler;
use crate::id::ConnId;
use crate::time::{Allowance, Buckets, Rate, TimerKey, deadline};

/// How soon the next one of those that wait is looked at, when the one that was woken before has not answered.
const AGAIN: Duration = Duration::from_millis(10);

/// A direction of a connection, as a [`Rate`] limits it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// What its peer sends. One that is over its rate is not read, as if it were paused: nothing is dropped, the peer waits.
    Input,
    /// What is sent to it. What is over its rate waits in the outbox, and is judged there by the marks and the write limit.
    Output,
}

/// Names a rate that several connections share, see [`Context::add_rate_group`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RateGroup {
    slot: u32,
    generation: u32,
}

/// A connection's limited directions, as flags that each event looks at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Rated(u8);

impl Rated {
    /// Its outbox waits for its turn.
    const HELD: u8 = 4;

    fn flag(direction: Direction) -> u8 {
        match direction {
            Direction::Input => 1,
            Direction::Output => 2,
        }
    }

    #[inline]
    pub(super) fn input(self) -> bool {
        self.0 & 1 != 0
    }

    #[inline]
    pub(super) fn output(self) -> bool {
        self.0 & 2 != 0
    }

    /// Whether it is we who do not write.
    #[inline]
    pub(super) fn is_held(self) -> bool {
        self.0 & Rated::HELD != 0
    }

    fn set(&mut self, flag: u8, to: bool) {
        if to { self.0 |= flag } else { self.0 &= !flag }
    }
}

/// One rate, of one connection or of a group, and who waits for it. Nobody walks over its members: it does not know them.
#[derive(Debug)]
pub(super) struct Throttle {
    generation: u32,
    buckets: Buckets,
    /// First come, first served.
    waiting: VecDeque<(ConnId, Direction)>,
    /// The one whose turn it is; all others queue up, also those that come only now.
    called: Option<(ConnId, Direction)>,
    timer: Option<TimerKey>,
}

/// All rates of one reactor.
#[derive(Debug, Default)]
pub(super) struct Rates {
    throttles: Slab<Throttle>,
    generation: u32,
}

impl Rates {
    fn get(&mut self, id: RateGroup) -> Option<&mut Throttle> {
        self.throttles.get_mut(id.slot as usize).filter(|throttle| throttle.generation == id.generation)
    }
}

impl<H: Handler> Context<H> {
    /// Limits one direction of `conn`, in the place of the limit of its own that it may have had; `None` lifts it. False when it
    /// is gone.
    pub fn limit_rate(&mut self, conn: ConnId, direction: Direction, rate: Option<Rate>) -> bool {
        let Some(live) = self.table.get_mut(conn) else { return false };
        if let Some(old) = live.extras().rates.own(direction).take() {
            self.leave_rate_group(conn, direction, old);
            self.remove_rate_group(old);
        }
        if let Some(rate) = rate {
            let own = self.add_rate_group(rate);
            self.join_rate_group(conn, direction, own);
            if let Some(live) = self.table.get_mut(conn) {
                *live.extras().rates.own(direction) = Some(own);
            }
        }
        true
    }

    /// Makes a rate that the connections that [join](Context::join_rate_group) it share: of one client with many connections,
    /// say. Those that have to wait are served in turn.
    pub fn add_rate_group(&mut self, rate: Rate) -> RateGroup {
        let Context { rates, now, .. } = self;
        rates.generation = rates.generation.wrapping_add(1);
        let generation = rates.generation;
        let slot = rates.throttles.insert(Throttle {
            generation,
            buckets: Buckets::new(rate, *now),
            waiting: VecDeque::new(),
            called: None,
            timer: None,
        });
        RateGroup { slot: slot as u32, generation }
    }

    /// Changes the rate of a group, whose bucket begins full again. False when it was removed.
    pub fn set_group_rate(&mut self, group: RateGroup, rate: Rate) -> bool {
        let now = self.now;
        let Some(throttle) = self.rates.get(group) else { return false };
        throttle.buckets = Buckets::new(rate, now);
        self.call_next(group);
        true
    }

    /// Removes a group: its members are no longer limited by it. False when it was removed before.
    pub fn remove_rate_group(&mut self, group: RateGroup) -> bool {
        if self.rates.get(group).is_none() {
            return false;
        }
        let throttle = self.rates.throttles.remove(group.slot as usize);
        if let Some(key) = throttle.timer {
            self.timers.cancel(key);
        }
        for (conn, direction) in throttle.waiting {
            self.release(conn, direction);
        }
        true
    }

    /// Puts one direction of `conn` under the rate of a group, beside other rates that it may be under: the strictest counts.
    /// A connection leaves its groups when it ends. False when either is gone.
    pub fn join_rate_group(&mut self, conn: ConnId, direction: Direction, group: RateGroup) -> bool {
        if self.rates.get(group).is_none() {
            return false;
        }
        let Some(live) = self.table.get_mut(conn) else { return false };
        live.rated.set(Rated::flag(direction), true);
        let rates = live.extras().rates.of(direction);
        if !rates.contains(&group) {
            rates.push(group);
        }
        true
    }

    /// Takes one direction of `conn` out of a group. False when it was not in it.
    pub fn leave_rate_group(&mut self, conn: ConnId, direction: Direction, group: RateGroup) -> bool {
        let Some(live) = self.table.get_mut(conn) else { return false };
        let rates = live.extras().rates.of(direction);
        let Some(at) = rates.iter().position(|other| *other == group) else { return false };
        rates.swap_remove(at);
        let any = !rates.is_empty();
        live.rated.set(Rated::flag(direction), any);
        let Some(throttle) = self.rates.get(group) else { return true };
        let waits = throttle.waiting.iter().position(|waiting| *waiting == (conn, direction));
        if let Some(at) = waits {
            throttle.waiting.remove(at);
            self.release(conn, direction);
            self.arm_throttle(group);
        }
        true
    }

    /// What `conn` may bring or get now. `None`: it has to wait, and is woken when it is its turn.
    fn allowance(&mut self, conn: ConnId, direction: Direction) -> Option<Allowance> {
        let Context { table, rates, now, .. } = self;
        let Some(live) = table.get_mut(conn) else { return Some(Allowance::ALL) };
        let mut allowed = Allowance::ALL;
        let mut refused = None;
        for group in live.extras().rates.of(direction) {
            let Some(throttle) = rates.get(*group) else { continue };
            allowed = allowed.and(throttle.buckets.allow(*now));
            let jumps = !throttle.waiting.is_empty() && throttle.called != Some((conn, direction));
            if allowed.is_none() || jumps {
                refused = Some(*group);
                break;
            }
        }
        let Some(group) = refused else { return Some(allowed) };
        match direction {
            Direction::Input => live.halts.set(Halt::Rate),
            Direction::Output => live.rated.set(Rated::HELD, true),
        }
        let open = table.live();
        if let Some(throttle) = rates.get(group) {
            // One whose turn it was and who got nothing keeps its place.
            if throttle.called.take_if(|called| *called == (conn, direction)).is_some() {
                throttle.waiting.push_front((conn, direction));
            } else {
                throttle.waiting.push_back((conn, direction));
            }
            if throttle.waiting.len() > 2 * open + 64 {
                throttle.waiting.retain(|(conn, _)| table.get(*conn).is_some());
            }
        }
        self.arm_throttle(group);
        None
    }

    /// `conn` has brought or got so much; then it is the next one's turn.
    fn charge(&mut self, conn: ConnId, direction: Direction, used: Allowance) {
        for at in 0.. {
            let Some(live) = self.table.get_mut(conn) else { return };
            let Some(group) = live.extras().rates.of(direction).get(at).copied() else { return };
            if let Some(throttle) = self.rates.get(group) {
                throttle.buckets.take(used);
                // Others are called only by the one whose turn it was: whoever has waits now has a timer.
                if throttle.called.take_if(|called| *called == (conn, direction)).is_some() {
                    self.call_next(group);
                }
            }
        }
    }

    /// Wakes the first of those that wait, if there is something for it.
    fn call_next(&mut self, group: RateGroup) {
        let now = self.now;
        let Some(throttle) = self.rates.get(group) else { return };
        if !throttle.buckets.allow(now).is_none() {
            while let Some((conn, direction)) = throttle.waiting.pop_front() {
                if self.table.get(conn).is_some() {
                    throttle.called = Some((conn, direction));
                    self.release(conn, direction);
                    break;
                }
            }
        }
        self.arm_throttle(group);
    }

    /// One that waited for a rate looks again.
    fn release(&mut self, conn: ConnId, direction: Direction) {
        let now = self.tick;
        let Some(live) = self.table.get_mut(conn) else { return };
        // Its silence was ours.
        live.active = now;
        match direction {
            Direction::Input => {
                if live.halts.lift(Halt::Rate) {
                    self.schedule(conn);
                }
            }
            Direction::Output => {
                live.moved = now;
                live.rated.set(Rated::HELD, false);
                self.mark_dirty(conn);
                // Its peer's deadlines have stood still, and may have been given up.
                self.arm_deadlines(conn);
            }
        }
    }

    /// The timer of a rate runs while somebody waits for it.
    fn arm_throttle(&mut self, group: RateGroup) {
        let Context { rates, timers, now, .. } = self;
        let Some(throttle) = rates.get(group) else { return };
        if throttle.waiting.is_empty() {
            if let Some(key) = throttle.timer.take() {
                timers.cancel(key);
            }
            return;
        }
        let free = !throttle.buckets.allow(*now).is_none();
        let at = deadline(*now, if free { AGAIN } else { throttle.buckets.ready_in() });
        match throttle.timer {
            Some(key) => drop(timers.reset(key, at)),
            None => throttle.timer = Some(timers.set(at, Deadline::Rate(group))),
        }
    }

    /// The timer of a rate has fired.
    pub(super) fn rate_due(&mut self, group: RateGroup) {
        if let Some(throttle) = self.rates.get(group) {
            throttle.called = None;
        }
        self.call_next(group);
    }

    /// How much of a turn's budget for input a limited connection may use: nothing when it has to wait.
    #[cold]
    pub(super) fn limit_input(&mut self, conn: ConnId, messages: &mut usize, bytes: &mut usize) {
        if self.table.get(conn).is_none_or(|live| !live.halts.is_empty()) {
            return;
        }
        let allowed = self.allowance(conn, Direction::Input).unwrap_or(Allowance { bytes: 0, messages: 0 });
        *messages = (*messages).min(usize::try_from(allowed.messages).unwrap_or(usize::MAX));
        *bytes = (*bytes).min(usize::try_from(allowed.bytes).unwrap_or(usize::MAX));
    }

    /// What a limited connection has brought.
    #[cold]
    pub(super) fn charge_input(&mut self, conn: ConnId, messages: usize, bytes: usize) {
        self.charge(conn, Direction::Input, Allowance { bytes: bytes as u64, messages: messages as u64 });
    }

    /// How many bytes of its outbox a limited connection may get now. `None` when it has to wait.
    #[cold]
    pub(super) fn limit_output(&mut self, conn: ConnId) -> Option<usize> {
        if self.table.get(conn).is_some_and(|live| live.rated.is_held()) {
            return None;
        }
        let allowed = self.allowance(conn, Direction::Output)?;
        let outbox = &self.table.get(conn)?.outbox;
        let messages = usize::try_from(allowed.messages).map_or(usize::MAX, |n| outbox.bytes_of(n));
        Some(messages.min(usize::try_from(allowed.bytes).unwrap_or(usize::MAX)))
    }

    /// What a limited connection has got.
    #[cold]
    pub(super) fn charge_output(&mut self, conn: ConnId, messages: u64, bytes: u64) {
        self.charge(conn, Direction::Output, Allowance { bytes, messages });
    }
}

/// The rates that a connection is under.
#[derive(Debug, Default)]
pub(super) struct RatesOf {
    input: Vec<RateGroup>,
    output: Vec<RateGroup>,
    own_input: Option<RateGroup>,
    own_output: Option<RateGroup>,
}

impl RatesOf {
    pub(super) fn of(&mut self, direction: Direction) -> &mut Vec<RateGroup> {
        match direction {
            Direction::Input => &mut self.input,
            Direction::Output => &mut self.output,
        }
    }

    pub(super) fn own(&mut self, direction: Direction) -> &mut Option<RateGroup> {
        match direction {
            Direction::Input => &mut self.own_input,
            Direction::Output => &mut self.own_output,
        }
    }

    /// Those that end with it.
    pub(super) fn owned(&self) -> impl Iterator<Item = RateGroup> {
        self.own_input.into_iter().chain(self.own_output)
    }
}
