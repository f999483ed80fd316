//! Decoders that have the whole input and 128 bits for a number, written from the documentation.

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Clean,
    TooLong(u64),
    Malformed,
    Truncated(u64),
}

pub(crate) type Decoded = (Vec<Vec<u8>>, End);

/// The header before a payload.
pub(crate) struct Prefix {
    pub(crate) width: usize,
    pub(crate) offset: usize,
    pub(crate) little_endian: bool,
    /// Added to the field's value, gives the payload's length.
    pub(crate) adjustment: i128,
    pub(crate) keep: bool,
    pub(crate) skip: bool,
    pub(crate) max: u64,
}

impl Prefix {
    /// The largest payload: what is set, or what the field can say.
    pub(crate) fn limit(&self) -> i128 {
        ((1i128 << (8 * self.width)) - 1 + self.adjustment).min(i128::from(self.max))
    }

    pub(crate) fn decode(&self, wire: &[u8]) -> Decoded {
        let header = self.offset + self.width;
        let (mut messages, mut at) = (Vec::new(), 0);
        while at < wire.len() {
            let rest = &wire[at..];
            let Some(head) = rest.get(..header) else { return (messages, End::Truncated(rest.len() as u64)) };
            let digit = |value: i128, byte: &u8| value << 8 | i128::from(*byte);
            let value = match &head[self.offset..] {
                field if self.little_endian => field.iter().rev().fold(0, digit),
                field => field.iter().fold(0, digit),
            };
            let payload = value + self.adjustment;
            // No more than a machine of 64 bits can hold, whatever the maximum.
            let too_long = payload > self.limit().min(i128::from(u64::MAX) - header as i128);
            match payload {
                ..0 => return (messages, End::Malformed),
                _ if too_long && !self.skip => {
                    return (messages, End::TooLong(payload.min(i128::from(u64::MAX)) as u64));
                }
                _ if payload + header as i128 > rest.len() as i128 => {
                    return (messages, End::Truncated(rest.len() as u64));
                }
                _ => {}
            }
            let end = header + payload as usize;
            if !too_long {
                messages.push(rest[if self.keep { 0 } else { header }..end].to_vec());
            }
            at += end;
        }
        (messages, End::Clean)
    }
}

pub(crate) fn varint(wire: &[u8], max: u64, skip: bool) -> Decoded {
    let (mut messages, mut at) = (Vec::new(), 0);
    while at < wire.len() {
        let rest = &wire[at..];
        let (mut value, mut prefix, mut whole) = (0u128, 0, false);
        for byte in rest.iter().take(10) {
            value |= u128::from(byte & 0x7f) << (7 * prefix);
            prefix += 1;
            whole = byte & 0x80 == 0;
            if whole {
                break;
            }
        }
        if value > u128::from(u64::MAX)
            || (!whole && prefix == 10)
            || (whole && prefix > 1 && rest[prefix - 1] == 0)
        {
            return (messages, End::Malformed);
        }
        if !whole {
            return (messages, End::Truncated(rest.len() as u64));
        }
        // No more than a machine of 64 bits can hold, whatever the maximum.
        let too_long = value > u128::from(max).min(u128::from(u64::MAX) - prefix as u128);
        if too_long && !skip {
            return (messages, End::TooLong(value as u64));
        }
        if value + prefix as u128 > rest.len() as u128 {
            return (messages, End::Truncated(rest.len() as u64));
        }
        let end = prefix + value as usize;
        if !too_long {
            messages.push(rest[prefix..end].to_vec());
        }
        at += end;
    }
    (messages, End::Clean)
}
