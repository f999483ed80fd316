//! What a reactor counts and measures, for [Prometheus](https://prometheus.io). With the feature `metrics`.
//!
//! A [`Snapshot`] is what one reactor has to tell at one moment: its [`Stats`] and both of its histograms. [`encode`] makes of
//! it the text that Prometheus reads:
//!
//! ```
//! use mainspring::metrics::{self, Snapshot};
//! # use mainspring::{ConnId, Context, Handler, Reactor, codec::Lines};
//! # struct Nothing;
//! # impl Handler for Nothing {
//! #     type Codec = Lines;
//! #     type Session = ();
//! #     fn on_message(&mut self, _: &mut Context<Self>, _: ConnId, _: &[u8]) {}
//! # }
//! # let mut reactor = Reactor::new(Nothing)?;
//! # let cx = reactor.context();
//!
//! let page = metrics::encode([Snapshot::of(cx)]);
//! assert!(page.contains("mainspring_connections_accepted_total 0\n"));
//! # Ok::<(), mainspring::Error>(())
//! ```
//!
//! The same works in any callback, which makes a page of a server's own ([`examples/http`] serves it as `/metrics`). In a
//! [pool](crate::pool) each sample has the label `reactor`; [`gather`] asks all reactors. A program that has a registry of
//! `prometheus-client` already puts a [`Source`] into it. The text of each metric says what it counts;
//! `docs/metrics.md` lists them.
//!
//! [`examples/http`]: https://docs.rs/crate/mainspring/latest/source/examples/http/main.rs

mod families;
mod gather;

use prometheus_client::encoding::prometheus_text;
use prometheus_client::registry::Registry;

pub use gather::{Source, gather};

use crate::handler::Handler;
use crate::histogram::Histogram;
use crate::reactor::Context;
use crate::stats::Stats;

/// The `Content-Type` of what [`encode`] answers: `text/plain; version=0.0.4; charset=utf-8`.
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// What one reactor has to tell, at one moment. Some 5 KiB.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Snapshot {
    /// Its place in its [pool](crate::pool), which becomes the label `reactor`. `None` for one that is alone, and for a sum: no label.
    pub reactor: Option<usize>,
    /// Its counters.
    pub stats: Stats,
    /// See [`Context::loop_lag`].
    pub loop_lag: Histogram,
    /// See [`Context::dispatch_times`].
    pub dispatch_times: Histogram,
}

impl Snapshot {
    /// What the reactor of this context has to tell now.
    pub fn of<H: Handler>(cx: &Context<H>) -> Snapshot {
        Snapshot {
            reactor: cx.pool().is_some().then(|| cx.reactor_index()),
            stats: cx.stats(),
            loop_lag: cx.loop_lag().clone(),
            dispatch_times: cx.dispatch_times().clone(),
        }
    }

    /// Adds what another reactor has told. What comes of it is of no single reactor, and has no label. One label a reactor is
    /// the better choice for most, as Prometheus sums by itself, and the one loop that lags shows; a sum is shorter.
    pub fn add(&mut self, other: &Snapshot) {
        self.reactor = None;
        self.stats.add(&other.stats);
        self.loop_lag.add(&other.loop_lag);
        self.dispatch_times.add(&other.dispatch_times);
    }
}

/// The text that Prometheus reads, of one reactor or of several, in its format 0.0.4, which every version takes:
/// [`CONTENT_TYPE`] says so to it. No snapshot makes a text without samples.
///
/// The format `OpenMetrics` comes of a [`Source`] in a registry, and `prometheus_client::encoding::text`.
pub fn encode(snapshots: impl IntoIterator<Item = Snapshot>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(families::Taken(snapshots.into_iter().collect())));
    let mut text = String::new();
    // Writing into a string cannot fail, and nothing else in there does.
    let written = prometheus_text::encode(&mut text, &registry);
    debug_assert!(written.is_ok(), "a string takes everything");
    text
}
