//! The words of a request.

use super::inline::split;
use super::number::{Front, front};
use super::scan::Complaint;

/// The words of a request that are still to be taken: first the name of a command, then its arguments. None at all is an empty
/// request, which has no answer. They are lent from the frame.
#[derive(Debug, Clone)]
pub(crate) struct Request<'a>(Words<'a>);

#[derive(Debug, Clone)]
enum Words<'a> {
    /// So many bulk strings, as they came.
    Bulks { left: usize, rest: &'a [u8] },
    /// Words directly behind each other, and where each ends.
    Line { words: &'a [u8], start: usize, ends: std::vec::IntoIter<usize> },
}

impl<'a> Request<'a> {
    /// Takes what the scanner has found to be whole.
    #[inline]
    pub(super) fn parse(frame: &'a mut [u8]) -> Result<Request<'a>, Complaint> {
        if frame.first() != Some(&b'*') {
            return Request::parse_line(frame);
        }
        let frame = &*frame;
        let (left, rest) = match front(&frame[1..]) {
            Front::Number(count, width) => (usize::try_from(count).unwrap_or(0), &frame[1 + width..]),
            Front::Unfinished | Front::Other => return Err(Complaint::Count),
        };
        Ok(Request(Words::Bulks { left, rest }))
    }

    fn parse_line(frame: &'a mut [u8]) -> Result<Request<'a>, Complaint> {
        let ends = split(frame).ok_or(Complaint::Quotes)?;
        Ok(Request(Words::Line { words: frame, start: 0, ends: ends.into_iter() }))
    }

    /// The next so many words at once, if there are as many and no more.
    #[inline]
    pub(crate) fn all<const N: usize>(&mut self) -> Option<[&'a [u8]; N]> {
        if self.len() != N {
            return None;
        }
        let mut all = [&[][..]; N];
        for (place, word) in all.iter_mut().zip(self) {
            *place = word;
        }
        Some(all)
    }
}

impl<'a> Iterator for Request<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        match &mut self.0 {
            Words::Bulks { left: 0, .. } => None,
            Words::Bulks { left, rest } => {
                // The scanner has seen all of this: `$`, a length, so many bytes, CR LF.
                let Front::Number(len, width) = front(rest.get(1..)?) else { return None };
                let start = 1 + width;
                let end = start + usize::try_from(len).ok()?;
                let word = rest.get(start..end)?;
                (*left, *rest) = (*left - 1, rest.get(end + 2..)?);
                Some(word)
            }
            Words::Line { words, start, ends } => {
                let end = ends.next()?;
                let word = words.get(*start..end)?;
                *start = end;
                Some(word)
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match &self.0 {
            Words::Bulks { left, .. } => *left,
            Words::Line { ends, .. } => ends.len(),
        };
        (left, Some(left))
    }
}

impl ExactSizeIterator for Request<'_> {}
