//! What must hold after every turn, whatever handlers, peers and the system do: looked over by the simulated world and by
//! the core's own tests. Elsewhere nothing of it is there.

use super::Context;
use super::pace::Callback;
use crate::handler::Handler;
use crate::id::ConnId;

#[cfg(any(test, feature = "sim"))]
pub(crate) use books::Journal;

impl<H: Handler> Context<H> {
    /// The handler is about to be called.
    #[inline(always)]
    pub(super) fn enters(&mut self, callback: Callback, conn: Option<ConnId>) {
        #[cfg(any(test, feature = "sim"))]
        if self.journal.is_some() {
            self.note_callback(callback, conn);
        }
        let _ = (callback, conn);
    }

    /// It has returned.
    #[inline(always)]
    pub(super) fn leaves(&mut self) {
        #[cfg(any(test, feature = "sim"))]
        if let Some(journal) = &mut self.journal {
            journal.inside = None;
        }
    }
}

#[cfg(any(test, feature = "sim"))]
mod books {
    use std::collections::HashMap;

    use crate::connection::COPY_IN_MAX;
    use crate::handler::Handler;
    use crate::id::{ConnId, ListenerId};
    use crate::reactor::live::{Input, Live, OurSide, Phase};
    use crate::reactor::pace::Callback;
    use crate::reactor::{Context, Reactor};

    /// What the handler was told, as far as promises are about it.
    #[derive(Debug, Default)]
    pub(crate) struct Journal {
        pub(super) inside: Option<Callback>,
        /// Every connection that was told of: true while it is open.
        alive: HashMap<ConnId, bool>,
        open: u64,
        broken: Vec<String>,
    }

    impl Journal {
        fn note(&mut self, callback: Callback, conn: Option<ConnId>, heard: bool) {
            if let Some(outer) = self.inside.replace(callback) {
                self.broken.push(format!("{callback} is called inside {outer}"));
            }
            let Some(conn) = conn else { return };
            let known = self.alive.get(&conn).copied();
            let mut wrong = |what: &str| self.broken.push(format!("{callback} of connection {conn}, {what}"));
            match callback {
                Callback::Open | Callback::DialFailed if known.is_some() => wrong("which was told of before"),
                Callback::Message
                | Callback::Writable
                | Callback::Overflow
                | Callback::Detach
                | Callback::Close
                    if known != Some(true) =>
                {
                    wrong("which is not open");
                }
                Callback::Timer if known == Some(false) => wrong("which is gone"),
                Callback::Message if !heard => wrong("which takes none now"),
                _ => {}
            }
            match callback {
                Callback::Open => {
                    self.alive.insert(conn, true);
                    self.open += 1;
                }
                Callback::Close | Callback::DialFailed => {
                    self.alive.insert(conn, false);
                    self.open -= u64::from(callback == Callback::Close && known == Some(true));
                }
                _ => {}
            }
        }
    }

    /// Answers an error with a text when something does not hold.
    macro_rules! holds {
        ($what:expr, $($text:tt)+) => {
            if !$what {
                return Err(format!($($text)+));
            }
        };
    }

    impl<H: Handler> Context<H> {
        /// From now on it is noted what the handler is told.
        pub(crate) fn keep_journal(&mut self) {
            self.journal = Some(Box::default());
        }

        pub(super) fn note_callback(&mut self, callback: Callback, conn: Option<ConnId>) {
            let live = conn.and_then(|conn| self.table.get(conn));
            // Not the handler's pause: it may pause inside the last message of several.
            let heard = live.is_some_and(|live| live.phase == Phase::Open && live.halts.is_empty());
            if let Some(journal) = &mut self.journal {
                journal.note(callback, conn, heard);
            }
        }

