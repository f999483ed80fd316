//! Many reactors on one port: who gets a client, what crosses between them, and how they end together.

#![allow(clippy::unwrap_used, reason = "what a test's helper cannot do has failed the test")]

#[path = "common/reactor.rs"]
mod common;

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use common::*;
use mainspring::codec::LengthPrefixed;
use mainspring::pool::{
    Balance, Builder, PoolConnId, PoolEnd, PoolError, PoolHandle, PoolTo, ReactorPool, RunningPool,
};
use mainspring::{ConnId, Context, Error, HandleError, Limits, ListenOptions, Reactor, Stats, To};

fn codec() -> LengthPrefixed {
    LengthPrefixed::default()
}

/// Both ways, where there are both.
fn balances() -> Vec<Balance> {
    let kernel =
        cfg!(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "dragonfly"));
    if kernel { vec![Balance::Kernel, Balance::HandOut] } else { vec![Balance::HandOut] }
}

/// A pool that runs, with one listener. Dropping it ends it at once.
struct Pool {
    address: SocketAddr,
    handle: PoolHandle<Tester>,
    events: Vec<Events>,
    running: RunningPool<Tester>,
}

impl Pool {
    fn new(
        builder: Builder,
        on_message: impl FnMut(&mut Context<Tester>, ConnId, &[u8]) + Clone + Send + 'static,
    ) -> Pool {
        let mut events = Vec::new();
        let mut pool = builder
            .build(|_| {
                let (tester, told) = Tester::new(on_message.clone());
                events.push(told);
                tester
            })
            .unwrap();
        let listening = pool.listen("127.0.0.1:0", codec()).unwrap();
        let (handle, address) = (pool.handle(), listening.address.ip().unwrap());
        Pool { address, handle, events, running: pool.start().unwrap() }
    }

    fn echo(balance: Balance) -> Pool {
        Pool::new(two(balance), echo)
    }

    fn connect(&self) -> TcpStream {
        connect(self.address)
    }

    /// Clients until each reactor has `each`, by reactor, with their names. Those that were not needed have left.
    #[track_caller]
    fn connect_to_all(&self, each: usize) -> Vec<Vec<(TcpStream, PoolConnId)>> {
        let mut of: Vec<_> = self.events.iter().map(|_| Vec::new()).collect();
        for _ in 0..100 * each {
            let client = self.connect();
            let (reactor, conn) = wait_for("on_open", || {
                self.events.iter().enumerate().find_map(|(at, events)| Some((at, events.told(opened)?)))
            });
            if of[reactor].len() < each {
                of[reactor].push((client, PoolConnId { reactor, conn }));
            }
            if of.iter().all(|clients| clients.len() == each) {
                let wanted = (each * of.len()) as u64;
                wait_for("the others to have left", || (self.total().open == wanted).then_some(()));
                return of;
            }
        }
        panic!("a reactor gets no clients");
    }

    /// Keeps a reactor from its turns, until something is sent or the sender dropped.
    #[track_caller]
    fn hold(&self, reactor: usize) -> mpsc::Sender<()> {
        let (release, held) = mpsc::channel::<()>();
        let (begins, begun) = mpsc::channel();
        let hold = move |_: &mut Tester, _: &mut Context<Tester>| {
            begins.send(()).unwrap();
            held.recv_timeout(PATIENCE).ok();
        };
        self.handle.of(reactor).unwrap().run(hold).unwrap();
        begun.recv_timeout(PATIENCE).unwrap();
        release
    }

    fn total(&self) -> Stats {
        let mut total = Stats::default();
        self.handle.stats().unwrap().iter().for_each(|stats| total.add(stats));
        total
    }

    #[track_caller]
    fn stop(self) -> PoolEnd<Tester> {
        self.running.shutdown();
        join(self.running).unwrap()
    }
}

fn two(balance: Balance) -> Builder {
    ReactorPool::<Tester>::builder().reactors(2).balance(balance)
}

/// As `join`, with a bound.
#[track_caller]
fn join(running: RunningPool<Tester>) -> Result<PoolEnd<Tester>, PoolError> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(running.join()));
    told.recv_timeout(PATIENCE).expect("the pool ends")
}

#[track_caller]
fn expect_in_use(error: Error) {
    match error {
        Error::Listen { source, .. } => assert_eq!(source.kind(), ErrorKind::AddrInUse),
        other => panic!("{other}"),
    }
}

