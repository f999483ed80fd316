//! `kv`: a key-value server that clients of redis talk to; beside the real one, where that is installed.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::foreign::{Foreign, installed};
use super::support::{Bound, PATIENCE, Peer, Program, expect_count, join, noise};

fn array(words: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut wire = format!("*{}\r\n", words.len()).into_bytes();
    words.iter().for_each(|word| wire.extend(bulk(word.as_ref())));
    wire
}

fn bulk(word: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", word.len()).as_bytes(), word, b"\r\n"].concat()
}

#[track_caller]
fn ask(peer: &mut Peer, words: &[&str], answer: &str) {
    peer.send(&array(words));
    peer.expect(answer.as_bytes());
}

#[test]
fn every_command_answers_as_the_page_of_redis_says() {
    let server = Program::serve("kv", "");
    let mut peer = server.connect();
    let arity = |name: &str| format!("-ERR wrong number of arguments for '{name}' command\r\n");
    ask(&mut peer, &["PING"], "+PONG\r\n");
    ask(&mut peer, &["ping", "hi"], "$2\r\nhi\r\n");
    ask(&mut peer, &["PING", "a", "b"], &arity("ping"));
    ask(&mut peer, &["ECHO", ""], "$0\r\n\r\n");
    ask(&mut peer, &["Echo"], &arity("echo"));
    ask(&mut peer, &["GET", "k"], "$-1\r\n");
    ask(&mut peer, &["SET", "k", "v"], "+OK\r\n");
    ask(&mut peer, &["GET", "k"], "$1\r\nv\r\n");
    ask(&mut peer, &["SET", "k", "w", "NX"], "$-1\r\n");
    ask(&mut peer, &["SET", "k", "w", "xx", "get"], "$1\r\nv\r\n");
    ask(&mut peer, &["SET", "k", "w", "EX", "5"], "-ERR syntax error\r\n");
    ask(&mut peer, &["SET", "k"], &arity("set"));
    ask(&mut peer, &["APPEND", "k", "xyz"], ":4\r\n");
    ask(&mut peer, &["INCR", "k"], "-ERR value is not an integer or out of range\r\n");
    ask(&mut peer, &["INCR", "n"], ":1\r\n");
    ask(&mut peer, &["SET", "n", "9223372036854775807"], "+OK\r\n");
    ask(&mut peer, &["INCR", "n"], "-ERR increment or decrement would overflow\r\n");
    ask(&mut peer, &["MSET", "a", "1", "b", "2"], "+OK\r\n");
    ask(&mut peer, &["MSET", "a", "1", "b"], &arity("mset"));
    ask(&mut peer, &["MGET", "a", "none", "b"], "*3\r\n$1\r\n1\r\n$-1\r\n$1\r\n2\r\n");
    ask(&mut peer, &["EXISTS", "a", "a", "none"], ":2\r\n");
    ask(&mut peer, &["DEL", "a", "a", "b"], ":2\r\n");
    ask(&mut peer, &["CONFIG", "GET", "save"], "*2\r\n$4\r\nsave\r\n$0\r\n\r\n");
    ask(&mut peer, &["CONFIG", "GET"], &arity("config|get"));
    ask(&mut peer, &["COMMAND", "DOCS"], "*0\r\n");
    ask(&mut peer, &["COMMAND", "COUNT"], ":14\r\n");
    let unknown = "-ERR unknown command 'frob', with args beginning with: 'a b' 'c' \r\n";
    ask(&mut peer, &["frob", "a\nb", "c"], unknown);
    ask(&mut peer, &["FLUSHALL"], "+OK\r\n");
    ask(&mut peer, &["EXISTS", "k", "n"], ":0\r\n");
    peer.send(b"set line 'in a line'\r\nget line\n\r\n");
    peer.expect(b"+OK\r\n$9\r\nin a line\r\n");
    ask(&mut peer, &["QUIT"], "+OK\r\n");
    peer.expect_end();
    expect_count(&server.stop(), "closes.local", 1);
}

