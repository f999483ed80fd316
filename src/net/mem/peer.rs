//! What a test does at the far end of a connection.

use std::io::{self, Read};

use super::{Dropped, MemStream, World};
use crate::address::Address;
use crate::net::{Readiness, Source, Stream};

/// The far end of a connection, in a test's hand.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(super) world: World,
    pub(super) link: usize,
}

/// A connection at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    /// Bytes that the reactor has not read.
    pub(crate) unread: usize,
    /// Bytes that have come and were not taken.
    pub(crate) untaken: usize,
    /// The reactor has ended its side with what it has sent so far, and may still read.
    pub(crate) output_ended: bool,
    pub(crate) dropped: Option<Dropped>,
}

impl Peer {
    pub(crate) fn send(&self, bytes: &[u8]) {
        let mut state = self.world.state();
        state.links[self.link].input.extend(bytes);
        state.edge(self.link, Readiness::READABLE.and(Readiness::WRITABLE));
    }

    /// Ends this side: a FIN behind everything sent.
    pub(crate) fn shut_down_writing(&self) {
        let mut state = self.world.state();
        state.links[self.link].input_ended = true;
        state.edge(self.link, Readiness::READABLE.and(Readiness::READ_CLOSED).and(Readiness::WRITABLE));
    }

    pub(crate) fn reset(&self) {
        let mut state = self.world.state();
        state.links[self.link].error = Some(io::ErrorKind::ConnectionReset);
        let all = Readiness::READABLE.and(Readiness::READ_CLOSED).and(Readiness::WRITE_CLOSED);
        state.edge(self.link, all.and(Readiness::ERROR).and(Readiness::WRITABLE));
    }

    /// As [`reset`](Peer::reset), but the event is late: a write meets it first.
    pub(crate) fn reset_quietly(&self) {
        self.world.state().links[self.link].error = Some(io::ErrorKind::ConnectionReset);
    }

    /// Takes what has come, which makes room.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.take_some(usize::MAX)
    }

    /// Takes so much of it at most.
    pub(crate) fn take_some(&self, max: usize) -> Vec<u8> {
        let mut state = self.world.state();
        let link = &mut state.links[self.link];
        let n = link.output.len().min(max);
        let mut bytes = vec![0; n];
        // There are that many.
        drop(link.output.read_exact(&mut bytes));
        if std::mem::take(&mut link.full) {
            state.edge(self.link, Readiness::WRITABLE);
        }
        bytes
    }

    /// Whether the reactor has ended its side in order: the peer sees the end behind everything it can take.
    pub(crate) fn sees_end(&self) -> bool {
        let state = self.world.state();
        let link = &state.links[self.link];
        link.output_ended || link.dropped == Some(Dropped::InOrder)
    }

    pub(crate) fn dropped(&self) -> Option<Dropped> {
        self.world.state().links[self.link].dropped
    }

    /// What is to be seen of the connection at the moment.
    pub(crate) fn look(&self) -> Look {
        let link = &self.world.state().links[self.link];
        Look {
            unread: link.input.len(),
            untaken: link.output.len(),
            output_ended: link.output_ended,
            dropped: link.dropped,
        }
    }

    /// Where the reactor sees it, and what it is told of its own address.
    pub(crate) fn is_at(&self, peer: Address) {
        self.world.state().links[self.link].peer = Some(peer);
    }

    /// Its number: the how manieth connection of the world it is.
    pub(crate) fn number(&self) -> usize {
        self.link
    }

    /// Bytes that the reactor has read from it, and written to it.
    pub(crate) fn moved(&self) -> (u64, u64) {
        let state = self.world.state();
        (state.links[self.link].bytes_read, state.links[self.link].bytes_written)
    }

    /// How many bytes wait between the reactor and this peer.
    pub(crate) fn capacity(&self, bytes: usize) {
        self.world.state().links[self.link].capacity = bytes;
    }

    /// The most that one read and one write of the reactor move.
    pub(crate) fn pieces(&self, read_max: usize, write_max: usize) {
        let mut state = self.world.state();
        let link = &mut state.links[self.link];
        (link.read_max, link.write_max) = (read_max, write_max);
    }

    /// A signal interrupts so many of the next calls.
    pub(crate) fn interrupt(&self, calls: usize) {
        self.world.state().links[self.link].interrupts = calls;
    }

    /// Reads so far, with those that found nothing.
    pub(crate) fn looks(&self) -> usize {
        self.world.state().links[self.link].looks
    }

    /// System calls that moved bytes so far: reads and writes.
    pub(crate) fn calls(&self) -> (usize, usize) {
        let state = self.world.state();
        (state.links[self.link].reads, state.links[self.link].writes)
    }

    /// The source that the reactor registered for it.
    pub(crate) fn source(&self) -> Option<Source> {
        self.world.state().links[self.link].source.map(|(_, source)| source)
    }

    /// Bytes that the reactor has not read.
    pub(crate) fn unread(&self) -> usize {
        self.world.state().links[self.link].input.len()
    }

    /// The reactor's end of it, for adopting.
    pub(crate) fn stream(&self) -> Stream {
        Stream::Mem(MemStream::new(&self.world, self.link))
    }
}
