//! A peer in the test's hands: what it does, and what it expects.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use super::engine::{Engine, Run};
use super::line::{End, Line};
use crate::address::Address;
use crate::net::mem;

/// The far end of one connection.
///
/// What it does is done at once, in the world's time; what it expects, it waits for: the world runs, and its time jumps from
/// one event to the next, until the bytes have come or [`patience`](super::World::patience) is over. Bytes that were
/// expected are taken, so that the next expectation begins behind them.
///
/// A peer that is dropped stays as it is. [`close`](Peer::close) or [`reset`](Peer::reset) ends it.
pub struct Peer {
    pub(super) engine: Rc<Engine>,
    pub(super) line: usize,
    pub(super) address: Address,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Peer {
    fn line<T>(&self, f: impl FnOnce(&mut Line) -> T) -> T {
        f(&mut self.engine.lines.borrow_mut()[self.line])
    }

    fn act(&self, f: impl FnOnce(&mut Line, Duration, &mem::Dice)) {
        let (now, dice) = (self.engine.now(), &self.engine.dice);
        self.line(|line| f(line, now, dice));
    }

    /// Where the reactor sees it.
    pub fn address(&self) -> &Address {
        &self.address
    }

    // ---- what it does ----------------------------------------------------------------------------------------------

    /// Sends bytes. They arrive in as many pieces, and as late, as the world's seed has it; in a calm world together, at once.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Peer {
        self.act(|line, now, dice| line.send(bytes.as_ref(), now, dice));
        self
    }

    /// Sends bytes in pieces of that length, each of which arrives, and is dealt with, before the next one is sent.
    pub fn send_in_pieces(&mut self, bytes: impl AsRef<[u8]>, len: usize) -> &mut Peer {
        for piece in bytes.as_ref().chunks(len.max(1)) {
            self.send(piece);
            self.engine.run(Run::Settle, |_| false);
        }
        self
    }

    /// Ends its side: a FIN behind everything sent. It still reads.
    pub fn shut_down_writing(&mut self) -> &mut Peer {
        self.act(Line::shut_down_writing);
        self
    }

    /// Ends as a program does that is over: a FIN behind everything sent, and whatever is sent to it is answered by a reset.
    pub fn close(&mut self) -> &mut Peer {
        self.act(Line::close);
        self
    }

    /// Cuts the connection. Bytes that it has sent may arrive before.
    pub fn reset(&mut self) -> &mut Peer {
        self.act(Line::reset);
        self
    }

    /// Takes nothing any more: what is sent to it fills the buffers between, 64 KiB unless [`room`](Peer::room) says
    /// otherwise, then waits in its outbox.
    pub fn stop_reading(&mut self) -> &mut Peer {
        self.line(|line| line.reads = false);
        self
    }

    /// Takes what comes again.
    pub fn read_again(&mut self) -> &mut Peer {
        self.line(|line| line.reads = true);
        self
    }

    /// So many bytes fit between the reactor and this peer.
    pub fn room(&mut self, bytes: usize) -> &mut Peer {
        self.line(|line| line.far().capacity(bytes));
        self
    }

    /// Lets so much of the world's time pass.
    pub fn after(&mut self, time: Duration) -> &mut Peer {
        let until = self.engine.now().saturating_add(time);
        self.engine.run(Run::Until(until), |_| false);
        self
    }

    // ---- what it expects -------------------------------------------------------------------------------------------

    /// Waits for exactly these bytes, and takes them. Further ones may come behind.
    ///
    /// # Panics
    /// Others come, or the connection ends before, or nothing comes in time.
    #[track_caller]
    pub fn expect(&mut self, bytes: impl AsRef<[u8]>) -> &mut Peer {
        let expected = bytes.as_ref();
        let until = self.until();
        self.engine.run(until, |engine| {
            let line = &engine.lines.borrow()[self.line];
            line.came.len() >= expected.len() || !expected.starts_with(&line.came) || line.end.is_some()
        });
        let (came, end) = self.line(|line| (line.came.clone(), line.end));
        if !came.starts_with(expected) {
            let how = match end {
                Some(End::InOrder) => ", then the end",
                Some(End::Reset) => ", then a reset",
                None => "",
            };
            let (expected, came) = (shown(expected), shown(&came));
            panic!("{} expected {expected}, and {came} came{how}", self.address);
        }
        self.line(|line| drop(line.came.drain(..expected.len())));
        self
    }

