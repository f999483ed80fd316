//! Client and server in step on one thread: all send, the reactor turns, all read. So the kernel has what was sent when the
//! reactor looks, nothing waits, and two runs do the same. What the kernel is asked for on the clients' side is counted here, so
//! that it can be taken off.

use std::io::{self, Read, Write};
use std::mem;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use mainspring::Reactor;
use mainspring::codec::LengthPrefixed;

use crate::scenario::Scenario;
use crate::{Failure, Server, server};

/// System calls of the clients.
#[derive(Debug, Default)]
struct Calls {
    reads: u64,
    writes: u64,
    others: u64,
}

struct Client {
    stream: TcpStream,
    sent: usize,
    got: usize,
}

impl Client {
    fn connect(address: SocketAddr, calls: &mut Calls) -> io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nonblocking(true)?;
        // socket, connect, ioctl, and close when it ends.
        calls.others += 4;
        Ok(Client { stream, sent: 0, got: 0 })
    }

    /// Writes and reads what can be; whether all of it is done is told by the numbers.
    fn write(&mut self, wire: &[u8], calls: &mut Calls) -> io::Result<()> {
        if self.sent < wire.len() {
            calls.writes += 1;
            self.sent += none_yet(self.stream.write(&wire[self.sent..]))?;
        }
        Ok(())
    }

    fn read(&mut self, wire: &[u8], into: &mut [u8], calls: &mut Calls) -> io::Result<()> {
        while self.got < wire.len() {
            calls.reads += 1;
            let n = none_yet(self.stream.read(&mut into[self.got..wire.len()]))?;
            if n == 0 {
                break;
            }
            if into[self.got..self.got + n] != wire[self.got..self.got + n] {
                return Err(io::Error::other("something else came back"));
            }
            self.got += n;
        }
        Ok(())
    }
}

/// Nothing for now is zero, and an end is an error.
fn none_yet(done: io::Result<usize>) -> io::Result<usize> {
    match done {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        done => done,
    }
}

fn turn(reactor: &mut Reactor<Server>) -> Result<(), Failure> {
    reactor.turn(Some(Duration::ZERO))?;
    Ok(())
}

/// Says how many messages came back, and what the clients asked of the kernel for that.
pub(crate) fn count(scenario: &Scenario, rounds: u64) -> Result<String, Failure> {
    let mut reactor = server(scenario)?;
    let listening = reactor.listen("127.0.0.1:0", LengthPrefixed::default())?;
    let address = listening.address.ip().ok_or("it listens on no IP address")?;
    let mut calls = Calls::default();
    let wire = scenario.wire();
    let mut into = vec![0; wire.len()];
    let mut clients = Vec::new();
    let mut idle = Vec::new();
    while idle.len() < scenario.idle {
        idle.push(Client::connect(address, &mut calls)?);
        // Before more of them wait than the kernel lets.
        while reactor.stats().open < idle.len() as u64 {
            turn(&mut reactor)?;
        }
    }
    let messages_of = |rounds: u64| rounds * (scenario.clients() * scenario.burst) as u64;
    for round in 0..rounds {
        if round == 0 || scenario.is_churn() {
            clients.clear();
            while clients.len() < scenario.clients() {
                clients.push(Client::connect(address, &mut calls)?);
            }
            if !scenario.is_churn() {
                while reactor.stats().open < (idle.len() + clients.len()) as u64 {
                    turn(&mut reactor)?;
                }
            }
        }
        for client in &mut clients {
            (client.sent, client.got) = (0, 0);
        }
        while clients.iter().any(|client| client.got < wire.len()) {
            for (place, client) in clients.iter_mut().enumerate() {
                if scenario.sends(place) {
                    client.write(&wire, &mut calls)?;
                }
            }
            // Until there is nothing more to be had of it: a read that finds nothing would be counted.
            let done = |reactor: &Reactor<Server>| {
                let stats = reactor.stats();
                (stats.frames_out, stats.bytes_out, stats.bytes_in, stats.accepted)
            };
            loop {
                let before = done(&reactor);
                turn(&mut reactor)?;
                if done(&reactor).0 == messages_of(round + 1) || done(&reactor) == before {
                    break;
                }
            }
            for client in &mut clients {
                client.read(&wire, &mut into, &mut calls)?;
            }
        }
    }
    let messages = messages_of(rounds);
    let Calls { reads, writes, others } = calls;
    // What the end costs is not a message's, and what an allocator gives back then differs from run to run.
    mem::forget((reactor, clients, idle));
    Ok(format!("messages={messages} reads={reads} writes={writes} others={others}"))
}
