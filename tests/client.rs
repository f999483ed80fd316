//! The blocking client, against peers that answer, drip, stall, end in the middle, and reset.

#[path = "common/reactor.rs"]
mod common;

use std::error::Error as _;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use common::{
    A_WHILE, PATIENCE, Server, connect, expect_end, frame, has_ipv6, now, patient, pattern, read_frame,
    reset, send_frame, wait_for,
};
use mainspring::SocketOptions;
use mainspring::client::{Builder, Client, Step, TryRecv};
use mainspring::codec::{ByteCodec, Codec, Fixed, LengthPrefixed, Lines, Raw, Varint};
use socket2::SockRef;

/// A time limit that passes while a test waits for it.
const SHORT: Duration = Duration::from_millis(200);

fn bounded() -> Builder {
    Builder::new().read_timeout(Some(PATIENCE)).write_timeout(Some(PATIENCE))
}

/// A client and the plain socket at its other end.
fn pair_with<C: Codec>(builder: &Builder, codec: C) -> (Client<C>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let client = builder.connect(listener.local_addr().expect("it is bound"), codec).expect("it listens");
    (client, patient(listener.accept().expect("a client").0))
}

fn pair() -> (Client<LengthPrefixed>, TcpStream) {
    pair_with(&bounded(), LengthPrefixed::default())
}

#[track_caller]
fn expect<C: ByteCodec>(client: &mut Client<C>, message: &[u8]) {
    let got = client.recv().expect("it is well").expect("it is not the end");
    assert!(got == message, "{} bytes that differ from {}", got.len(), message.len());
}

// ---- messages ------------------------------------------------------------------------------------------------------

#[test]
fn messages_of_every_size_come_back_as_they_were_sent() {
    let server = Server::echo();
    let mut client = bounded().connect(server.address, LengthPrefixed::default()).expect("it listens");
    let mut sizes = vec![0, 1, 3, 0, 4_095, 4_096];
    for edge in [32 * 1024, 64 * 1024, 1024 * 1024] {
        sizes.extend([edge - 5, edge - 4, edge - 3, edge - 1, edge, edge + 1]);
    }
    for (seed, size) in sizes.into_iter().enumerate() {
        let message = pattern(seed, size);
        client.send(&message).expect("it is taken");
        expect(&mut client, &message);
        client.send_owned(&Bytes::from(message.clone())).expect("it is taken");
        expect(&mut client, &message);
    }
}

#[test]
fn many_messages_in_one_read_are_given_out_one_by_one() {
    let (mut client, mut peer) = pair();
    let wire: Vec<u8> = (0..1000_u32).flat_map(|number| frame(&number.to_be_bytes())).collect();
    let writing = thread::spawn(move || peer.write_all(&wire).map(|()| peer));
    for number in 0..1000_u32 {
        let got = client.recv_with(<[u8]>::to_vec).expect("it is well");
        assert_eq!(got.as_deref(), Some(&number.to_be_bytes()[..]));
    }
    drop(writing.join().expect("no panic").expect("all is taken"));
    assert_eq!(client.recv().expect("an end in order"), None);
}

#[test]
fn the_same_codecs_as_the_reactors() {
    fn talk<C: ByteCodec>(codec: C, wire: &[u8], messages: &[&[u8]]) {
        let (mut client, mut peer) = pair_with(&bounded(), codec);
        for message in messages {
            client.send(message).expect("it is taken");
        }
        let mut got = vec![0; wire.len()];
        peer.read_exact(&mut got).expect("all of it");
        assert_eq!(got, wire);
        peer.write_all(wire).expect("it reads");
        for message in messages {
            expect(&mut client, message);
        }
    }
    talk(Lines::default(), b"one\n\nthree\n", &[b"one", b"", b"three"]);
    talk(Varint::default(), b"\x03one\x00", &[b"one", b""]);
    talk(Fixed::new(3).expect("not zero"), b"onetwo", &[b"one", b"two"]);
    talk(Raw, b"anything", &[b"anything"]);
    let little = LengthPrefixed::builder().width(2).little_endian().build().expect("a width");
    talk(little, b"\x03\0one", &[b"one"]);
}

