//! Where a codec puts an encoded message.

use bytes::Bytes;

/// How many parts of one message are kept by reference; further ones are copied.
const KEPT_MAX: usize = 2;

/// Receives one encoded message: small parts by copy, large ones by reference.
///
/// A codec appends the frame's parts in order. [`put`](Output::put) copies, which is right for headers.
/// [`payload`](Output::payload) and [`shared`](Output::shared) copy what is small, and hold on to what is large, so that a
/// large payload goes to the kernel in one vectored write with its header, or is queued without being copied again. That is
/// so for the first two large parts of a message; further ones are copied.
#[derive(Debug)]
pub struct Output<'o, 'm> {
    copied: &'o mut Vec<u8>,
    /// Where this message begins in `copied`; what is before belongs to others.
    base: usize,
    /// The least length of a payload that is kept by reference.
    by_reference: usize,
    segments: Segments<'m>,
}

/// A part that was not copied, and its place among the copied bytes.
#[derive(Debug, Clone, Copy)]
struct Segment<'m> {
    /// How many copied bytes of this message come before it.
    at: usize,
    part: Part<'m>,
}

/// A part of an encoded message, in order.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part<'m> {
    Borrowed(&'m [u8]),
    /// A slice of shared bytes, to be queued by one more reference.
    Shared(&'m Bytes, &'m [u8]),
}

impl<'m> Part<'m> {
    pub(crate) fn bytes(self) -> &'m [u8] {
        match self {
            Part::Borrowed(bytes) | Part::Shared(_, bytes) => bytes,
        }
    }
}

/// The parts kept by reference. Plain values, so that the usual message, which has none, pays nothing for them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segments<'m>([Option<Segment<'m>>; KEPT_MAX]);

impl<'m> Segments<'m> {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0[0].is_none()
    }

    fn iter(&self) -> impl Iterator<Item = Segment<'m>> + Clone {
        self.0.into_iter().flatten()
    }

    /// All parts in order, none of them empty; `copied` are the copied bytes of this message.
    pub(crate) fn parts<'a>(&self, copied: &'a [u8]) -> impl Iterator<Item = Part<'a>> + Clone
    where
        'm: 'a,
    {
        let starts = [0].into_iter().chain(self.iter().map(|s| s.at));
        let ends = self.iter().map(|s| s.at).chain([copied.len()]);
        let kept = self.iter().map(|s| Some(s.part)).chain([None]);
        starts
            .zip(ends)
            .zip(kept)
            .flat_map(move |((start, end), kept)| [Some(Part::Borrowed(&copied[start..end])), kept])
            .flatten()
            .filter(|part| !part.bytes().is_empty())
    }
}

impl<'o, 'm> Output<'o, 'm> {
    /// An output that appends everything to `to` by copying: for tests, and for those who use a codec by itself.
    ///
    /// ```
    /// use mainspring::codec::{Codec, LengthPrefixed, Output};
    ///
    /// let mut wire = Vec::new();
    /// LengthPrefixed::default().encode(b"hi", &mut Output::to_vec(&mut wire))?;
    /// assert_eq!(wire, [0, 0, 0, 2, b'h', b'i']);
    /// # Ok::<(), mainspring::codec::EncodeError>(())
    /// ```
    pub fn to_vec(to: &'o mut Vec<u8>) -> Output<'o, 'm> {
        Output::new(to, usize::MAX)
    }

    /// An output that keeps payloads of at least `by_reference` bytes by reference.
    #[inline]
    pub(crate) fn new(to: &'o mut Vec<u8>, by_reference: usize) -> Output<'o, 'm> {
        let base = to.len();
        Output { copied: to, base, by_reference, segments: Segments([None; KEPT_MAX]) }
    }

    /// Appends a copy of `bytes`.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) {
        self.copied.extend_from_slice(bytes);
    }

    /// Appends a payload that outlives this call: copied when small, kept by reference when large.
    #[inline]
    pub fn payload(&mut self, bytes: &'m [u8]) {
        if bytes.len() < self.by_reference {
            self.copied.extend_from_slice(bytes);
        } else {
            self.keep(Part::Borrowed(bytes));
        }
    }

    /// As [`put`](Output::put) and [`payload`](Output::payload), with one look at the room.
    #[inline(always)]
    pub(crate) fn headed(&mut self, header: &[u8; 4], bytes: &'m [u8]) {
        if bytes.len() < self.by_reference {
            self.copied.reserve(4 + bytes.len());
            self.copied.extend_from_slice(header);
            self.copied.extend_from_slice(bytes);
        } else {
            self.copied.extend_from_slice(header);
            self.keep(Part::Borrowed(bytes));
        }
    }

    /// Appends shared bytes: copied when small, otherwise kept with one more reference while they wait.
    #[inline]
    pub fn shared(&mut self, bytes: &'m Bytes) {
        self.shared_from(bytes, 0);
    }

    /// As [`shared`](Output::shared), without the first `start` bytes.
    ///
    /// # Panics
    /// When there are fewer than `start` bytes.
    #[inline]
    pub fn shared_from(&mut self, bytes: &'m Bytes, start: usize) {
        let slice = &bytes[start..];
        if slice.len() < self.by_reference {
            self.copied.extend_from_slice(slice);
        } else {
            self.keep(Part::Shared(bytes, slice));
        }
    }

    /// How many bytes this message has so far.
    pub fn len(&self) -> usize {
        let kept: usize = self.segments.iter().map(|s| s.part.bytes().len()).sum();
        self.copied.len() - self.base + kept
    }

    /// Whether this message has no bytes so far.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether no part is kept by reference.
    #[inline]
    pub(crate) fn has_copied_all(&self) -> bool {
        self.segments.is_empty()
    }

    /// The parts kept by reference.
    #[inline]
    pub(crate) fn into_segments(self) -> Segments<'m> {
        self.segments
    }

    #[cold]
    fn keep(&mut self, part: Part<'m>) {
        let at = self.copied.len() - self.base;
        match self.segments.0.iter_mut().find(|segment| segment.is_none()) {
            Some(free) => *free = Some(Segment { at, part }),
            None => self.copied.extend_from_slice(part.bytes()),
        }
    }
}
