//! A request line and its headers.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::chunks::Chunks;
use super::reply::Persistence;
use super::request::{Method, Refusal};
use super::search::Search;

/// The longest head that is read, in bytes.
pub(super) const HEAD_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 100;

/// What is known of a request once its head was read.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) method: Method,
    /// Where the target is.
    pub(super) target: Range<usize>,
    /// The bytes up to the body.
    pub(super) len: usize,
    pub(super) persistence: Persistence,
    pub(super) body: Body,
    pub(super) expects: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Body {
    Length(u64),
    Chunks(Chunks),
}

/// A head of which a part has arrived.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Partial {
    /// Where it begins: behind empty lines, which old clients send after a body.
    start: usize,
    search: Search,
}

impl Partial {
    /// The next look reads, whether it seems worth its while or not: nothing more will come.
    pub(super) fn forget(&mut self) {
        self.search.forget();
    }

    /// The head at the front of `input`, once it is whole.
    pub(super) fn look(&mut self, input: &[u8]) -> Result<Option<Head>, Refusal> {
        let seen = &input[..input.len().min(HEAD_MAX)];
        loop {
            match &seen[self.start..] {
                [b'\r', b'\n', ..] => self.start += 2,
                [b'\n', ..] => self.start += 1,
                _ => break,
            }
        }
        let lines = &seen[self.start..];
        if self.search.is_due(lines, HEAD_MAX - self.start) {
            if let Some(mut head) = read(lines)? {
                head.len += self.start;
                head.target = head.target.start + self.start..head.target.end + self.start;
                return Ok(Some(head));
            }
        }
        match seen.len() < HEAD_MAX {
            true => Ok(None),
            false if lines.contains(&b'\n') => Err(Refusal::HeadTooLong),
            false => Err(Refusal::TargetTooLong),
        }
    }
}

fn read(lines: &[u8]) -> Result<Option<Head>, Refusal> {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut []);
    let len = match request.parse_with_uninit_headers(lines, &mut headers) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(refusal(error, lines)),
    };
    // A whole request has all of them.
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Ok(None);
    };
    if !target.starts_with('/') && !target.contains("://") && target != "*" {
        return Err(Refusal::Malformed("the target of a request is a path"));
    }
    let fields = Fields::read(request.headers)?;
    let is_new = version == 1;
    let stays = !fields.close && (is_new || fields.keep_alive);
    let start = target.as_ptr() as usize - lines.as_ptr() as usize;
    let body = fields.body(is_new)?;
    if is_new && !fields.host {
        return Err(Refusal::Malformed("a request says its host"));
    }
    Ok(Some(Head {
        method: Method::named(method),
        target: start..start + target.len(),
        len,
        persistence: match stays {
            true if is_new => Persistence::Stays,
            true => Persistence::StaysIfTold,
            false => Persistence::Closes,
        },
        // Without a body there is nothing to wait for, and HTTP/1.0 does not know how to wait.
        expects: is_new && fields.expects && !matches!(body, Body::Length(0)),
        body,
    }))
}

fn refusal(error: httparse::Error, lines: &[u8]) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::TooManyHeaders,
        httparse::Error::Version if is_other_version(lines) => Refusal::Version,
        httparse::Error::HeaderName => Refusal::Malformed("a header begins with its name and a colon"),
        httparse::Error::HeaderValue => Refusal::Malformed("a header has an invalid byte"),
        httparse::Error::NewLine => Refusal::Malformed("a line ends with CR LF"),
        _ => Refusal::Malformed("a request begins with its method, target and version"),
    }
}

/// Whether it is a request of HTTP, and not of HTTP/1.
fn is_other_version(lines: &[u8]) -> bool {
    let version = lines.splitn(3, |byte| *byte == b' ').nth(2).and_then(|rest| rest.strip_prefix(b"HTTP/"));
    version
        .is_some_and(|version| version.first().is_some_and(|major| major.is_ascii_digit() && *major != b'1'))
}

/// Whether a byte may be in a host and its port (RFC 3986, 3.2.2).
fn is_of_host(byte: u8) -> bool {
    let other =
        matches!(byte, b'-' | b'.' | b'_' | b'~' | b':' | b'[' | b']' | b'%' | b'!' | b'$' | b'&' | b'\'')
            || matches!(byte, b'(' | b')' | b'*' | b'+' | b';' | b'=');
    byte.is_ascii_alphanumeric() || other
}

/// The headers that say where a request ends.
#[derive(Debug, Default)]
struct Fields {
    host: bool,
    close: bool,
    keep_alive: bool,
    expects: bool,
    chunked: bool,
    length: Option<u64>,
}

impl Fields {
    fn read(headers: &[httparse::Header<'_>]) -> Result<Fields, Refusal> {
        let mut fields = Fields::default();
        for header in headers {
            // By the length first: most of them are none of ours.
            match header.name.len() {
                4 if header.name.eq_ignore_ascii_case("host") => fields.host(header.value)?,
                6 if header.name.eq_ignore_ascii_case("expect") => {
                    if !header.value.eq_ignore_ascii_case(b"100-continue") {
                        return Err(Refusal::Expectation);
                    }
                    fields.expects = true;
                }
                10 if header.name.eq_ignore_ascii_case("connection") => fields.connection(header.value),
                14 if header.name.eq_ignore_ascii_case("content-length") => fields.length(header.value)?,
                17 if header.name.eq_ignore_ascii_case("transfer-encoding") => fields.coding(header.value)?,
                _ => {}
            }
        }
        Ok(fields)
    }

    fn host(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.host || !value.iter().all(|byte| is_of_host(*byte)) {
            return Err(Refusal::Malformed("a request has one host"));
        }
        self.host = true;
        Ok(())
    }

    fn connection(&mut self, value: &[u8]) {
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// Digits alone: a sign, a list or a space would be read in another way by somebody else on the way.
    fn length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(Refusal::Malformed("the length of a body is a number"));
        }
        let digit = |length: u64, byte: &u8| length.saturating_mul(10).saturating_add((byte - b'0').into());
        let length = value.iter().fold(0, digit);
        if self.length.is_some_and(|other| other != length) {
            return Err(Refusal::Malformed("a body has one length"));
        }
        self.length = Some(length);
        Ok(())
    }

    fn coding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.chunked {
            return Err(Refusal::Malformed("a body is chunked once"));
        }
        if !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Refusal::Coding);
        }
        self.chunked = true;
        Ok(())
    }

    /// What two servers could read in two ways is refused: so requests are smuggled past the first one.
    fn body(&self, is_new: bool) -> Result<Body, Refusal> {
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(Refusal::Malformed("a body has a length or is chunked")),
            (true, None) if !is_new => Err(Refusal::Malformed("chunks are of HTTP/1.1")),
            (true, None) => Ok(Body::Chunks(Chunks::default())),
            (false, length) => Ok(Body::Length(length.unwrap_or(0))),
        }
    }
}
