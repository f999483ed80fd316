//! A person's end of a connection: each line of standard input goes out as a frame, each frame that arrives is printed as
//! a line.
//!
//! ```text
//! printf 'one\ntwo\n' | cargo run --example client -- localhost:7000
//! ```
//!
//! Standard input blocks, and a reactor must not. So a thread reads it, and hands the lines over by a
//! [`Handle`](mainspring::Handle); the reactor sends them and prints what comes back.

mod common;

use std::error::Error;
use std::io::{self, BufWriter, Read, Stdout, Write};
use std::mem;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use common::framing::{FramingOptions, with_codec};
use common::tls::DialTls;
use common::{dial_failure, failure, start_log, values};
use mainspring::codec::ByteCodec;
use mainspring::{
    CloseReason, ConnId, Context, Dial, DialError, DropReason, Handle, Handler, Limits, Reactor, Sent, Timer,
};

/// Sends each line of standard input as a frame, and prints each frame that arrives as a line
///
/// A line goes out without its LF, and a frame is printed with one. With `--framing raw`, which has no frames, bytes go both
/// ways as they are. It ends when its input has ended and nothing has arrived for a while, or when the peer closes.
#[derive(Debug, Parser)]
#[command(name = "client", version)]
struct Options {
    /// Where to connect to: HOST:PORT, [V6]:PORT or unix:PATH. All addresses of a name are tried
    #[arg(value_name = "ADDR", value_parser = values::address)]
    address: String,
    #[command(flatten)]
    framing: FramingOptions,
    /// After the end of input: end once nothing has arrived for so long
    #[arg(long, value_name = "DUR", default_value = "1s", value_parser = values::duration)]
    wait: Duration,
    /// A connection that is not there within this time is an error
    #[arg(long, value_name = "DUR", default_value = "5s", value_parser = values::positive_duration)]
    timeout: Duration,
    #[command(flatten)]
    tls: DialTls,
}

fn main() -> ExitCode {
    let options = Options::parse();
    start_log();
    with_codec!(options.framing, |codec| run(&options, codec)).unwrap_or_else(failure)
}

fn run<C: ByteCodec + 'static>(options: &Options, codec: C) -> Result<ExitCode, Box<dyn Error>> {
    let mut limits = Limits::default();
    limits.dial_timeout = options.timeout;
    // The thread that reads waits by itself, and one line may be longer than any limit.
    limits.write_limit = usize::MAX;
    let client = Client {
        dial: options.tls.secure(Dial::to(&options.address))?,
        address: options.address.clone(),
        codec,
        raw: options.framing.is_raw(),
        longest: usize::try_from(options.framing.longest()).unwrap_or(usize::MAX),
        wait: options.wait,
        lines: 0,
        input: None,
        quiet: None,
        bytes_in: 0,
        out: BufWriter::with_capacity(64 * 1024, io::stdout()),
        unprinted: false,
        outcome: Ok(()),
    };
    let mut reactor = Reactor::<Client<C>>::builder().limits(limits).build(client)?;
    reactor.run()?;
    // A thread that still waits for input ends with the process.
    Ok(reactor.into_handler().outcome.map_or_else(failure, |()| ExitCode::SUCCESS))
}

/// The shortest time after which it is looked again whether all is quiet.
const LOOK_EVERY: Duration = Duration::from_millis(1);

// The keys of the timers.
const PRINT: u64 = 0;
const WAITED: u64 = 1;

struct Client<C> {
    dial: Dial,
    /// As the user has written it.
    address: String,
    codec: C,
    raw: bool,
    longest: usize,
    wait: Duration,
    /// Lines that were sent.
    lines: u64,
    /// Tells the reading thread to go on.
    input: Option<Sender<()>>,
    /// Since when nothing has arrived, once the input has ended.
    quiet: Option<Instant>,
    /// Bytes that had arrived by then.
    bytes_in: u64,
    out: BufWriter<Stdout>,
    /// Something was put into `out` in this turn.
    unprinted: bool,
    outcome: Result<(), String>,
}

impl<C: ByteCodec + 'static> Handler for Client<C> {
    type Codec = C;
    type Session = ();

    fn on_start(&mut self, cx: &mut Context<Self>) {
        cx.connect(self.dial.clone(), self.codec.clone());
    }

    fn on_dial_failed(&mut self, cx: &mut Context<Self>, _: ConnId, error: DialError, (): ()) {
        self.fail(cx, dial_failure(&self.address, &error));
    }

    fn on_open(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        let (input, go_on) = mpsc::channel();
        self.input = Some(input);
        let reader = InputReader { handle: cx.handle(), conn, go_on, raw: self.raw, longest: self.longest };
        if let Err(error) = thread::Builder::new().spawn(move || reader.run()) {
            self.fail(cx, format!("cannot start a thread: {error}"));
        }
    }

    fn on_message(&mut self, cx: &mut Context<Self>, _: ConnId, message: &[u8]) {
        self.note_arrival(cx);
        let end: &[u8] = if self.raw { b"" } else { b"\n" };
        // Standard output may block, and nothing is read meanwhile: the peer has to wait as we do.
        if let Err(error) = self.out.write_all(message).and_then(|()| self.out.write_all(end)) {
            return self.stop_printing(cx, &error);
        }
        if !mem::replace(&mut self.unprinted, true) {
            cx.after(Duration::ZERO, PRINT);
        }
    }

    fn on_writable(&mut self, cx: &mut Context<Self>, _: ConnId) {
        self.let_reader_go_on(cx);
    }

    fn on_timer(&mut self, cx: &mut Context<Self>, timer: Timer) {
        match timer.key {
            // All that one turn brings is printed at once.
            PRINT => self.print(cx),
            _ => self.end_if_quiet(cx),
        }
    }

    fn on_close(&mut self, cx: &mut Context<Self>, _: ConnId, reason: CloseReason, (): ()) {
        self.input = None;
        self.print(cx);
        match reason {
            CloseReason::Peer { truncated: true } => {
                log::warn!("{} has ended the stream inside a frame", self.address);
                end(cx);
            }
            CloseReason::Peer { .. } | CloseReason::Shutdown => end(cx),
            CloseReason::Reset => self.fail(cx, format!("{} has reset the connection", self.address)),
            other => self.fail(cx, format!("the connection to {} is lost: {other}", self.address)),
        }
    }
}

