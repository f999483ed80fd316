//! HTTP/1.1 (RFC 9112) as a codec, without a socket. The head of a request is read by `httparse`; what it leaves to its callers
//! is here: how long a body is, chunks, what is refused, and how far one has looked when bytes drip in.
//!
//! - `codec`: the stages of a request, and how they are the two steps of a [`Codec`](mainspring::codec::Codec)
//! - `head`: a request line and its headers, once; `search`: when another look at a head is worth its while
//! - `chunks`: a body whose length was not known at its beginning
//! - `request`, `reply`: what goes to the handler, and what it sends

mod chunks;
mod codec;
mod head;
mod reply;
mod request;
mod search;

pub(crate) use codec::Http;
pub(crate) use reply::{Persistence, Reply, Status};
pub(crate) use request::{Incoming, Method, Request};
