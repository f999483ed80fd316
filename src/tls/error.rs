//! What is wrong with a certificate, a key or a configuration, and with which file.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why TLS cannot be served or dialed as it was asked for. Peers have no part in it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read.
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file, or text, has not what was looked for in it.
    Pem {
        /// The file; none for text that was given as it is.
        path: Option<PathBuf>,
        /// What is wrong with it.
        what: String,
    },
    /// A certificate and a key do not belong together, or cannot be used.
    Certificate {
        /// The file of the certificate; none for text that was given as it is.
        path: Option<PathBuf>,
        /// What rustls says.
        source: rustls::Error,
    },
    /// The pieces make no configuration. The text says why.
    Config(String),
}

impl Error {
    pub(super) fn read(path: &Path, source: io::Error) -> Error {
        Error::Read { path: path.to_owned(), source }
    }

    pub(super) fn pem(path: Option<&Path>, what: impl fmt::Display) -> Error {
        Error::Pem { path: path.map(Path::to_owned), what: what.to_string() }
    }

    pub(super) fn config(what: impl fmt::Display) -> Error {
        Error::Config(what.to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Read { path, source } => write!(f, "cannot read {}: {source}", path.display()),
            Error::Pem { path: Some(path), what } => write!(f, "{}: {what}", path.display()),
            Error::Pem { path: None, what } | Error::Config(what) => f.write_str(what),
            Error::Certificate { path: Some(path), source } => {
                write!(f, "{}: the certificate cannot be used with its key: {source}", path.display())
            }
            Error::Certificate { path: None, source } => {
                write!(f, "the certificate cannot be used with its key: {source}")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Read { source, .. } => Some(source),
            Error::Certificate { source, .. } => Some(source),
            Error::Pem { .. } | Error::Config(_) => None,
        }
    }
}
