//! The echo server that is measured when none is named.

use std::marker::PhantomData;
use std::thread::{self, JoinHandle};

use mainspring::codec::ByteCodec;
use mainspring::{Address, ConnId, Context, Error, Handle, Handler, Reactor};

struct Echo<C> {
    codec: PhantomData<C>,
}

impl<C: ByteCodec> Handler for Echo<C> {
    type Codec = C;
    type Session = ();

    fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, message: &[u8]) {
        cx.send(from, message);
    }
}

pub(crate) struct OwnServer<C: ByteCodec + 'static> {
    pub(crate) address: Address,
    handle: Handle<Echo<C>>,
    thread: JoinHandle<()>,
}

impl<C: ByteCodec + Send + 'static> OwnServer<C> {
    pub(crate) fn start(codec: C) -> Result<OwnServer<C>, Error> {
        let mut reactor = Reactor::new(Echo { codec: PhantomData })?;
        let address = reactor.listen("127.0.0.1:0", codec)?.address;
        let handle = reactor.handle();
        let thread = thread::spawn(move || {
            if let Err(error) = reactor.run() {
                log::error!("the server: {error}");
            }
        });
        Ok(OwnServer { address, handle, thread })
    }

    pub(crate) fn stop(self) {
        self.handle.shutdown();
        // A panic over there has said so itself.
        let _ = self.thread.join();
    }
}
