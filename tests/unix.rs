//! Unix sockets, from the file that stands for one to the last byte of a peer that is gone.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "what a test's helper cannot do has failed the test")]

#[path = "common/reactor.rs"]
mod common;

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use common::*;
use mainspring::client::{self, Channel, Client};
use mainspring::codec::LengthPrefixed;
use mainspring::pool::{Balance, ReactorPool};
use mainspring::{
    Address, AnyStream, CloseReason, ConnId, Context, Dial, DialError, Error, HalfClose, Handler, Limits,
    ListenOptions, Reactor, Reconnect, To,
};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tempfile::TempDir;

fn codec() -> LengthPrefixed {
    LengthPrefixed::default()
}

/// A folder of a test's own, with a place for a socket. Gone when the test has passed.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn socket(&self) -> PathBuf {
        self.0.path().join("s")
    }
}

fn unix(path: impl AsRef<Path>) -> Address {
    Address::from(path.as_ref())
}

fn dial(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A reactor on a thread, with one Unix socket.
fn serve_with(options: &ListenOptions, (tester, events): (Tester, Events)) -> (Server, Folder) {
    let folder = Folder::new();
    let mut reactor = Reactor::new(tester).unwrap();
    reactor.listen_with(folder.socket(), codec(), options).unwrap();
    (run(reactor, events), folder)
}

fn serve(tester: (Tester, Events)) -> (Server, Folder) {
    serve_with(&ListenOptions::default(), tester)
}

fn run(reactor: Reactor<Tester>, events: Events) -> Server {
    Server::run(reactor, events, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))
}

/// A dead one: its maker has ended without a word.
fn leave_behind(path: &Path) {
    drop(UnixListener::bind(path).unwrap());
    assert!(path.exists());
}

// ---- messages ------------------------------------------------------------------------------------------------------

#[test]
fn messages_of_all_sizes_come_back() {
    let (server, folder) = serve(Tester::new(echo));
    let client = dial(&folder.socket());
    for len in [0, 1, 2, 3, 4, 5, 100, 4_091, 4_092, 65_532, 65_536, 262_140, 262_144, 1 << 20] {
        expect_echo(&client, &pattern(len, len));
    }
    // A large one does not fit into the kernel: it has to be read while it is written.
    let large = pattern(7, 16 << 20);
    std::thread::scope(|threads| {
        threads.spawn(|| send_frame(&client, &large));
        expect_frame(&client, &large);
    });
    let wire = frame(b"one byte at a time");
    for byte in &wire {
        (&client).write_all(&[*byte]).unwrap();
    }
    expect_frame(&client, b"one byte at a time");
    drop(client);
    assert!(matches!(server.events.wait_closed(), CloseReason::Peer { truncated: false }));
    assert_eq!(server.stop().stats().frames_in, 16);
}

#[test]
fn one_reactor_serves_both_kinds_and_a_broadcast_reaches_both() {
    let (tester, events) = Tester::new(|cx, _, message| {
        cx.broadcast(To::All, message);
    });
    let (mut reactor, tcp) = listening(tester);
    let folder = Folder::new();
    let listening = reactor.listen(folder.socket(), codec()).unwrap();
    assert_eq!(listening.address, unix(folder.socket()));
    assert_eq!(listening.to_string(), format!("unix:{}", folder.socket().display()));
    let server = run(reactor, events);
    let (ours, theirs) = (dial(&folder.socket()), connect(tcp));
    server.wait_stats("both", |stats| stats.open == 2);
    send_frame(&ours, b"from one");
    expect_frame(&ours, b"from one");
    expect_frame(&theirs, b"from one");
    send_frame(&theirs, b"from the other");
    expect_frame(&ours, b"from the other");
    expect_frame(&theirs, b"from the other");
}

#[test]
fn a_client_has_no_name_and_the_listener_has() {
    let (server, folder) = serve(Tester::new(echo));
    let _client = dial(&folder.socket());
    let conn = server.events.wait_opened();
    let (peer, local) = server.ask(move |cx| (cx.peer_addr(conn).cloned(), cx.local_addr(conn)));
    assert_eq!((peer, local), (Some(Address::Unix(PathBuf::new())), Some(unix(folder.socket()))));
}

