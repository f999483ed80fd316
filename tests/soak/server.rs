//! The server of the soak: a handler that keeps its own books, and the threads that talk to it.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use mainspring::codec::LengthPrefixed;
use mainspring::{
    CloseReason, ConnId, Context, DialError, HalfClose, Handle, HandleError, Handler, Limits, ListenOptions,
    Reactor, ShutdownReport, Stats, Timer, TimerId, To,
};
use socket2::{Domain, Socket, Type};

use super::common::{PATIENCE, now, pattern, wait_for};
use super::script::{Dice, FRAME_MAX, tag};

/// All who have joined.
const GROUP: u64 = 7;
/// Who speaks where no client does.
pub(crate) const SERVER: u32 = u32::MAX;
/// A thread that speaks by the handle.
pub(crate) const TALKER: u32 = u32::MAX - 1;
const DIALED: u32 = u32::MAX - 2;
/// What a dialed connection asks before it closes.
const QUESTIONS: u32 = 3;

mod key {
    pub(super) const AFTER: u64 = 1;
    pub(super) const RESUME: u64 = 2;
    pub(super) const TICK: u64 = 3;
    pub(super) const CLOSE: u64 = 4;
    /// The server's own, of no connection.
    pub(super) const BEAT: u64 = 5;
}

/// A message: what it asks, who speaks, the how-manieth of its kind, and bytes that follow from these.
pub(crate) fn message(tag: u8, speaker: u32, number: u32, len: usize) -> Vec<u8> {
    let mut message = vec![tag];
    message.extend(speaker.to_be_bytes());
    message.extend(number.to_be_bytes());
    message.extend(pattern((speaker.wrapping_mul(31) ^ number) as usize, len));
    message
}

/// The parts of a message, if its bytes are those that belong to them.
pub(crate) fn read_message(bytes: &[u8]) -> Option<(u8, u32, u32)> {
    let (head, _) = bytes.split_first_chunk::<9>()?;
    let [tag, head @ ..] = *head;
    let number = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (speaker, count) = (number(0), number(4));
    (message(tag, speaker, count, bytes.len() - 9) == bytes).then_some((tag, speaker, count))
}

/// How patient the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// All deadlines are short: who stalls is ended by the server.
    Hasty,
    /// There are no deadlines: whoever waits for an answer gets it, or something has been forgotten.
    Patient,
}

pub(crate) fn limits(mood: Mood, clients: usize) -> Limits {
    let ms = Duration::from_millis;
    let mut limits = Limits::default();
    limits.connections_max = Some(clients - clients / 20);
    limits.accepts_per_turn = 16;
    limits.messages_per_turn = 16;
    limits.read_bytes_per_turn = 64 * 1024;
    limits.write_bytes_per_turn = 64 * 1024;
    limits.commands_max = 64;
    limits.commands_per_turn = 16;
    limits.events = 64;
    limits.high_mark = 32 * 1024;
    limits.low_mark = 8 * 1024;
    limits.write_limit = 256 * 1024;
    limits.memory_limit = 4 * 1024 * 1024 + clients * 16 * 1024;
    limits.read_buffer = 64 * 1024;
    limits.lingering_max = 2 * clients;
    limits.linger_timeout = ms(300);
    limits.linger_bytes = 1024 * 1024;
    limits.spare_bytes = 4 * 1024 * 1024;
    limits.write_timeout = None;
    limits.drain_timeout = ms(500);
    if mood == Mood::Hasty {
        limits.lingering_max = clients / 20;
        limits.idle_timeout = Some(ms(900));
        limits.first_message_timeout = Some(ms(700));
        limits.frame_timeout = Some(ms(600));
        limits.write_timeout = Some(ms(1_000));
    }
    limits
}

#[derive(Debug, Default)]
pub(crate) struct Session {
    client: Option<u32>,
    later: VecDeque<Bytes>,
    ticks: u32,
}