#[test]
fn an_empty_message_is_not_the_end() {
    let (mut client, peer) = pair();
    send_frame(&peer, b"");
    expect(&mut client, b"");
    drop(peer);
    assert_eq!(client.recv().expect("an end in order"), None);
    assert_eq!(client.recv().expect("it stays the end"), None);
    assert_eq!(client.try_recv().expect("it stays the end"), TryRecv::End);
}

#[test]
fn the_framing_can_be_changed_and_what_was_read_is_kept() {
    let (mut client, mut peer) = pair_with(&bounded(), LengthPrefixed::default());
    peer.write_all(b"\0\0\0\x05short\x02hi").expect("it reads");
    expect(&mut client, b"short");
    client.set_codec(LengthPrefixed::builder().width(1).build().expect("a width"));
    expect(&mut client, b"hi");
    client.send(b"yes").expect("it is taken");
    let mut got = [0; 4];
    peer.read_exact(&mut got).expect("all of it");
    assert_eq!(&got, b"\x03yes");
}

#[test]
fn what_the_old_framing_waited_for_is_not_waited_for_by_the_new_one() {
    let (mut client, mut peer) = pair_with(&bounded(), LengthPrefixed::default());
    peer.write_all(b"\x02hi").expect("it reads");
    client.set_read_timeout(Some(SHORT));
    assert!(client.recv().expect_err("it is less than a length").is_timeout());
    client.set_codec(LengthPrefixed::builder().width(1).build().expect("a width"));
    client.set_read_timeout(Some(PATIENCE));
    expect(&mut client, b"hi");
}

#[test]
fn a_message_that_the_framing_cannot_say_costs_nothing_else() {
    let narrow = LengthPrefixed::builder().width(1).build().expect("a width");
    let (mut client, mut peer) = pair_with(&bounded(), narrow);
    let error = client.send(&[0; 256]).expect_err("one byte says 255");
    assert_eq!((error.step(), error.is_timeout(), error.is_kept()), (Step::Send, false, false));
    assert!(error.encode_error().is_some() && error.to_string().contains("256"), "{error}");
    client.send(b"ok").expect("it is taken");
    let mut got = [0; 3];
    peer.read_exact(&mut got).expect("all of it");
    assert_eq!(&got, b"\x02ok");
}

// ---- time ----------------------------------------------------------------------------------------------------------

#[test]
fn a_read_timeout_holds_for_the_whole_message_and_loses_nothing_of_it() {
    let (mut client, mut peer) = pair();
    client.set_read_timeout(Some(SHORT));
    let message = pattern(3, 100);
    let wire = frame(&message);
    let (go_on, goes_on) = std::sync::mpsc::channel::<()>();
    let dripping = thread::spawn(move || {
        for byte in &wire {
            peer.write_all(&[*byte]).expect("it reads");
            // Faster than the limit, so that only a limit for the whole is ever reached; as fast as can be once it was.
            if goes_on.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                thread::park_timeout(SHORT / 8);
            }
        }
        peer
    });
    let error = client.recv().expect_err("a hundred bytes take longer");
    assert!(error.is_timeout(), "{error}");
    assert!(error.after() >= SHORT, "{error:?}");
    assert_eq!((error.step(), error.io_kind()), (Step::Receive, Some(ErrorKind::TimedOut)));
    assert_eq!(error.address(), client.peer_addr().to_string());
    drop(go_on);
    client.set_read_timeout(Some(PATIENCE));
    expect(&mut client, &message);
    dripping.join().expect("no panic");
}

#[test]
fn half_a_message_is_kept_over_many_timeouts() {
    let (mut client, mut peer) = pair();
    client.set_read_timeout(Some(Duration::from_millis(10)));
    let message = pattern(4, 200_000);
    for part in frame(&message).chunks(50_001) {
        assert!(client.recv().expect_err("not whole yet").is_timeout());
        peer.write_all(part).expect("it reads");
    }
    client.set_read_timeout(Some(PATIENCE));
    expect(&mut client, &message);
}