        fn audit_lists(&self) -> Result<(), String> {
            let table = &self.table;
            holds!(
                table.lingering() == table.all_lingering().count(),
                "{} sockets linger, and {} are counted",
                table.all_lingering().count(),
                table.lingering()
            );
            holds!(
                table.lingering() <= self.limits.lingering_max,
                "{} sockets linger, and {} may",
                table.lingering(),
                self.limits.lingering_max
            );
            holds!(
                table.live() == table.all().count(),
                "{} connections, and {} are counted",
                table.all().count(),
                table.live()
            );
            let open = table.all().filter(|conn| table.get(*conn).is_some_and(Live::is_open)).count();
            holds!(
                table.open().len() == open,
                "{open} connections are open, and {} are listed",
                table.open().len()
            );
            for (key, members) in &self.groups {
                holds!(!members.is_empty(), "the group {key} has no member");
                for conn in members {
                    holds!(table.get(*conn).is_some(), "the group {key} has a member {conn} that is gone");
                }
            }
            holds!(
                self.user_timers.len() <= self.timers.len(),
                "a user's timer is kept longer than its deadline"
            );
            let dialing = |conn: ConnId| table.get(conn).is_some_and(|live| live.phase == Phase::Dialing);
            holds!(self.dials.under_way().all(dialing), "something is under way for no dial");
            holds!(
                self.dials.kept.keys().all(|conn| table.get(*conn).is_some()),
                "a policy is kept for a connection that is gone"
            );
            Ok(())
        }

        /// Whether what listeners count is what is there, and those that pause will come back.
        fn audit_listeners(&self) -> Result<(), String> {
            let paused = self.listeners.iter().filter(|(_, entry)| entry.paused.is_some()).count();
            if paused != self.listeners_paused {
                return Err(format!("{paused} listeners pause, and {} are counted", self.listeners_paused));
            }
            for (slot, entry) in &self.listeners {
                let id = ListenerId { slot: slot as u32, generation: entry.generation };
                let of = |conn: &ConnId| self.table.get(*conn).is_some_and(|live| live.listener == Some(id));
                // Those that have ended were counted out before their `on_close`.
                let connections = self.table.all().filter(of).count();
                if connections != entry.connections {
                    return Err(format!("{connections} are of {id}, which counts {}", entry.connections));
                }
                if connections > entry.connections_max {
                    return Err(format!(
                        "{connections} are of {id}, which may have {}",
                        entry.connections_max
                    ));
                }
                if entry.paused.is_some_and(|key| self.timers.deadline(key).is_none()) {
                    return Err(format!("{id} pauses, and nothing will end that"));
                }
            }
            Ok(())
        }

        fn audit_connection(&self, conn: ConnId) -> Result<(), String> {
            let Some(live) = self.table.get(conn) else { return Ok(()) };
            let phase = live.phase;
            if live.is_open() {
                holds!(
                    self.table.open().get(live.place as usize) == Some(&conn),
                    "{conn} is not where the list of the open has it"
                );
            }
            holds!(!live.dirty || self.dirty.contains(&conn), "{conn} is to be flushed, and not listed");
            holds!(
                !live.scheduled || self.unfinished.contains(&conn),
                "{conn} is to be looked at, and not listed"
            );
            holds!(
                live.watch.is_none_or(|key| self.timers.deadline(key).is_some()),
                "{conn} has a deadline that is gone"
            );
            for key in live.extras.iter().flat_map(|extras| &extras.timers) {
                holds!(self.timers.deadline(*key).is_some(), "{conn} has a timer that is gone");
            }
            for (group, place) in live.extras.iter().flat_map(|extras| &extras.groups) {
                holds!(
                    self.members(*group).get(*place) == Some(&conn),
                    "{conn} is not where the group {group} has it"
                );
            }
            let waits = live.readable || live.inbox.is_due() || live.input == Input::Ended;
            holds!(
                phase != Phase::Open || !waits || !live.halts.is_empty() || live.scheduled || live.starved,
                "{conn} has something to be read or delivered, and nothing will come for it"
            );
            holds!(
                !(Phase::Open..Phase::Ended).contains(&phase)
                    || !live.has_output()
                    || !live.writable
                    || live.dirty
                    || live.rated.is_held(),
                "{conn} could be written to, and nothing will come for it"
            );
            let done = match phase {
                Phase::Finishing => live.owed == 0,
                Phase::Closing => true,
                _ => false,
            };
            holds!(
                // Under TLS the last word may wait for room.
                !done || live.has_output() || live.dirty || (live.stream.is_sealed() && !live.writable),
                "{conn} has nothing left to wait for, and is not ended"
            );
            holds!(
                live.dirty || phase != Phase::Open || live.output != OurSide::Ending || live.has_output(),
                "{conn} has nothing left to send, and its side is not shut"
            );
            if !live.dirty && phase < Phase::Ended {
                holds!(
                    live.counted == live.held(),
                    "{conn} holds {} bytes, and {} are counted",
                    live.held(),
                    live.counted
                );
                let (low, high) = (self.limits.low_mark, self.limits.high_mark);
                let bytes = live.outbox.bytes();
                holds!(
                    live.above_mark || bytes <= high,
                    "{conn} is above the mark with {bytes} bytes, unnoticed"
                );
                holds!(
                    phase < Phase::Open || !live.above_mark || bytes > low,
                    "{conn} has {bytes} bytes left to send, and is held above the mark"
                );
            }
            let (held, len) = (live.inbox.held(), live.inbox.len());
            // Buffers that are kept for later may be lent for less than they have room for.
            let kept = self.limits.spare_bytes.max(COPY_IN_MAX);
            holds!(held <= (4 * len).max(8 * kept), "{conn} holds {held} bytes for {len} that have come");
            // It may be armed for later than that: what judges the peer stands still while it is not read.
            let judged = live.earliest(&self.limits, self.now, self.tick).is_some();
            holds!(
                phase != Phase::Open || live.dirty || live.watch.is_some() || !judged,
                "{conn} has a deadline, and nothing will look at it"
            );
            Ok(())
        }
    }

