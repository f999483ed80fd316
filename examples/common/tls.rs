//! TLS in the programs: its options, for those who serve and for those who dial. Without the feature `tls` they are there too,
//! and say what is missing.

use std::error::Error;
use std::path::PathBuf;

use clap::Args;
use mainspring::{Dial, ListenOptions};

/// The options of a server.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServeTls {
    /// Serve TLS, with the certificate in this PEM file and those that lead to its root (built with the feature `tls`)
    #[arg(long, value_name = "FILE", requires = "tls_key", value_parser = file)]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert", value_parser = file)]
    tls_key: Option<PathBuf>,
    /// Let in only clients with a certificate of one of the authorities in this PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert", value_parser = file)]
    tls_client_ca: Option<PathBuf>,
}

/// The options of a program that connects.
#[derive(Debug, Clone, Args)]
pub(crate) struct DialTls {
    /// Speak TLS; the server has to show a certificate of the host in ADDR (built with the feature `tls`)
    #[arg(long, value_parser = flag)]
    tls: bool,
    /// Trust the roots in this PEM file alone [default: those of the system]
    #[arg(long, value_name = "FILE", requires = "tls", value_parser = file)]
    tls_ca: Option<PathBuf>,
    /// Want to see this name in the certificate [default: the host in ADDR]
    #[arg(long, value_name = "NAME", requires = "tls")]
    tls_name: Option<String>,
    /// Show this certificate to a server that asks for one, a PEM file
    #[arg(long, value_name = "FILE", requires_all = ["tls", "tls_key"], value_parser = file)]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert", value_parser = file)]
    tls_key: Option<PathBuf>,
}

#[cfg(not(feature = "tls"))]
const MISSING: &str = "this program was built without TLS (cargo build --features tls)";

#[cfg(feature = "tls")]
fn file(text: &str) -> Result<PathBuf, String> {
    Ok(PathBuf::from(text))
}

#[cfg(not(feature = "tls"))]
fn file(_: &str) -> Result<PathBuf, String> {
    Err(MISSING.to_owned())
}

/// What a flag that is given is read as, `true`; and one that is not, `false`.
fn flag(text: &str) -> Result<bool, String> {
    #[cfg(not(feature = "tls"))]
    if text == "true" {
        return Err(MISSING.to_owned());
    }
    Ok(text == "true")
}

impl ServeTls {
    /// The options of each listener.
    #[cfg(feature = "tls")]
    pub(crate) fn listen_options(&self) -> Result<ListenOptions, Box<dyn Error>> {
        use mainspring::tls::{Acceptor, Certificates};
        let (Some(chain), Some(key)) = (&self.tls_cert, &self.tls_key) else {
            return Ok(ListenOptions::default());
        };
        let mut builder = Acceptor::builder(Certificates::from_pem_files(chain, key)?);
        if let Some(authorities) = &self.tls_client_ca {
            builder = builder.client_ca_file(authorities);
        }
        Ok(ListenOptions::tls(builder.build()?))
    }

    #[cfg(not(feature = "tls"))]
    pub(crate) fn listen_options(&self) -> Result<ListenOptions, Box<dyn Error>> {
        Ok(ListenOptions::default())
    }
}

impl DialTls {
    pub(crate) fn is_asked_for(&self) -> bool {
        self.tls
    }

    /// The same dial, with TLS if it was asked for.
    #[cfg(feature = "tls")]
    pub(crate) fn secure(&self, dial: Dial) -> Result<Dial, Box<dyn Error>> {
        use mainspring::tls::Connector;
        if !self.tls {
            return Ok(dial);
        }
        let builder = Connector::builder();
        let mut builder = match &self.tls_ca {
            Some(roots) => builder.trust_pem_file(roots),
            None => builder.trust_system(),
        };
        if let (Some(chain), Some(key)) = (&self.tls_cert, &self.tls_key) {
            builder = builder.identity_pem_files(chain, key);
        }
        let dial = dial.tls(builder.build()?);
        Ok(match &self.tls_name {
            Some(name) => dial.server_name(name),
            None => dial,
        })
    }

    #[cfg(not(feature = "tls"))]
    pub(crate) fn secure(&self, dial: Dial) -> Result<Dial, Box<dyn Error>> {
        Ok(dial)
    }
}
