//! What goes wrong for a blocking client: at which step, on what address, after how long, and why.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::address::Address;
use crate::codec::{EncodeError, FrameError};

/// What a client was doing when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// Looking a name up.
    Resolve,
    /// Connecting, or making the socket ready for it.
    Connect,
    /// Sending, which includes encoding, flushing, and ending one's own side.
    Send,
    /// Receiving: the connection broke, or nothing whole came in time.
    Receive,
    /// Making sense of what was received: the peer broke the framing, or ended inside a frame.
    Frame,
}

/// Why a client could not do what it was asked: the step, the address, the time it took, and the cause.
///
/// The cause is the [`source`](std::error::Error::source). What can be asked of it without digging is a method.
#[derive(Debug)]
pub struct Error {
    step: Step,
    address: Box<str>,
    after: Duration,
    cause: Cause,
}

/// One address of a name that was tried in vain.
#[derive(Debug)]
#[non_exhaustive]
pub struct Attempt {
    /// The address.
    pub address: Address,
    /// Why not. [`io::ErrorKind::TimedOut`] when its share of the time was over.
    pub error: io::Error,
}

#[derive(Debug)]
enum Cause {
    Io(io::Error),
    /// As `Io`, inside a message that is sent: what is left of it goes first.
    Kept(io::Error),
    /// Never empty.
    Tried(Vec<Attempt>),
    Encode(EncodeError),
    Frame(FrameError),
}

impl Error {
    pub(super) fn io(step: Step, address: impl fmt::Display, after: Duration, error: io::Error) -> Error {
        Error::new(step, address, after, Cause::Io(error))
    }

    /// A send has run out of time, and the message goes out later.
    pub(super) fn kept(address: impl fmt::Display, after: Duration, error: io::Error) -> Error {
        Error::new(Step::Send, address, after, Cause::Kept(error))
    }

    pub(super) fn tried(address: impl fmt::Display, after: Duration, attempts: Vec<Attempt>) -> Error {
        if attempts.is_empty() {
            let none = io::Error::new(io::ErrorKind::NotFound, "there is no address to connect to");
            return Error::io(Step::Connect, address, after, none);
        }
        Error::new(Step::Connect, address, after, Cause::Tried(attempts))
    }

    pub(super) fn encode(address: impl fmt::Display, error: EncodeError) -> Error {
        Error::new(Step::Send, address, Duration::ZERO, Cause::Encode(error))
    }

    pub(super) fn frame(address: impl fmt::Display, after: Duration, error: FrameError) -> Error {
        Error::new(Step::Frame, address, after, Cause::Frame(error))
    }

    fn new(step: Step, address: impl fmt::Display, after: Duration, cause: Cause) -> Error {
        Error { step, address: address.to_string().into(), after, cause }
    }

    /// The step that failed.
    pub fn step(&self) -> Step {
        self.step
    }

    /// The name or the address, as it was given for [`Resolve`](Step::Resolve) and [`Connect`](Step::Connect); the peer's
    /// address for the others.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// How long the call had taken by then.
    pub fn after(&self) -> Duration {
        self.after
    }

    /// Whether time was up: the connection may be fine, and a later call may succeed. After a send see
    /// [`is_kept`](Error::is_kept).
    pub fn is_timeout(&self) -> bool {
        match &self.cause {
            Cause::Io(error) | Cause::Kept(error) => is_ours(error),
            Cause::Tried(attempts) => attempts.iter().any(|a| a.error.kind() == io::ErrorKind::TimedOut),
            Cause::Encode(_) | Cause::Frame(_) => false,
        }
    }

    /// After a send that ran out of time: whether the message goes out all the same. Once its first byte has gone, the rest
    /// has to follow: it is kept, and goes before anything else. **To send it again would send it twice.** When this is
    /// false, nothing of the message was sent, and nothing is kept.
    pub fn is_kept(&self) -> bool {
        matches!(self.cause, Cause::Kept(_))
    }