#[test]
fn a_timeout_of_zero_waits_for_nothing_and_takes_what_is_there() {
    let (mut client, peer) = pair();
    client.set_read_timeout(Some(Duration::ZERO));
    assert!(client.recv().expect_err("nothing is there").is_timeout());
    send_frame(&peer, b"there");
    wait_for("the message", || client.recv_with(<[u8]>::to_vec).ok());
    client.set_write_timeout(Some(Duration::ZERO));
    client.send(b"room").expect("there is room");
    assert_eq!(read_frame(&peer), b"room");
}

#[test]
fn try_recv_tells_nothing_yet_from_the_end() {
    let (mut client, mut peer) = pair();
    assert_eq!(client.try_recv().expect("it is open"), TryRecv::NotYet);
    peer.write_all(b"\0\0\0\x02h").expect("it reads");
    // The half of a message that has come is no message.
    peer.set_nodelay(true).expect("it is TCP");
    assert_eq!(client.try_recv().expect("it is open"), TryRecv::NotYet);
    peer.write_all(b"i").expect("it reads");
    wait_for("the message", || {
        let got = client.try_recv().expect("it is open");
        assert_ne!(got, TryRecv::End);
        (got == TryRecv::Message(b"hi")).then_some(())
    });
    // Calls that wait still do, after one that did not.
    let late = thread::spawn(move || {
        thread::park_timeout(SHORT);
        send_frame(&peer, b"late");
        peer
    });
    expect(&mut client, b"late");
    drop(late.join().expect("no panic"));
    wait_for("the end", || (client.try_recv().expect("in order") == TryRecv::End).then_some(()));
}

/// Sends numbered messages until time is up, and answers the numbers that have to arrive.
fn send_until_full(client: &mut Client<LengthPrefixed>, len: usize) -> Vec<u32> {
    client.set_write_timeout(Some(Duration::from_millis(100)));
    let mut owed = Vec::new();
    let (mut number, mut refused) = (0_u32, 0);
    while refused < 3 {
        let mut message = pattern(number as usize, len);
        message[..4].copy_from_slice(&number.to_be_bytes());
        match client.send(&message) {
            Ok(()) => owed.push(number),
            Err(error) => {
                assert!(error.is_timeout(), "{error}");
                if error.is_kept() {
                    assert!(client.unsent() > 0 && client.unsent() < len + 4);
                    owed.push(number);
                }
                refused += 1;
            }
        }
        number += 1;
    }
    owed
}

#[test]
fn a_send_that_ran_out_of_time_is_either_not_begun_or_goes_first_the_next_time() {
    for len in [10_000, 100_000, 3_000_000] {
        let mut options = SocketOptions::default();
        options.send_buffer = Some(64 * 1024);
        let (mut client, peer) = pair_with(&bounded().socket_options(options), LengthPrefixed::default());
        let owed = send_until_full(&mut client, len);
        let reading = thread::spawn(move || {
            let mut numbers = Vec::new();
            loop {
                let message = read_frame(&peer);
                let number = u32::from_be_bytes(message[..4].try_into().expect("four bytes"));
                if number == u32::MAX {
                    return numbers;
                }
                assert!(message[4..] == pattern(number as usize, len)[4..], "message {number}");
                numbers.push(number);
            }
        });
        client.set_write_timeout(Some(PATIENCE));
        client.send(&u32::MAX.to_be_bytes()).expect("it is read now");
        assert_eq!(client.unsent(), 0);
        assert_eq!(reading.join().expect("no panic"), owed, "of {len} bytes");
    }
}

#[test]
fn what_is_kept_of_a_message_goes_out_by_a_flush_or_a_half_close() {
    for half_close in [false, true] {
        let (mut client, mut peer) = pair();
        let message = pattern(5, 30_000_000);
        client.set_write_timeout(Some(SHORT));
        let error = client.send(&message).expect_err("nobody reads");
        assert!(error.is_kept() && error.after() >= SHORT, "{error:?}");
        assert!(client.unsent() > 0);
        let reading = thread::spawn(move || {
            let mut wire = vec![0; message.len() + 4];
            peer.read_exact(&mut wire).expect("all of it");
            assert!(wire[4..] == message);
            peer
        });
        client.set_write_timeout(Some(PATIENCE));
        if half_close {
            client.shut_down_writing().expect("it is read now");
            expect_end(&reading.join().expect("no panic"));
        } else {
            client.flush().expect("it is read now");
            reading.join().expect("no panic");
        }
    }
}