/// What the handler has seen itself, to be held against the reactor's counters.
#[derive(Debug, Default)]
pub(crate) struct Books {
    pub(crate) opened: u64,
    pub(crate) messages: u64,
    pub(crate) queued: u64,
    pub(crate) dials_failed: u64,
    pub(crate) dials_begun: u64,
    pub(crate) closed: BTreeMap<&'static str, u64>,
    /// Why each client's connection has ended, as far as the client had told its number.
    pub(crate) ends: HashMap<u32, &'static str>,
    pub(crate) buffered_max: u64,
}

#[derive(Debug)]
pub(crate) struct Soak {
    pub(crate) books: Books,
    alive: HashSet<ConnId>,
    /// Dialed connections, and how many of their questions were answered.
    dialed: HashMap<ConnId, u32>,
    worker: Sender<(ConnId, Bytes)>,
    published: u32,
    beat: Option<TimerId>,
}

impl Soak {
    fn send(&mut self, cx: &mut Context<Self>, to: ConnId, message: &[u8]) {
        self.books.queued += u64::from(cx.send(to, message).is_queued());
    }

    fn publish(&mut self, cx: &mut Context<Self>, to: To<'_>, len: usize) {
        self.published += 1;
        let message = message(tag::PUBLISH, SERVER, self.published, len);
        self.books.queued += cx.broadcast(to, &message[..]).queued as u64;
    }

    fn answer_came(&mut self, cx: &mut Context<Self>, from: ConnId, message: &[u8]) {
        match read_message(message).expect("its bytes are right") {
            (tag::ECHO, DIALED, number) => {
                let answered = self.dialed.get_mut(&from).expect("it was dialed");
                *answered += 1;
                assert_eq!(number, *answered, "answers come in order");
                if *answered == QUESTIONS {
                    cx.close(from);
                }
            }
            (tag::PUBLISH, ..) => {}
            other => panic!("nobody asked for {other:?}"),
        }
    }
}

impl Handler for Soak {
    type Codec = LengthPrefixed;
    type Session = Session;

    fn on_start(&mut self, cx: &mut Context<Self>) {
        self.beat = Some(cx.every(Duration::from_millis(1_900), key::BEAT));
    }

    fn on_open(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        self.books.opened += 1;
        assert!(self.alive.insert(conn), "{conn} is opened once");
        if self.dialed.contains_key(&conn) {
            for number in 1..=QUESTIONS {
                let question = message(tag::ECHO, DIALED, number, 500 * number as usize);
                self.send(cx, conn, &question);
            }
        }
    }

    fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, message: &[u8]) {
        self.books.messages += 1;
        assert!(self.alive.contains(&from), "{from} is open");
        if self.dialed.contains_key(&from) {
            return self.answer_came(cx, from, message);
        }
        if message.is_empty() {
            return self.send(cx, from, message);
        }
        let (what, speaker, _) = read_message(message).expect("its bytes are right");
        // What is sent to all is sent by the dialed ones too, and comes to their other ends, here.
        if what == tag::PUBLISH && speaker == SERVER {
            return;
        }
        let session = cx.session_mut(from).expect("it is open");
        let client = *session.client.get_or_insert(speaker);
        assert_eq!(client, speaker, "nobody's bytes come to another");
        match what {
            tag::ECHO => self.send(cx, from, message),
            tag::LATER => {
                cx.owe(from);
                self.worker.send((from, Bytes::copy_from_slice(message))).expect("the worker runs");
            }
            tag::AFTER => {
                session.later.push_back(Bytes::copy_from_slice(message));
                cx.owe(from);
                cx.after_for(from, Duration::from_millis(20), key::AFTER).expect("it is open");
            }
            tag::JOIN => drop(cx.join(from, GROUP)),
            tag::PUBLISH => {
                self.books.queued += cx.broadcast(To::GroupBut(GROUP, from), message).queued as u64;
            }
            tag::PAUSE => {
                cx.pause(from);
                cx.after_for(from, Duration::from_millis(30), key::RESUME).expect("it is open");
            }
            tag::TICK => drop(cx.every_for(from, Duration::from_millis(10), key::TICK)),
            tag::CLOSE => cx.close(from),
            tag::ABORT => cx.abort(from),
            other => panic!("nobody says {other}"),
        }
    }

    fn on_writable(&mut self, _: &mut Context<Self>, conn: ConnId) {
        assert!(self.alive.contains(&conn), "{conn} is open");
    }

    fn on_timer(&mut self, cx: &mut Context<Self>, timer: Timer) {
        let Some(conn) = timer.conn else {
            // To all, several in a row.
            for len in [0, 10, 10, 300] {
                self.publish(cx, To::All, len);
            }
            return;
        };
        assert!(self.alive.contains(&conn), "timers of {conn} have gone with it");
        match timer.key {
            key::AFTER => {
                let session = cx.session_mut(conn).expect("it is open");
                let message = session.later.pop_front().expect("one for each timer");
                self.send(cx, conn, &message);
                cx.paid(conn);
            }
            key::RESUME => drop(cx.resume(conn)),
            key::CLOSE => cx.close(conn),
            _ => {
                let session = cx.session_mut(conn).expect("it is open");
                session.ticks += 1;
                let (client, ticks) = (session.client.expect("it has spoken"), session.ticks);
                self.send(cx, conn, &message(tag::TICK, client, ticks, 20));
                if ticks % 5 == 0 {
                    assert!(cx.cancel(timer.id), "it repeats");
                }
            }
        }
    }

    fn on_half_close(&mut self, cx: &mut Context<Self>, conn: ConnId) -> HalfClose {
        assert!(self.alive.contains(&conn), "{conn} is open");
        // Some are kept, and closed by us a little later.
        match cx.session(conn).expect("it is open").client {
            Some(client) if client % 16 == 3 => {
                cx.after_for(conn, Duration::from_millis(10), key::CLOSE).expect("it is open");
                HalfClose::Keep
            }
            _ => HalfClose::CloseWhenFlushed,
        }
    }

    fn on_close(&mut self, cx: &mut Context<Self>, conn: ConnId, reason: CloseReason, session: Session) {
        assert!(self.alive.remove(&conn), "{conn} is closed once");
        self.dialed.remove(&conn);
        let name = match reason {
            CloseReason::Peer { truncated: true } => "truncated",
            _ => reason.name(),
        };
        *self.books.closed.entry(reason.name()).or_default() += 1;
        if let Some(client) = session.client.filter(|client| *client < DIALED) {
            let earlier = self.books.ends.insert(client, name);
            assert_eq!(earlier, None, "client {client} has one connection");
        }
        assert!(!cx.send(conn, b"too late").is_queued());
    }

    fn on_dial_failed(&mut self, _: &mut Context<Self>, conn: ConnId, _: DialError, _: Session) {
        self.books.dials_failed += 1;
        assert!(!self.alive.contains(&conn), "it never was open");
        assert!(self.dialed.remove(&conn).is_some(), "{conn} was dialed, and fails once");
    }
}

/// A server on a thread of its own, and two more that talk to it by its handle.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) handle: Handle<Soak>,
    stop: Arc<AtomicBool>,
    reactor: JoinHandle<Reactor<Soak>>,
    talker: JoinHandle<()>,
    worker: JoinHandle<()>,
}

impl Server {
    pub(crate) fn start(limits: Limits, seed: u64) -> Server {
        let (worker, asked) = mpsc::channel();
        let soak = Soak {
            books: Books::default(),
            alive: HashSet::new(),
            dialed: HashMap::new(),
            worker,
            published: 0,
            beat: None,
        };
        let mut reactor = Reactor::<Soak>::builder().limits(limits).build(soak).unwrap();
        let mut options = ListenOptions::default();
        // So that a client that does not read is felt soon.
        options.socket.send_buffer = Some(32 * 1024);
        options.socket.receive_buffer = Some(32 * 1024);
        let codec = LengthPrefixed::with_max_frame(FRAME_MAX as u64);
        let listening = reactor.listen_with("127.0.0.1:0", codec, &options).unwrap();
        let address = listening.address.ip().unwrap();
        let handle = reactor.handle();
        let stop = Arc::new(AtomicBool::new(false));
        let talker = {
            let (handle, stop) = (handle.clone(), Arc::clone(&stop));
            thread::spawn(move || talk(&handle, &stop, address, seed))
        };
        let worker = {
            let handle = handle.clone();
            thread::spawn(move || answer(&handle, &asked))
        };
        let reactor = thread::spawn(move || {
            reactor.run().unwrap();
            reactor
        });
        Server { address, handle, stop, reactor, talker, worker }
    }