// ---- who gets a client ---------------------------------------------------------------------------------------------

#[test]
fn clients_are_shared_out_and_served() {
    for balance in balances() {
        let pool = Pool::echo(balance);
        let clients: Vec<_> = (0..64).map(|_| pool.connect()).collect();
        for (n, client) in clients.iter().enumerate() {
            expect_echo(client, &pattern(n, 100));
        }
        let stats = pool.handle.stats().unwrap();
        let open: Vec<u64> = stats.iter().map(|stats| stats.open).collect();
        assert_eq!(open.iter().sum::<u64>(), 64);
        // Handed out, they are even; the kernel's hash gives so few to one of them once in a thousand million times.
        let least = if balance == Balance::HandOut { 32 } else { 8 };
        assert!(open.iter().all(|open| *open >= least), "{balance:?}: {open:?}");
        let end = pool.stop();
        assert_eq!((end.total().accepted, end.total().frames_out), (64, 64));
    }
}

#[test]
fn the_least_loaded_gets_the_next() {
    let pool = Pool::echo(Balance::HandOut);
    let mut of = pool.connect_to_all(4);
    // All of one reactor go; those who come next are for it alone.
    let conns: Vec<PoolConnId> = of[1].iter().map(|(_, conn)| *conn).collect();
    of[1].clear();
    for _ in conns {
        pool.events[1].wait_closed();
    }
    let _new: Vec<_> = (0..4)
        .map(|_| {
            let client = pool.connect();
            pool.events[1].wait_opened();
            client
        })
        .collect();
    assert!(pool.events[0].told(opened).is_none());
}

#[test]
fn a_listener_has_one_name_in_all_reactors() {
    for balance in balances() {
        let (tell, told) = mpsc::channel();
        let mut pool = two(balance)
            .build(|_| {
                let tell = tell.clone();
                Tester::with_events(echo, move |cx, event| {
                    if let Event::Opened(conn) = event {
                        let id = cx.listener_of(*conn).unwrap();
                        let local = cx.local_addr(*conn);
                        assert_eq!(cx.listener_addr(id), local);
                        tell.send((cx.reactor_index(), cx.reactors(), id)).unwrap();
                    }
                })
                .0
            })
            .unwrap();
        let listeners: Vec<_> = (0..3).map(|_| pool.listen("127.0.0.1:0", codec()).unwrap()).collect();
        let _running = pool.start().unwrap();
        for listening in listeners {
            let address = listening.address.ip().unwrap();
            let mut seen = [false; 2];
            let mut clients = Vec::new();
            while seen != [true; 2] {
                assert!(clients.len() < 200, "{balance:?}: {seen:?}");
                clients.push(connect(address));
                let (reactor, reactors, id) = told.recv_timeout(PATIENCE).unwrap();
                assert_eq!((reactors, id), (2, listening.id));
                seen[reactor] = true;
            }
        }
    }
}

#[test]
fn an_address_that_another_program_holds_is_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    for balance in balances() {
        let mut pool = two(balance).build(|_| Tester::new(echo).0).unwrap();
        expect_in_use(pool.listen(taken.local_addr().unwrap(), codec()).unwrap_err());
        // And the name of the next one is the same in all reactors again.
        pool.listen("127.0.0.1:0", codec()).unwrap();
    }
}

#[test]
fn an_address_that_another_pool_holds_is_in_use() {
    for first in balances() {
        for second in balances() {
            let pool = Pool::echo(first);
            let mut other = two(second).build(|_| Tester::new(echo).0).unwrap();
            expect_in_use(other.listen(pool.address, codec()).unwrap_err());
            let mut alone = Reactor::new(Tester::new(echo).0).unwrap();
            expect_in_use(alone.listen(pool.address, codec()).unwrap_err());
            drop(alone);
            // It still serves, and its port is free at once when it is gone, though not all has left the kernel.
            let client = pool.connect();
            expect_echo(&client, b"mine");
            let address = pool.address;
            pool.stop();
            other.listen(address, codec()).unwrap();
        }
    }
}

