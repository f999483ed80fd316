//! What is sent.

use mainspring::codec::Output;

/// A whole reply, or a `100 Continue` before it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reply<'a> {
    pub(crate) status: Status,
    pub(crate) content_type: &'static str,
    pub(crate) body: &'a [u8],
    /// The body is what a GET would have got: only its length is sent.
    pub(crate) to_head: bool,
    /// Methods that would have been right.
    pub(crate) allow: Option<&'static str>,
    pub(crate) persistence: Persistence,
    /// As a header has it. Empty: no such header.
    pub(crate) date: &'a str,
}

/// What becomes of a connection after a reply, and how that is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Persistence {
    /// It stays, which HTTP/1.1 means unless told otherwise.
    Stays,
    /// It stays, which HTTP/1.0 has to be told.
    StaysIfTold,
    Closes,
}

macro_rules! statuses {
    ($($name:ident = $code:literal $reason:literal,)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Status {
            $($name,)*
        }

        impl Status {
            fn line(self) -> &'static [u8] {
                match self {
                    $(Status::$name => concat!("HTTP/1.1 ", $code, " ", $reason, "\r\n").as_bytes(),)*
                }
            }
        }
    };
}

statuses! {
    Continue = 100 "Continue",
    Ok = 200 "OK",
    BadRequest = 400 "Bad Request",
    NotFound = 404 "Not Found",
    MethodNotAllowed = 405 "Method Not Allowed",
    ContentTooLarge = 413 "Content Too Large",
    UriTooLong = 414 "URI Too Long",
    ExpectationFailed = 417 "Expectation Failed",
    HeadersTooLarge = 431 "Request Header Fields Too Large",
    NotImplemented = 501 "Not Implemented",
    VersionNotSupported = 505 "HTTP Version Not Supported",
}

pub(crate) const TEXT: &str = "text/plain; charset=utf-8";

impl<'a> Reply<'a> {
    pub(crate) const CONTINUE: Reply<'static> = Reply::new(Status::Continue, b"");

    /// A plain text.
    pub(crate) const fn new(status: Status, body: &'a [u8]) -> Reply<'a> {
        Reply {
            status,
            content_type: TEXT,
            body,
            to_head: false,
            allow: None,
            persistence: Persistence::Stays,
            date: "",
        }
    }

    pub(super) fn encode(self, out: &mut Output<'_, 'a>) {
        out.put(self.status.line());
        if self.status == Status::Continue {
            return out.put(b"\r\n");
        }
        if !self.date.is_empty() {
            out.put(b"Date: ");
            out.put(self.date.as_bytes());
            out.put(b"\r\n");
        }
        out.put(b"Content-Type: ");
        out.put(self.content_type.as_bytes());
        out.put(b"\r\nContent-Length: ");
        put_number(self.body.len(), out);
        if let Some(allow) = self.allow {
            out.put(b"\r\nAllow: ");
            out.put(allow.as_bytes());
        }
        out.put(match self.persistence {
            Persistence::Stays => b"\r\n\r\n",
            Persistence::StaysIfTold => b"\r\nConnection: keep-alive\r\n\r\n",
            Persistence::Closes => b"\r\nConnection: close\r\n\r\n",
        });
        if !self.to_head {
            out.payload(self.body);
        }
    }
}

fn put_number(mut number: usize, out: &mut Output<'_, '_>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return out.put(&digits[at..]);
        }
    }
}
