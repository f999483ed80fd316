//! The other side: plain sockets of the standard library, and frames of the default codec.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use super::PATIENCE;

/// A client that waits for no longer than [`PATIENCE`].
#[track_caller]
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    patient(TcpStream::connect(address).expect("a connection"))
}

#[track_caller]
pub(crate) fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_nodelay(true).expect("no delay");
    stream
}

/// Two ends of a connection of the standard library alone.
pub(crate) fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let ours = connect(listener.local_addr().expect("an address"));
    let (theirs, _) = listener.accept().expect("a client");
    (ours, patient(theirs))
}

/// Closes by a reset.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("an option");
    drop(stream);
}

/// `message` as a frame of the default codec.
pub(crate) fn frame(message: &[u8]) -> Vec<u8> {
    let mut bytes = (message.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(message);
    bytes
}

#[track_caller]
pub(crate) fn send_frame(mut stream: impl Write, message: &[u8]) {
    stream.write_all(&frame(message)).expect("it is taken");
}

#[track_caller]
pub(crate) fn read_frame(mut stream: impl Read) -> Vec<u8> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).expect("a header");
    let mut message = vec![0; u32::from_be_bytes(header) as usize];
    stream.read_exact(&mut message).expect("the rest of a frame");
    message
}

/// Asserts that this message comes back whole, without a page of bytes when it does not.
#[track_caller]
pub(crate) fn expect_frame(stream: impl Read, message: &[u8]) {
    let got = read_frame(stream);
    assert_eq!(got.len(), message.len(), "the length");
    if got != message {
        let at = got.iter().zip(message).position(|(got, wanted)| got != wanted);
        panic!("another byte at {at:?} of {}", got.len());
    }
}

#[track_caller]
pub(crate) fn expect_echo(stream: impl Read + Write + Copy, message: &[u8]) {
    send_frame(stream, message);
    expect_frame(stream, message);
}

/// Asserts that the stream is at its end, in order.
#[track_caller]
pub(crate) fn expect_end(mut stream: impl Read) {
    let mut rest = [0; 16];
    match stream.read(&mut rest) {
        Ok(0) => {}
        other => panic!("not the end: {other:?}"),
    }
}

/// Whether an error says that the peer has cut the connection.
pub(crate) fn is_cut(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe)
}

/// Bytes that differ by `seed` and by place.
pub(crate) fn pattern(seed: usize, len: usize) -> Vec<u8> {
    let period: Vec<u8> = (0..251).map(|at| seed.wrapping_mul(151).wrapping_add(at) as u8).collect();
    let mut bytes = Vec::with_capacity(len + period.len());
    while bytes.len() < len {
        bytes.push((bytes.len() / 251) as u8);
        bytes.extend_from_slice(&period[1..]);
    }
    bytes.truncate(len);
    bytes
}

/// Whether there is an IPv6 loopback; says so when there is none.
pub(crate) fn has_ipv6() -> bool {
    let has = TcpListener::bind("[::1]:0").is_ok();
    if !has {
        println!("skipped: no IPv6 here");
    }
    has
}
