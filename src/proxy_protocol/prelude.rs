//! What has come of a header so far, and how much more of it may be read.
//!
//! No byte behind the header is ever read: what follows is the connection's own, TLS for example. The binary header says how long
//! it is. The one of text ends with its line, and is read in steps that cannot be longer than what is left of it: to the shortest
//! one there is, and then by the two bytes that end any of them.

use ppp::PartialResult as _;
use ppp::v2;

use super::{ProxyHeader, Refusal};
use crate::address::Address;

const V1: &[u8] = b"PROXY ";
/// The longest header of version 1, from its specification.
const V1_MAX: usize = 107;
/// The shortest headers of version 1: any, and of the two families.
const V1_MIN: usize = b"PROXY UNKNOWN\r\n".len();
const V1_TCP4_MIN: usize = b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n".len();
const V1_TCP6_MIN: usize = b"PROXY TCP6 :: :: 0 0\r\n".len();
/// The header of version 2 up to its length.
const V2_MIN: usize = 16;

/// A header that is not whole yet.
#[derive(Debug)]
pub(crate) struct Prelude {
    bytes: Vec<u8>,
    max: usize,
}

impl Prelude {
    pub(crate) fn new(max: usize) -> Prelude {
        Prelude { bytes: Vec::new(), max }
    }

    /// How many more bytes are the header's for certain. Zero: it is whole.
    pub(crate) fn wants(&self) -> Result<usize, Refusal> {
        let have = &*self.bytes;
        let begins_as = |magic: &[u8]| have.iter().zip(magic).all(|(a, b)| a == b);
        if begins_as(V1) {
            self.wants_v1()
        } else if begins_as(v2::PROTOCOL_PREFIX) {
            self.wants_v2()
        } else {
            Err(Refusal::Missing)
        }
    }

    /// Version 1, or nothing yet.
    fn wants_v1(&self) -> Result<usize, Refusal> {
        let have = &*self.bytes;
        let max = self.max.min(V1_MAX);
        let len = have.len();
        if let Some(end) = have.iter().position(|byte| *byte == b'\n') {
            return if end + 1 == len {
                Ok(0)
            } else {
                Err(Refusal::Malformed("its line is too short".into()))
            };
        }
        if len >= max {
            return Err(Refusal::TooLong(len));
        }
        let shortest = if have.starts_with(b"PROXY TCP4 ") {
            V1_TCP4_MIN
        } else if have.starts_with(b"PROXY TCP6 ") {
            V1_TCP6_MIN
        } else {
            V1_MIN
        };
        let end = if have.last() == Some(&b'\r') { 1 } else { 2 };
        Ok(shortest.saturating_sub(len).max(end).min(max - len))
    }

    fn wants_v2(&self) -> Result<usize, Refusal> {
        let have = &*self.bytes;
        let Some(len) = have.get(14..V2_MIN) else { return Ok(V2_MIN - have.len()) };
        let whole = V2_MIN + usize::from(u16::from_be_bytes([len[0], len[1]]));
        if whole > self.max {
            return Err(Refusal::TooLong(whole));
        }
        match v2::Header::try_from(have) {
            Err(error) if !error.is_incomplete() => Err(Refusal::Malformed(error.to_string())),
            _ => Ok(whole - have.len()),
        }
    }

