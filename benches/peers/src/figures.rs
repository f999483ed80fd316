//! From measurements to ratios, and to who is ahead. Pure.

use crate::load::Measured;
use crate::scenario::Scenario;

/// Medians within so much of each other are called level.
pub(crate) const NOISE: f64 = 0.03;

/// One server under one load, once: what was measured, or why nothing was.
pub(crate) type Round = Result<Measured, String>;

/// All rounds of a server in a scenario.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) server: String,
    pub(crate) rounds: Vec<Round>,
}

/// A scenario, with mainspring as its first row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) scenario: Scenario,
    pub(crate) rows: Vec<Row>,
    /// The largest share of a core that other processes took from a round that counts.
    pub(crate) foreign: f64,
}

impl Outcome {
    pub(crate) fn mainspring(&self) -> &Row {
        &self.rows[0]
    }

    pub(crate) fn peers(&self) -> &[Row] {
        &self.rows[1..]
    }
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Metric {
    PerSecond,
    P50,
    P99,
    Cpu,
}

impl Metric {
    pub(crate) const ALL: [Metric; 4] = [Metric::Cpu, Metric::PerSecond, Metric::P50, Metric::P99];

    pub(crate) fn of(self, measured: &Measured) -> Option<f64> {
        match self {
            Metric::PerSecond => Some(measured.per_second),
            Metric::P50 => Some(measured.p50_us),
            Metric::P99 => Some(measured.p99_us),
            Metric::Cpu => measured.server_cpu_us,
        }
    }

    pub(crate) fn more_is_better(self) -> bool {
        self == Metric::PerSecond
    }

    pub(crate) fn text(self) -> &'static str {
        match self {
            Metric::PerSecond => "messages a second",
            Metric::P50 => "p50",
            Metric::P99 => "p99",
            Metric::Cpu => "server CPU a message",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

/// None of nothing.
pub(crate) fn spread(mut values: Vec<f64>) -> Option<Spread> {
    values.sort_by(f64::total_cmp);
    let (min, max) = (*values.first()?, *values.last()?);
    let middle = values.len() / 2;
    let median =
        if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
    Some(Spread { min, median, max })
}

/// The median of what a server's rounds say of themselves.
pub(crate) fn median(row: &Row, of: impl Fn(&Measured) -> Option<f64>) -> Option<f64> {
    spread(row.rounds.iter().flatten().filter_map(of).collect()).map(|spread| spread.median)
}

/// `row` to `base`, each round by itself, over the rounds that both have.
pub(crate) fn ratios(row: &Row, base: &Row, metric: Metric) -> Option<Spread> {
    let pairs = row.rounds.iter().zip(&base.rounds);
    let ratio = |(a, b): (&Round, &Round)| {
        let (a, b) = (metric.of(a.as_ref().ok()?)?, metric.of(b.as_ref().ok()?)?);
        (b > 0.0).then_some(a / b)
    };
    spread(pairs.filter_map(ratio).collect())
}

/// How mainspring stands to one peer, in one scenario, by one metric.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Comparison<'a> {
    pub(crate) scenario: &'a str,
    pub(crate) peer: &'a str,
    pub(crate) metric: Metric,
    /// The peer's to mainspring's.
    pub(crate) ratio: Spread,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Ahead,
    Level,
    Behind,
}

impl Comparison<'_> {
    /// Of mainspring.
    pub(crate) fn standing(&self) -> Standing {
        let better = self.peer_better(self.ratio.median);
        if better > 1.0 + NOISE {
            Standing::Behind
        } else if better < 1.0 / (1.0 + NOISE) {
            Standing::Ahead
        } else {
            Standing::Level
        }
    }

    /// How many times better the peer is, whichever way the metric goes.
    pub(crate) fn peer_better(&self, ratio: f64) -> f64 {
        if self.metric.more_is_better() { ratio } else { 1.0 / ratio }
    }

    /// Every round says the same.
    pub(crate) fn unanimous(&self) -> bool {
        self.ratio.min > 1.0 || self.ratio.max < 1.0
    }
}

pub(crate) fn comparisons(outcomes: &[Outcome]) -> Vec<Comparison<'_>> {
    let mut all = Vec::new();
    for outcome in outcomes {
        for row in outcome.peers() {
            for metric in Metric::ALL {
                if let Some(ratio) = ratios(row, outcome.mainspring(), metric) {
                    all.push(Comparison {
                        scenario: &outcome.scenario.name,
                        peer: &row.server,
                        metric,
                        ratio,
                    });
                }
            }
        }
    }
    all
}

