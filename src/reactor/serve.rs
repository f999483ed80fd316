//! The server of one function.

use std::fmt;

use super::{Context, Reactor};
use crate::codec::Codec;
use crate::error::Error;
use crate::handler::Handler;
use crate::id::ConnId;
use crate::net::ToAddresses;

/// What [`serve`] calls for each message.
type OnMessage<C> = dyn FnMut(&mut Context<Served<C>>, ConnId, <C as Codec>::Message<'_>);

/// The handler of [`serve`]: a closure, boxed so that its type does not show in the context's.
pub struct Served<C: Codec> {
    on_message: Box<OnMessage<C>>,
}

impl<C: Codec> fmt::Debug for Served<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served").finish_non_exhaustive()
    }
}

impl<C: Codec> Handler for Served<C> {
    type Codec = C;
    type Session = ();

    fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, message: C::Message<'_>) {
        (self.on_message)(cx, from, message);
    }
}

/// Serves `address` with one function, until it calls [`Context::shutdown`].
///
/// ```no_run
/// use mainspring::{codec::LengthPrefixed, serve};
///
/// serve("127.0.0.1:7000", LengthPrefixed::default(), |cx, from, message| {
///     cx.send(from, message);
/// })?;
/// # Ok::<(), mainspring::Error>(())
/// ```
///
/// # Errors
/// The address cannot be listened on, or the system's poller failed.
pub fn serve<C: Codec>(
    address: impl ToAddresses,
    codec: C,
    on_message: impl FnMut(&mut Context<Served<C>>, ConnId, C::Message<'_>) + 'static,
) -> Result<(), Error> {
    let mut reactor = Reactor::new(Served { on_message: Box::new(on_message) })?;
    reactor.listen(address, codec)?;
    reactor.run()
}
