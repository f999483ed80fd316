//! `client`, against `echo` and against sockets that behave worse.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use super::support::{Ended, PATIENCE, Program, expect_count, frame, framed, join, noise};

/// Runs a client with this input, up to its end.
#[track_caller]
fn run(arguments: &str, input: &[u8]) -> Ended {
    let mut client = Program::start("client", arguments);
    let mut stdin = client.stdin();
    let input = input.to_vec();
    let writing = thread::spawn(move || {
        // A client that fails reads no further.
        let _ = stdin.write_all(&input);
    });
    let ended = client.ended();
    join(writing);
    ended
}

fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound").to_string();
    (listener, address)
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (peer, _) = listener.accept().expect("the client connects");
    peer.set_read_timeout(Some(PATIENCE)).expect("not zero");
    peer
}

#[test]
fn lines_come_back_as_lines_in_every_framing() {
    for framing in ["u32be", "u32le", "u16be", "u8", "varint", "lines", "raw"] {
        let server = Program::serve("echo", &format!("--framing {framing}"));
        let arguments = format!("{} --framing {framing} --wait 150ms", server.address());
        let input = b"one\n\ntwo words\n  three\r\n\xff\xfe\n";
        let ended = run(&arguments, input);
        ended.expect_success();
        let output = [&ended.lines.join(&b'\n')[..], b"\n"].concat();
        assert_eq!(output, input, "{framing}");
        let stats = server.stop();
        if framing != "raw" {
            expect_count(&stats, "frames_in", 5);
        }
    }
}

#[test]
fn a_last_line_needs_no_end() {
    let server = Program::serve("echo", "");
    let ended = run(&format!("{} --wait 150ms", server.address()), b"first\nlast");
    ended.expect_success();
    assert_eq!(ended.lines, [b"first".to_vec(), b"last".to_vec()]);
    expect_count(&server.stop(), "bytes_in", 4 + 5 + 4 + 4);
}

