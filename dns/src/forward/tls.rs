//! What resolvers over TLS are trusted by, and what we show them.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// The settings of `tls [CERT KEY] [CA]`: our certificate, and the file of the authorities that are
/// trusted rather than the system's.
pub(crate) fn client(files: &[&str]) -> Result<Arc<ClientConfig>, String> {
    let (pair, authority) = match *files {
        [] => (None, None),
        [authority] => (None, Some(authority)),
        [certificate, key] => (Some((certificate, key)), None),
        [certificate, key, authority] => (Some((certificate, key)), Some(authority)),
        _ => return Err("tls takes a certificate and its key, a file of authorities, or all three".into()),
    };
    let authorities = match authority {
        Some(file) => certificates(file)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    let mut roots = RootCertStore::empty();
    let (trusted, _) = roots.add_parsable_certificates(authorities);
    if trusted == 0 {
        let none = "no certificate authority is trusted: install ca-certificates, or name a file of them: tls CA";
        return Err(none.into());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?.with_root_certificates(roots);
    let config = match pair {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| format!("{key}: {error}"))?;
            let pair = builder.with_client_auth_cert(certificates(certificate)?, secret);
            pair.map_err(|error| format!("{certificate}: {error}"))?
        }
    };
    Ok(Arc::new(config))
}

fn certificates(file: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_file_iter(Path::new(file)).and_then(|all| all.collect());
    all.map_err(|error| format!("{file}: {error}"))
}
