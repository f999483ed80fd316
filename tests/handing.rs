//! What is on its way from one reactor of a pool to another one, when that one or its sender ends, or has just begun.

#![allow(clippy::unwrap_used, reason = "what a test's helper cannot do has failed the test")]

#[path = "common/reactor.rs"]
mod common;

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use bytes::Bytes;
use common::*;
use mainspring::codec::LengthPrefixed;
use mainspring::pool::{Balance, PoolConnId, PoolEnd, PoolHandle, ReactorPool, RunningPool};
use mainspring::{ConnId, Context, Handler, Limits, ListenOptions, Listening, Reactor, Stats, To};

fn codec() -> LengthPrefixed {
    LengthPrefixed::default()
}

/// Two reactors, of which the first hands clients out.
struct Two<H: Handler> {
    listening: Listening,
    handle: PoolHandle<H>,
    running: RunningPool<H>,
}

impl<H> Two<H>
where
    H: Handler<Codec = LengthPrefixed, Session: Send> + Send + 'static,
{
    fn new(limits: Limits, handler: impl FnMut(usize) -> H) -> Two<H> {
        let builder = ReactorPool::<H>::builder().reactors(2).balance(Balance::HandOut);
        let mut pool = builder.each(Reactor::<H>::builder().limits(limits)).build(handler).unwrap();
        let listening = pool.listen("127.0.0.1:0", codec()).unwrap();
        Two { listening, handle: pool.handle(), running: pool.start().unwrap() }
    }

    fn address(&self) -> SocketAddr {
        self.listening.address.ip().unwrap()
    }

    /// Clients, the even ones of the first reactor, the odd ones of the second.
    fn connect(&self, count: usize) -> Vec<TcpStream> {
        (0..count).map(|_| connect(self.address())).collect()
    }

    #[track_caller]
    fn ask<T: Send + 'static>(
        &self,
        reactor: usize,
        question: impl FnOnce(&mut Context<H>) -> T + Send + 'static,
    ) -> T {
        let (answers, answer) = mpsc::channel();
        let ask = move |_: &mut H, cx: &mut Context<H>| drop(answers.send(question(cx)));
        self.handle.of(reactor).unwrap().run(ask).unwrap();
        answer.recv_timeout(PATIENCE).unwrap()
    }

    #[track_caller]
    fn wait_stats(&self, reactor: usize, what: &str, wanted: impl Fn(&Stats) -> bool) {
        wait_for(what, || wanted(&self.ask(reactor, |cx| cx.stats())).then_some(()));
    }

    /// Keeps a reactor from its turns, until the sender is dropped.
    #[track_caller]
    fn hold(&self, reactor: usize) -> mpsc::Sender<()> {
        let (release, held) = mpsc::channel::<()>();
        let (begins, begun) = mpsc::channel();
        let hold = move |_: &mut H, _: &mut Context<H>| {
            begins.send(()).unwrap();
            held.recv_timeout(PATIENCE).ok();
        };
        self.handle.of(reactor).unwrap().run(hold).unwrap();
        begun.recv_timeout(PATIENCE).unwrap();
        release
    }

    #[track_caller]
    fn join(self) -> PoolEnd<H> {
        let (tell, told) = mpsc::channel();
        thread::spawn(move || tell.send(self.running.join()));
        told.recv_timeout(PATIENCE).expect("the pool ends").unwrap()
    }
}

fn echoes() -> impl FnMut(usize) -> Tester {
    |_| Tester::new(echo).0
}