#[test]
fn options_of_tcp_are_left_out_and_buffers_are_set() {
    let mut options = ListenOptions::default();
    options.socket.nodelay = true;
    options.socket.ttl = Some(7);
    options.socket.tos = Some(8);
    options.socket.linger = Some(Duration::from_secs(1));
    options.socket.keepalive =
        Some(mainspring::Keepalive { idle: PATIENCE, interval: Duration::from_secs(1), count: 3 });
    options.socket.send_buffer = Some(100_000);
    let socket = options.socket;
    let (tell, told) = mpsc::channel();
    let tester = Tester::with_events(echo, move |cx, event| match event {
        Event::Opened(conn) => {
            assert!(cx.set_options(*conn, &socket).is_ok());
            cx.detach(*conn);
        }
        Event::Detached(_, detached) => {
            let buffer = SockRef::from(&detached.stream).send_buffer_size().unwrap();
            tell.send(buffer).unwrap();
        }
        _ => {}
    });
    let (_server, folder) = serve_with(&options, tester);
    let _client = dial(&folder.socket());
    let buffer = told.recv_timeout(PATIENCE).unwrap();
    // Linux doubles what it is told.
    assert!((100_000..=200_000).contains(&buffer), "{buffer}");
}

// ---- the file ------------------------------------------------------------------------------------------------------

#[test]
fn a_file_that_was_left_behind_is_replaced() {
    let folder = Folder::new();
    leave_behind(&folder.socket());
    let (tester, events) = Tester::new(echo);
    let mut reactor = Reactor::new(tester).unwrap();
    reactor.listen(folder.socket(), codec()).unwrap();
    let _server = run(reactor, events);
    expect_echo(&dial(&folder.socket()), b"hi");
}

#[test]
fn a_live_server_keeps_its_address() {
    let (_server, folder) = serve(Tester::new(echo));
    let mut second = Reactor::new(Tester::new(echo).0).unwrap();
    let error = second.listen(folder.socket(), codec()).unwrap_err();
    let Error::Listen { address, source } = &error else { panic!("{error}") };
    assert_eq!((address, source.kind()), (&unix(folder.socket()), ErrorKind::AddrInUse));
    drop(second);
    expect_echo(&dial(&folder.socket()), b"the first is there");
}

#[test]
fn what_is_no_socket_is_left_as_it_is() {
    let folder = Folder::new();
    fs::write(folder.socket(), "precious").unwrap();
    let mut reactor = Reactor::new(Tester::new(echo).0).unwrap();
    let error = reactor.listen(folder.socket(), codec()).unwrap_err();
    assert!(error.to_string().contains("no socket"), "{error}");
    assert_eq!(fs::read(folder.socket()).unwrap(), b"precious");
    fs::remove_file(folder.socket()).unwrap();
    fs::create_dir(folder.socket()).unwrap();
    assert!(reactor.listen(folder.socket(), codec()).is_err());
    assert!(folder.socket().is_dir());
    let nowhere = folder.0.path().join("no such folder/s");
    let error = reactor.listen(nowhere, codec()).unwrap_err();
    assert!(matches!(error, Error::Listen { source, .. } if source.kind() == ErrorKind::NotFound));
}

#[test]
fn the_file_has_the_mode_that_was_asked_for() {
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let (_server, folder) = serve(Tester::new(echo));
    assert_eq!(mode(folder.socket()), 0o600);
    let mut options = ListenOptions::default();
    // More than any usual umask leaves.
    options.unix_mode = 0o666;
    let (_server, folder) = serve_with(&options, Tester::new(echo));
    assert_eq!(mode(folder.socket()), 0o666);
}

#[test]
fn the_file_goes_with_its_listener() {
    let folder = Folder::new();
    let path = folder.socket();
    let (tester, _events) = Tester::new(echo);
    let mut reactor = Reactor::new(tester).unwrap();
    let listening = reactor.listen(&path, codec()).unwrap();
    assert!(path.exists());
    assert!(reactor.context().unlisten(listening.id));
    assert!(!path.exists(), "the listener is gone");

    reactor.listen(&path, codec()).unwrap();
    drop(reactor);
    assert!(!path.exists(), "the reactor is gone");

    let (server, folder) = serve(Tester::new(echo));
    expect_echo(&dial(&folder.socket()), b"hi");
    let reactor = server.stop();
    assert!(!folder.socket().exists(), "it has shut down");
    drop(reactor);

    // A relative path means the same file when the process has gone elsewhere: it is remembered from the root on.
    let relative = folder.0.path().strip_prefix("/").unwrap().join("s");
    let up: PathBuf = std::env::current_dir().unwrap().components().skip(1).map(|_| "..").collect();
    let relative = up.join(relative);
    let mut reactor = Reactor::new(Tester::new(echo).0).unwrap();
    if reactor.listen(&relative, codec()).is_ok() {
        assert!(folder.socket().exists());
        drop(reactor);
        assert!(!folder.socket().exists());
    }
}

