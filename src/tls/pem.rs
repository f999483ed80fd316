//! Certificates and keys out of PEM, with errors that name the file.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::Error;

/// The cryptography, whatever default a program has set for others.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::read(path, source))
}

/// All certificates in `text`, at least one.
pub(super) fn certificates(text: &[u8], path: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(text).collect();
    let found = found.map_err(|error| Error::pem(path, error))?;
    if found.is_empty() {
        return Err(Error::pem(path, "there is no certificate in it (-----BEGIN CERTIFICATE-----)"));
    }
    Ok(found)
}

pub(super) fn private_key(text: &[u8], path: Option<&Path>) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            Error::pem(path, "there is no private key in it that can be read (-----BEGIN PRIVATE KEY-----)")
        }
        error => Error::pem(path, error),
    })
}

/// The certificates in `text` as those that are trusted.
pub(super) fn roots(text: &[u8], path: Option<&Path>, into: &mut RootCertStore) -> Result<(), Error> {
    for certificate in certificates(text, path)? {
        into.add(certificate).map_err(|error| Error::pem(path, error))?;
    }
    Ok(())
}

/// A chain, its own certificate first, with its key.
pub(super) fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    path: Option<&Path>,
) -> Result<Arc<CertifiedKey>, Error> {
    let certified = CertifiedKey::from_der(chain, key, &provider())
        .map_err(|source| Error::Certificate { path: path.map(Path::to_owned), source })?;
    Ok(Arc::new(certified))
}
