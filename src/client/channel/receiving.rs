//! The thread that receives and calls back.

use std::io;
use std::thread;

use super::sender::Sender;
use super::{Ended, Event};
use crate::client::blocking::LINGER_BYTES;
use crate::client::error::{Error, Step, again};
use crate::client::parts::ReadingHalf;
use crate::client::wire::{Patience, Received, receive};
use crate::codec::{Codec, FrameError};

pub(super) type Callback<C> = Box<dyn FnMut(&Sender<C>, Event<'_, C>) + Send>;

pub(super) struct Receiving<C: Codec> {
    sender: Sender<C>,
    half: ReadingHalf<C>,
    callback: Callback<C>,
}

/// However the thread ends, the writing one is told.
struct Over<C: Codec>(Sender<C>);

impl<C: Codec> Drop for Over<C> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.shared.fail(io::Error::other("the callback has panicked"));
        }
        self.0.shared.receiving_is_over();
    }
}

impl<C: Codec> Receiving<C> {
    pub(super) fn new(sender: Sender<C>, half: ReadingHalf<C>, callback: Callback<C>) -> Receiving<C> {
        Receiving { sender, half, callback }
    }

    pub(super) fn run(mut self) {
        let _over = Over(self.sender.clone());
        self.sender.shared.begin_receiving();
        let ended = self.receive();
        match &ended {
            Ended::Lost(error) if error.step() == Step::Frame => self.sender.shared.close(),
            Ended::Lost(error) => {
                let why = error.io_kind().unwrap_or(io::ErrorKind::Other);
                self.sender.shared.fail(why.into());
            }
            Ended::Peer | Ended::Closed => {}
        }
        (self.callback)(&self.sender, Event::Ended(ended));
        self.drop_the_rest();
    }

    /// Delivers messages until there are no more, and says why.
    fn receive(&mut self) -> Ended {
        let mut ended = self.half.ended;
        if let Some(error) = self.half.bad_frame {
            return self.bad_frame(error);
        }
        loop {
            if self.sender.shared.is_closing() {
                return Ended::Closed;
            }
            let ReadingHalf { tcp, codec, incoming, .. } = &mut self.half;
            let found = if ended { incoming.last_frame(codec) } else { incoming.next_frame(codec) };
            match found {
                Ok(Some(len)) => {
                    let offset = incoming.offset();
                    let refused = match codec.parse(incoming.take(len)) {
                        Ok(message) => {
                            (self.callback)(&self.sender, Event::Message(message));
                            None
                        }
                        Err(error) => Some(error.at(offset)),
                    };
                    if let Some(error) = refused {
                        return self.bad_frame(error);
                    }
                    continue;
                }
                Ok(None) if ended => return Ended::Peer,
                Ok(None) => {}
                Err(error) => return self.bad_frame(error),
            }
            match receive(tcp, incoming.room(), &mut Patience::new(None)) {
                Received::Some(n) => incoming.filled(n),
                Received::Nothing => {}
                Received::End => match self.sender.shared.failure() {
                    // The end that a failure of ours has brought.
                    Some(_) if self.sender.shared.is_closing() => return Ended::Closed,
                    Some(error) => return self.lost(Step::Send, error),
                    None if self.sender.shared.was_reset() => {
                        return self.lost(Step::Receive, io::ErrorKind::ConnectionReset.into());
                    }
                    None => {
                        self.half.ended = true;
                        ended = true;
                    }
                },
                Received::Failed(_) if self.sender.shared.is_closing() => return Ended::Closed,
                // As for an end: under TLS it is what the end of the socket alone is.
                Received::Failed(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return match self.sender.shared.failure() {
                        Some(ours) => self.lost(Step::Send, ours),
                        None => {
                            self.sender.shared.fail(again(&error));
                            self.lost(Step::Receive, error)
                        }
                    };
                }
                Received::Failed(error) => {
                    self.sender.shared.fail(again(&error));
                    return self.lost(Step::Receive, error);
                }
            }
        }
    }

    fn bad_frame(&self, error: FrameError) -> Ended {
        Ended::Lost(Error::frame(self.sender.peer_addr(), self.half.since.elapsed(), error))
    }

    fn lost(&self, step: Step, error: io::Error) -> Ended {
        Ended::Lost(Error::io(step, self.sender.peer_addr(), self.half.since.elapsed(), error))
    }

    /// What comes while the channel closes is dropped, until the peer has ended its side too or the writing thread wants to
    /// wait no longer: a socket that is closed with something unread is reset, and what was sent last may be lost.
    fn drop_the_rest(&mut self) {
        let mut left = LINGER_BYTES;
        let mut dropped = vec![0; 16 * 1024];
        while !self.half.ended && left > 0 {
            match receive(&mut self.half.tcp, &mut dropped, &mut Patience::new(None)) {
                Received::Some(n) => left = left.saturating_sub(n),
                Received::Nothing => {}
                Received::End | Received::Failed(_) => return,
            }
        }
    }
}
