//! Two servers in short rounds, A B A B ..., each round compared with the one beside it.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use hdrhistogram::Histogram;
use mainspring::codec::ByteCodec;
use serde_json::{Map, Value, json};

use crate::common::say;
use crate::figures::{Spread, grouped, time};
use crate::options::Options;
use crate::plot::Plot;
use crate::progress::Progress;
use crate::report::Outcome;
use crate::{measure, verdict};

/// Reads off what is compared.
type Figure = fn(&Outcome) -> f64;

/// What is compared: the key in JSON, and how to read it off.
const FIGURES: [(&str, Figure); 3] = [
    ("messages_per_s", Outcome::per_second),
    ("p50_us", |outcome| outcome.micros(0.5)),
    ("p99_us", |outcome| outcome.micros(0.99)),
];

/// One server, and what came of its rounds.
struct Side<'a> {
    letter: char,
    key: &'static str,
    address: &'a str,
    rounds: Vec<Outcome>,
}

pub(crate) fn compare<C: ByteCodec>(
    options: &Options,
    (a, b): (&str, &str),
    codec: &C,
    plot: Option<Plot>,
) -> Result<ExitCode, String> {
    let round = options.warmup().saturating_add(options.duration());
    let mut sides = [('A', "compare", a), ('B', "with", b)].map(|(letter, key, address)| Side {
        letter,
        key,
        address,
        rounds: Vec::new(),
    });
    let mut progress = Progress::new(round.saturating_mul(options.rounds() * 2));
    let mut before = Duration::ZERO;
    for number in 1..=options.rounds() {
        for side in &mut sides {
            progress.next_round(format!("round {number}: {} {}", side.letter, side.address), before);
            let outcome = measure(options, codec.clone(), side.address, progress.clone());
            before = before.saturating_add(round);
            let outcome = outcome.map_err(|error| {
                progress.clear();
                error.to_string()
            })?;
            let has_measured = outcome.measured.is_some();
            side.rounds.push(outcome);
            if !has_measured {
                progress.clear();
                return Ok(verdict(&[side.rounds.last().expect("it was pushed")]));
            }
        }
    }
    progress.clear();
    say(if options.json { json(options, &sides).to_string() } else { table(options, &sides) });
    if let Some(plot) = plot {
        let all = sides.each_ref().map(Side::latencies);
        plot.draw(&options.load(), &[(a, &all[0]), (b, &all[1])])?;
    }
    let outcomes: Vec<&Outcome> = sides.iter().flat_map(|side| &side.rounds).collect();
    Ok(verdict(&outcomes))
}

impl Side<'_> {
    fn values(&self, figure: Figure) -> Vec<f64> {
        self.rounds.iter().map(figure).collect()
    }

    fn median(&self, figure: Figure) -> f64 {
        Spread::of(self.values(figure)).map_or(0.0, |spread| spread.median)
    }

    fn errors(&self) -> u64 {
        self.rounds.iter().map(|round| round.errors).sum()
    }

    /// Of all rounds together.
    fn latencies(&self) -> Histogram<u64> {
        let mut all = Outcome::new().latencies;
        for round in &self.rounds {
            all.add(&round.latencies).expect("they have the same bounds");
        }
        all
    }

    /// The keys of one measurement, each the median of the rounds; errors are their sum.
    fn json(&self, options: &Options) -> Value {
        let rounds: Vec<Value> = self.rounds.iter().map(|round| round.json(options)).collect();
        let mut object = Map::new();
        object.insert("address".to_owned(), self.address.into());
        for key in rounds.first().and_then(Value::as_object).into_iter().flat_map(Map::keys) {
            let values = rounds.iter().filter_map(|round| round[key].as_f64());
            object.insert(key.clone(), Spread::of(values).map(|spread| spread.median).into());
        }
        for key in ["connections", "size", "pipeline"] {
            object.insert(key.to_owned(), rounds[0][key].clone());
        }
        object.insert("errors".to_owned(), self.errors().into());
        Value::Object(object)
    }
}

fn json(options: &Options, sides: &[Side<'_>; 2]) -> Value {
    let mut ratios = Map::new();
    for (key, figure) in FIGURES {
        let spread = ratio(sides, figure)
            .map(|Spread { min, median, max }| json!({ "min": min, "median": median, "max": max }));
        ratios.insert(key.to_owned(), spread.into());
    }
    let mut report = Map::new();
    for side in sides {
        report.insert(side.key.to_owned(), side.json(options));
    }
    report.insert("ratios".to_owned(), ratios.into());
    report.insert("rounds".to_owned(), options.rounds().into());
    report.into()
}

/// A by B, in pairs.
fn ratio([a, b]: &[Side<'_>; 2], figure: Figure) -> Option<Spread> {
    Spread::of_ratios(&a.values(figure), &b.values(figure))
}

fn table(options: &Options, sides: &[Side<'_>; 2]) -> String {
    let mut text = String::new();
    let seconds = options.duration().as_secs_f64();
    for side in sides {
        let _ = writeln!(text, "{} is {}", side.letter, side.address);
    }
    let rounds = options.rounds();
    let _ = writeln!(text, "{}; {rounds} x {seconds} s each, A B A B ...\n", options.load());
    let _ = writeln!(text, "{:14}{:>12}{:>12}{:>12}{:>9}", "", "messages/s", "p50", "p99", "errors");
    for side in sides {
        let [rate, p50, p99] = FIGURES.map(|(_, figure)| side.median(figure));
        let time = |micros: f64| time((micros * 1e3) as u64);
        let _ = writeln!(
            text,
            "{:14}{:>12}{:>12}{:>12}{:>9}",
            format!("{}, median", side.letter),
            grouped(rate),
            time(p50),
            time(p99),
            side.errors()
        );
    }
    let ratios = FIGURES.map(|(_, figure)| ratio(sides, figure));
    for (row, name) in ["min", "median", "max"].into_iter().enumerate() {
        let [rate, p50, p99] = ratios.map(|spread| {
            let parts = spread.map(|spread| [spread.min, spread.median, spread.max]);
            parts.map_or("-".to_owned(), |parts| format!("{:.3}", parts[row]))
        });
        let _ = writeln!(text, "{:14}{rate:>12}{p50:>12}{p99:>12}", format!("A / B, {name}"));
    }
    text.truncate(text.trim_end().len());
    text
}
