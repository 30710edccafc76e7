//! From Secrets to certificates: which one is shown for which host.

use std::collections::BTreeMap;
use std::sync::Arc;

use ingress::{Certificates, Objects, Plan, Remark};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::networking::v1::{Ingress, IngressTLS};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use state::Key;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The subject of the certificate that is shown where there is no other, as ingress-nginx has it.
const FAKE: &str = "Kubernetes Ingress Controller Fake Certificate";

/// A Secret's certificate.
#[derive(Debug)]
pub(crate) struct Certificate {
    key: Arc<CertifiedKey>,
    /// The names it is for, in lower case.
    names: Vec<String>,
    /// When it ends, in seconds since 1970.
    end: i64,
}

/// Certificates read from Secrets; each is read again only when its Secret changed.
#[derive(Debug, Default)]
pub(crate) struct Read {
    secrets: BTreeMap<Key, (Arc<Secret>, Result<Certificate, String>)>,
    fake: Option<Arc<CertifiedKey>>,
}

impl Read {
    /// The certificates of the Ingresses that are served at the time `now`, in seconds since 1970, and what is wrong with
    /// them. Of two for one host, that of the older Ingress is shown.
    pub(crate) fn all(&mut self, objects: &Objects, plan: &Plan, now: i64) -> (Certificates, Vec<Remark>) {
        self.secrets.retain(|key, (secret, _)| objects.secrets.get(key).is_some_and(|new| Arc::ptr_eq(new, secret)));
        for (key, secret) in &objects.secrets {
            self.secrets.entry(key.clone()).or_insert_with(|| (secret.clone(), read(secret)));
        }
        let mut all = Certificates { default: self.fake(), ..Certificates::default() };
        let mut remarks = Vec::new();
        for key in &plan.served {
            let Some(ingress) = objects.ingresses.get(key) else { continue };
            let mut wrong: BTreeMap<_, Vec<_>> = BTreeMap::new();
            for host in hosts(ingress).into_iter().chain(plan.aliases.get(key).into_iter().flatten().cloned()) {
                match self.of(&key.namespace, &host, tls(ingress)) {
                    Ok(None) => {}
                    Ok(Some(certificate)) => {
                        if certificate.end <= now {
                            let why = "The certificate has expired. It is shown".to_owned();
                            wrong.entry(("ExpiredCertificate", why)).or_default().push(host.clone());
                        }
                        all.hosts.entry(host.into()).or_insert_with(|| certificate.key.clone());
                    }
                    Err((reason, why)) => {
                        wrong.entry((reason, why + ". Using default certificate")).or_default().push(host)
                    }
                }
            }
            let remark = |((reason, why), hosts): ((&'static str, String), Vec<String>)| Remark {
                ingress: key.clone(),
                reason,
                message: format!("{why} for {}", hosts.join(", ")),
            };
            remarks.extend(wrong.into_iter().map(remark));
        }
        (all, remarks)
    }

    /// The certificate for a host: that of the entry that lists it, or else one of the others that has its name.
    fn of<'a>(
        &'a self,
        namespace: &Arc<str>,
        host: &str,
        tls: &'a [IngressTLS],
    ) -> Result<Option<&'a Certificate>, (&'static str, String)> {
        let lists = |entry: &&IngressTLS| entry.hosts.iter().flatten().any(|name| name.eq_ignore_ascii_case(host));
        let named = |entry: &'a IngressTLS| entry.secret_name.as_deref().filter(|name| !name.is_empty());
        let read = |name: &str| self.secrets.get(&Key::new(namespace.clone(), name)).map(|(_, read)| read);
        let Some(listed) = tls.iter().find(lists) else {
            let usable = tls.iter().filter_map(|entry| read(named(entry)?)?.as_ref().ok());
            return Ok(usable.into_iter().find(|certificate| certificate.is_for(host)));
        };
        match named(listed).map(|name| (name, read(name))) {
            None => Ok(None),
            Some((name, None)) => Err(("MissingSecret", format!("Secret \"{namespace}/{name}\" was not found"))),
            Some((name, Some(Err(why)))) => {
                Err(("InvalidCertificate", format!("Secret \"{namespace}/{name}\" has no usable certificate: {why}")))
            }
            Some((_, Some(Ok(certificate)))) if certificate.is_for(host) => Ok(Some(certificate)),
            Some((name, Some(Ok(certificate)))) => Err((
                "InvalidCertificate",
                format!(
                    "The certificate in Secret \"{namespace}/{name}\" is for {}, not for this host",
                    certificate.names.join(", ")
                ),
            )),
        }
    }

    fn fake(&mut self) -> Option<Arc<CertifiedKey>> {
        if self.fake.is_none() {
            self.fake = fake().map_err(|error| tracing::warn!("failed to make a certificate: {error}")).ok();
        }
        self.fake.clone()
    }
}

