//! A connection with a receiving thread and a callback, sent to from many threads, against peers of all kinds.

#[path = "common/reactor.rs"]
mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use common::{
    A_WHILE, PATIENCE, Server, expect_end, frame, is_cut, now, patient, pattern, read_frame, reset,
    send_frame, wait_for,
};
use mainspring::SocketOptions;
use mainspring::client::{Builder, Channel, ChannelOptions, Client, Ended, Event, Sender, Step};
use mainspring::codec::LengthPrefixed;

type Codec = LengthPrefixed;

/// What a callback was told.
#[derive(Debug)]
enum Told {
    Message(Vec<u8>),
    Ended(Ended),
}

struct Tales(Receiver<Told>);

impl Tales {
    #[track_caller]
    fn next(&self) -> Told {
        self.0.recv_timeout(PATIENCE).expect("the callback is told something")
    }

    #[track_caller]
    fn expect(&self, message: &[u8]) {
        match self.next() {
            Told::Message(got) => assert!(got == message, "{} bytes that differ", got.len()),
            Told::Ended(why) => panic!("ended: {why:?}"),
        }
    }

    /// The end, after any messages. Nothing is told after it, and the callback is gone.
    #[track_caller]
    fn end(&self) -> Ended {
        let why = loop {
            if let Told::Ended(why) = self.next() {
                break why;
            }
        };
        assert!(self.0.recv_timeout(PATIENCE).is_err(), "nothing comes after the end");
        why
    }
}

fn options(send_timeout: Option<Duration>) -> Builder {
    Builder::new().read_timeout(Some(Duration::from_millis(1))).write_timeout(send_timeout)
}

fn client_with(builder: &Builder) -> (Client<Codec>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let client = builder.connect(address, Codec::default()).expect("it listens");
    (client, patient(listener.accept().expect("a client").0))
}

/// A channel that tells, and the plain socket at its other end.
fn pair() -> (Channel<Codec>, Tales, TcpStream) {
    pair_with(Some(PATIENCE), ChannelOptions::default(), |_, _| {})
}