#[test]
fn clients_behind_other_commands_are_served_before_their_reactor_ends() {
    let mut limits = Limits::default();
    limits.commands_per_turn = 1;
    let pool = Two::new(limits, echoes());
    let release = pool.hold(1);
    for _ in 0..5 {
        pool.handle.of(1).unwrap().run(|_, _| {}).unwrap();
    }
    let clients = pool.connect(8);
    clients.iter().for_each(|client| send_frame(client, b"last"));
    pool.wait_stats(0, "its own half", |stats| stats.frames_out == 4);
    pool.handle.shutdown();
    let expect_served = |clients: &[TcpStream], from| {
        for client in clients.iter().skip(from).step_by(2) {
            expect_frame(client, b"last");
            expect_end(client);
        }
    };
    // The first has come to its end, and the second has not looked at what it was handed.
    expect_served(&clients, 0);
    drop(release);
    expect_served(&clients, 1);
    drop(clients);
    let end = pool.join();
    assert_eq!((end.total().accepted, end.report.drained, end.report.cut), (8, 8, 0));
}

#[test]
fn one_that_is_asked_for_its_end_alone_waits_for_the_one_that_hands_out() {
    let pool = Two::new(Limits::default(), echoes());
    let release = pool.hold(0);
    let clients = pool.connect(4);
    clients.iter().for_each(|client| send_frame(client, b"late"));
    pool.handle.of(1).unwrap().shutdown();
    assert!(pool.ask(1, |cx| cx.is_shutting_down()));
    thread::park_timeout(A_WHILE);
    assert!(!pool.handle.of(1).unwrap().is_gone(), "who is handed a client now would be lost with it");
    drop(release);
    for client in &clients {
        expect_frame(client, b"late");
        expect_end(client);
    }
    drop(clients);
    let end = pool.join();
    assert_eq!(end.stats.iter().map(|stats| stats.accepted).collect::<Vec<_>>(), [2, 2]);
}

#[test]
fn who_is_handed_clients_ends_when_the_one_that_hands_them_out_has_begun_to() {
    let pool = Two::new(Limits::default(), |_| {
        let owe = |cx: &mut Context<Tester>, from: ConnId, _: &[u8]| assert!(cx.owe(from)); // and is never paid
        Tester::new(owe).0
    });
    let clients = pool.connect(2);
    send_frame(&clients[0], b"owe");
    pool.wait_stats(0, "the question", |stats| stats.frames_in == 1);
    pool.wait_stats(1, "its client", |stats| stats.open == 1);
    let release = pool.hold(0);
    pool.handle.shutdown();
    // It was woken by that, and sleeps again.
    assert!(!pool.ask(1, |cx| cx.is_shutting_down()));
    thread::park_timeout(A_WHILE / 3);
    drop(release);
    expect_end(&clients[1]);
    assert!(!pool.handle.of(0).unwrap().is_gone(), "it waits for an answer");
    drop(clients);
    pool.handle.shutdown();
    assert_eq!(pool.join().report.cut, 1);
}

#[test]
fn a_second_call_waits_for_nobody_on_the_way() {
    let mut limits = Limits::default();
    limits.commands_per_turn = 1;
    let pool = Two::new(limits, echoes());
    let release = pool.hold(1);
    for _ in 0..1_000 {
        pool.handle.of(1).unwrap().run(|_, _| {}).unwrap();
    }
    let clients = pool.connect(2);
    pool.wait_stats(0, "its own half", |stats| stats.accepted == 1);
    pool.handle.shutdown();
    pool.handle.shutdown();
    wait_for("the first to be gone", || pool.handle.of(0).unwrap().is_gone().then_some(()));
    drop(release);
    let end = pool.join();
    assert_eq!(end.total().accepted, 1, "the other one was still on its way");
    drop(clients);
}

#[test]
fn what_a_reactor_has_for_others_at_its_end_reaches_them() {
    let mut limits = Limits::default();
    limits.commands_max = 1;
    let name = Arc::new(Mutex::new(None::<PoolConnId>));
    let pool = Two::new(limits, |_| {
        let name = Arc::clone(&name);
        let on_message = move |cx: &mut Context<Tester>, from: ConnId, message: &[u8]| match message {
            b"owe" => {
                cx.owe(from); // so that it lives on
                *name.lock().unwrap() = Some(cx.pool_id(from));
            }
            _ => {
                let to = name.lock().unwrap().unwrap();
                (0..5).for_each(|n| assert!(cx.send_across(to, Bytes::from(vec![n]))));
                cx.shutdown();
            }
        };
        Tester::new(on_message).0
    });
    let clients = pool.connect(2);
    send_frame(&clients[1], b"owe");
    wait_for("the question", || *name.lock().unwrap());
    let release = pool.hold(1);
    send_frame(&clients[0], b"last words");
    expect_end(&clients[0]);
    wait_for("the first to be gone", || pool.handle.of(0).unwrap().is_gone().then_some(()));
    drop(release);
    (0..5).for_each(|n| expect_frame(&clients[1], &[n]));
    pool.handle.shutdown();
    drop(clients);
    assert_eq!(pool.join().total().frames_out, 5);
}

