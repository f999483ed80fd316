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

/// Why a dial failed. It is given to `on_dial_failed`, once, and ends the dial. Its text is one line.
#[derive(Debug)]
#[non_exhaustive]
pub enum DialError {
    /// The text is neither an address nor a name with a port.
    Malformed {
        /// The text.
        text: String,
    },
    /// The name could not be looked up, or has no address.
    Resolve {
        /// Host and port.
        name: String,
        /// What the resolver says.
        source: io::Error,
    },
    /// Every address was tried, and none has worked.
    Failed {
        /// In the order they failed.
        attempts: Vec<FailedAttempt>,
    },
    /// No answer within the dial's time limit.
    TimedOut {
        /// Those that had failed, then those without an answer. Empty while the name was still being looked up.
        attempts: Vec<FailedAttempt>,
    },
    /// The dial was closed, aborted or overtaken by a shutdown before it had an answer.
    Cancelled,
    /// More was sent to it while it had no answer than [`Limits::write_limit`](crate::Limits::write_limit) or
    /// [`Limits::memory_limit`](crate::Limits::memory_limit) lets wait.
    Overflow,
    /// An adopted socket was broken before its `on_open`.
    Io(io::Error),
    /// The address has answered, and TLS could not be agreed on: the certificate is not trusted or of another name, the peer
    /// does not speak TLS or wants a certificate of ours, or it did not answer in time. No other address is tried.
    Tls {
        /// The address.
        address: Address,
        /// What went wrong. The kind is `InvalidData` where it was TLS, the system's where it was the socket.
        error: io::Error,
    },
}

impl DialError {
    /// The addresses that were tried, and what has become of each.
    pub fn attempts(&self) -> &[FailedAttempt] {
        match self {
            DialError::Failed { attempts } | DialError::TimedOut { attempts } => attempts,
            _ => &[],
        }
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DialError::Malformed { text } => {
                write!(f, "\"{text}\" is no address: HOST:PORT, [IPV6]:PORT or unix:PATH is")
            }
            DialError::Resolve { name, source } => write!(f, "cannot resolve \"{name}\": {source}"),
            DialError::Failed { attempts } if attempts.is_empty() => {
                f.write_str("there is no address to dial")
            }
            DialError::Failed { attempts } => write_list(f, attempts),
            DialError::TimedOut { attempts } => {
                f.write_str("no answer in time: ")?;
                if attempts.is_empty() {
                    return f.write_str("the name was still being looked up");
                }
                write_list(f, attempts)
            }
            DialError::Cancelled => f.write_str("cancelled"),
            DialError::Overflow => f.write_str("more waited to be sent to it than may wait"),
            DialError::Io(error) => error.fmt(f),
            DialError::Tls { address, error } => write!(f, "TLS with {address}: {error}"),
        }
    }
}

fn write_list(f: &mut fmt::Formatter<'_>, attempts: &[FailedAttempt]) -> fmt::Result {
    for (n, attempt) in attempts.iter().enumerate() {
        if n > 0 {
            f.write_str("; ")?;
        }
        write!(f, "{attempt}")?;
    }
    Ok(())
}

impl std::error::Error for DialError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            DialError::Io(error)
            | DialError::Resolve { source: error, .. }
            | DialError::Tls { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// An address that was dialed in vain.
#[derive(Debug)]
#[non_exhaustive]
pub struct FailedAttempt {
    /// The address.
    pub address: Address,
    /// What has become of it.
    pub error: AttemptError,
}

impl fmt::Display for FailedAttempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.address, self.error)
    }
}

/// Why dialing one address has brought nothing.
#[derive(Debug)]
#[non_exhaustive]
pub enum AttemptError {
    /// The system's answer: refused, unreachable, no descriptors.
    Io(io::Error),
    /// The socket was connected to itself, as can happen with a port of one's own machine that nobody listens on. It was
    /// closed by a reset, for it would have held that port.
    Itself,
    /// There was no answer by the time the dial had to end.
    Unanswered,
}

impl AttemptError {
    /// The kind of it, as the system would say it: a socket that met itself was refused.
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            AttemptError::Io(error) => error.kind(),
            AttemptError::Itself => io::ErrorKind::ConnectionRefused,
            AttemptError::Unanswered => io::ErrorKind::TimedOut,
        }
    }
}

impl fmt::Display for AttemptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttemptError::Io(error) => error.fmt(f),
            AttemptError::Itself => f.write_str("refused: nobody listens there, the socket had met itself"),
            AttemptError::Unanswered => f.write_str("no answer"),
        }
    }
}

impl std::error::Error for AttemptError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            AttemptError::Io(error) => Some(error),
            AttemptError::Itself | AttemptError::Unanswered => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_dial_says_each_address_and_why_on_one_line() {
        let attempt = |address: &str, error| FailedAttempt { address: address.parse().unwrap(), error };
        let attempts = || {
            vec![
                attempt("[::1]:7", AttemptError::Io(io::ErrorKind::ConnectionRefused.into())),
                attempt("127.0.0.1:7", AttemptError::Unanswered),
            ]
        };
        let failed = DialError::Failed { attempts: attempts() };
        assert_eq!(failed.to_string(), "[::1]:7: connection refused; 127.0.0.1:7: no answer");
        let timed_out = DialError::TimedOut { attempts: attempts() };
        assert!(timed_out.to_string().starts_with("no answer in time: [::1]:7: "));
        let kinds: Vec<_> = timed_out.attempts().iter().map(|attempt| attempt.error.kind()).collect();
        assert_eq!(kinds, [io::ErrorKind::ConnectionRefused, io::ErrorKind::TimedOut]);
        assert!(DialError::TimedOut { attempts: Vec::new() }.to_string().contains("looked up"));
    }
}
