//! The page: what was found, where mainspring loses, how it was measured, on what.

use std::fmt::Write as _;
use std::time::Duration;

use crate::figures::{
    Comparison, Metric, NOISE, Outcome, Row, Spread, Standing, comparisons, losses, median, ratios,
};
use crate::process::Cores;
use crate::rounds::{FOREIGN_MAX, Plan};
use crate::system;

/// Fewer rounds, or shorter ones, are for trying out.
const ROUNDS_ENOUGH: usize = 5;
const SECONDS_ENOUGH: Duration = Duration::from_secs(2);
/// From this share on, the generator was what limited the messages a second.
const SATURATED: f64 = 0.95;

const LOCK: &str = include_str!("../Cargo.lock");
/// The crates that matter to the figures.
const PEERS_CRATES: [&str; 12] = [
    "tokio",
    "tokio-util",
    "futures-util",
    "bytes",
    "message-io",
    "mio",
    "slab",
    "hdrhistogram",
    "plotters",
    "clap",
    "serde_json",
    "rustix",
];
const OUR_CRATES: [&str; 7] = ["mainspring", "mio", "socket2", "bytes", "slab", "memchr", "log"];

#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) date: String,
    pub(crate) rounds: usize,
    pub(crate) measure: Duration,
    pub(crate) warm_up: Duration,
    pub(crate) cores: Option<Cores>,
    /// What it ran on and with: a name, and what it is.
    pub(crate) machine: Vec<(String, String)>,
}

impl Report {
    /// Asks the machine. The outcomes come later.
    pub(crate) fn begin(plan: &Plan) -> Report {
        Report {
            outcomes: Vec::new(),
            date: system::today(),
            rounds: plan.rounds,
            measure: plan.measure,
            warm_up: plan.warm_up,
            cores: plan.cores,
            machine: machine(),
        }
    }

    /// Were all rounds measured?
    pub(crate) fn verdict(&self) -> Result<(), String> {
        match failures(&self.outcomes).len() {
            0 => Ok(()),
            n => Err(format!("{n} measurements failed")),
        }
    }

    pub(crate) fn page(&self) -> String {
        let mut page = String::new();
        page += "# Benchmarks\n\n";
        page += "mainspring's examples `echo` and `broadcast`, built as the README says, all their limits on, against the same two\n\
                 servers on bare mio, tokio and message-io. This page is written by [`benches/peers`](../benches/peers/README.md) and\n\
                 by nobody's hand:\n\n";
        let (seconds, warm_up) = (self.measure.as_secs_f64(), self.warm_up.as_secs_f64());
        let _ = write!(
            page,
            "```sh\ncargo run --release --manifest-path benches/peers/Cargo.toml -- --rounds {} --seconds {seconds}\n```\n\n",
            self.rounds
        );
        let rounds = if self.rounds == 1 { "round" } else { "rounds" };
        let _ = write!(
            page,
            "Run on {}: {} {rounds} of {seconds} s for each server in each scenario, after {warm_up} s of warm-up.\n\n",
            self.date, self.rounds
        );
        if self.rounds < ROUNDS_ENOUGH || self.measure < SECONDS_ENOUGH {
            let _ = write!(
                page,
                "> **A short run**, of {}: it shows that the measurement works. Its figures are not to be quoted.\n\n",
                self.date
            );
        }
        let disturbed =
            self.outcomes.iter().filter(|outcome| outcome.foreign > FOREIGN_MAX).collect::<Vec<_>>();
        if !disturbed.is_empty() {
            let list =
                disturbed.iter().map(|outcome| format!("{} ({:.2})", outcome.scenario.name, outcome.foreign));
            let _ = write!(
                page,
                "> **A busy machine**: other processes had more than {FOREIGN_MAX} of a core while it measured, by scenario at\n\
                 > most: {}.\n\n",
                list.collect::<Vec<_>>().join(", ")
            );
        }
        page += &self.results();
        page += &self.method();
        page += "## Machine and versions\n\n| what | |\n| --- | --- |\n";
        for (name, what) in &self.machine {
            let _ = writeln!(page, "| {name} | {} |", cell(what));
        }
        page
    }

