//! The time of day, as a header has it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Made once a second. The reactor's own time tells when, so that no reply asks the system.
pub(crate) struct Date {
    text: String,
    until: Option<Instant>,
}

impl Date {
    pub(crate) fn new() -> Date {
        Date { text: String::new(), until: None }
    }

    /// The date at this moment, which is never before the one asked about last.
    pub(crate) fn at(&mut self, now: Instant) -> &str {
        if self.until.is_none_or(|until| now >= until) {
            self.renew(now);
        }
        &self.text
    }

    #[expect(clippy::disallowed_methods, reason = "a reactor knows how late it is, and not what day")]
    fn renew(&mut self, now: Instant) {
        let today = SystemTime::now();
        self.text = httpdate::fmt_http_date(today);
        let into_second = today.duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
        self.until = Some(now + Duration::from_secs(1) - Duration::from_nanos(into_second.into()));
    }
}