#[test]
fn a_long_input_arrives_whole_although_it_ends_right_after() {
    let server = Program::serve("echo", "");
    let lines: Vec<Vec<u8>> = (0..8 * 1024).map(|n| hex(&noise(n, 512))).collect();
    let input: Vec<u8> = lines.iter().flat_map(|line| [line, &b"\n"[..]].concat()).collect();
    assert!(input.len() > 8 * 1024 * 1024);
    let ended = run(&format!("{} --wait 500ms", server.address()), &input);
    ended.expect_success();
    assert!(ended.lines == lines, "{} lines", ended.lines.len());
    expect_count(&server.stop(), "frames_in", lines.len() as u64);
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

#[test]
fn a_name_with_several_addresses_is_tried_in_turn() {
    let server = Program::serve("echo", "");
    let ended = run(&format!("localhost:{} --wait 150ms", server.address().port()), b"hi\n");
    ended.expect_success();
    assert_eq!(ended.lines, [b"hi".to_vec()]);
}

#[test]
fn a_name_that_nobody_answers_at_says_each_address_and_why() {
    use std::net::ToSocketAddrs;
    // Held and not listened on, so that nobody else has it meanwhile.
    let held = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().expect("an address");
    held.bind(&any.into()).expect("a port is free");
    let port = held.local_addr().expect("it is bound").as_socket().expect("it is IP").port();
    let name = format!("localhost:{port}");
    let ended = run(&name, b"");
    let mut addresses: Vec<_> =
        name.to_socket_addrs().expect("it is known").map(|address| address.to_string()).collect();
    addresses.push(name);
    let words: Vec<&str> = addresses.iter().map(String::as_str).collect();
    ended.expect_failure(&words);
}

#[test]
fn a_name_that_nobody_has_is_one_line() {
    run("nobody.invalid:80 --timeout 30s", b"").expect_failure(&["nobody.invalid:80"]);
}

#[test]
fn frames_are_printed_as_they_come_while_the_input_is_open() {
    let server = Program::serve("echo", "");
    let mut client = Program::start("client", &format!("{} --wait 100ms", server.address()));
    let mut stdin = client.stdin();
    for word in ["one", "two", "three"] {
        writeln!(stdin, "{word}").expect("it reads");
        assert_eq!(client.line(), word);
    }
    drop(stdin);
    client.ended().expect_success();
}

#[test]
fn each_arrival_starts_the_wait_anew() {
    let (listener, address) = listener();
    let client = Program::start("client", &format!("{address} --wait 900ms"));
    let serving = thread::spawn(move || {
        let mut peer = accept(&listener);
        for number in 0..5_u8 {
            // Well below the wait each, and above it together.
            peer.set_read_timeout(Some(Duration::from_millis(300))).expect("not zero");
            assert!(peer.read(&mut [0]).is_err(), "the client says nothing");
            peer.write_all(&frame(&[b'0' + number])).expect("it is still there");
        }
        peer.set_read_timeout(Some(PATIENCE)).expect("not zero");
        assert_eq!(peer.read(&mut [0]).expect("an end"), 0);
    });
    let ended = client.ended();
    ended.expect_success();
    assert_eq!(ended.lines.concat(), b"01234");
    join(serving);
}

#[test]
fn the_peers_end_is_an_end_even_while_the_input_is_open() {
    let (listener, address) = listener();
    let mut client = Program::start("client", &address);
    let open = client.stdin();
    let mut peer = accept(&listener);
    peer.write_all(&frame(b"bye")).expect("it is open");
    drop(peer);
    assert_eq!(client.line(), "bye");
    client.ended().expect_success();
    drop(open);
}

#[test]
fn a_reset_is_one_line() {
    let (listener, address) = listener();
    let mut client = Program::start("client", &address);
    let mut open = client.stdin();
    writeln!(open, "never read").expect("it reads");
    let peer = accept(&listener);
    peer.peek(&mut [0]).expect("something comes");
    // With something unread, a close is a reset.
    drop(peer);
    client.ended().expect_failure(&[&address, "reset"]);
}

#[test]
fn a_refused_connection_is_one_line() {
    let (listener, address) = listener();
    drop(listener);
    run(&address, b"").expect_failure(&[&address, "refused"]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_connection_without_an_answer_is_one_line() {
    use socket2::{Domain, Socket, Type};
    // A queue of one that is full: the kernel drops who knocks.
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().expect("an address");
    full.bind(&any.into()).expect("a port is free");
    full.listen(0).expect("it listens");
    let address = full.local_addr().expect("it is bound").as_socket().expect("it is IP");
    let waiting = [TcpStream::connect(address).expect("the queue has room for one")];
    let ended = run(&format!("{address} --timeout 300ms"), b"hello\n");
    ended.expect_failure(&[&address.to_string(), "no answer in time"]);
    drop(waiting);
}

#[test]
fn a_line_that_the_framing_cannot_say_is_one_line() {
    let server = Program::serve("echo", "--framing u8");
    let input = [&b"short\n"[..], &[b'x'; 256], b"\nafter\n"].concat();
    let ended = run(&format!("{} --framing u8", server.address()), &input);
    ended.expect_failure(&["line 2", "256", "255"]);
    expect_count(&server.stop(), "frames_in", 1);
}

#[test]
fn an_endless_line_is_refused_before_it_ends() {
    let server = Program::serve("echo", "");
    let mut client = Program::start("client", &format!("{} --max-frame 1MiB", server.address()));
    let mut stdin = client.stdin();
    let writing = thread::spawn(move || while stdin.write_all(&[b'x'; 64 * 1024]).is_ok() {});
    client.ended().expect_failure(&["line 1"]);
    join(writing);
}

#[test]
fn a_frame_that_is_too_long_for_the_client_is_an_error() {
    let (listener, address) = listener();
    let mut client = Program::start("client", &format!("{address} --max-frame 10"));
    let open = client.stdin();
    let mut peer = accept(&listener);
    peer.write_all(&framed("u32be", &[b'x'; 11])).expect("it is open");
    let ended = client.ended();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.errors.contains("a frame of 11 bytes where 10 is the most"), "{ended:?}");
    drop((open, peer));
}

#[test]
fn a_closed_standard_output_ends_it_quietly() {
    let server = Program::serve("echo", "");
    let mut client = Program::start("client", &server.address().to_string());
    let mut stdin = client.stdin();
    client.close_stdout();
    let writing = thread::spawn(move || while writeln!(stdin, "{}", "x".repeat(1000)).is_ok() {});
    client.ended().expect_success();
    join(writing);
}

#[test]
fn a_peer_that_reads_late_gets_all() {
    const LINES: u32 = 150_000;
    let (listener, address) = listener();
    let mut client = Program::start("client", &format!("{address} --wait 0 --framing lines"));
    let mut stdin = client.stdin();
    let writing = thread::spawn(move || {
        for number in 0..LINES {
            writeln!(stdin, "{number:>99}").expect("it reads all");
        }
    });
    let mut peer = accept(&listener);
    // Not before the client has to wait.
    peer.set_read_timeout(Some(Duration::from_millis(300))).expect("not zero");
    peer.peek(&mut [0]).expect("it comes");
    let mut bytes = vec![0; 1024 * 1024];
    while peer.peek(&mut bytes).is_ok_and(|n| n < 100_000) {}
    peer.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let mut arrived = String::new();
    peer.read_to_string(&mut arrived).expect("an end, no reset");
    assert!(arrived.lines().map(|line| line.trim_start().parse()).eq((0..LINES).map(Ok)));
    drop(peer);
    client.ended().expect_success();
    join(writing);
}

#[test]
fn lines_behind_a_long_one_wait_like_it() {
    // The long line alone is more than others may send to a connection that does not take it.
    let mut input = noise(9, 28 * 1024 * 1024);
    input.retain(|byte| *byte != b'\n');
    for number in 0..2_000 {
        input.extend(format!("\n{number:>9}").bytes());
    }
    let (listener, address) = listener();
    let mut client = Program::start("client", &format!("{address} --wait 0 --framing lines"));
    let mut stdin = client.stdin();
    let all = input.clone();
    let writing = thread::spawn(move || stdin.write_all(&all).expect("it reads all"));
    let mut peer = accept(&listener);
    join(writing);
    peer.peek(&mut [0]).expect("it comes");
    input.push(b'\n');
    let mut arrived = Vec::new();
    peer.read_to_end(&mut arrived).expect("an end, no reset");
    assert!(arrived == input, "{} bytes of {}", arrived.len(), input.len());
    drop(peer);
    // A slow machine may say that so long a line held the loop.
    assert_eq!(client.ended().status.code(), Some(0));
}

#[test]
fn what_cannot_be_meant_is_a_usage_error() {
    for arguments in
        ["", "nowhere", "127.0.0.1:1 --timeout 0s", "127.0.0.1:1 --wait 1", "127.0.0.1:1 --framing x"]
    {
        let ended = run(arguments, b"");
        assert_eq!(ended.status.code(), Some(2), "{arguments}: {ended:?}");
    }
}