#[test]
fn requests_come_in_any_pieces_and_in_any_number() {
    let server = Program::serve("kv", "");
    let mut peer = server.connect();
    let one = [array(&["SET", "key", "a\r\nb"]), b"get key\r\n".to_vec(), array(&["INCR", "n"])].concat();
    let mut expected = Vec::new();
    for number in 1..=3_000 {
        expected.extend(format!("+OK\r\n$4\r\na\r\nb\r\n:{number}\r\n").into_bytes());
    }
    let (slowly, at_once) = expected.split_at(3 * "+OK\r\n$4\r\na\r\nb\r\n:1\r\n".len());
    for byte in one.repeat(3).chunks(1) {
        peer.send(byte);
    }
    peer.expect(slowly);
    peer.send(&one.repeat(2_997));
    peer.end_output();
    peer.expect(at_once);
    peer.expect_end();
    let stats = server.stop();
    expect_count(&stats, "frames_in", 9_000);
    expect_count(&stats, "frames_out", 9_000);
    expect_count(&stats, "closes.peer", 1);
}

#[test]
fn values_of_all_sizes_come_back() {
    let server = Program::serve("kv", "");
    let mut peer = server.connect();
    // 9 KiB: tokio-rs/tokio-io#42. 32 KiB: from there on a value is written from where it is kept.
    for (seed, len) in [0, 1, 9 << 10, (32 << 10) - 1, 32 << 10, 70_000, 10 << 20].into_iter().enumerate() {
        let value = noise(seed as u64, len);
        peer.send(&array(&[&b"SET"[..], b"k", &value]));
        peer.expect(b"+OK\r\n");
        // Changed behind the reply that lends it.
        let next = [array(&["GET", "k"]), array(&["APPEND", "k", "!"]), array(&["GET", "k"])].concat();
        peer.send(&next);
        peer.expect(&bulk(&value));
        peer.expect(format!(":{}\r\n", len + 1).as_bytes());
        peer.expect(&bulk(&[&*value, b"!"].concat()));
    }
    drop(peer);
    expect_count(&server.stop(), "closes.peer", 1);
}

#[test]
fn a_protocol_error_is_said_behind_the_replies_before_it_and_ends_only_its_connection() {
    let server = Program::serve("kv", "");
    let mut good = server.connect();
    let streams = [
        (&b"*1\r\n".repeat(256)[..], "expected '$', got '*'"),
        (b"*1\r\nPING\r\n", "expected '$', got 'P'"),
        (b"*x\r\n", "invalid multibulk length"),
        (b"*1\r\n$-4\r\n", "invalid bulk length"),
        (b"echo \"open\r\n", "unbalanced quotes in request"),
    ];
    for (stream, text) in streams {
        let mut peer = server.connect();
        peer.send(&[b"PING\r\n", stream, b"PING\r\n"].concat());
        peer.expect(format!("+PONG\r\n-ERR Protocol error: {text}\r\n").as_bytes());
        peer.expect_end();
    }
    ask(&mut good, &["PING"], "+PONG\r\n");
    drop(good);
    let stats = server.stop();
    expect_count(&stats, "closes.bad_frame", 5);
    expect_count(&stats, "frames_in", 6);
}

