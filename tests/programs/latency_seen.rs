//! What `latency` draws on a terminal.

use std::process::{Command, Stdio};

use super::support::executable;

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
