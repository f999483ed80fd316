//! Descriptors: how many the process may have, and one kept for when there are no others.

use std::io;

use socket2::{Domain, Socket, Type};

/// How many descriptors this process may have open, where the system has such a limit: the soft `RLIMIT_NOFILE`, getrlimit(2).
pub(crate) fn descriptor_limit() -> Option<u64> {
    #[cfg(unix)]
    let limit = rlimit::Resource::NOFILE.get_soft().ok();
    #[cfg(not(unix))]
    let limit = None;
    limit
}

/// Whether an error says that there are no descriptors: `EMFILE` for the process, `ENFILE` for the machine.
pub(crate) fn is_lack_of_descriptors(error: &io::Error) -> bool {
    let codes: &[i32] = if cfg!(unix) {
        &[23, 24]
    } else if cfg!(windows) {
        &[10024] // WSAEMFILE
    } else {
        &[]
    };
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// A descriptor that is given up when there are no others, so that a client can be taken from the queue and turned away.
#[derive(Debug)]
pub(crate) struct Reserve(Option<Socket>);

impl Reserve {
    /// Nothing is in reserve when there is none left already.
    pub(crate) fn new() -> Reserve {
        let mut reserve = Reserve(None);
        reserve.refill();
        reserve
    }

    /// Gives it up. False when there was none.
    pub(crate) fn release(&mut self) -> bool {
        self.0.take().is_some()
    }

    pub(crate) fn refill(&mut self) {
        if self.0.is_none() {
            self.0 = Socket::new(Domain::IPV4, Type::DGRAM, None).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_given_up_once() {
        let mut reserve = Reserve::new();
        assert!(reserve.release());
        assert!(!reserve.release());
        reserve.refill();
        assert!(reserve.release());
    }

    #[test]
    #[cfg(unix)]
    fn the_limit_is_known() {
        assert!(descriptor_limit().is_some_and(|limit| limit > 0));
    }
}