// ---- ends ----------------------------------------------------------------------------------------------------------

#[test]
fn after_a_half_close_the_answers_still_come() {
    let server = Server::echo();
    let mut client = bounded().connect(server.address, LengthPrefixed::default()).expect("it listens");
    for number in 0..100 {
        client.send(&pattern(number, 1000)).expect("it is taken");
    }
    client.shut_down_writing().expect("it is open");
    client.shut_down_writing().expect("twice is no error");
    assert!(client.send(b"more").is_err());
    for number in 0..100 {
        expect(&mut client, &pattern(number, 1000));
    }
    assert_eq!(client.recv().expect("an end in order"), None);
}

#[test]
fn an_end_inside_a_message_is_an_error_and_no_end() {
    let (mut client, mut peer) = pair();
    peer.write_all(b"\0\0\0\x02hi\0\0\0\x09cut").expect("it reads");
    drop(peer);
    expect(&mut client, b"hi");
    for _ in 0..2 {
        let error = client.recv().expect_err("it is cut");
        assert_eq!(error.step(), Step::Frame);
        assert_eq!(error.frame_error().expect("a frame").offset(), 6);
        assert!(error.source().is_some());
    }
}

#[test]
fn a_frame_that_is_too_long_is_said_again_and_costs_no_memory() {
    let (mut client, mut peer) = pair();
    peer.write_all(b"\0\0\0\x02hiGET / HTTP/1.1\r\n\r\n").expect("it reads");
    expect(&mut client, b"hi");
    for _ in 0..2 {
        let error = client.recv().expect_err("too long");
        assert!(error.to_string().contains("GET "), "{error}");
    }
}

#[test]
fn a_reset_is_an_error_and_never_an_end() {
    let (mut client, peer) = pair();
    send_frame(&peer, b"before");
    expect(&mut client, b"before");
    reset(peer);
    for _ in 0..2 {
        let error = client.recv().expect_err("it is reset");
        assert_eq!((error.step(), error.io_kind()), (Step::Receive, Some(ErrorKind::ConnectionReset)));
        assert!(!error.is_timeout());
    }
    assert!(!client.is_open());
    assert!(client.send(b"after").is_err());
}

#[test]
fn a_reset_that_a_send_met_is_not_taken_for_an_end_by_the_next_recv() {
    let (mut client, peer) = pair();
    reset(peer);
    wait_for("the reset", || client.send(b"x").err());
    assert!(client.recv().is_err());
    assert!(client.close().is_err());
}

#[test]
fn a_peer_that_dies_while_it_does_not_read_ends_a_send() {
    let (mut client, peer) = pair();
    let dying = thread::spawn(move || {
        peer.peek(&mut [0]).expect("something comes");
        thread::park_timeout(SHORT);
        reset(peer);
    });
    let error = client.send(&pattern(1, 50_000_000)).expect_err("nobody reads");
    assert_eq!((error.step(), error.is_timeout(), error.is_kept()), (Step::Send, false, false));
    assert_eq!(client.unsent(), 0);
    dying.join().expect("no panic");
}

#[test]
fn is_open_consumes_nothing_and_sees_an_end_and_a_reset() {
    let (mut client, peer) = pair();
    assert!(client.is_open());
    send_frame(&peer, b"here");
    client.set_read_timeout(Some(PATIENCE));
    wait_for("the message", || client.is_open().then_some(()));
    expect(&mut client, b"here");
    assert!(client.is_open());
    peer.shutdown(Shutdown::Write).expect("it is open");
    wait_for("the end", || (!client.is_open()).then_some(()));
    client.send(b"still").expect("a half-closed peer reads");
    assert_eq!(client.recv().expect("in order"), None);
    assert_eq!(read_frame(&peer), b"still");

    let (mut client, peer) = pair();
    reset(peer);
    wait_for("the reset", || (!client.is_open()).then_some(()));
    // The system tells it once; the client remembers.
    assert!(client.recv().is_err());
}

