//! Where a request ends.

use std::fmt;

use mainspring::codec::{FrameError, Scan};
use memchr::memchr;

use super::BULK_MAX;
use super::number::{Front, front};

/// The longest line, without its end.
const INLINE_MAX: u64 = 64 << 10;
/// The most arguments that a header may claim. The bytes that each of them takes at least are held against the longest
/// request as well.
const COUNT_MAX: i64 = i32::MAX as i64;
/// The shortest argument, `$0\r\n\r\n`.
const BULK_MIN: u64 = 6;

/// What is wrong with a request, in the words of redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Complaint {
    /// The number behind `*` is none, or too large.
    Count,
    /// The number behind `$` is none, or below zero.
    Length,
    /// An argument has no `$` before it, but this. An array in an array is that too.
    NoBulk(u8),
    /// No CR LF behind an argument, where redis takes any two bytes.
    NoEnd,
    /// A line with an open quote, or with more directly behind a closed one.
    Quotes,
    /// What stands behind `*` claims more than may come.
    CountTooLong(u64, u64),
    /// What stands behind `$` claims more than may come.
    LengthTooLong(u64, u64),
    /// A line longer than the longest.
    LineTooLong(u64, u64),
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Complaint::Count | Complaint::CountTooLong(..) => f.write_str("invalid multibulk length"),
            Complaint::Length | Complaint::LengthTooLong(..) => f.write_str("invalid bulk length"),
            Complaint::NoBulk(got) if got.is_ascii() => write!(f, "expected '$', got '{}'", char::from(*got)),
            Complaint::NoBulk(got) => write!(f, "expected '$', got '{}'", got.escape_ascii()),
            Complaint::NoEnd => f.write_str("expected CRLF behind a bulk string"),
            Complaint::Quotes => f.write_str("unbalanced quotes in request"),
            Complaint::LineTooLong(..) => f.write_str("too big inline request"),
        }
    }
}

/// The same for those who look at the server from its own side.
impl From<Complaint> for FrameError {
    fn from(complaint: Complaint) -> FrameError {
        FrameError::malformed(match complaint {
            Complaint::CountTooLong(claimed, limit)
            | Complaint::LengthTooLong(claimed, limit)
            | Complaint::LineTooLong(claimed, limit) => return FrameError::too_long(claimed, limit),
            Complaint::Count => "no length of an array",
            Complaint::Length => "no length of a bulk string",
            Complaint::NoBulk(_) => "an argument is no bulk string",
            Complaint::NoEnd => "a bulk string does not end with CRLF",
            Complaint::Quotes => "unbalanced quotes",
        })
    }
}

/// Looks for the end of a request, and remembers how far it has come: however many arguments arrive one by one, each is
/// looked at once.
#[derive(Debug)]
pub(super) struct Scanner {
    max: u64,
    /// So many bytes of the request are known to be right: up to an argument, or of a line without its end.
    known: usize,
    /// Arguments still to come behind those. Zero: the header is still to come, or it is a line.
    left: u32,
}

impl Scanner {
    pub(super) fn new(max: u64) -> Scanner {
        Scanner { max, known: 0, left: 0 }
    }

    pub(super) fn max_frame(&self) -> u64 {
        self.max
    }

    #[inline]
    pub(super) fn scan(&mut self, input: &[u8]) -> Result<Scan, Complaint> {
        if self.left == 0 {
            match input.first() {
                None => return Ok(Scan::Need(1)),
                Some(b'*') => {}
                Some(_) => return self.scan_line(input),
            }
            match front(&input[1..]) {
                Front::Unfinished => return Ok(Scan::Need(input.len() + 1)),
                Front::Other => return Err(Complaint::Count),
                // Nothing is asked, and nothing answered.
                Front::Number(..=0, width) => return Ok(Scan::Frame(1 + width)),
                Front::Number(count, _) if count > COUNT_MAX => return Err(Complaint::Count),
                Front::Number(count, width) => {
                    let least = (1 + width) as u64 + count as u64 * BULK_MIN;
                    if least > self.max {
                        return Err(Complaint::CountTooLong(least, self.max));
                    }
                    (self.known, self.left) = (1 + width, count as u32);
                }
            }
        }
        self.scan_arguments(input)
    }

    #[inline]
    fn scan_arguments(&mut self, input: &[u8]) -> Result<Scan, Complaint> {
        let (mut known, mut left) = (self.known, self.left);
        while left > 0 {
            let need = match &input[known..] {
                [] => known + 1,
                [b'$', header @ ..] => match front(header) {
                    Front::Unfinished => input.len() + 1,
                    Front::Other | Front::Number(..=-1, _) => return Err(Complaint::Length),
                    Front::Number(len, width) => {
                        let len = len as u64;
                        let start = (known + 1 + width) as u64;
                        let least =
                            start.saturating_add(len).saturating_add(2 + u64::from(left - 1) * BULK_MIN);
                        if len > BULK_MAX || least > self.max {
                            return Err(Complaint::LengthTooLong(least, self.max.min(BULK_MAX)));
                        }
                        // It fits: both are below the maximum of a length, or the machine's words are shorter than that.
                        let end = usize::try_from(start + len + 2).map_err(|_| Complaint::Length)?;
                        match input.get(end - 2..end) {
                            Some(b"\r\n") => {
                                (known, left) = (end, left - 1);
                                continue;
                            }
                            Some(_) => return Err(Complaint::NoEnd),
                            None => end,
                        }
                    }
                },
                [other, ..] => return Err(Complaint::NoBulk(*other)),
            };
            (self.known, self.left) = (known, left);
            return Ok(Scan::Need(need));
        }
        (self.known, self.left) = (0, 0);
        Ok(Scan::Frame(known))
    }

    fn scan_line(&mut self, input: &[u8]) -> Result<Scan, Complaint> {
        let max = self.max.min(INLINE_MAX);
        let lf = memchr(b'\n', &input[self.known..]).map(|at| self.known + at);
        let line = &input[..lf.unwrap_or(input.len())];
        let len = line.strip_suffix(b"\r").unwrap_or(line).len() as u64;
        if len > max {
            return Err(Complaint::LineTooLong(len, max));
        }
        if let Some(lf) = lf {
            self.known = 0;
            return Ok(Scan::Frame(lf + 1));
        }
        self.known = input.len();
        Ok(Scan::Need(input.len() + 1))
    }
}
