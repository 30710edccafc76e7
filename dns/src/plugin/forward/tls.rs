//! What resolvers over TLS are trusted by, and what we show them.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::corefile::{Error, Line};
use crate::plugin::tls::{certificates, wrong};

/// The settings of `tls [CERT KEY] [CA]`: our certificate, and the file of the authorities that are
/// trusted rather than the system's.
pub(super) fn client(line: Line) -> Result<Arc<ClientConfig>, Error> {
    let (pair, authority) = match line.between(0, 3)? {
        [certificate, key, authority @ ..] => (Some((certificate, key)), authority.first()),
        authority => (None, authority.first()),
    };
    let authorities = match authority {
        Some(file) => certificates(file)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    let mut roots = RootCertStore::empty();
    if roots.add_parsable_certificates(authorities).0 == 0 {
        let none = "no certificate authority is trusted: install ca-certificates, or name a file of them: tls CA";
        return Err(line.name.error(none));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| line.name.error(error))?;
    let builder = builder.with_root_certificates(roots);
    let Some((certificate, key)) = pair else {
        return Ok(Arc::new(builder.with_no_client_auth()));
    };
    let secret = PrivateKeyDer::from_pem_file(&key.text).map_err(|error| wrong(key, error))?;
    let config = builder.with_client_auth_cert(certificates(certificate)?, secret);
    config.map(Arc::new).map_err(|error| wrong(certificate, error))
}
