//! A server without descriptors to spare (Linux): it neither spins nor dies, and serves those who wait as others leave.
//!
//! The server is this test's own program, started again with a low limit.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "what a test's helper cannot do has failed the test")]

#[path = "common/reactor.rs"]
mod common;

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use common::*;
use mainspring::Reactor;
use mainspring::codec::LengthPrefixed;

const IS_SERVER: &str = "MAINSPRING_TEST_IS_SERVER";
const DESCRIPTORS: usize = 80;
/// Files that are no connections, so that descriptors run out below the maximum of connections.
const HOARD: usize = 40;
const CLIENTS: usize = 60;
/// Has the server close files that are no connections.
const FREE: &[u8] = b"free some";

/// Not a test of its own: the server, when the program was started as one. It ends with its standard input.
#[test]
fn server() {
    if std::env::var_os(IS_SERVER).is_none() {
        return;
    }
    let mut hoard: Vec<_> = (0..HOARD).map(|_| File::open("/dev/null").unwrap()).collect();
    let (tester, _events) = Tester::new(move |cx, from, message| {
        if message == FREE {
            hoard.clear();
        }
        cx.send(from, message);
    });
    let mut reactor = Reactor::new(tester).unwrap();
    let listening = reactor.listen("127.0.0.1:0", LengthPrefixed::default()).unwrap();
    println!("\nlistening {listening}");
    let handle = reactor.handle();
    thread::spawn(move || {
        drop(std::io::stdin().read_to_end(&mut Vec::new()));
        handle.shutdown();
        handle.shutdown();
    });
    reactor.run().unwrap();
    let stats = reactor.stats();
    println!("\nended {} {} {}", stats.accept_errors, stats.accepted, stats.closed);
}

struct Starved {
    address: SocketAddr,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Starved {
    fn start() -> Starved {
        let mut child = Command::new("sh")
            .args(["-c", &format!("ulimit -n {DESCRIPTORS}; exec \"$0\" --exact server --nocapture")])
            .arg(std::env::current_exe().unwrap())
            .env(IS_SERVER, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let address = line_with(&mut output, "listening ").parse().unwrap();
        Starved { address, child, input, output }
    }

    /// Time on a processor so far, in hundredths of a second.
    fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let (_, behind_name) = stat.rsplit_once(')').unwrap();
        let fields: Vec<_> = behind_name.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// Ends it, and answers how many errors accept has had, how many clients came, and how many of those have gone.
    fn stop(&mut self) -> Vec<u64> {
        drop(self.input.take());
        let ended = line_with(&mut self.output, "ended ");
        assert!(self.child.wait().unwrap().success());
        ended.split_whitespace().map(|number| number.parse().unwrap()).collect()
    }
}

impl Drop for Starved {
    fn drop(&mut self) {
        // It has ended already, unless the test has failed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn line_with(output: &mut BufReader<ChildStdout>, start: &str) -> String {
    let mut lines = output.lines().map(|line| line.unwrap());
    let line = lines.find_map(|line| line.strip_prefix(start).map(str::to_owned));
    line.unwrap_or_else(|| panic!("no line with {start:?}"))
}

/// Splits off the clients whose answer has come, and counts those that were turned away.
fn take_decided(waiting: &mut Vec<TcpStream>) -> (Vec<TcpStream>, usize) {
    let (mut answered, mut gone) = (Vec::new(), 0);
    for client in std::mem::take(waiting) {
        match client.peek(&mut [0]) {
            Ok(0) => gone += 1,
            Ok(_) => {
                client.set_nonblocking(false).unwrap();
                answered.push(client);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => waiting.push(client),
            Err(_) => gone += 1,
        }
    }
    (answered, gone)
}

#[test]
fn a_server_without_descriptors_rests_and_recovers() {
    // nodejs/node#45242, joyent/libuv#690 and many others: a whole core, for as long as it lasts.
    let mut server = Starved::start();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| connect(server.address)).collect();
    for (n, client) in clients.iter().enumerate() {
        // One that was turned away may be gone already.
        drop((&*client).write_all(&frame(&pattern(n, 10))));
        client.set_nonblocking(true).unwrap();
    }
    let (mut served, mut turned_away) = (Vec::new(), 0);
    wait_for("all to be served or turned away", || {
        let (inside, gone) = take_decided(&mut clients);
        served.extend(inside);
        turned_away += gone;
        clients.is_empty().then_some(())
    });
    assert!(served.len() > 10 && turned_away >= 10, "{} served, {turned_away} turned away", served.len());

    // A second of hunger, in which those inside are served as ever.
    let (begin, ticks) = (now(), server.ticks());
    while now() - begin < Duration::from_secs(1) {
        thread::park_timeout(Duration::from_millis(100));
        ask_again(&mut served, b"still here");
    }
    let ticks = server.ticks() - ticks;
    assert!(ticks < 20, "{ticks} hundredths of a second on a processor, in one");

    // Descriptors come free without an event and without a close: it looks again by itself.
    ask_again(&mut served, FREE);
    let fresh = connect(server.address);
    expect_echo(&fresh, b"as if nothing had been");
    let inside = served.len() as u64 + 1;
    drop((served, fresh));
    let [accept_errors, accepted, closed] = server.stop()[..] else { panic!("three numbers") };
    assert!(accept_errors > 0, "or this shows nothing");
    assert!(accept_errors < 200, "{accept_errors} tries");
    assert_eq!((accepted, closed), (inside, inside));
}

/// The oldest one inside asks once more, with its first answer perhaps still unread.
fn ask_again(served: &mut [TcpStream], message: &[u8]) {
    let client = &served[0];
    send_frame(client, message);
    while read_frame(client) != message {}
    served.rotate_left(1);
}
