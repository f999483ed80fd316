//! The program as it is run: every server answers rightly, under every load and at every cut.

#![allow(clippy::unwrap_used, reason = "what a test's helper cannot do has failed the test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

const PROGRAM: &str = env!("CARGO_BIN_EXE_peers");
const PEERS: [&str; 3] = ["mio", "tokio", "message-io"];

struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(peer: &str, job: &str) -> Server {
        let mut child = Command::new(PROGRAM)
            .args(["serve", peer, job, "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address =
            line.strip_prefix("listening on ").expect("the first line is the address").trim().to_owned();
        Server { child, address }
    }

    fn dial(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn load(scenario: &str, server: &Server) -> Output {
    Command::new(PROGRAM)
        .args(["load", scenario, &server.address, "--process", &server.child.id().to_string()])
        .args(["--seconds", "0.2", "--warm-up", "0.1"])
        .output()
        .unwrap()
}

fn frame(payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u32).to_be_bytes(), payload].concat()
}

#[test]
fn every_server_stands_every_load() {
    for peer in PEERS {
        for scenario in ["p1", "p2", "p3", "p4", "p6", "bcast"] {
            let server = Server::start(peer, if scenario == "bcast" { "broadcast" } else { "echo" });
            let output = load(scenario, &server);
            let (said, complaints) =
                (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success(), "{peer} {scenario}: {complaints}");
            let measured = serde_json::from_str::<serde_json::Value>(&said).unwrap();
            assert!(measured["per_second"].as_f64() > Some(1.0), "{peer} {scenario}: {said}");
            assert!(measured["p50_us"].as_f64() <= measured["p99_us"].as_f64(), "{peer} {scenario}: {said}");
            if cfg!(target_os = "linux") {
                assert!(measured["server_cpu_us"].as_f64() > Some(0.0), "{peer} {scenario}: {said}");
            }
        }
    }
}

#[test]
fn frames_of_any_length_come_back_from_any_cut() {
    // None, one byte, around the sizes at which the servers change their ways, and megabytes.
    let lengths = [0, 1, 0, 65_531, 65_532, 16_383, 16_384, 16_385, 300_000, 0, 5 << 20, 3, 2 << 20];
    let stream = lengths.iter().flat_map(|length| frame(&vec![*length as u8; *length])).collect::<Vec<_>>();
    for peer in PEERS {
        for piece in [1_237, 65_536, 999_983] {
            let server = Server::start(peer, "echo");
            let mut reading = server.dial();
            let mut writing = reading.try_clone().unwrap();
            let sent = stream.clone();
            let writer =
                thread::spawn(move || sent.chunks(piece).for_each(|part| writing.write_all(part).unwrap()));
            let mut received = vec![0; stream.len()];
            reading
                .read_exact(&mut received)
                .unwrap_or_else(|error| panic!("{peer}, pieces of {piece}: {error}"));
            writer.join().unwrap();
            assert!(received == stream, "{peer}, pieces of {piece}");
        }
    }
}

#[test]
fn a_frame_comes_back_byte_by_byte() {
    for peer in PEERS {
        let server = Server::start(peer, "echo");
        let mut stream = server.dial();
        let sent = [frame(b"once"), frame(b""), frame(b"more")].concat();
        sent.iter().for_each(|byte| stream.write_all(&[*byte]).unwrap());
        let mut received = vec![0; sent.len()];
        stream.read_exact(&mut received).unwrap();
        assert_eq!(received, sent, "{peer}");
    }
}

#[test]
fn a_frame_past_the_limit_ends_its_connection_alone() {
    for peer in PEERS {
        let server = Server::start(peer, "echo");
        let mut other = server.dial();
        let mut liar = server.dial();
        liar.write_all(&[0x7f, 0xff, 0xff, 0xff, 1]).unwrap();
        // An end or a reset, but no answer.
        assert!(matches!(liar.read(&mut [0]), Ok(0) | Err(_)), "{peer}");
        other.write_all(&frame(b"still there")).unwrap();
        let mut received = [0; 15];
        other.read_exact(&mut received).unwrap();
        assert_eq!(received[..], frame(b"still there"), "{peer}");
    }
}

#[test]
fn a_load_fails_when_the_replies_are_not_those_of_an_echo() {
    // Each connection gets what the others have sent.
    let server = Server::start("mio", "broadcast");
    let output = load("p2", &server);
    assert!(!output.status.success());
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(complaint.contains("wrong bytes"), "{complaint}");
}