    /// The kind of the system's error; none when the fault is in a message or a frame. Of several addresses that were
    /// tried, the last.
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        match &self.cause {
            Cause::Io(error) | Cause::Kept(error) => Some(error.kind()),
            Cause::Tried(attempts) => attempts.last().map(|attempt| attempt.error.kind()),
            Cause::Encode(_) | Cause::Frame(_) => None,
        }
    }

    /// What the peer did wrong, when it broke the framing or ended inside a frame.
    pub fn frame_error(&self) -> Option<&FrameError> {
        if let Cause::Frame(error) = &self.cause { Some(error) } else { None }
    }

    /// Why the framing cannot say a message that was to be sent.
    pub fn encode_error(&self) -> Option<&EncodeError> {
        if let Cause::Encode(error) = &self.cause { Some(error) } else { None }
    }

    /// The addresses that were tried, in order, and why each did not do. Empty unless connecting failed.
    pub fn attempts(&self) -> &[Attempt] {
        if let Cause::Tried(attempts) = &self.cause { attempts } else { &[] }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Error { step, address, after, cause } = self;
        match step {
            Step::Resolve => write!(f, "cannot resolve \"{address}\"")?,
            Step::Connect => write!(f, "cannot connect to {address}")?,
            Step::Send => write!(f, "cannot send to {address}")?,
            Step::Receive => write!(f, "cannot receive from {address}")?,
            Step::Frame => write!(f, "{address} sent no proper frame")?,
        }
        if *after >= SHOWN_FROM {
            write!(f, " after {after:.1?}")?;
        }
        match cause {
            Cause::Io(error) => write!(f, ": {}", text(error)),
            Cause::Kept(error) => write!(f, ": {}; the rest of the message is kept", text(error)),
            Cause::Tried(attempts) => write_attempts(f, address, attempts),
            Cause::Encode(error) => write!(f, ": {error}"),
            Cause::Frame(error) => write!(f, ": {error}"),
        }
    }
}

/// Shorter times are not worth a word.
const SHOWN_FROM: Duration = Duration::from_millis(1);

fn write_attempts(f: &mut fmt::Formatter<'_>, name: &str, attempts: &[Attempt]) -> fmt::Result {
    for (at, Attempt { address, error }) in attempts.iter().enumerate() {
        f.write_str(if at == 0 { ": " } else { "; " })?;
        let address = address.to_string();
        if address == name {
            f.write_str(&text(error))?;
        } else {
            write!(f, "{address}: {}", text(error))?;
        }
    }
    Ok(())
}

/// A time limit of ours is no error of the system's, and has no good text there.
fn text(error: &io::Error) -> String {
    if is_ours(error) { "not in time".to_owned() } else { error.to_string() }
}

/// Whether a time limit of ours has passed. TCP itself may give up on a peer, and that is the end of a connection.
fn is_ours(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::TimedOut && error.raw_os_error().is_none() && error.get_ref().is_none()
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            Cause::Io(error) | Cause::Kept(error) => Some(error),
            Cause::Tried(attempts) => attempts.last().map(|attempt| &attempt.error as _),
            Cause::Encode(error) => Some(error),
            Cause::Frame(error) => Some(error),
        }
    }
}

/// The same error once more: one that ended a connection is told to each who asks.
pub(super) fn again(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None if error.get_ref().is_none() => error.kind().into(),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn an_error_says_step_address_time_and_cause() {
        let refused = || io::Error::from_raw_os_error(if cfg!(target_os = "linux") { 111 } else { 61 });
        let six: Address = "[::1]:7000".parse().unwrap();
        let four: Address = "127.0.0.1:7000".parse().unwrap();
        let attempts = vec![
            Attempt { address: six, error: refused() },
            Attempt { address: four.clone(), error: io::ErrorKind::TimedOut.into() },
        ];
        let error = Error::tried("localhost:7000", Duration::from_millis(1200), attempts);
        let text = error.to_string();
        assert!(text.starts_with("cannot connect to localhost:7000 after 1.2s: [::1]:7000: "), "{text}");
        assert!(text.ends_with("; 127.0.0.1:7000: not in time"), "{text}");
        assert_eq!((error.step(), error.is_timeout(), error.attempts().len()), (Step::Connect, true, 2));
        assert!(error.source().is_some());

        let one = vec![Attempt { address: four.clone(), error: io::Error::other("why") }];
        let error = Error::tried(four, Duration::ZERO, one);
        assert_eq!(error.to_string(), "cannot connect to 127.0.0.1:7000: why");
    }

    #[test]
    fn no_address_at_all_is_an_error_too() {
        let error = Error::tried("nowhere", Duration::ZERO, Vec::new());
        assert_eq!(error.io_kind(), Some(io::ErrorKind::NotFound));
    }

    #[test]
    fn an_error_can_be_told_again() {
        for error in [
            io::Error::from_raw_os_error(104),
            io::ErrorKind::TimedOut.into(),
            io::Error::new(io::ErrorKind::BrokenPipe, "closed"),
        ] {
            let copy = again(&error);
            assert_eq!((copy.kind(), copy.to_string()), (error.kind(), error.to_string()));
        }
    }

    /// It is in the result of every call.
    #[test]
    fn an_error_is_small() {
        assert!(size_of::<Error>() <= 104, "{}", size_of::<Error>());
    }
}
