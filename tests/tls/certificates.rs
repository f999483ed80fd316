//! Certificates of an authority that each test makes for itself.

use std::time::Duration;

use mainspring::tls::{Acceptor, Certificates, Connector};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

/// A root that signs.
pub(crate) struct Authority {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

/// A certificate and its key, in PEM.
#[derive(Debug, Clone)]
pub(crate) struct Issued {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        Authority::named("a root of a test")
    }

    pub(crate) fn named(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Authority { certificate, key }
    }

    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// For these names, which may be addresses; the first is the subject too.
    pub(crate) fn issue(&self, names: &[&str]) -> Issued {
        self.issue_with(names, |_| {})
    }

    pub(crate) fn issue_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).expect("names");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, names[0].clone());
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.certificate, &self.key).expect("a certificate");
        Issued { chain: certificate.pem(), key: key.serialize_pem() }
    }

    /// One whose time is over.
    pub(crate) fn issue_expired(&self, name: &str) -> Issued {
        self.issue_with(&[name], |params| {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        })
    }

    pub(crate) fn connector(&self) -> Connector {
        Connector::trusting_pem(self.pem().as_bytes()).expect("a root")
    }
}

impl Issued {
    pub(crate) fn certificates(&self) -> Certificates {
        Certificates::from_pem(self.chain.as_bytes(), self.key.as_bytes()).expect("a certificate")
    }

    pub(crate) fn acceptor(&self) -> Acceptor {
        Acceptor::from_pem(self.chain.as_bytes(), self.key.as_bytes()).expect("a certificate")
    }
}

/// A server's certificate for this machine, and the authority it is from.
pub(crate) fn local() -> (Authority, Issued) {
    let authority = Authority::new();
    let issued = authority.issue(&["localhost", "127.0.0.1", "::1"]);
    (authority, issued)
}

/// How long a test lets a handshake take that is to be given up.
pub(crate) const SHORT: Duration = Duration::from_millis(300);
