//! Errors of the machine and of the caller. What a peer does wrong is a [`CloseReason`](crate::CloseReason) instead.

use std::fmt;
use std::io;

use crate::address::Address;

/// Why a reactor could not do what it was asked.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The system's poller failed. Nothing can be waited for.
    Poll(io::Error),
    /// An address could not be listened on: it is in use, not ours, or not permitted.
    Listen {
        /// The address.
        address: Address,
        /// What the system says.
        source: io::Error,
    },
    /// A name could not be looked up.
    Resolve {
        /// The text that was to be an address.
        name: String,
        /// What the resolver says.
        source: io::Error,
    },
    /// A socket made elsewhere could not be taken in.
    Adopt(io::Error),
    /// [`Limits::connections_max`](crate::Limits::connections_max) is more than the process's descriptor limit can hold.
    Descriptors {
        /// Connections asked for.
        wanted: usize,
        /// Connections that can be held.
        held: usize,
        /// The limit on descriptors.
        limit: u64,
    },
    /// A thread could not be started.
    Thread(io::Error),
    /// Settings that contradict each other. The text says which.
    Config(&'static str),
    /// The handler panicked where no connection was to blame, and the reactor has shut down in order, see
    /// [`OnPanic::Isolate`](crate::OnPanic::Isolate). What the panic said.
    Panicked(String),
}

impl Error {
    pub(crate) fn resolve(name: &str, source: io::Error) -> Error {
        Error::Resolve { name: name.to_owned(), source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Poll(source) => write!(f, "cannot wait for events: {source}"),
            Error::Listen { address, source } => write!(f, "cannot listen on {address}: {source}"),
            Error::Resolve { name, source } => write!(f, "cannot resolve \"{name}\": {source}"),
            Error::Adopt(source) => write!(f, "cannot adopt the socket: {source}"),
            Error::Descriptors { wanted, held, limit } => write!(
                f,
                "{wanted} connections cannot be held: this process may have {limit} descriptors, which are enough for {held}; \
                 raise the limit (ulimit -n) or ask for fewer"
            ),
            Error::Thread(source) => write!(f, "cannot start a thread: {source}"),
            Error::Config(what) => f.write_str(what),
            Error::Panicked(what) => write!(f, "the handler panicked: {what}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Poll(source)
            | Error::Listen { source, .. }
            | Error::Resolve { source, .. }
            | Error::Adopt(source)
            | Error::Thread(source) => Some(source),
            Error::Descriptors { .. } | Error::Config(_) | Error::Panicked(_) => None,
        }
    }
}

/// Why a dial failed. It is given to `on_dial_failed`, once, and ends the dial.
#[derive(Debug)]
#[non_exhaustive]
pub enum DialError {
    /// The system's answer: refused, unreachable, no descriptors, or connected to itself.
    Io(io::Error),
    /// No answer within the dial's time limit.
    TimedOut,
    /// The dial was closed, aborted or overtaken by a shutdown before it had an answer.
    Cancelled,
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DialError::Io(error) => error.fmt(f),
            DialError::TimedOut => f.write_str("no answer in time"),
            DialError::Cancelled => f.write_str("cancelled"),
        }
    }
}

impl std::error::Error for DialError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            DialError::Io(error) => Some(error),
            DialError::TimedOut | DialError::Cancelled => None,
        }
    }
}
