//! message-io, on its transport `Tcp`, with the frames told apart here.
//!
//! Its own `FramedTcp` has a varint for a length, and asks the kernel twice for each message: once for the length, once for the
//! rest. With `Tcp` it is one write for all that one read brought. It has no output queue: a send to a full socket spins.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;

use message_io::network::{Endpoint, NetEvent, Transport};
use message_io::node::{self, NodeHandler};

use super::announce;
use crate::frame::{TooLong, frame_len, whole_frames};
use crate::scenario::Job;

pub(super) fn serve(job: Job, listen: SocketAddr) -> io::Result<()> {
    let (handler, events) = node::split::<()>();
    let (_, address) = handler.network().listen(Transport::Tcp, listen)?;
    nodelay();
    announce(address)?;
    let mut server = Server { job, handler, members: Vec::new(), partial: HashMap::new() };
    events.for_each(move |event| match event.network() {
        NetEvent::Accepted(endpoint, _) => server.members.push(endpoint),
        NetEvent::Message(endpoint, bytes) => {
            if server.received(endpoint, bytes).is_err() {
                server.handler.network().remove(endpoint.resource_id());
                server.forget(endpoint);
            }
        }
        NetEvent::Disconnected(endpoint) => server.forget(endpoint),
        NetEvent::Connected(..) => {}
    });
    Ok(())
}

struct Server {
    job: Job,
    handler: NodeHandler<()>,
    members: Vec<Endpoint>,
    /// Begun frames. A connection without one has no entry.
    partial: HashMap<Endpoint, Vec<u8>>,
}

impl Server {
    fn received(&mut self, from: Endpoint, mut bytes: &[u8]) -> Result<(), TooLong> {
        if !self.partial.is_empty() {
            if let Some(mut frame) = self.partial.remove(&from) {
                bytes = complete(&mut frame, bytes)?;
                if frame_len(&frame)? != Some(frame.len()) {
                    self.partial.insert(from, frame);
                    return Ok(());
                }
                self.deliver(from, &frame);
            }
        }
        let (whole, rest) = bytes.split_at(whole_frames(bytes)?);
        if !whole.is_empty() {
            self.deliver(from, whole);
        }
        if !rest.is_empty() {
            self.partial.insert(from, rest.to_vec());
        }
        Ok(())
    }

    fn deliver(&self, from: Endpoint, frames: &[u8]) {
        match self.job {
            Job::Echo => {
                self.handler.network().send(from, frames);
            }
            Job::Broadcast => {
                for member in &self.members {
                    self.handler.network().send(*member, frames);
                }
            }
        }
    }

    fn forget(&mut self, endpoint: Endpoint) {
        self.members.retain(|member| *member != endpoint);
        self.partial.remove(&endpoint);
    }
}

/// Takes from `bytes` what `frame` lacks, and returns the others.
fn complete<'a>(frame: &mut Vec<u8>, mut bytes: &'a [u8]) -> Result<&'a [u8], TooLong> {
    // The prefix first, then what it asks for.
    for _ in 0..2 {
        let want = frame_len(frame)?.unwrap_or(crate::frame::PREFIX);
        let (taken, rest) = bytes.split_at(want.saturating_sub(frame.len()).min(bytes.len()));
        frame.extend_from_slice(taken);
        bytes = rest;
    }
    Ok(bytes)
}

/// message-io has neither an option for TCP_NODELAY nor a way to its sockets. Accepted sockets inherit the listener's, which is found
/// among this process's descriptors.
#[cfg(target_os = "linux")]
fn nodelay() {
    use rustix::net::sockopt;
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

    let Ok(this) = pidfd_open(getpid(), PidfdFlags::empty()) else { return };
    let Ok(descriptors) = std::fs::read_dir("/proc/self/fd") else { return };
    let numbers = descriptors.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    for number in numbers {
        let Ok(copy) = pidfd_getfd(&this, number, PidfdGetfdFlags::empty()) else { continue };
        if sockopt::socket_acceptconn(&copy) == Ok(true) {
            // Without it the server is slow, and no less right.
            let _ = sockopt::set_tcp_nodelay(&copy, true);
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn nodelay() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_completed_from_any_cut() {
        let stream = [0, 0, 0, 3, 7, 8, 9, 0, 0];
        for cut in 1..7 {
            let mut frame = stream[..cut].to_vec();
            let rest = complete(&mut frame, &stream[cut..]).unwrap();
            assert_eq!((frame.as_slice(), rest), (&stream[..7], &stream[7..]));
        }
    }

    #[test]
    fn a_frame_that_is_not_complete_takes_all() {
        let mut frame = vec![0];
        assert_eq!(complete(&mut frame, &[0, 0, 3, 7]).unwrap(), &[] as &[u8]);
        assert_eq!(frame, [0, 0, 0, 3, 7]);
    }
}
