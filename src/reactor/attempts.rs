//! Dials under way: their names looked up, their addresses tried. Which address comes when is said by
//! [`Race`](crate::connection::Race); here are the sockets.
//!
//! Each attempt has a socket and a number of its own, by which the poller tells of it. The one that wins gets the token of its
//! connection; the connection has had its name, its session and its outbox all along.

use std::collections::HashMap;
use std::time::Instant;

use log::debug;

use super::live::{Live, Phase};
use super::redial::Kept;
use super::timers::Deadline;
use super::{Context, Reactor};
use crate::address::Address;
use crate::connection::{Race, Step};
use crate::dial::{Dial, Target};
use crate::error::{AttemptError, DialError};
use crate::handler::Handler;
use crate::id::ConnId;
use crate::net::{ATTEMPT_MAX, Dialed, Found, Readiness, SocketOptions, Stream};
use crate::time::{Random, TimerKey, deadline};

/// All dials of one reactor. What is in here is cold: no message looks at it.
#[derive(Debug)]
pub(super) struct Dials<C> {
    /// Those without an answer yet.
    under_way: HashMap<ConnId, UnderWay>,
    /// Sockets, by number.
    attempts: HashMap<u32, Attempt>,
    last_number: u32,
    /// Those that are to be dialed again when they have ended: under way, open, or waiting for it.
    pub(super) kept: HashMap<ConnId, Kept<C>>,
    /// The connection whose end is told at the moment, and the dial in its place.
    pub(super) successor: Option<(ConnId, ConnId)>,
    pub(super) random: Random,
}

/// One dial without an answer.
#[derive(Debug)]
struct UnderWay {
    options: SocketOptions,
    until: Instant,
    stage: Stage,
    #[cfg(feature = "tls")]
    secure: Option<crate::dial::Secure>,
}

#[derive(Debug)]
enum Stage {
    /// Host and port, for those who ask why.
    LookingUp(String),
    /// When the next address may be tried, if that is known.
    Racing(Race, Option<TimerKey>),
}

/// One address that is tried.
#[derive(Debug)]
struct Attempt {
    dial: ConnId,
    address: Address,
    stream: Stream,
}

impl<C> Dials<C> {
    pub(super) fn new(seed: u64) -> Dials<C> {
        Dials {
            under_way: HashMap::new(),
            attempts: HashMap::new(),
            last_number: 0,
            kept: HashMap::new(),
            successor: None,
            random: Random::new(seed),
        }
    }

    /// A number that no attempt under way has. It comes around after a thousand million others.
    fn number(&mut self) -> u32 {
        loop {
            self.last_number = if self.last_number < ATTEMPT_MAX { self.last_number + 1 } else { 0 };
            if !self.attempts.contains_key(&self.last_number) {
                return self.last_number;
            }
        }
    }

    /// The dials that something is under way for.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn under_way(&self) -> impl Iterator<Item = ConnId> + '_ {
        self.under_way.keys().copied().chain(self.attempts.values().map(|attempt| attempt.dial))
    }

    /// Whether nothing is kept that a dial needs.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty() && self.attempts.is_empty() && self.kept.is_empty()
    }
}

impl<H: Handler> Context<H> {
    /// A new connection, which is dialed at once.
    pub(super) fn dial(&mut self, dial: Dial, codec: H::Codec) -> ConnId {
        // A handler that answers a failed dial with the next one would keep the shutdown from its end.
        if self.is_shutting_down() {
            return self.table.dead_id();
        }
        let kept = Kept::new(&dial, &codec);
        let conn = self.insert_dial(&dial, codec);
        if let Some(kept) = kept {
            self.dials.kept.insert(conn, kept);
        }
        self.begin_dial(conn, dial);
        conn
    }

