//! Counts the instructions of what each message costs in user space, so that a regression shows without a clock:
//!
//!     cargo bench --features internals --bench instructions
//!     cargo bench --features internals --bench instructions -- --update
//!
//! The first compares with `benches/instructions.txt`, and fails when a case needs 5 % more; the second writes that file.
//! Each case runs twice under valgrind's callgrind, five times as often the second time; the difference belongs to the
//! operation alone, not to starting a process or to preparations.
//!
//! Counts depend on the compiler and how it is called (`CARGO_INCREMENTAL` must not be set when the file is written), on libc,
//! and on which vector instructions a processor has. The first line of the file has what
//! it was counted with, and elsewhere the differences are shown and nothing fails. Of libc the child is told to take its plain
//! variants of `memcpy` and the like, whatever the processor; `memchr`, by which lines are found, cannot be told so.

mod cases;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs, thread};

use cases::{CASES, Case};

/// So many percent more fail.
const TOLERATED: f64 = 5.0;
/// The longer run of a case performs it so many times as often as the shorter one.
const LONGER: u64 = 5;
/// libc's baseline for x86-64. Names that it does not know are ignored.
const PLAIN_LIBC: &str = "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX2,-AVX,-BMI2,-SSSE3,-SSE4_1,-SSE4_2,-ERMS,-FSRM,\
                          -AVX_Fast_Unaligned_Load,-Prefer_ERMS,-Prefer_FSRM,-Fast_Copy_Backward";

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    if let [word, name, count] = &words[..] {
        if word == "case" {
            let case = CASES.iter().find(|case| case.name == name).expect("the name of a case");
            (case.run)(count.parse().expect("a number"));
            return ExitCode::SUCCESS;
        }
    }
    let says = |option: &str| words.iter().any(|word| word == option);
    if !says("--bench") {
        // Not from `cargo bench`: then this is a test of the cases.
        CASES.iter().for_each(|case| (case.run)(1));
        println!("{} cases were performed once; cargo bench counts them", CASES.len());
        return ExitCode::SUCCESS;
    }
    let counted = CASES.iter().map(|case| Ok((case.name, instructions(case)?)));
    match counted.collect::<Result<Vec<_>, String>>() {
        Ok(counted) if says("--update") => update(&counted),
        Ok(counted) => compare(&counted),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Instructions of one operation.
fn instructions(case: &Case) -> Result<f64, String> {
    let (short, long) = (case.count, case.count * LONGER);
    let (fewer, more) = thread::scope(|scope| {
        let fewer = scope.spawn(|| collected(case.name, short));
        let more = collected(case.name, long);
        (fewer.join().expect("a thread that ends"), more)
    });
    Ok((more? as f64 - fewer? as f64) / (long - short) as f64)
}

/// Instructions of a whole process that performs a case so many times.
fn collected(name: &str, count: u64) -> Result<u64, String> {
    let this = env::current_exe().map_err(|error| format!("who am I? {error}"))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(this)
        .args(["case", name, &count.to_string()])
        // The environment is on the stack: a longer one would move it.
        .env_clear()
        .env("PATH", env::var_os("PATH").unwrap_or_default())
        .env("GLIBC_TUNABLES", PLAIN_LIBC)
        .output()
        .map_err(|error| format!("valgrind does not start: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let number = said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    match number {
        Some(number) if output.status.success() => Ok(number),
        _ => Err(format!("{name} under valgrind: {}\n{said}", output.status)),
    }
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.txt")
}

/// What counts depend on beside the code.
fn counted_with() -> String {
    let answer = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output().ok();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        text.filter(|text| !text.is_empty()).unwrap_or_else(|| format!("no {program}"))
    };
    #[cfg(target_arch = "x86_64")]
    let vectors = if is_x86_feature_detected!("avx2") { " with AVX2" } else { " without AVX2" };
    #[cfg(not(target_arch = "x86_64"))]
    let vectors = "";
    let compiler = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let parts = [
        answer(&compiler, "--version"),
        answer("getconf", "GNU_LIBC_VERSION"),
        answer("valgrind", "--version"),
    ];
    // Both change what is generated, incremental compilation by a tenth and more.
    let incremental = if option_env!("CARGO_INCREMENTAL") == Some("1") { ", incremental" } else { "" };
    let flags = option_env!("RUSTFLAGS").filter(|flags| !flags.is_empty());
    let flags = flags.map_or(String::new(), |flags| format!(", {flags}"));
    format!("{}, {}{vectors}{incremental}{flags}", parts.join(", "), env::consts::ARCH)
}

fn update(counted: &[(&str, f64)]) -> ExitCode {
    let mut text = format!("with {}\n", counted_with());
    for (name, number) in counted {
        text += &format!("{name:<40} {number:>8.1}\n");
    }
    print!("{text}");
    match fs::write(file(), text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("benches/instructions.txt: {error}");
            ExitCode::from(2)
        }
    }
}

fn compare(counted: &[(&str, f64)]) -> ExitCode {
    let text = fs::read_to_string(file()).unwrap_or_default();
    let with = text.lines().find_map(|line| line.strip_prefix("with ")).unwrap_or("nothing");
    let mut known: BTreeMap<&str, f64> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(name, number)| Some((name, number.trim().parse().ok()?)))
        .collect();
    let mut wrong = 0;
    println!("{:<40} {:>8} {:>8}", "instructions of", "was", "is");
    for (name, now) in counted {
        let Some(was) = known.remove(name) else {
            println!("{name:<40} {:>8} {now:>8.1}  not in the file", "");
            wrong += 1;
            continue;
        };
        let percent = (now - was) / was * 100.0;
        let change = if percent.abs() < 0.05 { String::new() } else { format!("{percent:>+7.1} %") };
        let verdict = if percent > TOLERATED { "  more than is tolerated" } else { "" };
        wrong += usize::from(percent > TOLERATED);
        println!("{name:<40} {was:>8.1} {now:>8.1} {change}{verdict}");
    }
    for name in known.keys() {
        println!("{name:<40} is in the file, and no case");
        wrong += 1;
    }
    let here = counted_with();
    if here != with {
        println!("The file was counted with {with}; here it is {here}. So this is for information alone.");
        return ExitCode::SUCCESS;
    }
    if wrong > 0 {
        println!(
            "{wrong} to look at. If it is meant to be so, run it again with `-- --update`, and say why in the commit."
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
