//! Between one reactor and the threads: a job goes out with a number, its result comes back and waits for its turn.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use log::error;

use super::crew::Work;
use super::lanes::{Added, Bounds, Lanes};
use super::tray::Tray;
use crate::handle::sync::{Mutex, lock};
use crate::handle::{Collect, Handle};
use crate::handler::{Handler, Owned};
use crate::id::ConnId;
use crate::reactor::{Context, Life, panic_text};

/// What follows a job on the reactor's thread.
type Then<H> = Box<dyn FnOnce(&mut H, &mut Context<H>) + Send>;

/// What a job has come to.
pub(super) enum Outcome<H: Handler> {
    Answer(Owned<H>),
    Then(Then<H>),
    Panicked,
    /// It was not run: nobody is there for its result.
    Skipped,
}

/// A result, and where it belongs.
struct Done<H: Handler> {
    conn: ConnId,
    number: u64,
    outcome: Outcome<H>,
}

/// What a pool knows of one reactor.
pub(super) struct Front<H: Handler> {
    /// Tells it from other reactors before the same threads.
    pub(super) number: usize,
    handle: Handle<H>,
    tray: Tray<Done<H>>,
    /// Only the reactor's thread looks into it. Never locked while somebody else's code runs.
    desk: Mutex<Desk<H>>,
}

struct Desk<H: Handler> {
    lanes: Lanes<Outcome<H>>,
    released: Vec<ConnId>,
    /// Whose results have come and were not looked at. One may be in it often.
    ready: VecDeque<ConnId>,
    /// Kept for its memory.
    results: Vec<Done<H>>,
}

static FRONTS: AtomicUsize = AtomicUsize::new(0);

impl<H: Handler> Front<H> {
    pub(super) fn new(handle: Handle<H>, bounds: Bounds) -> Front<H> {
        let desk = Desk {
            lanes: Lanes::new(bounds),
            released: Vec::new(),
            ready: VecDeque::new(),
            results: Vec::new(),
        };
        Front {
            number: FRONTS.fetch_add(1, Ordering::Relaxed),
            handle,
            tray: Tray::new(),
            desk: Mutex::new(desk),
        }
    }

    /// Whether it is that reactor's.
    pub(super) fn is_before(&self, cx: &Context<H>) -> bool {
        cx.owns(&self.handle)
    }

    pub(super) fn jobs(&self) -> usize {
        lock(&self.desk).lanes.jobs()
    }

    pub(super) fn jobs_of(&self, conn: ConnId) -> usize {
        lock(&self.desk).lanes.jobs_of(conn)
    }

    pub(super) fn is_full(&self, conn: ConnId) -> bool {
        lock(&self.desk).lanes.is_full(conn)
    }

    /// Notes one more that is owed to `conn`: a job, or with a `result` something that waits for those before it.
    pub(super) fn add(&self, cx: &mut Context<H>, conn: ConnId, result: Option<Outcome<H>>) -> Added {
        let (len, last) = (cx.message_len(conn), cx.is_draining());
        let added = lock(&self.desk).lanes.add(conn, len, result, last);
        cx.owe(conn);
        if added.hold {
            cx.hold(conn);
        }
        added
    }
}

impl<H: Handler + 'static> Front<H> {
    /// A job as a piece of work, that brings its result back. It does not panic.
    pub(super) fn work<J: Send + 'static>(
        self: &Arc<Self>,
        conn: ConnId,
        number: u64,
        life: Life,
        job: J,
        run: impl FnOnce(J) -> Outcome<H> + Send + 'static,
    ) -> Work {
        let front = Arc::clone(self);
        Box::new(move || {
            let wanted = !life.is_over() && !front.handle.is_gone();
            // What the job owns is dropped in there too. What it shares with others is the program's own.
            let outcome = catch_unwind(AssertUnwindSafe(move || {
                if wanted {
                    return run(job);
                }
                drop(job);
                Outcome::Skipped
            }));
            let outcome = outcome.unwrap_or_else(|panic| {
                error!("a job of connection {conn} panicked: {}", panic_text(&*panic));
                // Even that may panic.
                if let Err(again) = catch_unwind(AssertUnwindSafe(move || drop(panic))) {
                    std::mem::forget(again);
                }
                Outcome::Panicked
            });
            if front.tray.put(Done { conn, number, outcome }) {
                front.ring();
            }
        })
    }

    fn ring(self: Arc<Self>) {
        let handle = self.handle.clone();
        // A reactor that is gone wants no answers.
        let _ = handle.ring(self);
    }
}

/// The results come back, on the reactor's thread.
impl<H: Handler + 'static> Collect<H> for Front<H> {
    fn begin(&self) {
        let Desk { lanes, ready, results, .. } = &mut *lock(&self.desk);
        self.tray.take(results);
        for Done { conn, number, outcome } in results.drain(..) {
            lanes.fill(conn, number, outcome);
            ready.push_back(conn);
        }
    }

    fn next(&self) -> Option<ConnId> {
        let Desk { lanes, ready, .. } = &mut *lock(&self.desk);
        while let Some(conn) = ready.front().copied() {
            if lanes.is_ready(conn) {
                return Some(conn);
            }
            ready.pop_front();
        }
        None
    }

    fn deliver(&self, conn: ConnId, handler: &mut H, cx: &mut Context<H>) {
        let taken = {
            let Desk { lanes, released, .. } = &mut *lock(&self.desk);
            lanes.take(conn, released)
        };
        let Some(outcome) = taken else { return };
        match outcome {
            Outcome::Answer(answer) => cx.send_answer(conn, &answer),
            Outcome::Then(then) => {
                if cx.is_open(conn) {
                    cx.as_own(conn, |cx| then(handler, cx));
                }
            }
            Outcome::Panicked => cx.close_panicked(conn),
            Outcome::Skipped => {}
        }
        cx.paid(conn);
    }

    fn finish(self: Arc<Self>, cx: &mut Context<H>) {
        let (mut released, again) = {
            let Desk { lanes, released, .. } = &mut *lock(&self.desk);
            let again = lanes.release_waiting(released);
            (std::mem::take(released), again)
        };
        for conn in released.drain(..) {
            cx.let_go(conn);
        }
        lock(&self.desk).released = released;
        if again && self.tray.wants_look() {
            self.ring();
        }
    }
}
