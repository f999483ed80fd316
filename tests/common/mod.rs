//! Words that the codec tests share.
#![allow(dead_code, reason = "each test file uses its own part of it")]

use mainspring::codec::{ByteCodec, Codec, EncodeError, FrameError, Output, Scan};

/// Whether a reader looks again after every chunk, or believes the hint of [`Scan::Need`] and waits for so
/// many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    LooksAtOnce,
    WaitsForNeed,
}

/// Reads a stream as the contract of `Codec` says, and panics where the codec breaks it.
pub(crate) struct Reader<C> {
    codec: C,
    /// What has arrived and was not taken.
    held: Vec<u8>,
    /// What the last `scan` said is needed.
    need: usize,
    /// What of a skipped frame has arrived, and what is still to come.
    skip: (u64, u64),
    patience: Patience,
}

impl<C: Codec> Reader<C> {
    pub(crate) fn new(codec: C, patience: Patience) -> Reader<C> {
        Reader { codec, held: Vec::new(), need: 0, skip: (0, 0), patience }
    }

    /// Hands over what `chunk` completes.
    pub(crate) fn feed(
        &mut self,
        chunk: &[u8],
        mut deliver: impl for<'a> FnMut(C::Message<'a>),
    ) -> Result<(), FrameError> {
        self.held.extend_from_slice(chunk);
        loop {
            let (arrived, missing) = self.skip;
            let dropped = usize::try_from(missing).unwrap_or(usize::MAX).min(self.held.len());
            self.held.drain(..dropped);
            self.skip = (arrived + dropped as u64, missing - dropped as u64);
            if self.skip.1 > 0 || (self.patience == Patience::WaitsForNeed && self.held.len() < self.need) {
                return Ok(());
            }
            self.need = 0;
            match self.codec.scan(&self.held)? {
                Scan::Frame(0) => panic!("a frame of no bytes"),
                Scan::Skip(0) => panic!("a skip of no bytes"),
                Scan::Frame(n) if n <= self.held.len() => {
                    deliver(self.codec.parse(&mut self.held[..n])?);
                    self.held.drain(..n);
                }
                Scan::Skip(n) => self.skip = (0, n),
                answer @ Scan::Need(n) => {
                    assert!(n > self.held.len(), "needs {n} bytes and has {}", self.held.len());
                    assert_eq!(self.codec.scan(&self.held), Ok(answer), "the same bytes, asked again");
                    self.need = n;
                    return Ok(());
                }
                Scan::Frame(n) => {
                    self.need = n;
                    return Ok(());
                }
            }
        }
    }

    /// Hands over what is left at the end of the stream.
    pub(crate) fn end(&mut self, mut deliver: impl for<'a> FnMut(C::Message<'a>)) -> Result<(), FrameError> {
        if self.skip.1 > 0 {
            return Err(FrameError::truncated(self.skip.0));
        }
        while let Some(n) = self.codec.scan_end(&self.held)? {
            assert!(n > 0, "a last frame of no bytes");
            assert!(n <= self.held.len(), "a last frame of {n} bytes in {}", self.held.len());
            deliver(self.codec.parse(&mut self.held[..n])?);
            self.held.drain(..n);
        }
        Ok(())
    }

    /// The codec in the middle of its stream.
    pub(crate) fn codec(&self) -> &C {
        &self.codec
    }
}

/// The messages of a stream that arrives in these chunks and then ends, and how it ended.
pub(crate) fn decode<C: ByteCodec>(
    codec: &C,
    chunks: &[impl AsRef<[u8]>],
    patience: Patience,
) -> (Vec<Vec<u8>>, Result<(), FrameError>) {
    let mut messages = Vec::new();
    let mut reader = Reader::new(codec.clone(), patience);
    for chunk in chunks {
        if let Err(error) = reader.feed(chunk.as_ref(), |message| messages.push(message.to_vec())) {
            return (messages, Err(error));
        }
    }
    let end = reader.end(|message| messages.push(message.to_vec()));
    (messages, end)
}

/// The messages of a stream that arrives in these chunks and then ends.
pub(crate) fn decode_all<C: ByteCodec>(
    codec: &C,
    chunks: &[impl AsRef<[u8]>],
) -> Result<Vec<Vec<u8>>, FrameError> {
    let (messages, end) = decode(codec, chunks, Patience::LooksAtOnce);
    end.map(|()| messages)
}

/// The frame of one message. Asserts that an owned message gives the same, and that a refused one leaves
/// nothing.
pub(crate) fn encode<C: ByteCodec>(codec: &C, message: &[u8]) -> Result<Vec<u8>, EncodeError> {
    let (mut wire, mut owned_wire) = (Vec::new(), Vec::new());
    let owned = bytes::Bytes::copy_from_slice(message);
    let result = codec.clone().encode(message, &mut Output::to_vec(&mut wire));
    let owned_result = codec.clone().encode_owned(&owned, &mut Output::to_vec(&mut owned_wire));
    assert_eq!((&result, &wire), (&owned_result, &owned_wire));
    if result.is_err() {
        assert!(wire.is_empty(), "refused, but {} bytes are queued", wire.len());
    }
    result.map(|()| wire)
}

/// The frames of all these messages, one behind the other.
pub(crate) fn encode_all<C: ByteCodec>(codec: &C, messages: &[impl AsRef<[u8]>]) -> Vec<u8> {
    messages
        .iter()
        .flat_map(|message| encode(codec, message.as_ref()).expect("the framing can say it"))
        .collect()
}

/// Asserts that these messages come back, however the stream is cut in two, and byte by byte.
#[track_caller]
pub(crate) fn expect_round_trip<C: ByteCodec>(codec: &C, messages: &[impl AsRef<[u8]>]) {
    let messages: Vec<&[u8]> = messages.iter().map(AsRef::as_ref).collect();
    let wire = encode_all(codec, &messages);
    for at in 0..=wire.len() {
        assert_eq!(
            decode_all(codec, &[&wire[..at], &wire[at..]]).expect("whole frames"),
            messages,
            "cut at {at}"
        );
    }
    let bytes: Vec<&[u8]> = wire.chunks(1).collect();
    assert_eq!(decode_all(codec, &bytes).expect("whole frames"), messages);
}