    /// Looks that nothing has come and nothing is under way. Time passes only for what is under way: for deadlines and
    /// timers, let it pass by [`after`](Peer::after).
    ///
    /// # Panics
    /// Something has come, or the connection has ended.
    #[track_caller]
    pub fn expect_nothing(&mut self) -> &mut Peer {
        self.engine.run(Run::Settle, |_| false);
        let (came, end) = self.line(|line| (line.came.clone(), line.end));
        assert!(came.is_empty(), "{} expected nothing, and {} came", self.address, shown(&came));
        assert!(end.is_none(), "{} expected nothing, and its connection has ended: {end:?}", self.address);
        self
    }

    /// Waits for the other side to end in order, with nothing before it that was not expected.
    ///
    /// # Panics
    /// Something else comes, or a reset, or nothing in time.
    #[track_caller]
    pub fn expect_end(&mut self) -> &mut Peer {
        self.expect_ended(End::InOrder)
    }

    /// Waits for a reset, or a dial to be refused.
    ///
    /// # Panics
    /// Something else comes, or an end in order, or nothing in time.
    #[track_caller]
    pub fn expect_reset(&mut self) -> &mut Peer {
        self.expect_ended(End::Reset)
    }

    #[track_caller]
    fn expect_ended(&mut self, expected: End) -> &mut Peer {
        let until = self.until();
        self.engine.run(until, |engine| {
            let line = &engine.lines.borrow()[self.line];
            line.end.is_some() || !line.came.is_empty()
        });
        let (came, end) = self.line(|line| (line.came.clone(), line.end));
        assert!(came.is_empty(), "{} expected the end, and {} came", self.address, shown(&came));
        assert!(end == Some(expected), "{} expected the end: {expected:?}, and it was {end:?}", self.address);
        self
    }

    fn until(&self) -> Run {
        Run::Until(self.engine.now().saturating_add(self.engine.patience.get()))
    }

    // ---- what it has seen ------------------------------------------------------------------------------------------

    /// Takes all that has come and was not expected yet, without waiting for more.
    pub fn take(&mut self) -> Vec<u8> {
        self.line(|line| std::mem::take(&mut line.came))
    }

    /// How the other side has ended, if it has: without waiting.
    pub fn ended(&self) -> Option<End> {
        self.line(|line| line.end)
    }

    /// How many of the bytes that it has sent have arrived so far.
    pub fn arrived(&self) -> u64 {
        self.line(|line| line.arrived)
    }
}

/// Bytes as a person reads them, the first ones of many.
fn shown(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "nothing".to_owned();
    }
    let first = &bytes[..bytes.len().min(80)];
    let more = if bytes.len() > 80 { format!(".. ({} bytes)", bytes.len()) } else { String::new() };
    format!("\"{}\"{more}", first.escape_ascii())
}

/// A place in the world where a test's own peers listen, for a reactor that dials.
pub struct Door {
    pub(super) engine: Rc<Engine>,
    pub(super) address: Address,
    pub(super) taken: usize,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Door {
    /// Waits for the next connection that is dialed to it.
    ///
    /// # Panics
    /// None comes in time.
    #[track_caller]
    pub fn accept(&mut self) -> Peer {
        let until = self.engine.now().saturating_add(self.engine.patience.get());
        let (net, taken) = (self.engine.net.clone(), self.taken);
        let came = self.engine.run(Run::Until(until), |_| net.dials_to(&self.address).len() > taken);
        assert!(came, "nobody dials {}", self.address);
        self.taken += 1;
        let far = net.dials_to(&self.address).swap_remove(taken);
        let line = self.engine.add_line(Line::new(far, None));
        Peer { engine: Rc::clone(&self.engine), line, address: self.address.clone() }
    }
}
