//! Snapshots of reactors that run on other threads.

use std::fmt;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::{Snapshot, families};
use crate::handle::{Handle, PoolHandle};
use crate::handler::Handler;

/// A reactor that is held up for longer has no samples in this scrape. Below the 10 s that Prometheus waits unless told
/// otherwise.
const WAIT: Duration = Duration::from_secs(5);

/// Asks all reactors of a pool for a snapshot, and calls `then` with what they have answered, by index, once nobody is left to
/// wait for. Never waits; `then` runs on the thread of the last one to answer. One that is gone, or whose queue is full, is
/// not among them.
///
/// For a handler: what it sends to its client from `then` goes through a [`Handle`], as `then` may run on another reactor.
pub fn gather<H: Handler>(pool: &PoolHandle<H>, then: impl FnOnce(Vec<Snapshot>) + Send + 'static) {
    let gathering = Arc::new(Gathering { answers: Mutex::default(), then: Mutex::new(Some(Box::new(then))) });
    for handle in (0..pool.reactors()).filter_map(|index| pool.of(index)) {
        let gathering = Arc::clone(&gathering);
        // Whoever does not take it has dropped it, which is an answer too.
        handle.try_run(move |_, cx| gathering.note(Snapshot::of(cx))).ok();
    }
}

type Then = Box<dyn FnOnce(Vec<Snapshot>) + Send>;

/// Snapshots that are under way. Each reactor has a part in it, and the last to let go of theirs calls `then`.
struct Gathering {
    answers: Mutex<Vec<Snapshot>>,
    then: Mutex<Option<Then>>,
}

impl Gathering {
    fn note(&self, snapshot: Snapshot) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).push(snapshot);
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        let mut answers = std::mem::take(self.answers.get_mut().unwrap_or_else(PoisonError::into_inner));
        answers.sort_by_key(|snapshot| snapshot.reactor);
        if let Some(then) = self.then.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            then(answers);
        }
    }
}

/// A reactor or a pool as a [`Collector`] of `prometheus-client`: it is asked anew whenever the registry is encoded.
///
/// For programs that have a registry of their own, and serve it on a thread of its own. Each scrape waits for the loops, for
/// 5 s at most, and a loop that is held up for longer, is gone or does not run yet has no samples in it. On a thread of those
/// loops it would wait for itself, and so answers without samples at once: a handler uses [`Snapshot::of`] or [`gather`].
///
/// ```
/// use mainspring::metrics::Source;
/// use prometheus_client::registry::Registry;
/// # use mainspring::{ConnId, Context, Handler, Reactor, codec::Lines};
/// # struct Nothing;
/// # impl Handler for Nothing {
/// #     type Codec = Lines;
/// #     type Session = ();
/// #     fn on_message(&mut self, _: &mut Context<Self>, _: ConnId, _: &[u8]) {}
/// # }
/// # let reactor = Reactor::new(Nothing)?;
///
/// let mut registry = Registry::default();
/// registry.register_collector(Box::new(Source::from(reactor.handle())));
/// # Ok::<(), mainspring::Error>(())
/// ```
pub struct Source {
    reactors: Vec<Box<dyn Ask>>,
}

impl Source {
    /// What the reactors have to tell now, by index. Waits for them, see [`Source`].
    pub fn snapshots(&self) -> Vec<Snapshot> {
        if self.reactors.iter().any(|reactor| reactor.is_ours()) {
            return Vec::new();
        }
        let noted = Arc::new(Mutex::new(Vec::new()));
        let (waited_for, all) = mpsc::channel();
        for reactor in &self.reactors {
            reactor.ask(Asked { noted: Arc::clone(&noted), _waited_for: waited_for.clone() });
        }
        drop(waited_for);
        // Nothing is ever sent: it ends when all have let go of theirs, or the time is over.
        all.recv_timeout(WAIT).ok();
        let mut snapshots = std::mem::take(&mut *noted.lock().unwrap_or_else(PoisonError::into_inner));
        snapshots.sort_by_key(|snapshot: &Snapshot| snapshot.reactor);
        snapshots
    }
}

/// Who can be asked, whatever its handler is.
trait Ask: Send + Sync {
    fn is_ours(&self) -> bool;
    fn ask(&self, asked: Asked);
}

/// A question to one reactor. Whoever does not take it drops it, which is an answer too.
struct Asked {
    noted: Arc<Mutex<Vec<Snapshot>>>,
    _waited_for: Sender<()>,
}

impl Asked {
    fn note(&self, snapshot: Snapshot) {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).push(snapshot);
    }
}

impl<H: Handler> Ask for Handle<H> {
    fn is_ours(&self) -> bool {
        self.is_owner()
    }

    fn ask(&self, asked: Asked) {
        self.try_run(move |_, cx| asked.note(Snapshot::of(cx))).ok();
    }
}

impl<H: Handler + 'static> From<Handle<H>> for Source {
    fn from(handle: Handle<H>) -> Source {
        Source { reactors: vec![Box::new(handle)] }
    }
}

impl<H: Handler + 'static> From<PoolHandle<H>> for Source {
    fn from(pool: PoolHandle<H>) -> Source {
        let handles = (0..pool.reactors()).filter_map(|index| pool.of(index).cloned());
        Source { reactors: handles.map(|handle| Box::new(handle) as Box<dyn Ask>).collect() }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("reactors", &self.reactors.len()).finish_non_exhaustive()
    }
}

impl Collector for Source {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        families::encode(&mut encoder, &self.snapshots())
    }
}
