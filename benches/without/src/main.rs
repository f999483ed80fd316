//! What `benches/without/run` measures with: a server as the examples `echo` and `broadcast` are, loads for it, and both on one
//! thread in step, so that what a message costs can be counted. See docs/performance.md.
//!
//!     without scenarios                                  their names and what they are
//!     without count SCENARIO ROUNDS                      client and server in step on one thread
//!     without serve SCENARIO                             a server, says where it listens
//!     without load SCENARIO ADDR PROCESS SECONDS         loads the server that is this process
//!     without crowd ADDR N                               N idle connections, until standard input ends

mod count;
mod load;
mod scenario;

use std::env;
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;

use mainspring::codec::LengthPrefixed;
use mainspring::{ConnId, Context, Handler, Reactor, To};
use scenario::Scenario;

type Failure = Box<dyn Error>;

/// What the examples `echo` and `broadcast` do.
struct Server {
    everyone: bool,
}

impl Handler for Server {
    type Codec = LengthPrefixed;
    type Session = ();

    fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, message: &[u8]) {
        if self.everyone {
            cx.broadcast(To::All, message);
        } else {
            cx.send(from, message);
        }
    }
}

fn server(scenario: &Scenario) -> Result<Reactor<Server>, Failure> {
    let server = Server { everyone: scenario.is_broadcast() };
    Ok(Reactor::<Server>::builder().limits(scenario.limits()).build(server)?)
}

fn serve(scenario: &Scenario) -> Result<(), Failure> {
    let mut reactor = server(scenario)?;
    let listening = reactor.listen("127.0.0.1:0", LengthPrefixed::default())?;
    let mut out = io::stdout().lock();
    writeln!(out, "{}", listening.address)?;
    out.flush()?;
    Ok(reactor.run()?)
}

/// Connections that have said something once, and then nothing more.
fn crowd(address: &str, count: usize) -> Result<(), Failure> {
    let mut crowd = Vec::with_capacity(count);
    let hello = [0, 0, 0, 1, b'x'];
    for _ in 0..count {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(&hello)?;
        stream.read_exact(&mut [0; 5])?;
        crowd.push(stream);
    }
    println!("{count} are there");
    io::stdout().flush()?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn run(words: &[&str]) -> Result<(), Failure> {
    match words {
        ["scenarios"] => {
            for scenario in Scenario::all() {
                println!("{}\t{}", scenario.name, scenario.text());
            }
            Ok(())
        }
        ["count", name, rounds] => {
            println!("{}", count::count(&Scenario::named(name)?, rounds.parse()?)?);
            Ok(())
        }
        ["serve", name] => serve(&Scenario::named(name)?),
        ["load", name, address, process, seconds] => {
            println!("{}", load::load(&Scenario::named(name)?, address, process.parse()?, seconds.parse()?)?);
            Ok(())
        }
        ["crowd", address, count] => crowd(address, count.parse()?),
        ["--bench", ..] => {
            println!("benches/without/run measures with this; see docs/performance.md");
            Ok(())
        }
        // A test of the loads, in step.
        [] => Scenario::all().iter().filter(|scenario| scenario.is_small()).try_for_each(|scenario| {
            count::count(scenario, 1)?;
            println!("{}: as it should be", scenario.name);
            Ok(())
        }),
        _ => Err("scenarios, count, serve, load or crowd".into()),
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