#[test]
fn pools_that_start_at_once_on_one_address_do_not_both_get_it() {
    // Found by each in the moment between the other's look and its listening, if there is one.
    for _ in 0..200 {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listen = move || {
            let mut pool = two(Balance::Auto).build(|_| Tester::new(echo).0).unwrap();
            pool.listen(address, codec()).map(|_| pool)
        };
        let other = thread::spawn(listen);
        let (one, other) = (listen(), other.join().unwrap());
        let certain = cfg!(any(target_os = "linux", target_os = "android"));
        assert!(!certain || one.is_err() || other.is_err(), "both listen on {address}");
        for error in [one.err(), other.err()].into_iter().flatten() {
            expect_in_use(error);
        }
    }
}

#[test]
fn a_pool_listens_on_ipv6_too() {
    if !has_ipv6() {
        return;
    }
    for balance in balances() {
        let mut pool = two(balance).build(|_| Tester::new(echo).0).unwrap();
        let listening = pool.listen("[::1]:0", codec()).unwrap();
        let _running = pool.start().unwrap();
        for _ in 0..8 {
            expect_echo(&connect(listening.address.ip().unwrap()), b"six");
        }
    }
}

#[test]
fn an_adopted_listener_serves_all_reactors() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let early = connect(address);
    for balance in balances().into_iter().take(1) {
        let mut pool = two(balance).build(|_| Tester::new(echo).0).unwrap();
        let handle = pool.handle();
        pool.adopt_listener(listener.try_clone().unwrap(), codec()).unwrap();
        let _running = pool.start().unwrap();
        expect_echo(&early, b"early");
        let clients: Vec<_> = (0..9).map(|_| connect(address)).collect();
        clients.iter().for_each(|client| expect_echo(client, b"late"));
        let open: Vec<u64> = handle.stats().unwrap().iter().map(|stats| stats.open).collect();
        assert_eq!(open, [5, 5]);
    }
}

#[test]
fn a_maximum_for_all_is_exact() {
    for balance in balances() {
        let pool = Pool::new(two(balance).connections_max(9), echo);
        let mut clients: Vec<TcpStream> = (0..9).map(|_| pool.connect()).collect();
        clients.iter().for_each(|client| expect_echo(client, b"in"));
        for _ in 0..5 {
            let mut refused = pool.connect();
            assert!(matches!(refused.read(&mut [0]), Ok(0) | Err(_)));
        }
        wait_for("the refusals", || (pool.total().refused == 5).then_some(()));
        clients.truncate(6);
        wait_for("room", || (pool.total().open == 6).then_some(()));
        clients.extend((0..3).map(|_| pool.connect()));
        clients.iter().for_each(|client| expect_echo(client, b"in again"));
        let total = pool.stop().total();
        assert_eq!((total.accepted, total.refused), (12, 5), "{balance:?}");
    }
}

#[test]
fn who_gets_a_client_that_was_handed_out_has_limits_of_its_own() {
    let mut limits = Limits::default();
    limits.connections_max = Some(1);
    let each = Reactor::<Tester>::builder().limits(limits);
    let pool = Pool::new(two(Balance::HandOut).each(each), echo);
    let _clients = pool.connect_to_all(1);
    let mut refused = pool.connect();
    assert!(matches!(refused.read(&mut [0]), Ok(0) | Err(_)));
    assert_eq!(pool.stop().total().refused, 1);
}

#[test]
fn a_stream_goes_to_each_in_turn() {
    let pool = Pool::echo(Balance::Auto);
    let peers: Vec<_> = (0..6)
        .map(|_| {
            let (ours, theirs) = pair();
            pool.handle.try_adopt(ours, codec()).unwrap();
            theirs
        })
        .collect();
    peers.iter().for_each(|peer| expect_echo(peer, b"adopted"));
    let open: Vec<u64> = pool.handle.stats().unwrap().iter().map(|stats| stats.open).collect();
    assert_eq!(open, [3, 3]);
}

#[test]
fn a_pool_of_none_or_of_a_bad_name_is_an_error() {
    assert!(matches!(ReactorPool::new(0, |_| Tester::new(echo).0), Err(Error::Config(_))));
    let named = ReactorPool::<Tester>::builder().reactors(1).thread_name("a\0b");
    assert!(matches!(named.build(|_| Tester::new(echo).0), Err(Error::Config(_))));
}

