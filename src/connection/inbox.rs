//! Bytes of one connection that were read and not yet delivered.

use crate::buffer::Pool;

/// A half message of up to this is copied in front of the next read; a longer one is read on in place.
pub(crate) const COPY_IN_MAX: usize = 16 * 1024;
/// How far memory may run ahead of what has arrived: so many times the bytes that are there.
const AHEAD: usize = 4;
/// Buffers up to this are not worth being swapped for smaller ones.
const KEPT_MIN: usize = 4 * 1024;

/// What is left of the input: half a message, or messages that a pause or a spent budget held back.
///
/// ```text
///   held: |....##########----------------|
///          start^     end^               ^len, all initialised
/// ```
///
/// Consumed by a cursor. A connection between messages holds nothing.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    /// Invariant: start <= end <= held.len().
    held: Vec<u8>,
    start: usize,
    end: usize,
    /// The codec has asked for at least so many bytes from `start`. Zero when it has not looked yet.
    need: usize,
    /// So many bytes are to be dropped as they come.
    skip: u64,
    /// The stream's offset of what comes next.
    offset: u64,
}

/// The held bytes, lent out while callbacks run. [`Inbox::put_back`] or [`Pool::give_input`] takes them in again.
#[derive(Debug)]
pub(crate) struct Lent {
    held: Vec<u8>,
    pub(crate) start: usize,
    end: usize,
}

impl Lent {
    /// All held bytes up to their end; the first `start` are consumed.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        &mut self.held[..self.end]
    }

    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.held
    }
}

impl Inbox {
    /// Bytes held.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// What this inbox holds, by capacity.
    #[inline]
    pub(crate) fn held(&self) -> usize {
        self.held.capacity()
    }