    impl<H: Handler> Reactor<H> {
        /// Looks everything over, between turns.
        ///
        /// # Errors
        /// What does not hold, in words.
        pub(crate) fn audit(&self) -> Result<(), String> {
            let cx = &self.cx;
            let stats = cx.stats();
            holds!(
                stats.accepted + stats.connected == stats.open + stats.closed,
                "opened and closed do not balance: {stats:?}"
            );
            if let Some(journal) = &cx.journal {
                holds!(journal.broken.is_empty(), "{}", journal.broken.join("; "));
                holds!(journal.inside.is_none(), "a callback has not ended");
                holds!(
                    journal.open == stats.open,
                    "{} are open, and {} were told of and not closed",
                    stats.open,
                    journal.open
                );
            }
            holds!(cx.queue.held() == 0 || cx.queue.is_due(), "a command waits, and nobody will look");
            cx.audit_lists()?;
            cx.audit_memory()?;
            cx.audit_listeners()?;
            for conn in cx.table.all() {
                cx.audit_connection(conn)?;
            }
            Ok(())
        }
    }

    #[cfg(feature = "sim")]
    impl<H: Handler> Reactor<H> {
        /// Looks at what is left when a shutdown has come to its end: nothing.
        ///
        /// # Errors
        /// What is left, in words.
        pub(crate) fn audit_end(&self) -> Result<(), String> {
            self.audit()?;
            let (cx, stats) = (&self.cx, self.cx.stats());
            holds!(stats.open == 0, "{} are open at the end", stats.open);
            holds!(stats.buffered_bytes == 0, "{} bytes are held at the end", stats.buffered_bytes);
            holds!(cx.ledger.bytes() == 0, "a shared payload is left at the end");
            holds!(cx.table.is_empty(), "a socket is left at the end");
            holds!(cx.listeners.is_empty(), "a listener is left at the end");
            holds!(cx.dials.is_empty(), "something of a dial is left at the end");
            holds!(cx.groups.is_empty() && cx.sources.is_empty(), "a member is left at the end");
            let report = cx.report();
            holds!(
                report.drained + report.cut >= cx.open_at_drain(),
                "the report says less than were open: {report:?}"
            );
            Ok(())
        }

        /// The bytes that were read and written, as the reactor has counted them.
        pub(crate) fn moved(&self) -> (u64, u64) {
            (self.cx.stats.bytes_in, self.cx.stats.bytes_out)
        }

        /// Whether a shutdown has begun.
        pub(crate) fn is_draining(&self) -> bool {
            self.cx.is_shutting_down()
        }
    }
}
