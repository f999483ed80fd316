//! The state machine of connections: a reactor on loopback, peers and a handler that do what the input says, and what must
//! hold whatever they do.
//!
//! What a peer has sent is in the kernel's hand at once, so that the next turn finds it, and an input does the same
//! each time but for deadlines, which are left out.

use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use mainspring::codec::LengthPrefixed;
use mainspring::{
    CloseReason, ConnId, Context, Dial, DialError, Direction, Flow, HalfClose, Handler, Limits, Overflow,
    Rate, Reactor, Timer, To,
};
use socket2::SockRef;

use crate::choices::Choices;

/// A payload of so many bytes says its own length in each of them.
fn payload(len: usize) -> Vec<u8> {
    vec![len as u8; len]
}

fn is_ours(message: &[u8]) -> bool {
    message.iter().all(|byte| *byte == message.len() as u8)
}

fn frame(len: usize) -> Vec<u8> {
    [&(len as u32).to_be_bytes(), &payload(len)[..]].concat()
}

/// Lengths of messages: small ones, and some above the marks.
fn length(choices: &mut Choices<'_>) -> usize {
    match choices.byte() {
        n @ 0..=199 => usize::from(n),
        n => usize::from(n - 199) * 700,
    }
}

#[derive(PartialEq, Eq, Debug)]
enum Life {
    Dialing,
    Open,
    Over,
}

struct Recorder {
    /// What is done inside callbacks, one byte for each thing.
    script: VecDeque<u8>,
    life: HashMap<ConnId, Life>,
    /// Lengths of the messages that each connection has brought, by the address of the peer.
    arrived: HashMap<SocketAddr, Vec<usize>>,
    paused: HashMap<ConnId, bool>,
    /// So many messages are sent back yet: two ends of its own would never come to rest.
    echoes: usize,
}

impl Recorder {
    fn expect(&self, conn: ConnId, life: Life, what: &str) {
        assert_eq!(self.life.get(&conn), Some(&life), "{what} of {conn}");
    }

    /// One thing that a handler may do, for one of the connections.
    fn act(&mut self, cx: &mut Context<Self>, own: Option<ConnId>) {
        let Some(what) = self.script.pop_front() else { return };
        let which = self.script.pop_front().unwrap_or(0);
        act(cx, own, what, which, &mut self.life, &mut self.paused);
    }
}

/// `what` to do, to `which` connection: ended ones too, since handlers keep names.
fn act(
    cx: &mut Context<Recorder>,
    own: Option<ConnId>,
    what: u8,
    which: u8,
    life: &mut HashMap<ConnId, Life>,
    paused: &mut HashMap<ConnId, bool>,
) {
    let mut all: Vec<ConnId> = life.keys().copied().collect();
    all.sort_unstable_by_key(ToString::to_string);
    let any = (!all.is_empty()).then(|| all[usize::from(which / 2) % all.len()]);
    let Some(conn) = (if which & 1 == 0 { own.or(any) } else { any }) else { return };
    let is_over = life.get(&conn) == Some(&Life::Over);
    let size = usize::from(which) * 50;
    let what = what % 24;
    let done = match what {
        0..=3 => cx.send(conn, &payload(usize::from(which))).is_queued(),
        4 => cx.send(conn, &payload(size)).is_queued(),
        5 => {
            cx.broadcast(To::All, &payload(usize::from(which)));
            false
        }
        6 => {
            cx.broadcast(To::AllBut(conn), &payload(size));
            false
        }
        7 => {
            let done = cx.pause(conn);
            if done {
                paused.insert(conn, true);
            }
            done
        }
        8 | 9 => {
            paused.remove(&conn);
            cx.resume(conn)
        }
        10 => {
            cx.close(conn);
            false
        }
        11 => {
            cx.abort(conn);
            false
        }
        12 => cx.owe(conn),
        13 | 14 => cx.paid(conn),
        15 => cx.end_output(conn),
        16 => cx.set_overflow(
            conn,
            [Overflow::DropOldest, Overflow::DropNewest, Overflow::Latest, Overflow::Tell]
                [usize::from(which % 4)],
        ),
        17 => cx.message(&payload(size)).key(u64::from(which % 3)).to(conn).is_queued(),
        18 => cx.message(&payload(usize::from(which))).control().to(conn).is_queued(),
        19 => cx.join(conn, u64::from(which % 3)),
        20 => cx.leave(conn, u64::from(which % 3)),
        21 => {
            cx.broadcast(To::Group(u64::from(which % 3)), &payload(size));
            false
        }
        22 => {
            let rate = (which & 4 == 0).then(|| Rate::default().bytes_per_second(1 << 30));
            cx.limit_rate(conn, if which & 8 == 0 { Direction::Input } else { Direction::Output }, rate)
        }
        _ => cx.after_for(conn, Duration::ZERO, 7).is_some(),
    };
    // What has no effect on the dead may still find them until the turn ends.
    let is_message = matches!(what, 0..=4 | 17 | 18);
    assert!(!(done && is_over && is_message), "a message is taken for {conn}, which is over");
}

impl Handler for Recorder {
    type Codec = LengthPrefixed;
    type Session = u32;

