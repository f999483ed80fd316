//! The example programs, driven from outside as a user would: started, talked to over plain sockets, ended by signals,
//! judged by their exit status and their `stats` line.
//!
//! `cargo test` builds the examples before it; with `--test programs` alone, `cargo build --examples` has to come first.
#![cfg(unix)]

mod broadcast;
mod client;
mod echo;
#[cfg(feature = "metrics")]
#[path = "../common/exposition.rs"]
mod exposition;
#[path = "../common/foreign.rs"]
mod foreign;
mod http;
mod kv;
mod latency;
mod latency_pairs;
mod latency_rate;
mod life;
mod limits;
mod proxy;
#[cfg(feature = "proxy-protocol")]
mod proxy_protocol;
mod reactors;
mod support;
mod tensor;
mod tls;
mod unix;
mod upgrade;
mod workers;
// Cargo runs no tests of examples: those of their pure parts run here.
#[path = "../../examples/latency/figures.rs"]
#[allow(dead_code, reason = "the program uses all of it")]
mod figures;
#[path = "../../examples/common/floats.rs"]
#[allow(dead_code, reason = "the program uses all of it")]
mod floats;
#[path = "../../examples/latency/pattern.rs"]
#[allow(dead_code, reason = "the program uses all of it")]
mod pattern;
#[path = "../../examples/latency/schedule.rs"]
#[allow(dead_code, reason = "the program uses all of it")]
mod schedule;
#[path = "../../examples/common/values.rs"]
mod values;