    pub(crate) fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Soak, &mut Context<Soak>) -> T + Send + 'static,
    ) -> T {
        let (answers, answer) = mpsc::channel();
        self.handle.run(move |soak, cx| drop(answers.send(question(soak, cx)))).expect("the loop runs");
        answer.recv_timeout(PATIENCE).expect("the loop answers")
    }

    pub(crate) fn wait_stats(&self, what: &str, mut wanted: impl FnMut(&Stats) -> bool) -> Stats {
        wait_for(what, || Some(self.ask(|_, cx| cx.stats())).filter(&mut wanted))
    }

    /// No more broadcasts and dials: from now on connections can only end.
    pub(crate) fn hush(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        wait_for("the talk to end", || self.talker.is_finished().then_some(()));
        assert!(self.ask(|soak, cx| cx.cancel(soak.beat.expect("it was set"))));
    }

    /// Whether it has ended, as it only does early by a panic.
    pub(crate) fn has_ended(&self) -> bool {
        self.reactor.is_finished()
    }

    /// Waits for its end. Gives the handler's books, and the reactor's counters and report.
    pub(crate) fn join(self) -> (Books, Stats, ShutdownReport) {
        let until = now() + PATIENCE;
        while !self.has_ended() {
            assert!(now() < until, "the loop does not end");
            thread::park_timeout(Duration::from_millis(1));
        }
        let reactor = self.reactor.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        self.stop.store(true, Ordering::Relaxed);
        self.talker.join().expect("the talker has not panicked");
        let (stats, report) = (reactor.stats(), reactor.shutdown_report());
        let Soak { books, alive, dialed, worker, .. } = reactor.into_handler();
        assert!(alive.is_empty() && dialed.is_empty(), "without an end: {alive:?}, {dialed:?}");
        drop(worker);
        self.worker.join().expect("the worker has not panicked");
        (books, stats, report)
    }
}

/// Answers what is to be answered later, in its order.
fn answer(handle: &Handle<Soak>, asked: &Receiver<(ConnId, Bytes)>) {
    for (conn, message) in asked {
        let answer = move |soak: &mut Soak, cx: &mut Context<Soak>| {
            soak.books.queued += u64::from(cx.send_owned(conn, &message).is_queued());
            cx.paid(conn);
        };
        if handle.run(answer).is_err() {
            // The loop has ended before; what is asked is asked of nobody.
            return;
        }
    }
}

/// Broadcasts, dials the server itself, and dials where nobody listens.
fn talk(handle: &Handle<Soak>, stop: &AtomicBool, address: SocketAddr, seed: u64) {
    let mut dice = Dice::new(seed);
    // Bound, and without a listener: it stays dead.
    let dead = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    dead.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let dead = (dead.local_addr().unwrap().as_socket().unwrap(), dead);
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let done = match dice.below(10) {
            0 => {
                let to = if dice.below(4) == 0 { dead.0 } else { address };
                handle.try_run(move |soak, cx| {
                    soak.books.buffered_max = soak.books.buffered_max.max(cx.stats().buffered_bytes);
                    if !cx.is_shutting_down() {
                        soak.books.dials_begun += 1;
                        let conn = cx.connect(to, LengthPrefixed::default());
                        soak.dialed.insert(conn, 0);
                    }
                })
            }
            1 => handle.try_run(|soak, cx| {
                let len = 3_000 * (cx.stats().turns % 5) as usize;
                soak.publish(cx, To::Group(GROUP), len);
            }),
            _ => {
                number += 1;
                let len = if dice.below(8) == 0 { dice.below(20_000) } else { dice.below(300) };
                let message = Bytes::from(message(tag::PUBLISH, TALKER, number, len as usize));
                handle.try_run(move |soak, cx| {
                    soak.books.queued += cx.broadcast(To::Group(GROUP), &message[..]).queued as u64;
                })
            }
        };
        if done == Err(HandleError::Gone(())) {
            return;
        }
        thread::park_timeout(Duration::from_millis(1 + dice.below(10)));
    }
}
