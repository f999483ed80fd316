//! Numbers as a person reads them.

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
        fn a_grouped_number_is_the_number(number in 0..u64::from(u32::MAX)) {
            let text = grouped(number as f64);
            prop_assert_eq!(text.replace(',', ""), number.to_string());
            prop_assert!(text.rsplit(',').skip(1).all(|part| (1..=3).contains(&part.len())));
            prop_assert!(text.rsplit(',').count() == 1 || text.rsplit(',').next().is_some_and(|last| last.len() == 3));
        }
    }
}