    /// The figures alone.
    pub(crate) fn results(&self) -> String {
        let all = comparisons(&self.outcomes);
        let mut text = at_a_glance(&self.outcomes, &all);
        text += &where_it_loses(&all, self.rounds);
        let failures = failures(&self.outcomes);
        if !failures.is_empty() {
            text += "## What failed\n\n";
            for failure in failures {
                let _ = writeln!(text, "- {failure}");
            }
            text.push('\n');
        }
        text += "## Scenario by scenario\n\n";
        text +=
            "Medians, and behind each the ratio to mainspring: min / **median** / max over the rounds.\n\n";
        for outcome in &self.outcomes {
            text += &table(outcome);
        }
        text
    }

    fn method(&self) -> String {
        let cores = match self.cores {
            Some(Cores { server, load }) => format!("the server on core {server}, the load on core {load}"),
            None => "neither bound to a core, which makes all figures less sure".to_owned(),
        };
        format!(
            "## How it is measured\n\n\
             - Rounds go mainspring, peer, peer, peer, mainspring, and so on; each server is a fresh process, {cores}. A ratio is\n  \
             one round's figure to mainspring's of the same round. A round in which other processes had more than {FOREIGN_MAX} of a core\n  \
             is repeated, twice at most.\n\
             - The load is one thread on mio. Every byte that comes back is compared with what was sent; a wrong or missing one fails\n  \
             the round. A message's time runs from the write that may send it until its last byte was read; of a broadcast, until the\n  \
             last receiver has it. Server CPU is the scheduler's run time of all the server's threads, kernel included.\n\
             - All speak a 4-byte big-endian length and so many bytes, and set TCP_NODELAY. The peers' servers are\n  \
             [written for their library's sake](../benches/peers/src/servers): answers to what one read brought leave in one write,\n  \
             frames of a broadcast that wait leave together.\n\
             - **mio** is a hand-written loop in safe Rust that does this one thing: the floor for everything on mio. **tokio** is its\n  \
             single-threaded runtime with `LengthDelimitedCodec` both ways. **message-io** is its transport `Tcp`: its `FramedTcp` has\n  \
             another framing, and writes each message in two pieces, which costs many times more in p3 and bcast. A full socket makes\n  \
             it spin.\n\
             - The peers have no idle deadlines, no limits of memory or connections, no counters and no orderly end. mainspring's\n  \
             examples run with all of theirs.\n\n\
             ## What not to trust\n\n\
             - Messages a second where the load was busy all the time (\"load\" at 1.00) and the server was not: the load was the limit.\n  \
             Compare the CPU a message there.\n\
             - p1: on a virtual machine it is mostly the time to wake a core up. p99 of short runs. Ratios within {:.0} % of 1.\n\
             - Loopback is no network: no card, no interrupts, and a send runs the receiver's half of TCP, so the server's CPU has part\n  \
             of the client's in it, for all alike. That also brings all ratios nearer to 1.\n\n",
            NOISE * 100.0
        )
    }
}

