//! Messages into bytes, for the one stream of a client.

use std::io::IoSlice;

use super::wire::{Patience, Socket, Stop, send_all};
use crate::codec::{Codec, EncodeError, Output};

/// A payload of at least this is not copied: it goes to the kernel from where it is, together with its header.
pub(super) const BY_REFERENCE: usize = 32 * 1024;
/// A message has at most so many parts: two that are not copied, and what is copied between them.
pub(super) const PARTS_MAX: usize = 5;
/// A larger buffer is given up when it is empty.
const KEPT_MAX: usize = 1024 * 1024;

/// What was begun and is not sent whole. Between messages it holds nothing but a small buffer for headers.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// The copied parts of the message that is being sent.
    copied: Vec<u8>,
    rest: Vec<u8>,
    /// So much of `rest` is sent. Invariant: at <= rest.len().
    at: usize,
}

/// Why a message was not sent whole.
#[derive(Debug)]
pub(super) enum Unsent {
    Refused(EncodeError),
    /// `kept`: the rest of it goes first, the next time.
    Stopped {
        kept: bool,
        stop: Stop,
    },
}

impl Outgoing {
    /// What waits to be sent.
    pub(super) fn rest(&self) -> &[u8] {
        &self.rest[self.at..]
    }

    /// Sends what an earlier message has left over.
    pub(super) fn flush(&mut self, socket: &mut impl Socket, patience: &mut Patience) -> Result<(), Stop> {
        let (written, stop) = send_all(socket, &mut [IoSlice::new(&self.rest[self.at..])], patience);
        self.at += written;
        if let Some(stop) = stop {
            return Err(stop);
        }
        self.at = 0;
        self.rest.clear();
        self.rest.shrink_to(KEPT_MAX);
        Ok(())
    }

