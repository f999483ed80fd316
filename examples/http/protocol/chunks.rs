//! A body in chunks (RFC 9112, 7.1): each says its length, the last one has none, and headers may follow.

use memchr::memchr_iter;

use super::request::Refusal;
use super::search::Search;

/// The longest line of a chunk, what it says beside its length included.
const LINE_MAX: usize = 256;
const TRAILER_MAX: usize = 4 * 1024;
const TRAILERS_MAX: usize = 32;
/// What all lines together may have, beyond as much as the longest body.
const OVERHEAD: u64 = 16 * 1024;

const MALFORMED: Refusal = Refusal::Malformed("a chunk has a length in hexadecimal, its bytes, and CR LF");

/// A chunked body of which a part has arrived.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Chunks {
    /// So many bytes of it were looked at: up to the next chunk, or up to the trailer.
    at: usize,
    /// So many of them are content.
    content: u64,
    trailer: Option<Search>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// So many bytes are needed.
    Need(usize),
    /// It is whole, and so long.
    End(usize),
}

impl Chunks {
    /// The next look reads, whether it seems worth its while or not: nothing more will come.
    pub(super) fn forget(&mut self) {
        if let Some(search) = &mut self.trailer {
            search.forget();
        }
    }

    /// Goes on looking at `body`, which has grown since the last time.
    pub(super) fn look(&mut self, body: &[u8], max: u64) -> Result<Look, Refusal> {
        while self.trailer.is_none() {
            let Some((line, size)) = chunk(body.get(self.at..).unwrap_or_default())? else {
                return Ok(Look::Need(body.len().max(self.at) + 1));
            };
            let content = self.content.saturating_add(size);
            if content > max {
                return Err(Refusal::BodyTooLong(content));
            }
            if size == 0 {
                self.at += line;
                self.trailer = Some(Search::default());
                break;
            }
            // No longer than the limit, and so what memory can hold.
            let end = (self.at + line + 2).saturating_add(size as usize);
            if end as u64 - content > max.saturating_add(OVERHEAD) {
                return Err(Refusal::BodyTooLong(end as u64));
            }
            match body.get(end - 2..end) {
                None => return Ok(Look::Need(end)),
                Some(b"\r\n") => (self.at, self.content) = (end, content),
                Some(_) => return Err(MALFORMED),
            }
        }
        self.look_at_trailer(body)
    }

    /// What it says is nobody's business here, but it has an end.
    fn look_at_trailer(&mut self, body: &[u8]) -> Result<Look, Refusal> {
        let seen = &body[self.at..body.len().min(self.at + TRAILER_MAX)];
        if seen.starts_with(b"\r\n") {
            return Ok(Look::End(self.at + 2));
        }
        if self.trailer.get_or_insert_default().is_due(seen, TRAILER_MAX) {
            let mut headers = [httparse::EMPTY_HEADER; TRAILERS_MAX];
            match httparse::parse_headers(seen, &mut headers) {
                Ok(httparse::Status::Complete((len, _))) if has_lone_lf(&seen[..len]) => {
                    return Err(MALFORMED);
                }
                Ok(httparse::Status::Complete((len, _))) => return Ok(Look::End(self.at + len)),
                Ok(httparse::Status::Partial) => {}
                Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooManyHeaders),
                Err(_) => return Err(Refusal::Malformed("what follows the chunks is no header")),
            }
        }
        if seen.len() < TRAILER_MAX { Ok(Look::Need(body.len() + 1)) } else { Err(Refusal::HeadTooLong) }
    }
}

/// The line at the front of `rest`: its own length, and that of the chunk behind it. None when it is not whole.
///
/// Stricter than `httparse`: no chunk without a digit, no space, and no LF without its CR, as others read these in other ways.
fn chunk(rest: &[u8]) -> Result<Option<(usize, u64)>, Refusal> {
    let seen = &rest[..rest.len().min(LINE_MAX)];
    let digits = seen.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    match seen.get(digits) {
        Some(b'\r' | b';') if digits > 0 => {}
        Some(_) => return Err(MALFORMED),
        None => {}
    }
    match httparse::parse_chunk_size(seen) {
        Ok(httparse::Status::Complete((len, _))) if has_lone_lf(&seen[..len]) => Err(MALFORMED),
        Ok(httparse::Status::Complete((len, size))) => Ok(Some((len, size))),
        Ok(httparse::Status::Partial) if seen.len() < LINE_MAX => Ok(None),
        _ => Err(MALFORMED),
    }
}

fn has_lone_lf(lines: &[u8]) -> bool {
    memchr_iter(b'\n', lines).any(|at| !lines[..at].ends_with(b"\r"))
}

/// Moves the content of a whole body to its front, and says how long it is.
pub(super) fn put_together(body: &mut [u8]) -> Result<usize, Refusal> {
    let (mut at, mut len) = (0, 0);
    while let Some((line, size @ 1..)) = chunk(&body[at..])? {
        let (start, size) = (at + line, size as usize);
        body.copy_within(start..start + size, len);
        len += size;
        at = start + size + 2;
    }
    Ok(len)
}
