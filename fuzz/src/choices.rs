//! The input of a target, taken byte by byte. When it is used up, every choice is the first one.

pub(crate) struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Choices<'a> {
        Choices(data)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }

    pub(crate) fn yes(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub(crate) fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub(crate) fn number(&mut self) -> u64 {
        let mut wide = [0; 8];
        let bytes = self.take(8);
        wide[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(wide)
    }

    /// A maximum: mostly a small one, which inputs reach.
    pub(crate) fn maximum(&mut self) -> u64 {
        match self.byte() {
            255 => self.number(),
            254 => 100 << 20,
            small => u64::from(small % 40),
        }
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }
}