/// Where mainspring is behind, the worst first.
pub(crate) fn losses<'a>(all: &'a [Comparison<'a>]) -> Vec<&'a Comparison<'a>> {
    let mut losses = all.iter().filter(|one| one.standing() == Standing::Behind).collect::<Vec<_>>();
    losses.sort_by(|a, b| b.peer_better(b.ratio.median).total_cmp(&a.peer_better(a.ratio.median)));
    losses
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn measured(per_second: f64, p50_us: f64, server_cpu_us: f64) -> Round {
        Ok(Measured {
            per_second,
            p50_us,
            p99_us: 2.0 * p50_us,
            server_cpu_us: Some(server_cpu_us),
            server_share: Some(0.5),
            generator_share: Some(1.0),
            generator_seconds: 1.0,
        })
    }

    pub(crate) fn row(server: &str, rounds: &[Round]) -> Row {
        Row { server: server.to_owned(), rounds: rounds.to_vec() }
    }

    /// tokio is slower; mio has a better p50, and fails once.
    pub(crate) fn outcome() -> Outcome {
        let ours = [measured(100.0, 10.0, 1.0), measured(200.0, 20.0, 2.0), measured(100.0, 10.0, 1.0)];
        let tokio = [measured(50.0, 20.0, 1.5), measured(50.0, 20.0, 5.0), measured(60.0, 10.0, 1.6)];
        let mio =
            [measured(101.0, 5.0, 1.0), Err("a reply is | missing".to_owned()), measured(100.0, 8.0, 0.99)];
        Outcome {
            scenario: Scenario::all()[1].clone(),
            rows: vec![row("mainspring", &ours), row("tokio", &tokio), row("mio", &mio)],
            foreign: 0.0,
        }
    }

    #[test]
    fn the_median_is_the_middle_or_between_the_two() {
        let odd = spread(vec![3.0, 1.0, 2.0]).unwrap();
        assert_eq!(odd, Spread { min: 1.0, median: 2.0, max: 3.0 });
        assert_eq!(spread(vec![4.0, 1.0, 2.0, 100.0]).unwrap().median, 3.0);
        assert_eq!(spread(vec![7.0]).unwrap(), Spread { min: 7.0, median: 7.0, max: 7.0 });
        assert_eq!(spread(vec![]), None);
    }

    #[test]
    fn ratios_are_taken_round_by_round_not_of_medians() {
        let outcome = outcome();
        let ratio = ratios(&outcome.rows[1], outcome.mainspring(), Metric::PerSecond).unwrap();
        assert_eq!(ratio, Spread { min: 0.25, median: 0.5, max: 0.6 });
    }

    #[test]
    fn a_failed_round_counts_for_nobody() {
        let outcome = outcome();
        let ratio = ratios(&outcome.rows[2], outcome.mainspring(), Metric::P50).unwrap();
        assert_eq!((ratio.min, ratio.max), (0.5, 0.8));
        let all_failed = row("x", &[Err("no".to_owned())]);
        assert_eq!(ratios(&all_failed, outcome.mainspring(), Metric::P50), None);
    }

    #[test]
    fn less_of_a_metric_may_be_better() {
        let comparison = |metric, median| Comparison {
            scenario: "p1",
            peer: "x",
            metric,
            ratio: Spread { min: median, median, max: median },
        };
        assert_eq!(comparison(Metric::Cpu, 1.1).standing(), Standing::Ahead);
        assert_eq!(comparison(Metric::PerSecond, 1.1).standing(), Standing::Behind);
        assert_eq!(comparison(Metric::P99, 0.9).standing(), Standing::Behind);
        for within in [0.98, 1.0, 1.02] {
            assert_eq!(comparison(Metric::P50, within).standing(), Standing::Level);
        }
    }

    #[test]
    fn losses_are_found_and_the_worst_comes_first() {
        let outcomes = [outcome()];
        let all = comparisons(&outcomes);
        let losses = losses(&all);
        assert_eq!(all.len(), 8);
        assert_eq!(
            losses.iter().map(|loss| (loss.peer, loss.metric)).collect::<Vec<_>>(),
            [("mio", Metric::P50), ("mio", Metric::P99)]
        );
        assert!(losses[0].unanimous());
    }
}
