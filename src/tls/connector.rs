//! The dialing side.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

use super::{Error, pem};

/// Dials TLS: to be given to [`Dial::tls`](crate::Dial::tls) or [`client::Builder::tls`](crate::client::Builder::tls). Cheap
/// to clone, and one should be for many connections: it remembers sessions (256 of them), and a server that is dialed again
/// is spared a full handshake.
///
/// A server has to show a certificate of its name that leads to a root that is trusted here. There is no way to do without,
/// but a configuration of one's own.
#[derive(Clone)]
pub struct Connector {
    config: Arc<ClientConfig>,
}

/// Settings of a [`Connector`] to be.
#[derive(Debug, Clone, Default)]
pub struct ConnectorBuilder {
    trusted: Vec<Trusted>,
    identity: Option<Identity>,
    alpn: Vec<Vec<u8>>,
}

#[derive(Debug, Clone)]
enum Trusted {
    File(PathBuf),
    Text(Vec<u8>),
    System,
}

#[derive(Debug, Clone)]
enum Identity {
    Files(PathBuf, PathBuf),
    Text(Vec<u8>, Vec<u8>),
}

impl Connector {
    /// Trusts the roots in this PEM file, and no others.
    ///
    /// # Errors
    /// The file cannot be read, or has no certificate in it. The error names it.
    pub fn trusting_pem_file(roots: impl AsRef<Path>) -> Result<Connector, Error> {
        Connector::builder().trust_pem_file(roots).build()
    }

    /// As [`trusting_pem_file`](Connector::trusting_pem_file), of PEM text.
    ///
    /// # Errors
    /// There is no certificate in it.
    pub fn trusting_pem(roots: &[u8]) -> Result<Connector, Error> {
        Connector::builder().trust_pem(roots).build()
    }

    /// Trusts the roots of the system, see [`ConnectorBuilder::trust_system`].
    ///
    /// # Errors
    /// There is no file of them.
    pub fn trusting_system() -> Result<Connector, Error> {
        Connector::builder().trust_system().build()
    }

    /// A connector with more settings.
    pub fn builder() -> ConnectorBuilder {
        ConnectorBuilder::default()
    }

    /// Takes a configuration of rustls as it is.
    pub fn from_config(config: Arc<ClientConfig>) -> Connector {
        Connector { config }
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }
}

impl ConnectorBuilder {
    /// Trusts the roots in this PEM file too.
    #[must_use]
    pub fn trust_pem_file(mut self, roots: impl AsRef<Path>) -> ConnectorBuilder {
        self.trusted.push(Trusted::File(roots.as_ref().to_owned()));
        self
    }

    /// Trusts the roots in this PEM text too.
    #[must_use]
    pub fn trust_pem(mut self, roots: &[u8]) -> ConnectorBuilder {
        self.trusted.push(Trusted::Text(roots.to_vec()));
        self
    }

    /// Trusts the roots of the system too: the file that `SSL_CERT_FILE` names, or the first of those that is where Linux
    /// distributions and the BSDs have theirs. Roots in there that cannot be used are passed over. There is no such file on
    /// Windows and on Apple's systems.
    #[must_use]
    pub fn trust_system(mut self) -> ConnectorBuilder {
        self.trusted.push(Trusted::System);
        self
    }

    /// Shows this certificate to servers that ask for one (mTLS): two PEM files as in
    /// [`Certificates::from_pem_files`](super::Certificates::from_pem_files).
    #[must_use]
    pub fn identity_pem_files(mut self, chain: impl AsRef<Path>, key: impl AsRef<Path>) -> ConnectorBuilder {
        self.identity = Some(Identity::Files(chain.as_ref().to_owned(), key.as_ref().to_owned()));
        self
    }

    /// As [`identity_pem_files`](ConnectorBuilder::identity_pem_files), of PEM text.
    #[must_use]
    pub fn identity_pem(mut self, chain: &[u8], key: &[u8]) -> ConnectorBuilder {
        self.identity = Some(Identity::Text(chain.to_vec(), key.to_vec()));
        self
    }

    /// The protocols that are spoken here, the best first (ALPN). Defaults to none, and then nothing is agreed.
    #[must_use]
    pub fn alpn<P: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = P>) -> ConnectorBuilder {
        self.alpn = protocols.into_iter().map(|protocol| protocol.as_ref().to_vec()).collect();
        self
    }

    /// Makes the connector.
    ///
    /// # Errors
    /// A file cannot be used, and the error names it; or nobody is trusted.
    pub fn build(self) -> Result<Connector, Error> {
        let mut roots = RootCertStore::empty();
        for trusted in &self.trusted {
            match trusted {
                Trusted::File(path) => pem::roots(&pem::read(path)?, Some(path), &mut roots)?,
                Trusted::Text(text) => pem::roots(text, None, &mut roots)?,
                Trusted::System => {
                    let path = system_roots()?;
                    let all = pem::certificates(&pem::read(&path)?, Some(&path))?;
                    if roots.add_parsable_certificates(all).0 == 0 {
                        return Err(Error::pem(Some(&path), "there is no root in it that can be used"));
                    }
                }
            }
        }
        if roots.is_empty() {
            return Err(Error::config("no root is trusted: every server would be turned down"));
        }
        let builder = ClientConfig::builder_with_provider(pem::provider())
            .with_safe_default_protocol_versions()
            .map_err(Error::config)?
            .with_root_certificates(roots);
        let mut config = match self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (path, chain, key) = match identity {
                    Identity::Files(chain, key) => {
                        let certificates = pem::certificates(&pem::read(&chain)?, Some(&chain))?;
                        let key = pem::private_key(&pem::read(&key)?, Some(&key))?;
                        (Some(chain), certificates, key)
                    }
                    Identity::Text(chain, key) => {
                        (None, pem::certificates(&chain, None)?, pem::private_key(&key, None)?)
                    }
                };
                pem::certified(chain.clone(), key.clone_key(), path.as_deref())?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|source| Error::Certificate { path, source })?
            }
        };
        config.alpn_protocols = self.alpn;
        Ok(Connector::from_config(Arc::new(config)))
    }
}

/// Where systems have their roots in one file.
const ROOTS: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/etc/ssl/cert.pem",
];

fn system_roots() -> Result<PathBuf, Error> {
    if let Some(path) = env::var_os("SSL_CERT_FILE") {
        return Ok(path.into());
    }
    let found = ROOTS.iter().map(PathBuf::from).find(|path| path.is_file());
    found.ok_or_else(|| {
        Error::config(
            "the system has no file of trusted roots where one was looked for; SSL_CERT_FILE names it",
        )
    })
}

impl PartialEq for Connector {
    /// Whether both are clones of one.
    fn eq(&self, other: &Connector) -> bool {
        Arc::ptr_eq(&self.config, &other.config)
    }
}

impl Eq for Connector {}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}