#[test]
fn a_pool_of_one_is_a_reactor() {
    for balance in balances() {
        let pool = Pool::new(ReactorPool::<Tester>::builder().reactors(1).balance(balance), |cx, from, _| {
            let reached = cx.broadcast_elsewhere(To::All, &Bytes::from_static(b"nobody"));
            cx.send(from, &[reached as u8]);
        });
        // Nor does it let anyone join, as those must that share a port.
        let mut options = ListenOptions::default();
        options.reuse_port = cfg!(unix);
        let mut other = Reactor::new(Tester::new(echo).0).unwrap();
        expect_in_use(other.listen_with(pool.address, codec(), &options).unwrap_err());
        let client = pool.connect();
        send_frame(&client, b"how many?");
        expect_frame(&client, &[0]);
        assert_eq!(pool.stop().handlers.len(), 1);
    }
}

#[test]
fn threads_have_names() {
    let pool = Pool::new(two(Balance::HandOut).thread_name("sea"), |cx, from, _| {
        let name = thread::current().name().unwrap().to_owned();
        cx.send(from, name.as_bytes());
    });
    for (reactor, clients) in pool.connect_to_all(1).iter().enumerate() {
        send_frame(&clients[0].0, b"who?");
        expect_frame(&clients[0].0, format!("sea-{reactor}").as_bytes());
    }
}

// ---- what crosses --------------------------------------------------------------------------------------------------

/// Sends each message to all but its sender.
fn tell_others(cx: &mut Context<Tester>, from: ConnId, message: &[u8]) {
    cx.broadcast(To::AllBut(from), message);
    assert_eq!(cx.broadcast_elsewhere(To::AllBut(from), &Bytes::copy_from_slice(message)), 1);
}

/// Four members in two reactors send 500 numbered messages each, and each gets those of all others in order.
fn expect_all_reach_all(pool: &Pool) {
    const COUNT: u32 = 500;
    let of = pool.connect_to_all(2);
    let members: Vec<&TcpStream> = of.iter().flatten().map(|(client, _)| client).collect();
    thread::scope(|scope| {
        for (sender, member) in members.iter().enumerate() {
            scope.spawn(move || {
                for n in 0..COUNT {
                    send_frame(*member, &[&[sender as u8][..], &n.to_be_bytes()].concat());
                }
            });
            scope.spawn(move || {
                let mut next = [0u32; 4];
                for _ in 0..3 * COUNT {
                    let message = read_frame(*member);
                    let from = usize::from(message[0]);
                    assert_ne!(from, sender, "its own");
                    assert_eq!(message[1..], next[from].to_be_bytes(), "in order");
                    next[from] += 1;
                }
            });
        }
    });
}

#[test]
fn a_broadcast_reaches_the_connections_of_all_once_and_in_order() {
    for balance in balances() {
        let pool = Pool::new(two(balance), tell_others);
        expect_all_reach_all(&pool);
        assert_eq!(pool.stop().total().frames_dropped, 0);
    }
}

#[test]
fn a_reactor_that_is_behind_loses_nothing() {
    // With a queue for three, and one command a turn, each has to wait for the other all the time, and both at once.
    let mut limits = Limits::default();
    limits.commands_max = 3;
    limits.commands_per_turn = 1;
    let each = Reactor::<Tester>::builder().limits(limits);
    let pool = Pool::new(two(Balance::HandOut).each(each), tell_others);
    let of = pool.connect_to_all(2);
    drop(of);
    wait_for("an empty pool", || (pool.total().open == 0).then_some(()));
    expect_all_reach_all(&pool);
    assert_eq!(pool.stop().total().frames_dropped, 0);
}

