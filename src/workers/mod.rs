//! Slow handlers on threads: a [`Pool`] runs what takes long, while the loop goes on.
//!
//! A handler runs on the loop's one thread, and while it does nothing else does. What takes longer than a fraction of a
//! millisecond goes to a pool: the message, copied, and what to do with it. The answer comes back by itself.
//!
//! ```no_run
//! use bytes::Bytes;
//! use mainspring::workers::Pool;
//! use mainspring::{ConnId, Context, Handler, Reactor, codec::LengthPrefixed};
//!
//! struct Slow {
//!     pool: Pool<Slow>,
//! }
//!
//! impl Handler for Slow {
//!     type Codec = LengthPrefixed;
//!     type Session = ();
//!
//!     fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, message: &[u8]) {
//!         let question = message.to_vec();
//!         self.pool.answer(cx, from, move || think_about(&question));
//!     }
//! }
//!
//! fn think_about(question: &[u8]) -> Bytes {
//!     // .. for as long as it takes ..
//! #    Bytes::copy_from_slice(question)
//! }
//!
//! fn main() -> Result<(), mainspring::Error> {
//!     let mut reactor = Reactor::new(Slow { pool: Pool::new(4)? })?;
//!     reactor.listen("127.0.0.1:7000", LengthPrefixed::default())?;
//!     reactor.run()
//! }
//! ```
//!
//! # What holds
//!
//! 1. Answers of one connection go out in the order of its jobs, each once. The jobs themselves run side by side, those of
//!    one connection too: what they share is theirs to lock.
//! 2. Connections take turns: one that sends a hundred questions at once holds up another one's by one job, not by a hundred.
//! 3. What is under way is bounded, in jobs and in bytes of their messages, for each connection and for all. A connection
//!    that meets a bound is not read until there is room; nothing is refused. See [`Builder`].
//! 4. A peer that has ended its input gets all answers before its connection ends, and a shutdown waits for them until its
//!    deadline.
//! 5. Answers for a connection that is gone are dropped; its jobs that have not begun are not run.
//! 6. A job that panics ends its connection, after the answers to what came before, with
//!    [`CloseReason::Panicked`](crate::CloseReason::Panicked). Its thread, and everybody else, go on. (Where panics abort, they do.)
//! 7. The loop never waits for the threads, and the threads never wait for the loop.

mod crew;
mod fair;
mod front;
mod lanes;
#[cfg(all(test, any(loom, shuttle)))]
mod models;
mod tray;

#[cfg(feature = "sim")]
pub(crate) use crew::Work;

use std::fmt;
use std::sync::Arc;

use crate::error::Error;
use crate::handler::{Handler, Owned};
use crate::id::ConnId;
use crate::reactor::{Context, Sent};
use crew::Crew;
use front::{Front, Outcome};
use lanes::Bounds;

/// Threads that run jobs for the connections of one reactor, see the [module](self).
///
/// It belongs into the handler. Other reactors get a pool before the same threads by [`share`](Pool::share). A pool that
/// gets to another reactor, with its handler say, serves that one from then on.
///
/// Dropping it lets go of its threads and waits for nothing: jobs that were taken are still run, and their answers sent, if
/// their reactor is there; then the threads end. [`join`](Pool::join) waits for that.
pub struct Pool<H: Handler> {
    crew: Arc<Crew<Whose>>,
    bounds: Bounds,
    front: Option<Arc<Front<H>>>,
}

/// Who takes turns at the threads: a connection of a reactor.
type Whose = (usize, ConnId);

/// What became of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submitted<J> {
    /// It is run when a thread is free.
    Queued,
    /// It is run when a thread is free, and its connection has met a bound: it is not read until there is room. A sender that
    /// makes jobs of its own accord should wait.
    AtBound,
    /// It is not run, and comes back.
    Refused(Refusal, J),
}

/// Why a job was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// Its connection is gone or closing.
    Gone,
    /// A bound is met, and the job does not come from a message of that connection, which would have stopped by itself.
    Full,
}

impl<J> Submitted<J> {
    /// Whether it will be run.
    pub fn is_queued(&self) -> bool {
        !matches!(self, Submitted::Refused(..))
    }
}

