//! `latency --plot`, and what is drawn on a terminal.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::latency::{expect_keys, json};
use super::support::{Program, executable};

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