#[test]
fn the_file_of_another_is_not_removed() {
    let (server, folder) = serve(Tester::new(echo));
    let path = folder.socket();
    fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    drop(server.stop());
    assert!(path.exists(), "it is another server's");
    drop(other);
    fs::remove_file(&path).unwrap();
    let (server, folder) = serve(Tester::new(echo));
    fs::remove_file(folder.socket()).unwrap();
    fs::write(folder.socket(), "text").unwrap();
    drop(server.stop());
    assert_eq!(fs::read(folder.socket()).unwrap(), b"text");
}

#[test]
fn the_file_of_an_adopted_listener_stays() {
    let folder = Folder::new();
    let listener = UnixListener::bind(folder.socket()).unwrap();
    let early = dial(&folder.socket());
    send_frame(&early, b"early");
    let (tester, events) = Tester::new(echo);
    let mut reactor = Reactor::new(tester).unwrap();
    let listening = reactor.adopt_listener(listener, codec()).unwrap();
    assert_eq!(listening.address, unix(folder.socket()));
    let server = run(reactor, events);
    expect_frame(&early, b"early");
    expect_echo(&dial(&folder.socket()), b"late");
    drop(server.stop());
    assert!(folder.socket().exists());
}

#[test]
#[cfg(any(target_os = "linux", target_os = "android"))]
fn an_abstract_name_leaves_no_file_and_is_free_when_its_listener_is_gone() {
    let name = unix(format!("@mainspring-test-{}", process::id()));
    for _ in 0..2 {
        let (tester, events) = Tester::new(echo);
        let mut reactor = Reactor::new(tester).unwrap();
        assert_eq!(reactor.listen(&name, codec()).unwrap().address, name);
        let again = Reactor::new(Tester::new(echo).0).unwrap().listen(&name, codec()).unwrap_err();
        assert!(matches!(again, Error::Listen { source, .. } if source.kind() == ErrorKind::AddrInUse));
        let _server = run(reactor, events);
        let mut client = Client::connect(&name, codec()).unwrap();
        client.send(b"hi").unwrap();
        assert_eq!(client.recv().unwrap(), Some(&b"hi"[..]));
    }
    assert!(!Path::new(&name.to_string()).exists());
}

#[test]
fn a_path_that_is_too_long_is_an_error_that_says_so() {
    let long = unix("x".repeat(200));
    let mut reactor = Reactor::new(Tester::new(echo).0).unwrap();
    let error = reactor.listen(&long, codec()).unwrap_err().to_string();
    assert!(error.contains("200 bytes"), "{error}");
    let error = Client::connect(&long, codec()).unwrap_err().to_string();
    assert!(error.contains("200 bytes"), "{error}");
    let (tester, events) = Tester::new(echo);
    let mut reactor = Reactor::new(tester).unwrap();
    reactor.connect(&long, codec());
    let (_, error) = turn_until(&mut reactor, "a failure", |_| events.told(dial_failed));
    assert!(error.to_string().contains("200 bytes"), "{error}");
}

// ---- ends ----------------------------------------------------------------------------------------------------------

#[test]
fn a_client_that_ends_its_output_gets_all_answers() {
    let (server, folder) = serve(Tester::new(echo));
    let client = dial(&folder.socket());
    for n in 0..100 {
        send_frame(&client, &pattern(n, 1000));
    }
    client.shutdown(Shutdown::Write).unwrap();
    for n in 0..100 {
        expect_frame(&client, &pattern(n, 1000));
    }
    expect_end(&client);
    assert!(matches!(server.events.wait_closed(), CloseReason::Peer { truncated: false }));
}

