//! Decimal numbers, in the one form that redis takes and gives: `0`, `17`, `-3`; never `+1`, `01` or `-0`.

/// The longest number there is, `-9223372036854775808`.
const LEN_MAX: usize = 20;

/// The number that `text` is, if it is one from first to last byte.
pub(crate) fn whole(text: &[u8]) -> Option<i64> {
    let (negative, number) = match text {
        [b'-', number @ ..] => (true, number),
        number => (false, number),
    };
    match number {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if text.len() <= LEN_MAX => {}
        _ => return None,
    }
    // Counted downwards, because there is one more below zero than above.
    let below = number.iter().try_fold(0i64, |value, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value.checked_mul(10)?.checked_sub(digit.into())
    })?;
    if negative { Some(below) } else { below.checked_neg() }
}

/// The digits of a number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Digits {
    /// Those from `start` on.
    bytes: [u8; LEN_MAX],
    start: usize,
}

impl Digits {
    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

/// The digits of `number`, without an allocation.
#[inline]
pub(crate) fn digits(number: i64) -> Digits {
    let mut digits = Digits { bytes: [0; LEN_MAX], start: LEN_MAX };
    let mut rest = number.unsigned_abs();
    loop {
        digits.start -= 1;
        digits.bytes[digits.start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        digits.start -= 1;
        digits.bytes[digits.start] = b'-';
    }
    digits
}

/// What stands at the front of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Front {
    /// This number, in so many bytes, its CR LF among them.
    Number(i64, usize),
    /// It may become one.
    Unfinished,
    /// It is none.
    Other,
}

/// Reads the number of a header, and the CR LF behind it.
#[inline]
pub(super) fn front(bytes: &[u8]) -> Front {
    // Nearly all of them have one digit or two.
    match bytes {
        [a @ b'0'..=b'9', b'\r', b'\n', ..] => return Front::Number((a - b'0').into(), 3),
        [a @ b'1'..=b'9', b @ b'0'..=b'9', b'\r', b'\n', ..] => {
            return Front::Number((10 * (a - b'0') + (b - b'0')).into(), 4);
        }
        _ => {}
    }
    longer_front(bytes)
}

fn longer_front(bytes: &[u8]) -> Front {
    let len = bytes.iter().take(LEN_MAX + 1).take_while(|b| b.is_ascii_digit() || **b == b'-').count();
    let text = &bytes[..len];
    match (whole(text), &bytes[len..]) {
        // What is no number yet may become one only with more digits: `-`, or nothing at all.
        (None, []) if text.is_empty() || text == b"-" => Front::Unfinished,
        (None, _) => Front::Other,
        (Some(_), [] | [b'\r']) => Front::Unfinished,
        (Some(number), [b'\r', b'\n', ..]) => Front::Number(number, len + 2),
        (Some(_), _) => Front::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_form() {
        for number in [0, 1, -1, 9, 10, 99, 100, -100, 12_345, i64::MAX, i64::MIN] {
            let text = number.to_string();
            assert_eq!(whole(text.as_bytes()), Some(number));
            assert_eq!(digits(number).as_bytes(), text.as_bytes());
        }
        let none = [
            "",
            "-",
            "+1",
            "01",
            "00",
            "-0",
            "-01",
            " 1",
            "1 ",
            "1.0",
            "--1",
            "1-",
            "abc",
            "9223372036854775808",
            "-9223372036854775809",
            "99999999999999999999",
            "100000000000000000000000000000000",
        ];
        for text in none {
            assert_eq!(whole(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn a_header_is_read_at_its_front() {
        for number in [0, 3, 10, 99, 100, 4_096, -1, -12, 536_870_912, i64::MAX, i64::MIN] {
            let wire = format!("{number}\r\nrest");
            let end = wire.len() - 4;
            assert_eq!(front(wire.as_bytes()), Front::Number(number, end));
            for cut in 0..end {
                assert_eq!(front(&wire.as_bytes()[..cut]), Front::Unfinished, "{:?}", &wire[..cut]);
            }
        }
        let other = [
            "\r\n",
            "x\r\n",
            "1x\r\n",
            "+1\r\n",
            "01\r\n",
            "-0",
            "1\rx",
            "1\n",
            " 1\r\n",
            "1 \r\n",
            "9223372036854775808",
            "--",
            "-\r",
        ];
        for wire in other {
            assert_eq!(front(wire.as_bytes()), Front::Other, "{wire:?}");
        }
    }

    #[test]
    fn a_number_without_an_end_is_none_before_it_is_long() {
        assert_eq!(front(&[b'1'; 19]), Front::Unfinished);
        assert_eq!(front(&[b'1'; 20]), Front::Other);
        assert_eq!(front(&[b'1'; 100_000]), Front::Other);
    }
}