    /// A connection that is dialed, now or later.
    pub(super) fn insert_dial(&mut self, dial: &Dial, codec: H::Codec) -> ConnId {
        let peer = dial.target.peer();
        let mut live = Live::new(Stream::Nothing, peer, codec, Phase::Dialing, self.tick);
        live.overflow = self.limits.overflow;
        self.table.insert(live)
    }

    /// Begins with what has to be done first: looking a name up, or trying an address.
    pub(super) fn begin_dial(&mut self, conn: ConnId, dial: Dial) {
        let within = dial.timeout.unwrap_or(self.limits.dial_timeout);
        self.watch(conn, within, Deadline::Dial(conn));
        let options = dial.options.unwrap_or(self.dial_options);
        let until = deadline(self.now, within);
        #[cfg(feature = "tls")]
        let secure = dial.secure();
        let under_way = |stage| UnderWay {
            options,
            until,
            stage,
            #[cfg(feature = "tls")]
            secure,
        };
        match dial.target {
            Target::Malformed(text) => self.fail_dial(conn, DialError::Malformed { text }),
            Target::Name { host, port } => {
                let stage = Stage::LookingUp(format!("{host}:{port}"));
                self.dials.under_way.insert(conn, under_way(stage));
                self.resolver.look_up(conn, &host, port);
            }
            Target::Addresses(addresses) => {
                let stage = Stage::Racing(Race::new(addresses, self.now, within), None);
                self.dials.under_way.insert(conn, under_way(stage));
                self.advance_dial(conn);
            }
        }
    }

    /// Goes on with the dials whose names were looked up.
    pub(super) fn names_found(&mut self) {
        if !self.resolver.is_due() {
            return;
        }
        for (conn, found) in self.resolver.take() {
            self.name_found(conn, found);
        }
    }

    fn name_found(&mut self, conn: ConnId, found: Found) {
        let now = self.now;
        // Nobody waits for an answer that comes too late.
        let Some(under_way) = self.dials.under_way.get_mut(&conn) else { return };
        let Stage::LookingUp(name) = &mut under_way.stage else { return };
        match found {
            Ok(addresses) => {
                debug!("dial {conn}: {name} has {} addresses", addresses.len());
                let left = under_way.until.saturating_duration_since(now);
                under_way.stage = Stage::Racing(Race::new(addresses, now, left), None);
                self.advance_dial(conn);
            }
            Err(source) => {
                let name = std::mem::take(name);
                self.fail_dial(conn, DialError::Resolve { name, source });
            }
        }
    }

    /// Tries the addresses whose time has come, and arms the timer for the next one.
    pub(super) fn advance_dial(&mut self, conn: ConnId) {
        let now = self.now;
        loop {
            let Some(under_way) = self.dials.under_way.get_mut(&conn) else { return };
            let Stage::Racing(race, timer) = &mut under_way.stage else { return };
            match race.step(now) {
                Step::Try(address) => self.try_address(conn, address),
                Step::WaitUntil(at) => {
                    if !timer.is_some_and(|key| self.timers.reset(key, at)) {
                        *timer = Some(self.timers.set(at, Deadline::Attempt(conn)));
                    }
                    return;
                }
                // A timer that is set still finds nothing to do.
                Step::Wait => return,
                Step::Lost => {
                    let attempts = self.take_attempts(conn);
                    return self.fail_dial(conn, DialError::Failed { attempts });
                }
            }
        }
    }

    fn try_address(&mut self, conn: ConnId, address: Address) {
        let now = self.now;
        let number = self.dials.number();
        let Some(under_way) = self.dials.under_way.get_mut(&conn) else { return };
        let Stage::Racing(race, _) = &mut under_way.stage else { return };
        match self.poller.dial(&address, &under_way.options, number) {
            Ok(stream) => {
                race.began(number, address.clone(), now);
                self.dials.attempts.insert(number, Attempt { dial: conn, address, stream });
            }
            Err(error) => {
                debug!("dial {conn}: {address}: {error}");
                race.failed_at_once(address, AttemptError::Io(error));
            }
        }
    }

