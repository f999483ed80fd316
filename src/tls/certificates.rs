//! The certificates of a server: by name, and changed while it runs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{Error, pem};

/// Certificates with their keys: one by default, and others for those who ask for a certain name (SNI).
///
/// Cheap to clone; all clones are the same set. It can be changed while it is in use, from any thread: connections that are
/// open stay as they are, each next handshake sees the new set whole.
///
/// ```no_run
/// use mainspring::tls::{Acceptor, Certificates};
///
/// let certificates = Certificates::from_pem_files("default.pem", "default.key")?;
/// certificates.add_pem_files("shop.example", "shop.pem", "shop.key")?;
/// certificates.add_pem_files("*.example", "wildcard.pem", "wildcard.key")?;
/// let acceptor = Acceptor::builder(certificates.clone()).build()?;
/// // Later, when the files are others:
/// certificates.reload()?;
/// # Ok::<(), mainspring::tls::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Certificates(Arc<RwLock<Set>>);

#[derive(Debug, Clone)]
struct Set {
    default: Entry,
    /// By name in lower case; `*.` stands for one label.
    named: HashMap<String, Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    certified: Arc<CertifiedKey>,
    /// Where it comes from, to be read again.
    files: Option<(PathBuf, PathBuf)>,
}

impl Entry {
    fn from_files(chain: &Path, key: &Path) -> Result<Entry, Error> {
        let certificates = pem::certificates(&pem::read(chain)?, Some(chain))?;
        let private = pem::private_key(&pem::read(key)?, Some(key))?;
        let certified = pem::certified(certificates, private, Some(chain))?;
        Ok(Entry { certified, files: Some((chain.to_owned(), key.to_owned())) })
    }

    fn from_text(chain: &[u8], key: &[u8]) -> Result<Entry, Error> {
        let certified = pem::certified(pem::certificates(chain, None)?, pem::private_key(key, None)?, None)?;
        Ok(Entry { certified, files: None })
    }

    fn read_again(&self) -> Result<Entry, Error> {
        match &self.files {
            Some((chain, key)) => Entry::from_files(chain, key),
            None => Ok(self.clone()),
        }
    }
}

impl Certificates {
    /// A set with one certificate, the default one, out of two PEM files: the server's own certificate with those that lead to
    /// its root behind it, and its private key (PKCS#8, or the older forms).
    ///
    /// # Errors
    /// A file cannot be read, has no certificate or key in it, or the two do not belong together. The error names the file.
    pub fn from_pem_files(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Certificates, Error> {
        Ok(Certificates::new(Entry::from_files(chain.as_ref(), key.as_ref())?))
    }

    /// As [`from_pem_files`](Certificates::from_pem_files), of PEM text.
    ///
    /// # Errors
    /// As there, without a file to name.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Certificates, Error> {
        Ok(Certificates::new(Entry::from_text(chain, key)?))
    }

    fn new(default: Entry) -> Certificates {
        Certificates(Arc::new(RwLock::new(Set { default, named: HashMap::new() })))
    }

    /// Adds a certificate for those who ask for `name`, in the place of the one that is there for it. `*.example` is for every name
    /// with one label more than `example`; one that is there by its whole name goes before it.
    ///
    /// # Errors
    /// As [`from_pem_files`](Certificates::from_pem_files). Nothing has changed then.
    pub fn add_pem_files(
        &self,
        name: &str,
        chain: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<(), Error> {
        self.insert(name, Entry::from_files(chain.as_ref(), key.as_ref())?);
        Ok(())
    }

    /// As [`add_pem_files`](Certificates::add_pem_files), of PEM text.
    ///
    /// # Errors
    /// As [`from_pem`](Certificates::from_pem). Nothing has changed then.
    pub fn add_pem(&self, name: &str, chain: &[u8], key: &[u8]) -> Result<(), Error> {
        self.insert(name, Entry::from_text(chain, key)?);
        Ok(())
    }

    fn insert(&self, name: &str, entry: Entry) {
        let mut set = self.0.write().unwrap_or_else(PoisonError::into_inner);
        set.named.insert(name.to_ascii_lowercase(), entry);
    }

    /// Puts another certificate in the place of the default one.
    ///
    /// # Errors
    /// As [`from_pem`](Certificates::from_pem). Nothing has changed then.
    pub fn set_default_pem(&self, chain: &[u8], key: &[u8]) -> Result<(), Error> {
        let entry = Entry::from_text(chain, key)?;
        self.0.write().unwrap_or_else(PoisonError::into_inner).default = entry;
        Ok(())
    }

    /// Reads all files once more. Those that came as text stay. It reads and judges before it changes anything, on the thread that
    /// calls it, and holds up no handshake meanwhile.
    ///
    /// # Errors
    /// One of the files cannot be used. Nothing has changed then: the server goes on with what it has.
    pub fn reload(&self) -> Result<(), Error> {
        let mut set = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        set.default = set.default.read_again()?;
        for entry in set.named.values_mut() {
            *entry = entry.read_again()?;
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = set;
        Ok(())
    }

    fn find(&self, name: Option<&str>) -> Arc<CertifiedKey> {
        let set = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let named = name.and_then(|name| {
            let name = name.to_ascii_lowercase();
            set.named.get(&name).or_else(|| {
                let (_, parent) = name.split_once('.')?;
                set.named.get(&format!("*.{parent}"))
            })
        });
        Arc::clone(&named.unwrap_or(&set.default).certified)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.find(hello.server_name()))
    }
}