#[test]
fn close_delivers_what_was_sent_although_something_was_not_received() {
    let (mut client, peer) = pair();
    for number in 0..20 {
        send_frame(&peer, &pattern(number, 10_000));
    }
    expect(&mut client, &pattern(0, 10_000));
    let message = pattern(7, 3_000_000);
    let expected = message.clone();
    let reading = thread::spawn(move || {
        // Late: a close that resets would have destroyed it by now.
        thread::park_timeout(A_WHILE);
        assert!(read_frame(&peer) == expected);
        expect_end(&peer);
    });
    client.send(&message).expect("it is taken");
    client.close().expect("all has arrived");
    reading.join().expect("no panic");
}

#[test]
fn close_waits_for_a_peer_that_does_not_end_for_a_second_only() {
    let (client, _peer) = pair();
    let began = now();
    client.close().expect("nothing was lost");
    assert!(now() - began < PATIENCE / 2);
}

#[test]
fn a_client_gives_its_socket_out_with_what_was_not_delivered() {
    let (mut client, mut peer) = pair();
    peer.write_all(b"\0\0\0\x02hi\0\0\0\x09half").expect("it reads");
    expect(&mut client, b"hi");
    client.set_read_timeout(Some(Duration::from_millis(10)));
    assert!(client.recv().expect_err("half").is_timeout());
    assert_eq!(client.try_recv().expect("open"), TryRecv::NotYet);
    let mut parts = client.into_std().expect("it is a socket");
    assert_eq!(parts.undelivered, b"\0\0\0\x09half");
    assert_eq!(parts.unsent, b"");
    assert_eq!(parts.peer.ip(), peer.local_addr().ok());
    // Blocking, and without a limit.
    assert_eq!(SockRef::from(&parts.stream).read_timeout().expect("a socket"), None);
    let late = thread::spawn(move || {
        thread::park_timeout(SHORT);
        peer.write_all(b"rest!").expect("it reads");
        peer
    });
    let mut rest = [0; 5];
    parts.stream.read_exact(&mut rest).expect("it waits");
    assert_eq!(&rest, b"rest!");
    drop(late);
}

// ---- connecting ----------------------------------------------------------------------------------------------------

/// A port that nobody listens on, and nobody can while this lives.
fn dead_port() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    socket.bind(&any.into()).expect("a free port");
    let address = socket.local_addr().expect("it is bound").as_socket().expect("it is IP");
    (socket, address)
}

#[test]
fn a_refused_connection_says_step_and_address() {
    let (_held, address) = dead_port();
    let error = bounded().connect(address, Raw).expect_err("nobody listens");
    assert_eq!((error.step(), error.io_kind()), (Step::Connect, Some(ErrorKind::ConnectionRefused)));
    assert_eq!(error.address(), address.to_string());
    assert!(!error.is_timeout());
    assert!(error.source().is_some());
}

#[test]
fn all_addresses_are_tried_and_the_error_has_each() {
    let ((_one, first), (_two, second)) = (dead_port(), dead_port());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let good = listener.local_addr().expect("it is bound");
    let client = bounded().connect([first, second, good], Raw).expect("one of them listens");
    assert_eq!(client.peer_addr().ip(), Some(good));
    let error = bounded().connect([first, second], Raw).expect_err("none listens");
    let tried: Vec<_> = error.attempts().iter().map(|attempt| attempt.address.ip()).collect();
    assert_eq!(tried, [Some(first), Some(second)]);
    let text = error.to_string();
    assert!(text.contains(&first.to_string()) && text.contains(&second.to_string()), "{text}");
    let error = bounded().connect(Vec::new(), Raw).expect_err("there is none");
    assert_eq!(error.step(), Step::Connect);
}

