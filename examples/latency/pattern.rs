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
