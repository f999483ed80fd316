//! At most one line a second for each kind of warning: a peer or a lack of descriptors must not fill a disk.

use std::time::{Duration, Instant};

const APART: Duration = Duration::from_secs(1);

/// When each kind of warning was last written.
#[derive(Debug, Default)]
pub(super) struct LogGate {
    last: Vec<(&'static str, Instant)>,
}

impl LogGate {
    /// Whether a warning of that kind may be written now.
    pub(super) fn opens(&mut self, kind: &'static str, now: Instant) -> bool {
        match self.last.iter_mut().find(|(name, _)| *name == kind) {
            None => self.last.push((kind, now)),
            Some((_, last)) if now.saturating_duration_since(*last) >= APART => *last = now,
            Some(_) => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_for_each_kind() {
        let now = crate::net::clock::now();
        let mut gate = LogGate::default();
        assert!(gate.opens("a", now));
        assert!(!gate.opens("a", now + Duration::from_millis(999)));
        assert!(gate.opens("b", now));
        assert!(gate.opens("a", now + Duration::from_millis(1000)));
    }
}
