//! The accepting side.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::named::noting;
use super::{Certificates, Error, pem};

/// Serves TLS: to be put into [`ListenOptions::tls`](crate::ListenOptions::tls). Cheap to clone, and one may be for many
/// listeners and reactors.
///
/// TLS 1.3 and 1.2 are spoken. Clients may resume a session by a ticket, so that they come back without a full handshake. It
/// holds nothing for those: what a ticket says is in the ticket, sealed with a key that is changed every six hours.
#[derive(Clone)]
pub struct Acceptor {
    config: Arc<ServerConfig>,
    certificates: Option<Certificates>,
}

/// Settings of an [`Acceptor`] to be.
#[derive(Debug, Clone)]
pub struct AcceptorBuilder {
    certificates: Certificates,
    client_ca: Option<Trusted>,
    client_optional: bool,
    alpn: Vec<Vec<u8>>,
}

#[derive(Debug, Clone)]
enum Trusted {
    File(PathBuf),
    Text(Vec<u8>),
}

impl Acceptor {
    /// One certificate for all, out of two PEM files; clients need none.
    ///
    /// # Errors
    /// As [`Certificates::from_pem_files`].
    pub fn from_pem_files(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Acceptor, Error> {
        Acceptor::builder(Certificates::from_pem_files(chain, key)?).build()
    }

    /// As [`from_pem_files`](Acceptor::from_pem_files), of PEM text.
    ///
    /// # Errors
    /// As [`Certificates::from_pem`].
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Acceptor, Error> {
        Acceptor::builder(Certificates::from_pem(chain, key)?).build()
    }

    /// An acceptor with more settings than a certificate.
    pub fn builder(certificates: Certificates) -> AcceptorBuilder {
        AcceptorBuilder { certificates, client_ca: None, client_optional: false, alpn: Vec::new() }
    }

    /// Takes a configuration of rustls as it is.
    ///
    /// # Errors
    /// It takes early data ([`ServerConfig::max_early_data_size`]), which is not supported: such data can be replayed, and a handler
    /// could not tell.
    pub fn from_config(config: Arc<ServerConfig>) -> Result<Acceptor, Error> {
        Acceptor::with(&config, None)
    }

    fn with(config: &ServerConfig, certificates: Option<Certificates>) -> Result<Acceptor, Error> {
        if config.max_early_data_size > 0 {
            return Err(Error::config("early data is not supported: max_early_data_size has to be zero"));
        }
        Ok(Acceptor { config: Arc::new(noting(config)), certificates })
    }

    /// Its certificates, to be changed while it serves; none for one that was made [from a
    /// configuration](Acceptor::from_config).
    pub fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }
}

impl AcceptorBuilder {
    /// Clients have to show a certificate that leads to one of those in this PEM file. Others are turned away, before they are
    /// connections. What they have shown is in [`TlsInfo::certificates`](super::TlsInfo::certificates).
    #[must_use]
    pub fn client_ca_file(mut self, path: impl AsRef<Path>) -> AcceptorBuilder {
        self.client_ca = Some(Trusted::File(path.as_ref().to_owned()));
        self
    }

    /// As [`client_ca_file`](AcceptorBuilder::client_ca_file), of PEM text.
    #[must_use]
    pub fn client_ca_pem(mut self, text: &[u8]) -> AcceptorBuilder {
        self.client_ca = Some(Trusted::Text(text.to_vec()));
        self
    }

    /// Clients may come without a certificate, and the handler decides. One that is shown has to be good all the same. Defaults
    /// to no: with an authority for clients, all have to show one.
    #[must_use]
    pub fn client_optional(mut self, yes: bool) -> AcceptorBuilder {
        self.client_optional = yes;
        self
    }

    /// The protocols that are spoken here, the best first (ALPN). A client that names others alone is turned away; one that
    /// names none is let in. Defaults to none, and then nothing is agreed.
    #[must_use]
    pub fn alpn<P: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = P>) -> AcceptorBuilder {
        self.alpn = protocols.into_iter().map(|protocol| protocol.as_ref().to_vec()).collect();
        self
    }

    /// Makes the acceptor.
    ///
    /// # Errors
    /// The file of the clients' authorities cannot be used; the error names it.
    pub fn build(self) -> Result<Acceptor, Error> {
        let provider = pem::provider();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(Error::config)?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(trusted) => {
                let mut roots = RootCertStore::empty();
                match trusted {
                    Trusted::File(path) => pem::roots(&pem::read(path)?, Some(path), &mut roots)?,
                    Trusted::Text(text) => pem::roots(text, None, &mut roots)?,
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = if self.client_optional { verifier.allow_unauthenticated() } else { verifier };
                builder.with_client_cert_verifier(verifier.build().map_err(Error::config)?)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(self.certificates.clone()));
        config.alpn_protocols = self.alpn;
        config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(Error::config)?;
        Acceptor::with(&config, Some(self.certificates))
    }
}

impl PartialEq for Acceptor {
    /// Whether both are clones of one.
    fn eq(&self, other: &Acceptor) -> bool {
        Arc::ptr_eq(&self.config, &other.config)
    }
}

impl Eq for Acceptor {}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").finish_non_exhaustive()
    }
}