/// The order of events is the kernel's and the loop's: whichever it is, nothing is lost.
#[test]
fn what_was_sent_before_a_hang_up_is_delivered() {
    for answered in [false, true] {
        let (tester, events) = if answered { Tester::new(echo) } else { Tester::new(ignore) };
        let (server, folder) = serve((tester, events));
        for round in 0..20 {
            let client = dial(&folder.socket());
            // As much as the kernel takes for one that is not read yet.
            for n in 0..50 {
                send_frame(&client, &pattern(n, 1000));
            }
            drop(client);
            let reason = server.events.wait_closed();
            let fine = match reason {
                CloseReason::Peer { truncated } => !truncated,
                // An answer was on its way to somebody who was gone.
                CloseReason::Reset => answered,
                _ => false,
            };
            assert!(fine, "{reason}");
            assert_eq!(server.stats().frames_in, 50 * (round + 1), "answered: {answered}");
        }
    }
}

/// oven-sh/bun PR #37920
#[test]
fn a_hang_up_of_one_that_is_paused_neither_spins_nor_loses_what_came_before() {
    let tester = Tester::with_events(ignore, |cx, event| {
        if let Event::Opened(conn) = event {
            cx.pause(*conn);
        }
    });
    let (server, folder) = serve(tester);
    let client = dial(&folder.socket());
    let conn = server.events.wait_opened();
    for n in 0..10 {
        send_frame(&client, &pattern(n, 100));
    }
    (&client).write_all(&frame(b"half of one")[..6]).unwrap();
    drop(client);
    server.expect_rest();
    assert!(server.events.so_far().is_empty(), "it is as it was");
    assert_eq!(server.stats().frames_in, 0);
    server.ask(move |cx| cx.resume(conn));
    let reason = server.events.wait_closed();
    assert!(matches!(reason, CloseReason::Peer { truncated: true }), "{reason}");
    assert_eq!(server.stop().stats().frames_in, 10);
}

/// The kernel says "reset" to who reads on from a peer that has left something unread; what it sent comes before.
#[test]
fn what_came_from_one_who_left_our_answers_unread_is_delivered() {
    let tester = Tester::with_events(ignore, |cx, event| {
        if let Event::Opened(conn) = event {
            cx.send(*conn, b"hello, whether you read it or not");
            cx.pause(*conn);
        }
    });
    let (server, folder) = serve(tester);
    let client = dial(&folder.socket());
    let conn = server.events.wait_opened();
    server.wait_stats("a greeting", |stats| stats.frames_out == 1);
    for n in 0..10 {
        send_frame(&client, &pattern(n, 100));
    }
    drop(client);
    server.expect_rest();
    server.ask(move |cx| cx.resume(conn));
    server.events.wait_closed();
    assert_eq!(server.stop().stats().frames_in, 10);
}

#[test]
fn what_waits_for_one_who_is_gone_is_dropped_and_its_last_messages_come() {
    const ANSWER: usize = 8 << 20;
    let (server, folder) = serve(Tester::new(|cx, from, _| {
        cx.send_owned(from, &Bytes::from(pattern(1, ANSWER)));
    }));
    let client = dial(&folder.socket());
    send_frame(&client, b"much, please");
    // It is above the high mark now, and not read.
    server.wait_stats("an answer under way", |stats| stats.buffered_bytes > 1 << 20);
    for _ in 0..10 {
        send_frame(&client, b"more");
    }
    drop(client);
    let reason = server.events.wait_closed();
    assert!(matches!(reason, CloseReason::Reset), "{reason}");
    let stats = server.wait_stats("its memory back", |stats| stats.buffered_bytes == 0);
    assert_eq!(stats.frames_in, 11);
    server.expect_rest();
}

/// There is no hang-up: a write is what finds it out.
#[test]
#[cfg(target_os = "linux")]
fn a_peer_that_takes_no_answers_is_still_heard() {
    let (server, folder) = serve(Tester::new(echo));
    let mut frames = 0;
    // A large answer is not copied into the outbox, but written at once.
    for len in [5, 100_000] {
        let client = dial(&folder.socket());
        client.shutdown(Shutdown::Read).unwrap();
        for _ in 0..3 {
            send_frame(&client, &pattern(1, len));
            frames += 1;
            server.wait_stats("a message", |stats| stats.frames_in == frames);
        }
        assert!(server.events.told(closed).is_none());
        client.shutdown(Shutdown::Write).unwrap();
        let reason = server.events.wait_closed();
        assert!(matches!(reason, CloseReason::Reset), "{reason}");
    }
}