/// How many threads a pool has, and how much it takes on.
///
/// The bounds judge what is there before a job, so that a message of any length passes; the one that meets a bound is the
/// last. For all together that is one more for each connection that meets it. At the last read of a shutdown only the bounds
/// for all hold, so that what has come whole is answered.
#[derive(Debug, Clone)]
pub struct Builder {
    threads: usize,
    bounds: Bounds,
}

impl Builder {
    /// Jobs under way for one connection. Defaults to 256, because that many keep any number of threads busy while answers
    /// are on their way. With 1 a connection is not read while a job of it is under way.
    #[must_use]
    pub fn jobs_per_connection(mut self, max: usize) -> Builder {
        self.bounds.jobs_each = max;
        self
    }

    /// Bytes of the messages whose jobs are under way for one connection. Defaults to 4 MiB, for the same reason.
    #[must_use]
    pub fn bytes_per_connection(mut self, max: usize) -> Builder {
        self.bounds.bytes_each = max;
        self
    }

    /// Jobs under way in all. Defaults to 4,096: more would only wait longer.
    #[must_use]
    pub fn jobs(mut self, max: usize) -> Builder {
        self.bounds.jobs = max;
        self
    }

    /// Bytes of the messages whose jobs are under way in all. Defaults to 64 MiB; what the jobs make of them comes on top.
    #[must_use]
    pub fn bytes(mut self, max: usize) -> Builder {
        self.bounds.bytes = max;
        self
    }

    /// Makes the pool, and starts its threads.
    ///
    /// # Errors
    /// A bound or the number of threads is zero, or the system starts no thread.
    pub fn build<H: Handler>(self) -> Result<Pool<H>, Error> {
        if self.threads == 0 && !cfg!(test) {
            return Err(Error::Config("a pool of no threads would do nothing"));
        }
        self.start()
    }

    fn start<H: Handler>(self) -> Result<Pool<H>, Error> {
        let Bounds { jobs_each, bytes_each, jobs, bytes } = self.bounds;
        if [jobs_each, bytes_each, jobs, bytes].contains(&0) {
            return Err(Error::Config("a bound of a pool is zero: it would take one job at a time"));
        }
        let crew = Crew::start(self.threads).map_err(Error::Thread)?;
        Ok(Pool { crew: Arc::new(crew), bounds: self.bounds, front: None })
    }
}

/// Takes the work of a pool without threads, see [`Pool::by_hand`].
#[cfg(feature = "sim")]
pub(crate) struct Hands {
    crew: Arc<Crew<Whose>>,
    /// How many threads the pool was to have.
    pub(crate) threads: usize,
}

#[cfg(feature = "sim")]
impl Hands {
    /// The next piece of work, as a thread would take it.
    pub(crate) fn take(&self) -> Option<Work> {
        self.crew.take()
    }
}

impl<H: Handler> fmt::Debug for Pool<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).field("jobs", &self.jobs()).finish()
    }
}

impl<H: Handler> Pool<H> {
    /// A pool of so many threads, with the default bounds.
    ///
    /// # Errors
    /// `threads` is zero, or the system starts no thread.
    pub fn new(threads: usize) -> Result<Pool<H>, Error> {
        Pool::<H>::builder(threads).build()
    }

    /// A pool of so many threads, with other bounds.
    pub fn builder(threads: usize) -> Builder {
        Builder {
            threads,
            bounds: Bounds {
                jobs_each: 256,
                bytes_each: 4 * 1024 * 1024,
                jobs: 4_096,
                bytes: 64 * 1024 * 1024,
            },
        }
    }

    /// A pool for another reactor, before the same threads and with the same bounds, which each counts for itself. The
    /// threads end when the last pool is gone.
    pub fn share<O: Handler>(&self) -> Pool<O> {
        Pool { crew: Arc::clone(&self.crew), bounds: self.bounds, front: None }
    }

    /// How many threads it has.
    pub fn threads(&self) -> usize {
        self.crew.threads()
    }

    /// Jobs under way in all: waiting, running, or ended and waiting for their turn to be sent.
    pub fn jobs(&self) -> usize {
        self.front.as_ref().map_or(0, |front| front.jobs())
    }

    /// Jobs under way for `conn`.
    pub fn jobs_of(&self, conn: ConnId) -> usize {
        self.front.as_ref().map_or(0, |front| front.jobs_of(conn))
    }

