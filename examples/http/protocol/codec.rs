//! The stages of a request.

use std::borrow::Cow;
use std::mem;

use mainspring::codec::{Codec, EncodeError, FrameError, Output, Scan};

use super::chunks::{self, Look};
use super::head::{Body, Head, Partial};
use super::reply::Reply;
use super::request::{Incoming, Refusal, Request};

/// HTTP/1.1 on the server's side. A request is one frame, its body included.
///
/// 1. The head is looked for until it is whole.
/// 2. With `Expect: 100-continue` it is a frame of its own, [`Incoming::Expects`], and the body will be the next one.
/// 3. Otherwise head and body are one frame. A body of a known length needs no further look, however long it is; a chunked one
///    is looked at from where the last look has ended.
/// 4. What is no request is an error, which ends the connection. [`refusal`](Http::refusal) says what its client is to be told.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    body_max: u64,
    stage: Stage,
}

#[derive(Debug, Clone)]
enum Stage {
    Head(Partial),
    /// The head is a frame of its own.
    Announced(Box<Head>),
    Body(Head, Target),
    Over(Refusal),
}

/// Where the target of a request is.
#[derive(Debug, Clone)]
enum Target {
    InFrame,
    /// It was in the frame before.
    Kept(Vec<u8>),
}

impl Http {
    /// With this as the longest body, in bytes.
    pub(crate) fn with_max_body(body_max: u64) -> Http {
        Http { body_max, stage: Stage::Head(Partial::default()) }
    }

    /// What was wrong, once something was.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        match self.stage {
            Stage::Over(refusal) => Some(refusal),
            _ => None,
        }
    }

    fn refuse(&mut self, refusal: Refusal) -> FrameError {
        self.stage = Stage::Over(refusal);
        refusal.error(self.body_max)
    }

    fn look(&mut self, input: &[u8]) -> Result<Scan, Refusal> {
        if let Stage::Head(partial) = &mut self.stage {
            let Some(head) = partial.look(input)? else { return Ok(Scan::Need(input.len() + 1)) };
            if let Body::Length(claimed) = head.body {
                if claimed > self.body_max {
                    return Err(Refusal::BodyTooLong(claimed));
                }
            }
            self.stage = match head.expects {
                true => Stage::Announced(Box::new(head)),
                false => Stage::Body(head, Target::InFrame),
            };
        }
        match &mut self.stage {
            Stage::Announced(head) => Ok(Scan::Frame(head.len)),
            Stage::Body(head, _) => match &mut head.body {
                // No longer than the limit, and so what memory can hold.
                Body::Length(len) => Ok(Scan::Frame(head.len.saturating_add(*len as usize))),
                Body::Chunks(body) => match body.look(&input[head.len..], self.body_max)? {
                    Look::Need(n) => Ok(Scan::Need(head.len.saturating_add(n))),
                    Look::End(n) => Ok(Scan::Frame(head.len + n)),
                },
            },
            Stage::Over(refusal) => Err(*refusal),
            Stage::Head(_) => Ok(Scan::Need(input.len() + 1)),
        }
    }
}

impl Codec for Http {
    type Message<'a> = Incoming<'a>;
    type Outgoing<'a> = Reply<'a>;
    type Owned = Reply<'static>;

    fn lend(owned: &Reply<'static>) -> Reply<'static> {
        *owned
    }

    fn scan(&mut self, input: &[u8]) -> Result<Scan, FrameError> {
        self.look(input).map_err(|refusal| self.refuse(refusal))
    }

    fn scan_end(&mut self, rest: &[u8]) -> Result<Option<usize>, FrameError> {
        match &mut self.stage {
            Stage::Head(_) if rest.iter().all(|byte| b"\r\n".contains(byte)) => return Ok(None),
            Stage::Head(partial) => partial.forget(),
            Stage::Body(Head { body: Body::Chunks(chunks), .. }, _) => chunks.forget(),
            _ => {}
        }
        match self.look(rest) {
            Ok(_) => Err(FrameError::truncated(rest.len() as u64)),
            Err(refusal) => Err(self.refuse(refusal)),
        }
    }

    fn parse<'a>(&mut self, frame: &'a mut [u8]) -> Result<Incoming<'a>, FrameError> {
        match mem::replace(&mut self.stage, Stage::Head(Partial::default())) {
            Stage::Body(head, target) => {
                let (lines, body) = frame.split_at_mut(head.len);
                let target = match target {
                    Target::InFrame => Cow::Borrowed(&lines[head.target]),
                    Target::Kept(target) => Cow::Owned(target),
                };
                let body = match head.body {
                    Body::Length(_) => body,
                    Body::Chunks(_) => {
                        let len = chunks::put_together(body).map_err(|refusal| self.refuse(refusal))?;
                        &mut body[..len]
                    }
                };
                let (method, persistence) = (head.method, head.persistence);
                Ok(Incoming::Request(Request { method, target, body, persistence }))
            }
            Stage::Announced(head) => {
                let target = frame[head.target.clone()].to_vec();
                self.stage = Stage::Body(Head { len: 0, ..*head }, Target::Kept(target));
                Ok(Incoming::Expects)
            }
            Stage::Head(_) | Stage::Over(_) => Err(FrameError::malformed("nothing was found here")),
        }
    }

    fn encode<'m>(&mut self, message: Reply<'m>, out: &mut Output<'_, 'm>) -> Result<(), EncodeError> {
        message.encode(out);
        Ok(())
    }

    fn same_encoding(&self, _: &Http) -> bool {
        true
    }
}