/// Keeps its connections when their peers have ended their output.
#[derive(Default)]
struct Keeper {
    ended: Vec<CloseReason>,
    half: usize,
}

impl Handler for Keeper {
    type Codec = LengthPrefixed;
    type Session = ();

    fn on_message(&mut self, _: &mut Context<Self>, _: ConnId, _: &[u8]) {}

    fn on_half_close(&mut self, _: &mut Context<Self>, _: ConnId) -> HalfClose {
        self.half += 1;
        HalfClose::Keep
    }

    fn on_close(&mut self, _: &mut Context<Self>, _: ConnId, reason: CloseReason, (): ()) {
        self.ended.push(reason);
    }
}

#[test]
fn one_that_is_kept_for_a_peer_that_has_ended_goes_when_the_peer_is_gone() {
    let folder = Folder::new();
    let mut reactor = Reactor::new(Keeper::default()).unwrap();
    reactor.listen(folder.socket(), codec()).unwrap();
    let client = dial(&folder.socket());
    client.shutdown(Shutdown::Write).unwrap();
    turn_until(&mut reactor, "half an end", |reactor| (reactor.handler().half == 1).then_some(()));
    for _ in 0..5 {
        reactor.turn(Some(Duration::from_millis(1))).unwrap();
    }
    assert!(reactor.handler().ended.is_empty(), "it can still be sent to");
    drop(client);
    turn_until(&mut reactor, "its end", |reactor| reactor.handler_mut().ended.pop());
    // Both at once: the end of the input comes first, and there is nobody left to be kept for.
    drop(dial(&folder.socket()));
    turn_until(&mut reactor, "the end of another", |reactor| reactor.handler_mut().ended.pop());
    assert_eq!(reactor.handler().half, 2);
}

#[test]
fn an_abort_ends_the_stream_for_the_peer() {
    let (server, folder) = serve(Tester::new(|cx, from, _| cx.abort(from)));
    let mut client = dial(&folder.socket());
    send_frame(&client, b"go away");
    assert!(matches!(server.events.wait_closed(), CloseReason::Aborted));
    let read = std::io::Read::read(&mut client, &mut [0; 8]);
    assert!(matches!(&read, Ok(0)) || read.is_err_and(|error| is_cut(error.kind())));
}

#[test]
fn a_close_gives_the_peer_the_last_reply() {
    let (server, folder) = serve(Tester::new(|cx, from, message| {
        cx.send(from, message);
        cx.close(from);
    }));
    let client = dial(&folder.socket());
    send_frame(&client, b"first");
    send_frame(&client, &pattern(3, 100_000));
    expect_frame(&client, b"first");
    expect_end(&client);
    assert!(matches!(server.events.wait_closed(), CloseReason::Local));
}

/// A descriptor that is sent along ends a read, and no event tells of the bytes behind it.
#[test]
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn bytes_behind_a_descriptor_are_read_without_an_event() {
    use socket2::MsgHdr;
    use std::io::IoSlice;
    use std::os::fd::AsRawFd;

    // An answer would bring an event, by the room that it makes when it is read.
    let (server, folder) = serve(Tester::new(ignore));
    let client = dial(&folder.socket());
    let conn = server.events.wait_opened();
    server.ask(move |cx| cx.pause(conn));
    send_frame(&client, b"before");
    // cmsg(3): length, level (SOL_SOCKET), type (SCM_RIGHTS), the descriptor, padding.
    let mut control = 20_usize.to_ne_bytes().to_vec();
    for word in [1_i32, 1, client.as_raw_fd(), 0] {
        control.extend_from_slice(&word.to_ne_bytes());
    }
    let with = frame(b"with it");
    let parts = [IoSlice::new(&with)];
    let message = MsgHdr::new().with_buffers(&parts).with_control(&control);
    assert_eq!(SockRef::from(&client).sendmsg(&message, 0).unwrap(), with.len());
    send_frame(&client, b"behind it");
    server.ask(move |cx| cx.resume(conn));
    server.wait_stats("all three", |stats| stats.frames_in == 3);
}

// ---- dialing -------------------------------------------------------------------------------------------------------