#[test]
fn who_has_more_for_the_others_than_they_take_reads_no_more() {
    // The second reactor is held; the first one's clients send on and on.
    let mut limits = Limits::default();
    limits.commands_max = 4;
    limits.messages_per_turn = 10;
    let each = Reactor::<Tester>::builder().limits(limits);
    let pool = Pool::new(two(Balance::HandOut).each(each), |cx, _, message| {
        cx.broadcast_elsewhere(To::All, &Bytes::copy_from_slice(message));
    });
    let of = pool.connect_to_all(1);
    let (sender, receiver) = (of[0][0].0.try_clone().unwrap(), &of[1][0].0);
    let release = pool.hold(1);
    // More than one read brings.
    const COUNT: u64 = 2_000;
    let sending =
        thread::spawn(move || (0..COUNT).for_each(|n| send_frame(&sender, &pattern(n as usize, 1_000))));
    let handle = pool.handle.clone();
    let frames_in = move || {
        let (answers, answer) = mpsc::channel();
        handle.of(0).unwrap().run(move |_, cx| answers.send(cx.stats().frames_in).unwrap()).unwrap();
        answer.recv_timeout(PATIENCE).unwrap()
    };
    // What one read has brought is delivered; then it stands still.
    let mut before = 0;
    wait_for("it to stand still", || {
        thread::park_timeout(Duration::from_millis(20));
        let now = frames_in();
        std::mem::replace(&mut before, now).eq(&now).then_some(()).filter(|()| now > 0)
    });
    let stopped_at = before;
    assert!(stopped_at < COUNT, "all {COUNT} were read");
    thread::park_timeout(A_WHILE);
    assert_eq!(frames_in(), stopped_at, "it reads on");
    // It has turns to take all the same: this was one. Now the other one goes on.
    release.send(()).unwrap();
    (0..COUNT).for_each(|n| expect_frame(receiver, &pattern(n as usize, 1_000)));
    sending.join().unwrap();
}

#[test]
fn a_group_has_members_in_all_reactors() {
    let pool = Pool::new(two(Balance::HandOut), |cx, from, message| match message {
        b"join" => {
            cx.join(from, 7);
            cx.send(from, b"joined");
        }
        message => {
            cx.broadcast(To::GroupBut(7, from), message);
            cx.broadcast_elsewhere(To::GroupBut(7, from), &Bytes::copy_from_slice(message));
            cx.broadcast_elsewhere(To::Set(&[from]), &Bytes::from_static(b"is nobody's there"));
        }
    });
    let of = pool.connect_to_all(3);
    let members = || of.iter().flat_map(|clients| &clients[1..]);
    for (member, _) in members() {
        send_frame(member, b"join");
        expect_frame(member, b"joined");
    }
    let (sender, sender_name) = &of[0][1];
    send_frame(sender, b"from a member");
    members().filter(|(_, name)| name != sender_name).for_each(|(m, _)| expect_frame(m, b"from a member"));
    pool.handle.broadcast(PoolTo::Group(7), Bytes::from_static(b"from outside")).unwrap();
    members().for_each(|(member, _)| expect_frame(member, b"from outside"));
    pool.handle.broadcast(PoolTo::GroupBut(7, *sender_name), Bytes::from_static(b"of you")).unwrap();
    members().filter(|(_, name)| name != sender_name).for_each(|(m, _)| expect_frame(m, b"of you"));
    // Nobody has got more than that.
    pool.handle.broadcast(PoolTo::All, Bytes::from_static(b"last")).unwrap();
    of.iter().flatten().for_each(|(client, _)| expect_frame(client, b"last"));
}

#[test]
fn a_connection_is_reached_by_its_reactor_and_its_name() {
    let pool = Pool::echo(Balance::HandOut);
    let of = pool.connect_to_all(2);
    for (client, name) in of.iter().flatten() {
        pool.handle.send(*name, Bytes::from(name.to_string())).unwrap();
        expect_frame(client, name.to_string().as_bytes());
        // The same name in the other reactor is nobody's, although its first connection had the same slot.
        let wrong = PoolConnId { reactor: 1 - name.reactor, conn: name.conn };
        pool.handle.send(wrong, Bytes::from_static(b"for nobody")).unwrap();
    }
    wait_for("four drops", || (pool.total().frames_dropped == 4).then_some(()));
    let nowhere = PoolConnId { reactor: 2, conn: of[0][0].1.conn };
    let message = Bytes::from_static(b"comes back");
    assert_eq!(pool.handle.send(nowhere, message.clone()), Err(HandleError::Gone(message)));
    let all_but = of[1][0].1;
    pool.handle.broadcast(PoolTo::AllBut(all_but), Bytes::from_static(b"but one")).unwrap();
    pool.handle.close(all_but).unwrap();
    expect_end(&of[1][0].0);
    of.iter().flatten().filter(|(_, name)| *name != all_but).for_each(|(c, _)| expect_frame(c, b"but one"));
}

