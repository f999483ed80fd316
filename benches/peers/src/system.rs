//! What the machine says: time on cores, cores, names, the date.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long the threads of a process have had a core so far.
pub(crate) fn cpu_time(process: u32) -> Option<Duration> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).ok()?;
    let mut nanoseconds = 0;
    for task in tasks {
        // A thread may end meanwhile.
        let Ok(schedstat) = fs::read_to_string(task.ok()?.path().join("schedstat")) else { continue };
        nanoseconds += schedstat.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    Some(Duration::from_nanos(nanoseconds))
}

/// The time that all cores together were busy so far, in seconds, as precise as a tick (10 ms).
pub(crate) fn busy_seconds() -> Option<f64> {
    busy_ticks(&fs::read_to_string("/proc/stat").ok()?).map(|ticks| ticks as f64 / 100.0)
}

/// user + nice + system + irq + softirq + steal, without idle and iowait.
fn busy_ticks(stat: &str) -> Option<u64> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    let ticks = fields.map(str::parse).collect::<Result<Vec<u64>, _>>().ok()?;
    Some(ticks.iter().take(8).sum::<u64>() - ticks.get(3)? - ticks.get(4)?)
}

/// The cores that this process may use.
pub(crate) fn cores() -> Vec<usize> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.map(core_list).unwrap_or_default()
}

/// `0-2,5` is 0, 1, 2, 5.
fn core_list(text: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    };
    text.split(',').filter_map(range).flatten().collect()
}

/// Whether there is such a program.
pub(crate) fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

pub(crate) fn cpu_model() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

pub(crate) fn kernel() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{} {}", std::env::consts::OS, release.trim()).trim_end().to_owned()
}

/// What a program says on standard output, on one line.
pub(crate) fn said(program: &str, arguments: &[&str], folder: &Path) -> Option<String> {
    let output = Command::new(program).args(arguments).current_dir(folder).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success()).then_some(text)
}

/// The crate `mainspring` that this one is in.
pub(crate) fn mainspring_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Today in UTC, as 2026-01-31.
pub(crate) fn today() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    date(now.as_secs() / 86_400)
}

/// The Gregorian date of a day, counted from 1970-01-01 on.
fn date(mut day: u64) -> String {
    let leap = |year: u64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let mut year = 1970;
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    format!("{year}-{:02}-{:02}", month + 1, day + 1)
}

/// The versions of a crate in a `Cargo.lock`; there may be several.
pub(crate) fn versions<'a>(lock: &'a str, name: &str) -> Vec<&'a str> {
    let quoted = |line: &'a str, key: &str| line.strip_prefix(key)?.trim_matches('"').into();
    let mut versions = Vec::new();
    let mut lines = lock.lines();
    while let Some(line) = lines.next() {
        if quoted(line, "name = ") == Some(name) {
            versions.extend(lines.next().and_then(|line| quoted(line, "version = ")));
        }
    }
    versions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_know_leap_years() {
        let days = [0, 58, 59, 789, 790, 11_016, 19_722, 19_723, 20_453];
        let dates = days.map(date);
        assert_eq!(
            dates,
            [
                "1970-01-01",
                "1970-02-28",
                "1970-03-01",
                "1972-02-29",
                "1972-03-01",
                "2000-02-29",
                "2023-12-31",
                "2024-01-01",
                "2025-12-31",
            ]
        );
    }

    #[test]
    fn core_lists_are_ranges_and_numbers() {
        assert_eq!(core_list("\t0-2,5"), [0, 1, 2, 5]);
        assert_eq!(core_list("7"), [7]);
        assert_eq!(core_list(""), [0; 0]);
    }

    #[test]
    fn idle_and_waiting_are_not_busy() {
        assert_eq!(busy_ticks("cpu  1 2 4 1000 2000 8 16 32 64 64\ncpu0 9"), Some(63));
        assert_eq!(busy_ticks(""), None);
    }

    #[test]
    fn a_lock_file_may_have_two_versions_of_a_crate() {
        let lock = "[[package]]\nname = \"mio\"\nversion = \"0.8.11\"\n\n[[package]]\nname = \"mio\"\nversion = \"1.2.5\"\n";
        assert_eq!(versions(lock, "mio"), ["0.8.11", "1.2.5"]);
        assert_eq!(versions(lock, "mi"), [""; 0]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_had_a_core() {
        assert!(cpu_time(std::process::id()).unwrap() > Duration::ZERO);
        assert!(!cores().is_empty());
        assert!(busy_seconds().unwrap() > 0.0);
    }
}
