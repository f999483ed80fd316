//! What is asked of the servers.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What a server does with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub(crate) enum Job {
    /// Sends it back
    Echo,
    /// Sends it to every connection, its sender included
    Broadcast,
}

/// A load. The names are those of the project's other measurements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) job: Job,
    /// Connections; of a broadcast, those beside the sender's.
    pub(crate) connections: usize,
    /// Bytes of payload of each frame.
    pub(crate) size: usize,
    /// Frames that each connection keeps under way; of a broadcast, the sender.
    pub(crate) pipeline: usize,
}

impl Scenario {
    pub(crate) fn all() -> Vec<Scenario> {
        let echo = |name: &str, connections, size, pipeline| Scenario {
            name: name.to_owned(),
            job: Job::Echo,
            connections,
            size,
            pipeline,
        };
        vec![
            echo("p1", 1, 64, 1),
            echo("p2", 64, 64, 1),
            echo("p3", 64, 64, 32),
            echo("p4", 16, 64 << 10, 1),
            echo("p6", 1000, 64, 1),
            Scenario { job: Job::Broadcast, ..echo("bcast", 500, 128, 16) },
        ]
    }

    pub(crate) fn unit(&self) -> &'static str {
        match self.job {
            Job::Echo => "messages",
            Job::Broadcast => "deliveries",
        }
    }

    pub(crate) fn text(&self) -> String {
        let size = match self.size {
            size if size >= 1024 && size % 1024 == 0 => format!("{} KiB", size / 1024),
            size => format!("{size} B"),
        };
        let frames = if self.pipeline == 1 { "frame" } else { "frames" };
        match self.job {
            Job::Echo if self.connections == 1 => format!("echo, 1 connection, {size}, ping-pong"),
            Job::Echo => {
                format!(
                    "echo, {} connections, {size}, {} {frames} in flight each",
                    self.connections, self.pipeline
                )
            }
            Job::Broadcast => format!(
                "broadcast, 1 sender to {} receivers and itself, {size}, {} {frames} in flight",
                self.connections, self.pipeline
            ),
        }
    }
}
