//! A bar on a terminal that says how far the measurement is.

use std::io::{IsTerminal as _, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Often enough to be seen to move, and seldom enough to be of no weight.
const PERIOD: Duration = Duration::from_millis(200);

/// It stands on standard error, and only when that is a terminal.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    /// What was measured by the rounds before this one.
    before: Duration,
    begin: Option<Instant>,
}

impl Progress {
    /// Of something that takes so long.
    pub(crate) fn new(total: Duration) -> Progress {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(millis(total)), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{bar:40} {percent:>3} % {msg}");
            bar.set_style(style.expect("the template is right"));
            bar
        });
        Progress { bar, before: Duration::ZERO, begin: None }
    }

    /// The next round takes from here on; until then `total` was measured.
    pub(crate) fn next_round(&mut self, what: String, before: Duration) {
        self.before = before;
        if let Some(bar) = &self.bar {
            bar.set_message(what);
        }
    }

    /// Measuring begins. How often it is to be drawn, if at all.
    pub(crate) fn begin(&mut self, now: Instant) -> Option<Duration> {
        self.begin = Some(now);
        self.draw(now);
        self.bar.as_ref().map(|_| PERIOD)
    }

    pub(crate) fn draw(&self, now: Instant) {
        if let (Some(bar), Some(begin)) = (&self.bar, self.begin) {
            bar.set_position(millis(self.before + (now - begin)).min(bar.length().unwrap_or(0)));
        }
    }

    /// Leaves the terminal as it was.
    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
