//! A message with options.

use std::fmt;

use super::Context;
use super::broadcast::{Broadcast, To};
use super::send::Sent;
use crate::buffer::Label;
use crate::codec::Codec;
use crate::handler::{Handler, Outgoing};
use crate::id::ConnId;

/// A message with options, made by [`Context::message`], which goes out by [`to`](Envelope::to) or
/// [`broadcast`](Envelope::broadcast).
///
/// ```
/// use mainspring::{Context, Handler, ConnId, Overflow, To, codec::LengthPrefixed};
///
/// struct Ticker;
///
/// impl Handler for Ticker {
///     type Codec = LengthPrefixed;
///     type Session = ();
///
///     fn on_open(&mut self, cx: &mut Context<Self>, conn: ConnId) {
///         // One that is slow misses prices, not the last one of each share.
///         cx.set_overflow(conn, Overflow::Latest);
///     }
///     fn on_message(&mut self, cx: &mut Context<Self>, _: ConnId, quote: &[u8]) {
///         let share = u64::from(quote.first().copied().unwrap_or_default());
///         cx.message(quote).key(share).broadcast(To::All);
///     }
/// }
/// ```
#[must_use = "it is not sent before `to` or `broadcast`"]
pub struct Envelope<'c, 'm, H: Handler> {
    cx: &'c mut Context<H>,
    message: Outgoing<'m, H>,
    label: Label,
}

impl<H: Handler> fmt::Debug for Envelope<'_, '_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope").field("label", &self.label).finish_non_exhaustive()
    }
}

impl<H: Handler> Context<H> {
    /// A message with options; [`send`](Context::send) and [`broadcast`](Context::broadcast) are for those without.
    pub fn message<'c, 'm>(&'c mut self, message: Outgoing<'m, H>) -> Envelope<'c, 'm, H> {
        Envelope { cx: self, message, label: Label::default() }
    }
}

impl<H: Handler> Envelope<'_, '_, H> {
    /// Says what the message is about. A connection with the policy [`Overflow::Latest`](crate::Overflow::Latest) that does not
    /// keep up gets only the latest message of each key; for all others it means nothing.
    pub fn key(mut self, key: u64) -> Self {
        self.label.key = Some(key);
        self
    }

    /// Exempts the message from the write limit: it is queued however much waits, and no policy drops it. For what must not
    /// be lost, such as "you have missed some". Only the memory limit bounds such messages.
    pub fn control(mut self) -> Self {
        self.label.control = true;
        self
    }

    /// Sends it to one connection, as [`Context::send`] does.
    pub fn to(self, conn: ConnId) -> Sent {
        let Envelope { cx, message, label } = self;
        cx.append(conn, label, |codec, out| codec.encode(message, out))
    }

    /// Sends it to many, as [`Context::broadcast`] does.
    pub fn broadcast(self, to: To<'_>) -> Broadcast {
        self.cx.broadcast_labelled(to, self.message, self.label)
    }
}
