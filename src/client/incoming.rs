//! Messages out of bytes, for the one stream of a client. Pure: it is given bytes and lends frames.

use crate::codec::{Codec, FrameError, Scan};

/// The size of the buffer while no longer message needs more: dozens of small messages come with one read.
const BUFFER: usize = 32 * 1024;
/// How far memory may run ahead of what has arrived: so many times the bytes that are there.
const AHEAD: usize = 4;
/// A larger buffer is given up as soon as it is empty: one long message must not hold its memory for ever.
const KEPT_MAX: usize = 1024 * 1024;

/// The input of a stream, consumed by a cursor.
///
/// ```text
///   |......##########----------------|
///    start^     end^                 ^buffer.len(), all initialised
/// ```
///
/// Frames are lent from where they were read to: nothing is copied but the rest of the input when it moves to the front,
/// or to a larger buffer. Before the first read it holds nothing.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    buffer: Vec<u8>,
    /// Invariant: start <= end <= buffer.len().
    start: usize,
    end: usize,
    /// The codec has asked for at least so many bytes from `start`. Zero when it has not looked yet.
    need: usize,
    /// So many bytes are to be dropped as they come.
    skip: u64,
    /// The stream's offset of `start`.
    offset: u64,
}

impl Incoming {
    /// The length of the frame at the front, if it is whole. [`take`](Incoming::take) follows.
    pub(super) fn next_frame<C: Codec>(&mut self, codec: &mut C) -> Result<Option<usize>, FrameError> {
        loop {
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(self.end - self.start);
            self.skip -= skipped as u64;
            self.consume(skipped);
            let rest = &self.buffer[self.start..self.end];
            if rest.is_empty() || rest.len() < self.need {
                return Ok(None);
            }
            match codec.scan(rest).map_err(|error| error.at(self.offset))? {
                Scan::Frame(0) | Scan::Skip(0) => {
                    let error = FrameError::malformed("the codec found a frame without bytes");
                    return Err(error.at(self.offset));
                }
                Scan::Frame(len) if len <= rest.len() => return Ok(Some(len)),
                Scan::Frame(need) | Scan::Need(need) => {
                    // Who asks for no more than there is would be asked in vain.
                    self.need = need.max(rest.len() + 1);
                    return Ok(None);
                }
                Scan::Skip(n) => {
                    self.need = 0;
                    self.skip = n;
                }
            }
        }
    }

    /// As [`next_frame`](Incoming::next_frame), once the stream has ended.
    pub(super) fn last_frame<C: Codec>(&mut self, codec: &mut C) -> Result<Option<usize>, FrameError> {
        if let Some(len) = self.next_frame(codec)? {
            return Ok(Some(len));
        }
        if self.skip > 0 {
            return Err(FrameError::truncated(0).at(self.offset));
        }
        let rest = &self.buffer[self.start..self.end];
        match codec.scan_end(rest).map_err(|error| error.at(self.offset))? {
            Some(len) if len > 0 && len <= rest.len() => Ok(Some(len)),
            // Nothing more comes of it.
            _ => {
                self.consume(self.end - self.start);
                Ok(None)
            }
        }
    }

    /// The stream's offset of the next byte to be looked at.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Takes the frame of `len` bytes off the front, and lends it.
    pub(super) fn take(&mut self, len: usize) -> &mut [u8] {
        let start = self.start;
        self.consume(len);
        &mut self.buffer[start..start + len]
    }

    fn consume(&mut self, len: usize) {
        if len > 0 {
            self.start += len;
            self.offset += len as u64;
            self.need = 0;
        }
    }

    /// The codec was changed: whatever it had asked for no longer holds.
    pub(super) fn forget_need(&mut self) {
        self.need = 0;
    }

