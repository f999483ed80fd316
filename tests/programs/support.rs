//! Words to start a program, to talk to it, and to end it. Every wait has a bound.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longer than anything here takes on a machine that is busy with other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A program that runs. It is killed when this is dropped.
pub(crate) struct Program {
    name: String,
    child: Child,
    lines: Receiver<Vec<u8>>,
    errors: Option<JoinHandle<String>>,
    addresses: VecDeque<SocketAddr>,
}

/// How a program has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// What was left to read of its standard output, in lines.
    pub(crate) lines: Vec<Vec<u8>>,
    pub(crate) errors: String,
}

/// Where cargo has put the examples: beside this test's own directory.
pub(crate) fn executable(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    let profile = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST");
    let path = profile.join("examples").join(name);
    assert!(path.exists(), "{} is not built: `cargo build --examples` does", path.display());
    path
}

impl Program {
    /// Starts a program with these arguments, separated by spaces.
    pub(crate) fn start(name: &str, arguments: &str) -> Program {
        Program::start_with(name, arguments.split_whitespace())
    }

    /// Starts a program with arguments that may have spaces in them.
    pub(crate) fn start_with<'a>(name: &str, arguments: impl IntoIterator<Item = &'a str>) -> Program {
        let mut command = Command::new(executable(name));
        command.args(arguments).stdin(Stdio::piped());
        Program::spawn(name, command)
    }

    /// Starts a server as a service manager would that has opened its sockets: `passed` is what it finds from descriptor 3
    /// on, so often, and `pid` whom the environment says it is for.
    pub(crate) fn activate(
        name: &str,
        arguments: &str,
        passed: impl Into<Stdio>,
        count: usize,
        pid: &str,
    ) -> Program {
        // The shell becomes the program, and keeps its process id.
        let descriptors: String = (3..3 + count).map(|fd| format!("{fd}<&0 ")).collect();
        let script = format!("export LISTEN_FDS={count} LISTEN_PID={pid}; exec \"$0\" \"$@\" {descriptors}");
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).arg(executable(name)).args(arguments.split_whitespace()).stdin(passed);
        Program::spawn(name, command)
    }

    fn spawn(name: &str, mut command: Command) -> Program {
        let mut child = command
            .env_remove("RUST_LOG")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stdout = child.stdout.take().expect("it is piped");
        let mut stderr = child.stderr.take().expect("it is piped");
        let (line_tx, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::with_capacity(1 << 18, stdout).split(b'\n') {
                if line.is_err() || line_tx.send(line.unwrap_or_default()).is_err() {
                    break;
                }
            }
        });
        let errors = thread::spawn(move || {
            let mut text = String::new();
            // What is not UTF-8 ends it, and the test that looks at it will tell.
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let addresses = VecDeque::new();
        Program { name: name.to_owned(), child, lines, errors: Some(errors), addresses }
    }

    /// Starts a server on a port of the system's choice, and waits until it listens.
    pub(crate) fn serve(name: &str, arguments: &str) -> Program {
        Program::serve_on(name, "127.0.0.1:0", arguments)
    }

    pub(crate) fn serve_on(name: &str, address: &str, arguments: &str) -> Program {
        let mut program = Program::start(name, &format!("--listen {address} {arguments}"));
        let address = program.expect_listening();
        program.addresses.push_back(address);
        program
    }

    /// As [`serve`](Program::serve), with no more than so many descriptors, until it is given more.
    pub(crate) fn serve_with_descriptors(name: &str, descriptors: usize, arguments: &str) -> Program {
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("ulimit -S -n {descriptors}; exec \"$0\" \"$@\"")])
            .arg(executable(name));
        command.args(["--listen", "127.0.0.1:0"]).args(arguments.split_whitespace());
        command.stdin(Stdio::piped());
        let mut program = Program::spawn(name, command);
        let address = program.expect_listening();
        program.addresses.push_back(address);
        program
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The time on a processor that it has used, in hundredths of a second, where the system tells.
    pub(crate) fn processor_time(&self) -> Option<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).ok()?;
        let (_, behind_name) = stat.rsplit_once(')')?;
        let fields: Vec<_> = behind_name.split_whitespace().collect();
        Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
    }

    /// Memory of it that is there, in KiB, where the system tells.
    pub(crate) fn resident(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    }

    /// Asserts that it does next to nothing for a second.
    #[track_caller]
    pub(crate) fn expect_rest(&self) {
        let before = self.processor_time();
        thread::park_timeout(Duration::from_secs(1));
        match (before, self.processor_time()) {
            // A loop that spins uses all hundred, or half of them on a busy machine.
            (Some(before), Some(after)) => {
                let used = after - before;
                assert!(
                    used < 15,
                    "{used} hundredths of a second on a processor, in one\n{}",
                    std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default()
                );
            }
            _ => println!("skipped: nobody tells of processor time here"),
        }
    }

    pub(crate) fn expect_listening(&mut self) -> SocketAddr {
        let line = self.line();
        let address = line.strip_prefix("listening on ").and_then(|address| address.parse().ok());
        address.unwrap_or_else(|| panic!("{}: a listening line, not {line:?}", self.name))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    pub(crate) fn connect(&self) -> Peer {
        Peer::connect(self.address())
    }

    /// The next line of its standard output.
    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => String::from_utf8(line).expect("the line is text"),
            Err(error) => self.die(&format!("prints no line: {error}")),
        }
    }

    /// Waits for a `stats` line that is as wanted, and gives it.
    #[track_caller]
    pub(crate) fn stats_until(&mut self, what: &str, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        let mut last = String::new();
        let bound = Bound::new(PATIENCE);
        while !bound.is_over() {
            last = self.line();
            if let Some(stats) = last.strip_prefix("stats ") {
                let stats = serde_json::from_str(stats).expect("stats are JSON");
                expect_balance(&stats);
                if wanted(&stats) {
                    return stats;
                }
            }
        }
        panic!("{}: not until {what}: {last}", self.name);
    }

    pub(crate) fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("it is taken once")
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(sent.expect("there is a `kill`").success(), "{} gets its signal", self.name);
    }

    /// Closes our end of its standard output.
    pub(crate) fn close_stdout(&mut self) {
        let (_, closed) = mpsc::channel();
        self.lines = closed;
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn ended(mut self) -> Ended {
        drop(self.child.stdin.take());
        let mut lines = Vec::new();
        let bound = Bound::new(PATIENCE);
        let status = loop {
            match self.lines.recv_timeout(Duration::from_millis(10)) {
                Ok(line) => lines.push(line),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => thread::park_timeout(Duration::from_millis(2)),
            }
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                break status;
            }
            if bound.is_over() {
                self.die("does not end");
            }
        };
        lines.extend(self.lines.iter());
        let errors = self.errors.take().map_or_else(String::new, |errors| errors.join().expect("no panic"));
        assert!(!errors.contains("panicked"), "{}: {errors}", self.name);
        Ended { status, lines, errors }
    }

    /// Ends a server by SIGTERM, asserts what is true of every end, and gives its `stats`.
    #[track_caller]
    pub(crate) fn stop(self) -> Value {
        self.signal("TERM");
        self.ended_with_stats()
    }

    #[track_caller]
    pub(crate) fn ended_with_stats(self) -> Value {
        let ended = self.ended();
        assert_eq!(ended.status.code(), Some(0), "{}", ended.errors);
        let last = ended.lines.last().expect("there is a last line");
        let stats = last.strip_prefix(b"stats ").expect("it has the stats");
        let stats: Value = serde_json::from_slice(stats).expect("stats are JSON");
        expect_balance(&stats);
        expect_count(&stats, "open", 0);
        expect_count(&stats, "buffered_bytes", 0);
        stats
    }

    #[track_caller]
    fn die(&mut self, what: &str) -> ! {
        let errors = self.kill();
        panic!("{} {what}; it says {errors:?}", self.name);
    }

    fn kill(&mut self) -> String {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.errors.take().and_then(|errors| errors.join().ok()).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Ended {
    /// It has failed, with one line that has all of these in it.
    #[track_caller]
    pub(crate) fn expect_failure(&self, words: &[&str]) {
        assert_eq!(self.status.code(), Some(1), "{self:?}");
        assert_eq!(self.errors.lines().count(), 1, "{self:?}");
        for word in words {
            assert!(self.errors.contains(word), "{word:?} is not in {:?}", self.errors);
        }
    }

    #[track_caller]
    pub(crate) fn expect_success(&self) {
        assert_eq!((self.status.code(), self.errors.as_str()), (Some(0), ""));
    }
}

/// A bound in time of something that is repeated.
pub(crate) struct Bound(Instant);

impl Bound {
    pub(crate) fn new(limit: Duration) -> Bound {
        Bound(now() + limit)
    }

    pub(crate) fn is_over(&self) -> bool {
        now() > self.0
    }
}

#[expect(clippy::disallowed_methods, reason = "a bound on other processes is a matter of real time")]
fn now() -> Instant {
    Instant::now()
}

/// A plain socket that talks to a program.
pub(crate) struct Peer(pub(crate) TcpStream);

impl Peer {
    pub(crate) fn connect(address: SocketAddr) -> Peer {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the server accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
        stream.set_write_timeout(Some(PATIENCE)).expect("not zero");
        stream.set_nodelay(true).expect("it is TCP");
        Peer(stream)
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("it can be sent");
    }

    /// The next bytes that arrive are these.
    #[track_caller]
    pub(crate) fn expect(&mut self, bytes: &[u8]) {
        let mut arrived = vec![0; bytes.len()];
        self.0.read_exact(&mut arrived).expect("enough arrives");
        // The comparison of the whole is the fast one.
        if arrived != bytes {
            let same = arrived.iter().zip(bytes).take_while(|(a, b)| a == b).count();
            panic!("{} bytes arrived, and differ from byte {same} on", bytes.len());
        }
    }

    /// An echo server answers.
    #[track_caller]
    pub(crate) fn expect_echo(&mut self) {
        self.send(&frame(b"hello"));
        self.expect(&frame(b"hello"));
    }

    /// The next thing that arrives is the end of the stream.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        let mut byte = [0];
        assert_eq!(self.0.read(&mut byte).expect("an end, no reset"), 0, "{byte:?} arrived");
    }

    /// The connection is gone, in order or by a reset.
    #[track_caller]
    pub(crate) fn expect_gone(&mut self) {
        match io::copy(&mut self.0, &mut io::sink()) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }

    /// Nothing arrives for so long.
    #[track_caller]
    pub(crate) fn expect_nothing(&mut self, within: Duration) {
        self.0.set_read_timeout(Some(within)).expect("not zero");
        let mut byte = [0];
        let arrived = self.0.read(&mut byte).map_err(|error| error.kind());
        assert_eq!(arrived, Err(ErrorKind::WouldBlock), "{byte:?}");
        self.0.set_read_timeout(Some(PATIENCE)).expect("not zero");
    }

    pub(crate) fn end_output(&self) {
        self.0.shutdown(Shutdown::Write).expect("it is open");
    }

    /// Sends `bytes`, then sends them again from where it left off, until nothing is taken for a while: how many went out.
    pub(crate) fn send_until_full(&mut self, bytes: &[u8]) -> usize {
        self.0.set_write_timeout(Some(Duration::from_millis(300))).expect("not zero");
        let mut sent = 0;
        let full = loop {
            if sent == bytes.len() {
                break false;
            }
            match self.0.write(&bytes[sent..]) {
                Ok(n) => sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break true,
                Err(error) => panic!("it cannot be sent: {error}"),
            }
        };
        self.0.set_write_timeout(Some(PATIENCE)).expect("not zero");
        assert!(full, "all {sent} bytes were taken without a pause");
        sent
    }

    pub(crate) fn duplicate(&self) -> Peer {
        Peer(self.0.try_clone().expect("there are descriptors"))
    }
}

