//! The directory, its references and its blobs.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use oci_spec::image::{ImageConfiguration, ImageManifest};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

use crate::{Error, normalize, reference};

/// An image that is in the store, whole.
#[derive(Clone, Debug)]
pub struct Image {
    /// Normalised: `docker.io/library/nginx:latest`.
    pub reference: String,
    /// `sha256:<hex>` of its configuration: what Kubernetes shows as the image id.
    pub id: String,
    /// `sha256:<hex>` of its manifest.
    pub digest: String,
    /// Entry point, environment, user, …
    pub config: ImageConfiguration,
    /// Bytes of its configuration and compressed layers.
    pub size: u64,
    /// When it came into the store.
    pub created: SystemTime,
    /// It was imported or is built in, not pulled: it is what its name means, and no registry
    /// needs to be asked, whatever the pull policy.
    pub imported: bool,
}

impl Image {
    /// What Kubernetes shows as `imageID`: `docker.io/library/nginx@sha256:…` of the manifest when it
    /// was pulled, so that the same can be pulled again; otherwise the configuration's digest.
    #[must_use]
    pub fn image_id(&self) -> String {
        match reference::parse(&self.reference) {
            Ok(name) if !self.imported => format!("{}/{}@{}", name.registry, name.repository, self.digest),
            _ => self.id.clone(),
        }
    }
}

/// A directory of images. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) dir: PathBuf,
    /// Pulls run one after the other, as kubelet does it by default.
    pub(crate) pulls: Arc<tokio::sync::Mutex<()>>,
}

/// The content of a file in `references/`.
#[derive(Debug, Deserialize, Serialize)]
struct Pointer {
    reference: String,
    manifest: String,
    imported: bool,
}

