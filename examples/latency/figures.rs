//! Numbers: what many rounds come to, and how a person reads them.

/// The lowest, the one in the middle, and the highest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of numbers, of which those that are none (0/0, or over 0) are left out. `None` when there is no other.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut sorted: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Some(Spread { min, median: low + (high - low) / 2.0, max })
    }

    /// Of the ratios of pairs: what was measured one after the other is compared, so that a machine that is slower for a
    /// while is slower for both.
    pub(crate) fn of_ratios(ones: &[f64], others: &[f64]) -> Option<Spread> {
        Spread::of(ones.iter().zip(others).map(|(one, other)| one / other))
    }
}

/// A whole number with its thousands apart: `1,234,567`.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time in the unit in which it has one to three digits before the point.
pub(crate) fn time(nanos: u64) -> String {
    let micros = nanos as f64 / 1e3;
    match nanos {
        0..10_000 => format!("{micros:.2} us"),
        10_000..1_000_000 => format!("{micros:.1} us"),
        1_000_000..1_000_000_000 => format!("{:.2} ms", micros / 1e3),
        _ => format!("{:.2} s", micros / 1e6),
    }
}

/// `1 message`, `2 messages`.
pub(crate) fn plural(number: u32, what: &str) -> String {
    format!("{} {what}{}", grouped(number.into()), if number == 1 { "" } else { "s" })
}

// Run by `tests/programs`: cargo runs no tests of examples.
#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_median_is_in_the_middle_and_between_two_when_they_are_even() {
        let spread = |values: &[f64]| Spread::of(values.iter().copied());
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some(Spread { min: 1.0, median: 2.0, max: 3.0 }));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), Some(Spread { min: 1.0, median: 2.5, max: 4.0 }));
        assert_eq!(spread(&[7.0]), Some(Spread { min: 7.0, median: 7.0, max: 7.0 }));
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn ratios_are_those_of_pairs_and_one_over_nothing_is_none() {
        let spread = Spread::of_ratios(&[1.0, 20.0, 9.0], &[2.0, 10.0, 9.0]);
        assert_eq!(spread, Some(Spread { min: 0.5, median: 1.0, max: 2.0 }));
        let spread = Spread::of_ratios(&[1.0, 0.0, 3.0], &[0.0, 0.0, 2.0]);
        assert_eq!(spread, Some(Spread { min: 1.5, median: 1.5, max: 1.5 }));
        assert_eq!(Spread::of_ratios(&[1.0], &[0.0]), None);
    }

    #[test]
    fn numbers_are_as_a_person_writes_them() {
        assert_eq!(
            ["0", "999", "1,000", "1,234,567"],
            [0.4, 999.0, 999.7, 1_234_567.0].map(grouped).as_slice()
        );
        assert_eq!(
            ["0.00 us", "9.99 us", "41.2 us", "1.50 ms", "300.00 ms", "5.00 s"],
            [0, 9_990, 41_234, 1_500_000, 300_000_000, 5_000_000_000].map(time).as_slice()
        );
        assert_eq!(plural(1, "message"), "1 message");
        assert_eq!(plural(2000, "message"), "2,000 messages");
    }

    proptest! {
        #[test]
        fn a_spread_is_in_order_and_holds_half_on_each_side(
            values in prop::collection::vec(-1e9..1e9_f64, 1..50)
        ) {
            let spread = Spread::of(values.iter().copied()).expect("there are numbers");
            prop_assert!(spread.min <= spread.median && spread.median <= spread.max);
            prop_assert!(values.contains(&spread.min) && values.contains(&spread.max));
            let below = values.iter().filter(|value| **value < spread.median).count();
            let above = values.iter().filter(|value| **value > spread.median).count();
            prop_assert!(below <= values.len() / 2 && above <= values.len() / 2);
        }

        #[test]
        fn a_grouped_number_is_the_number(number in 0..u64::from(u32::MAX)) {
            let text = grouped(number as f64);
            prop_assert_eq!(text.replace(',', ""), number.to_string());
            prop_assert!(text.rsplit(',').skip(1).all(|part| (1..=3).contains(&part.len())));
            prop_assert!(text.rsplit(',').count() == 1 || text.rsplit(',').next().is_some_and(|last| last.len() == 3));
        }
    }
}
