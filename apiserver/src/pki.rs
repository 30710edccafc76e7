use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::identity::Identity;

mod certificate;

/// Days that the authority is valid for.
const AUTHORITY_DAYS: i32 = 20 * 365;
/// Days that other certificates are valid for.
const DAYS: i32 = 365;
/// Days before its end that a certificate is made anew.
const RENEW_DAYS: i64 = 30;

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The directory or a file in it.
    #[error("cannot {action} {}: {source}", path.display())]
    Disk {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },
    /// A key or certificate that cannot be made or read.
    #[error("certificate {name}: {reason}")]
    Certificate {
        /// The name of its files, without the extension.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

/// The cluster's certificate authority, kept in a directory or in memory, and the certificates that it signs.
pub struct Pki {
    /// Where pairs are kept, if they are.
    dir: Option<PathBuf>,
    authority: Issuer<'static, KeyPair>,
    authority_pem: String,
}

/// A certificate and its key, both as PEM: what a kubeconfig needs beside [`Pki::authority_pem`].
#[derive(Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate_pem: String,
    /// Its private key.
    pub key_pem: String,
}

impl Pki {
    /// Reads the authority from `dir`, or makes it there. Private keys are readable by their owner only.
    pub fn open(dir: &Path) -> Result<Self, PkiError> {
        fs::create_dir_all(dir).map_err(disk("make", dir))?;
        let pair = match read(dir, "ca")? {
            Some(pair) => pair,
            None => {
                let pair = make_authority().map_err(certificate("ca"))?;
                for entry in fs::read_dir(dir).map_err(disk("list", dir))?.flatten() {
                    // What another authority has signed is of no use any more.
                    let path = entry.path();
                    if path.extension().is_some_and(|extension| extension == "crt" || extension == "key") {
                        fs::remove_file(&path).map_err(disk("remove", &path))?;
                    }
                }
                write(dir, "ca", &pair)?;
                pair
            }
        };
        Self::of(Some(dir.to_owned()), pair)
    }

    /// A new authority that keeps nothing: it makes a new pair each time that it is asked.
    pub fn in_memory() -> Result<Self, PkiError> {
        Self::of(None, make_authority().map_err(certificate("ca"))?)
    }

    fn of(dir: Option<PathBuf>, pair: Pair) -> Result<Self, PkiError> {
        let key = KeyPair::from_pem(&pair.key_pem).map_err(certificate("ca"))?;
        let authority = Issuer::from_ca_cert_pem(&pair.certificate_pem, key).map_err(certificate("ca"))?;
        Ok(Pki { dir, authority, authority_pem: pair.certificate_pem })
    }

    /// The authority's certificate, as PEM.
    pub fn authority_pem(&self) -> &str {
        &self.authority_pem
    }

    /// The server's certificate for these names and addresses; made anew when they are others than before, or when its
    /// end is near.
    pub fn server(&self, names: &[String]) -> Result<Pair, PkiError> {
        let mut names = names.to_vec();
        names.sort();
        names.dedup();
        let mut params = CertificateParams::new(names.clone()).map_err(certificate("apiserver"))?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.distinguished_name = subject("kube-apiserver", &[]);
        self.kept("apiserver", params, &names)
    }

    /// A client's certificate: a user in these groups, kept under `name`.
    pub fn client(&self, name: &str, user: &str, groups: &[&str]) -> Result<Pair, PkiError> {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.distinguished_name = subject(user, groups);
        self.kept(name, params, &[])
    }

    /// The certificate for the cluster's administrator, in the group `system:masters`.
    pub fn admin(&self) -> Result<Pair, PkiError> {
        self.client("admin", "kubernetes-admin", &["system:masters"])
    }