impl Store {
    /// The store in `dir`, which is made when it is missing.
    ///
    /// # Errors
    /// [`Error::Io`] when the directories cannot be made.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        for sub in ["blobs/sha256", "references", "layers", "incoming"] {
            let path = dir.join(sub);
            fs::create_dir_all(&path).map_err(Error::io("make", &path))?;
        }
        Ok(Self { dir: dir.to_owned(), pulls: Arc::default() })
    }

    /// The image of that name, when all of it is here.
    ///
    /// # Errors
    /// [`Error::Reference`] for a broken name, [`Error::Io`] and [`Error::Document`] for a damaged store.
    pub fn resolve(&self, reference: &str) -> Result<Option<Image>, Error> {
        let reference = normalize(reference)?;
        let path = self.pointer(&reference);
        if !path.exists() {
            return Ok(None);
        }
        let pointer: Pointer = read_json(&path)?;
        if !self.blob(&pointer.manifest).exists() {
            return Ok(None);
        }
        self.image(pointer, &path).map(Some)
    }

    /// All images, by reference.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Document`] for a damaged store.
    pub fn list(&self) -> Result<Vec<Image>, Error> {
        let mut images = Vec::new();
        for path in entries(&self.dir.join("references"))? {
            let pointer: Pointer = read_json(&path)?;
            images.push(self.image(pointer, &path)?);
        }
        images.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(images)
    }

    /// Forgets a name, and every blob and layer that no other name needs. Containers that run from
    /// these layers would lose their files: ask the API first.
    ///
    /// # Errors
    /// [`Error::Unknown`] when there is no such image.
    pub fn remove(&self, reference: &str) -> Result<(), Error> {
        let reference = normalize(reference)?;
        let path = self.pointer(&reference);
        if !path.exists() {
            return Err(Error::Unknown(reference));
        }
        fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        let mut kept = BTreeSet::new();
        for path in entries(&self.dir.join("references"))? {
            let pointer: Pointer = read_json(&path)?;
            let manifest = self.manifest(&pointer.manifest)?;
            let config = self.config(&manifest)?;
            kept.extend(config.rootfs().diff_ids().iter().map(|id| hex(id).to_owned()));
            kept.extend(manifest.layers().iter().map(|layer| hex(layer.digest().as_ref()).to_owned()));
            kept.insert(hex(manifest.config().digest().as_ref()).to_owned());
            kept.insert(hex(&pointer.manifest).to_owned());
        }
        for dir in ["blobs/sha256", "layers"] {
            for path in entries(&self.dir.join(dir))? {
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                if !kept.contains(name.as_ref()) {
                    let gone = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                    gone.map_err(Error::io("remove", &path))?;
                }
            }
        }
        Ok(())
    }

    fn image(&self, pointer: Pointer, path: &Path) -> Result<Image, Error> {
        let manifest = self.manifest(&pointer.manifest)?;
        let config = self.config(&manifest)?;
        let size = manifest.layers().iter().map(|layer| layer.size()).sum::<u64>() + manifest.config().size();
        let created = fs::metadata(path).and_then(|m| m.modified()).unwrap_or(UNIX_EPOCH);
        let id = manifest.config().digest().to_string();
        let Pointer { reference, manifest: digest, imported } = pointer;
        Ok(Image { reference, id, digest, config, size, created, imported })
    }

    pub(crate) fn manifest(&self, digest: &str) -> Result<ImageManifest, Error> {
        read_json(&self.blob(digest))
    }

    pub(crate) fn config(&self, manifest: &ImageManifest) -> Result<ImageConfiguration, Error> {
        read_json(&self.blob(manifest.config().digest().as_ref()))
    }

    /// Points a (normalised) name at a manifest whose blobs are all here.
    pub(crate) fn tag(&self, reference: &str, manifest: &str, imported: bool) -> Result<(), Error> {
        let manifest = manifest.to_owned();
        let pointer = Pointer { reference: reference.to_owned(), manifest, imported };
        let path = self.pointer(reference);
        let bytes = serde_json::to_vec(&pointer).map_err(|source| Error::Document { path: path.clone(), source })?;
        self.write(&path, &bytes)
    }

    /// Keeps a small blob and returns its digest.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<String, Error> {
        let digest = digest(bytes);
        let path = self.blob(&digest);
        if !path.exists() {
            self.write(&path, bytes)?;
        }
        Ok(digest)
    }

    /// Where a blob is or will be; `digest` is `sha256:<hex>`.
    pub(crate) fn blob(&self, digest: &str) -> PathBuf {
        self.dir.join("blobs/sha256").join(hex(digest))
    }

    /// A new path for a file that is renamed into place when it is whole.
    pub(crate) fn incoming(&self) -> PathBuf {
        static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.dir.join("incoming").join(format!("{}-{count}", std::process::id()))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        let incoming = self.incoming();
        let mut file = File::create(&incoming).map_err(Error::io("create", &incoming))?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::io("write", &incoming))?;
        fs::rename(&incoming, path).map_err(Error::io("rename to", path))
    }

    fn pointer(&self, reference: &str) -> PathBuf {
        self.dir.join("references").join(format!("{}.json", hex(&digest(reference.as_bytes()))))
    }
}

/// `sha256:<hex>` of some bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    render(&Sha256::digest(bytes))
}

/// A finished hash as `sha256:<hex>`.
pub(crate) fn render(hash: &[u8]) -> String {
    hash.iter().fold(String::from("sha256:"), |mut text, byte| {
        text.push_str(&format!("{byte:02x}"));
        text
    })
}

/// The digits of a digest. Anything else than lower-case hex is dropped, so that no digest from
/// outside can leave the directory.
pub(crate) fn hex(digest: &str) -> &str {
    let digits = digest.strip_prefix("sha256:").unwrap_or(digest);
    if digits.bytes().all(|b| b.is_ascii_hexdigit()) { digits } else { "invalid" }
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    serde_json::from_slice(&bytes).map_err(|source| Error::Document { path: path.to_owned(), source })
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let listed = fs::read_dir(dir).and_then(|entries| entries.map(|entry| entry.map(|e| e.path())).collect());
    listed.map_err(Error::io("list", dir))
}