    /// Room to read into, never empty. It grows with what has arrived, whatever a header claims: it is at most [`AHEAD`]
    /// times the bytes that are there, or [`BUFFER`].
    pub(super) fn room(&mut self) -> &mut [u8] {
        let len = self.end - self.start;
        if len == 0 {
            (self.start, self.end) = (0, 0);
            if self.buffer.len() > KEPT_MAX {
                self.buffer = Vec::new();
            }
        }
        // A codec that looks for an end, such as that of a line, only knows that it needs more.
        let need = if self.need <= len + 1 { 2 * len + 1 } else { self.need };
        let (is_full, ahead) = (self.end == self.buffer.len(), len.saturating_mul(AHEAD));
        if self.buffer.len() - self.start < need {
            if self.start > 0 && (self.buffer.len() >= need || is_full) {
                self.buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, len);
            } else if is_full || ahead >= need {
                let mut larger = vec![0; need.min(ahead).max(BUFFER)];
                larger[..len].copy_from_slice(&self.buffer[self.start..self.end]);
                self.buffer = larger;
                (self.start, self.end) = (0, len);
            }
        }
        &mut self.buffer[self.end..]
    }

    /// `n` bytes were read into the room.
    pub(super) fn filled(&mut self, n: usize) {
        self.end += n;
        debug_assert!(self.end <= self.buffer.len(), "no more than there was room for");
    }

    /// What was read and not delivered.
    pub(super) fn rest(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::{ByteCodec, Fixed, LengthPrefixed, Lines, Output, Oversize, Raw, Varint};

    /// Feeds `wire` in pieces of these lengths, the last one over and over, and collects the messages.
    fn messages<C: ByteCodec>(
        mut codec: C,
        wire: &[u8],
        pieces: &[usize],
    ) -> (Vec<Vec<u8>>, Result<(), FrameError>) {
        let mut incoming = Incoming::default();
        let mut messages = Vec::new();
        let (mut at, mut piece) = (0, pieces.iter().copied().cycle());
        let mut end = false;
        loop {
            let found = if end { incoming.last_frame(&mut codec) } else { incoming.next_frame(&mut codec) };
            match found {
                Ok(Some(len)) => {
                    let message = codec.parse(incoming.take(len)).expect("bytes");
                    messages.push(message.to_vec());
                    continue;
                }
                Ok(None) if end => return (messages, Ok(())),
                Ok(None) => {}
                Err(error) => return (messages, Err(error)),
            }
            let room = incoming.room();
            let n = room.len().min(piece.next().unwrap_or(1).max(1)).min(wire.len() - at);
            room[..n].copy_from_slice(&wire[at..at + n]);
            incoming.filled(n);
            at += n;
            end = n == 0;
        }
    }

    fn wire<C: ByteCodec>(mut codec: C, messages: &[Vec<u8>]) -> Vec<u8> {
        let mut wire = Vec::new();
        for message in messages {
            codec.encode(message, &mut Output::to_vec(&mut wire)).expect("it can be said");
        }
        wire
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn however_the_bytes_come_the_messages_are_the_same(
            lens in prop::collection::vec(prop_oneof![0usize..40, 0usize..100_000], 0..8),
            pieces in prop::collection::vec(prop_oneof![1usize..8, 1usize..50_000], 1..6),
        ) {
            let sent: Vec<Vec<u8>> =
                lens.iter().enumerate().map(|(at, len)| vec![b'a' + at as u8; *len]).collect();
            let lines = Lines::default();
            for (got, end) in [
                messages(LengthPrefixed::default(), &wire(LengthPrefixed::default(), &sent), &pieces),
                messages(Varint::default(), &wire(Varint::default(), &sent), &pieces),
                messages(lines.clone(), &wire(lines, &sent), &pieces),
            ] {
                prop_assert_eq!(end, Ok(()));
                prop_assert!(got == sent);
            }
            let all = sent.concat();
            let (raw, _) = messages(Raw, &all, &pieces);
            prop_assert!(raw.concat() == all);
        }
    }

    #[test]
    fn what_is_too_long_is_skipped_without_being_held() {
        let skipping = LengthPrefixed::builder().max_frame(10).oversize(Oversize::Skip).build().unwrap();
        let sent = [vec![1; 5], vec![2; 500_000], vec![3; 10], vec![4; 11], vec![]];
        let wire = wire(LengthPrefixed::default(), &sent);
        for pieces in [[1].as_slice(), &[7, 60_000], &[usize::MAX]] {
            let (got, end) = messages(skipping.clone(), &wire, pieces);
            assert_eq!((got, end), (vec![vec![1; 5], vec![3; 10], vec![]], Ok(())));
        }
    }

    #[test]
    fn an_end_inside_a_frame_is_an_error_that_says_where() {
        let (got, end) = messages(LengthPrefixed::default(), b"\0\0\0\x02hi\0\0\0\x05he", &[3]);
        assert_eq!((got, end), (vec![b"hi".to_vec()], Err(FrameError::truncated(6).at(6))));
        let skipping = LengthPrefixed::builder().max_frame(1).oversize(Oversize::Skip).build().unwrap();
        assert!(messages(skipping, b"\0\0\0\x05he", &[3]).1.is_err());
        assert!(messages(Fixed::new(4).unwrap(), b"abcdef", &[1]).1.is_err());
    }

    #[test]
    fn a_last_line_needs_no_end() {
        let (got, end) = messages(Lines::default(), b"one\r\n\ntwo", &[2]);
        assert_eq!((got, end), (vec![b"one".to_vec(), vec![], b"two".to_vec()], Ok(())));
    }

    #[test]
    fn memory_follows_what_arrived_and_not_the_claim() {
        let mut incoming = Incoming::default();
        let mut codec = LengthPrefixed::default();
        let mut arrived = 0;
        let mut header = (64_u32 << 20).to_be_bytes().to_vec();
        header.resize(100, 0);
        while arrived < 1 << 20 {
            assert_eq!(incoming.next_frame(&mut codec), Ok(None));
            let room = incoming.room();
            let n = room.len().min(1000);
            if arrived == 0 {
                room[..100].copy_from_slice(&header);
            }
            incoming.filled(n);
            arrived += n;
            assert!(incoming.buffer.len() <= (arrived * AHEAD).max(BUFFER), "{}", incoming.buffer.len());
        }
    }

    #[test]
    fn a_long_message_does_not_hold_its_memory_for_ever() {
        let mut codec = LengthPrefixed::default();
        let mut incoming = Incoming::default();
        let long = wire(codec.clone(), &[vec![9; 3 << 20]]);
        let mut at = 0;
        let frame = loop {
            if let Some(frame) = incoming.next_frame(&mut codec).unwrap() {
                break frame;
            }
            let room = incoming.room();
            let n = room.len().min(long.len() - at);
            room[..n].copy_from_slice(&long[at..at + n]);
            incoming.filled(n);
            at += n;
        };
        assert_eq!(incoming.take(frame).len(), long.len());
        assert_eq!(incoming.room().len(), BUFFER);
    }

    #[test]
    fn a_line_whose_end_is_unknown_is_not_read_byte_by_byte() {
        let mut incoming = Incoming::default();
        let mut codec = Lines::default();
        let mut reads = 0;
        while incoming.end < 10_000_000 {
            assert_eq!(incoming.next_frame(&mut codec), Ok(None));
            let n = incoming.room().len();
            incoming.room().fill(b'x');
            incoming.filled(n);
            reads += 1;
        }
        assert!(reads < 40, "{reads}");
    }
}