#[test]
fn what_is_too_long_is_refused_by_its_header() {
    let server = Program::serve("kv", "--max-frame 1000");
    let fits = array(&["SET".to_owned(), "k".to_owned(), "x".repeat(1000 - 28)]);
    assert_eq!(fits.len(), 1000);
    let mut peer = server.connect();
    peer.send(&fits);
    peer.expect(b"+OK\r\n");
    for (stream, text) in [
        (&b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$973\r\n"[..], "invalid bulk length"),
        (b"*167\r\n", "invalid multibulk length"),
        (&[b'x'; 1001], "too big inline request"),
    ] {
        let mut peer = server.connect();
        peer.send(stream);
        peer.expect(format!("-ERR Protocol error: {text}\r\n").as_bytes());
        peer.expect_end();
    }
    drop(peer);
    expect_count(&server.stop(), "closes.frame_too_long", 3);
}

#[test]
fn memory_follows_what_came_and_not_what_is_claimed() {
    let mut server = Program::serve("kv", "--stats-every 20ms");
    let before = server.resident();
    let mut peers: Vec<Peer> = (0..100).map(|_| server.connect()).collect();
    for (number, peer) in peers.iter_mut().enumerate() {
        peer.send(if number % 2 == 0 {
            b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000000\r\n"
        } else {
            b"*10000000\r\n"
        });
        peer.send(b"$");
    }
    let stats = server.stats_until("all has come", |stats| stats["bytes_in"] == 50 * 32 + 50 * 11 + 100);
    assert!(stats["buffered_bytes"].as_u64() < Some(1 << 20), "{stats}");
    if let (Some(before), Some(after)) = (before, server.resident()) {
        assert!(after < before + (20 << 10), "{before} KiB, then {after}");
    }
    drop(peers);
    expect_count(&server.stop(), "closes.peer", 100);
}

#[test]
fn a_client_that_asks_and_does_not_read_is_not_read_either() {
    let mut server = Program::serve("kv", "--stats-every 20ms");
    let mut flood = server.connect();
    flood.send(&array(&[&b"SET"[..], b"k", &noise(1, 50_000)]));
    flood.expect(b"+OK\r\n");
    flood.send_until_full(&array(&["GET", "k"]).repeat(2_000_000));
    let mut other = server.connect();
    ask(&mut other, &["EXISTS", "k"], ":1\r\n");
    let stats = server.stats_until("a look", |_| true);
    assert!(stats["buffered_bytes"].as_u64() < Some(16 << 20), "{stats}");
    drop((flood, other));
    expect_count(&server.stop(), "closes.slow_consumer", 0);
}

#[test]
fn requests_that_were_whole_at_the_signal_are_answered() {
    let server = Program::serve("kv", "");
    let mut peer = server.connect();
    ask(&mut peer, &["PING"], "+PONG\r\n");
    peer.send(&array(&["INCR", "n"]).repeat(100));
    server.signal("TERM");
    for number in 1..=100 {
        peer.expect(format!(":{number}\r\n").as_bytes());
    }
    peer.expect_end();
    drop(peer);
    expect_count(&server.ended_with_stats(), "frames_out", 101);
}

#[test]
fn many_loops_have_one_store() {
    const KEYS: usize = 60;
    let server = Program::serve("kv", "--reactors 3");
    let address = server.address();
    let keys: Vec<String> = (0..KEYS).map(|key| format!("key {key}")).collect();
    let mget = array(&[&["MGET".to_owned()][..], &keys].concat());
    let clients: Vec<_> = (0..9)
        .map(|client| {
            let (keys, mget) = (keys.clone(), mget.clone());
            thread::spawn(move || {
                let mut peer = Peer::connect(address);
                for round in 0..25 {
                    // Keys in all parts of the store, and nobody ever sees half of what another one sets.
                    let value = format!("{client} {round}");
                    let mut mset = vec!["MSET"];
                    keys.iter().for_each(|key| mset.extend([&**key, &*value]));
                    peer.send(&[&array(&["INCR", "n"]), &array(&mset)[..], &mget].concat());
                    assert!(line(&mut peer).starts_with(':'));
                    assert_eq!((line(&mut peer), line(&mut peer)), ("+OK".to_owned(), format!("*{KEYS}")));
                    line(&mut peer);
                    let seen = line(&mut peer);
                    peer.expect(&bulk(seen.as_bytes()).repeat(KEYS - 1));
                }
            })
        })
        .collect();
    clients.into_iter().for_each(join);
    let mut peer = server.connect();
    ask(&mut peer, &["GET", "n"], "$3\r\n225\r\n");
    ask(&mut peer, &["FLUSHALL"], "+OK\r\n");
    for _ in 0..6 {
        ask(&mut server.connect(), &["EXISTS", "key 0", "key 1", "n"], ":0\r\n");
    }
    drop(peer);
    expect_count(&server.stop(), "frames_in", 9 * 25 * 3 + 8);
}

fn line(peer: &mut Peer) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        peer.0.read_exact(&mut byte).expect("a whole line comes");
        line.push(byte[0]);
    }
    line.truncate(line.len() - 2);
    String::from_utf8(line).expect("it is text")
}

#[test]
fn a_web_page_cannot_speak_to_it() {
    let server = Program::serve("kv", "");
    for first in ["POST / HTTP/1.1", "Host: localhost"] {
        let mut peer = server.connect();
        peer.send(format!("{first}\r\n\r\nset k v\r\n").as_bytes());
        assert!(line(&mut peer).starts_with("-ERR unknown command"));
        peer.expect_end();
    }
    ask(&mut server.connect(), &["EXISTS", "k"], ":0\r\n");
}

#[test]
fn it_has_one_framing() {
    let ended = Program::start("kv", "--framing u32be").ended();
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    assert!(ended.errors.contains("RESP"), "{ended:?}");
}

// ---- beside the real one ---------------------------------------------------------------------------------------------

/// A redis-server of ours. It is killed when this is dropped.
struct Redis {
    child: Foreign,
    address: SocketAddr,
}

