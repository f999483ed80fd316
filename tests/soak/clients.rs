//! All clients of the soak, driven from one thread: each follows its script, and checks what comes back.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, SockRef, Socket, Type};

use super::common::{PATIENCE, now};
use super::script::{Dice, Step, script, tag};
use super::server::{SERVER, TALKER, message, read_message};

/// How a connection has ended, as its client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The client went by itself.
    Left,
    /// The stream's end came.
    InOrder,
    /// A reset, or another error.
    Cut(ErrorKind),
    /// It never was a connection.
    NoConnection(ErrorKind),
}

/// What is known of a client that has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Verdict {
    pub(crate) number: u32,
    pub(crate) end: End,
    /// Nothing of these kinds was still to come.
    pub(crate) echoes_complete: bool,
    pub(crate) all_complete: bool,
    /// Nothing was left of a frame.
    pub(crate) whole: bool,
    /// Messages that have come.
    pub(crate) frames: u32,
}

/// The kinds of messages that come back, each in its order.
const KINDS: [u8; 3] = [tag::ECHO, tag::LATER, tag::AFTER];
/// Stands for a message without a byte among the numbers of echoes.
const NOTHING: u32 = u32::MAX;
/// Nobody rests for longer when all have to go.
const LAST_REST: Duration = Duration::from_millis(100);
/// What is said waits until no more than this is unsent.
const UNSENT_MAX: usize = 64 * 1024;

struct Client {
    number: u32,
    stream: TcpStream,
    steps: VecDeque<Step>,
    connected: bool,
    readable: bool,
    writable: bool,
    deaf: bool,
    /// What is to be sent, and how far it is.
    output: Vec<u8>,
    sent: usize,
    /// What is to be sent a byte at a time.
    dripping: VecDeque<u8>,
    drip_every: Duration,
    /// What has come and is no whole frame yet.
    input: Vec<u8>,
    said: [u32; KINDS.len()],
    /// Numbers and lengths of what is to come back.
    awaited: [VecDeque<(u32, usize)>; KINDS.len()],
    ticks: u32,
    /// The last broadcasts of the server and of the talker.
    heard: HashMap<u32, u32>,
    frames: u32,
    rests_until: Option<Instant>,
    /// It may not stay at its present step for longer.
    stuck_at: Instant,
}

