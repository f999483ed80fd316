//! What tries to break mainspring with bytes. Each function here is a target of libFuzzer, by its name; all of them are pure but
//! for [`connection`], which runs a reactor on loopback. `.ci/fuzz` runs them; a finding is replayed by
//! `.ci/fuzz NAME FILE`.
//!
//! An input is a few bytes that choose the settings, then what arrives.

mod choices;
mod codecs;
#[path = "../../tests/common/mod.rs"]
mod common;
mod machine;
mod naive;

pub use codecs::{framings, length_prefixed, messages, varint};
pub use machine::connection;

/// Addresses: what is read is written so that it is read again as the same, and nothing is read that the standard library does
/// not know.
pub fn address(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<mainspring::Address>() {
        Ok(address) => {
            assert_eq!(address.to_string().parse::<mainspring::Address>(), Ok(address.clone()));
            if let Some(ip) = address.ip() {
                assert_eq!(text.parse(), Ok(ip));
            }
        }
        Err(error) => {
            assert!(text.parse::<std::net::SocketAddr>().is_err(), "{text:?} is an address");
            assert!(error.to_string().contains(text), "the error names it");
        }
    }
}
