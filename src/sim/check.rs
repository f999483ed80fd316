//! Many worlds for one test; and of the one that fails, as little as is needed.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;

use super::World;
use crate::net::mem::{Dice, Fault};

/// So many seeds are tried, unless told otherwise.
const SEEDS: u64 = 100;
/// So often a failing test is run again to make its failure smaller.
const RUNS_MAX: usize = 500;
/// So much of what happened is told in words.
const TOLD_MAX: usize = 12;

/// Runs a test in the worlds of the first 100 seeds, and [ends](World::end) each.
///
/// `MAINSPRING_SEEDS=N` in the environment makes it N seeds, for this process's every `check`; `MAINSPRING_REPLAY="..."` one
/// world, as [`replay`] does it.
///
/// # Panics
/// The test has failed in one of them. The text says how, what of all that happened by chance is enough for it, and the line
/// that [`replay`] needs to make it happen again.
#[track_caller]
pub fn check(test: impl Fn(&World)) {
    match std::env::var("MAINSPRING_REPLAY") {
        Ok(line) => replay(&line, test),
        Err(_) => {
            let asked = std::env::var("MAINSPRING_SEEDS").ok();
            let seeds = match asked.as_deref().map(str::parse) {
                None => SEEDS,
                Some(Ok(seeds)) => seeds,
                Some(Err(_)) => panic!("MAINSPRING_SEEDS is a number of seeds"),
            };
            check_seeds(0..seeds, test);
        }
    }
}

/// As [`check`], for these seeds.
///
/// # Panics
/// As [`check`].
#[track_caller]
pub fn check_seeds(seeds: Range<u64>, test: impl Fn(&World)) {
    for seed in seeds {
        if let Err(failure) = run(seed, None, &test) {
            let (failure, needed) = shrink(seed, failure, &test);
            panic!("{}", report(seed, &failure, needed.as_deref()));
        }
    }
}

/// Runs a test in one world again: the line is one that a failure has told.
///
/// ```
/// # use mainspring::sim;
/// sim::replay("7", |world| world.settle()); // all of seed 7
/// sim::replay("7 c0.2 r0.4", |world| world.settle()); // only these of it
/// sim::replay("7 none", |world| world.settle()); // only its numbers
/// ```
///
/// # Panics
/// The test has failed again, or the line is none.
#[track_caller]
pub fn replay(line: &str, test: impl Fn(&World)) {
    let Some((seed, keep)) = read(line) else {
        panic!("\"{line}\" is no world: a seed, and perhaps what of it is to happen")
    };
    if let Err(failure) = run(seed, keep.clone(), &test) {
        panic!("{}", report(seed, &failure, keep.as_deref()));
    }
}

/// How a test has failed.
struct Failure {
    text: String,
    /// Where it was found out.
    at: String,
    happened: Vec<Fault>,
}

fn run(seed: u64, keep: Option<Vec<Fault>>, test: &impl Fn(&World)) -> Result<(), Failure> {
    let dice = Dice::new(seed, keep);
    let world = World::with(dice.clone());
    let result = quietly(|| {
        catch_unwind(AssertUnwindSafe(|| {
            test(&world);
            world.end();
        }))
    });
    let Err(panic) = result else { return Ok(()) };
    // What a test has let go of may be in any shape: so may its end be.
    if let Err(again) = quietly(|| catch_unwind(AssertUnwindSafe(move || drop(world)))) {
        drop(again);
    }
    let at = LAST.take();
    Err(Failure { text: text_of(&*panic), at, happened: dice.happened() })
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    crate::reactor::panic_text(panic)
}