impl Redis {
    /// Starts one that keeps nothing, on a free port of the loopback. `None` where it is not installed.
    fn start() -> Option<Redis> {
        if !installed("redis-server", &["--version"]) {
            return None;
        }
        // Somebody else may take the port before it does.
        (0..5).find_map(|_| Redis::try_start())
    }

    fn try_start() -> Option<Redis> {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("it has an address");
        drop(free);
        let port = address.port().to_string();
        let child = Command::new("redis-server")
            .args(["--save", "", "--appendonly", "no", "--port", &port, "--bind", "127.0.0.1"])
            .current_dir(std::env::temp_dir())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("it is installed");
        let mut redis = Redis { child: Foreign(child), address };
        let bound = Bound::new(PATIENCE);
        while !bound.is_over() && redis.child.try_wait().expect("it is our child").is_none() {
            if TcpStream::connect(address).is_ok() {
                return Some(redis);
            }
            thread::park_timeout(Duration::from_millis(10));
        }
        None
    }
}

/// All that a server answers to these bytes, up to its end of the connection.
fn answers(address: SocketAddr, wire: &[u8]) -> Vec<u8> {
    let mut peer = Peer::connect(address);
    let mut writer = peer.duplicate();
    let wire = wire.to_vec();
    // A server that closes in the middle may reset what comes behind.
    let writing = thread::spawn(move || drop(writer.0.write_all(&wire)));
    let mut answers = Vec::new();
    peer.0.read_to_end(&mut answers).expect("an end, no reset");
    join(writing);
    answers
}

/// Numbers below a bound, one after the other.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn one_of<'a>(&mut self, all: &[&'a [u8]]) -> &'a [u8] {
        all[self.below(all.len())]
    }
}

const LONG: &[u8] = &[b'L'; 300];

/// A request of the commands that both have, right or wrong.
fn request(dice: &mut Dice) -> Vec<u8> {
    let keys: [&[u8]; 6] = [b"a", b"b", b"c", b"", b"n\x00t\r\n", LONG];
    let values: [&[u8]; 12] = [
        b"",
        b"v",
        b"41",
        b"-7",
        b"9223372036854775806",
        b"9223372036854775808",
        b"-0",
        b"007",
        b" 1",
        b"\r\n",
        LONG,
        b"\xff\x00",
    ];
    let names: [&[u8]; 15] = [
        b"PING",
        b"echo",
        b"SET",
        b"set",
        b"GeT",
        b"get",
        b"del",
        b"EXISTS",
        b"INCR",
        b"incr",
        b"append",
        b"MGET",
        b"mset",
        b"frob",
        b"flushall",
    ];
    let name = dice.one_of(&names);
    let mut words = vec![name];
    match name {
        b"SET" | b"set" => {
            words.extend([dice.one_of(&keys), dice.one_of(&values)]);
            for _ in 0..dice.below(4).saturating_sub(1) {
                words.push(dice.one_of(&[b"nx", b"XX", b"Get", b"keepttl", b"frob"]));
            }
        }
        b"append" => words.extend([dice.one_of(&keys), dice.one_of(&values)]),
        b"mset" => {
            (0..1 + dice.below(3)).for_each(|_| words.extend([dice.one_of(&keys), dice.one_of(&values)]));
        }
        b"flushall" if dice.below(4) > 0 => words.push(b"frob"),
        b"flushall" => {}
        b"PING" | b"frob" => (0..dice.below(4)).for_each(|_| words.push(dice.one_of(&values))),
        b"GeT" | b"get" | b"INCR" | b"incr" | b"echo" => words.push(dice.one_of(&keys)),
        _ => (0..1 + dice.below(3)).for_each(|_| words.push(dice.one_of(&keys))),
    }
    // Now and then one too many, or too few.
    match dice.below(20) {
        0 => words.push(b"more"),
        1 if words.len() > 1 => drop(words.pop()),
        _ => {}
    }
    let plain = |word: &&[u8]| !word.is_empty() && word.iter().all(u8::is_ascii_alphanumeric);
    match dice.below(10) {
        0 if words.iter().all(plain) => [&words.join(&b' ')[..], b"\r\n"].concat(),
        1 => {
            let quoted = |word: &&[u8]| -> Vec<u8> {
                let hex: String = word.iter().map(|byte| format!("\\x{byte:02X}")).collect();
                format!("\"{hex}\"").into_bytes()
            };
            [words.iter().map(quoted).collect::<Vec<_>>().join(&b' '), b"\n".to_vec()].concat()
        }
        _ => array(&words),
    }
}

