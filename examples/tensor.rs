//! Arrays of float32 over the wire and back, bit for bit.
//!
//! ```text
//! cargo run --example tensor -- serve --listen 127.0.0.1:7000
//! cargo run --example tensor -- send localhost:7000 1.5 NaN -inf -0.0
//! ```
//!
//! The server is a reactor, like the others. The sender is a [`Channel`]: it sends from this thread, and receives on another
//! one, with a callback. Neither copies an array that lies in memory as it does on the wire.

mod common;

use std::env;
use std::io::{self, BufWriter, Write};
use std::marker::PhantomData;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use clap::{Args, Parser};
use common::floats::{self, Floats};
use common::framing::{FramingOptions, with_codec};
use common::server::{self, ServerOptions};
use common::{failure, start_log, values};
use mainspring::client::{Builder, Channel, Ended, Event};
use mainspring::codec::ByteCodec;
use mainspring::{ConnId, Context, Handler, Timer};

/// Sends arrays of float32 over the wire and back, bit for bit
#[derive(Debug, Parser)]
#[command(name = "tensor", version)]
enum Options {
    /// Serve: send each array back to where it came from
    Serve(ServerOptions),
    /// Send one array, and print what comes back, one value a line
    Send(SendOptions),
}

#[derive(Debug, Args)]
struct SendOptions {
    /// Where to connect to: HOST:PORT, [V6]:PORT or unix:PATH. All addresses of a name are tried in turn
    #[arg(value_name = "ADDR", value_parser = values::address)]
    address: String,
    /// The values: 1, -2.5e3, NaN, inf, -0.0. None at all is an empty array
    #[arg(value_name = "VALUE", value_parser = floats::value)]
    values: Vec<f32>,
    /// Send a ramp of so many values instead: 0, 1, 2 and so on
    #[arg(long, value_name = "N", conflicts_with = "values")]
    count: Option<u64>,
    #[command(flatten)]
    framing: FramingOptions,
    /// A connection that is not there within this time is an error
    #[arg(long, value_name = "DUR", default_value = "5s", value_parser = values::positive_duration)]
    timeout: Duration,
    /// An array that is not back within this time is an error
    #[arg(long, value_name = "DUR", default_value = "1m", value_parser = values::positive_duration)]
    wait: Duration,
}

fn main() -> ExitCode {
    let arguments =
        env::args_os().map(|text| text.into_string().map_or_else(|os| os, |t| floats::shield(t).into()));
    match Options::parse_from(arguments) {
        Options::Serve(options) => with_codec!(options.framing, |codec| {
            server::run(&options, Floats(codec), |_| Serve { codec: PhantomData })
        }),
        Options::Send(options) => {
            start_log();
            let sent = with_codec!(options.framing, |codec| send(&options, Floats(codec)));
            sent.map_or_else(failure, |()| ExitCode::SUCCESS)
        }
    }
}

// ---- serve ---------------------------------------------------------------------------------------------------------

/// An array goes back as the bytes it came in: no value is looked at, so none can change. That it consists of whole values
/// the codec has seen to.
struct Serve<C> {
    codec: PhantomData<C>,
}

impl<C: ByteCodec> Handler for Serve<C> {
    type Codec = C;
    type Session = ();

    fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, array: &[u8]) {
        cx.send(from, array);
    }

    fn on_timer(&mut self, cx: &mut Context<Self>, timer: Timer) {
        server::on_timer(cx, timer);
    }
}

// ---- send ----------------------------------------------------------------------------------------------------------