fn pair_with(
    send_timeout: Option<Duration>,
    channel_options: ChannelOptions,
    mut also: impl FnMut(&Sender<Codec>, &Event<'_, Codec>) + Send + 'static,
) -> (Channel<Codec>, Tales, TcpStream) {
    let (client, peer) = client_with(&options(send_timeout));
    let (tells, told) = mpsc::channel();
    let channel = Channel::with_options(client, channel_options, move |sender, event| {
        also(sender, &event);
        let tale = match event {
            Event::Message(message) => Told::Message(message.to_vec()),
            Event::Ended(why) => Told::Ended(why),
        };
        // A test may have heard enough.
        drop(tells.send(tale));
    });
    (channel.expect("threads can be started"), Tales(told), peer)
}

fn short_close() -> ChannelOptions {
    let mut options = ChannelOptions::default();
    options.close_timeout = Duration::from_millis(200);
    options
}

// ---- messages ------------------------------------------------------------------------------------------------------

#[test]
fn what_many_threads_send_comes_whole_and_in_the_order_of_each() {
    const THREADS: usize = 4;
    const EACH: usize = 300;
    let server = Server::echo();
    let (tells, told) = mpsc::channel();
    let client = options(Some(PATIENCE)).connect(server.address, Codec::default()).expect("it listens");
    let channel = Channel::new(client, move |_, event| {
        if let Event::Message(message) = event {
            tells.send(message.to_vec()).expect("the test listens");
        }
    });
    let channel = channel.expect("threads can be started");
    // Around the length from which on nothing is copied.
    let len = |number: usize| if number % 50 == 49 { 200_000 } else { 100 + number * 150 % 33_000 };
    let senders: Vec<_> = (0..THREADS)
        .map(|thread| {
            let sender = channel.sender().clone();
            thread::spawn(move || {
                for number in 0..EACH {
                    let mut message = pattern(thread * EACH + number, len(number));
                    message[..2].copy_from_slice(&[thread as u8, (number / 256) as u8]);
                    message[2] = number as u8;
                    match number % 3 {
                        0 => sender.send_owned(&Bytes::from(message)),
                        _ => sender.send(&message),
                    }
                    .expect("it is taken");
                }
            })
        })
        .collect();
    let mut next = [0; THREADS];
    for _ in 0..THREADS * EACH {
        let message = told.recv_timeout(PATIENCE).expect("all of them come back");
        let thread = usize::from(message[0]);
        let number = usize::from(message[1]) * 256 + usize::from(message[2]);
        assert_eq!(number, next[thread], "of thread {thread}");
        assert_eq!(message.len(), len(number));
        assert!(message[3..] == pattern(thread * EACH + number, len(number))[3..], "message {number}");
        next[thread] += 1;
    }
    for sender in senders {
        sender.join().expect("no panic");
    }
    channel.close().expect("nothing is lost");
}

#[test]
fn an_empty_message_is_a_message_both_ways() {
    let (channel, tales, peer) = pair();
    channel.send(b"").expect("it is taken");
    assert_eq!(read_frame(&peer), b"");
    send_frame(&peer, b"");
    tales.expect(b"");
}

#[test]
fn the_callback_answers_by_its_sender() {
    let (_channel, tales, peer) = pair_with(Some(PATIENCE), ChannelOptions::default(), |sender, event| {
        if let Event::Message(message) = event {
            sender.send(message).expect("there is room");
        }
    });
    for number in 0..100 {
        let message = pattern(number, number * 1000);
        send_frame(&peer, &message);
        assert!(read_frame(&peer) == message);
        tales.expect(&message);
    }
}

#[test]
fn what_a_client_has_left_over_is_not_lost() {
    let (mut client, mut peer) = client_with(&options(Some(Duration::from_millis(100))));
    peer.write_all(&[frame(b"first"), frame(b"second"), frame(b"third")[..6].to_vec()].concat())
        .expect("it reads");
    client.set_read_timeout(Some(PATIENCE));
    assert_eq!(client.recv().expect("it is well"), Some(&b"first"[..]));
    let large = pattern(1, 30_000_000);
    assert!(client.send(&large).expect_err("nobody reads").is_kept());
    client.set_write_timeout(Some(PATIENCE));
    let (tells, told) = mpsc::channel();
    let channel = Channel::new(client, move |_, event| {
        if let Event::Message(message) = event {
            tells.send(message.to_vec()).expect("the test listens");
        }
    });
    let channel = channel.expect("threads can be started");
    assert_eq!(told.recv_timeout(PATIENCE).expect("it comes"), b"second");
    peer.write_all(&frame(b"third")[6..]).expect("it reads");
    assert_eq!(told.recv_timeout(PATIENCE).expect("it comes"), b"third");
    let reading = thread::spawn(move || {
        assert!(read_frame(&peer) == large);
        assert_eq!(read_frame(&peer), b"behind");
    });
    channel.send(b"behind").expect("there is room once it is read");
    reading.join().expect("no panic");
}

// ---- a peer that does not read -------------------------------------------------------------------------------------

/// More than any system takes for a peer that does not read.
const HUGE: usize = 40_000_000;

/// Fills the way to the peer, and what may be queued, with one message.
fn fill(sender: &Sender<Codec>) {
    sender.try_send(&pattern(1, HUGE)).expect("with nothing before it, it is queued however long it is");
    let error = sender.try_send(b"").expect_err("much waits before it");
    assert_eq!((error.io_kind(), error.is_kept()), (Some(ErrorKind::WouldBlock), false));
}

#[track_caller]
fn expect_fill(peer: &TcpStream) {
    assert!(read_frame(peer) == pattern(1, HUGE));
}

#[test]
fn a_write_that_waits_does_not_stop_the_receiving() {
    let (refused, refusals) = mpsc::channel();
    let (channel, tales, peer) = pair_with(None, ChannelOptions::default(), move |sender, event| {
        if let Event::Message(_) = event {
            refused
                .send(sender.send(b"answer").err().map(|error| error.io_kind()))
                .expect("the test listens");
        }
    });
    // One thread waits in a write, another one for room.
    let writing: Vec<_> = (0..2)
        .map(|_| {
            let sender = channel.sender().clone();
            thread::spawn(move || while sender.send(&pattern(1, 5_000_000)).is_ok() {})
        })
        .collect();
    wait_for("a queue", || (channel.sender().queued() > ChannelOptions::default().queue_max).then_some(()));
    for number in 0..50 {
        send_frame(&peer, &pattern(number, 1000));
        tales.expect(&pattern(number, 1000));
        // In the callback there is no waiting for room.
        let refusal = refusals.recv_timeout(PATIENCE).expect("it has answered");
        assert_eq!(refusal, Some(Some(ErrorKind::WouldBlock)));
    }
    channel.abort();
    for thread in writing {
        thread.join().expect("no panic");
    }
}

#[test]
fn the_wait_for_a_peer_that_does_not_read_is_bounded_and_nothing_is_sent_twice() {
    const WAIT: Duration = Duration::from_millis(150);
    let (channel, _tales, peer) = pair_with(Some(WAIT), ChannelOptions::default(), |_, _| {});
    let mut owed = Vec::new();
    let mut refused = 0;
    for number in 0..1000_u32 {
        let mut message = pattern(number as usize, 300_000);
        message[..4].copy_from_slice(&number.to_be_bytes());
        let began = now();
        match channel.send(&message) {
            Ok(()) => owed.push(number),
            Err(error) => {
                assert!(error.is_timeout() && !error.is_kept(), "{error}");
                assert!(now() - began >= WAIT);
                refused += 1;
                if refused == 3 {
                    break;
                }
            }
        }
    }
    assert_eq!(refused, 3, "it never waits");
    let reading = thread::spawn(move || {
        let mut numbers = Vec::new();
        let mut wire = &peer;
        let mut header = [0; 4];
        while wire.read_exact(&mut header).is_ok() {
            let mut message = vec![0; u32::from_be_bytes(header) as usize];
            wire.read_exact(&mut message).expect("the rest of a frame");
            let number = u32::from_be_bytes(message[..4].try_into().expect("four bytes"));
            assert!(message[4..] == pattern(number as usize, 300_000)[4..], "message {number}");
            numbers.push(number);
        }
        numbers
    });
    channel.close().expect("it is read now");
    assert_eq!(reading.join().expect("no panic"), owed);
}

#[test]
fn the_rest_of_a_message_whose_sender_ran_out_of_time_goes_before_what_was_queued_meanwhile() {
    let (channel, _tales, peer) = pair_with(Some(A_WHILE), ChannelOptions::default(), |_, _| {});
    let sender = channel.sender().clone();
    let stuck = thread::spawn(move || sender.send(&pattern(1, HUGE)));
    peer.peek(&mut [0]).expect("it has begun");
    channel.sender().try_send(b"behind").expect("there is room");
    stuck.join().expect("no panic").expect("it goes out later");
    expect_fill(&peer);
    assert_eq!(read_frame(&peer), b"behind");
}

#[test]
fn what_may_be_queued_is_bounded() {
    let mut options = ChannelOptions::default();
    options.queue_max = 10_000;
    let (channel, _tales, _peer) = pair_with(Some(PATIENCE), options, |_, _| {});
    let message = pattern(1, 100_000);
    let refused = wait_for("a refusal", || {
        let refused = channel.sender().try_send(&message).err();
        assert!(channel.sender().queued() <= 10_000 + message.len() + 4, "{}", channel.sender().queued());
        refused
    });
    assert_eq!(refused.io_kind(), Some(ErrorKind::WouldBlock));
    channel.abort();
}

#[test]
fn a_waiting_sender_goes_on_when_there_is_room() {
    let (channel, _tales, peer) = pair();
    fill(channel.sender());
    let sender = channel.sender().clone();
    let waiting = thread::spawn(move || sender.send(b"last"));
    let reading = thread::spawn(move || while read_frame(&peer) != b"last" {});
    waiting.join().expect("no panic").expect("there is room now");
    reading.join().expect("no panic");
}

// ---- ends ----------------------------------------------------------------------------------------------------------

#[test]
fn the_peers_end_is_told_once_and_it_can_still_be_sent_to() {
    let (channel, tales, peer) = pair();
    send_frame(&peer, b"bye");
    peer.shutdown(Shutdown::Write).expect("it is open");
    tales.expect(b"bye");
    let ended = tales.end();
    assert!(matches!(ended, Ended::Peer), "{ended:?}");
    channel.send(b"still here").expect("a half-closed peer reads");
    assert_eq!(read_frame(&peer), b"still here");
    channel.close().expect("nothing is lost");
    expect_end(&peer);
}

#[test]
fn after_our_half_close_answers_come_until_the_peers_end() {
    let server = Server::echo();
    let client = options(Some(PATIENCE)).connect(server.address, Codec::default()).expect("it listens");
    let (tells, told) = mpsc::channel();
    let channel = Channel::new(client, move |_, event| {
        drop(tells.send(match event {
            Event::Message(message) => Told::Message(message.to_vec()),
            Event::Ended(why) => Told::Ended(why),
        }));
    });
    let (channel, tales) = (channel.expect("threads can be started"), Tales(told));
    for number in 0..200 {
        channel.send(&pattern(number, 5000)).expect("it is taken");
    }
    channel.shut_down_writing();
    assert_eq!(channel.send(b"more").expect_err("it has ended").io_kind(), Some(ErrorKind::NotConnected));
    for number in 0..200 {
        tales.expect(&pattern(number, 5000));
    }
    let ended = tales.end();
    assert!(matches!(ended, Ended::Peer), "{ended:?}");
}

#[test]
fn close_hands_over_what_is_queued_then_ends_and_joins() {
    let (channel, tales, peer) = pair();
    let sender = channel.sender().clone();
    fill(&sender);
    let reading = thread::spawn(move || {
        thread::park_timeout(A_WHILE);
        expect_fill(&peer);
        expect_end(&peer);
    });
    channel.close().expect("all is read");
    // Whatever the callback was to be told, it has been told.
    let ended = tales.0.try_iter().last();
    assert!(matches!(ended, Some(Told::Ended(Ended::Closed))), "{ended:?}");
    reading.join().expect("no panic");
    assert_eq!(sender.send(b"late").expect_err("it is closed").io_kind(), Some(ErrorKind::NotConnected));
    assert!(!sender.is_open());
}

#[test]
fn what_was_sent_last_arrives_although_much_was_not_received() {
    // The callback holds the receiving up until the close.
    let (go_on, goes_on) = mpsc::channel::<()>();
    let (channel, _tales, mut peer) = pair_with(Some(PATIENCE), ChannelOptions::default(), move |_, _| {
        let _ = goes_on.recv();
    });
    peer.write_all(&(0..30).flat_map(|number| frame(&pattern(number, 10_000))).collect::<Vec<u8>>())
        .expect("it fits");
    let last = pattern(5, 1_000_000);
    let expected = last.clone();
    let reading = thread::spawn(move || {
        thread::park_timeout(A_WHILE);
        assert!(read_frame(&peer) == expected);
        expect_end(&peer);
    });
    channel.send(&last).expect("it is taken");
    // The close begins while most of what has come is unread.
    channel.sender().close();
    drop(go_on);
    channel.close().expect("nothing is lost");
    reading.join().expect("no panic");
}

#[test]
fn a_close_is_bounded_when_the_peer_does_not_read_and_says_what_was_lost() {
    let (channel, tales, _peer) = pair_with(Some(PATIENCE), short_close(), |_, _| {});
    fill(channel.sender());
    let began = now();
    let error = channel.close().expect_err("it was not written");
    assert!(error.is_timeout() && error.step() == Step::Send, "{error}");
    assert!(now() - began < PATIENCE / 2);
    assert!(matches!(tales.end(), Ended::Closed));
}

#[test]
fn a_close_is_bounded_although_the_peer_takes_a_little_all_the_time() {
    // Each write finds room within a moment, and so none of them waits for long.
    let mut small = SocketOptions::default();
    small.send_buffer = Some(4096);
    let builder = options(Some(PATIENCE)).socket_options(small);
    let (client, peer) = client_with(&builder);
    let channel = Channel::with_options(client, short_close(), |_, _| {}).expect("threads can be started");
    let (stop, stopped) = mpsc::channel::<()>();
    fill(channel.sender());
    let sipping = thread::spawn(move || {
        let mut taken = 0;
        let sip = Duration::from_millis(1);
        while stopped.recv_timeout(sip) == Err(mpsc::RecvTimeoutError::Timeout) {
            match (&peer).read(&mut [0; 2048]) {
                Ok(n) if n > 0 => taken += n,
                _ => break,
            }
        }
        taken
    });
    let began = now();
    let error = channel.close().expect_err("there was no time for all of it");
    let took = now() - began;
    assert!(error.is_timeout() && error.step() == Step::Send, "{error}");
    assert!(took < PATIENCE / 2, "{took:?}");
    drop(stop);
    let taken = sipping.join().expect("no panic");
    assert!(taken < HUGE, "{taken}");
}

#[test]
fn a_close_is_bounded_while_another_thread_is_stuck_in_a_send() {
    let (channel, _tales, peer) = pair_with(None, short_close(), |_, _| {});
    let sender = channel.sender().clone();
    let stuck = thread::spawn(move || sender.send(&pattern(1, 50_000_000)));
    peer.peek(&mut [0]).expect("it has begun");
    drop(channel);
    let error = stuck.join().expect("no panic").expect_err("the close did not wait");
    assert_eq!(error.io_kind(), Some(ErrorKind::NotConnected));
}

#[test]
fn a_close_is_bounded_when_the_peer_does_not_end() {
    // Nothing is queued: the time for that is not what is waited for.
    let mut options = ChannelOptions::default();
    options.close_timeout = PATIENCE * 2;
    let (channel, tales, _peer) = pair_with(Some(PATIENCE), options, |_, _| {});
    let began = now();
    channel.close().expect("nothing is lost");
    assert!(now() - began < PATIENCE / 2);
    assert!(matches!(tales.end(), Ended::Closed));
}

#[test]
fn dropping_hands_over_what_is_queued() {
    let (channel, tales, peer) = pair();
    fill(channel.sender());
    let reading = thread::spawn(move || expect_fill(&peer));
    drop(channel);
    reading.join().expect("no panic");
    assert!(matches!(tales.end(), Ended::Closed));
}

/// How a channel is ended from inside its own callback.
#[derive(Clone, Copy, Debug)]
enum Inside {
    Close,
    Drop,
    Abort,
    Sender,
}

#[test]
fn ending_from_inside_the_callback_does_not_wait_for_itself() {
    for how in [Inside::Close, Inside::Drop, Inside::Abort, Inside::Sender] {
        let place: Arc<Mutex<Option<Channel<Codec>>>> = Arc::default();
        let own = Arc::clone(&place);
        let (channel, tales, mut peer) =
            pair_with(Some(PATIENCE), ChannelOptions::default(), move |sender, event| {
                if let Event::Message(_) = event {
                    sender.send(b"last").expect("there is room");
                    let channel = own.lock().expect("no panic").take();
                    match how {
                        Inside::Close => channel.expect("it is there").close().expect("it is begun"),
                        Inside::Drop => drop(channel),
                        Inside::Abort => channel.expect("it is there").abort(),
                        Inside::Sender => {
                            sender.close();
                            // Kept until the test ends.
                            *own.lock().expect("no panic") = channel;
                        }
                    }
                }
            });
        *place.lock().expect("no panic") = Some(channel);
        peer.write_all(&[frame(b"now"), frame(b"never")].concat()).expect("it reads");
        tales.expect(b"now");
        let ended = tales.next();
        assert!(matches!(ended, Told::Ended(Ended::Closed)), "{how:?}: {ended:?}");
        if let Inside::Abort = how {
            let gone = wait_for("the end", || {
                peer.read(&mut [0; 100]).map_or_else(Some, |n| (n == 0).then(|| ErrorKind::Other.into()))
            });
            assert!(is_cut(gone.kind()) || gone.kind() == ErrorKind::Other, "{gone}");
        } else {
            assert_eq!(read_frame(&peer), b"last", "{how:?}");
            expect_end(&peer);
        }
    }
}

#[test]
fn an_abort_resets_the_connection() {
    let (channel, tales, mut peer) = pair();
    channel.abort();
    assert!(matches!(tales.end(), Ended::Closed));
    let error = peer.read(&mut [0; 8]).expect_err("it is reset");
    assert!(is_cut(error.kind()), "{error}");
}

#[test]
fn an_abort_waits_for_nothing_that_is_queued() {
    let (channel, tales, _peer) = pair();
    fill(channel.sender());
    let began = now();
    channel.abort();
    assert!(now() - began < PATIENCE / 4);
    assert!(matches!(tales.end(), Ended::Closed));
}

#[test]
fn a_reset_is_told_with_its_error_and_ends_the_sending() {
    let (channel, tales, peer) = pair();
    reset(peer);
    match tales.end() {
        Ended::Lost(error) => assert_eq!(error.io_kind(), Some(ErrorKind::ConnectionReset)),
        other => panic!("{other:?}"),
    }
    wait_for("refusal", || channel.send(b"late").err());
    channel.close().expect("nothing was queued");
}

#[test]
fn a_reset_that_a_send_met_is_no_end_in_order() {
    for _ in 0..20 {
        let (channel, tales, peer) = pair();
        let sender = channel.sender().clone();
        let sending = thread::spawn(move || while sender.send(&[1; 40_000]).is_ok() {});
        peer.peek(&mut [0]).expect("it sends");
        reset(peer);
        let ended = tales.end();
        assert!(matches!(ended, Ended::Lost(_)), "{ended:?}");
        sending.join().expect("no panic");
    }
}

#[test]
fn a_reset_that_somebody_else_was_told_of_is_no_end_in_order() {
    // The system tells it once, here to a second handle; to a thread that has just written it could be.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let stream = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
    let (peer, _) = listener.accept().expect("a client");
    let other = stream.try_clone().expect("a descriptor");
    let client = options(None).adopt(stream, Codec::default()).expect("it is connected");
    let (go_on, goes_on) = mpsc::channel::<()>();
    let (tells, told) = mpsc::channel();
    let channel = Channel::new(client, move |_, event| {
        let tale = match event {
            Event::Message(message) => Told::Message(message.to_vec()),
            Event::Ended(why) => Told::Ended(why),
        };
        drop(tells.send(tale));
        let _ = goes_on.recv();
    });
    let (_channel, tales) = (channel.expect("threads can be started"), Tales(told));
    send_frame(&peer, b"before");
    tales.expect(b"before");
    reset(peer);
    wait_for("the reset", || other.take_error().expect("it can be asked"));
    drop(go_on);
    let ended = tales.end();
    assert!(
        matches!(&ended, Ended::Lost(error) if error.io_kind() == Some(ErrorKind::ConnectionReset)),
        "{ended:?}"
    );
}

#[test]
fn a_broken_frame_ends_the_connection_after_what_came_before_and_what_is_queued() {
    let (channel, tales, mut peer) = pair();
    fill(channel.sender());
    peer.write_all(&[&frame(b"good")[..], &[0xff; 20]].concat()).expect("it reads");
    tales.expect(b"good");
    match tales.end_kept_open() {
        Ended::Lost(error) => assert_eq!(error.frame_error().expect("a frame").offset(), 8),
        other => panic!("{other:?}"),
    }
    expect_fill(&peer);
    drop(peer);
    assert!(channel.send(b"late").is_err());
}

impl Tales {
    /// The next thing told is an end; the callback may live on.
    #[track_caller]
    fn end_kept_open(&self) -> Ended {
        match self.next() {
            Told::Ended(why) => why,
            Told::Message(message) => panic!("{} bytes", message.len()),
        }
    }
}

#[test]
fn an_end_inside_a_message_is_no_end_in_order() {
    let (_channel, tales, mut peer) = pair();
    peer.write_all(&frame(b"cut short")[..7]).expect("it reads");
    drop(peer);
    match tales.end() {
        Ended::Lost(error) => assert_eq!(error.step(), Step::Frame),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_panic_of_the_callback_ends_the_connection_and_goes_on_in_close() {
    let (channel, _tales, peer) = pair_with(Some(PATIENCE), ChannelOptions::default(), |_, event| {
        if let Event::Message(_) = event {
            panic::resume_unwind(Box::new("the callback's own"));
        }
    });
    send_frame(&peer, b"boom");
    wait_for("the end", || channel.send(b"late").err());
    let panicked = panic::catch_unwind(AssertUnwindSafe(|| channel.close()));
    let panic = panicked.expect_err("it goes on");
    assert_eq!(panic.downcast_ref(), Some(&"the callback's own"));
}

#[test]
fn a_sender_keeps_no_socket_open() {
    let (channel, _tales, peer) = pair();
    let sender = channel.sender().clone();
    let reading = thread::spawn(move || {
        expect_end(&peer);
        peer
    });
    channel.close().expect("nothing is lost");
    let mut peer = reading.join().expect("no panic");
    // A socket that is closed on the other side answers what is sent to it with a reset.
    wait_for("the reset", || peer.write_all(b"anyone?").err());
    assert!(!sender.is_open());
    assert_eq!(sender.queued(), 0);
}

#[test]
fn small_socket_buffers_change_nothing() {
    let server = Server::echo();
    let mut small = SocketOptions::default();
    small.send_buffer = Some(4 * 1024);
    small.receive_buffer = Some(4 * 1024);
    let builder = options(Some(PATIENCE)).socket_options(small);
    let client = builder.connect(server.address, Codec::default()).expect("it listens");
    let (tells, told) = mpsc::channel();
    let channel = Channel::new(client, move |_, event| {
        if let Event::Message(message) = event {
            tells.send(message.to_vec()).expect("the test listens");
        }
    });
    let channel = channel.expect("threads can be started");
    let message = Bytes::from(pattern(9, 1_000_000));
    for _ in 0..3 {
        channel.send_owned(&message).expect("it is taken");
        channel.send(&message).expect("it is taken");
    }
    for _ in 0..6 {
        assert!(told.recv_timeout(PATIENCE).expect("it comes back") == message);
    }
}

#[test]
fn many_channels_open_and_end_while_others_send() {
    let server = Server::echo();
    for round in 0..100 {
        let client = options(Some(PATIENCE)).connect(server.address, Codec::default()).expect("it listens");
        let channel = Channel::new(client, |sender, event| {
            if let Event::Message(message) = event {
                // It may be closed.
                drop(sender.send(message));
            }
        });
        let channel = channel.expect("threads can be started");
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let sender = channel.sender().clone();
                thread::spawn(move || while sender.send(b"around and around").is_ok() {})
            })
            .collect();
        match round % 3 {
            0 => drop(channel),
            // The echo may be cut by our own end.
            1 => drop(channel.close()),
            _ => channel.abort(),
        }
        for sender in senders {
            sender.join().expect("no panic");
        }
    }
}