/// A reactor that dials, and has said something.
fn dialer(to: impl Into<Dial>) -> (Reactor<Tester>, Events, ConnId, mpsc::Receiver<Vec<u8>>) {
    let (tell, told) = mpsc::channel();
    let (tester, events) = Tester::new(move |_, _, message| tell.send(message.to_vec()).unwrap());
    let mut reactor = Reactor::new(tester).unwrap();
    let conn = reactor.connect(to, codec());
    // One that has failed at once takes nothing more.
    let _ = reactor.context().send(conn, b"sent while it was dialed");
    (reactor, events, conn, told)
}

#[test]
fn a_dialed_one_is_like_an_accepted_one() {
    let (_server, folder) = serve(Tester::new(echo));
    for to in [Dial::from(&*folder.socket()), Dial::from(format!("unix:{}", folder.socket().display()))] {
        let (mut reactor, _events, conn, told) = dialer(to);
        let answer = turn_until(&mut reactor, "an answer", |_| told.try_recv().ok());
        assert_eq!(answer, b"sent while it was dialed");
        assert_eq!(reactor.context().peer_addr(conn), Some(&unix(folder.socket())));
        let stats = reactor.stats();
        assert_eq!((stats.connected, stats.open), (1, 1));
        reactor.context().close(conn);
        turn_until(&mut reactor, "its end", |reactor| (reactor.stats().closed == 1).then_some(()));
    }
}

#[test]
fn a_dial_to_nobody_fails_and_says_why() {
    let folder = Folder::new();
    let (mut reactor, events, ..) = dialer(&*folder.socket());
    let (_, error) = turn_until(&mut reactor, "a failure", |_| events.told(dial_failed));
    assert_eq!(error.attempts()[0].error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().starts_with(&unix(folder.socket()).to_string()), "{error}");
    leave_behind(&folder.socket());
    reactor.connect(&*folder.socket(), codec());
    let (_, error) = turn_until(&mut reactor, "a failure", |_| events.told(dial_failed));
    assert_eq!(error.attempts()[0].error.kind(), ErrorKind::ConnectionRefused);
}

fn soon() -> Reconnect {
    let mut policy = Reconnect::default();
    policy.delay_min = Duration::from_millis(5);
    policy.delay_max = Duration::from_millis(20);
    policy
}

/// A listener with the shortest queue, and clients that fill it.
fn full(folder: &Folder) -> (Socket, Vec<Socket>) {
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    let name = SockAddr::unix(folder.socket()).unwrap();
    listener.bind(&name).unwrap();
    listener.listen(1).unwrap();
    let mut waiting = Vec::new();
    loop {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        match socket.connect(&name) {
            Ok(()) => waiting.push(socket),
            Err(_) => break,
        }
        assert!(waiting.len() < 10_000, "the queue has no end");
    }
    (listener, waiting)
}

#[test]
fn a_dial_to_a_full_queue_fails_at_once_and_is_dialed_again() {
    let folder = Folder::new();
    let (listener, waiting) = full(&folder);
    let dial = Dial::from(&*folder.socket()).reconnect(soon());
    let (mut reactor, events, ..) = dialer(dial);
    let (_, error) = turn_until(&mut reactor, "a failure", |_| events.told(dial_failed));
    let DialError::Failed { attempts } = &error else { panic!("{error}") };
    if cfg!(target_os = "linux") {
        assert_eq!(attempts[0].error.kind(), ErrorKind::WouldBlock, "{error}");
    }
    // There is room: the next one that is dialed gets in.
    for _ in &waiting {
        listener.accept().unwrap();
    }
    turn_until(&mut reactor, "it to open", |_| events.told(opened));
}

#[test]
fn a_dial_that_is_repeated_finds_the_server_that_comes_later() {
    let folder = Folder::new();
    let (mut reactor, events, ..) = dialer(Dial::from(&*folder.socket()).reconnect(soon()));
    turn_until(&mut reactor, "a failure", |_| events.told(dial_failed));
    for _ in 0..2 {
        let listener = UnixListener::bind(folder.socket()).unwrap();
        turn_until(&mut reactor, "it to open", |_| events.told(opened));
        let (theirs, _) = listener.accept().unwrap();
        fs::remove_file(folder.socket()).unwrap();
        drop((listener, theirs));
        turn_until(&mut reactor, "its end", |_| events.told(closed));
    }
}

// ---- without a reactor ---------------------------------------------------------------------------------------------