impl Client {
    fn new(address: SocketAddr, seed: u64, number: u32) -> std::io::Result<Client> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        // So that what is not read is felt soon. Before it connects: a window that shrinks later makes the kernel drop what
        // is under way, and then not believe the reset of a server that has given up, so that the client waits for ever.
        socket.set_recv_buffer_size(16 * 1024)?;
        socket.connect_timeout(&address.into(), PATIENCE)?;
        socket.set_nonblocking(true)?;
        let stream = TcpStream::from_std(socket.into());
        Ok(Client {
            number,
            stream,
            steps: script(seed, number),
            connected: false,
            readable: false,
            writable: false,
            deaf: false,
            output: Vec::new(),
            sent: 0,
            dripping: VecDeque::new(),
            drip_every: Duration::ZERO,
            input: Vec::new(),
            said: [0; KINDS.len()],
            awaited: Default::default(),
            ticks: 0,
            heard: HashMap::new(),
            frames: 0,
            rests_until: None,
            stuck_at: now() + PATIENCE,
        })
    }

    /// Goes on as far as it goes without waiting.
    fn go_on(&mut self, now: Instant, in_a_hurry: bool) -> Option<End> {
        if !self.connected {
            if !self.writable {
                return None;
            }
            if let Some(error) = self.stream.take_error().ok().flatten() {
                return Some(End::NoConnection(error.kind()));
            }
            self.connected = true;
        }
        loop {
            let ended = self.read().or_else(|| self.write());
            if ended.is_some() {
                return ended;
            }
            if in_a_hurry {
                self.rests_until = self.rests_until.map(|until| until.min(now + LAST_REST));
            }
            if self.rests_until.is_some_and(|until| until > now) {
                return None;
            }
            self.rests_until = None;
            if let Some(byte) = self.dripping.pop_front() {
                self.output.push(byte);
                self.rests_until = Some(now + self.drip_every);
                continue;
            }
            match self.take_step(now) {
                Taken::Step => self.stuck_at = now + PATIENCE,
                Taken::Waits => return None,
                Taken::End(end) => return Some(end),
            }
        }
    }

    fn take_step(&mut self, now: Instant) -> Taken {
        let unsent = self.output.len() - self.sent;
        let Some(step) = self.steps.pop_front() else { return Taken::End(End::Left) };
        let waits = match &step {
            Step::Say(..) | Step::SayNothing => unsent > UNSENT_MAX && !self.deaf,
            Step::AwaitReplies => !self.deaf && (unsent > 0 || !self.all_complete()),
            Step::EndOutput => unsent > 0,
            Step::AwaitEnd => true,
            _ => false,
        };
        if waits {
            self.steps.push_front(step);
            return Taken::Waits;
        }
        match step {
            Step::Say(tag, len) => {
                let frame = self.say(tag, len);
                self.output.extend(frame);
            }
            Step::SayNothing => {
                self.awaited[0].push_back((NOTHING, 0));
                self.output.extend([0; 4]);
            }
            Step::Drip(tag, len, every) => {
                self.dripping = self.say(tag, len).into();
                self.drip_every = every;
            }
            Step::Spoil(bytes) => self.output.extend(bytes),
            Step::Rest(time) => self.rests_until = Some(now + time),
            Step::Deaf(deaf) => self.deaf = deaf,
            Step::AwaitReplies | Step::AwaitEnd => {}
            Step::EndOutput => {
                if let Err(error) = self.stream.shutdown(Shutdown::Write) {
                    return Taken::End(End::Cut(error.kind()));
                }
            }
            Step::Leave => return Taken::End(End::Left),
            Step::Reset => {
                // One that is gone already cannot be reset.
                drop(SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)));
                return Taken::End(End::Left);
            }
        }
        Taken::Step
    }

    /// The next frame of its kind. What comes back for it is noted.
    fn say(&mut self, tag: u8, len: usize) -> Vec<u8> {
        let kind = KINDS.iter().position(|kind| *kind == tag);
        let number = kind.map_or(0, |kind| {
            self.said[kind] += 1;
            self.awaited[kind].push_back((self.said[kind], len));
            self.said[kind]
        });
        let message = message(tag, self.number, number, len);
        [&(message.len() as u32).to_be_bytes()[..], &message].concat()
    }

    fn all_complete(&self) -> bool {
        self.awaited.iter().all(VecDeque::is_empty)
    }

    fn write(&mut self) -> Option<End> {
        while self.writable && self.sent < self.output.len() {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                // What came before the reset is read first.
                Err(error) => return self.read_to(End::Cut(error.kind())),
            }
        }
        if self.sent == self.output.len() {
            (self.output, self.sent) = (Vec::new(), 0);
        }
        None
    }

    fn read_to(&mut self, end: End) -> Option<End> {
        (self.readable, self.deaf) = (true, false);
        let _ = self.read();
        Some(end)
    }

    fn read(&mut self) -> Option<End> {
        let mut buffer = [0; 16 * 1024];
        while self.readable && !self.deaf {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Some(End::InOrder),
                Ok(n) => {
                    self.input.extend_from_slice(&buffer[..n]);
                    self.take_frames();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(error) => return Some(End::Cut(error.kind())),
            }
        }
        None
    }

    fn take_frames(&mut self) {
        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..];
        while let Some((head, behind)) = rest.split_first_chunk() {
            let len = u32::from_be_bytes(*head) as usize;
            let Some((frame, behind)) = behind.split_at_checked(len) else { break };
            self.frame_came(frame);
            rest = behind;
        }
        self.input = rest.to_vec();
    }

    fn frame_came(&mut self, frame: &[u8]) {
        self.frames += 1;
        let me = self.number;
        if frame.is_empty() {
            assert_eq!(self.awaited[0].pop_front(), Some((NOTHING, 0)), "an empty frame for client {me}");
            return;
        }
        let (tag, speaker, number) =
            read_message(frame).unwrap_or_else(|| panic!("client {me} gets {} wrong bytes", frame.len()));
        match tag {
            tag::PUBLISH => {
                assert_ne!(speaker, me, "a broadcast to others comes to its sender");
                if speaker == SERVER || speaker == TALKER {
                    let last = self.heard.insert(speaker, number);
                    assert!(last < Some(number), "client {me} hears {number} after {last:?}");
                }
            }
            tag::TICK => {
                assert_eq!((speaker, number), (me, self.ticks + 1), "ticks come in order, and once");
                self.ticks = number;
            }
            _ => {
                let kind = KINDS.iter().position(|kind| *kind == tag);
                let kind = kind.unwrap_or_else(|| panic!("client {me} gets a message {tag}"));
                let awaited = self.awaited[kind].pop_front();
                assert_eq!(speaker, me, "a reply comes to who has asked");
                assert_eq!(awaited, Some((number, frame.len() - 9)), "client {me}: replies come in order");
            }
        }
    }

    /// What there is to know of one that waits in vain.
    fn state(&self) -> String {
        format!(
            "{:?} from {:?}, {} bytes unsent, readable {}, writable {}, deaf {}, rests until {:?}, {} bytes of a frame, {:?} awaited, {} dripping, peek {:?}",
            self.verdict(End::Left),
            self.stream.local_addr(),
            self.output.len() - self.sent,
            self.readable,
            self.writable,
            self.deaf,
            self.rests_until,
            self.input.len(),
            self.awaited,
            self.dripping.len(),
            self.stream.peek(&mut [0; 16]),
        )
    }

    fn verdict(&self, end: End) -> Verdict {
        Verdict {
            number: self.number,
            end,
            echoes_complete: self.awaited[0].is_empty(),
            all_complete: self.all_complete(),
            whole: self.input.is_empty(),
            frames: self.frames,
        }
    }
}