/// nodejs/node#40702 and many like it: `localhost` is ::1 first, and the server listens on 127.0.0.1.
#[test]
fn localhost_is_found_on_whichever_family_it_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    Client::connect(("localhost", port), Raw).expect("one of its addresses listens");
    Client::connect(format!("localhost:{port}"), Raw).expect("one of its addresses listens");
    if has_ipv6() {
        let listener = TcpListener::bind("[::1]:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let client = Client::connect(&*address.to_string(), Raw).expect("it listens");
        assert_eq!(client.peer_addr().ip(), Some(address));
    }
}

/// A listener whose queue is full: the kernel drops who knocks.
#[cfg(target_os = "linux")]
fn black_hole() -> (socket2::Socket, SocketAddr, TcpStream) {
    let (socket, address) = dead_port();
    socket.listen(0).expect("it listens");
    let waiting = TcpStream::connect(address).expect("the queue has room for one");
    (socket, address, waiting)
}

#[test]
#[cfg(target_os = "linux")]
fn a_black_hole_leaves_the_next_address_its_share_of_the_time() {
    let (_full, hole, _waiting) = black_hole();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let good = listener.local_addr().expect("it is bound");
    let builder = bounded().connect_timeout(Some(Duration::from_secs(2)));
    let client = builder.connect([hole, good], Raw).expect("the second one listens");
    assert_eq!(client.peer_addr().ip(), Some(good));
}

#[test]
#[cfg(target_os = "linux")]
fn black_holes_alone_take_no_longer_than_the_limit() {
    let (_full, hole, _waiting) = black_hole();
    let limit = Duration::from_millis(800);
    let builder = bounded().connect_timeout(Some(limit));
    let error = builder.connect([hole; 10], Raw).expect_err("nobody answers");
    assert!(error.is_timeout() && error.step() == Step::Connect, "{error}");
    assert_eq!(error.attempts().len(), 10);
    assert!(error.after() >= limit - Duration::from_millis(20), "{error}");
    // With the limit for each it would be ten times as long.
    assert!(error.after() < limit * 6, "{error}");
}

#[test]
fn a_name_that_cannot_be_looked_up_is_said_within_the_limit() {
    let builder = bounded().connect_timeout(Some(Duration::from_secs(2)));
    let error = builder.connect("no-such-name.invalid:1", Raw).expect_err("it does not exist");
    assert_eq!((error.step(), error.address()), (Step::Resolve, "no-such-name.invalid:1"));
    assert!(error.after() < PATIENCE);
}

#[test]
fn options_are_set_before_it_connects_and_can_be_changed() {
    let mut options = SocketOptions::default();
    options.receive_buffer = Some(8 * 1024);
    options.ttl = Some(7);
    let (client, _peer) = pair_with(&bounded().socket_options(options), Raw);
    let mut changed = SocketOptions::default();
    changed.nodelay = false;
    client.set_options(&changed).expect("they can be set");
    let local = client.local_addr().expect("it is connected");
    let parts = client.into_std().expect("it is a socket");
    let socket = SockRef::from(&parts.stream);
    assert!(!socket.tcp_nodelay().expect("TCP"));
    assert_eq!(socket.ttl_v4().expect("IPv4"), 7);
    assert!(socket.recv_buffer_size().expect("a size") < 64 * 1024);
    assert_eq!(local, parts.stream.local_addr().expect("it is connected"));

    let (client, _peer) = pair();
    let stream = client.into_std().expect("it is a socket").stream;
    assert!(stream.tcp().expect("it is one").nodelay().expect("TCP"));
}

#[test]
fn a_socket_made_elsewhere_is_taken_in_whatever_its_mode() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let stream = connect(listener.local_addr().expect("it is bound"));
    let peer = patient(listener.accept().expect("a client").0);
    stream.set_nonblocking(true).expect("a mode");
    let mut client = bounded().adopt(stream, LengthPrefixed::default()).expect("it is connected");
    let late = thread::spawn(move || {
        thread::park_timeout(SHORT);
        send_frame(&peer, b"late");
        peer
    });
    expect(&mut client, b"late");
    drop(late);
}