    /// Sends one message, after what an earlier one has left over.
    pub(super) fn send<'m, C, F>(
        &mut self,
        socket: &mut impl Socket,
        patience: &mut Patience,
        codec: &mut C,
        encode: F,
    ) -> Result<(), Unsent>
    where
        C: Codec,
        F: FnOnce(&mut C, &mut Output<'_, 'm>) -> Result<(), EncodeError>,
    {
        if !self.rest().is_empty() {
            self.flush(socket, patience).map_err(|stop| Unsent::Stopped { kept: false, stop })?;
        }
        self.copied.clear();
        self.copied.shrink_to(KEPT_MAX);
        let mut out = Output::new(&mut self.copied, BY_REFERENCE);
        encode(codec, &mut out).map_err(Unsent::Refused)?;
        let segments = out.into_segments();
        let mut slices = [IoSlice::new(&[]); PARTS_MAX];
        let mut count = 0;
        for part in segments.parts(&self.copied) {
            slices[count] = IoSlice::new(part.bytes());
            count += 1;
        }
        let (written, stop) = send_all(socket, &mut slices[..count], patience);
        let Some(stop) = stop else { return Ok(()) };
        // An encoder with state has counted this message: it cannot be unsaid.
        let kept = matches!(stop, Stop::TimedOut) && (written > 0 || !codec.same_encoding(codec));
        if kept {
            let mut gone = written;
            for part in segments.parts(&self.copied) {
                let bytes = part.bytes();
                let skipped = gone.min(bytes.len());
                gone -= skipped;
                self.rest.extend_from_slice(&bytes[skipped..]);
            }
        }
        Err(Unsent::Stopped { kept, stop })
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind::{ConnectionReset, Interrupted, WouldBlock};

    use super::super::wire::tests::Script;
    use super::*;
    use crate::codec::{FrameError, LengthPrefixed, Scan};
    use std::time::Duration;

    fn at_once() -> Patience {
        Patience::new(Some(Duration::ZERO))
    }

    fn send(outgoing: &mut Outgoing, script: &mut Script, message: &[u8]) -> Result<(), Unsent> {
        let mut codec = LengthPrefixed::default();
        outgoing.send(script, &mut at_once(), &mut codec, |codec, out| codec.encode(message, out))
    }

    #[test]
    fn a_message_that_was_not_begun_is_forgotten() {
        let mut outgoing = Outgoing::default();
        let mut script = Script::new([Err(WouldBlock), Ok(100)]);
        let unsent = send(&mut outgoing, &mut script, b"one").unwrap_err();
        assert!(matches!(unsent, Unsent::Stopped { kept: false, stop: Stop::TimedOut }), "{unsent:?}");
        send(&mut outgoing, &mut script, b"two").unwrap();
        assert_eq!(script.written, b"\0\0\0\x03two");
    }

    #[test]
    fn the_rest_of_a_message_goes_before_the_next_one() {
        let mut outgoing = Outgoing::default();
        let mut script = Script::new([Ok(5), Err(WouldBlock), Ok(1), Err(Interrupted), Ok(1), Ok(100)]);
        let unsent = send(&mut outgoing, &mut script, b"one").unwrap_err();
        assert!(matches!(unsent, Unsent::Stopped { kept: true, .. }), "{unsent:?}");
        assert_eq!(outgoing.rest(), b"ne");
        send(&mut outgoing, &mut script, b"two").unwrap();
        assert_eq!(script.written, b"\0\0\0\x03one\0\0\0\x03two");
        assert_eq!(outgoing.rest(), b"");
    }

    #[test]
    fn a_message_behind_one_that_is_stuck_is_refused_and_nothing_piles_up() {
        let mut outgoing = Outgoing::default();
        let mut script = Script::new([Ok(5), Err(WouldBlock), Err(WouldBlock), Ok(1), Err(WouldBlock)]);
        send(&mut outgoing, &mut script, b"one").unwrap_err();
        for left in [&b"ne"[..], b"e"] {
            let unsent = send(&mut outgoing, &mut script, b"two").unwrap_err();
            assert!(matches!(unsent, Unsent::Stopped { kept: false, .. }), "{unsent:?}");
            assert_eq!(outgoing.rest(), left);
        }
    }

    #[test]
    fn a_large_message_is_kept_from_where_it_stopped_over_its_parts() {
        let message: Vec<u8> = (0..BY_REFERENCE * 2).map(|at| at as u8).collect();
        let mut outgoing = Outgoing::default();
        let mut script = Script::new([Ok(2), Ok(10), Err(WouldBlock), Ok(usize::MAX)]);
        send(&mut outgoing, &mut script, &message).unwrap_err();
        outgoing.flush(&mut script, &mut at_once()).unwrap();
        assert_eq!(script.written[..4], (message.len() as u32).to_be_bytes());
        assert!(script.written[4..] == message);
    }

    #[test]
    fn nothing_is_kept_for_a_connection_that_is_lost() {
        let mut outgoing = Outgoing::default();
        let mut script = Script::new([Ok(5), Err(ConnectionReset)]);
        let unsent = send(&mut outgoing, &mut script, b"one").unwrap_err();
        assert!(matches!(unsent, Unsent::Stopped { kept: false, stop: Stop::Failed(_) }), "{unsent:?}");
    }

    /// Numbers its messages, so that none that was encoded may be lost.
    #[derive(Clone)]
    struct Numbered(u8);

    impl Codec for Numbered {
        type Message<'a> = ();
        type Outgoing<'a> = ();
        type Owned = ();

        fn lend((): &()) {}
        fn scan(&mut self, _: &[u8]) -> Result<Scan, FrameError> {
            Ok(Scan::Frame(1))
        }
        fn parse(&mut self, _: &mut [u8]) -> Result<(), FrameError> {
            Ok(())
        }
        fn encode<'m>(&mut self, (): (), out: &mut Output<'_, 'm>) -> Result<(), EncodeError> {
            self.0 += 1;
            out.put(&[self.0]);
            Ok(())
        }
    }

    #[test]
    fn what_an_encoder_with_state_has_counted_is_sent() {
        let mut outgoing = Outgoing::default();
        let mut codec = Numbered(0);
        let mut script = Script::new([Err(WouldBlock), Ok(1), Ok(1)]);
        let mut send =
            || outgoing.send(&mut script, &mut at_once(), &mut codec, |codec, out| codec.encode((), out));
        let unsent = send().unwrap_err();
        assert!(matches!(unsent, Unsent::Stopped { kept: true, .. }), "{unsent:?}");
        send().unwrap();
        assert_eq!(script.written, [1, 2]);
    }
}
