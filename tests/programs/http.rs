//! What `http` answers: over plain sockets, and to the programs that people use.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::foreign::{Foreign, installed};
use super::support::{Bound, PATIENCE, Peer, Program, expect_count};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const HELLO: &str = "Hello from mainspring.\n";

#[derive(Debug, Clone, PartialEq)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    #[track_caller]
    fn expect(&self, status: u16, body: &str) {
        assert_eq!((self.status, &*String::from_utf8_lossy(&self.body)), (status, body), "{}", self.head);
    }
}

impl Peer {
    #[track_caller]
    fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0
                .read_exact(&mut byte)
                .unwrap_or_else(|error| panic!("{error} after {}", head.escape_ascii()));
            head.push(byte[0]);
        }
        String::from_utf8(head).expect("a head is text")
    }

    #[track_caller]
    fn answer_to_head(&mut self) -> Answer {
        let head = self.head();
        let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest[..3].parse().ok());
        Answer { status: status.expect("a status"), head, body: Vec::new() }
    }

    #[track_caller]
    fn answer(&mut self) -> Answer {
        let mut answer = self.answer_to_head();
        let len = answer.header("Content-Length").and_then(|len| len.parse().ok()).expect("a length");
        answer.body = vec![0; len];
        self.0.read_exact(&mut answer.body).expect("the body arrives");
        answer
    }

    #[track_caller]
    fn ask(&mut self, request: &[u8]) -> Answer {
        self.send(request);
        self.answer()
    }
}

fn posted(headers: &str, body: &[u8]) -> Vec<u8> {
    [format!("POST /echo HTTP/1.1\r\nHost: a\r\n{headers}\r\n").as_bytes(), body].concat()
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let server = Program::serve("http", "");
    let mut peer = server.connect();
    let head = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
    let missing = b"GET /missing?x HTTP/1.1\r\nHost: a\r\n\r\n";
    peer.send(&[GET, head, &posted("Content-Length: 2\r\n", b"hi"), missing].concat());
    let first = peer.answer();
    first.expect(200, HELLO);
    assert_eq!(first.header("Content-Type"), Some("text/plain; charset=utf-8"));
    assert!(first.header("Date").is_some_and(|date| date.len() == 29 && date.ends_with(" GMT")), "{first:?}");
    assert_eq!(first.header("Connection"), None);
    let to_head = peer.answer_to_head();
    assert_eq!(to_head.header("Content-Length"), Some("23"), "what a GET would have got, and no body");
    peer.answer().expect(200, "hi");
    peer.answer().expect(404, "There is no such page.\n");
    // A thousand, and the last ones with an end of the input behind them.
    peer.send(&GET.repeat(1000));
    peer.end_output();
    for _ in 0..1000 {
        peer.answer().expect(200, HELLO);
    }
    peer.expect_end();
    let stats = server.stop();
    expect_count(&stats, "frames_in", 1004);
    expect_count(&stats, "frames_out", 1004);
    expect_count(&stats, "closes.peer", 1);
}

