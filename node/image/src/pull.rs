//! Images from registries.

use std::error::Error as _;

use base64::Engine as _;
use oci_client::{
    Client, Reference, RegistryOperation,
    client::{ClientConfig, ClientProtocol},
    errors::{OciDistributionError, OciErrorCode},
    manifest::{
        IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE,
        OciDescriptor,
    },
    secrets::RegistryAuth,
};
use oci_spec::image::{ImageIndex, ImageManifest};
use serde::{Deserialize, Serialize};

use crate::{Error, Image, Store, archive::for_this_platform, reference};

/// Manifests and indexes are small documents; a larger one is not an image's.
const MANIFEST_BYTES: usize = 4 << 20;

/// A name and a password for one registry.
#[derive(Clone, Deserialize, PartialEq, Eq, Serialize)]
pub struct Credentials {
    /// The user's name.
    pub username: String,
    /// The password or access token.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

impl Credentials {
    /// The entry for an image's registry in a Docker `config.json`, the content of a Secret of
    /// type `kubernetes.io/dockerconfigjson`. `None` when there is none, or it does not parse.
    #[must_use]
    pub fn from_docker_config(json: &[u8], image: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct File {
            auths: std::collections::BTreeMap<String, Entry>,
        }
        #[derive(Deserialize)]
        struct Entry {
            auth: Option<String>,
            username: Option<String>,
            password: Option<String>,
        }
        let file: File = serde_json::from_slice(json).ok()?;
        let image = reference::parse(image).ok()?;
        let host = |server: &str| {
            let server = server.trim_start_matches("https://").trim_start_matches("http://");
            server.split('/').next().unwrap_or_default().to_owned()
        };
        let image = oci(&image);
        let names = [image.registry(), image.resolve_registry()];
        let (_, entry) = file.auths.into_iter().find(|(server, _)| names.contains(&host(server).as_str()))?;
        if let (Some(username), Some(password)) = (entry.username, entry.password) {
            return Some(Self { username, password });
        }
        let decoded = base64::engine::general_purpose::STANDARD.decode(entry.auth?).ok()?;
        let (username, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
        Some(Self { username: username.to_owned(), password: password.to_owned() })
    }
}

impl Store {
    /// Brings an image from its registry: its manifest for this platform, its configuration, and
    /// the layers that are not here already, each checked against its digest. Registries on
    /// loopback are spoken to in plain HTTP, as Docker does; all others over TLS.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Pull`]; the store is unchanged then.
    pub async fn pull(&self, reference: &str, credentials: Option<Credentials>) -> Result<Image, Error> {
        let parsed = reference::parse(reference)?;
        let reference = parsed.whole();
        let _one = self.pulls.lock().await;
        let digest = self.fetch(&oci(&parsed), credentials).await.map_err(|failure| match failure {
            Failure::Registry(error) => explain(&reference, &error),
            Failure::Content(reason) => Error::Pull { reference: reference.clone(), reason },
            Failure::Store(error) => error,
        })?;
        self.tag(&reference, &digest, false)?;
        self.resolve(&reference)?.ok_or(Error::Unknown(reference))
    }

    /// Returns the manifest's digest.
    async fn fetch(&self, image: &Reference, credentials: Option<Credentials>) -> Result<String, Failure> {
        let auth = credentials.map_or(RegistryAuth::Anonymous, |c| RegistryAuth::Basic(c.username, c.password));
        let client = client(image);
        client.auth(image, &auth, RegistryOperation::Pull).await?;
        let mut bytes = manifest(&client, image, &auth).await?;
        if let Ok(index) = serde_json::from_slice::<ImageIndex>(&bytes) {
            let chosen = for_this_platform(index.manifests())
                .ok_or_else(|| Failure::Content("the image is not made for this machine's architecture".into()))?;
            bytes = manifest(&client, &image.clone_with_digest(chosen.digest().to_string()), &auth).await?;
        }
        let manifest: ImageManifest =
            serde_json::from_slice(&bytes).map_err(|error| Failure::Content(format!("its manifest: {error}")))?;
        for blob in std::iter::once(manifest.config()).chain(manifest.layers()) {
            self.fetch_blob(&client, image, blob.digest().as_ref()).await?;
        }
        Ok(self.put(&bytes)?)
    }

