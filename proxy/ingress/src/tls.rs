//! The certificates of Ingresses: by server name, changed without a restart.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use crate::Table;

/// What is shown for which server name (RFC 6066).
#[derive(Debug, Default)]
pub struct Certificates {
    /// By host, in lower case; those of wildcards with their `*.`.
    pub hosts: HashMap<Box<str>, Arc<CertifiedKey>>,
    /// For everyone else.
    pub default: Option<Arc<CertifiedKey>>,
}

impl Certificates {
    /// The one for `name`.
    pub fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let exact = name.and_then(|name| self.hosts.get(name));
        let wildcard = || self.hosts.get(format!("*.{}", name?.split_once('.')?.1).as_str());
        exact.or_else(wildcard).or(self.default.as_ref()).cloned()
    }
}

/// Asks the Table of the moment.
#[derive(Debug)]
struct Resolver(watch::Receiver<Arc<Table>>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.borrow().certificates.find(hello.server_name().map(str::to_ascii_lowercase).as_deref())
    }
}

/// How TLS is spoken: 1.2 and 1.3, HTTP/2 preferred, sessions resumed.
///
/// # Errors
/// What rustls says of its own provider.
pub(crate) fn config(table: watch::Receiver<Arc<Table>>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = config.with_no_client_auth().with_cert_resolver(Arc::new(Resolver(table)));
    config.alpn_protocols = vec![b"h2".into(), b"http/1.1".into()];
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    Ok(Arc::new(config))
}
