//! A strict reader of the text that Prometheus reads: it panics where the text breaks the format or the conventions.
#![allow(dead_code, reason = "each test file uses its own part of it")]

use std::collections::{BTreeMap, BTreeSet};

/// One sample: its name, its labels in their order, its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) value: f64,
}

#[derive(Debug, Default)]
pub(crate) struct Page {
    /// By the name of the metric: what type it is.
    types: BTreeMap<String, String>,
    pub(crate) samples: Vec<Sample>,
}

impl Sample {
    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|label| label.0 == name).map(|label| &*label.1)
    }

    fn without_le(&self) -> Vec<(String, String)> {
        self.labels.iter().filter(|label| label.0 != "le").cloned().collect()
    }
}

impl Page {
    #[track_caller]
    pub(crate) fn read(text: &str) -> Page {
        assert!(text.ends_with('\n'), "the last line has an end: {text:?}");
        let mut page = Page::default();
        let mut helped = BTreeSet::new();
        let mut current = String::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').expect("a name and its help");
                assert!(helped.insert(name.to_owned()), "{name} is described twice");
                assert!(help.ends_with('.') && help.len() > 10, "{line}");
                assert!(is_name(name), "{name}");
                current = name.to_owned();
            } else if let Some(told) = line.strip_prefix("# TYPE ") {
                let (name, kind) = told.split_once(' ').expect("a name and its type");
                assert_eq!(name, current, "HELP, then TYPE, of the same");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                page.types.insert(name.to_owned(), kind.to_owned());
            } else {
                let sample = sample(line);
                let kind = page.types.get(&current).expect("what it is comes before its samples");
                let suffixes: &[&str] =
                    if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                let rest = sample.name.strip_prefix(&current);
                assert!(rest.is_some_and(|rest| suffixes.contains(&rest)), "{line} belongs to {current}");
                assert!(sample.value >= 0.0 && sample.value.is_finite(), "{line}");
                let same = |other: &&Sample| other.name == sample.name && other.labels == sample.labels;
                assert_eq!(page.samples.iter().find(same), None, "{line} is there twice");
                page.samples.push(sample);
            }
        }
        assert_eq!(helped.len(), page.types.len(), "each has a type");
        page.check_histograms();
        page
    }

    /// Cumulative, none falls, the last one is `+Inf` and as much as the count.
    fn check_histograms(&self) {
        for name in self.types.iter().filter(|kind| *kind.1 == "histogram").map(|kind| kind.0) {
            assert!(name.ends_with("_seconds"), "{name} is measured in a base unit");
            let counts: Vec<_> =
                self.samples.iter().filter(|sample| sample.name == format!("{name}_count")).collect();
            for count in counts {
                let mine = |sample: &&Sample| sample.without_le() == count.labels;
                let of = |suffix: &str| {
                    let whole = format!("{name}{suffix}");
                    self.samples.iter().filter(mine).filter(|sample| sample.name == whole).collect::<Vec<_>>()
                };
                let buckets = of("_bucket");
                let bounds: Vec<f64> = buckets
                    .iter()
                    .map(|bucket| bucket.label("le").expect("a bucket has a bound"))
                    .map(|le| if le == "+Inf" { f64::INFINITY } else { le.parse().expect("a number") })
                    .collect();
                assert!(bounds.len() > 5 && bounds.windows(2).all(|pair| pair[0] < pair[1]), "{bounds:?}");
                assert!(buckets.windows(2).all(|pair| pair[0].value <= pair[1].value), "{buckets:?}");
                let last = buckets.last().expect("there are buckets");
                assert_eq!((last.label("le"), last.value), (Some("+Inf"), count.value));
                let sums = of("_sum");
                assert_eq!(sums.len(), 1, "{name} has one sum for {:?}", count.labels);
                assert_eq!(sums[0].value > 0.0, count.value > 0.0, "{sums:?} of {count:?}");
            }
        }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.types.keys()
    }

    /// The values of all samples of a name that have this label, or of all when that is empty.
    pub(crate) fn sum(&self, name: &str, label: (&str, &str)) -> f64 {
        let of = self.samples.iter().filter(|sample| {
            sample.name == name && (label.0.is_empty() || sample.label(label.0) == Some(label.1))
        });
        of.map(|sample| sample.value).sum()
    }

    /// The one sample of a name without labels.
    #[track_caller]
    pub(crate) fn one(&self, name: &str) -> f64 {
        let mut of = self.samples.iter().filter(|sample| sample.name == name);
        let first = of.next().unwrap_or_else(|| panic!("{name} is there"));
        assert!(of.next().is_none() && first.labels.is_empty(), "{name} is there once, without a label");
        first.value
    }
}

/// Ours, in lower case, with no two underscores in a row.
fn is_name(name: &str) -> bool {
    name.strip_prefix("mainspring_").is_some_and(|rest| {
        rest.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            && !rest.contains("__")
            && !rest.starts_with('_')
            && !rest.ends_with('_')
    })
}

#[track_caller]
fn sample(line: &str) -> Sample {
    let (what, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("a sample and its value: {line:?}"));
    let (name, labels) = match what.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}').expect("the labels end")),
        None => (what, ""),
    };
    let label = |label: &str| {
        let (name, value) = label.split_once('=').expect("a label has a value");
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).expect("in quotes");
        assert!(!value.contains(['"', '\\']) && !value.is_empty(), "{line}");
        (name.to_owned(), value.to_owned())
    };
    let labels = labels.split(',').filter(|_| !labels.is_empty()).map(label).collect();
    Sample { name: name.to_owned(), labels, value: value.parse().expect("a number") }
}
