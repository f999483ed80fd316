//! The framing that all servers here speak: a 4-byte big-endian length, then so many bytes.

/// Length of the prefix.
pub(crate) const PREFIX: usize = 4;
/// As in mainspring's examples.
pub(crate) const PAYLOAD_MAX: usize = 100 << 20;

/// A frame says that it is longer than [`PAYLOAD_MAX`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// The length, prefix included, of the frame that `bytes` begin with, once that is known.
pub(crate) fn frame_len(bytes: &[u8]) -> Result<Option<usize>, TooLong> {
    let Some(prefix) = bytes.first_chunk::<PREFIX>() else { return Ok(None) };
    let payload = u32::from_be_bytes(*prefix) as usize;
    if payload > PAYLOAD_MAX { Err(TooLong) } else { Ok(Some(PREFIX + payload)) }
}

/// How many of `bytes`, from the first on, are whole frames.
pub(crate) fn whole_frames(bytes: &[u8]) -> Result<usize, TooLong> {
    let mut whole = 0;
    while let Some(len) = frame_len(&bytes[whole..])? {
        if bytes.len() - whole < len {
            break;
        }
        whole += len;
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_frames_count() {
        let two = [0, 0, 0, 1, 9, 0, 0, 0, 0];
        let counts = (0..=two.len()).map(|n| whole_frames(&two[..n]).unwrap()).collect::<Vec<_>>();
        assert_eq!(counts, [0, 0, 0, 0, 0, 5, 5, 5, 5, 9]);
    }

    #[test]
    fn a_frame_past_the_limit_is_refused_by_its_prefix_alone() {
        assert_eq!(frame_len(&[0x7f, 0, 0, 0]), Err(TooLong));
        assert_eq!(frame_len(&(PAYLOAD_MAX as u32).to_be_bytes()), Ok(Some(PREFIX + PAYLOAD_MAX)));
    }
}
