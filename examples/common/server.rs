//! A server's life: its options, its first lines, its signals, its last line.

use std::process::{self, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use mainspring::{Context, Error, Handler, Limits, Listening, Reactor, Stats, Timer};
use serde_json::{Map, Value, json};

use super::framing::FramingOptions;
use super::{failure, say, start_log, values};

/// The options that every server has.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServerOptions {
    /// Where to listen: HOST:PORT or [V6]:PORT. May be given more than once
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7000", value_parser = values::address)]
    listen: Vec<String>,
    #[command(flatten)]
    pub(crate) framing: FramingOptions,
    /// Connections past so many are accepted and closed at once [default: 100000, or as many as there are descriptors for]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..1 << 30))]
    max_connections: Option<u32>,
    /// No byte either way for so long closes a connection [default: none]
    #[arg(long, value_name = "DUR", value_parser = values::positive_duration)]
    idle_timeout: Option<Duration>,
    /// More than so many bytes queued by others for one peer close it as a slow consumer
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = values::size)]
    write_limit: u64,
    /// All bytes buffered, both ways; past it, reading pauses, and when nothing moves the largest holders go
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = values::size)]
    memory_limit: u64,
    /// At the end, what is queued is handed over for at most so long
    #[arg(long, value_name = "DUR", default_value = "5s", value_parser = values::duration)]
    drain: Duration,
    /// Print a `stats` line each so often [default: none]
    #[arg(long, value_name = "DUR", value_parser = values::positive_duration)]
    stats_every: Option<Duration>,
}

impl ServerOptions {
    /// The same for a server that has a second connection for each client.
    pub(crate) fn for_pairs(mut self) -> ServerOptions {
        self.max_connections = self.max_connections.map(|max| max.saturating_mul(2).min((1 << 30) - 1));
        self
    }

    fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        limits.connections_max = self.max_connections.map(|max| max as usize);
        limits.idle_timeout = self.idle_timeout;
        limits.write_limit = usize::try_from(self.write_limit).unwrap_or(usize::MAX);
        limits.memory_limit = usize::try_from(self.memory_limit).unwrap_or(usize::MAX);
        limits.drain_timeout = self.drain;
        limits
    }
}

/// Serves with `handler` until a signal, and answers the exit status.
///
/// 1. All listeners are bound, then signals are caught, then each listener has its line on standard output.
/// 2. The first SIGINT or SIGTERM shuts the reactor down in order, the second one ends the process with status 130.
/// 3. A `stats` line is the last one.
pub(crate) fn run<H>(options: &ServerOptions, codec: H::Codec, handler: H) -> ExitCode
where
    H: Handler + 'static,
{
    start_log();
    serve(options, codec, handler).unwrap_or_else(failure)
}

fn serve<H>(options: &ServerOptions, codec: H::Codec, handler: H) -> Result<ExitCode, Error>
where
    H: Handler + 'static,
{
    let mut reactor = Reactor::<H>::builder().limits(options.limits()).build(handler)?;
    let listening: Vec<Listening> = options
        .listen
        .iter()
        .map(|address| reactor.listen(address, codec.clone()))
        .collect::<Result<_, _>>()?;
    if let Some(period) = options.stats_every {
        reactor.context().every(period, STATS);
    }

    let handle = reactor.handle();
    let stopping = AtomicBool::new(false);
    let caught = ctrlc::set_handler(move || {
        if stopping.swap(true, Ordering::Relaxed) {
            process::exit(130);
        }
        handle.shutdown();
    });
    if let Err(error) = caught {
        return Ok(failure(format_args!("cannot catch signals: {error}")));
    }
    for listener in listening {
        say(format_args!("listening on {listener}"));
    }

    reactor.run()?;
    let report = reactor.shutdown_report();
    if report.cut > 0 {
        log::warn!("{} connections were cut, with {} bytes not sent", report.cut, report.bytes_lost);
    }
    say_stats(&reactor.stats());
    Ok(ExitCode::SUCCESS)
}

/// The key of the timer that `--stats-every` sets; a handler's own timers have other keys.
const STATS: u64 = u64::MAX;

/// Does what the server's own timer is for. A handler passes its timers on to this.
pub(crate) fn on_timer<H: Handler>(cx: &Context<H>, timer: Timer) {
    if timer.key == STATS {
        say_stats(&cx.stats());
    }
}

fn say_stats(stats: &Stats) {
    say(format_args!("stats {}", stats_json(stats)));
}

fn stats_json(stats: &Stats) -> Value {
    let closes: Map<String, Value> =
        stats.closes().map(|(reason, count)| (reason.to_owned(), json!(count))).collect();
    json!({
        "accepted": stats.accepted,
        "connected": stats.connected,
        "open": stats.open,
        "closed": stats.closed,
        "refused": stats.refused,
        "dials_failed": stats.dials_failed,
        "accept_errors": stats.accept_errors,
        "frames_in": stats.frames_in,
        "bytes_skipped": stats.bytes_skipped,
        "frames_out": stats.frames_out,
        "frames_dropped": stats.frames_dropped,
        "frames_overflowed": stats.frames_overflowed,
        "bytes_in": stats.bytes_in,
        "bytes_out": stats.bytes_out,
        "buffered_bytes": stats.buffered_bytes,
        "stale_events": stats.stale_events,
        "turns": stats.turns,
        "stalls": stats.stalls,
        "panics": stats.panics,
        "closes": closes,
    })
}
