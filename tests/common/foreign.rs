//! Programs of others that tests talk to, where they are installed.
#![allow(dead_code, reason = "each test file uses its own part of it")]

use std::ops::{Deref, DerefMut};
use std::process::{Child, Command, Stdio};

/// Whether it is here; says so where it is not. It is asked with arguments that make it end at once.
pub(crate) fn installed(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let there = command.status().is_ok();
    if !there {
        println!("skipped: no {program} here");
    }
    there
}

/// One that runs in the foreground, and ends with its test.
#[derive(Debug)]
pub(crate) struct Foreign(pub(crate) Child);

impl Deref for Foreign {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Foreign {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
