//! What Prometheus reads of one reactor and of a pool.
#![cfg(feature = "metrics")]
#![allow(clippy::unwrap_used, reason = "what a test's helper cannot do has failed the test")]

#[path = "common/reactor.rs"]
mod common;
#[path = "common/exposition.rs"]
mod exposition;

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use common::*;
use exposition::Page;
use mainspring::codec::LengthPrefixed;
use mainspring::metrics::{self, Snapshot, Source};
use mainspring::pool::ReactorPool;
use mainspring::{Context, Limits, ListenOptions, Reactor};
use prometheus_client::registry::Registry;

/// A server that has seen something of everything that is easily caused.
fn busy_server() -> Server {
    let mut limits = Limits::default();
    limits.connections_max = Some(2);
    let builder = Reactor::<Tester>::builder().limits(limits);
    let server = Server::with(builder, &ListenOptions::default(), Tester::new(echo));
    let (mut broken, whole) = (server.connect(), server.connect());
    expect_echo(&whole, b"hello");
    expect_echo(&broken, b"hello");
    let refused = server.connect();
    expect_end(&refused);
    broken.write_all(&[0xff; 4]).unwrap();
    expect_end(&broken);
    server.wait_stats("it is gone", |stats| stats.closed == 1);
    expect_echo(&whole, b"again");
    drop(whole);
    server.wait_stats("it is gone too", |stats| stats.closed == 2);
    server
}

#[test]
fn the_page_of_one_reactor_says_what_its_stats_say() {
    let server = busy_server();
    let (snapshot, text) = server.ask(|cx| {
        let snapshot = Snapshot::of(cx);
        (snapshot.clone(), metrics::encode([snapshot]))
    });
    let page = Page::read(&text);
    let stats = snapshot.stats;
    assert_eq!(page.one("mainspring_connections_accepted_total"), 2.0);
    assert_eq!(page.one("mainspring_connections_refused_total"), 1.0);
    assert_eq!(page.one("mainspring_connections_open"), 0.0);
    assert_eq!(page.sum("mainspring_connections_closed_total", ("", "")), 2.0);
    assert_eq!(page.sum("mainspring_connections_closed_total", ("reason", "frame_too_long")), 1.0);
    assert_eq!(page.sum("mainspring_connections_closed_total", ("reason", "peer")), 1.0);
    assert_eq!(page.one("mainspring_frames_received_total"), 3.0);
    assert_eq!(page.one("mainspring_frames_sent_total"), 3.0);
    assert_eq!(page.one("mainspring_received_bytes_total"), stats.bytes_in as f64);
    assert_eq!(page.one("mainspring_sent_bytes_total"), 27.0);
    assert_eq!(page.one("mainspring_turns_total"), stats.turns as f64);
    assert_eq!(page.one("mainspring_dispatch_seconds_count"), snapshot.dispatch_times.count() as f64);
    assert!(page.one("mainspring_loop_lag_seconds_count") > 3.0);
    let lag = snapshot.loop_lag.sum().as_secs_f64();
    assert!((page.one("mainspring_loop_lag_seconds_sum") - lag).abs() < 1e-9);
}

#[test]
fn no_snapshot_is_a_page_without_samples_and_still_a_page() {
    let page = Page::read(&metrics::encode([]));
    assert!(page.names().count() > 20 && page.samples.is_empty());
}

/// The list in `docs/metrics.md` is the list.
#[test]
fn the_documented_names_are_those_of_the_page() {
    let page = Page::read(&metrics::encode([Snapshot::default()]));
    let documented: BTreeSet<_> = include_str!("../docs/metrics.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `mainspring_")?.split('`').next())
        .map(|name| format!("mainspring_{}", name.split('{').next().unwrap()))
        .collect();
    assert_eq!(documented, page.names().cloned().collect());
}

/// A pool of two, each of which has done something.
fn pool() -> mainspring::pool::RunningPool<Tester> {
    let mut pool = ReactorPool::new(2, |_| Tester::new(echo).0).unwrap();
    pool.listen("127.0.0.1:0", LengthPrefixed::default()).unwrap();
    let running = pool.start().unwrap();
    wait_for("both run", || running.handle().stats().unwrap().iter().all(|s| s.turns > 0).then_some(()));
    running
}