    /// Sends `message` to `to` in its order with the answers to come: behind those of all jobs so far, at once when there are
    /// none. What is sent by the context overtakes them.
    ///
    /// It counts as a job while it waits. Outside of a callback of `to`, a bound that is met makes it
    /// [`DropReason::Behind`](crate::DropReason::Behind).
    pub fn send_in_order(&mut self, cx: &mut Context<H>, to: ConnId, message: Owned<H>) -> Sent {
        let front = self.front.as_ref().filter(|front| front.is_before(cx) && front.jobs_of(to) > 0);
        let Some(front) = front.filter(|_| cx.is_open(to)) else { return cx.send_owned(to, &message) };
        if !cx.is_own(to) && front.is_full(to) {
            return cx.dropped_behind();
        }
        front.add(cx, to, Some(Outcome::Answer(message)));
        Sent::Queued
    }

    /// Lets go of it, and waits until all jobs that were taken are done and the threads have ended. With pools that share
    /// its threads it does not wait.
    ///
    /// As long as the slowest job takes: a loop that calls this stands still.
    pub fn join(self) {
        if let Some(crew) = Arc::into_inner(self.crew) {
            crew.join();
        }
    }

    /// Runs one job on this thread, for tests that have no others. False when there is none.
    #[cfg(test)]
    pub(crate) fn work_one(&self) -> bool {
        self.crew.work_one()
    }

    /// A pool without threads, and the hands that its work is taken with: for a simulated world.
    #[cfg(feature = "sim")]
    pub(crate) fn by_hand(mut builder: Builder) -> Result<(Pool<H>, Hands), Error> {
        let threads = std::mem::take(&mut builder.threads);
        let pool = builder.start()?;
        let hands = Hands { crew: Arc::clone(&pool.crew), threads };
        Ok((pool, hands))
    }

    /// What it knows of the reactor of `cx`.
    fn front(&mut self, cx: &Context<H>) -> &Arc<Front<H>> {
        self.front.take_if(|front| !front.is_before(cx));
        self.front.get_or_insert_with(|| Arc::new(Front::new(cx.handle(), self.bounds)))
    }
}

impl<H: Handler + 'static> Pool<H> {
    /// Runs `job` on a thread, and sends what it returns to `conn`, in the order of the jobs. Until then it is
    /// [owed](Context::owe).
    ///
    /// In a callback of `conn` a job is always taken. Elsewhere a bound that is met refuses it, and it comes back.
    pub fn answer<J>(&mut self, cx: &mut Context<H>, conn: ConnId, job: J) -> Submitted<J>
    where
        J: FnOnce() -> Owned<H> + Send + 'static,
    {
        self.submit(cx, conn, job, |job| Outcome::Answer(job()))
    }

    /// Runs `job` on a thread, then `then` on the reactor's with what it has returned, in the order of the jobs of `conn`.
    ///
    /// `then` is like a callback of `conn`: it may send any number of answers, and do anything else. It is not called when
    /// `conn` is gone or closing by then. A panic in it is one of the handler.
    pub fn run<J, T, R>(&mut self, cx: &mut Context<H>, conn: ConnId, job: J, then: T) -> Submitted<(J, T)>
    where
        J: FnOnce() -> R + Send + 'static,
        T: FnOnce(&mut H, &mut Context<H>, ConnId, R) + Send + 'static,
        R: Send + 'static,
    {
        self.submit(cx, conn, (job, then), move |(job, then)| {
            let result = job();
            Outcome::Then(Box::new(move |handler, cx| then(handler, cx, conn, result)))
        })
    }

    fn submit<J: Send + 'static>(
        &mut self,
        cx: &mut Context<H>,
        conn: ConnId,
        job: J,
        run: impl FnOnce(J) -> Outcome<H> + Send + 'static,
    ) -> Submitted<J> {
        let Some(life) = cx.life(conn) else { return Submitted::Refused(Refusal::Gone, job) };
        let front = self.front(cx);
        if !cx.is_own(conn) && front.is_full(conn) {
            return Submitted::Refused(Refusal::Full, job);
        }
        let added = front.add(cx, conn, None);
        let (whose, work) = ((front.number, conn), front.work(conn, added.number, life, job, run));
        self.crew.push(whose, work);
        if added.at_bound { Submitted::AtBound } else { Submitted::Queued }
    }
}
