//! Hosts, and a certificate for each.

use std::fs;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;

/// The name of a host.
pub(crate) fn host(number: usize) -> String {
    format!("host-{number}.example.test")
}

/// Writes certificate and key (ECDSA P-256) of so many hosts to `dir`/HOST.pem, and returns whom to trust.
pub(crate) fn write(hosts: usize, dir: &Path) -> anyhow::Result<RootCertStore> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "bench");
    let authority = params.self_signed(&key)?;
    let issuer = Issuer::new(params, key);
    for host in (0..hosts).map(host) {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([host.clone()])?;
        params.distinguished_name.push(DnType::CommonName, host.as_str());
        let certificate = params.signed_by(&key, &issuer)?;
        fs::write(dir.join(format!("{host}.pem")), certificate.pem() + &key.serialize_pem())?;
    }
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone())?;
    Ok(roots)
}