#[test]
fn a_handler_sends_across() {
    // Each message is a name and a text for it.
    let (tell, names) = mpsc::channel();
    let pool = Pool::new(two(Balance::HandOut), move |cx, from, message| {
        if message == b"my name" {
            tell.send(cx.pool_id(from)).unwrap();
            return;
        }
        let handle = cx.pool().unwrap();
        // Those who wait, on a thread of the pool, are told that they may not.
        let waited = handle.broadcast(PoolTo::All, Bytes::new());
        assert_eq!(waited, Err(HandleError::WouldDeadlock(Bytes::new())));
        assert_eq!(handle.stats(), Err(HandleError::WouldDeadlock(())));
        let to: u64 = u64::from_be_bytes(message[..8].try_into().unwrap());
        let to = NAMES.lock().unwrap()[to as usize];
        assert!(cx.send_across(to, Bytes::copy_from_slice(&message[8..])));
        assert!(!cx.send_across(PoolConnId { reactor: 9, ..to }, Bytes::new()));
    });
    static NAMES: std::sync::Mutex<Vec<PoolConnId>> = std::sync::Mutex::new(Vec::new());
    let of = pool.connect_to_all(1);
    let clients = [&of[0][0].0, &of[1][0].0];
    for (reactor, client) in clients.into_iter().enumerate() {
        send_frame(client, b"my name");
        let name = names.recv_timeout(PATIENCE).unwrap();
        assert_eq!(name, of[reactor][0].1);
        NAMES.lock().unwrap().push(name);
    }
    for from in 0..2 {
        for to in 0..2u64 {
            send_frame(clients[from], &[&to.to_be_bytes()[..], b"hello"].concat());
            expect_frame(clients[to as usize], b"hello");
        }
    }
}

