//! What an error of `accept` means for the loop. Reads and writes are judged in `io.rs`, connects in `stream.rs`.

use std::io;

/// What to do after `accept` has answered an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AcceptVerdict {
    /// The queue is empty; an event will tell of the next client.
    Empty,
    /// A signal has come between: nothing is wrong with anybody, and nothing is to be counted.
    Again,
    /// That client is gone, or was refused by the system: the next one may be fine.
    Next,
    /// The machine has no descriptors or no memory, or something unknown is wrong: wait a little, and come back unasked.
    Pause,
}

/// The verdict on an error of `accept`, after accept(2): errors of a connection that died in the queue are passed on by
/// Linux and say nothing about the listener. All that is not known to be harmless pauses the listener, so that no error
/// can make the loop spin.
pub(crate) fn accept_verdict(error: &io::Error) -> AcceptVerdict {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::WouldBlock => AcceptVerdict::Empty,
        Kind::Interrupted => AcceptVerdict::Again,
        Kind::ConnectionAborted
        | Kind::ConnectionReset
        | Kind::HostUnreachable
        | Kind::NetworkUnreachable
        | Kind::NetworkDown
        | Kind::TimedOut => AcceptVerdict::Next,
        _ if is_protocol_error(error) => AcceptVerdict::Next,
        _ => AcceptVerdict::Pause,
    }
}

/// `EPROTO` and its like, for which the standard library has no kind.
fn is_protocol_error(error: &io::Error) -> bool {
    let codes: &[i32] = if cfg!(any(target_os = "linux", target_os = "android")) {
        &[71, 92, 95, 112] // EPROTO, ENOPROTOOPT, EOPNOTSUPP, EHOSTDOWN
    } else if cfg!(target_vendor = "apple") {
        &[100, 42, 102, 64]
    } else {
        &[]
    };
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_of_accept_has_its_verdict() {
        let kinds = [
            (io::ErrorKind::WouldBlock, AcceptVerdict::Empty),
            (io::ErrorKind::Interrupted, AcceptVerdict::Again),
            (io::ErrorKind::ConnectionAborted, AcceptVerdict::Next),
            (io::ErrorKind::ConnectionReset, AcceptVerdict::Next),
            (io::ErrorKind::PermissionDenied, AcceptVerdict::Pause),
            (io::ErrorKind::OutOfMemory, AcceptVerdict::Pause),
            (io::ErrorKind::InvalidInput, AcceptVerdict::Pause),
            (io::ErrorKind::Other, AcceptVerdict::Pause),
        ];
        for (kind, verdict) in kinds {
            assert_eq!(accept_verdict(&kind.into()), verdict, "{kind:?}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn each_code_of_accept_has_its_verdict() {
        let codes = [
            (24, AcceptVerdict::Pause),  // EMFILE
            (23, AcceptVerdict::Pause),  // ENFILE
            (105, AcceptVerdict::Pause), // ENOBUFS
            (12, AcceptVerdict::Pause),  // ENOMEM
            (22, AcceptVerdict::Pause),  // EINVAL
            (103, AcceptVerdict::Next),  // ECONNABORTED
            (71, AcceptVerdict::Next),   // EPROTO
            (100, AcceptVerdict::Next),  // ENETDOWN
            (1, AcceptVerdict::Pause),   // EPERM: a security module refuses before it looks at the queue
            (4, AcceptVerdict::Again),   // EINTR
            (11, AcceptVerdict::Empty),  // EAGAIN
        ];
        for (code, verdict) in codes {
            assert_eq!(accept_verdict(&io::Error::from_raw_os_error(code)), verdict, "{code}");
        }
    }
}
