//! Names, and what answers to dials: as a test says, at once or when it wants.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::{Kind, MemStream, Peer, World};
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
    /// What becomes of dials that nothing was said of. `None`: silence.
    otherwise: Option<Answer>,
    /// By poller.
    found: Vec<(usize, ConnId, Found)>,
    pending: Vec<(usize, ConnId, String, u16)>,
    /// Dials to listeners of the world: the far end, and that in the listener's queue.
    pairs: Vec<(Peer, Peer)>,
    given_up: Vec<ConnId>,
}

impl World {
    // ---- what a test says -------------------------------------------------------------------------------------------

    /// Dials to `address` are answered so from now on. Those that nothing was said of meet silence.
    pub(crate) fn answers(&self, address: &str, answer: Answer) {
        self.answers_at(address.parse().expect("an address"), answer);
    }

    /// The same for an address that was read already.
    pub(crate) fn answers_at(&self, address: Address, answer: Answer) {
        self.state().dials.answers.insert(address, answer);
    }

    /// A name, and its addresses. One that nothing was said of is unknown.
    pub(crate) fn knows(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|text| text.parse().expect("an IP address")).collect();
        self.knows_at(name, addresses);
    }

    /// The same for addresses that were read already.
    pub(crate) fn knows_at(&self, name: &str, addresses: Vec<IpAddr>) {
        let mut state = self.state();
        state.dials.names.insert(name.to_owned(), Some(addresses));
        let (now, later) = std::mem::take(&mut state.dials.pending).into_iter().partition(|p| p.2 == name);
        state.dials.pending = later;
        drop(state);
        let now: Vec<(usize, ConnId, String, u16)> = now;
        for (poller, dial, name, port) in now {
            World { state: Arc::clone(&self.state), poller }.look_up(dial, &name, port);
        }
    }

    /// Looking that name up does not end, until [`knows`](World::knows) is told.
    pub(crate) fn hangs(&self, name: &str) {
        self.state().dials.names.insert(name.to_owned(), None);
    }

    /// Dials that nothing was said of fail, and those to listeners of this world reach them.
    pub(crate) fn refuses_otherwise(&self) {
        self.state().dials.otherwise = Some(Answer::Fails(io::ErrorKind::ConnectionRefused));
    }

    /// Dials that have reached a listener of this world since the last call: the far end of each, and that in the queue.
    pub(crate) fn take_pairs(&self) -> Vec<(Peer, Peer)> {
        let mut state = self.state();
        if state.dials.pairs.is_empty() { Vec::new() } else { std::mem::take(&mut state.dials.pairs) }
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

    /// The far ends of all dials to `address` so far, in order.
    pub(crate) fn dials_to(&self, address: &Address) -> Vec<Peer> {
        let state = self.state();
        let links = state.dials.log.iter().filter(|dial| dial.1 == *address).filter_map(|dial| dial.2);
        links.map(|link| Peer { world: self.clone(), link }).collect()
    }

    /// Look-ups that nobody waits for any more.
    pub(crate) fn given_up(&self) -> usize {
        self.state().dials.given_up.len()
    }

    // ---- what the reactor asks --------------------------------------------------------------------------------------

    pub(crate) fn dial(&self, address: &Address, number: u32) -> io::Result<Stream> {
        let said = self.state().dials.answers.get(address).copied();
        let listener = if said.is_none() { self.listener_at(address) } else { None };
        let otherwise = self.state().dials.otherwise.unwrap_or(Answer::Silence);
        let answer = said.unwrap_or(if listener.is_some() { Answer::Opens } else { otherwise });
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
        let stream = Stream::Mem(MemStream::new(self, peer.link));
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
        if let Some(listener) = listener {
            let far = self.connect(listener);
            self.state().dials.pairs.push((peer, far));
        }
        Ok(stream)
    }

    pub(crate) fn look_up(&self, dial: ConnId, host: &str, port: u16) {
        let mut state = self.state();
        let found = match state.dials.names.get(host) {
            Some(None) => {
                return state.dials.pending.push((self.poller, dial, host.to_owned(), port));
            }
            Some(Some(ips)) => Ok(ips.iter().map(|ip| Address::Ip(SocketAddr::new(*ip, port))).collect()),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "nobody knows that name")),
        };
        state.dials.found.push((self.poller, dial, found));
    }

    pub(crate) fn give_up(&self, dial: ConnId) {
        let mut state = self.state();
        state.dials.pending.retain(|pending| (pending.0, pending.1) != (self.poller, dial));
        state.dials.found.retain(|found| (found.0, found.1) != (self.poller, dial));
        state.dials.given_up.push(dial);
    }

    pub(crate) fn has_found(&self) -> bool {
        self.state().dials.found.iter().any(|found| found.0 == self.poller)
    }

    pub(crate) fn take_found(&self) -> Vec<(ConnId, Found)> {
        let mut state = self.state();
        let found = std::mem::take(&mut state.dials.found);
        let (mut mine, others): (Vec<_>, _) = found.into_iter().partition(|found| found.0 == self.poller);
        state.dials.found = others;
        if let Some(mut roll) = state.dice.happens(Kind::Order, self.poller) {
            let by = roll.below(mine.len());
            mine.rotate_left(by);
        }
        mine.into_iter().map(|(_, dial, found)| (dial, found)).collect()
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
