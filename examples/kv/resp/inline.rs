//! A line is split into words as a shell would, by the rules of redis.
//!
//! Blanks part words. In double quotes stand `\n`, `\r`, `\t`, `\b`, `\a`, `\xHH`, and any other byte behind a backslash for
//! itself; in single quotes only `\'`. A closing quote ends its word.

/// Splits `line` in place: the words without quotes are moved to its front, one directly behind the other. Returns where each
/// of them ends. `None` when a quote is not closed, or has more directly behind it.
pub(super) fn split(line: &mut [u8]) -> Option<Vec<usize>> {
    let mut ends = Vec::new();
    // What is written is never longer than what was read for it.
    let (mut read, mut written) = (0, 0);
    loop {
        while line.get(read).is_some_and(|byte| is_blank(*byte)) {
            read += 1;
        }
        if read == line.len() {
            return Some(ends);
        }
        loop {
            match line.get(read).copied() {
                // These end a word; vertical tabs and form feeds only stand before one, as in redis.
                None | Some(b' ' | b'\n' | b'\r' | b'\t') => break,
                Some(quote @ (b'"' | b'\'')) => {
                    (read, written) = unquote(line, quote, read + 1, written)?;
                    break;
                }
                Some(byte) => {
                    line[written] = byte;
                    (read, written) = (read + 1, written + 1);
                }
            }
        }
        ends.push(written);
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// What stands in quotes, from behind the opening one to behind the closing one.
fn unquote(line: &mut [u8], quote: u8, mut read: usize, mut written: usize) -> Option<(usize, usize)> {
    loop {
        let (byte, len) = match (quote, &line[read..]) {
            (_, []) => return None,
            (b'"', [b'\\', b'x', high, low, ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (16 * hex(*high) + hex(*low), 4)
            }
            (b'"', [b'\\', escaped, ..]) => (escape(*escaped), 2),
            (b'\'', [b'\\', b'\'', ..]) => (b'\'', 2),
            (_, [byte, rest @ ..]) if *byte == quote => {
                let ends = rest.first().is_none_or(|byte| is_blank(*byte));
                return ends.then_some((read + 1, written));
            }
            (_, [byte, ..]) => (*byte, 1),
        };
        line[written] = byte;
        (read, written) = (read + len, written + 1);
    }
}

fn escape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Option<Vec<Vec<u8>>> {
        let mut line = line.as_bytes().to_vec();
        let ends = split(&mut line)?;
        let starts = [0].into_iter().chain(ends.iter().copied());
        Some(starts.zip(&ends).map(|(start, end)| line[start..*end].to_vec()).collect())
    }

    #[track_caller]
    fn expect(line: &str, expected: &[&[u8]]) {
        assert_eq!(words(line).as_deref(), Some(&*expected.iter().map(|w| w.to_vec()).collect::<Vec<_>>()));
    }

    #[test]
    fn blanks_part_words() {
        expect("", &[]);
        expect("   \t ", &[]);
        expect("PING", &[b"PING"]);
        expect("  SET  key\tvalue  ", &[b"SET", b"key", b"value"]);
        expect("a\x0bb \x0b\x0cc", &[b"a\x0bb", b"c"]);
    }

    #[test]
    fn quotes_keep_a_word_together() {
        expect(r#"SET k "two words""#, &[b"SET", b"k", b"two words"]);
        expect(r"SET k 'two words'", &[b"SET", b"k", b"two words"]);
        expect(r#""" '' x"#, &[b"", b"", b"x"]);
        expect(r#"a"b c" d"#, &[b"ab c", b"d"]);
        expect(r#""it's" 'say "so"'"#, &[b"it's", br#"say "so""#]);
    }

    #[test]
    fn what_is_escaped_is_one_byte() {
        expect(r#""\n\r\t\b\a\\\"\q""#, &[b"\n\r\t\x08\x07\\\"q"]);
        expect(r#""\x00\xfF\x4""#, &[b"\x00\xffx4"]);
        expect(r"'\n\x41\''", &[br"\n\x41'"]);
        expect(r"a\nb", &[br"a\nb"]);
    }

    #[test]
    fn a_quote_that_is_open_or_not_the_end_is_refused() {
        for line in [r#"""#, r#"a "b"#, "'", r#""a"b"#, "'a'b", r#""a\""#, r#""\"#, r#"x"y"z"#, r#"'a'"b""#] {
            assert_eq!(words(line), None, "{line}");
        }
    }
}
