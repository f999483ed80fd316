//! The one place that asks for the time.

use std::time::Instant;

/// The present.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
