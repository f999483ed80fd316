//! Values as a person writes them on a command line: durations, sizes, addresses. The text of each error says what would
//! have been right, because `clap` prints it behind the option and the value.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

/// A duration: a whole number and its unit, `250ms`, `5s`, `1m`. A plain number is none, because nothing says whether it
/// means seconds or milliseconds; only `0` needs no unit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text)?;
    let duration = match unit {
        "ns" => Duration::from_nanos(number),
        "us" => Duration::from_micros(number),
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.checked_mul(60).ok_or(TOO_LARGE)?),
        "h" => Duration::from_secs(number.checked_mul(3600).ok_or(TOO_LARGE)?),
        "" if number == 0 => Duration::ZERO,
        "" => return Err(format!("a duration has a unit: {number}s or {number}ms, say")),
        _ => return Err(format!("\"{unit}\" is no unit of time: ns, us, ms, s, m and h are")),
    };
    Ok(duration)
}

/// A duration that is not zero.
pub(crate) fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("it cannot be zero".to_owned()),
        duration => Ok(duration),
    }
}

/// A number of bytes: `1000`, `64KiB`, `16MiB`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text)?;
    let scale = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(format!("\"{unit}\" is no unit of size: B, KiB, MiB, GiB and TiB are")),
    };
    Ok(number.checked_mul(scale).ok_or(TOO_LARGE)?)
}

/// `HOST:PORT`, `[V6]:PORT` or `unix:PATH`, as text: whether the host can be found is another question, asked when it is used.
pub(crate) fn address(text: &str) -> Result<String, String> {
    let malformed = || "an address is HOST:PORT, [V6]:PORT in IPv6, or unix:PATH".to_owned();
    if let Some(path) = text.strip_prefix("unix:") {
        return if path.is_empty() { Err(malformed()) } else { Ok(text.to_owned()) };
    }
    if text.starts_with('[') {
        text.parse::<SocketAddrV6>().map_err(|_| malformed())?;
        return Ok(text.to_owned());
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(malformed)?;
    if !port.bytes().all(|byte| byte.is_ascii_digit()) || port.parse::<u16>().is_err() {
        return Err(format!("\"{port}\" is no port: 0 to 65535 are"));
    }
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte) || byte >= 0x80;
    if host.is_empty() || !host.bytes().all(is_name) {
        return Err(malformed());
    }
    // The system's resolver takes `1.2` for 1.0.0.2, which nobody means.
    let is_number = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_number && host.parse::<Ipv4Addr>().is_err() {
        return Err(malformed());
    }
    Ok(text.parse::<SocketAddr>().map_or_else(|_| text.to_owned(), |address| address.to_string()))
}

/// The mode of a file, in octal as `chmod` takes it: `600`, `0660`.
pub(crate) fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 && !text.starts_with('+') => Ok(mode),
        _ => Err("a mode is three octal digits: 600, 660 or 666, say".to_owned()),
    }
}

const TOO_LARGE: &str = "it is too large";

/// The number at the front, and what is behind it.
fn split(text: &str) -> Result<(u64, &str), String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err("it begins with a whole number".to_owned());
    }
    Ok((number.parse().map_err(|_| TOO_LARGE)?, unit))
}

// Run by `tests/programs`: cargo runs no tests of examples.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("1m"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(duration("10us"), Ok(Duration::from_micros(10)));
        assert_eq!(duration("7ns"), Ok(Duration::from_nanos(7)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("100000000000s"), Ok(Duration::from_secs(100_000_000_000)));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in
            ["", "5", "s", "-1s", "+1s", "1.5s", "5 s", "5sec", "5S", " 5s", "5s ", "0x5s", "٥s", "1s1s"]
        {
            assert!(duration(text).is_err(), "{text:?}");
        }
        assert!(positive_duration("0s").is_err());
        assert!(positive_duration("0").is_err());
        assert_eq!(positive_duration("1ns"), Ok(Duration::from_nanos(1)));
    }

    #[test]
    fn a_duration_that_overflows_is_refused() {
        assert!(duration("18446744073709551615s").is_ok());
        assert!(duration("18446744073709551616s").is_err());
        assert!(duration("18446744073709551615m").is_err());
        assert!(duration("18446744073709551615h").is_err());
    }

    #[test]
    fn a_size_is_a_number_and_perhaps_a_binary_unit() {
        assert_eq!(size("1000"), Ok(1000));
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("1B"), Ok(1));
        assert_eq!(size("64KiB"), Ok(64 * 1024));
        assert_eq!(size("16MiB"), Ok(16 * 1024 * 1024));
        assert_eq!(size("2GiB"), Ok(2 * 1024 * 1024 * 1024));
        assert_eq!(size("1TiB"), Ok(1 << 40));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "KiB", "-1", "1.5MiB", "1 MiB", "1kb", "1K", "1MB", "1_000"] {
            assert!(size(text).is_err(), "{text:?}");
        }
        assert!(size("18446744073709551615").is_ok());
        assert!(size("18446744073709551616").is_err());
        assert!(size("18446744073709551615KiB").is_err());
    }

    #[test]
    fn a_mode_is_octal() {
        assert_eq!((mode("600"), mode("0660"), mode("0")), (Ok(0o600), Ok(0o660), Ok(0)));
        for text in ["", "8", "-600", "+600", "0o600", "1000", "rw", "6 0"] {
            assert!(mode(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for text in
            ["127.0.0.1:0", "[::1]:7000", "localhost:65535", "my-host.example:80", "h_1:1", "0.0.0.0:7"]
        {
            assert_eq!(address(text), Ok(text.to_owned()));
        }
        for text in ["unix:x.sock", "unix:/run/a b:80", "unix:@name"] {
            assert_eq!(address(text), Ok(text.to_owned()));
        }
        let malformed = [
            "",
            ":",
            ":7000",
            "localhost",
            "localhost:",
            "localhost:x",
            "localhost:65536",
            "::1:7000",
            "[::1]",
            "[::1]:",
            "[::1:7000",
            "[127.0.0.1]:80",
            "1.2:80",
            "256.0.0.1:80",
            "127.0.0.1:-1",
            "127.0.0.1:+1",
            "a b:80",
            "unix:",
            "unix",
            "http://host:80",
            "127.0.0.1:80/",
        ];
        for text in malformed {
            assert!(address(text).is_err(), "{text:?}");
        }
    }
}