#[test]
fn the_blocking_client_and_the_channel_speak_through_one() {
    let (_server, folder) = serve(Tester::new(echo));
    let address = unix(folder.socket());
    let mut client = Client::connect(&address, codec()).unwrap();
    assert_eq!(client.peer_addr(), &address);
    for len in [0, 1, 100_000] {
        client.send(&pattern(len, len)).unwrap();
        assert_eq!(client.recv().unwrap(), Some(&pattern(len, len)[..]));
    }
    assert!(client.is_open());
    client.set_options(&mainspring::SocketOptions::default()).unwrap();
    client.set_read_timeout(Some(Duration::from_millis(20)));
    assert!(client.recv().unwrap_err().is_timeout());
    client.set_read_timeout(Some(PATIENCE));
    client.shut_down_writing().unwrap();
    assert_eq!(client.recv().unwrap(), None);
    let parts = client.into_std().unwrap();
    assert!(matches!(parts.stream, AnyStream::Unix(_)));

    let text = format!("unix:{}", folder.socket().display());
    let client = Client::connect(text, codec()).unwrap();
    let (tell, told) = mpsc::channel();
    let channel = Channel::new(client, move |_, event| {
        if let client::Event::Message(message) = event {
            tell.send(message.to_vec()).unwrap();
        }
    })
    .unwrap();
    channel.send(b"from the channel").unwrap();
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), b"from the channel");
    channel.close().unwrap();
}

#[test]
fn a_blocking_connect_to_nobody_says_step_and_path() {
    let folder = Folder::new();
    let error = Client::connect(unix(folder.socket()), codec()).unwrap_err();
    assert_eq!((error.step(), error.io_kind()), (client::Step::Connect, Some(ErrorKind::NotFound)));
    assert_eq!(error.address(), unix(folder.socket()).to_string());
    leave_behind(&folder.socket());
    let error = Client::connect(&*folder.socket(), codec()).unwrap_err();
    assert_eq!(error.io_kind(), Some(ErrorKind::ConnectionRefused));
}

#[test]
#[cfg(target_os = "linux")]
fn a_blocking_connect_to_a_full_queue_ends_in_time() {
    let folder = Folder::new();
    let (listener, waiting) = full(&folder);
    let quick = client::Builder::new().connect_timeout(Some(Duration::from_millis(50)));
    let began = now();
    let error = quick.connect(&*folder.socket(), codec()).unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert!(now() - began < PATIENCE);
    // And gets in when there is room within its time.
    let patient = client::Builder::new().connect_timeout(Some(PATIENCE));
    std::thread::scope(|threads| {
        let connected = threads.spawn(|| patient.connect(&*folder.socket(), codec()).is_ok());
        for _ in &waiting {
            listener.accept().unwrap();
        }
        assert!(connected.join().unwrap());
    });
}

// ---- sockets made elsewhere ----------------------------------------------------------------------------------------

#[test]
fn a_connected_one_is_taken_in_and_handed_out() {
    let (tell, told) = mpsc::channel();
    let (tester, events) = Tester::with_events(
        |cx, from, message| {
            cx.send(from, message);
            if message == b"detach" {
                cx.detach(from);
            }
        },
        move |_, event| {
            if let Event::Detached(..) = event {
                tell.send(()).unwrap();
            }
        },
    );
    let server = run(Reactor::new(tester).unwrap(), events);
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    send_frame(&theirs, b"before it was taken in");
    server.handle.adopt(ours, codec()).unwrap();
    expect_frame(&theirs, b"before it was taken in");
    let mut both = frame(b"detach");
    both.extend_from_slice(&frame(b"not delivered"));
    (&theirs).write_all(&both).unwrap();
    told.recv_timeout(PATIENCE).unwrap();
    let detached = server.events.wait("the socket", detached);
    assert_eq!(detached.undelivered, frame(b"not delivered"));
    let AnyStream::Unix(ours) = detached.stream else { panic!("it is what it was") };
    expect_frame(&theirs, b"detach");
    ours.set_nonblocking(false).unwrap();
    send_frame(&ours, b"by hand");
    expect_frame(&theirs, b"by hand");
}

