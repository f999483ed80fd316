//! RESP2 as a server speaks it: requests in, replies out. Bytes alone; nothing here knows of sockets or of commands.
//!
//! A request is an array of bulk strings, `*2\r\n$3\r\nGET\r\n$1\r\nk\r\n`, or a line as a person types it, `GET k`.
//!
//! - `scan`: where a request ends, and what it may not be
//! - `inline`: a line is split into words, as in a shell
//! - `request`: the words of a request, lent from the frame
//! - `reply`: what is answered, lent from wherever it is kept
//! - `number`: decimal numbers as the protocol has them

mod inline;
mod number;
mod reply;
mod request;
mod scan;

use std::convert::Infallible;

use mainspring::codec::{Codec, EncodeError, FrameError, Output, Scan};
pub(crate) use number::{digits, whole};
pub(crate) use reply::Reply;
pub(crate) use request::Request;
pub(crate) use scan::Complaint;
use scan::Scanner;

/// The longest argument, whatever `--max-frame` says: that of redis.
pub(crate) const BULK_MAX: u64 = 512 << 20;

/// The codec of a connection.
#[derive(Debug)]
pub(crate) struct Resp {
    scanner: Scanner,
    complaint: Option<Complaint>,
}

impl Resp {
    /// With this as the longest request, in bytes.
    pub(crate) fn with_max_frame(max: u64) -> Resp {
        Resp { scanner: Scanner::new(max), complaint: None }
    }

    /// What was wrong with the last frame, to be told to its sender.
    pub(crate) fn complaint(&self) -> Option<Complaint> {
        self.complaint
    }

    #[cold]
    fn refuse(&mut self, complaint: Complaint) -> FrameError {
        self.complaint = Some(complaint);
        complaint.into()
    }
}

/// A clone has the settings alone, and begins with a new stream.
impl Clone for Resp {
    fn clone(&self) -> Resp {
        Resp::with_max_frame(self.scanner.max_frame())
    }
}

impl Codec for Resp {
    type Message<'a> = Request<'a>;
    type Outgoing<'a> = Reply<'a>;
    // No reply crosses threads: each is made and sent by the reactor that has read the request.
    type Owned = Infallible;

    fn lend(owned: &Infallible) -> Reply<'_> {
        match *owned {}
    }

    #[inline]
    fn scan(&mut self, input: &[u8]) -> Result<Scan, FrameError> {
        self.scanner.scan(input).map_err(|complaint| self.refuse(complaint))
    }

    #[inline]
    fn parse<'a>(&mut self, frame: &'a mut [u8]) -> Result<Request<'a>, FrameError> {
        Request::parse(frame).map_err(|complaint| self.refuse(complaint))
    }

    #[inline]
    fn encode<'m>(&mut self, reply: Reply<'m>, out: &mut Output<'_, 'm>) -> Result<(), EncodeError> {
        reply.encode(out);
        Ok(())
    }

    // A reply is the same on every connection.
    fn same_encoding(&self, _: &Resp) -> bool {
        true
    }
}