    fn on_open(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        let before = self.life.insert(conn, Life::Open);
        assert!(matches!(before, None | Some(Life::Dialing)), "{conn} is opened after {before:?}");
        self.act(cx, Some(conn));
    }

    fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, message: &[u8]) {
        self.expect(from, Life::Open, "a message");
        assert!(is_ours(message), "{} other bytes: {:?}", message.len(), &message[..message.len().min(20)]);
        assert!(!self.paused.contains_key(&from), "a message of {from}, which is paused");
        let peer = cx.peer_addr(from).and_then(mainspring::Address::ip).expect("it has an address");
        self.arrived.entry(peer).or_default().push(message.len());
        if self.script.is_empty() && self.echoes > 0 {
            self.echoes -= 1;
            cx.send(from, message);
        }
        self.act(cx, Some(from));
    }

    fn on_writable(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        self.expect(conn, Life::Open, "room");
        self.act(cx, Some(conn));
    }

    fn on_overflow(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        self.expect(conn, Life::Open, "an overflow");
        self.act(cx, Some(conn));
    }

    fn on_timer(&mut self, cx: &mut Context<Self>, timer: Timer) {
        assert_eq!(timer.key, 7);
        self.act(cx, None);
    }

    fn on_half_close(&mut self, cx: &mut Context<Self>, conn: ConnId) -> HalfClose {
        self.expect(conn, Life::Open, "an end of input");
        self.act(cx, Some(conn));
        if self.script.len() % 2 == 0 { HalfClose::CloseWhenFlushed } else { HalfClose::Keep }
    }

    fn on_close(&mut self, cx: &mut Context<Self>, conn: ConnId, _: CloseReason, _: u32) {
        self.expect(conn, Life::Open, "a close");
        assert!(!cx.send(conn, b"").is_queued(), "the dead take nothing");
        self.life.insert(conn, Life::Over);
        self.paused.remove(&conn);
        self.act(cx, Some(conn));
    }

    fn on_dial_failed(&mut self, cx: &mut Context<Self>, conn: ConnId, _: DialError, _: u32) {
        self.expect(conn, Life::Dialing, "a failure");
        self.life.insert(conn, Life::Over);
        self.act(cx, Some(conn));
    }
}

/// The far end of a connection that the reactor has accepted.
struct Peer {
    stream: TcpStream,
    address: SocketAddr,
    /// Bytes that go out next.
    waiting: VecDeque<u8>,
    /// Lengths of the messages that were put there.
    sent: Vec<usize>,
    /// What has come and is no whole frame yet.
    input: Vec<u8>,
    ended: bool,
}

impl Peer {
    fn connect(to: SocketAddr) -> Peer {
        let stream = TcpStream::connect(to).expect("the backlog has room");
        stream.set_nonblocking(true).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        let address = stream.local_addr().expect("a socket");
        Peer { stream, address, waiting: VecDeque::new(), sent: Vec::new(), input: Vec::new(), ended: false }
    }

    fn send(&mut self, len: usize) {
        self.sent.push(len);
        self.waiting.extend(frame(len));
    }

    fn push(&mut self, bytes: usize) {
        let bytes = bytes.min(self.waiting.len());
        if bytes == 0 || self.ended {
            return;
        }
        let piece: Vec<u8> = self.waiting.iter().take(bytes).copied().collect();
        if let Ok(n) = self.stream.write(&piece) {
            self.waiting.drain(..n);
        }
    }

    /// Takes what has come: whole frames of ours, and no other bytes.
    fn take(&mut self, bytes: usize) {
        let mut buffer = vec![0; bytes.max(1)];
        match self.stream.read(&mut buffer) {
            Ok(n) => self.input.extend_from_slice(&buffer[..n]),
            Err(error) => {
                let kind = error.kind();
                assert!(
                    matches!(
                        kind,
                        ErrorKind::WouldBlock | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
                    ),
                    "{error}"
                );
            }
        }
        while let Some(head) = self.input.first_chunk::<4>() {
            let len = u32::from_be_bytes(*head) as usize;
            assert!(len < 1 << 20, "a header of {len}");
            let Some(message) = self.input.get(4..4 + len) else { break };
            assert!(is_ours(message), "{len} other bytes");
            self.input.drain(..4 + len);
        }
    }

