use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;

/// An API server, and who asks it: the current context of a kubeconfig.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) name: ServerName<'static>,
    /// Host, port and path before `/api`, as in the kubeconfig.
    pub(crate) host: String,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) token: Option<String>,
}

impl Target {
    /// Of a kubeconfig with an https server, its authority, and a client certificate or a token.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let config: Value = serde_saphyr::from_str(&text).with_context(|| format!("read {}", path.display()))?;
        let context = named(&config, "context", config["current-context"].as_str().unwrap_or_default())?;
        let cluster = named(&config, "cluster", context["cluster"].as_str().unwrap_or_default())?;
        let user = named(&config, "user", context["user"].as_str().unwrap_or_default())?;
        let server = cluster["server"].as_str().context("no server in the kubeconfig")?;
        let host = server.strip_prefix("https://").context("the kubeconfig's server is not https")?;
        let host = host.trim_end_matches('/').to_owned();
        let (name, port) = host.rsplit_once(':').unwrap_or((&host, "443"));
        let name = name.trim_matches(['[', ']']).to_owned();
        let address = (name.as_str(), port.parse()?).to_socket_addrs()?.next().context("the server has no address")?;
        let Some(authority) = pem(cluster, "certificate-authority", path)? else {
            bail!("the kubeconfig names no certificate-authority of its server");
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&authority) {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut tls = match (pem(user, "client-certificate", path)?, pem(user, "client-key", path)?) {
            (Some(certificate), Some(key)) => {
                let chain = CertificateDer::pem_slice_iter(&certificate).collect::<Result<_, _>>()?;
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(&key)?)?
            }
            _ => builder.with_no_client_auth(),
        };
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let token = user["token"].as_str().map(str::to_owned);
        Ok(Self { address, name: name.try_into()?, host, tls: Arc::new(tls), token })
    }
}

/// The cluster, user or context of that name.
fn named<'a>(config: &'a Value, what: &str, name: &str) -> anyhow::Result<&'a Value> {
    let all = config[format!("{what}s")].as_array().into_iter().flatten();
    let found = all.into_iter().find(|entry| entry["name"] == name).map(|entry| &entry[what]);
    found.with_context(|| format!("the kubeconfig has no {what} {name:?}"))
}

/// What a field has as base64, or names as a file.
fn pem(entry: &Value, field: &str, kubeconfig: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    if let Some(data) = entry[format!("{field}-data")].as_str() {
        return Ok(Some(STANDARD.decode(data).with_context(|| format!("{field}-data is not base64"))?));
    }
    let Some(path) = entry[field].as_str() else { return Ok(None) };
    let path = kubeconfig.parent().unwrap_or(Path::new("")).join(path);
    std::fs::read(&path).map(Some).with_context(|| format!("read {}", path.display()))
}