enum Taken {
    Step,
    Waits,
    End(End),
}

/// So many clients at a time, each of which is followed by another.
pub(crate) struct Clients {
    address: SocketAddr,
    seed: u64,
    dice: Dice,
    poll: Poll,
    slots: Vec<Option<Client>>,
    /// When a slot wants to be looked at without an event: its client has rested, or its next one comes.
    alarms: BinaryHeap<Reverse<(Instant, usize)>>,
    next: u32,
    in_a_hurry: bool,
    verdicts: Vec<Verdict>,
}

impl Clients {
    pub(crate) fn new(address: SocketAddr, seed: u64, count: usize) -> Clients {
        let begin = now();
        let mut dice = Dice::new(!seed);
        // Not all at once: a little storm is enough.
        let alarm = |slot| Reverse((begin + dice.up_to_ms(400), slot));
        let alarms = (0..count).map(alarm).collect();
        let slots = (0..count).map(|_| None).collect();
        let poll = Poll::new().unwrap();
        Clients { address, seed, dice, poll, slots, alarms, next: 0, in_a_hurry: false, verdicts: Vec::new() }
    }

    /// Lets them come and go until then. With `to_the_end`, none comes any more, and all go.
    pub(crate) fn run(&mut self, until: Instant, to_the_end: bool, server_has_ended: impl Fn() -> bool) {
        let mut events = Events::with_capacity(1024);
        let mut look_at_all = now();
        self.in_a_hurry = to_the_end;
        loop {
            let time = now();
            let alarm = self.alarms.peek().map_or(time + PATIENCE, |Reverse((at, _))| *at);
            let wait = alarm.saturating_duration_since(time).min(Duration::from_millis(20));
            self.poll.poll(&mut events, Some(wait)).unwrap();
            let time = now();
            for event in &events {
                let slot = event.token().0;
                let Some(client) = &mut self.slots[slot] else { continue };
                client.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
                client.writable |= event.is_writable() || event.is_error();
                self.look(slot, time);
            }
            while self.alarms.peek().is_some_and(|Reverse((at, _))| *at <= time) {
                let Some(Reverse((_, slot))) = self.alarms.pop() else { break };
                match self.slots[slot] {
                    Some(_) => self.look(slot, time),
                    None if to_the_end => {}
                    None => self.come(slot, time),
                }
            }
            // Nobody is to wait in vain unseen.
            if time >= look_at_all {
                look_at_all = time + Duration::from_secs(1);
                (0..self.slots.len()).for_each(|slot| self.look(slot, time));
            }
            let done = if to_the_end { self.slots.iter().all(Option::is_none) } else { time >= until };
            if done || server_has_ended() {
                return;
            }
        }
    }

    pub(crate) fn into_verdicts(self) -> Vec<Verdict> {
        self.verdicts
    }

    fn come(&mut self, slot: usize, time: Instant) {
        let number = self.next;
        self.next += 1;
        match Client::new(self.address, self.seed, number) {
            Ok(mut client) => {
                let interest = Interest::READABLE | Interest::WRITABLE;
                self.poll.registry().register(&mut client.stream, Token(slot), interest).unwrap();
                self.slots[slot] = Some(client);
            }
            // No port is free, say: later.
            Err(error) => {
                println!("client {number} cannot connect: {error}");
                self.alarms.push(Reverse((time + Duration::from_millis(500), slot)));
            }
        }
    }

    fn look(&mut self, slot: usize, time: Instant) {
        let Some(client) = &mut self.slots[slot] else { return };
        let rested_until = client.rests_until;
        match client.go_on(time, self.in_a_hurry) {
            None => {
                let (next, number) = (client.steps.front(), client.number);
                assert!(
                    time < client.stuck_at,
                    "client {number} waits in vain before {next:?}: {}",
                    client.state()
                );
                if let Some(until) = client.rests_until.filter(|_| client.rests_until != rested_until) {
                    self.alarms.push(Reverse((until, slot)));
                }
            }
            Some(end) => {
                self.verdicts.push(client.verdict(end));
                self.slots[slot] = None;
                self.alarms.push(Reverse((time + self.dice.up_to_ms(200), slot)));
            }
        }
    }
}
