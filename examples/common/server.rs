//! A server's life: its options, its first lines, its signals, its last line.

use std::error::Error;
use std::io;
use std::process::{self, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use listenfd::ListenFd;
use mainspring::pool::ReactorPool;
use mainspring::{
    AnyListener, Builder, Context, Handler, Limits, ListenOptions, Listening, Reactor, ShutdownReport, Stats,
    Timer,
};
use serde_json::{Map, Value, json};

use super::framing::FramingOptions;
use super::tls::ServeTls;
use super::{failure, say, start_log, values};

/// The options that every server has.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServerOptions {
    /// Where to listen: HOST:PORT, [V6]:PORT or unix:PATH. May be given more than once [default: 127.0.0.1:7000, or the
    /// sockets that LISTEN_FDS passes]
    #[arg(long, value_name = "ADDR", value_parser = values::address)]
    listen: Vec<String>,
    /// The mode of the file of a Unix socket, in octal: who may connect needs the right to write
    #[arg(long, value_name = "MODE", default_value = "600", value_parser = values::mode)]
    unix_mode: u32,
    /// Each client begins with a header of the PROXY protocol, version 1 or 2, as HAProxy's `send-proxy` sends it
    #[cfg(feature = "proxy-protocol")]
    #[arg(long)]
    proxy_protocol: bool,
    /// Who may send such a header: an address or a prefix. May be given more than once
    #[cfg(feature = "proxy-protocol")]
    #[arg(long, value_name = "PREFIX", default_values = ["127.0.0.0/8", "::1/128"], requires = "proxy_protocol")]
    proxy_trust: Vec<mainspring::proxy_protocol::Prefix>,
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
    /// All bytes buffered by one event loop, both ways; past it, reading pauses, and when nothing moves the largest holders go
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = values::size)]
    memory_limit: u64,
    /// Event loops, with a thread each, that share the port
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) reactors: u16,
    /// Spin for up to so long before sleeping in the kernel: latency for a core
    #[arg(long, value_name = "DUR", default_value = "0", value_parser = values::duration)]
    busy_poll: Duration,
    /// At the end, what is queued is handed over for at most so long
    #[arg(long, value_name = "DUR", default_value = "5s", value_parser = values::duration)]
    drain: Duration,
    /// Print a `stats` line each so often [default: none]
    #[arg(long, value_name = "DUR", value_parser = values::positive_duration)]
    stats_every: Option<Duration>,
    /// See [`ServerOptions::with_frame_timeout`].
    #[arg(skip)]
    frame_timeout: Option<Duration>,
    #[command(flatten)]
    tls: ServeTls,
}

impl ServerOptions {
    /// The same for a server that has a second connection for each client.
    pub(crate) fn for_pairs(mut self) -> ServerOptions {
        self.max_connections = self.max_connections.map(|max| max.saturating_mul(2).min((1 << 30) - 1));
        self
    }

    /// The same for a server whose frames have to be whole so long after their first byte.
    pub(crate) fn with_frame_timeout(mut self, time: Duration) -> ServerOptions {
        self.frame_timeout = Some(time);
        self
    }

    /// Listens on the sockets that were passed, and on what was named; without either, on the default.
    fn listen(
        &self,
        mut on: impl FnMut(Place<'_>) -> Result<Listening, mainspring::Error>,
    ) -> Result<Vec<Listening>, Box<dyn Error>> {
        let mut listening = Vec::new();
        for (socket, name) in passed_sockets()? {
            listening.push(on(Place::Passed(socket)).map_err(|error| format!("{name}: {error}"))?);
        }
        for address in &self.listen {
            listening.push(on(Place::Named(address))?);
        }
        if listening.is_empty() {
            listening.push(on(Place::Named("127.0.0.1:7000"))?);
        }
        Ok(listening)
    }

    fn listen_options(&self) -> Result<ListenOptions, Box<dyn Error>> {
        let mut options = self.tls.listen_options()?;
        options.unix_mode = self.unix_mode;
        #[cfg(feature = "proxy-protocol")]
        if self.proxy_protocol {
            let trusted = self.proxy_trust.iter().copied();
            options.proxy_protocol = Some(mainspring::proxy_protocol::ProxyProtocol::trusting(trusted));
        }
        Ok(options)
    }

    fn builder<H: Handler>(&self) -> Builder {
        Reactor::<H>::builder().limits(self.limits()).busy_poll(self.busy_poll)
    }

    fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        limits.connections_max = self.max_connections.map(|max| max as usize);
        limits.idle_timeout = self.idle_timeout;
        limits.frame_timeout = self.frame_timeout;
        limits.write_limit = usize::try_from(self.write_limit).unwrap_or(usize::MAX);
        limits.memory_limit = usize::try_from(self.memory_limit).unwrap_or(usize::MAX);
        limits.drain_timeout = self.drain;
        limits
    }
}

/// Where a server listens.
enum Place<'a> {
    Passed(AnyListener),
    Named(&'a str),
}

/// Serves until a signal, and answers the exit status. `handler` makes the handler of each reactor, by index.
///
/// 1. All listeners are bound, then signals are caught, then each listener has its line on standard output.
/// 2. The first SIGINT or SIGTERM shuts all reactors down in order, the second one ends the process with status 130.
/// 3. A `stats` line is the last one.
///
/// Sockets of a service manager come first, see [`passed_sockets`].
pub(crate) fn run<H>(options: &ServerOptions, codec: H::Codec, handler: impl FnMut(usize) -> H) -> ExitCode
where
    H: Handler<Codec: Send, Session: Send> + Send + 'static,
{
    start_log();
    let served = match options.reactors {
        1 => serve_alone(options, codec, handler),
        _ => serve_together(options, codec, handler),
    };
    match served {
        Ok(stats) => {
            say_stats(&stats);
            ExitCode::SUCCESS
        }
        Err(error) => failure(error),
    }
}