#[test]
fn each_reactor_of_a_pool_has_its_samples() {
    let running = pool();
    let (send, answer) = mpsc::channel();
    metrics::gather(&running.handle(), move |snapshots| send.send(snapshots).unwrap());
    let snapshots = answer.recv_timeout(Duration::from_secs(20)).unwrap();
    let page = Page::read(&metrics::encode(snapshots.clone()));
    for reactor in ["0", "1"] {
        assert!(page.sum("mainspring_turns_total", ("reactor", reactor)) > 0.0);
        assert!(page.sum("mainspring_loop_lag_seconds_count", ("reactor", reactor)) > 0.0);
    }
    assert!(page.samples.iter().all(|sample| sample.label("reactor").is_some()));

    let mut sum = Snapshot::default();
    snapshots.iter().for_each(|snapshot| sum.add(snapshot));
    let summed = Page::read(&metrics::encode([sum]));
    assert_eq!(summed.one("mainspring_turns_total"), page.sum("mainspring_turns_total", ("", "")));
    let buckets = ("le", "10.0");
    let name = "mainspring_dispatch_seconds_bucket";
    assert_eq!(summed.sum(name, buckets), page.sum(name, buckets));

    // A reactor that is gone is not waited for.
    running.shutdown();
    let handle = running.handle();
    running.join().unwrap();
    let (send, answer) = mpsc::channel();
    metrics::gather(&handle, move |snapshots| send.send(snapshots.len()).unwrap());
    assert_eq!(answer.recv_timeout(Duration::from_secs(20)), Ok(0));
    assert!(Source::from(handle).snapshots().is_empty());
}

#[test]
fn a_registry_of_ones_own_asks_at_each_scrape() {
    let server = busy_server();
    let running = pool();
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Source::from(server.handle.clone())));
    let scrape = |registry: &Registry| {
        let mut text = String::new();
        prometheus_client::encoding::prometheus_text::encode(&mut text, registry).unwrap();
        Page::read(&text)
    };
    assert_eq!(scrape(&registry).one("mainspring_connections_accepted_total"), 2.0);
    expect_echo(&server.connect(), b"third");
    assert_eq!(scrape(&registry).one("mainspring_connections_accepted_total"), 3.0);

    // OpenMetrics says the counters' names in another way, and has an end.
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(
        text.contains("# TYPE mainspring_received_bytes counter\n# UNIT mainspring_received_bytes bytes\n")
    );
    assert!(
        text.contains("\nmainspring_connections_accepted_total 3\n") && text.ends_with("# EOF\n"),
        "{text}"
    );

    let of_pool = Source::from(running.handle()).snapshots();
    assert_eq!(of_pool.iter().map(|snapshot| snapshot.reactor).collect::<Vec<_>>(), [Some(0), Some(1)]);
}

#[test]
fn a_loop_that_would_wait_for_itself_gets_no_samples_at_once() {
    let server = Server::echo();
    let source = Source::from(server.handle.clone());
    assert!(server.ask(move |_: &mut Context<Tester>| source.snapshots().is_empty()));
    let running = pool();
    let source = Source::from(running.handle());
    let (send, answer) = mpsc::channel();
    let ask = move |_: &mut Tester, _: &mut Context<Tester>| send.send(source.snapshots().len()).unwrap();
    running.handle().of(1).unwrap().run(ask).unwrap();
    assert_eq!(answer.recv_timeout(Duration::from_secs(20)), Ok(0));
}

#[test]
fn a_loop_that_is_held_up_does_not_keep_the_others_samples() {
    let running = pool();
    let (release, released) = mpsc::channel::<()>();
    let hold = move |_: &mut Tester, _: &mut Context<Tester>| _ = released.recv();
    running.handle().of(1).unwrap().run(hold).unwrap();
    let source = Source::from(running.handle());
    let scraping = thread::spawn(move || source.snapshots());
    let got: Vec<_> = scraping.join().unwrap().iter().map(|snapshot| snapshot.reactor).collect();
    drop(release);
    assert_eq!(got, [Some(0)]);
}

#[test]
fn promtool_finds_nothing_to_say() {
    let running = pool();
    let page = metrics::encode(Source::from(running.handle()).snapshots());
    let started = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = match started {
        Ok(promtool) => promtool,
        Err(error) => {
            println!("skipped: no promtool here: {error}");
            return;
        }
    };
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}