impl Certificate {
    fn is_for(&self, host: &str) -> bool {
        let wildcard = || host.split_once('.').map(|(_, rest)| format!("*.{rest}"));
        self.names.iter().any(|name| *name == host || (name.starts_with('*') && Some(name) == wildcard().as_ref()))
    }
}

fn tls(ingress: &Ingress) -> &[IngressTLS] {
    ingress.spec.as_ref().and_then(|spec| spec.tls.as_deref()).unwrap_or_default()
}

/// All hosts of an Ingress with TLS, in lower case.
fn hosts(ingress: &Ingress) -> Vec<String> {
    let listed = tls(ingress).iter().flat_map(|entry| entry.hosts.iter().flatten());
    let rules = ingress.spec.iter().filter_map(|spec| spec.rules.as_ref()).flatten();
    let ruled = rules.filter_map(|rule| rule.host.as_ref()).filter(|host| !host.is_empty() && !tls(ingress).is_empty());
    let mut hosts: Vec<_> = listed.chain(ruled).map(|host| host.to_ascii_lowercase()).collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

/// What is in a Secret of type `kubernetes.io/tls`.
fn read(secret: &Secret) -> Result<Certificate, String> {
    let part = |name: &str| {
        let data = secret.data.as_ref().and_then(|data| data.get(name)).filter(|data| !data.0.is_empty());
        data.map(|data| data.0.as_slice()).ok_or_else(|| format!("it has no {name}"))
    };
    let chain = CertificateDer::pem_slice_iter(part("tls.crt")?).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| format!("tls.crt: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(part("tls.key")?).map_err(|error| format!("tls.key: {error}"))?;
    let key = any_supported_type(&key).map_err(|error| format!("tls.key: {error}"))?;
    let first = chain.first().ok_or("tls.crt has no certificate")?;
    let (_, parsed) = X509Certificate::from_der(first).map_err(|error| format!("tls.crt: {error}"))?;
    if key.public_key().is_some_and(|public| *public != *parsed.tbs_certificate.subject_pki.raw) {
        return Err("tls.key is not the key of tls.crt".to_owned());
    }
    let (names, end) = (names(&parsed), parsed.validity().not_after.timestamp());
    Ok(Certificate { key: Arc::new(CertifiedKey::new(chain, key)), names, end })
}

/// The DNS names of a certificate; the common name counts, too, as in ingress-nginx.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let alternative = alternative.iter().flat_map(|found| &found.value.general_names);
    let alternative = alternative.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(*name),
        _ => None,
    });
    let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    let mut names: Vec<_> = alternative.chain(common).map(str::to_ascii_lowercase).collect();
    names.sort();
    names.dedup();
    names
}

fn fake() -> Result<Arc<CertifiedKey>, Box<dyn std::error::Error>> {
    let mut params = CertificateParams::new(["ingress.local".to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Acme Co");
    params.distinguished_name.push(DnType::CommonName, FAKE);
    let pair = KeyPair::generate()?;
    let certificate = params.self_signed(&pair)?.der().clone();
    let key = any_supported_type(&PrivateKeyDer::try_from(pair.serialize_der())?)?;
    Ok(Arc::new(CertifiedKey::new(vec![certificate], key)))
}

#[cfg(test)]
mod tests;
