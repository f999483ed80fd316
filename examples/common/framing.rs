//! The framings that a program can be told to speak.

use clap::{Args, ValueEnum};
use mainspring::codec::{LengthPrefixed, Lines, Raw, Varint};

use super::values;

/// How frames are told apart, the same in all programs.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct FramingOptions {
    /// How a frame is told from the next
    #[arg(long, value_name = "KIND", default_value = "u32be")]
    framing: Kind,
    /// A longer frame closes its connection, and only that one
    #[arg(long, value_name = "SIZE", default_value = "100MiB", value_parser = values::size)]
    max_frame: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A length of four bytes, the high one first
    U32be,
    /// A length of four bytes, the low one first
    U32le,
    /// A length of two bytes, the high one first
    U16be,
    /// A length of one byte
    U8,
    /// A length in unsigned LEB128
    Varint,
    /// LF ends a frame, and one CR before it is dropped
    Lines,
    /// Whatever a read brings; --max-frame does not apply
    Raw,
}

/// One codec of those that [`FramingOptions`] can name, see [`with_codec`].
#[derive(Debug)]
pub(crate) enum AnyCodec {
    LengthPrefixed(LengthPrefixed),
    Varint(Varint),
    Lines(Lines),
    Raw(Raw),
}

impl FramingOptions {
    pub(crate) fn codec(&self) -> AnyCodec {
        let max = self.max_frame;
        let prefixed = LengthPrefixed::builder().max_frame(max);
        let prefixed = match self.framing {
            Kind::U32be => prefixed.width(4),
            Kind::U32le => prefixed.width(4).little_endian(),
            Kind::U16be => prefixed.width(2),
            Kind::U8 => prefixed.width(1),
            Kind::Varint => return AnyCodec::Varint(Varint::with_max_frame(max)),
            Kind::Lines => return AnyCodec::Lines(Lines::with_max_frame(max)),
            Kind::Raw => return AnyCodec::Raw(Raw),
        };
        AnyCodec::LengthPrefixed(prefixed.build().expect("one, two and four bytes are widths"))
    }

    /// For a program that has a framing of its own.
    pub(crate) fn max_frame(&self) -> u64 {
        self.max_frame
    }

    pub(crate) fn is_raw(&self) -> bool {
        self.framing == Kind::Raw
    }

    pub(crate) fn is_lines(&self) -> bool {
        self.framing == Kind::Lines
    }

    /// The longest frame that can be sent and received.
    pub(crate) fn longest(&self) -> u64 {
        let sayable = match self.framing {
            Kind::U8 => u8::MAX.into(),
            Kind::U16be => u16::MAX.into(),
            Kind::U32be | Kind::U32le => u32::MAX.into(),
            Kind::Raw => return u64::MAX,
            Kind::Varint | Kind::Lines => u64::MAX,
        };
        self.max_frame.min(sayable)
    }
}

/// Runs the body with the codec that the options name. The choice is made here, once: the body is compiled for each type
/// of codec, so that no message has to ask which one it is. Called where `common` is in scope.
#[allow(unused_macros, reason = "a program of one framing has nothing to choose")]
macro_rules! with_codec {
    ($framing:expr, |$codec:ident| $body:expr) => {
        match $framing.codec() {
            common::framing::AnyCodec::LengthPrefixed($codec) => $body,
            common::framing::AnyCodec::Varint($codec) => $body,
            common::framing::AnyCodec::Lines($codec) => $body,
            common::framing::AnyCodec::Raw($codec) => $body,
        }
    };
}
pub(crate) use with_codec;
