//! The name that a client has asked for. rustls tells it the resolver of certificates, and nobody else.

use std::cell::Cell;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

thread_local! {
    /// What the resolver was last told on this thread: a session takes it when the call that has asked the resolver returns.
    static ASKED_FOR: Cell<Option<Box<str>>> = const { Cell::new(None) };
}

/// A resolver that notes for which name it was asked.
#[derive(Debug)]
struct Noting(Arc<dyn ResolvesServerCert>);

impl ResolvesServerCert for Noting {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        ASKED_FOR.set(hello.server_name().map(Box::from));
        self.0.resolve(hello)
    }

    fn only_raw_public_keys(&self) -> bool {
        self.0.only_raw_public_keys()
    }
}

/// The same configuration, with the names noted.
pub(super) fn noting(config: &ServerConfig) -> ServerConfig {
    let mut config = config.clone();
    config.cert_resolver = Arc::new(Noting(Arc::clone(&config.cert_resolver)));
    config
}

/// The name that was noted last, once.
pub(crate) fn take() -> Option<Box<str>> {
    ASKED_FOR.take()
}
