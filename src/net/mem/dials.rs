//! Names, and what answers to dials: as a test says, at once or when it wants.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{MemStream, Peer, World};
use crate::address::Address;
use crate::id::ConnId;
use crate::net::{Found, Readiness, Source, Stream};

/// What becomes of a dial to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing, until the test says something.
    Silence,
    /// It opens in the next turn.
    Opens,
    /// It fails in the next turn.
    Fails(io::ErrorKind),
    /// It fails before there is anything to wait for.
    FailsAtOnce(io::ErrorKind),
    /// It meets itself.
    Itself,
}

#[derive(Debug, Default)]
pub(super) struct Dials {
    answers: HashMap<Address, Answer>,
    /// Each dial: when, where, and its link if it came that far.
    log: Vec<(Duration, Address, Option<usize>)>,
    /// `None`: looking it up does not end.
    names: HashMap<String, Option<Vec<IpAddr>>>,
    found: Vec<(ConnId, Found)>,
    pending: Vec<(ConnId, String, u16)>,
    given_up: Vec<ConnId>,
}

impl World {
    // ---- what a test says -------------------------------------------------------------------------------------------

    /// Dials to `address` are answered so from now on. Those that nothing was said of meet silence.
    pub(crate) fn answers(&self, address: &str, answer: Answer) {
        self.state().dials.answers.insert(address.parse().expect("an address"), answer);
    }

    /// A name, and its addresses. One that nothing was said of is unknown.
    pub(crate) fn knows(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|text| text.parse().expect("an IP address")).collect();
        let mut state = self.state();
        state.dials.names.insert(name.to_owned(), Some(addresses));
        let (now, later) = std::mem::take(&mut state.dials.pending).into_iter().partition(|p| p.1 == name);
        state.dials.pending = later;
        drop(state);
        let now: Vec<(ConnId, String, u16)> = now;
        for (dial, name, port) in now {
            self.look_up(dial, &name, port);
        }
    }

    /// Looking that name up does not end, until [`knows`](World::knows) is told.
    pub(crate) fn hangs(&self, name: &str) {
        self.state().dials.names.insert(name.to_owned(), None);
    }

    /// All dials so far: how long after the beginning of the world, and where to.
    pub(crate) fn dials(&self) -> Vec<(Duration, String)> {
        self.state().dials.log.iter().map(|(at, address, _)| (*at, address.to_string())).collect()
    }

    /// The far end of the last dial to `address`.
    pub(crate) fn dialed(&self, address: &str) -> Peer {
        let address: Address = address.parse().expect("an address");
        let link = self.state().dials.log.iter().rev().find(|dial| dial.1 == address).and_then(|dial| dial.2);
        Peer { world: self.clone(), link: link.expect("it was dialed") }
    }

    /// Look-ups that nobody waits for any more.
    pub(crate) fn given_up(&self) -> usize {
        self.state().dials.given_up.len()
    }

    // ---- what the reactor asks --------------------------------------------------------------------------------------

    pub(crate) fn dial(&self, address: &Address, number: u32) -> io::Result<Stream> {
        let answer = self.state().dials.answers.get(address).copied().unwrap_or(Answer::Silence);
        let elapsed = self.state().elapsed;
        if let Answer::FailsAtOnce(kind) = answer {
            self.state().dials.log.push((elapsed, address.clone(), None));
            return Err(kind.into());
        }
        let peer = self.link();
        let mut state = self.state();
        state.dials.log.push((elapsed, address.clone(), Some(peer.link)));
        state.links[peer.link].dialed = Some((address.clone(), false));
        drop(state);
        let stream = Stream::Mem(MemStream { world: self.clone(), link: peer.link });
        self.register(&stream, Source::Attempt(number));
        match answer {
            Answer::Opens => peer.accepts(),
            Answer::Fails(kind) => peer.refuses(kind),
            Answer::Itself => {
                self.state().links[peer.link].itself = true;
                peer.accepts();
            }
            Answer::Silence | Answer::FailsAtOnce(_) => {}
        }
        Ok(stream)
    }

    pub(crate) fn look_up(&self, dial: ConnId, host: &str, port: u16) {
        let mut state = self.state();
        let found = match state.dials.names.get(host) {
            Some(None) => return state.dials.pending.push((dial, host.to_owned(), port)),
            Some(Some(ips)) => Ok(ips.iter().map(|ip| Address::Ip(SocketAddr::new(*ip, port))).collect()),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "nobody knows that name")),
        };
        state.dials.found.push((dial, found));
    }

    pub(crate) fn give_up(&self, dial: ConnId) {
        let mut state = self.state();
        state.dials.pending.retain(|pending| pending.0 != dial);
        state.dials.found.retain(|found| found.0 != dial);
        state.dials.given_up.push(dial);
    }

    pub(crate) fn has_found(&self) -> bool {
        !self.state().dials.found.is_empty()
    }

    pub(crate) fn take_found(&self) -> Vec<(ConnId, Found)> {
        std::mem::take(&mut self.state().dials.found)
    }
}

impl Peer {
    /// A dial succeeds.
    pub(crate) fn accepts(&self) {
        let mut state = self.world.state();
        if let Some((_, open)) = &mut state.links[self.link].dialed {
            *open = true;
        }
        state.edge(self.link, Readiness::WRITABLE);
    }

    /// A dial fails.
    pub(crate) fn refuses(&self, kind: io::ErrorKind) {
        let mut state = self.world.state();
        state.links[self.link].error = Some(kind);
        let all = Readiness::READABLE.and(Readiness::READ_CLOSED).and(Readiness::WRITE_CLOSED);
        state.edge(self.link, all.and(Readiness::ERROR).and(Readiness::WRITABLE));
    }

    /// An event that says nothing: the system still tries.
    pub(crate) fn stirs(&self) {
        self.world.state().edge(self.link, Readiness::WRITABLE);
    }
}
