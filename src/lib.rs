//! Framed TCP from one thread.

#![forbid(unsafe_code)]

pub mod codec;