fn at_a_glance(outcomes: &[Outcome], all: &[Comparison<'_>]) -> String {
    let Some(first) = outcomes.first() else { return String::new() };
    let count = |standing| all.iter().filter(|one| one.standing() == standing).count();
    let mut text = format!(
        "## At a glance\n\n\
         Medians of the ratios to mainspring, which is 1.00. In {} comparisons mainspring is ahead in {}, level (within {:.0} %) in {},\n\
         behind in {}.\n\n\
         ![Ratios to mainspring, by scenario](benchmarks.svg)\n\n",
        all.len(),
        count(Standing::Ahead),
        NOISE * 100.0,
        count(Standing::Level),
        count(Standing::Behind),
    );
    for metric in Metric::ALL {
        let better = if metric.more_is_better() {
            "below 1: mainspring is faster"
        } else {
            "above 1: mainspring needs less"
        };
        let _ = write!(text, "| {} ({better}) |", metric.text());
        for outcome in outcomes {
            let _ = write!(text, " {} |", outcome.scenario.name);
        }
        let _ = write!(text, "\n| --- |{}\n", " ---: |".repeat(outcomes.len()));
        for (index, row) in first.peers().iter().enumerate() {
            let _ = write!(text, "| {} |", row.server);
            for outcome in outcomes {
                let ratio = ratios(&outcome.peers()[index], outcome.mainspring(), metric);
                let _ = write!(
                    text,
                    " {} |",
                    ratio.map_or("-".to_owned(), |ratio| format!("{:.2}", ratio.median))
                );
            }
            text.push('\n');
        }
        text.push('\n');
    }
    text
}

fn where_it_loses(all: &[Comparison<'_>], rounds: usize) -> String {
    let mut text = "## Where mainspring loses\n\n".to_owned();
    let losses = losses(all);
    if losses.is_empty() {
        let _ = write!(text, "Nowhere by more than {:.0} %.\n\n", NOISE * 100.0);
        return text;
    }
    let _ = write!(
        text,
        "Everything where a peer's median is better by more than {:.0} %, the worst first:\n\n",
        NOISE * 100.0
    );
    for loss in losses {
        let by = (loss.peer_better(loss.ratio.median) - 1.0) * 100.0;
        let sure = match rounds {
            1 => "of one round",
            _ if loss.unanimous() => "in every round",
            _ => "not in every round",
        };
        let _ = writeln!(
            text,
            "- {}, {}: {} is better by {by:.0} % (ratio {}; {sure}).",
            loss.scenario,
            loss.metric.text(),
            loss.peer,
            ratio_text(Some(loss.ratio)),
        );
    }
    text.push('\n');
    text
}

fn table(outcome: &Outcome) -> String {
    let scenario = &outcome.scenario;
    let mut text = format!(
        "### {}: {}\n\n\
         | server | {}/s | ratio | p50 us | ratio | p99 us | ratio | CPU us each | ratio | server | load |\n\
         | --- | ---: | --- | ---: | --- | ---: | --- | ---: | --- | ---: | ---: |\n",
        scenario.name,
        scenario.text(),
        scenario.unit(),
    );
    for row in &outcome.rows {
        let figure = |metric: Metric, digits| {
            let ratio = ratio_text(ratios(row, outcome.mainspring(), metric));
            let ratio = if row == outcome.mainspring() { "1.00".to_owned() } else { ratio };
            format!("{} | {ratio}", number(median(row, |measured| metric.of(measured)), digits))
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} |",
            row.server,
            figure(Metric::PerSecond, 0),
            figure(Metric::P50, 1),
            figure(Metric::P99, 1),
            figure(Metric::Cpu, 3),
            number(median(row, |measured| measured.server_share), 2),
            number(median(row, |measured| measured.generator_share), 2),
        );
    }
    let saturated = |row: &Row| median(row, |m| m.generator_share).is_some_and(|share| share >= SATURATED);
    if outcome.rows.iter().any(saturated) {
        text += "\nThe load was busy all the time against some: it was a limit of their messages a second.\n";
    }
    text.push('\n');
    text
}

fn ratio_text(ratio: Option<Spread>) -> String {
    ratio.map_or("-".to_owned(), |ratio| {
        format!("{:.2} / **{:.2}** / {:.2}", ratio.min, ratio.median, ratio.max)
    })
}

fn number(figure: Option<f64>, digits: usize) -> String {
    figure.map_or("-".to_owned(), |figure| format!("{figure:.digits$}"))
}

/// What may stand between two bars.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn failures(outcomes: &[Outcome]) -> Vec<String> {
    let mut failures = Vec::new();
    for outcome in outcomes {
        for row in &outcome.rows {
            for (index, round) in row.rounds.iter().enumerate() {
                if let Err(error) = round {
                    let (scenario, round) = (&outcome.scenario.name, index + 1);
                    failures.push(format!("{scenario}, round {round}, {}: {}", row.server, cell(error)));
                }
            }
        }
    }
    failures
}