#[test]
fn a_reactor_that_cannot_hand_its_last_words_over_ends_at_its_deadline() {
    let mut limits = Limits::default();
    limits.commands_max = 1;
    limits.drain_timeout = A_WHILE;
    let pool = Two::new(limits, |_| {
        let on_message = |cx: &mut Context<Tester>, _: ConnId, _: &[u8]| {
            (0..5).for_each(|n| assert_eq!(cx.broadcast_elsewhere(To::All, &Bytes::from(vec![n])), 1));
            cx.shutdown();
        };
        Tester::new(on_message).0
    });
    let clients = pool.connect(1);
    let release = pool.hold(1);
    let begin = now();
    send_frame(&clients[0], b"last words");
    expect_end(&clients[0]);
    drop(clients);
    wait_for("the first to have nothing left but that", || {
        pool.handle.of(0).unwrap().is_gone().then_some(())
    });
    // The second takes nothing; what it would have been told last is given up. It is asked for its counters too, has no room
    // for that, and counts with what it last said.
    let (tell, told) = mpsc::channel();
    wait_for("the first to have ended", || {
        let tell = tell.clone();
        pool.handle.gather_stats(move |stats| tell.send(stats[0].accepted).unwrap());
        (told.recv_timeout(PATIENCE) == Ok(1)).then_some(())
    });
    assert!(now() - begin < PATIENCE / 2, "the second was still held");
    drop(release);
    pool.join();
}

#[test]
fn a_client_for_whom_the_other_has_no_room_is_the_first_ones_and_counts_as_that() {
    let mut limits = Limits::default();
    limits.commands_max = 1;
    let pool = Two::new(limits, echoes());
    let accepted = || [0, 1].map(|reactor| pool.ask(reactor, |cx| cx.stats().accepted));
    let release = pool.hold(1);
    pool.handle.of(1).unwrap().run(|_, _| {}).unwrap();
    let mut clients = pool.connect(4);
    clients.iter().for_each(|client| expect_echo(client, b"served"));
    drop(release);
    assert_eq!(accepted(), [4, 0]);
    // One after the other, each with room to go there.
    for _ in 0..4 {
        clients.extend(pool.connect(1));
        expect_echo(clients.last().unwrap(), b"served");
    }
    assert_eq!(accepted(), [4, 4]);
    clients.drain(..4);
    pool.wait_stats(0, "its clients to have left", |stats| stats.open == 0);
    (0..4).for_each(|_| clients.extend(pool.connect(1)));
    clients.iter().for_each(|client| expect_echo(client, b"served"));
    assert_eq!(accepted(), [8, 4]);
}

#[test]
fn no_client_is_handed_to_a_reactor_that_takes_none_while_another_does() {
    let mut limits = Limits::default();
    limits.connections_max = Some(3);
    let pool = Two::new(limits, echoes());
    // Not accepted, and so no reason to hand it fewer; but as many as it may have.
    let mut adopted: Vec<_> = (0..3)
        .map(|_| {
            let (ours, theirs) = pair();
            pool.handle.of(1).unwrap().adopt(ours, codec()).unwrap();
            theirs
        })
        .collect();
    adopted.iter().for_each(|peer| expect_echo(peer, b"adopted"));
    pool.wait_stats(1, "them", |stats| stats.open == 3);
    let first = pool.connect(3);
    first.iter().for_each(|client| expect_echo(client, b"served"));
    adopted.pop();
    pool.wait_stats(1, "a place", |stats| stats.open == 2);
    let second = pool.connect(1);
    second.iter().for_each(|client| expect_echo(client, b"served"));
    assert_eq!([0, 1].map(|reactor| pool.ask(reactor, |cx| cx.stats().open)), [3, 3]);
}

