//! Processes that are started here, each on its core, and ended here: these and no others.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::system;

/// A server says that it listens within this time.
const START_MAX: Duration = Duration::from_secs(15);

/// Which core the server has, and which the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cores {
    pub(crate) server: usize,
    pub(crate) load: usize,
}

impl Cores {
    /// Two cores of their own, where there are two, and a program that assigns them.
    pub(crate) fn assign() -> Option<Cores> {
        match system::cores()[..] {
            [server, load, ..] if system::installed("taskset") => Some(Cores { server, load }),
            _ => None,
        }
    }
}

/// `taskset` becomes the program: they have one process id.
pub(crate) fn on_core(core: Option<usize>, program: &OsStr, arguments: &[OsString]) -> Command {
    let mut command = match core {
        Some(core) => {
            let mut command = Command::new("taskset");
            command.args(["--cpu-list", &core.to_string()]).arg(program);
            command
        }
        None => Command::new(program),
    };
    command.args(arguments).stdin(Stdio::null());
    command
}

/// A server that listens, until this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    /// Its standard output stays open.
    _output: BufReader<ChildStdout>,
}

impl Server {
    pub(crate) fn start(mut command: Command) -> Result<Server, String> {
        let spawned = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child =
            spawned.map_err(|error| format!("{}: {error}", command.get_program().to_string_lossy()))?;
        match first_line(&mut child) {
            Ok((address, output)) => Ok(Server { child, address, _output: output }),
            Err(error) => {
                end(&mut child);
                Err(format!("a server did not come up: {error}"))
            }
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    // One that has ended by itself is fine, too.
    let _ = child.kill();
    let _ = child.wait();
}

/// `listening on ADDRESS`.
fn first_line(child: &mut Child) -> Result<(SocketAddr, BufReader<ChildStdout>), String> {
    let mut output = BufReader::new(child.stdout.take().ok_or("it has no output")?);
    let (said, hear) = mpsc::channel();
    // A pipe knows no time limit. The thread ends when the server speaks or ends.
    thread::spawn(move || {
        let mut line = String::new();
        let outcome = output.read_line(&mut line).map(|_| (line, output));
        // Nobody waits any longer.
        let _ = said.send(outcome);
    });
    let outcome = hear.recv_timeout(START_MAX).map_err(|_| "it said nothing".to_owned())?;
    let (line, output) = outcome.map_err(|error: io::Error| error.to_string())?;
    let address = line.strip_prefix("listening on ").and_then(|address| address.trim().parse().ok());
    Ok((address.ok_or_else(|| format!("it said {line:?}"))?, output))
}

/// mainspring's examples, built the way that its README says.
#[derive(Debug)]
pub(crate) struct Examples {
    pub(crate) echo: PathBuf,
    pub(crate) broadcast: PathBuf,
}

impl Examples {
    pub(crate) fn build() -> Result<Examples, String> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["build", "--release", "--example", "echo", "--example", "broadcast"])
            .arg("--message-format=json-render-diagnostics")
            .current_dir(system::mainspring_folder())
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| format!("cargo: {error}"))?;
        if !output.status.success() {
            return Err("mainspring's examples do not build".to_owned());
        }
        let messages = String::from_utf8_lossy(&output.stdout);
        let example = |name| executable(&messages, name).ok_or(format!("cargo built no example {name}"));
        Ok(Examples { echo: example("echo")?, broadcast: example("broadcast")? })
    }
}

/// Where cargo has put an example, by its messages.
fn executable(messages: &str, example: &str) -> Option<PathBuf> {
    let mut artifacts = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let found = artifacts.find(|artifact| {
        artifact["target"]["name"] == example && artifact["target"]["kind"][0] == "example"
    })?;
    found["executable"].as_str().map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_says_where_an_example_is() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"echo","kind":["lib"]},"executable":null}
not json
{"reason":"compiler-artifact","target":{"name":"echo","kind":["example"]},"executable":"/x/examples/echo"}"#;
        assert_eq!(executable(messages, "echo"), Some(PathBuf::from("/x/examples/echo")));
        assert_eq!(executable(messages, "chat"), None);
    }
}