/// One reactor, on this thread.
fn serve_alone<H>(
    options: &ServerOptions,
    codec: H::Codec,
    mut handler: impl FnMut(usize) -> H,
) -> Result<Stats, Box<dyn Error>>
where
    H: Handler + 'static,
{
    let mut reactor = options.builder::<H>().build(handler(0))?;
    let listen = options.listen_options()?;
    let listening = options.listen(|place| match place {
        Place::Passed(socket) => reactor.adopt_listener_with(socket, codec.clone(), &listen),
        Place::Named(address) => reactor.listen_with(address, codec.clone(), &listen),
    })?;
    if let Some(period) = options.stats_every {
        reactor.context().every(period, STATS);
    }
    let handle = reactor.handle();
    begin(listening, move || handle.shutdown())?;
    reactor.run()?;
    warn_of_cuts(&reactor.shutdown_report());
    Ok(reactor.stats())
}

/// Many, on a thread each.
fn serve_together<H>(
    options: &ServerOptions,
    codec: H::Codec,
    handler: impl FnMut(usize) -> H,
) -> Result<Stats, Box<dyn Error>>
where
    H: Handler<Codec: Send, Session: Send> + Send + 'static,
{
    let mut builder =
        ReactorPool::<H>::builder().reactors(options.reactors.into()).each(options.builder::<H>());
    if let Some(max) = options.max_connections {
        builder = builder.connections_max(max as usize);
    }
    let mut pool = builder.build(handler)?;
    let listen = options.listen_options()?;
    let listening = options.listen(|place| match place {
        Place::Passed(socket) => pool.adopt_listener_with(socket, codec.clone(), &listen),
        Place::Named(address) => pool.listen_with(address, codec.clone(), &listen),
    })?;
    let handle = pool.handle();
    if let (Some(period), Some(first)) = (options.stats_every, handle.of(0)) {
        let set = move |_: &mut H, cx: &mut Context<H>| {
            cx.every(period, STATS);
        };
        first.run(set).map_err(|error| error.to_string())?;
    }
    begin(listening, move || handle.shutdown())?;
    let end = pool.run()?;
    warn_of_cuts(&end.report);
    Ok(end.total())
}

/// Listening sockets that a service manager has opened before the start, with what they are called: systemd's socket
/// activation (`sd_listen_fds(3)`), or `systemfd` while one develops. They take the place of the default address;
/// those of `--listen` are served beside them.
fn passed_sockets() -> Result<Vec<(AnyListener, String)>, Box<dyn Error>> {
    let mut passed = ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..passed.len() {
        let name = format!("socket {index} of LISTEN_FDS");
        match take_listener(&mut passed, index) {
            Ok(Some(socket)) => sockets.push((socket, name)),
            Ok(None) => {}
            Err(error) => return Err(format!("{name}: {error}").into()),
        }
    }
    Ok(sockets)
}

/// A TCP listener or a Unix one. The error is that for a TCP one.
fn take_listener(passed: &mut ListenFd, index: usize) -> io::Result<Option<AnyListener>> {
    let tcp = passed.take_tcp_listener(index).map(|socket| socket.map(AnyListener::from));
    #[cfg(unix)]
    if tcp.is_err() {
        return passed.take_unix_listener(index).map(|socket| socket.map(AnyListener::from)).or(tcp);
    }
    tcp
}

/// Signals count from the first line on.
fn begin(listening: Vec<Listening>, shut_down: impl Fn() + Send + 'static) -> Result<(), Box<dyn Error>> {
    let stopping = AtomicBool::new(false);
    ctrlc::set_handler(move || {
        if stopping.swap(true, Ordering::Relaxed) {
            process::exit(130);
        }
        shut_down();
    })
    .map_err(|error| format!("cannot catch signals: {error}"))?;
    for listener in listening {
        say(format_args!("listening on {listener}"));
    }
    Ok(())
}

fn warn_of_cuts(report: &ShutdownReport) {
    if report.cut > 0 {
        log::warn!("{} connections were cut, with {} bytes not sent", report.cut, report.bytes_lost);
    }
}

/// The key of the timer that `--stats-every` sets; a handler's own timers have other keys.
const STATS: u64 = u64::MAX;

/// Does what the server's own timer is for. A handler passes its timers on to this.
pub(crate) fn on_timer<H: Handler>(cx: &Context<H>, timer: Timer) {
    if timer.key != STATS {
        return;
    }
    match cx.pool() {
        // All answer, and the last one says the sum.
        Some(pool) => pool.gather_stats(|each| {
            let mut total = Stats::default();
            each.iter().for_each(|stats| total.add(stats));
            say_stats(&total);
        }),
        None => say_stats(&cx.stats()),
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
        "proxy_refused": stats.proxy_refused,
        "handshakes_failed": stats.handshakes_failed,
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
        "wakeups": stats.wakeups,
        "busy_polls": stats.busy_polls,
        "busy_poll_hits": stats.busy_poll_hits,
        "closes": closes,
    })
}
