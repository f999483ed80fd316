//! Memory for bytes on their way: the free list that buffers come from, and the queue of what waits to be written.
//!
//! Pure: slices and vectors, no socket, no time, no codec.

mod pool;
mod write_queue;

pub(crate) use pool::Pool;
pub(crate) use write_queue::{Label, Ledger, Payload, SLICES, Shared, WriteQueue};
