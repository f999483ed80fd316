//! `latency --compare`, `--plot`, and what is drawn on a terminal.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Sender};
use std::thread;

use serde_json::Value;

use super::latency::{expect_keys, json};
use super::support::{Program, executable, expect_count};

/// An echo server that tells of each connection, and lives as long as this process.
fn echo(name: char, log: Sender<char>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for peer in listener.incoming() {
            let mut peer = peer.expect("it connects");
            if log.send(name).is_err() {
                break;
            }
            let mut back = peer.try_clone().expect("there are descriptors");
            thread::spawn(move || std::io::copy(&mut peer, &mut back));
        }
    });
    address
}

fn svg(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    // It may be left of an earlier run.
    let _ = fs::remove_file(&path);
    path
}

/// How many curves it has, after a look at each.
#[track_caller]
fn curves(svg: &str) -> usize {
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
    for tick in ["50 %", "90 %"] {
        assert!(svg.contains(tick), "{tick} in {svg}");
    }
    // Axes and legends are lines of a few points.
    let lines = svg.split("<polyline").skip(1).map(|line| {
        let points = line.split("points=\"").nth(1).and_then(|points| points.split('"').next());
        points.expect("a line has points").split_whitespace().count()
    });
    lines.filter(|points| *points >= 50).count()
}

#[test]
fn two_servers_are_measured_in_turn_and_compared_in_pairs() {
    let (log, order) = mpsc::channel();
    let (a, b) = (echo('A', log.clone()), echo('B', log));
    let arguments =
        format!("--compare {a} --with {b} --json --rounds 3 --duration 100ms --warmup 20ms --pipeline 2");
    let ended = Program::start("latency", &arguments).ended();
    ended.expect_success();
    assert_eq!(order.try_iter().collect::<String>(), "ABABAB");
    let report = json(&ended);
    expect_count(&report, "rounds", 3);
    for (side, address) in [("compare", a), ("with", b)] {
        let side = &report[side];
        expect_keys(side, 1);
        assert_eq!(side["address"], address.to_string(), "{report}");
        expect_count(side, "errors", 0);
        expect_count(side, "pipeline", 2);
        assert!(side["messages"].as_f64() > Some(0.0), "{report}");
    }
    for figure in ["messages_per_s", "p50_us", "p99_us"] {
        let ratio =
            ["min", "median", "max"].map(|part| report["ratios"][figure][part].as_f64().expect("a number"));
        assert!(ratio[0] > 0.0 && ratio.is_sorted(), "{report}");
    }
}

#[test]
fn a_ratio_is_the_first_by_the_second() {
    let (log, _order) = mpsc::channel();
    let (a, b) = (echo('A', log.clone()), echo('B', log));
    let arguments = format!("--compare {a} --with {b} --json --rounds 1 --duration 100ms --warmup 0");
    let ended = Program::start("latency", &arguments).ended();
    ended.expect_success();
    let report = json(&ended);
    for figure in ["messages_per_s", "p50_us", "p99_us"] {
        let number = |value: &Value| value.as_f64().expect("a number");
        let ratio = number(&report["compare"][figure]) / number(&report["with"][figure]);
        for part in ["min", "median", "max"] {
            assert!((number(&report["ratios"][figure][part]) / ratio - 1.0).abs() < 1e-9, "{report}");
        }
    }
}

#[test]
fn a_comparison_can_be_read_and_drawn() {
    let (log, _order) = mpsc::channel();
    let (a, b) = (echo('A', log.clone()), echo('B', log));
    let path = svg("two curves.svg");
    let file = path.display().to_string();
    let arguments =
        format!("--compare {a} --with {b} --rounds 2 --duration 100ms --warmup 0 --rate 500 --plot");
    let ended = Program::start_with("latency", arguments.split_whitespace().chain([file.as_str()])).ended();
    ended.expect_success();
    let table = String::from_utf8(ended.lines.join(&b'\n')).expect("it is text");
    for word in
        [&a.to_string(), &b.to_string(), "A, median", "B, median", "A / B, median", "messages/s", "p99"]
    {
        assert!(table.contains(word), "{word} in {table}");
    }
    assert_eq!(curves(&fs::read_to_string(&path).expect("it is there")), 2);
}

#[test]
fn a_wrong_reply_of_either_is_a_failure() {
    let (log, _order) = mpsc::channel();
    let right = echo('A', log);
    let wrong = Program::serve("broadcast", "");
    for (a, b) in [(right, wrong.address()), (wrong.address(), right)] {
        let arguments =
            format!("--compare {a} --with {b} --connections 2 --rounds 2 --duration 100ms --warmup 0");
        let ended = Program::start("latency", &arguments).ended();
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        assert_eq!(ended.errors.lines().count(), 1, "{ended:?}");
    }
}

#[test]
fn a_server_of_the_two_that_is_not_there_is_one_line() {
    let (log, _order) = mpsc::channel();
    let there = echo('A', log);
    let free = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let gone = free.local_addr().expect("it is bound");
    drop(free);
    let arguments = format!("--compare {there} --with {gone} --duration 50ms --warmup 0");
    let ended = Program::start("latency", &arguments).ended();
    ended.expect_failure(&[&gone.to_string(), "refused"]);
    assert!(ended.lines.is_empty(), "{ended:?}");
}

#[test]
fn a_plot_is_a_picture_with_a_curve() {
    let path = svg("curve.svg");
    fs::write(&path, "what was there before, and is longer".repeat(5000)).expect("it can be written");
    let file = path.display().to_string();
    let arguments = "--json --duration 200ms --warmup 0 --plot".split_whitespace();
    let ended = Program::start_with("latency", arguments.chain([file.as_str()])).ended();
    ended.expect_success();
    expect_keys(&json(&ended), 0);
    assert_eq!(curves(&fs::read_to_string(&path).expect("it is there")), 1);
}

#[test]
fn a_plot_that_cannot_be_written_is_one_line_before_anything_is_measured() {
    let nowhere = svg("no such folder").join("curve.svg").display().to_string();
    let ended = Program::start_with("latency", ["--plot", &nowhere]).ended();
    ended.expect_failure(&["cannot write", &nowhere]);
    assert!(ended.lines.is_empty(), "{ended:?}");
}

/// The programs of other tests stand in a pipe, and say nothing but errors.
#[test]
#[cfg(target_os = "linux")]
fn on_a_terminal_a_bar_says_how_far_it_is() {
    let command = format!("'{}' --duration 300ms --warmup 0", executable("latency").display());
    // `script` gives it a terminal.
    let script = Command::new("script").args(["-qec", &command, "/dev/null"]).stdin(Stdio::null()).output();
    let Ok(output) = script else {
        println!("skipped: there is no `script` here");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    let bar = text.find(" %").unwrap_or_else(|| panic!("a bar in {text:?}"));
    let table = text.find("messages/s").unwrap_or_else(|| panic!("a table in {text:?}"));
    assert!(bar < table, "{text:?}");
    // It is gone when the table comes.
    assert!(text[..table].contains("\x1b[2K"), "{text:?}");
}