    /// An attempt has failed: its socket is closed, and the next one may begin.
    fn attempt_failed(&mut self, number: u32, error: AttemptError) {
        let Some(Attempt { dial: conn, address, .. }) = self.dials.attempts.remove(&number) else { return };
        debug!("dial {conn}: {address}: {error}");
        let now = self.now;
        if let Some(UnderWay { stage: Stage::Racing(race, _), .. }) = self.dials.under_way.get_mut(&conn) {
            race.failed(number, error, now);
        }
        self.advance_dial(conn);
        self.retry_paused_listeners();
    }

    /// There was no answer in time.
    pub(super) fn dial_timed_out(&mut self, conn: ConnId) {
        if self.table.get(conn).is_some_and(|live| live.phase == Phase::Handshaking) {
            return self.handshake_timed_out(conn);
        }
        let attempts = self.take_attempts(conn);
        self.fail_dial(conn, DialError::TimedOut { attempts });
    }

    /// Ends the race of a dial, and tells what has become of each address.
    fn take_attempts(&mut self, conn: ConnId) -> Vec<crate::error::FailedAttempt> {
        self.stop_dial(conn).map_or_else(Vec::new, Race::into_attempts)
    }

    /// Lets go of all that a dial has under way: sockets, timer, look-up. What a dial leaves behind is left here alone.
    pub(super) fn stop_dial(&mut self, conn: ConnId) -> Option<Race> {
        match self.dials.under_way.remove(&conn)?.stage {
            Stage::LookingUp(_) => {
                self.resolver.give_up(conn);
                None
            }
            Stage::Racing(race, timer) => {
                if let Some(key) = timer {
                    self.timers.cancel(key);
                }
                for number in race.under_way() {
                    self.dials.attempts.remove(&number);
                }
                self.retry_paused_listeners();
                Some(race)
            }
        }
    }
}

impl<H: Handler> Reactor<H> {
    /// An event of an attempt: whether it has succeeded.
    pub(super) fn attempt_answered(&mut self, number: u32, readiness: Readiness) {
        let Some(attempt) = self.cx.dials.attempts.get_mut(&number) else {
            self.cx.stats.stale_events += 1;
            return;
        };
        let error = match attempt.stream.dialed() {
            Dialed::Pending => return,
            Dialed::Itself => AttemptError::Itself,
            Dialed::Failed(error) => AttemptError::Io(error),
            Dialed::Open => {
                let ConnId { slot, generation } = attempt.dial;
                match self.cx.poller.promote(&mut attempt.stream, slot, generation) {
                    Ok(()) => return self.attempt_won(number, readiness),
                    Err(error) => AttemptError::Io(error),
                }
            }
        };
        self.cx.attempt_failed(number, error);
    }

    /// The first to answer: its socket becomes the connection's, the others are closed.
    fn attempt_won(&mut self, number: u32, readiness: Readiness) {
        let Some(Attempt { dial: conn, address, stream }) = self.cx.dials.attempts.remove(&number) else {
            return;
        };
        #[cfg(feature = "tls")]
        if let Some(secure) = self.cx.dials.under_way.get_mut(&conn).and_then(|dial| dial.secure.take()) {
            self.cx.stop_dial(conn);
            let read_closed = readiness.has(Readiness::READ_CLOSED);
            return self.dial_is_connected(conn, stream, address, read_closed, &secure);
        }
        self.cx.stop_dial(conn);
        let Some(live) = self.cx.table.get_mut(conn) else { return };
        if let Some(key) = live.watch.take() {
            self.cx.timers.cancel(key);
        }
        (live.stream, live.peer, live.phase) = (stream, address, Phase::Opening);
        (live.readable, live.writable) = (true, true);
        live.read_closed |= readiness.has(Readiness::READ_CLOSED);
        live.urgent |= readiness.has(Readiness::URGENT);
        self.open(conn);
    }
}
