//! Why a pool did not end as it should.

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};

use crate::error::Error;
use crate::reactor::panic_text;

/// A reactor of a pool has failed. The others have shut down in order because of it, as far as they could.
#[derive(Debug)]
#[non_exhaustive]
pub struct PoolError {
    /// Which one, by index: the first, if more than one has failed.
    pub reactor: usize,
    /// What has happened to it.
    pub failure: PoolFailure,
}

/// What has happened to a reactor of a pool.
#[derive(Debug)]
#[non_exhaustive]
pub enum PoolFailure {
    /// It has panicked. What it said; [`PoolError::into_panic`] has the payload.
    Panicked(PanicPayload),
    /// It has ended with an error: its poller failed, or it shut down because of a panic
    /// ([`OnPanic::Isolate`](crate::OnPanic::Isolate)).
    Failed(Error),
    /// The system gave it no thread.
    NoThread(io::Error),
}

/// The payload of a panic. Behind a lock that nobody else has, so that the error can be shared among threads.
pub struct PanicPayload(Mutex<Box<dyn Any + Send>>);

impl PanicPayload {
    pub(super) fn new(payload: Box<dyn Any + Send>) -> PanicPayload {
        PanicPayload(Mutex::new(payload))
    }

    /// The payload itself.
    pub fn into_inner(self) -> Box<dyn Any + Send> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for PanicPayload {
    /// What the panic said.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let payload = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        f.write_str(&panic_text(&**payload))
    }
}

impl fmt::Debug for PanicPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl PoolError {
    /// The payload of the panic, to go on with it: `std::panic::resume_unwind`.
    ///
    /// # Errors
    /// It was no panic. The error comes back.
    pub fn into_panic(self) -> Result<Box<dyn Any + Send>, PoolError> {
        match self.failure {
            PoolFailure::Panicked(payload) => Ok(payload.into_inner()),
            failure => Err(PoolError { failure, ..self }),
        }
    }
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reactor = self.reactor;
        match &self.failure {
            PoolFailure::Panicked(payload) => write!(f, "reactor {reactor} panicked: {payload}"),
            PoolFailure::Failed(error) => write!(f, "reactor {reactor}: {error}"),
            PoolFailure::NoThread(error) => write!(f, "there is no thread for reactor {reactor}: {error}"),
        }
    }
}

impl std::error::Error for PoolError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.failure {
            PoolFailure::Panicked(_) => None,
            PoolFailure::Failed(error) => Some(error),
            PoolFailure::NoThread(error) => Some(error),
        }
    }
}