impl<C: ByteCodec + 'static> Client<C> {
    /// Ends the program with exit status 1. The first cause is the one that is told.
    fn fail(&mut self, cx: &mut Context<Self>, what: String) {
        if self.outcome.is_ok() {
            self.outcome = Err(what);
        }
        end(cx);
    }

    /// Sends what the reading thread has read: whole lines, or anything at all in raw.
    fn send_lines(&mut self, cx: &mut Context<Self>, conn: ConnId, input: &[u8]) {
        if self.raw {
            cx.send(conn, input);
        } else {
            let input = input.strip_suffix(b"\n").unwrap_or(input);
            for line in input.split(|byte| *byte == b'\n') {
                self.lines += 1;
                if let Sent::Dropped(DropReason::Refused(error)) = cx.send(conn, line) {
                    return self.fail(cx, format!("line {} cannot be sent: {error}", self.lines));
                }
            }
        }
        self.let_reader_go_on(cx);
    }

    /// Lets the reading thread read on, unless too much waits: then `on_writable` does.
    fn let_reader_go_on(&mut self, cx: &mut Context<Self>) {
        if self.queued(cx) > cx.limits().high_mark {
            return;
        }
        if let Some(input) = &self.input {
            // It may have ended by itself.
            let _ = input.send(());
        }
    }

    fn queued(&self, cx: &mut Context<Self>) -> usize {
        cx.connections().first().copied().map_or(0, |conn| cx.queued(conn))
    }

    fn end_input(&mut self, cx: &mut Context<Self>) {
        self.quiet = Some(cx.now());
        self.end_if_quiet(cx);
    }

    fn note_arrival(&mut self, cx: &Context<Self>) {
        if self.quiet.is_some() {
            self.quiet = Some(cx.now());
            self.bytes_in = cx.stats().bytes_in;
        }
    }

    /// Ends the program if all is handed over and nothing has arrived for long enough since.
    fn end_if_quiet(&mut self, cx: &mut Context<Self>) {
        let queued = self.queued(cx) > 0;
        // A frame that is on its way has not arrived, but its bytes have.
        if queued || cx.stats().bytes_in != self.bytes_in {
            self.note_arrival(cx);
        }
        let Some(since) = self.quiet else { return };
        let quiet = cx.now().saturating_duration_since(since);
        if quiet >= self.wait && !queued {
            end(cx);
        } else {
            cx.after(self.wait.saturating_sub(quiet).max(LOOK_EVERY), WAITED);
        }
    }

    fn print(&mut self, cx: &mut Context<Self>) {
        self.unprinted = false;
        if let Err(error) = self.out.flush() {
            self.stop_printing(cx, &error);
        }
    }

    /// Nobody reads what we print: that is an end like any other, and no error.
    fn stop_printing(&mut self, cx: &mut Context<Self>, error: &io::Error) {
        if error.kind() == io::ErrorKind::BrokenPipe {
            end(cx);
        } else {
            self.fail(cx, format!("cannot print: {error}"));
        }
    }
}

/// Ends the program, in order: a second request to shut down would cut what the first one still sends.
fn end<C: ByteCodec + 'static>(cx: &mut Context<Client<C>>) {
    if !cx.is_shutting_down() {
        cx.shutdown();
    }
}

/// The thread that reads standard input.
struct InputReader<C: ByteCodec + 'static> {
    handle: Handle<Client<C>>,
    conn: ConnId,
    go_on: Receiver<()>,
    raw: bool,
    longest: usize,
}

impl<C: ByteCodec + 'static> InputReader<C> {
    fn run(self) {
        const CHUNK: usize = 64 * 1024;
        let mut stdin = io::stdin().lock();
        let mut pending = Vec::new();
        loop {
            let had = pending.len();
            pending.resize(had + CHUNK, 0);
            let read = stdin.read(&mut pending[had..]);
            pending.truncate(had + read.as_ref().map_or(0, |n| *n));
            let n = match read {
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let what = format!("cannot read standard input: {error}");
                    // Nobody is left to be told when the reactor is gone.
                    let _ = self.handle.run(move |client, cx| client.fail(cx, what));
                    return;
                }
            };
            let last_lf = pending[had..].iter().rposition(|byte| *byte == b'\n');
            let whole = match last_lf {
                _ if n == 0 || self.raw => pending.len(),
                Some(at) => had + at + 1,
                // Too long already: it will be refused as it is.
                None if pending.len() > self.longest => pending.len(),
                None => continue,
            };
            let rest = pending.split_off(whole);
            let lines = mem::replace(&mut pending, rest);
            if !lines.is_empty() && !self.hand_over(lines) {
                return;
            }
            if n == 0 {
                let _ = self.handle.run(Client::end_input);
                return;
            }
        }
    }

    /// Hands lines over, and waits until there is room for more. False when there is no use in going on.
    fn hand_over(&self, lines: Vec<u8>) -> bool {
        let conn = self.conn;
        let queued = self.handle.run(move |client, cx| client.send_lines(cx, conn, &lines));
        queued.is_ok() && self.go_on.recv().is_ok()
    }
}
