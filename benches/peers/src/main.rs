//! mainspring and its peers under the same load, round by round. See the README beside `Cargo.toml`.

#![forbid(unsafe_code)]

mod figures;
mod frame;
mod load;
mod picture;
mod process;
mod report;
mod rounds;
mod scenario;
mod servers;
mod system;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use std::{env, fs};

use clap::{Args, Parser, Subcommand};

use crate::load::Target;
use crate::process::{Cores, Examples};
use crate::report::Report;
use crate::rounds::Plan;
use crate::scenario::{Job, Scenario};
use crate::servers::Peer;

/// Measures mainspring's examples echo and broadcast against the same servers on mio, tokio and message-io
///
/// Builds the examples, starts each server on a port of loopback, loads it, and ends it: one after the other, in alternating
/// rounds. Prints what was found; a complete run writes docs/benchmarks.md and docs/benchmarks.svg of the repository. It takes
/// about (seconds + 1.5) * rounds * scenarios * servers; pick a machine that has nothing else to do.
#[derive(Debug, Parser)]
#[command(name = "peers", args_conflicts_with_subcommands = true)]
struct Command {
    #[command(flatten)]
    compare: Compare,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Debug, Args)]
struct Compare {
    /// Rounds of each scenario
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Measure each server for so long in each round
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    seconds: Duration,
    /// Load it for so long before that
    #[arg(long, value_name = "SECONDS", default_value = "0.5", value_parser = seconds)]
    warm_up: Duration,
    /// Only these, separated by commas: p1, p2, p3, p4, p6, bcast
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = scenario)]
    scenario: Vec<Scenario>,
    /// Only against these, separated by commas
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    peer: Vec<Peer>,
    /// Write benchmarks.md and benchmarks.svg into this folder, even if the run is not complete
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Runs one of the peers' servers, until it is ended
    Serve {
        peer: Peer,
        job: Job,
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7000")]
        listen: SocketAddr,
    },
    /// Loads a server on loopback, and prints what was found as JSON
    Load {
        #[arg(value_parser = scenario)]
        scenario: Scenario,
        address: SocketAddr,
        /// The server's process, to know its share of a core
        #[arg(long, value_name = "ID")]
        process: Option<u32>,
        #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
        seconds: Duration,
        #[arg(long, value_name = "SECONDS", default_value = "0.5", value_parser = seconds)]
        warm_up: Duration,
    },
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=load::SECONDS_MAX / 2.0).contains(&seconds) => {
            Ok(Duration::from_secs_f64(seconds))
        }
        _ => Err(format!("0.1 to {} seconds", load::SECONDS_MAX / 2.0)),
    }
}

fn scenario(name: &str) -> Result<Scenario, String> {
    let mut all = Scenario::all().into_iter();
    all.find(|scenario| scenario.name == name).ok_or_else(|| "there is no such scenario".to_owned())
}

fn main() -> ExitCode {
    let command = Command::parse();
    // Servers and loads inherit it; who has fewer will hear of it from the load.
    #[cfg(unix)]
    let _ = rlimit::increase_nofile_limit(load::DESCRIPTORS_MAX);
    let outcome = match command.part {
        None => compare(command.compare),
        Some(Part::Serve { peer, job, listen }) => {
            peer.serve(job, listen).map_err(|error| format!("{listen}: {error}"))
        }
        Some(Part::Load { scenario, address, process, seconds, warm_up }) => {
            let target = Target { address, process, warm_up, measure: seconds };
            load::run(&scenario, &target).and_then(|measured| {
                println!("{}", serde_json::to_string(&measured).map_err(|error| error.to_string())?);
                Ok(())
            })
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(options: Compare) -> Result<(), String> {
    let complete = options.scenario.is_empty() && options.peer.is_empty();
    let scenarios = if options.scenario.is_empty() { Scenario::all() } else { options.scenario };
    let plan = Plan {
        rounds: options.rounds as usize,
        measure: options.seconds,
        warm_up: options.warm_up,
        peers: if options.peer.is_empty() { Peer::ALL.to_vec() } else { options.peer },
        cores: Cores::assign(),
        examples: Examples::build()?,
        this: env::current_exe().map_err(|error| format!("this program: {error}"))?,
    };
    let mut report = Report::begin(&plan);
    report.outcomes = scenarios.iter().map(|scenario| plan.run(scenario)).collect();
    println!("{}", report.results());

    let folder = match options.out {
        Some(folder) => folder,
        None if complete => system::mainspring_folder().join("docs"),
        None => return report.verdict(),
    };
    let write = |name: &str, text: &str| {
        let file = folder.join(name);
        fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))
    };
    write("benchmarks.md", &report.page())?;
    write("benchmarks.svg", &picture::draw(&report.outcomes)?)?;
    println!("written: benchmarks.md and benchmarks.svg in {}", folder.display());
    report.verdict()
}
