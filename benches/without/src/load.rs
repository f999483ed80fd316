//! Loads a server of another process from one thread: every client sends a burst, and the next one when all of it has come
//! back. Every byte is compared with what was sent.

use std::fs;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;

use crate::Failure;
use crate::scenario::Scenario;

const WARM_UP: Duration = Duration::from_millis(200);
/// Nothing within this is an error.
const PATIENCE: Duration = Duration::from_secs(10);

struct Client {
    stream: TcpStream,
    sent: usize,
    got: usize,
    began: Instant,
}

impl Client {
    fn write(&mut self, wire: &[u8]) -> io::Result<()> {
        while self.sent < wire.len() {
            match self.stream.write(&wire[self.sent..]) {
                Ok(n) => self.sent += n,
                // One that is not connected yet is told by its first event.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) =>
                {
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what there is. The kernel tells of more: a read that is cut short has taken all.
    fn read(&mut self, wire: &[u8], into: &mut [u8]) -> io::Result<()> {
        loop {
            match self.stream.read(into) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    if wire.get(self.got..self.got + n) != Some(&into[..n]) {
                        return Err(io::Error::other("something else came back"));
                    }
                    self.got += n;
                    if n < into.len() {
                        return Ok(());
                    }
                }
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) =>
                {
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }
}

struct Load<'a> {
    scenario: &'a Scenario,
    address: SocketAddr,
    poll: Poll,
    wire: Vec<u8>,
    clients: Vec<Client>,
    /// Clients of a broadcast that have all of it.
    have_all: usize,
    messages: u64,
    /// Of each burst, in nanoseconds.
    times: Vec<u64>,
}

/// What has been used so far, in nanoseconds.
struct Usage {
    at: Instant,
    server: u64,
    load: u64,
    machine: u64,
}

impl Usage {
    fn now(process: u32) -> Result<Usage, Failure> {
        Ok(Usage {
            at: now(),
            server: cpu(&process.to_string())?,
            load: cpu("self")?,
            machine: busy(&fs::read_to_string("/proc/stat")?).ok_or("/proc/stat has no first line")?,
        })
    }
}

/// One line of what was measured.
pub(crate) fn load(
    scenario: &Scenario,
    address: &str,
    process: u32,
    seconds: f64,
) -> Result<String, Failure> {
    let mut load = Load {
        scenario,
        address: address.parse()?,
        poll: Poll::new()?,
        wire: scenario.wire(),
        clients: Vec::new(),
        have_all: 0,
        messages: 0,
        times: Vec::new(),
    };
    for place in 0..scenario.clients() {
        let client = load.connect(place)?;
        load.clients.push(client);
    }
    // The server has opened all of them before the first message: what is broadcast reaches all.
    if !scenario.is_churn() {
        load.run(Some(now() + Duration::from_millis(50)))?;
    }
    for place in (0..scenario.clients()).filter(|place| scenario.sends(*place)) {
        load.begin(place)?;
    }
    load.run(Some(now() + WARM_UP))?;
    let before = Usage::now(process)?;
    load.messages = 0;
    load.times.clear();
    load.run(Some(before.at + Duration::from_secs_f64(seconds)))?;
    let after = Usage::now(process)?;
    let wall = after.at.saturating_duration_since(before.at).as_nanos() as f64;
    let (server, own) = (after.server - before.server, after.load - before.load);
    // The machine's time is in ticks of 10 ms, so that a little of it may seem to be missing.
    let others = (after.machine - before.machine).saturating_sub(server + own);
    let messages = load.messages.max(1) as f64;
    load.times.sort_unstable();
    Ok(format!(
        "rate={:.0} cpu={:.1} p50={:.1} p99={:.1} load={:.2} others={:.2} rss={}",
        messages / wall * 1e9,
        server as f64 / messages,
        quantile(&load.times, 0.5) / 1e3,
        quantile(&load.times, 0.99) / 1e3,
        own as f64 / wall,
        others as f64 / wall,
        resident(process)?,
    ))
}

impl Load<'_> {
    fn connect(&mut self, place: usize) -> io::Result<Client> {
        // All of a crowd at once would overflow the listener's queue, and wait a second for that.
        let mut stream = if self.scenario.is_churn() {
            TcpStream::connect(self.address)?
        } else {
            let stream = std::net::TcpStream::connect(self.address)?;
            stream.set_nonblocking(true)?;
            TcpStream::from_std(stream)
        };
        let socket = SockRef::from(&stream);
        socket.set_tcp_nodelay(true)?;
        if self.scenario.is_churn() {
            // A reset, so that the port can be had again at once.
            socket.set_linger(Some(Duration::ZERO))?;
        }
        self.poll.registry().register(&mut stream, Token(place), Interest::READABLE | Interest::WRITABLE)?;
        let wire = self.wire.len();
        Ok(Client { stream, sent: wire, got: 0, began: now() })
    }

    /// Sends the next burst.
    fn begin(&mut self, place: usize) -> io::Result<()> {
        let client = &mut self.clients[place];
        (client.sent, client.began) = (0, now());
        if !self.scenario.is_broadcast() {
            client.got = 0;
        }
        client.write(&self.wire)
    }

    fn run(&mut self, until: Option<Instant>) -> Result<(), Failure> {
        let mut events = Events::with_capacity(256);
        let mut into = vec![0; 256 << 10];
        let mut heard = now();
        loop {
            let now = now();
            let left = until.map(|until| until.saturating_duration_since(now));
            if left == Some(Duration::ZERO) {
                return Ok(());
            }
            if now.saturating_duration_since(heard) > PATIENCE {
                return Err("nothing comes back".into());
            }
            self.poll.poll(&mut events, left.or(Some(PATIENCE)))?;
            for event in &events {
                heard = now;
                let place = event.token().0;
                let client = &mut self.clients[place];
                client.write(&self.wire)?;
                let had = client.got;
                client.read(&self.wire, &mut into)?;
                if client.got > had && client.got == self.wire.len() {
                    self.has_all(place)?;
                }
            }
        }
    }

    fn has_all(&mut self, place: usize) -> io::Result<()> {
        let took = now().saturating_duration_since(self.clients[place].began);
        self.messages += self.scenario.burst as u64;
        if self.scenario.is_churn() {
            self.times.push(took.as_nanos() as u64);
            self.clients[place] = self.connect(place)?;
            return self.begin(place);
        }
        if !self.scenario.is_broadcast() {
            self.times.push(took.as_nanos() as u64);
            return self.begin(place);
        }
        self.have_all += 1;
        if self.have_all < self.clients.len() {
            return Ok(());
        }
        // Until the last one has it.
        let took = now().saturating_duration_since(self.clients[0].began);
        self.times.push(took.as_nanos() as u64);
        self.have_all = 0;
        self.clients.iter_mut().for_each(|client| client.got = 0);
        self.begin(0)
    }
}

/// Of sorted times.
fn quantile(times: &[u64], q: f64) -> f64 {
    let at = (times.len() as f64 * q) as usize;
    times.get(at.min(times.len().saturating_sub(1))).map_or(f64::NAN, |time| *time as f64)
}

/// The scheduler's time of all threads of a process.
fn cpu(process: &str) -> Result<u64, Failure> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let times = fs::read_to_string(thread?.path().join("schedstat"))?;
        sum += times.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(sum)
}

/// The time that all cores were busy, from /proc/stat: user, nice, system, irq, softirq and steal, not idle and iowait.
fn busy(stat: &str) -> Option<u64> {
    let ticks: Vec<u64> =
        stat.lines().next()?.split_whitespace().skip(1).map_while(|n| n.parse().ok()).collect();
    Some([0, 1, 2, 5, 6, 7].iter().filter_map(|at| ticks.get(*at)).sum::<u64>() * 10_000_000)
}

/// Memory of a process, in KiB.
fn resident(process: u32) -> Result<u64, Failure> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn now() -> Instant {
    Instant::now()
}