    /// TLS for [`ApiServer::serve_tls`](crate::ApiServer::serve_tls): clients may show a certificate of this authority.
    pub fn server_config(&self, pair: &Pair) -> Result<Arc<ServerConfig>, PkiError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(self.authority_pem.as_bytes()).map_err(certificate("ca"))?;
        roots.add(authority).map_err(certificate("ca"))?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .allow_unauthenticated()
            .build()
            .map_err(certificate("ca"))?;
        let chain =
            vec![CertificateDer::from_pem_slice(pair.certificate_pem.as_bytes()).map_err(certificate("apiserver"))?];
        let key = PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes()).map_err(certificate("apiserver"))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(certificate("apiserver"))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(certificate("apiserver"))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// The pair of that name in the directory, if it is still good; else a new one.
    fn kept(&self, name: &str, mut params: CertificateParams, names: &[String]) -> Result<Pair, PkiError> {
        let today = jiff::Timestamp::now();
        if let Some(dir) = &self.dir
            && let Some(pair) = read(dir, name)?
            && let Some(seen) = certificate::read_pem(&pair.certificate_pem)
            && (names.is_empty() || seen.names == names)
            && seen.subject == subject_of(&params)
            && seen.days_left(today) > RENEW_DAYS
        {
            return Ok(pair);
        }
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        certificate::set_validity(&mut params, today, DAYS);
        let key = KeyPair::generate().map_err(certificate(name))?;
        let signed = params.signed_by(&key, &self.authority).map_err(certificate(name))?;
        let pair = Pair { certificate_pem: signed.pem(), key_pem: key.serialize_pem() };
        if let Some(dir) = &self.dir {
            write(dir, name, &pair)?;
        }
        Ok(pair)
    }
}

/// Who a verified client certificate is for: the common name is the user, the organisations are the groups.
pub(crate) fn identity(certificate: &CertificateDer<'_>) -> Option<Identity> {
    let seen = certificate::read_der(certificate)?;
    let (user, groups) = seen.subject;
    (!user.is_empty()).then(|| Identity::new(user, groups))
}

fn make_authority() -> Result<Pair, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params.distinguished_name = subject("coracle-ca", &[]);
    certificate::set_validity(&mut params, jiff::Timestamp::now(), AUTHORITY_DAYS);
    let key = KeyPair::generate()?;
    let signed = params.self_signed(&key)?;
    Ok(Pair { certificate_pem: signed.pem(), key_pem: key.serialize_pem() })
}

fn subject(user: &str, groups: &[&str]) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    for group in groups {
        subject.push(DnType::OrganizationName, *group);
    }
    subject.push(DnType::CommonName, user);
    subject
}

/// The user and the groups that a certificate of these parameters will show.
fn subject_of(params: &CertificateParams) -> (String, Vec<String>) {
    let text = |kind: &DnType| params.distinguished_name.get(kind).and_then(certificate::text);
    let user = text(&DnType::CommonName).unwrap_or_default();
    (user, text(&DnType::OrganizationName).into_iter().collect())
}

fn read(dir: &Path, name: &str) -> Result<Option<Pair>, PkiError> {
    let part = |extension: &str| {
        let path = dir.join(format!("{name}.{extension}"));
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(disk("read", &path)(error)),
        }
    };
    let (certificate_pem, key_pem) = (part("crt")?, part("key")?);
    Ok(certificate_pem.zip(key_pem).map(|(certificate_pem, key_pem)| Pair { certificate_pem, key_pem }))
}

/// The certificate last: a pair is there only when both are.
fn write(dir: &Path, name: &str, pair: &Pair) -> Result<(), PkiError> {
    for (extension, mode, text) in [("key", 0o600, &pair.key_pem), ("crt", 0o644, &pair.certificate_pem)] {
        let path = dir.join(format!("{name}.{extension}"));
        let fresh = dir.join(format!(".{name}.{extension}"));
        // A file left over by a crash may have other rights.
        let _ = fs::remove_file(&fresh);
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh);
        let mut file = file.map_err(disk("make", &fresh))?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(disk("write", &fresh))?;
        fs::rename(&fresh, &path).map_err(disk("make", &path))?;
    }
    Ok(())
}

fn disk(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PkiError {
    let path = path.to_owned();
    move |source| PkiError::Disk { action, path, source }
}

fn certificate<E: std::fmt::Display>(name: &str) -> impl FnOnce(E) -> PkiError {
    let name = name.to_owned();
    move |error| PkiError::Certificate { name, reason: error.to_string() }
}

/// The names that every server certificate has, for a cluster of that domain: loopback and the `kubernetes` Service.
pub fn server_names(domain: &str, service: IpAddr) -> Vec<String> {
    let mut names: Vec<String> = ["127.0.0.1", "::1", "localhost"].map(str::to_owned).into();
    names.push(service.to_string());
    names.extend(["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned));
    names.push(format!("kubernetes.default.svc.{domain}"));
    names
}

#[cfg(test)]
mod tests;
