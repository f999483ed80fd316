//! What is asked of the server. The names are those of docs/benchmarks.md, where it has them.

use std::time::Duration;

use mainspring::Limits;
use mainspring::codec::{Codec, LengthPrefixed, Output};

use crate::Failure;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Job {
    Echo,
    /// One sends, everyone receives, the sender too.
    Broadcast,
    /// Connect, one echo, close.
    Churn,
}

/// A load.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    job: Job,
    /// Connections; of a broadcast, those beside the sender's.
    connections: usize,
    size: usize,
    /// Messages that are sent at a time; the next ones when all of them were answered.
    pub(crate) burst: usize,
    /// With an idle deadline of a minute.
    deadline: bool,
    /// So many more connections are there, and say nothing. Only where it is counted; `run idle` is for times.
    pub(crate) idle: usize,
}

impl Scenario {
    pub(crate) fn all() -> Vec<Scenario> {
        let of = |name, job, connections, size, burst| Scenario {
            name,
            job,
            connections,
            size,
            burst,
            deadline: false,
            idle: 0,
        };
        let echo = |name, connections, size, burst| of(name, Job::Echo, connections, size, burst);
        let to_all = |name, receivers, size, burst| of(name, Job::Broadcast, receivers, size, burst);
        vec![
            echo("p1", 1, 64, 1),
            echo("p2", 64, 64, 1),
            echo("p3", 64, 64, 32),
            echo("p4", 16, 64 << 10, 1),
            echo("p5", 4, 4 << 20, 1),
            echo("p6", 1000, 64, 1),
            echo("pipe-8k", 16, 8 << 10, 32),
            Scenario { deadline: true, ..echo("p2-deadline", 64, 64, 1) },
            Scenario { deadline: true, ..echo("p6-deadline", 1000, 64, 1) },
            Scenario { idle: 5_000, ..echo("p2-crowd", 64, 64, 1) },
            of("churn", Job::Churn, 16, 64, 1),
            to_all("bcast", 500, 128, 16),
            to_all("bcast1", 500, 128, 1),
            to_all("bcast-512", 200, 512, 4),
            to_all("bcast-2k", 200, 2 << 10, 4),
            to_all("bcast-4k", 200, 4 << 10, 4),
            to_all("bcast-8k", 200, 8 << 10, 4),
            to_all("bcast-16k", 100, 16 << 10, 4),
            to_all("bcast-64k", 100, 64 << 10, 4),
        ]
    }

    pub(crate) fn named(name: &str) -> Result<Scenario, Failure> {
        let found = Scenario::all().into_iter().find(|scenario| scenario.name == name);
        found.ok_or_else(|| format!("{name} is no scenario").into())
    }

    pub(crate) fn text(&self) -> String {
        let size = if self.size < 1024 {
            format!("{} B", self.size)
        } else if self.size < 1 << 20 {
            format!("{} KiB", self.size >> 10)
        } else {
            format!("{} MiB", self.size >> 20)
        };
        let burst = if self.burst == 1 { String::new() } else { format!(", {} at a time", self.burst) };
        let idle =
            if self.idle == 0 { String::new() } else { format!(", beside {} idle connections", self.idle) };
        let deadline = if self.deadline { ", with an idle deadline" } else { "" };
        let connections = if self.connections == 1 { "connection" } else { "connections" };
        match self.job {
            Job::Echo => format!("echo, {} {connections}, {size}{burst}{deadline}{idle}", self.connections),
            Job::Broadcast => format!("broadcast to {} and the sender, {size}{burst}", self.connections),
            Job::Churn => format!("connect, one echo of {size}, close; {} at a time", self.connections),
        }
    }

    pub(crate) fn is_broadcast(&self) -> bool {
        self.job == Job::Broadcast
    }

    pub(crate) fn is_churn(&self) -> bool {
        self.job == Job::Churn
    }

    /// Whether any machine's everyday number of descriptors suffices for both ends.
    pub(crate) fn is_small(&self) -> bool {
        self.connections <= 200 && self.idle == 0
    }

    /// All connections. Of a broadcast, the first is the sender.
    pub(crate) fn clients(&self) -> usize {
        self.connections + usize::from(self.is_broadcast())
    }

    /// Whether this client sends.
    pub(crate) fn sends(&self, client: usize) -> bool {
        !self.is_broadcast() || client == 0
    }

    /// All that a client sends at a time, and gets back.
    pub(crate) fn wire(&self) -> Vec<u8> {
        let payload: Vec<u8> = (0..self.size).map(|at| (at % 251) as u8).collect();
        let mut wire = Vec::new();
        for _ in 0..self.burst {
            let mut out = Output::to_vec(&mut wire);
            LengthPrefixed::default().encode(&payload, &mut out).expect("four bytes can say these lengths");
        }
        wire
    }

    pub(crate) fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        limits.idle_timeout = self.deadline.then_some(Duration::from_secs(60));
        limits
    }
}
