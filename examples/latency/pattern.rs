//! What is sent, and how a reply is told from a wrong one.

/// The messages: each differs from those before and behind it, and from those of other connections, so that a reply that
/// is wrong, swapped or doubled is noticed. Making one, and comparing one, is a copy of a stretch of noise, at a place that
/// the message's own number decides, with that number in front of it.
pub(crate) struct Pattern {
    size: usize,
    /// Only bytes that no line ends with.
    text: bool,
    /// Longer than a message by `SHIFTS`.
    noise: Vec<u8>,
}

const SHIFTS: u64 = 256;
/// The length of the number in front, for messages that have room for it.
const FRONT: usize = 8;

impl Pattern {
    pub(crate) fn new(size: usize, text: bool) -> Pattern {
        let mut noise = vec![0; size + SHIFTS as usize];
        for (i, byte) in noise.iter_mut().enumerate() {
            *byte = printable(mix(i as u64) as u8, text);
        }
        Pattern { size, text, noise }
    }

    /// The front of a message, and the place in the noise where the rest of it begins.
    #[inline]
    fn parts(&self, connection: u32, sequence: u64) -> ([u8; FRONT], usize) {
        let number = mix(sequence ^ u64::from(connection).rotate_right(24));
        let front = number.to_le_bytes().map(|byte| printable(byte, self.text));
        (front, (number % SHIFTS) as usize)
    }

    #[inline]
    pub(crate) fn fill(&self, connection: u32, sequence: u64, message: &mut [u8]) {
        let (front, shift) = self.parts(connection, sequence);
        let (head, body) = message.split_at_mut(FRONT.min(self.size));
        head.copy_from_slice(&front[..head.len()]);
        body.copy_from_slice(&self.noise[shift..][..body.len()]);
    }

    /// Whether `part` is what the message has from its byte `at` on.
    #[inline]
    pub(crate) fn matches(&self, connection: u32, sequence: u64, at: usize, part: &[u8]) -> bool {
        let (front, shift) = self.parts(connection, sequence);
        let front = front.get(at..FRONT.min(self.size)).unwrap_or_default();
        let (head, body) = part.split_at(front.len().min(part.len()));
        let into = (at + head.len()).saturating_sub(FRONT);
        front.starts_with(head) && self.noise[shift + into..].starts_with(body)
    }
}

/// Spreads a number over all bits (the finish of splitmix64).
#[inline]
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[inline]
fn printable(byte: u8, text: bool) -> u8 {
    if text { 0x40 | byte & 0x3f } else { byte }
}

// Run by `tests/programs`: cargo runs no tests of examples.
#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(pattern: &Pattern, connection: u32, sequence: u64) -> Vec<u8> {
        let mut message = vec![0; pattern.size];
        pattern.fill(connection, sequence, &mut message);
        message
    }

    #[test]
    fn messages_that_have_room_for_it_all_differ() {
        let pattern = Pattern::new(8, false);
        let all: std::collections::HashSet<Vec<u8>> = (0..50)
            .flat_map(|connection| (0..200).map(move |sequence| (connection, sequence)))
            .map(|(connection, sequence)| message(&pattern, connection, sequence))
            .collect();
        assert_eq!(all.len(), 50 * 200);
    }

    proptest! {
        #[test]
        fn a_message_matches_itself_in_any_parts_and_nothing_that_differs_in_a_bit(
            size in 0..600_usize,
            connection in 0..1000_u32,
            sequence in 0..1_000_000_u64,
            text in any::<bool>(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
            wrong in any::<prop::sample::Index>(),
            bit in 0..8_u32,
        ) {
            let pattern = Pattern::new(size, text);
            let mut message = message(&pattern, connection, sequence);
            prop_assert!(!text || !message.contains(&b'\n') && !message.contains(&b'\r'));
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(size + 1)).chain([0, size]).collect();
            cuts.sort_unstable();
            for cut in cuts.windows(2) {
                prop_assert!(pattern.matches(connection, sequence, cut[0], &message[cut[0]..cut[1]]));
            }
            if size > 0 {
                let wrong = wrong.index(size);
                message[wrong] ^= 1_u8 << bit;
                for cut in cuts.windows(2) {
                    let has_it = (cut[0]..cut[1]).contains(&wrong);
                    let matches = pattern.matches(connection, sequence, cut[0], &message[cut[0]..cut[1]]);
                    prop_assert_eq!(matches, !has_it);
                }
            }
        }
    }
}