/// A frame of `u32be`, the default framing.
pub(crate) fn frame(payload: &[u8]) -> Vec<u8> {
    framed("u32be", payload)
}

/// A payload in a framing, as the page of the programs describes it.
pub(crate) fn framed(framing: &str, payload: &[u8]) -> Vec<u8> {
    let len = payload.len();
    let mut wire = match framing {
        "u32be" => (len as u32).to_be_bytes().to_vec(),
        "u32le" => (len as u32).to_le_bytes().to_vec(),
        "u16be" => (len as u16).to_be_bytes().to_vec(),
        "u8" => vec![len as u8],
        "varint" => {
            let (mut prefix, mut rest) = (Vec::new(), len);
            while rest >= 0x80 {
                prefix.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            prefix.push(rest as u8);
            prefix
        }
        _ => Vec::new(),
    };
    wire.extend_from_slice(payload);
    if framing == "lines" {
        wire.push(b'\n');
    }
    wire
}

/// `len` bytes that are not like those of another `seed`.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(step).collect();
    bytes.truncate(len);
    bytes
}

/// So many frames of so many bytes each, of which no two are alike.
pub(crate) fn many_frames(count: u64, len: usize) -> Vec<u8> {
    let mut one = frame(&noise(1, len));
    let mut wire = Vec::with_capacity(one.len() * count as usize);
    for number in 0..count {
        one[4..12].copy_from_slice(&number.to_be_bytes());
        wire.extend_from_slice(&one);
    }
    wire
}

/// What is true of all statistics, at any time.
#[track_caller]
fn expect_balance(stats: &Value) {
    let n = |key: &str| stats[key].as_u64().unwrap_or_else(|| panic!("{key} is a count: {stats}"));
    assert_eq!(n("accepted") + n("connected"), n("open") + n("closed"), "{stats}");
    let closes: u64 = stats["closes"].as_object().expect("closes").values().filter_map(Value::as_u64).sum();
    assert_eq!(closes, n("closed"), "{stats}");
}

#[track_caller]
pub(crate) fn expect_count(stats: &Value, key: &str, count: u64) {
    let value = stats.pointer(&format!("/{}", key.replace('.', "/"))).and_then(Value::as_u64);
    assert_eq!(value, Some(count), "{key} in {stats}");
}

/// Whatever it is, it is joined within the bound of its own waits.
#[track_caller]
pub(crate) fn join<T: Debug>(thread: JoinHandle<T>) -> T {
    thread.join().expect("the other thread does not panic")
}