fn machine() -> Vec<(String, String)> {
    let root = system::mainspring_folder();
    let our_lock = std::fs::read_to_string(root.join("Cargo.lock")).unwrap_or_default();
    let crates = |lock: &str, names: &[&str]| {
        let one = |name: &&str| {
            let versions = system::versions(lock, name);
            (!versions.is_empty()).then(|| format!("{name} {}", versions.join(" and ")))
        };
        names.iter().filter_map(one).collect::<Vec<_>>().join(", ")
    };
    let said = |program: &str, arguments: &[&str]| system::said(program, arguments, &root);
    let mut commit =
        said("git", &["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    // What this program itself writes is no change of what it measures.
    let paths = [
        "status",
        "--porcelain",
        "--untracked-files=no",
        "--",
        "src",
        "examples",
        "Cargo.toml",
        "Cargo.lock",
    ];
    if said("git", &paths).is_some_and(|changes| !changes.is_empty()) {
        commit += ", with changes";
    }
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let rows = [
        ("processor", system::cpu_model()),
        ("cores", cores.to_string()),
        ("kernel", system::kernel()),
        ("compiler", said("rustc", &["--version"]).unwrap_or_else(|| "unknown".to_owned())),
        ("commit", commit),
        ("mainspring's crates", crates(&our_lock, &OUR_CRATES)),
        ("the peers' and the runner's crates", crates(LOCK, &PEERS_CRATES)),
    ];
    rows.map(|(name, what)| (name.to_owned(), what)).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::tests::{measured, outcome, row};

    fn report(outcomes: Vec<Outcome>, rounds: usize) -> Report {
        Report {
            outcomes,
            date: "2026-01-02".to_owned(),
            rounds,
            measure: SECONDS_ENOUGH,
            warm_up: Duration::from_millis(500),
            cores: Some(Cores { server: 0, load: 1 }),
            machine: vec![("processor".to_owned(), "a | b".to_owned())],
        }
    }

    #[test]
    fn the_table_has_medians_and_ratios() {
        let page = report(vec![outcome()], 5).page();
        assert!(page.contains("### p2: echo, 64 connections, 64 B, 1 frame in flight each"), "{page}");
        assert!(page.contains("| mainspring | 100 | 1.00 | 10.0 | 1.00 |"), "{page}");
        assert!(page.contains("| tokio | 50 | 0.25 / **0.50** / 0.60 | 20.0 |"), "{page}");
        assert!(page.contains("| processor | a \\| b |"), "{page}");
    }

    #[test]
    fn losses_are_told() {
        let text = report(vec![outcome()], 5).results();
        assert!(
            text.contains("- p2, p50: mio is better by 54 % (ratio 0.50 / **0.65** / 0.80; in every round)."),
            "{text}"
        );
        assert!(!text.contains("Nowhere"), "{text}");
    }

    #[test]
    fn no_loss_is_told_too() {
        let rounds = [measured(1.0, 1.0, 1.0)];
        let level = Outcome { rows: vec![row("mainspring", &rounds), row("tokio", &rounds)], ..outcome() };
        let text = report(vec![level], 5).results();
        assert!(text.contains("Nowhere by more than 3 %."), "{text}");
        assert!(
            text.contains(
                "In 4 comparisons mainspring is ahead in 0, level (within 3 %) in 4,\nbehind in 0."
            ),
            "{text}"
        );
    }

    #[test]
    fn short_runs_and_busy_machines_say_so() {
        let busy = Outcome { foreign: 0.5, ..outcome() };
        let page = report(vec![busy], 2).page();
        assert!(page.contains("**A short run**, of 2026-01-02"), "{page}");
        assert!(page.contains("most: p2 (0.50)."), "{page}");
        let page = report(vec![outcome()], 5).page();
        assert!(!page.contains("**A short run**") && !page.contains("**A busy machine**"), "{page}");
    }

    #[test]
    fn failures_are_listed_and_make_the_verdict() {
        let report = report(vec![outcome()], 5);
        assert!(report.results().contains("- p2, round 2, mio: a reply is \\| missing"));
        assert_eq!(report.verdict(), Err("1 measurements failed".to_owned()));
    }

    #[test]
    fn every_crate_of_the_list_is_in_the_lock_file() {
        for name in PEERS_CRATES {
            assert!(!system::versions(LOCK, name).is_empty(), "{name}");
        }
    }
}
