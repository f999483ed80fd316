//! Where a codec puts an encoded message.

use bytes::Bytes;

/// Receives one encoded message: small parts by copy, large ones by reference.
///
/// A codec appends the frame's parts in order. [`put`](Output::put) copies, which is right for headers.
/// [`payload`](Output::payload) and [`shared`](Output::shared) copy what is small, and hold on to what is large, so that a
/// large payload goes to the kernel in one vectored write with its header, or is queued without being copied again.
#[derive(Debug)]
pub struct Output<'o, 'm> {
    copied: &'o mut Vec<u8>,
    /// Where this message begins in `copied`; what is before belongs to others.
    base: usize,
    /// The least length of a payload that is kept by reference.
    by_reference: usize,
    /// The first part kept by reference. Invariant: `at` never falls from one segment to the next.
    first: Option<Segment<'m>>,
    more: Vec<Segment<'m>>,
}

/// A part that was not copied, and its place among the copied bytes.
#[derive(Debug)]
struct Segment<'m> {
    /// How many copied bytes of this message come before it.
    at: usize,
    kept: Kept<'m>,
}

#[derive(Debug)]
enum Kept<'m> {
    Borrowed(&'m [u8]),
    Shared(Bytes),
}

impl Kept<'_> {
    fn part(&self) -> Part<'_> {
        match self {
            Kept::Borrowed(bytes) => Part::Borrowed(bytes),
            Kept::Shared(bytes) => Part::Shared(bytes),
        }
    }
}

/// A part of an encoded message, in order.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part<'m> {
    Borrowed(&'m [u8]),
    Shared(&'m Bytes),
}

impl<'m> Part<'m> {
    pub(crate) fn bytes(self) -> &'m [u8] {
        match self {
            Part::Borrowed(bytes) => bytes,
            Part::Shared(bytes) => bytes,
        }
    }
}

/// A message with parts by reference, taken out of its [`Output`].
#[derive(Debug)]
pub(crate) struct Segments<'m> {
    first: Option<Segment<'m>>,
    more: Vec<Segment<'m>>,
}

impl<'m> Segments<'m> {
    /// All parts in order, none of them empty; `copied` are the copied bytes of this message.
    pub(crate) fn parts<'a>(&'a self, copied: &'a [u8]) -> impl Iterator<Item = Part<'a>> + Clone
    where
        'm: 'a,
    {
        let segments = self.first.iter().chain(&self.more);
        let starts = [0].into_iter().chain(segments.clone().map(|s| s.at));
        let ends = segments.clone().map(|s| s.at).chain([copied.len()]);
        let kept = segments.map(|s| Some(s.kept.part())).chain([None]);
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
        Output { copied: to, base, by_reference, first: None, more: Vec::new() }
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
            self.keep(Kept::Borrowed(bytes));
        }
    }

    /// Appends shared bytes: copied when small, otherwise kept with one more reference while they wait.
    #[inline]
    pub fn shared(&mut self, bytes: &Bytes) {
        if bytes.len() < self.by_reference {
            self.copied.extend_from_slice(bytes);
        } else {
            self.keep(Kept::Shared(bytes.clone()));
        }
    }

    /// How many bytes this message has so far.
    pub fn len(&self) -> usize {
        let kept: usize = self.segments().map(|s| s.kept.part().bytes().len()).sum();
        self.copied.len() - self.base + kept
    }

    /// Whether this message has no bytes so far.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The parts kept by reference.
    pub(crate) fn into_segments(self) -> Segments<'m> {
        Segments { first: self.first, more: self.more }
    }

    #[inline]
    pub(crate) fn has_segments(&self) -> bool {
        self.first.is_some()
    }

    fn segments(&self) -> impl Iterator<Item = &Segment<'m>> {
        self.first.iter().chain(&self.more)
    }

    #[cold]
    fn keep(&mut self, kept: Kept<'m>) {
        let segment = Segment { at: self.copied.len() - self.base, kept };
        if self.first.is_none() {
            self.first = Some(segment);
        } else {
            self.more.push(segment);
        }
    }
}