#[test]
fn counters_are_gathered_from_inside_and_outside() {
    let (tell, told) = mpsc::channel();
    let pool = Pool::new(two(Balance::HandOut), move |cx, _, _| {
        let tell = tell.clone();
        cx.pool().unwrap().gather_stats(move |stats| tell.send(stats.to_vec()).unwrap());
    });
    let of = pool.connect_to_all(1);
    send_frame(&of[1][0].0, b"count");
    let inside = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(inside.iter().map(|stats| stats.open).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(inside.iter().map(|stats| stats.frames_in).collect::<Vec<_>>(), [0, 1]);
    let handle = pool.handle.clone();
    let end = pool.stop();
    // Those that are gone count with what they had at their end.
    assert_eq!(handle.stats().unwrap(), end.stats);
    assert!(handle.is_gone());
}

// ---- the end -------------------------------------------------------------------------------------------------------

#[test]
fn one_shutdown_ends_all_and_has_one_report() {
    for balance in balances() {
        let pool = Pool::echo(balance);
        let of = pool.connect_to_all(3);
        of.iter().flatten().for_each(|(client, _)| expect_echo(client, b"served"));
        let opened = pool.total().accepted;
        let end = pool.stop();
        of.iter().flatten().for_each(|(client, _)| expect_end(client));
        assert_eq!((end.report.drained, end.report.cut), (6, 0));
        assert_eq!((end.stats.len(), end.handlers.len()), (2, 2));
        assert_eq!((end.total().closed, end.total().open), (opened, 0));
    }
}

#[test]
fn a_shutdown_of_one_is_one_of_all() {
    // By its handler, and by the handle of that reactor; the one that hands out, and the other.
    for balance in balances() {
        for reactor in 0..2 {
            for by_handle in [false, true] {
                let pool = Pool::new(two(balance), |cx, _, _| cx.shutdown());
                let of = pool.connect_to_all(1);
                if by_handle {
                    pool.handle.of(reactor).unwrap().shutdown();
                } else {
                    send_frame(&of[reactor][0].0, b"stop");
                }
                of.iter().flatten().for_each(|(client, _)| expect_end(client));
                drop(of);
                assert_eq!(
                    join(pool.running).unwrap().report.drained,
                    2,
                    "{balance:?} {reactor} {by_handle}"
                );
            }
        }
    }
}

#[test]
fn a_pool_without_connections_ends_whoever_is_asked() {
    for balance in balances() {
        for reactor in 0..2 {
            let pool = Pool::echo(balance);
            pool.handle.of(reactor).unwrap().shutdown();
            join(pool.running).unwrap();
        }
    }
}

#[test]
fn a_second_shutdown_cuts_what_the_first_waits_for_everywhere() {
    for balance in balances() {
        let pool = Pool::new(two(balance), |cx, from, _| {
            cx.owe(from); // and is never paid
        });
        let of = pool.connect_to_all(1);
        of.iter().flatten().for_each(|(client, _)| send_frame(client, b"question"));
        wait_for("the questions", || (pool.total().frames_in == 2).then_some(()));
        pool.handle.shutdown();
        for reactor in 0..2 {
            let (tell, told) = mpsc::channel();
            wait_for("the end to have begun", || {
                let tell = tell.clone();
                let ask = move |_: &mut Tester, cx: &mut Context<Tester>| {
                    tell.send(cx.is_shutting_down()).unwrap();
                };
                pool.handle.of(reactor).unwrap().run(ask).unwrap();
                told.recv_timeout(PATIENCE).unwrap().then_some(())
            });
        }
        assert_eq!(pool.total().open, 2, "they are waited for");
        pool.handle.shutdown();
        let end = join(pool.running).unwrap();
        assert_eq!(end.report.cut, 2, "{balance:?}");
    }
}

#[test]
fn clients_that_wait_when_the_end_begins_are_answered() {
    for balance in balances() {
        for _ in 0..20 {
            let pool = Pool::echo(balance);
            let clients: Vec<_> = (0..50).map(|_| pool.connect()).collect();
            clients.iter().for_each(|client| send_frame(client, b"last"));
            pool.running.shutdown();
            for client in &clients {
                expect_frame(client, b"last");
                expect_end(client);
            }
            drop(clients);
            let end = join(pool.running).unwrap();
            assert_eq!((end.total().accepted, end.total().frames_out), (50, 50), "{balance:?}");
        }
    }
}

#[test]
fn those_who_are_handed_clients_end_after_the_one_that_hands_them_out() {
    let pool = Pool::echo(Balance::HandOut);
    let of = pool.connect_to_all(1);
    let release = pool.hold(0);
    pool.running.shutdown();
    thread::park_timeout(A_WHILE);
    expect_echo(&of[1][0].0, b"still served");
    release.send(()).unwrap();
    of.iter().flatten().for_each(|(client, _)| expect_end(client));
    drop(of);
    assert_eq!(join(pool.running).unwrap().report.drained, 2);
}

#[test]
fn a_client_that_is_handed_to_one_on_its_way_to_the_end_is_answered() {
    let pool = Pool::new(two(Balance::HandOut), |cx, from, message| match message {
        b"owe" => {
            cx.owe(from); // so that there is something to wait for
        }
        message => {
            cx.send(from, message);
        }
    });
    let mut of = pool.connect_to_all(4);
    // The second has fewer, and gets the next.
    of[1].truncate(1);
    (0..3).for_each(|_| drop(pool.events[1].wait_closed()));
    send_frame(&of[1][0].0, b"owe");
    wait_for("it to be owed", || (pool.total().frames_in == 1).then_some(()));
    let release = pool.hold(0);
    let late: Vec<_> = (0..2).map(|_| pool.connect()).collect();
    late.iter().for_each(|client| send_frame(client, b"late"));
    // It is asked for its end by itself, and does not wait for the first.
    pool.handle.of(1).unwrap().shutdown();
    pool.handle.of(1).unwrap().run(|_, cx| assert!(cx.is_shutting_down())).unwrap();
    let (tell, told) = mpsc::channel();
    pool.handle.of(1).unwrap().run(move |_, _| tell.send(()).unwrap()).unwrap();
    told.recv_timeout(PATIENCE).unwrap();
    release.send(()).unwrap();
    for client in &late {
        expect_frame(client, b"late");
        expect_end(client);
    }
    drop(late);
    assert!(pool.events[1].told(opened).is_some(), "it was for the second");
    pool.handle.shutdown();
    drop(of);
    let end = join(pool.running).unwrap();
    assert_eq!((end.report.cut, end.total().frames_out), (1, 2), "all but the one that is owed");
}

/// Echoes, and panics when it is told to.
fn fragile(cx: &mut Context<Tester>, from: ConnId, message: &[u8]) {
    assert!(message != b"panic", "as it was told");
    cx.send(from, message);
}

#[test]
fn a_panic_of_one_ends_all_in_order_and_is_named() {
    for balance in balances() {
        for reactor in 0..2 {
            let pool = Pool::new(two(balance), fragile);
            let of = pool.connect_to_all(2);
            send_frame(&of[reactor][0].0, b"panic");
            // The other one's connections end in order.
            of[1 - reactor].iter().for_each(|(client, _)| expect_end(client));
            drop(of);
            let error = join(pool.running).unwrap_err();
            assert_eq!(error.reactor, reactor);
            assert_eq!(error.to_string(), format!("reactor {reactor} panicked: as it was told"));
            let payload = error.into_panic().unwrap();
            assert_eq!(payload.downcast_ref::<&str>(), Some(&"as it was told"));
            assert!(pool.handle.is_gone());
        }
    }
}

#[test]
fn a_panic_that_is_isolated_ends_its_connection_alone() {
    let each = Reactor::<Tester>::builder().on_panic(mainspring::OnPanic::Isolate);
    let pool = Pool::new(two(Balance::HandOut).each(each), fragile);
    let of = pool.connect_to_all(2);
    send_frame(&of[1][0].0, b"panic");
    pool.events[1].wait_closed();
    for (client, _) in of.iter().flatten().filter(|(_, name)| *name != of[1][0].1) {
        expect_echo(client, b"served on");
    }
    pool.stop();
}

#[test]
fn a_panic_that_nobody_is_to_blame_for_ends_all_in_order() {
    let each = Reactor::<Tester>::builder().on_panic(mainspring::OnPanic::Isolate);
    let pool = Pool::new(two(Balance::HandOut).each(each), echo);
    let of = pool.connect_to_all(1);
    pool.handle.of(1).unwrap().run(|_, _| panic!("as it was told")).unwrap();
    of.iter().flatten().for_each(|(client, _)| expect_end(client));
    drop(of);
    let error = join(pool.running).unwrap_err();
    assert!(matches!(&error.failure, mainspring::pool::PoolFailure::Failed(Error::Panicked(_))), "{error}");
    assert_eq!(error.reactor, 1);
    assert!(error.into_panic().is_err());
}

#[test]
fn dropping_a_pool_ends_it_at_once() {
    for balance in balances() {
        let pool = Pool::new(two(balance), |cx, from, _| {
            cx.owe(from); // and is never paid
        });
        let of = pool.connect_to_all(1);
        of.iter().flatten().for_each(|(client, _)| send_frame(client, b"question"));
        wait_for("the questions", || (pool.total().frames_in == 2).then_some(()));
        let (address, handle) = (pool.address, pool.handle.clone());
        drop(pool);
        assert!(handle.is_gone());
        for (client, _) in of.iter().flatten() {
            assert!(matches!((&*client).read(&mut [0]), Ok(0) | Err(_)));
        }
        assert_eq!(handle.send(of[0][0].1, Bytes::new()), Err(HandleError::Gone(Bytes::new())));
        assert_eq!(handle.broadcast(PoolTo::All, Bytes::new()), Err(HandleError::Gone(Bytes::new())));
        TcpListener::bind(address).unwrap();
    }
    // One that never ran is gone too.
    let mut pool = two(Balance::Auto).build(|_| Tester::new(echo).0).unwrap();
    let address = pool.listen("127.0.0.1:0", codec()).unwrap().address.ip().unwrap();
    let handle = pool.handle();
    drop(pool);
    assert!(handle.is_gone());
    TcpListener::bind(address).unwrap();
}

#[test]
fn handlers_come_back_by_index() {
    struct Numbered(usize);
    impl mainspring::Handler for Numbered {
        type Codec = LengthPrefixed;
        type Session = ();
        fn on_message(&mut self, _: &mut Context<Self>, _: ConnId, _: &[u8]) {}
    }
    let pool = ReactorPool::new(3, Numbered).unwrap();
    pool.handle().shutdown();
    let end = pool.run().unwrap();
    assert_eq!(end.handlers.iter().map(|handler| handler.0).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn a_handle_is_shared_among_threads() {
    fn is_shared<T: Send + Sync + Clone>() {}
    fn is_error<T: std::error::Error + Send + Sync>() {}
    is_shared::<PoolHandle<Tester>>();
    is_error::<PoolError>();
}
