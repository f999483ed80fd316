//! The threads of a pool, from their start to what they leave.

use std::fmt;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::error::PanicPayload;
use super::{PoolError, PoolFailure, PoolHandle, ReactorPool};
use crate::error::Error;
use crate::handle::Team;
use crate::handler::Handler;
use crate::reactor::{Reactor, ShutdownReport};
use crate::stats::Stats;

/// A pool whose threads run. Dropping it ends them at once, and waits for that.
pub struct RunningPool<H: Handler> {
    team: Arc<Team<H>>,
    threads: Vec<JoinHandle<Left<H>>>,
}

/// What a pool leaves when it has shut down.
#[non_exhaustive]
pub struct PoolEnd<H> {
    /// What the shutdown achieved, summed over all reactors.
    pub report: ShutdownReport,
    /// The last counters of each reactor, by index.
    pub stats: Vec<Stats>,
    /// The handlers, by index.
    pub handlers: Vec<H>,
}

impl<H> fmt::Debug for PoolEnd<H> {
    /// Without the handlers, which need not say anything of themselves.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolEnd")
            .field("report", &self.report)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

impl<H> PoolEnd<H> {
    /// The counters of all reactors together.
    pub fn total(&self) -> Stats {
        let mut total = Stats::default();
        self.stats.iter().for_each(|stats| total.add(stats));
        total
    }
}

impl<H: Handler> fmt::Debug for RunningPool<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningPool").field("reactors", &self.threads.len()).finish_non_exhaustive()
    }
}

/// What one thread leaves.
struct Left<H> {
    report: ShutdownReport,
    stats: Stats,
    /// None when the reactor has failed.
    ended: Result<H, Error>,
}

impl<H> ReactorPool<H>
where
    H: Handler<Codec: Send, Session: Send> + Send + 'static,
{
    /// Runs each reactor on a thread of its own, until a shutdown has come to its end in all of them, and waits for that.
    ///
    /// # Errors
    /// As [`RunningPool::join`]; also when the system gives no thread.
    pub fn run(self) -> Result<PoolEnd<H>, PoolError> {
        self.start()?.join()
    }

    /// As [`run`](ReactorPool::run), and does not wait.
    ///
    /// # Errors
    /// The system gives no thread. Those that were started have ended again by then.
    pub fn start(self) -> Result<RunningPool<H>, PoolError> {
        let ReactorPool { reactors, team, thread_name, .. } = self;
        let mut running = RunningPool { team: Arc::clone(&team), threads: Vec::new() };
        for (index, reactor) in reactors.into_iter().enumerate() {
            reactor.moves_to_another_thread();
            let leaving = Leaving { team: Arc::clone(&team), index, failed: true };
            let thread = thread::Builder::new().name(format!("{thread_name}-{index}"));
            match thread.spawn(move || serve(reactor, leaving)) {
                Ok(thread) => running.threads.push(thread),
                // Dropped with the closure, the reactors that have no thread are gone, and the others are told to end.
                Err(error) => {
                    return Err(PoolError { reactor: index, failure: PoolFailure::NoThread(error) });
                }
            }
        }
        Ok(running)
    }
}

/// Tells the others when a reactor is gone: by its end, or by a panic that goes through here.
struct Leaving<H: Handler> {
    team: Arc<Team<H>>,
    index: usize,
    failed: bool,
}

impl<H: Handler> Drop for Leaving<H> {
    fn drop(&mut self) {
        self.team.left(self.index, self.failed);
    }
}

fn serve<H: Handler>(reactor: Reactor<H>, mut leaving: Leaving<H>) -> Left<H> {
    // Declared behind `leaving`, and so dropped before it by a panic: its sockets are closed when the others hear of it.
    let mut reactor = reactor;
    let result = reactor.run_among();
    leaving.failed = result.is_err();
    let (report, stats) = (reactor.shutdown_report(), reactor.stats());
    leaving.team.last_stats.note(leaving.index, stats);
    Left { report, stats, ended: result.map(|()| reactor.into_handler()) }
}

impl<H: Handler> RunningPool<H> {
    /// A handle for other threads.
    pub fn handle(&self) -> PoolHandle<H> {
        PoolHandle::new(Arc::clone(&self.team))
    }

    /// Begins to shut down all reactors, see [`PoolHandle::shutdown`].
    pub fn shutdown(&self) {
        self.team.shut_down();
    }

    /// Waits until all reactors have ended: [`shutdown`](RunningPool::shutdown), a [`PoolHandle`], or any handler asks for
    /// that.
    ///
    /// # Errors
    /// A reactor has panicked or failed. The others have ended in order then.
    pub fn join(mut self) -> Result<PoolEnd<H>, PoolError> {
        let mut end = PoolEnd { report: ShutdownReport::default(), stats: Vec::new(), handlers: Vec::new() };
        let mut failed: Option<PoolError> = None;
        let mut fail = |reactor, failure| {
            failed.get_or_insert(PoolError { reactor, failure });
        };
        for (index, thread) in self.threads.drain(..).enumerate() {
            match thread.join() {
                Ok(Left { report, stats, ended }) => {
                    end.report.add(&report);
                    end.stats.push(stats);
                    match ended {
                        Ok(handler) => end.handlers.push(handler),
                        Err(error) => fail(index, PoolFailure::Failed(error)),
                    }
                }
                Err(payload) => fail(index, PoolFailure::Panicked(PanicPayload::new(payload))),
            }
        }
        failed.map_or(Ok(end), Err)
    }
}

impl<H: Handler> Drop for RunningPool<H> {
    fn drop(&mut self) {
        if self.threads.is_empty() {
            return;
        }
        self.team.shut_down();
        self.team.shut_down();
        for thread in self.threads.drain(..) {
            // Whoever wants to know of a panic joins.
            drop(thread.join());
        }
    }
}