    fn end(&mut self) {
        self.ended = true;
        // The other side may have gone.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    fn reset(self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }
}

/// Takes turns until there is nothing to do at once. A loop that never rests, and moves nothing, fails: a turn may move as
/// little as a byte.
fn settle(reactor: &mut Reactor<Recorder>) -> Flow {
    let (mut before, mut in_vain) = ((0, 0, 0, 0), 0);
    loop {
        let flow = reactor.turn(Some(Duration::ZERO)).expect("the poller works");
        if flow == Flow::Finished || reactor.next_timeout() != Some(Duration::ZERO) {
            return flow;
        }
        let stats = reactor.stats();
        let after = (stats.bytes_in, stats.bytes_out, stats.frames_in, stats.closed);
        in_vain = if after == before { in_vain + 1 } else { 0 };
        before = after;
        assert!(in_vain < 1_000, "the loop does not come to rest: {stats:?}");
    }
}

/// Runs what the input says, then ends everything, and looks at what is left.
pub fn connection(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut limits = Limits::default();
    (limits.high_mark, limits.low_mark, limits.write_limit) = (20_000, 5_000, 60_000);
    limits.messages_per_turn = 1 + choices.below(5);
    limits.read_bytes_per_turn = 20 + choices.below(250) * 10;
    limits.write_bytes_per_turn = 1 + choices.below(250) * 100;
    limits.lingering_max = choices.below(3);
    (limits.memory_limit, limits.read_buffer, limits.events) = (400_000, 32 << 10, 1 + choices.below(8));
    (limits.drain_timeout, limits.linger_timeout) = (Duration::from_millis(20), Duration::from_millis(5));
    let script = choices.below(200);
    let script = choices.take(script).iter().copied().collect();
    let recorder = Recorder {
        script,
        life: HashMap::new(),
        arrived: HashMap::new(),
        paused: HashMap::new(),
        echoes: 100,
    };
    let mut reactor =
        Reactor::<Recorder>::builder().limits(limits).build(recorder).expect("the limits hold together");
    let listening =
        reactor.listen("127.0.0.1:0", LengthPrefixed::with_max_frame(100_000)).expect("a free port");
    let address = listening.address.ip().expect("it is IP");

    let mut peers: Vec<Peer> = Vec::new();
    let mut sent: HashMap<SocketAddr, Vec<usize>> = HashMap::new();
    let mut steps = 0;
    while !choices.is_empty() && steps < 300 {
        steps += 1;
        let (what, which) = (choices.byte(), choices.byte());
        let at = usize::from(which) % peers.len().max(1);
        match what % 16 {
            0 | 1 if peers.len() < 4 && !reactor.context().is_shutting_down() => {
                peers.push(Peer::connect(address))
            }
            2 => {
                // To itself: both ends are its own.
                // While it shuts down nothing is dialed, and the name is one of the gone.
                let life = if reactor.context().is_shutting_down() { Life::Over } else { Life::Dialing };
                let conn = reactor.connect(Dial::to(address), LengthPrefixed::default());
                let before = reactor.handler_mut().life.insert(conn, life);
                assert_eq!(before, None, "a name is given twice");
            }
            3..=5 => {
                if let Some(peer) = peers.get_mut(at) {
                    peer.send(length(&mut choices));
                    peer.push(usize::MAX);
                }
            }
            6 => {
                if let Some(peer) = peers.get_mut(at) {
                    peer.send(length(&mut choices));
                    peer.push(usize::from(choices.byte()));
                }
            }
            7 => {
                if let Some(peer) = peers.get_mut(at) {
                    peer.push(usize::from(choices.byte()) + 1);
                }
            }
            8 => {
                if let Some(peer) = peers.get_mut(at) {
                    peer.take(1 << 16);
                }
            }
            9 => {
                if let Some(peer) = peers.get_mut(at) {
                    peer.end();
                }
            }
            10 if !peers.is_empty() => {
                let peer = peers.swap_remove(at);
                sent.insert(peer.address, peer.sent.clone());
                peer.reset();
            }
            11 => drop(settle(&mut reactor)),
            12 => {
                let what = choices.byte();
                let mut life = std::mem::take(&mut reactor.handler_mut().life);
                let mut paused = std::mem::take(&mut reactor.handler_mut().paused);
                act(reactor.context(), None, what, which, &mut life, &mut paused);
                reactor.handler_mut().life = life;
                reactor.handler_mut().paused = paused;
            }
            13 if which == 77 => reactor.context().shutdown(),
            _ => {
                if reactor.turn(Some(Duration::ZERO)).expect("the poller works") == Flow::Finished {
                    break;
                }
            }
        }
        let stats = reactor.stats();
        assert_eq!(stats.accepted + stats.connected, stats.open + stats.closed, "{stats:?}");
    }
    settle(&mut reactor);

    for mut peer in peers {
        peer.take(1 << 20);
        sent.insert(peer.address, peer.sent.clone());
        peer.reset();
    }
    reactor.context().shutdown();
    let until = now() + Duration::from_secs(5);
    while reactor.turn(Some(Duration::from_millis(2))).expect("the poller works") != Flow::Finished {
        assert!(now() < until, "a shutdown does not end: {:?}", reactor.stats());
    }
    let stats = reactor.stats();
    assert_eq!((stats.open, stats.buffered_bytes), (0, 0), "{stats:?}");
    assert_eq!(stats.accepted + stats.connected, stats.closed, "{stats:?}");
    let recorder = reactor.into_handler();
    assert!(recorder.life.values().all(|life| *life == Life::Over), "{:?}", recorder.life);
    for (peer, arrived) in &recorder.arrived {
        // In order, whole, once: those of our own dials have no list here.
        if let Some(sent) = sent.get(peer) {
            assert!(sent.starts_with(arrived), "sent {sent:?}, arrived {arrived:?}");
        }
    }
}

fn now() -> Instant {
    Instant::now()
}