    async fn fetch_blob(&self, client: &Client, image: &Reference, digest: &str) -> Result<(), Failure> {
        let path = self.blob(digest);
        if path.exists() {
            return Ok(());
        }
        let incoming = self.incoming();
        let file = tokio::fs::File::create(&incoming).await.map_err(Error::io("create", &incoming))?;
        let descriptor = OciDescriptor { digest: digest.to_owned(), ..OciDescriptor::default() };
        let pulled = client.pull_blob(image, &descriptor, file).await;
        if let Err(error) = pulled {
            // What is left behind is only space; the error of the pull is what matters.
            let _ = tokio::fs::remove_file(&incoming).await;
            return Err(error.into());
        }
        tokio::fs::rename(&incoming, &path).await.map_err(Error::io("rename to", &path))?;
        Ok(())
    }
}

/// Why [`Store::fetch`] stopped.
enum Failure {
    Registry(OciDistributionError),
    Content(String),
    Store(Error),
}

impl From<OciDistributionError> for Failure {
    fn from(error: OciDistributionError) -> Self {
        Self::Registry(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

/// The client library's form of a name.
fn oci(reference: &reference::Reference) -> Reference {
    let (registry, repository) = (reference.registry.clone(), reference.repository.clone());
    match (&reference.tag, &reference.digest) {
        (_, Some(digest)) => Reference::with_digest(registry, repository, digest.clone()),
        (tag, None) => Reference::with_tag(registry, repository, tag.clone().unwrap_or_else(|| "latest".to_owned())),
    }
}

fn client(image: &Reference) -> Client {
    // An error says that one was installed before: any will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let registry = image.resolve_registry();
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    let loopback = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    let protocol = if loopback { ClientProtocol::Http } else { ClientProtocol::Https };
    Client::new(ClientConfig {
        protocol,
        connect_timeout: Some(std::time::Duration::from_secs(10)),
        read_timeout: Some(std::time::Duration::from_secs(60)),
        user_agent: concat!("coracle/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    })
}

async fn manifest(client: &Client, image: &Reference, auth: &RegistryAuth) -> Result<Vec<u8>, Failure> {
    let accepted =
        [OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE, IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE];
    let (bytes, _) = client.pull_manifest_raw(image, auth, &accepted).await?;
    if bytes.len() > MANIFEST_BYTES {
        return Err(Failure::Content(format!("its manifest has {} bytes", bytes.len())));
    }
    Ok(bytes.to_vec())
}

/// The registry's answer as one line, with its causes.
fn explain(reference: &str, error: &OciDistributionError) -> Error {
    let mut reason = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !reason.ends_with(&text) {
            reason = format!("{reason}: {text}");
        }
        cause = error.source();
    }
    let missing = match error {
        OciDistributionError::ImageManifestNotFoundError(_)
        | OciDistributionError::UnauthorizedError { .. }
        | OciDistributionError::AuthenticationFailure(_)
        | OciDistributionError::ServerError { code: 401 | 403 | 404, .. } => true,
        OciDistributionError::RegistryError { envelope, .. } => envelope.errors.iter().any(|error| {
            matches!(
                error.code,
                OciErrorCode::ManifestUnknown
                    | OciErrorCode::NameUnknown
                    | OciErrorCode::NotFound
                    | OciErrorCode::Unauthorized
                    | OciErrorCode::Denied
            )
        }),
        _ => false,
    };
    let reference = reference.to_owned();
    if missing { Error::NotFound { reference, reason } } else { Error::Pull { reference, reason } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_found_by_the_images_registry() {
        let config = br#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "aHViOnNlY3JldDpwdw=="},
            "localhost:5000": {"username": "me", "password": "pw"}
        }}"#;
        let of = |image| Credentials::from_docker_config(config, image).map(|c| (c.username, c.password));
        assert_eq!(of("nginx"), Some(("hub".into(), "secret:pw".into())));
        assert_eq!(of("localhost:5000/a"), Some(("me".into(), "pw".into())));
        assert_eq!(of("quay.io/a"), None);
        assert_eq!(Credentials::from_docker_config(b"{", "nginx"), None);
    }
}
