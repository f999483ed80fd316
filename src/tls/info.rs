//! What was agreed with a peer, and who it is.

use std::fmt;

use rustls::pki_types::CertificateDer;
use rustls::{ProtocolVersion, SupportedCipherSuite};

/// What was agreed with the peer of an open connection, see [`Context::tls`](crate::Context::tls).
#[derive(Clone, Copy)]
pub struct TlsInfo<'a> {
    pub(crate) version: Option<ProtocolVersion>,
    pub(crate) suite: Option<SupportedCipherSuite>,
    pub(crate) alpn: Option<&'a [u8]>,
    pub(crate) server_name: Option<&'a str>,
    pub(crate) certificates: &'a [CertificateDer<'static>],
    pub(crate) resumed: bool,
}

impl<'a> TlsInfo<'a> {
    /// The version, `TLSv1_3` say.
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.version
    }

    /// The cipher suite, `TLS13_AES_256_GCM_SHA384` say.
    pub fn cipher_suite(&self) -> Option<SupportedCipherSuite> {
        self.suite
    }

    /// The protocol that was agreed on (ALPN), if any was.
    pub fn alpn(&self) -> Option<&'a [u8]> {
        self.alpn
    }

    /// The name of the server: the one that the client has asked for (SNI), if it has; for one who dialed, the name or address
    /// that the certificate is of.
    pub fn server_name(&self) -> Option<&'a str> {
        self.server_name
    }

    /// Whether the session was resumed, by a ticket of an earlier connection.
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// The certificates that the peer has shown, its own first, and that were found good: a client's if it was asked for one and
    /// has one, the server's otherwise. After a resumption those of the first connection. Empty for an anonymous client.
    pub fn certificates(&self) -> &'a [CertificateDer<'static>] {
        self.certificates
    }

    /// The subject of the peer's certificate: a distinguished name in DER, without the tag and the length of the sequence around
    /// it. `None` without a certificate.
    pub fn subject(&self) -> Option<Vec<u8>> {
        let own = self.certificates.first()?;
        let certificate = webpki::EndEntityCert::try_from(own).ok()?;
        Some(certificate.subject().to_vec())
    }

    /// The common name in the [subject](TlsInfo::subject) of the peer's certificate, if it has one that is text.
    pub fn common_name(&self) -> Option<String> {
        common_name(&self.subject()?)
    }

    /// The names of hosts that the peer's certificate is for.
    pub fn dns_names(&self) -> Vec<String> {
        let own = self.certificates.first();
        let certificate = own.and_then(|own| webpki::EndEntityCert::try_from(own).ok());
        certificate.map_or_else(Vec::new, |own| own.valid_dns_names().map(str::to_owned).collect())
    }
}

impl fmt::Debug for TlsInfo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsInfo")
            .field("version", &self.version)
            .field("suite", &self.suite)
            .field("alpn", &self.alpn.map(String::from_utf8_lossy))
            .field("server_name", &self.server_name)
            .field("certificates", &self.certificates.len())
            .field("resumed", &self.resumed)
            .finish()
    }
}

// Tags of DER, X.690.
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
/// 2.5.4.3, X.520.
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];

/// The last common name in a `Name` (RFC 5280, 4.1.2.4): a sequence of sets of pairs, with or without the sequence around it.
fn common_name(name: &[u8]) -> Option<String> {
    let mut sets = match element(name) {
        Some((SEQUENCE, inside, [])) => inside,
        _ => name,
    };
    let mut found = None;
    while let Some((SET, mut pairs, rest)) = element(sets) {
        while let Some((SEQUENCE, pair, more)) = element(pairs) {
            if let Some((OBJECT_ID, id, value)) = element(pair) {
                if id == COMMON_NAME {
                    found = element(value).and_then(|(_, text, _)| String::from_utf8(text.to_vec()).ok());
                }
            }
            pairs = more;
        }
        sets = rest;
    }
    found
}

/// The first element: its tag, what is in it, and what is behind it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut len = usize::from(first);
    if first & 0x80 != 0 {
        let count = usize::from(first & 0x7f);
        if count > 4 {
            return None;
        }
        let digits = rest.get(..count)?;
        rest = &rest[count..];
        len = digits.iter().fold(0, |len, digit| len << 8 | usize::from(*digit));
    }
    Some((tag, rest.get(..len)?, rest.get(len..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_common_name_is_found_with_and_without_the_sequence_around_it() {
        let pair = |id: &[u8], text: &[u8]| {
            let inside = [&[6, id.len() as u8], id, &[12, text.len() as u8], text].concat();
            let pair = [&[0x30, inside.len() as u8], &inside[..]].concat();
            [&[0x31, pair.len() as u8], &pair[..]].concat()
        };
        let sets = [pair(&[0x55, 4, 10], b"a company"), pair(&COMMON_NAME, b"a name")].concat();
        assert_eq!(common_name(&sets).as_deref(), Some("a name"));
        let whole = [&[0x30, sets.len() as u8], &sets[..]].concat();
        assert_eq!(common_name(&whole).as_deref(), Some("a name"));
        assert_eq!(common_name(&pair(&[0x55, 4, 10], b"a company")), None);
        assert_eq!(common_name(&pair(&COMMON_NAME, b"\xff\xff")), None);
        assert_eq!(common_name(&[]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            common_name(&bytes);
        }
    }
}