#[test]
fn a_client_that_is_refused_by_the_one_that_was_to_have_it_takes_no_place_in_the_pool() {
    let builder = ReactorPool::<Tester>::builder().reactors(2).balance(Balance::HandOut).connections_max(4);
    let mut pool = builder.build(echoes()).unwrap();
    let mut options = ListenOptions::default();
    options.connections_max = Some(1);
    let small = pool.listen_with("127.0.0.1:0", codec(), &options).unwrap().address.ip().unwrap();
    let large = pool.listen("127.0.0.1:0", codec()).unwrap().address.ip().unwrap();
    let _running = pool.start().unwrap();
    let served = [small, small].map(connect);
    served.iter().for_each(|client| expect_echo(client, b"one in each"));
    for _ in 0..5 {
        let mut refused = connect(small);
        assert!(matches!(refused.read(&mut [0]), Ok(0) | Err(_)));
    }
    [large, large].map(connect).iter().for_each(|client| expect_echo(client, b"and one more in each"));
}

#[test]
fn who_has_started_a_pool_may_wait_for_it_at_once() {
    let mut limits = Limits::default();
    limits.commands_max = 1;
    for _ in 0..100 {
        let each = Reactor::<Tester>::builder().limits(limits.clone());
        let pool = ReactorPool::<Tester>::builder().reactors(2).each(each).build(echoes()).unwrap();
        let handle = pool.handle();
        handle.of(1).unwrap().run(|_, _| {}).unwrap();
        let _running = pool.start().unwrap();
        // Its queue is full until its thread has taken a turn, and this is not the thread that will.
        handle.of(1).unwrap().run(|_, _| {}).unwrap();
    }
}

/// Waits in `on_start`, if so, and then tells all others.
struct Early {
    wait: Option<mpsc::Receiver<()>>,
    opened: mpsc::Sender<()>,
}

impl Handler for Early {
    type Codec = LengthPrefixed;
    type Session = ();

    fn on_start(&mut self, cx: &mut Context<Self>) {
        if let Some(wait) = self.wait.take() {
            wait.recv_timeout(PATIENCE).unwrap();
            cx.broadcast_elsewhere(To::All, &Bytes::from_static(b"here I am"));
        }
    }
    fn on_open(&mut self, _: &mut Context<Self>, _: ConnId) {
        self.opened.send(()).unwrap();
    }
    fn on_message(&mut self, _: &mut Context<Self>, _: ConnId, _: &[u8]) {}
}

#[test]
fn what_is_sent_across_in_on_start_does_not_wait_for_an_event() {
    let (opened, wait) = mpsc::channel();
    let mut wait = Some(wait);
    let pool = Two::new(Limits::default(), |_| Early { wait: wait.take(), opened: opened.clone() });
    let (ours, theirs) = pair();
    pool.handle.of(1).unwrap().adopt(ours, codec()).unwrap();
    expect_frame(&theirs, b"here I am");
    pool.handle.shutdown();
    pool.join();
}

#[test]
fn a_client_is_not_judged_by_the_listener_in_the_place_of_its_own() {
    let pool = Two::new(Limits::default(), echoes());
    let id = pool.listening.id;
    let other = pool.ask(1, move |cx| {
        assert!(cx.unlisten(id));
        let mut options = ListenOptions::default();
        options.connections_max = Some(0);
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        cx.listen_with(any, codec(), &options).unwrap().id
    });
    assert_ne!(other, id);
    pool.connect(4).iter().for_each(|client| expect_echo(client, b"let in"));
    pool.handle.shutdown();
    assert_eq!(pool.join().total().refused, 0);
}