/// Leaves out as much of what happened as can be left out, by halves, then by ones (Zeller's ddmin). `None`: all is needed, or
/// the test does not fail a second time.
fn shrink(seed: u64, first: Failure, test: &impl Fn(&World)) -> (Failure, Option<Vec<Fault>>) {
    let mut smallest = first;
    let mut needed: Option<Vec<Fault>> = None;
    let mut left = smallest.happened.clone();
    let mut parts = 1;
    for _ in 0..RUNS_MAX {
        if left.is_empty() {
            break;
        }
        let size = left.len().div_ceil(parts);
        let mut smaller = None;
        for begin in (0..left.len()).step_by(size) {
            let end = (begin + size).min(left.len());
            let mut without = left.clone();
            without.drain(begin..end);
            match run(seed, Some(without.clone()), test) {
                Err(failure) if failure.at == smallest.at => {
                    // Of what is left, only what has happened this time can matter.
                    without.retain(|fault| failure.happened.contains(fault));
                    smaller = Some((failure, without));
                    break;
                }
                _ => {}
            }
        }
        match smaller {
            Some((failure, without)) => {
                (smallest, left) = (failure, without);
                needed = Some(left.clone());
                parts = parts.saturating_sub(1).max(1);
            }
            None if size == 1 => break,
            None => parts = (2 * parts).min(left.len()),
        }
    }
    (smallest, needed)
}

fn report(seed: u64, failure: &Failure, needed: Option<&[Fault]>) -> String {
    let Failure { text, at, happened } = failure;
    let line = line(seed, needed);
    let mut told = format!("in the world of seed {seed}: {text}\n  at {at}\n");
    let faults = needed.unwrap_or(happened);
    let how = if needed.is_some() { "are enough for it" } else { "happened by chance" };
    told += &format!("  {} things {how}:\n", faults.len());
    for fault in faults.iter().take(TOLD_MAX) {
        told += &format!("    {fault}: {}\n", fault.text());
    }
    if faults.len() > TOLD_MAX {
        told += &format!("    and {} more\n", faults.len() - TOLD_MAX);
    }
    told += &format!(
        "  to see it again: mainspring::sim::replay(\"{line}\", test), or MAINSPRING_REPLAY=\"{line}\""
    );
    told
}

fn line(seed: u64, needed: Option<&[Fault]>) -> String {
    let mut line = seed.to_string();
    match needed {
        None => {}
        Some([]) => line += " none",
        Some(faults) => faults.iter().for_each(|fault| line += &format!(" {fault}")),
    }
    line
}

fn read(line: &str) -> Option<(u64, Option<Vec<Fault>>)> {
    let mut words = line.split_whitespace();
    let seed = words.next()?.parse().ok()?;
    let words: Vec<_> = words.collect();
    let keep = match words[..] {
        [] => None,
        ["none"] => Some(Vec::new()),
        _ => Some(words.into_iter().map(|word| word.parse().ok()).collect::<Option<_>>()?),
    };
    Some((seed, keep))
}

thread_local! {
    /// Panics of this thread are told by whoever catches them.
    static QUIET: Cell<bool> = const { Cell::new(false) };
    /// Where the last of those was.
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Panics in `f` are not printed: it is run often, and the last word is the report.
fn quietly<T>(f: impl FnOnce() -> T) -> T {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
            if QUIET.get() {
                LAST.set(info.location().map_or_else(String::new, ToString::to_string));
            } else {
                before(info);
            }
        }));
    });
    let outer = QUIET.replace(true);
    let result = f();
    QUIET.set(outer);
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::mem::Kind;

    #[test]
    fn a_line_is_read_as_it_was_told() {
        let faults =
            vec![Fault { kind: Kind::ShortRead, on: 2, at: 17 }, Fault { kind: Kind::Step, on: 0, at: 3 }];
        for keep in [None, Some(Vec::new()), Some(faults)] {
            assert_eq!(read(&line(9, keep.as_deref())), Some((9, keep)));
        }
        for bad in ["", "x", "7 r", "7 none r0.1", "7 r0.1 y0.2"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_failure_is_made_as_small_as_it_can_be() {
        let test = |world: &World| {
            let dice = world.dice();
            let yes: Vec<_> = (0..200).filter(|_| dice.chance(3).is_some()).collect();
            assert!(!(yes.contains(&20) && yes.contains(&151)), "both");
        };
        let failing = (0..200).find(|seed| run(*seed, None, &test).is_err()).unwrap();
        let told = catch_unwind(|| check_seeds(failing..failing + 1, test)).unwrap_err();
        let told = text_of(&*told);
        assert!(told.contains(&format!("replay(\"{failing} u0.20 u0.151\"")), "{told}");
        assert!(told.contains("2 things are enough"), "{told}");
        replay(&format!("{failing} u0.20"), test);
        assert!(catch_unwind(|| replay(&format!("{failing} u0.20 u0.151"), test)).is_err());
    }
}