#[test]
fn it_answers_as_redis_does_reply_by_reply() {
    let Some(redis) = Redis::start() else { return };
    let server = Program::serve("kv", "");
    let sharing = Program::serve("kv", "--reactors 2");
    for seed in 1..=60 {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15u64.wrapping_mul(seed));
        let requests: Vec<Vec<u8>> = (0..100).map(|_| request(&mut dice)).collect();
        let wire = [&requests.concat()[..], b"quit\r\n"].concat();
        let expected = answers(redis.address, &wire);
        for address in [server.address(), sharing.address()] {
            let got = answers(address, &wire);
            if got != expected {
                let at = got.iter().zip(&expected).take_while(|(a, b)| a == b).count();
                let near = |bytes: &[u8]| {
                    bytes[at.saturating_sub(80)..bytes.len().min(at + 80)].escape_ascii().to_string()
                };
                panic!("seed {seed}, byte {at}:\n{}\nis, and should be\n{}", near(&got), near(&expected));
            }
        }
    }
    expect_count(&server.stop(), "frames_in", 60 * 101);
}

#[test]
fn it_complains_as_redis_does() {
    let Some(redis) = Redis::start() else { return };
    let server = Program::serve("kv", "");
    let nested = b"*1\r\n".repeat(256);
    let streams: [&[u8]; 16] = [
        &nested,
        b"*x\r\n",
        b"*\r\n",
        b"*01\r\n",
        b"*+1\r\n",
        b"*2147483648\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$x\r\n",
        b"*1\r\n$04\r\nPING\r\n",
        b"*1\r\n$536870913\r\n",
        b"*1\r\n:5\r\n",
        b"*1\r\n\r\n",
        b"echo \"a\r\n",
        b"echo 'a'b\n",
        b"*0\r\n*-1\r\n*-9\r\n\r\n  \r\nquit\r\n",
        b"quit now\r\nping\r\n",
    ];
    for stream in streams {
        let wire = [b"PING\r\n", stream].concat();
        let (got, expected) = (answers(server.address(), &wire), answers(redis.address, &wire));
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        assert_eq!(text(&got), text(&expected), "{}", text(&stream[..stream.len().min(100)]));
    }
}

/// What a program of redis's prints when it is told to talk to `server`.
fn run(program: &str, server: &Program, arguments: &str, input: &[u8]) -> Option<String> {
    if !installed(program, &["--version"]) {
        return None;
    }
    let mut child = Command::new(program)
        .args(["-h", "127.0.0.1", "-p", &server.address().port().to_string()])
        .args(arguments.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it is installed");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (printed, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{program}: {printed}{errors}");
    assert!(!errors.contains("rror") && !errors.contains("ERR"), "{program}: {errors}");
    Some(printed)
}

#[test]
fn redis_cli_talks_to_it() {
    let server = Program::serve("kv", "");
    let input = b"set greeting \"hello there\"\nget greeting\nincr n\nmget greeting none n\ndel greeting\nfrob\nquit\n";
    if let Some(printed) = run("redis-cli", &server, "--no-raw", input) {
        let expected = "OK\n\"hello there\"\n(integer) 1\n1) \"hello there\"\n2) (nil)\n3) \"1\"\n(integer) 1\n\
                        (error) ERR unknown command 'frob', with args beginning with: \n";
        assert!(printed.starts_with(expected), "{printed}");
    }
}

#[test]
fn redis_benchmark_runs_to_the_end() {
    for (server, n) in [("", 3_000u32), ("--reactors 2", 2_000)] {
        let server = Program::serve("kv", server);
        for pipeline in [1, 32] {
            let arguments =
                format!("-t ping_inline,ping_mbulk,set,get,incr,mset -c 50 -n {n} -P {pipeline} --csv");
            let Some(printed) = run("redis-benchmark", &server, &arguments, b"") else { return };
            let rows: Vec<&str> = printed.lines().filter(|line| !line.starts_with("\"test\"")).collect();
            assert_eq!(rows.len(), 6, "{printed}");
            assert!(!printed.contains("ERR"), "{printed}");
        }
        let stats = server.stop();
        assert!(stats["frames_in"].as_u64() >= Some(u64::from(n) * 12), "{stats}");
        assert_eq!(stats["closes"]["bad_frame"], 0, "{stats}");
    }
}