    /// Whether another look by the codec may find something without further bytes.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        !self.is_empty() && self.len() >= self.need
    }

    /// The codec looked and wants at least `need` bytes. What does not ask for more would be asked in vain.
    #[inline]
    pub(crate) fn wants(&mut self, need: usize) {
        self.need = need;
    }

    /// The codec was changed: whatever it had asked for no longer holds.
    pub(crate) fn forget_need(&mut self) {
        self.need = 0;
    }

    /// The stream's offset of the next byte to be looked at.
    #[inline]
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// `n` bytes were delivered.
    #[inline]
    pub(crate) fn consumed(&mut self, n: usize) {
        self.offset += n as u64;
    }

    pub(crate) fn skip(&mut self, n: u64) {
        self.skip = n;
    }

    /// How many of `available` bytes fall to what is being skipped.
    #[inline]
    pub(crate) fn take_skipped(&mut self, available: usize) -> usize {
        if self.skip == 0 {
            return 0;
        }
        let n = usize::try_from(self.skip).map_or(available, |skip| skip.min(available));
        self.skip -= n as u64;
        n
    }

    pub(crate) fn is_skipping(&self) -> bool {
        self.skip > 0
    }

    /// The bytes held, to be looked at and given up.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.held[self.start..self.end]
    }

    /// Lends the held bytes out.
    pub(crate) fn lend(&mut self) -> Lent {
        let lent = Lent { held: std::mem::take(&mut self.held), start: self.start, end: self.end };
        self.start = 0;
        self.end = 0;
        lent
    }

    /// Takes lent bytes in again. Memory goes back to the pool when they are all consumed, or when it is far larger than
    /// what is left: a few bytes must not pin the buffer of many.
    pub(crate) fn put_back(&mut self, lent: Lent, pool: &mut Pool) {
        debug_assert!(self.held.is_empty(), "nothing is held while it is lent");
        let left = lent.end - lent.start;
        if left == 0 {
            pool.give_input(lent.held);
        } else if left <= COPY_IN_MAX && lent.held.len() > (left * AHEAD).max(KEPT_MIN) {
            self.hold(&lent.held[lent.start..lent.end], pool);
            pool.give_input(lent.held);
        } else {
            (self.held, self.start, self.end) = (lent.held, lent.start, lent.end);
        }
    }

    /// Keeps a copy of what was left of a read, behind nothing.
    pub(crate) fn hold(&mut self, rest: &[u8], pool: &mut Pool) {
        debug_assert!(self.is_empty(), "what is held comes first");
        if rest.is_empty() {
            return;
        }
        let ahead = rest.len().saturating_mul(AHEAD);
        let wanted = if self.need > rest.len() && self.need <= ahead { self.need } else { rest.len() };
        self.held = pool.input(wanted);
        self.held[..rest.len()].copy_from_slice(rest);
        (self.start, self.end) = (0, rest.len());
    }

    /// Moves what is held to the front of `into`, and gives the memory back. Returns how many bytes that were.
    #[inline]
    pub(crate) fn move_into(&mut self, into: &mut [u8], pool: &mut Pool) -> usize {
        let len = self.len();
        if len > 0 {
            into[..len].copy_from_slice(&self.held[self.start..self.end]);
        }
        if !self.held.is_empty() {
            self.release(pool);
        }
        len
    }

    /// Room to read the message on in place: up to its end and no further when that is known, else as much again as has
    /// arrived. It grows with that, whatever the header claims: at most [`AHEAD`] times the bytes that are there.
    pub(crate) fn room(&mut self, pool: &mut Pool) -> &mut [u8] {
        let len = self.len();
        // A codec that looks for an end, such as that of a line, only knows that it needs more.
        let need = if self.need <= len + 1 { (2 * len).max(512) } else { self.need };
        if self.held.len() - self.start < need {
            if self.start > 0 && self.held.len() >= need {
                self.held.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, len);
            } else if self.end == self.held.len() || len.saturating_mul(AHEAD) >= need {
                let to = need.min(len.saturating_mul(AHEAD).max(512));
                let mut larger = pool.kept_input(need).unwrap_or_else(|| pool.input(to));
                larger[..len].copy_from_slice(&self.held[self.start..self.end]);
                pool.give_input(std::mem::replace(&mut self.held, larger));
                (self.start, self.end) = (0, len);
            }
        }
        let to = self.held.len().min(self.start + need);
        &mut self.held[self.end..to]
    }

    /// `n` bytes were read into the room.
    pub(crate) fn filled(&mut self, n: usize) {
        self.end += n;
    }

    /// Drops what is held and gives the memory back.
    pub(crate) fn release(&mut self, pool: &mut Pool) {
        pool.give_input(std::mem::take(&mut self.held));
        (self.start, self.end) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_follows_what_arrived_and_not_the_claim() {
        let mut pool = Pool::new(0);
        let mut inbox = Inbox::default();
        inbox.wants(100 << 20);
        inbox.hold(&[1; 100], &mut pool);
        assert!(inbox.held() <= 512);
        let mut arrived = 100;
        while arrived < 50_000 {
            let room = inbox.room(&mut pool).len().min(1_000);
            inbox.filled(room);
            arrived += room;
            assert!(inbox.held() <= (arrived * AHEAD).max(512), "{} held for {arrived}", inbox.held());
        }
    }

    #[test]
    fn a_message_whose_end_is_unknown_is_not_read_byte_by_byte() {
        let mut pool = Pool::new(1 << 24);
        let mut inbox = Inbox::default();
        inbox.hold(&[7; 20_000], &mut pool);
        let mut reads = 0;
        while inbox.len() < 1_000_000 {
            inbox.wants(inbox.len() + 1);
            let room = inbox.room(&mut pool).len();
            inbox.filled(room);
            assert!(inbox.held() <= inbox.len() * AHEAD);
            reads += 1;
        }
        assert!(reads < 10, "{reads}");
    }

    #[test]
    fn a_few_bytes_do_not_pin_the_buffer_of_many() {
        let mut pool = Pool::new(1 << 24);
        let mut inbox = Inbox::default();
        inbox.hold(&[7; 160_000], &mut pool);
        let mut lent = inbox.lend();
        lent.start = 159_997;
        inbox.put_back(lent, &mut pool);
        assert_eq!(inbox.bytes(), [7; 3]);
        assert!(inbox.held() <= KEPT_MIN, "{}", inbox.held());
    }

    #[test]
    fn room_ends_where_the_message_ends() {
        let mut pool = Pool::new(1 << 24);
        let mut inbox = Inbox::default();
        inbox.wants(20_000);
        inbox.hold(&[7; 19_000], &mut pool);
        assert_eq!(inbox.room(&mut pool).len(), 1_000);
        inbox.room(&mut pool).fill(8);
        inbox.filled(1_000);
        assert!(inbox.is_due());
        assert_eq!(inbox.bytes()[19_000..], [8; 1_000]);
    }

    #[test]
    fn skipping_may_go_beyond_what_has_arrived() {
        let mut inbox = Inbox::default();
        inbox.skip(10);
        assert_eq!(inbox.take_skipped(4), 4);
        assert_eq!(inbox.take_skipped(100), 6);
        assert_eq!(inbox.take_skipped(100), 0);
    }

    #[test]
    fn moving_out_returns_the_memory() {
        let mut pool = Pool::new(1 << 20);
        let mut inbox = Inbox::default();
        inbox.hold(b"half", &mut pool);
        let mut buffer = [0; 16];
        assert_eq!(inbox.move_into(&mut buffer, &mut pool), 4);
        assert_eq!(&buffer[..4], b"half");
        assert_eq!(inbox.held(), 0);
        assert!(pool.kept() > 0);
    }
}
