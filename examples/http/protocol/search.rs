//! When another look is worth its while.

use memchr::memchr_iter;

/// Lines that end with an empty one, of which a part has arrived. `httparse` reads them from their beginning each time, which
/// would be a square of their length for a client that sends byte by byte. So it is asked when the end is there, and when
/// twice as much is there as last time, so that nonsense is not waited for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Search {
    /// No end begins before this place.
    looked: usize,
    /// So much was there when it was read the last time.
    read: usize,
}

impl Search {
    /// Whether to read them now. `lines` are the same as the last time, and more behind them.
    pub(super) fn is_due(&mut self, lines: &[u8], limit: usize) -> bool {
        let due = lines.len() >= 2 * self.read || lines.len() >= limit || self.finds_end(lines);
        if due {
            self.read = lines.len();
        }
        due
    }

    pub(super) fn forget(&mut self) {
        self.read = 0;
    }

    /// Whether there is an LF with an empty line behind it.
    fn finds_end(&mut self, lines: &[u8]) -> bool {
        let from = self.looked.min(lines.len());
        for at in memchr_iter(b'\n', &lines[from..]).map(|at| from + at) {
            match &lines[at + 1..] {
                [b'\n', ..] | [b'\r', b'\n', ..] => return true,
                // What follows has not arrived.
                [] | [b'\r'] => {
                    self.looked = at;
                    return false;
                }
                _ => {}
            }
        }
        self.looked = lines.len();
        false
    }
}