/// Its peer has spoken and gone before anybody looked.
#[test]
fn one_whose_peer_is_gone_already_is_taken_in_with_what_it_has() {
    let server = run(Reactor::new(Tester::new(echo).0).unwrap(), Tester::new(echo).1);
    let (ours, theirs) = UnixStream::pair().unwrap();
    send_frame(&theirs, b"last words");
    drop(theirs);
    server.handle.adopt(ours, codec()).unwrap();
    let stats = server.wait_stats("its end", |stats| stats.closed == 1);
    assert_eq!((stats.accepted, stats.frames_in), (1, 1));
}

// ---- limits, pools, credentials ------------------------------------------------------------------------------------

#[test]
fn clients_have_no_source_and_the_maximum_of_their_listener_holds() {
    let mut limits = Limits::default();
    limits.connections_per_source = Some(1);
    let mut options = ListenOptions::default();
    options.connections_max = Some(2);
    let folder = Folder::new();
    let (tester, events) = Tester::new(echo);
    let mut reactor = Reactor::<Tester>::builder().limits(limits).build(tester).unwrap();
    reactor.listen_with(folder.socket(), codec(), &options).unwrap();
    let server = run(reactor, events);
    let (first, second) = (dial(&folder.socket()), dial(&folder.socket()));
    expect_echo(&first, b"first");
    expect_echo(&second, b"second");
    let third = dial(&folder.socket());
    server.wait_stats("the third to be refused", |stats| stats.refused == 1);
    expect_end(&third);
    drop(first);
    server.wait_stats("room", |stats| stats.open == 1);
    expect_echo(&dial(&folder.socket()), b"third");
}

/// Says to all reactors what one of them hears.
struct Chat {
    opened: mpsc::Sender<usize>,
}

impl Handler for Chat {
    type Codec = LengthPrefixed;
    type Session = ();

    fn on_open(&mut self, cx: &mut Context<Self>, _: ConnId) {
        self.opened.send(cx.reactor_index()).unwrap();
    }

    fn on_message(&mut self, cx: &mut Context<Self>, _: ConnId, message: &[u8]) {
        cx.broadcast(To::All, message);
        cx.broadcast_elsewhere(To::All, &Bytes::copy_from_slice(message));
    }
}

#[test]
fn a_pool_shares_one_out_evenly_and_removes_its_file() {
    for balance in [Balance::Auto, Balance::HandOut] {
        let folder = Folder::new();
        leave_behind(&folder.socket());
        let (opened, open) = mpsc::channel();
        let mut pool = ReactorPool::<Chat>::builder()
            .reactors(2)
            .balance(balance)
            .build(|_| Chat { opened: opened.clone() })
            .unwrap();
        let listening = pool.listen(folder.socket(), codec()).unwrap();
        assert_eq!(listening.address, unix(folder.socket()));
        let handle = pool.handle();
        let running = pool.start().unwrap();
        let clients: Vec<_> = (0..6).map(|_| dial(&folder.socket())).collect();
        let mut counts = [0; 2];
        for _ in &clients {
            counts[open.recv_timeout(PATIENCE).unwrap()] += 1;
        }
        assert_eq!(counts, [3, 3]);
        send_frame(&clients[0], b"to all");
        for client in &clients {
            expect_frame(client, b"to all");
        }
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_read_timeout(Some(PATIENCE)).unwrap();
        handle.try_adopt(ours, codec()).unwrap();
        send_frame(&theirs, b"one more");
        expect_frame(&theirs, b"one more");
        running.shutdown();
        let end = running.join().unwrap();
        assert_eq!(end.total().accepted, 7);
        assert!(!folder.socket().exists());
    }
}

#[test]
#[cfg(all(feature = "credentials", any(target_os = "linux", target_os = "android")))]
fn the_system_says_who_the_peer_is() {
    use std::os::unix::fs::MetadataExt;

    let (server, folder) = serve(Tester::new(echo));
    let _client = dial(&folder.socket());
    let conn = server.events.wait_opened();
    let peer = server.ask(move |cx| cx.peer_credentials(conn)).unwrap();
    let me = fs::metadata(folder.socket()).unwrap();
    assert_eq!((peer.uid, peer.gid, peer.pid), (me.uid(), me.gid(), Some(process::id() as i32)));

    let tcp = Server::echo();
    let _client = tcp.connect();
    let conn = tcp.events.wait_opened();
    let error = tcp.ask(move |cx| cx.peer_credentials(conn)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}