    /// Some more of it has come, no more than it [wants](Prelude::wants).
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Nothing has come yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The header, once it wants nothing more.
    pub(crate) fn read(&self, proxy: Address) -> Result<ProxyHeader, Refusal> {
        ProxyHeader::read(&self.bytes, proxy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds bytes in pieces of these sizes, over and over. Answers how many bytes were the header's, and what it said.
    fn feed(bytes: &[u8], pieces: &[usize]) -> Result<(usize, ProxyHeader), Refusal> {
        let mut prelude = Prelude::new(4096);
        let mut at = 0;
        for piece in pieces.iter().cycle() {
            let wants = prelude.wants()?;
            if wants == 0 {
                return prelude.read(proxy()).map(|header| (at, header));
            }
            let n = wants.min(*piece).min(bytes.len() - at);
            if n == 0 {
                return Err(Refusal::Ended);
            }
            prelude.add(&bytes[at..at + n]);
            at += n;
        }
        unreachable!("there are pieces")
    }

    fn proxy() -> Address {
        "192.0.2.9:1".parse().unwrap()
    }

    fn at(text: &str) -> Option<Address> {
        Some(text.parse().unwrap())
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = v2::PROTOCOL_PREFIX.to_vec();
        bytes.extend_from_slice(&[0x20 | command, family]);
        bytes.extend_from_slice(&(body.len() as u16).to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    fn ipv4_body() -> Vec<u8> {
        vec![192, 0, 2, 1, 192, 0, 2, 2, 0x12, 0x34, 0, 80]
    }

    /// Proper headers, with the client that each tells of.
    fn headers() -> Vec<(Vec<u8>, Option<Address>)> {
        let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(V1_MAX - 16));
        assert_eq!(longest.len(), V1_MAX);
        let mut all: Vec<(Vec<u8>, Option<Address>)> = [
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
            (&*longest, None),
            ("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", at("0.0.0.0:0")),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 4660 80\r\n", at("192.0.2.1:4660")),
            ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", at("255.255.255.255:65535")),
            ("PROXY TCP6 :: :: 0 0\r\n", at("[::]:0")),
            ("PROXY TCP6 2001:db8::1 ::1 1 2\r\n", at("[2001:db8::1]:1")),
            ("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", at("192.0.2.1:1")),
        ]
        .map(|(text, client)| (text.as_bytes().to_vec(), client))
        .into();
        let mut with_tlvs = ipv4_body();
        with_tlvs.extend_from_slice(&[5, 0, 3, b'a', b'b', b'c', 4, 0, 0, 5, 0, 1, b'z']);
        let mut ipv6 = vec![0; 36];
        (ipv6[15], ipv6[33]) = (1, 7);
        let mut unix = vec![0; 216];
        unix[..6].copy_from_slice(b"/run/x");
        all.extend([
            (v2(0, 0, &[]), None),
            (v2(0, 0x11, &ipv4_body()), None),
            (v2(1, 0, &[]), None),
            (v2(1, 0, &[1, 2, 3]), None),
            (v2(1, 0x11, &ipv4_body()), at("192.0.2.1:4660")),
            (v2(1, 0x12, &ipv4_body()), None),
            (v2(1, 0x11, &with_tlvs), at("192.0.2.1:4660")),
            (v2(1, 0x21, &ipv6), at("[::1]:7")),
            (v2(1, 0x31, &unix), at("unix:/run/x")),
        ]);
        all
    }

    #[test]
    fn a_header_is_read_whole_and_no_further_however_it_comes() {
        for (header, client) in headers() {
            let mut stream = header.clone();
            stream.extend_from_slice(b"\r\n\nPROXY UNKNOWN\r\n and what follows");
            for cut in 1..=header.len() {
                let pieces = [cut, stream.len()];
                let (len, told) = feed(&stream, &pieces).unwrap_or_else(|why| panic!("{why}: {header:?}"));
                assert_eq!((len, told.source()), (header.len(), client.as_ref()), "{header:?}");
                assert_eq!(told.proxy(), &proxy());
            }
            assert_eq!(feed(&stream, &[1]).unwrap().0, header.len());
            for end in 0..header.len() {
                assert_eq!(feed(&header[..end], &[7]), Err(Refusal::Ended), "{:?}", &header[..end]);
            }
        }
    }

    #[test]
    fn what_else_a_header_says_can_be_read() {
        let mut body = ipv4_body();
        body.extend_from_slice(&[5, 0, 3, b'a', b'b', b'c', 4, 0, 0, 5, 0, 1, b'z']);
        let (_, header) = feed(&v2(1, 0x11, &body), &[99]).unwrap();
        assert_eq!((header.version(), header.is_local()), (2, false));
        assert_eq!(header.destination(), at("192.0.2.2:80").as_ref());
        assert_eq!(header.tlvs().collect::<Vec<_>>(), [(5, &b"abc"[..]), (4, b""), (5, b"z")]);
        assert_eq!((header.tlv(5), header.tlv(4), header.tlv(1)), (Some(&b"abc"[..]), Some(&b""[..]), None));
        let (_, header) = feed(&v2(0, 0, &[]), &[99]).unwrap();
        assert!(header.is_local() && header.source().is_none());
        assert_eq!(feed(b"PROXY UNKNOWN\r\n", &[99]).unwrap().1.version(), 1);
    }

    #[test]
    fn what_is_no_header_is_refused_as_soon_as_it_is_seen() {
        for (bytes, refusal) in [
            (&b"GET / HTTP/1.1\r\n"[..], Refusal::Missing),
            (b"proxy tcp4", Refusal::Missing),
            (b"PROXZ", Refusal::Missing),
            (b"\r\n\r\n\0\r\nQUIZ", Refusal::Missing),
            (b"\0\0\0\x05hello", Refusal::Missing),
        ] {
            assert_eq!(feed(bytes, &[1]), Err(refusal), "{bytes:?}");
        }
        for text in [
            "PROXY TCP4 192.0.2.1 192.0.2.2 80\r\n     ",
            "PROXY TCP4 192.0.2.1 192.0.2.2 080 80\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 65536 80\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 80 80 80\r\n",
            "PROXY TCP4 ::1 ::1 80 80 .......\r\n",
            "PROXY TCP5 192.0.2.1 192.0.2.2 80 80\r\n",
            "PROXY  TCP4 192.0.2.1 192.0.2.2 80 80\r\n",
            "PROXY UNKNOWN\nabc",
            "PROXY UNKNOWN \rabc\r\n",
            "PROXY UNKNOWN \u{fffd}\u{fffd}\n",
            "PROXY \r\n and so on",
        ] {
            let refused = feed(text.as_bytes(), &[3]);
            assert!(matches!(refused, Err(Refusal::Malformed(_))), "{text:?}: {refused:?}");
        }
        let mut not_utf8 = b"PROXY UNKNOWN ".to_vec();
        not_utf8.extend_from_slice(&[0xff, 0xfe, b'\r', b'\n']);
        assert!(matches!(feed(&not_utf8, &[1]), Err(Refusal::Malformed(_))));
        let mut versions = v2(1, 0x11, &ipv4_body());
        versions[12] = 0x31;
        for wrong in [
            versions,
            v2(2, 0x11, &ipv4_body()),
            v2(1, 0x41, &ipv4_body()),
            v2(1, 0x13, &ipv4_body()),
            v2(1, 0x11, &ipv4_body()[..11]),
            v2(1, 0x21, &ipv4_body()),
            v2(1, 0x11, &[&ipv4_body()[..], &[5, 0, 9, 1]].concat()),
            v2(1, 0x11, &[&ipv4_body()[..], &[5, 0]].concat()),
        ] {
            let refused = feed(&wrong, &[5]);
            assert!(matches!(refused, Err(Refusal::Malformed(_))), "{wrong:?}: {refused:?}");
        }
    }

    #[test]
    fn a_header_that_is_too_long_is_refused_before_it_is_there() {
        let text = format!("PROXY UNKNOWN {}", "x".repeat(500));
        assert_eq!(feed(text.as_bytes(), &[50]), Err(Refusal::TooLong(V1_MAX)));
        let long = v2(1, 0x11, &vec![0; 4096 - 15]);
        assert_eq!(feed(&long[..16], &[50]), Err(Refusal::TooLong(4097)));
        assert_eq!(feed(&v2(0, 0, &vec![0; 4096 - 16]), &[50]).unwrap().0, 4096);
    }

    proptest! {
        /// Whatever comes, in whatever pieces: it ends with an answer, the same kind for all ways to cut it, and a header is never
        /// longer than it may be.
        #[test]
        fn garbage_is_judged_and_never_panics(
            which in 0usize..64,
            noise in prop::collection::vec((0usize..64, any::<u8>()), 0..4),
            rest in prop::collection::vec(any::<u8>(), 0..300),
            pieces in prop::collection::vec(1usize..40, 1..6),
        ) {
            let all = headers();
            let mut bytes = all.get(which).map_or_else(Vec::new, |(header, _)| header.clone());
            bytes.extend_from_slice(&rest);
            for (place, byte) in noise {
                if let Some(at) = bytes.get_mut(place) {
                    *at = byte;
                }
            }
            // A line that ends too early is found out by what is behind it, or by itself.
            let feed = |bytes: &[u8], pieces: &[usize]| {
                feed(bytes, pieces).map_err(|refusal| match refusal {
                    Refusal::Malformed(_) => Refusal::Malformed(String::new()),
                    other => other,
                })
            };
            let one = feed(&bytes, &pieces);
            if let Ok((len, _)) = &one {
                prop_assert!(*len <= 4096);
            }
            prop_assert_eq!(one, feed(&bytes, &[1]));
        }
    }
}
