//! Listening sockets that come from elsewhere, and sockets that other threads bring.

use log::debug;

use super::{Context, Listening, Reactor};
use crate::error::Error;
use crate::handler::Handler;
use crate::net::{AnyListener, AnyStream, ListenOptions, Listener};

impl<H: Handler> Context<H> {
    /// Takes in a listening socket that was made elsewhere, a TCP or a Unix one: by the service manager, by a parent, by options that this crate
    /// does not have. Clients that wait in it already are accepted first. It is made non-blocking, and accepted
    /// connections get the default options.
    ///
    /// A descriptor that another process has too keeps listening there: non-blocking mode is a property of both. The file of a
    /// Unix socket is its maker's, and is not removed here.
    ///
    /// # Errors
    /// It is no stream socket, does not listen, cannot be waited for, or the reactor is shutting down.
    pub fn adopt_listener(
        &mut self,
        listener: impl Into<AnyListener>,
        codec: H::Codec,
    ) -> Result<Listening, Error> {
        self.adopt_listener_with(listener, codec, &ListenOptions::default())
    }

    /// As [`adopt_listener`](Context::adopt_listener), with options for the connections it accepts. Those that are about
    /// binding come too late, and are ignored.
    ///
    /// # Errors
    /// As [`adopt_listener`](Context::adopt_listener); also when the system refuses an option.
    pub fn adopt_listener_with(
        &mut self,
        listener: impl Into<AnyListener>,
        codec: H::Codec,
        options: &ListenOptions,
    ) -> Result<Listening, Error> {
        let (listener, address) = Listener::adopt(listener.into(), options).map_err(Error::Adopt)?;
        let listening = self.add_listener(Ok(listener), address, codec, options.connections_max)?;
        self.secure_listener(&listening, options);
        Ok(listening)
    }

    /// Another thread's socket. There is nobody to tell when it cannot be taken in.
    pub(crate) fn adopt_for_another(&mut self, stream: AnyStream, codec: H::Codec) {
        if let Err(error) = self.adopt(stream, codec) {
            self.stats.refused += 1;
            debug!("{error}");
        }
    }
}

impl<H: Handler> Reactor<H> {
    /// Takes in a listening socket that was made elsewhere, see [`Context::adopt_listener`].
    ///
    /// ```
    /// # use mainspring::{ConnId, Context, Handler, Reactor, codec::LengthPrefixed};
    /// # struct Quiet;
    /// # impl Handler for Quiet {
    /// #     type Codec = LengthPrefixed;
    /// #     type Session = ();
    /// #     fn on_message(&mut self, _: &mut Context<Self>, _: ConnId, _: &[u8]) {}
    /// # }
    /// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let mut reactor = Reactor::new(Quiet)?;
    /// println!("listening on {}", reactor.adopt_listener(listener, LengthPrefixed::default())?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Context::adopt_listener`].
    pub fn adopt_listener(
        &mut self,
        listener: impl Into<AnyListener>,
        codec: H::Codec,
    ) -> Result<Listening, Error> {
        self.context().adopt_listener(listener, codec)
    }

    /// As [`adopt_listener`](Reactor::adopt_listener), with options for the connections it accepts.
    ///
    /// # Errors
    /// As [`Context::adopt_listener_with`].
    pub fn adopt_listener_with(
        &mut self,
        listener: impl Into<AnyListener>,
        codec: H::Codec,
        options: &ListenOptions,
    ) -> Result<Listening, Error> {
        self.context().adopt_listener_with(listener, codec, options)
    }
}