#[test]
fn a_method_that_is_wrong_for_a_page_is_told_which_are_right() {
    let server = Program::serve("http", "");
    let mut peer = server.connect();
    let wrong = peer.ask(b"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((wrong.status, wrong.header("Allow")), (405, Some("GET, HEAD")));
    let wrong = peer.ask(b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((wrong.status, wrong.header("Allow")), (405, Some("POST")));
    peer.ask(GET).expect(200, HELLO);
}

#[test]
fn a_connection_ends_when_its_client_wants_that() {
    let server = Program::serve("http", "");
    for request in ["GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"] {
        let mut peer = server.connect();
        // What comes behind it is not answered.
        let answer = peer.ask(&[request.as_bytes(), GET].concat());
        answer.expect(200, HELLO);
        assert_eq!(answer.header("Connection"), Some("close"));
        peer.expect_end();
    }
    let mut old = server.connect();
    for _ in 0..2 {
        let answer = old.ask(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!((answer.status, answer.header("Connection")), (200, Some("keep-alive")));
    }
    expect_count(&server.stop(), "closes.local", 2);
}

#[test]
fn a_bad_request_is_told_so_after_the_answers_before_it_and_ends_its_connection_alone() {
    let server = Program::serve("http", "");
    let mut other = server.connect();
    other.ask(GET).expect(200, HELLO);
    let smuggling = posted("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\nGET /x");
    let cases: [(&[u8], u16); 6] = [
        (&smuggling, 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (&posted("Transfer-Encoding: gzip\r\n", b""), 501),
    ];
    for (bad, status) in cases {
        let mut peer = server.connect();
        peer.send(&[GET, GET, bad, GET].concat());
        peer.answer().expect(200, HELLO);
        peer.answer().expect(200, HELLO);
        let told = peer.answer();
        assert_eq!((told.status, told.header("Connection")), (status, Some("close")));
        peer.expect_end();
    }
    // One bad byte and then the end.
    let mut peer = server.connect();
    peer.send(b"\0");
    peer.end_output();
    assert_eq!(peer.answer().status, 400);
    peer.expect_end();
    other.ask(GET).expect(200, HELLO);
    expect_count(&server.stop(), "closes.bad_frame", 7);
}

#[test]
fn what_is_too_long_is_told_so() {
    let server = Program::serve("http", "--max-frame 100");
    let exact = [b'x'; 100];
    let mut good = server.connect();
    assert_eq!(good.ask(&posted("Content-Length: 100\r\n", &exact)).body, exact);
    let cases = [
        (posted("Content-Length: 101\r\n", &[b'x'; 101]), 413),
        (posted("Transfer-Encoding: chunked\r\n", b"65\r\n"), 413),
        (posted(&format!("X: {}\r\n", "x".repeat(17_000)), b""), 431),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(17_000)).into_bytes(), 414),
    ];
    for (long, status) in cases {
        let mut peer = server.connect();
        let told = peer.ask(&[GET, &long].concat());
        told.expect(200, HELLO);
        assert_eq!(peer.answer().status, status);
        peer.expect_end();
    }
    let mut many = server.connect();
    assert_eq!(many.ask(&posted(&"a: b\r\n".repeat(100), b"")).status, 431);
    many.expect_end();
    assert_eq!(good.ask(&posted("Content-Length: 100\r\n", &exact)).body, exact);
    let stats = server.stop();
    expect_count(&stats, "closes.frame_too_long", 4);
    expect_count(&stats, "closes.bad_frame", 1);
}

#[test]
fn bodies_come_back_however_they_were_sent() {
    let server = Program::serve("http", "");
    let mut peer = server.connect();
    let whole: Vec<u8> = (0..1 << 20).map(|n: u32| (n % 251) as u8).collect();
    let answer = peer.ask(&posted(&format!("Content-Length: {}\r\n", whole.len()), &whole));
    assert!(answer.body == whole, "{} bytes came back", answer.body.len());
    assert_eq!(answer.header("Content-Type"), Some("application/octet-stream"));
    let mut chunks = Vec::new();
    for part in whole.chunks(7777) {
        chunks.extend_from_slice(format!("{:x};n=\"1\"\r\n", part.len()).as_bytes());
        chunks.extend_from_slice(part);
        chunks.extend_from_slice(b"\r\n");
    }
    chunks.extend_from_slice(b"0\r\nChecksum: none\r\n\r\n");
    assert!(peer.ask(&posted("Transfer-Encoding: chunked\r\n", &chunks)).body == whole);
    for byte in posted("Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n0\r\n\r\n") {
        peer.send(&[byte]);
    }
    peer.answer().expect(200, "hello");
}

#[test]
fn a_client_that_waits_for_a_word_gets_it() {
    let server = Program::serve("http", "");
    let mut peer = server.connect();
    peer.send(&posted("Expect: 100-continue\r\nContent-Length: 5\r\n", b""));
    assert_eq!(peer.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    peer.ask(b"hello").expect(200, "hello");
    peer.send(&posted("Expect: 100-continue\r\nContent-Length: 100000000\r\n", b""));
    assert_eq!(peer.answer().status, 413, "at once, and without the word");
    peer.expect_end();
}

#[test]
fn a_request_that_drips_is_cut() {
    let server = Program::serve("http", "--request-timeout 400ms");
    let mut dripping = server.connect();
    let mut idle = server.connect();
    idle.ask(GET).expect(200, HELLO);
    let request = posted("Content-Length: 1000\r\n", b"");
    let mut sent = 0;
    while sent < 1000 && hears_nothing(&dripping) {
        let byte = request.get(sent).copied().unwrap_or(b'x');
        if dripping.0.write_all(&[byte]).is_err() {
            break;
        }
        sent += 1;
    }
    dripping.expect_gone();
    assert!(sent < 1000, "it was cut");
    idle.ask(GET).expect(200, HELLO);
    expect_count(&server.stop(), "closes.frame_timeout", 1);
}

/// Waits for a while; true when nothing has come, an end neither.
fn hears_nothing(peer: &Peer) -> bool {
    peer.0.set_read_timeout(Some(Duration::from_millis(20))).expect("not zero");
    let nothing = peer.0.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    peer.0.set_read_timeout(Some(PATIENCE)).expect("not zero");
    nothing
}

#[test]
fn a_shutdown_does_not_wait_for_those_who_ask_nothing() {
    let server = Program::serve("http", "--drain 1h");
    let mut peer = server.connect();
    peer.ask(GET).expect(200, HELLO);
    let stats = server.stop();
    expect_count(&stats, "closes.shutdown", 1);
    peer.expect_end();
}

#[test]
fn there_is_no_framing_to_choose() {
    let ended = Program::start("http", "--framing lines").ended();
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    let ended = Program::start("http", "--help").ended();
    let help = String::from_utf8_lossy(&ended.lines.concat()).into_owned();
    assert!(
        ended.status.success() && !help.contains("--framing") && help.contains("--request-timeout"),
        "{help}"
    );
}

#[cfg(feature = "metrics")]
mod metrics {
    use super::*;
    use crate::exposition::Page;

    const GET_METRICS: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";

    #[track_caller]
    fn page(answer: &Answer) -> Page {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        Page::read(&String::from_utf8(answer.body.clone()).expect("text"))
    }

    #[test]
    fn the_metrics_are_those_of_the_server() {
        let server = Program::serve("http", "");
        let mut peer = server.connect();
        server.connect().send(b"\0\0");
        peer.ask(GET).expect(200, HELLO);
        let page = page(&peer.ask(GET_METRICS));
        assert_eq!(page.one("mainspring_connections_accepted_total"), 2.0);
        assert_eq!(page.sum("mainspring_connections_closed_total", ("reason", "peer")), 0.0);
        assert!(page.one("mainspring_received_bytes_total") >= (GET.len() + GET_METRICS.len()) as f64);
        peer.send(b"HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(peer.answer_to_head().header("Content-Length").is_some_and(|len| len.len() >= 4));
        peer.ask(GET).expect(200, HELLO);
        drop(peer);
        server.stop();
    }

    /// All reactors are asked, and meanwhile what was pipelined behind waits for its turn.
    #[test]
    fn the_metrics_of_many_reactors_come_in_the_order_of_the_requests() {
        let server = Program::serve("http", "--reactors 3");
        let mut peers: Vec<_> = (0..8).map(|_| server.connect()).collect();
        for peer in &mut peers {
            peer.send(&[GET, GET_METRICS, GET, GET_METRICS, GET].concat());
            peer.end_output();
        }
        for peer in &mut peers {
            peer.answer().expect(200, HELLO);
            let first = page(&peer.answer());
            peer.answer().expect(200, HELLO);
            let second = page(&peer.answer());
            peer.answer().expect(200, HELLO);
            peer.expect_end();
            let of = |page: &Page, reactor| page.sum("mainspring_turns_total", ("reactor", reactor));
            for reactor in ["0", "1", "2"] {
                assert!(of(&first, reactor) > 0.0 && of(&first, reactor) <= of(&second, reactor));
            }
            let accepted = "mainspring_connections_accepted_total";
            assert!(second.sum(accepted, ("", "")) <= 8.0);
        }
        let stats = server.stop();
        expect_count(&stats, "closes.peer", 8);
        expect_count(&stats, "frames_out", 40);
    }
}

#[test]
fn curl_is_served() {
    let server = Program::serve("http", "--reactors 2");
    let url = |path: &str| format!("http://{}{path}", server.address());
    let curl =
        |arguments: &[&str]| Command::new("curl").args(["-sS", "--max-time", "20"]).args(arguments).output();
    if !installed("curl", &["--version"]) {
        return;
    }
    let hello = curl(&[&url("/"), &url("/?again")]).expect("it is installed");
    assert_eq!(String::from_utf8_lossy(&hello.stdout), HELLO.repeat(2), "{hello:?}");
    let body = "x".repeat(100_000);
    for header in ["Transfer-Encoding: chunked", "Expect: 100-continue", "Connection: close"] {
        let echoed = curl(&["-H", header, "--data-binary", &body, &url("/echo")]).expect("it was there");
        assert!(echoed.status.success() && echoed.stdout == body.as_bytes(), "{header}: {:?}", echoed.stderr);
    }
    let old = curl(&["--http1.0", "--head", &url("/")]).expect("it was there");
    assert!(String::from_utf8_lossy(&old.stdout).starts_with("HTTP/1.1 200 OK\r\n"), "{old:?}");
    server.stop();
}

/// As a server behind nginx, which keeps its connections and gets bodies and errors through.
#[test]
fn nginx_in_front_is_served() {
    let server = Program::serve("http", "");
    let Some(nginx) = Nginx::before(server.address()) else { return };
    let mut peer = Peer::connect(nginx.address);
    for _ in 0..20 {
        peer.ask(GET).expect(200, HELLO);
    }
    let body = "x".repeat(100_000);
    let length = format!("Content-Length: {}\r\n", body.len());
    peer.ask(&posted(&length, body.as_bytes())).expect(200, &body);
    let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    peer.ask(&posted("Transfer-Encoding: chunked\r\n", chunks.as_bytes())).expect(200, &body);
    let wrong = peer.ask(b"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((wrong.status, wrong.header("Allow")), (405, Some("GET, HEAD")));
    peer.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(peer.answer_to_head().header("Content-Length"), Some("23"));
    drop(nginx);
    let stats = server.stop();
    expect_count(&stats, "frames_in", 24);
    expect_count(&stats, "closes.bad_frame", 0);
    assert!(
        stats["accepted"].as_u64().is_some_and(|accepted| accepted < 24),
        "connections are kept: {stats}"
    );
}

/// An nginx that passes everything on, in the foreground, with files of its own.
struct Nginx {
    _child: Foreign,
    address: SocketAddr,
    _folder: TempDir,
}

impl Nginx {
    fn before(upstream: SocketAddr) -> Option<Nginx> {
        if !installed("nginx", &["-v"]) {
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        // A port that was free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
        let path = folder.path().display();
        let settings = format!(
            "daemon off; master_process off; pid {path}/pid; error_log stderr;
             events {{ worker_connections 64; }}
             http {{
                 access_log off; client_body_temp_path {path}/body; proxy_temp_path {path}/proxy;
                 upstream site {{ server {upstream}; keepalive 4; }}
                 server {{
                     listen {address};
                     location / {{
                         proxy_pass http://site; proxy_http_version 1.1; proxy_set_header Connection \"\";
                     }}
                 }}
             }}"
        );
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, settings).expect("it can be written");
        let started = Command::new("nginx")
            .arg("-p")
            .arg(folder.path())
            .arg("-c")
            .arg(&file)
            .stderr(Stdio::null())
            .spawn();
        let mut child = Foreign(started.expect("it is installed"));
        let bound = Bound::new(PATIENCE);
        while TcpStream::connect(address).is_err() {
            if let Some(status) = child.try_wait().expect("it is our child") {
                println!("skipped: nginx does not run here: {status}");
                return None;
            }
            assert!(!bound.is_over(), "nginx listens");
            thread::park_timeout(Duration::from_millis(20));
        }
        Some(Nginx { _child: child, address, _folder: folder })
    }
}

#[test]
fn wrk_finds_no_error() {
    let server = Program::serve("http", "");
    let url = format!("http://{}/", server.address());
    if !installed("wrk", &["-v"]) {
        return;
    }
    let output = Command::new("wrk").args(["-t1", "-c50", "-d1s", "--timeout", "20s", &url]).output();
    let output = output.expect("it is installed");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("Requests/sec:"), "{output:?}");
    assert!(!said.contains("Socket errors") && !said.contains("Non-2xx"), "{said}");
    let stats = server.stop();
    assert_eq!(stats["closes"]["bad_frame"], 0, "{stats}");
    assert!(stats["frames_out"].as_u64().is_some_and(|frames| frames >= 50), "{stats}");
}
