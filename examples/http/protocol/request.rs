//! What arrives.

use std::borrow::Cow;

use mainspring::codec::FrameError;

use super::reply::{Persistence, Status};

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming<'a> {
    /// A whole request.
    Request(Request<'a>),
    /// The beginning of one, whose client waits for a `100 Continue` before it sends the body.
    Expects,
}

/// A request and its body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    /// As it was sent. Borrowed, but for a request whose body came later.
    pub(crate) target: Cow<'a, [u8]>,
    /// Its content, of chunks put together.
    pub(crate) body: &'a [u8],
    /// Whether the client wants the connection to stay.
    pub(crate) persistence: Persistence,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Head,
    Post,
    Other,
}

impl Method {
    pub(super) fn named(name: &str) -> Method {
        match name {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            _ => Method::Other,
        }
    }
}

impl Request<'_> {
    /// The target without its query, and without the scheme and the host that one for a proxy has.
    pub(crate) fn path(&self) -> &[u8] {
        let mut path = &*self.target;
        if let Some(scheme) = path.windows(3).position(|three| three == b"://").filter(|_| path[0] != b'/') {
            let behind = &path[scheme + 3..];
            path = behind.iter().position(|byte| *byte == b'/').map_or(b"/", |slash| &behind[slash..]);
        }
        path.split(|byte| *byte == b'?').next().unwrap_or(path)
    }
}

/// Why something is no request, or one that is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The text says which rule it breaks.
    Malformed(&'static str),
    /// What there is of it has no end of its first line.
    TargetTooLong,
    HeadTooLong,
    TooManyHeaders,
    BodyTooLong(u64),
    Expectation,
    Coding,
    Version,
}

impl Refusal {
    pub(crate) fn status(self) -> Status {
        match self {
            Refusal::Malformed(_) => Status::BadRequest,
            Refusal::TargetTooLong => Status::UriTooLong,
            Refusal::HeadTooLong | Refusal::TooManyHeaders => Status::HeadersTooLarge,
            Refusal::BodyTooLong(_) => Status::ContentTooLarge,
            Refusal::Expectation => Status::ExpectationFailed,
            Refusal::Coding => Status::NotImplemented,
            Refusal::Version => Status::VersionNotSupported,
        }
    }

    /// For the client and for the log.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Refusal::Malformed(what) => what,
            Refusal::TargetTooLong => "the target of the request is too long",
            Refusal::HeadTooLong => "the headers are too long",
            Refusal::TooManyHeaders => "there are too many headers",
            Refusal::BodyTooLong(_) => "the body is too long",
            Refusal::Expectation => "100-continue is the only expectation that can be met",
            Refusal::Coding => "chunked is the only transfer coding that is read",
            Refusal::Version => "HTTP/1.0 and HTTP/1.1 are spoken here",
        }
    }

    /// The reason that the connection ends for.
    pub(super) fn error(self, body_max: u64) -> FrameError {
        let head_max = super::head::HEAD_MAX as u64;
        match self {
            Refusal::BodyTooLong(claimed) => FrameError::too_long(claimed, body_max),
            Refusal::TargetTooLong | Refusal::HeadTooLong => FrameError::too_long(head_max + 1, head_max),
            _ => FrameError::malformed(self.text()),
        }
    }
}