fn send<C: ByteCodec + Send + 'static>(options: &SendOptions, codec: C) -> Result<(), String> {
    let array = array(options)?;
    let client = Builder::new()
        .connect_timeout(Some(options.timeout))
        .write_timeout(Some(options.wait))
        .connect(&options.address, codec)
        .map_err(|error| error.to_string())?;

    let array = Arc::new(array);
    let sent = Arc::clone(&array);
    let address = options.address.clone();
    let (tells, told) = mpsc::channel();
    let mut tells = Some(tells);
    let channel = Channel::new(client, move |_, event| {
        // One answer is all that is waited for.
        let Some(tells) = tells.take() else { return };
        let outcome = match event {
            Event::Message(returned) => {
                let _ = tells.send(Told::Arrived);
                print(returned).and_then(|()| compare(&sent, returned))
            }
            Event::Ended(Ended::Lost(error)) => Err(error.to_string()),
            Event::Ended(_) => Err(format!("{address} has closed the connection before the array came back")),
        };
        // Somebody waits, unless that took too long.
        let _ = tells.send(Told::Outcome(outcome));
    })
    .map_err(|error| error.to_string())?;

    channel.send(&floats::to_wire(&array)).map_err(|error| error.to_string())?;
    let outcome = match told.recv_timeout(options.wait) {
        // To print it may take any time.
        Ok(Told::Arrived) => told.iter().find_map(Told::outcome).unwrap_or_else(no_outcome),
        Ok(Told::Outcome(outcome)) => outcome,
        Err(RecvTimeoutError::Timeout) => Err(format!("{} has sent no array back in time", options.address)),
        Err(RecvTimeoutError::Disconnected) => no_outcome(),
    };
    match outcome {
        Ok(()) => channel.close().map_err(|error| error.to_string()),
        // There is nothing that a peer which does not answer should still get.
        Err(what) => {
            channel.abort();
            Err(what)
        }
    }
}

/// What the callback tells this thread.
enum Told {
    /// An array is here, and is being looked at.
    Arrived,
    Outcome(Result<(), String>),
}

impl Told {
    fn outcome(self) -> Option<Result<(), String>> {
        if let Told::Outcome(outcome) = self { Some(outcome) } else { None }
    }
}

fn no_outcome() -> Result<(), String> {
    Err("the receiving thread has ended".to_owned())
}

/// What is to be sent.
fn array(options: &SendOptions) -> Result<Vec<f32>, String> {
    let Some(count) = options.count else { return Ok(options.values.clone()) };
    let longest = options.framing.longest() / floats::WIDTH as u64;
    if count > longest {
        return Err(format!("{count} values are more than a frame can hold, which is {longest}"));
    }
    Ok((0..count).map(|number| number as f32).collect())
}

/// Prints the values, one a line. A reader that is gone is no reason to fail.
fn print(returned: &[u8]) -> Result<(), String> {
    let values = floats::from_wire(returned).ok_or("what came back are no whole values")?;
    let mut out = BufWriter::with_capacity(64 * 1024, io::stdout().lock());
    let printed = values.iter().try_for_each(|value| writeln!(out, "{value:?}")).and_then(|()| out.flush());
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(format!("cannot print: {error}")),
        _ => Ok(()),
    }
}

/// Compares the bytes, so that no value is touched: two NaN are never equal, and two zeros always are.
fn compare(sent: &[f32], returned: &[u8]) -> Result<(), String> {
    let sent = floats::to_wire(sent);
    if *sent == *returned {
        return Ok(());
    }
    let count = |bytes: &[u8]| bytes.len() / floats::WIDTH;
    if sent.len() != returned.len() {
        return Err(format!("{} values came back where {} were sent", count(returned), count(&sent)));
    }
    let at = sent.iter().zip(returned).take_while(|(a, b)| a == b).count() / floats::WIDTH;
    let bits = |bytes: &[u8]| {
        bytes[at * floats::WIDTH..]
            .iter()
            .take(floats::WIDTH)
            .rev()
            .fold(0, |bits, byte| bits << 8 | u32::from(*byte))
    };
    Err(format!(
        "value {} came back as {:#010x} where {:#010x} was sent",
        at + 1,
        bits(returned),
        bits(&sent)
    ))
}
