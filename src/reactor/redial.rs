//! Dialing again: every end of a connection that was dialed with a policy comes by here, and leaves a new dial.

use std::time::Duration;

use log::debug;

use super::live::Phase;
use super::timers::Deadline;
use super::{Context, Reactor};
use crate::dial::{Dial, Target};
use crate::handler::Handler;
use crate::id::ConnId;
use crate::time::{Backoff, Tick};

/// What is kept of a dial, to be dialed again.
#[derive(Debug)]
pub(super) struct Kept<C> {
    dial: Dial,
    codec: C,
    backoff: Backoff,
}

impl<C: Clone> Kept<C> {
    /// `None` for a dial without a policy, and for one that can only fail again.
    pub(super) fn new(dial: &Dial, codec: &C) -> Option<Kept<C>> {
        let backoff = Backoff::new(dial.reconnect?);
        let hopeless = matches!(dial.target, Target::Malformed(_));
        (!hopeless).then(|| Kept { dial: dial.clone(), codec: codec.clone(), backoff })
    }
}

impl<H: Handler> Context<H> {
    /// The dial in the place of `conn`, which has ended and was dialed with [`Dial::reconnect`]. Known inside the `on_close` or
    /// `on_dial_failed` of `conn`, and `None` everywhere else, and for those that nothing is dialed for.
    ///
    /// It waits for its time, see [`Reconnect`](crate::Reconnect), and can be used like any dial: given the session of the
    /// old one, sent to, closed.
    pub fn successor(&self, conn: ConnId) -> Option<ConnId> {
        self.dials.successor.filter(|(ended, _)| *ended == conn).map(|(_, next)| next)
    }

    /// Nothing is dialed in the place of `conn`.
    pub(super) fn stop_redialing(&mut self, conn: ConnId) {
        self.dials.kept.remove(&conn);
    }

    fn dial_in_place_of(&mut self, conn: ConnId, opened: Option<Tick>) {
        let Some(mut kept) = self.dials.kept.remove(&conn) else { return };
        if self.is_shutting_down() {
            return;
        }
        let open = opened.map_or(Duration::ZERO, |opened| opened.age(self.tick));
        let delay = kept.backoff.next(open, self.dials.random.next());
        let next = self.insert_dial(&kept.dial, kept.codec.clone());
        debug!("connection {conn} is dialed again as {next} in {delay:?}");
        self.watch(next, delay, Deadline::Redial(next));
        self.dials.kept.insert(next, kept);
        self.dials.successor = Some((conn, next));
    }

    /// The time has come. One that has ended in this turn is nobody's any more.
    pub(super) fn dial_again(&mut self, conn: ConnId) {
        let Some(live) = self.table.get_mut(conn) else { return };
        live.watch = None;
        if live.phase != Phase::Dialing {
            return;
        }
        if let Some(dial) = self.dials.kept.get(&conn).map(|kept| kept.dial.clone()) {
            self.begin_dial(conn, dial);
        }
    }
}

impl<H: Handler> Reactor<H> {
    /// `conn` has ended, and the handler is about to be told: when it is to be dialed again, that has a name from now on.
    /// `opened` says when it was opened, if it was.
    ///
    /// A codec is cloned and dropped in here, which is a user's code. When that panics nobody is to blame, and `conn` is told
    /// of all the same.
    pub(super) fn redial(&mut self, conn: ConnId, opened: Option<Tick>) {
        self.guarded(None, |reactor| reactor.cx.dial_in_place_of(conn, opened));
    }
}
