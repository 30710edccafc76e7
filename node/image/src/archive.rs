//! Images from files: OCI image layouts as tar archives, and what `docker save` writes, which is
//! the same with a `manifest.json` beside it, or in old versions that alone.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Component, Path, PathBuf},
};

use oci_spec::image::{Arch, Descriptor, ImageConfiguration, ImageIndex, MediaType, Os};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::{
    Error, Image, Store, normalize, reference,
    store::{hex, render},
    unpack::decompressed,
};

/// Documents inside an archive are small; a larger one is refused before it is read.
const DOCUMENT_BYTES: u64 = 4 << 20;

/// One entry of `docker save`'s `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Store {
    /// Takes all images of an archive that `docker save` or an OCI tool wrote, plain or
    /// compressed with gzip or zstd.
    ///
    /// # Errors
    /// [`Error::Import`] when it is no such archive, has parts missing, or names no image;
    /// the store is unchanged then but for unreferenced blobs.
    pub fn import(&self, path: &Path) -> Result<Vec<Image>, Error> {
        let spool = self.incoming();
        fs::create_dir_all(&spool).map_err(Error::io("make", &spool))?;
        let imported = self.import_spooled(path, &spool);
        fs::remove_dir_all(&spool).map_err(Error::io("remove", &spool))?;
        imported
    }

    fn import_spooled(&self, path: &Path, spool: &Path) -> Result<Vec<Image>, Error> {
        let refuse = |reason: String| Error::Import { path: path.to_owned(), reason };
        let file = File::open(path).map_err(Error::io("open", path))?;
        let files = Files::spool(file, spool).map_err(|error| match error.raw_os_error() {
            Some(_) => refuse(error.to_string()),
            None => refuse("it is not a tar archive, or it is damaged".to_owned()),
        })?;
        let named = if files.has("manifest.json") {
            let saved: Vec<Saved> = files.document("manifest.json").map_err(refuse)?;
            let mut named = Vec::new();
            for image in saved {
                let manifest = self.take_saved(&files, &image).map_err(refuse)?;
                named.extend(image.repo_tags.unwrap_or_default().into_iter().map(|tag| (tag, manifest.clone())));
            }
            named
        } else if files.has("index.json") {
            self.take_layout(&files).map_err(refuse)?
        } else {
            return Err(refuse("it has neither index.json (OCI layout) nor manifest.json (docker save)".into()));
        };
        if named.is_empty() {
            return Err(refuse("no image in it has a name; save it by name, as in `docker save nginx:latest`".into()));
        }
        let mut images = Vec::new();
        for (name, manifest) in named {
            let reference = normalize(&name)?;
            self.tag(&reference, &manifest, true)?;
            images.extend(self.resolve(&reference)?);
        }
        Ok(images)
    }

    /// An image of `manifest.json`: its manifest is made here. Returns the manifest's digest.
    fn take_saved(&self, files: &Files, saved: &Saved) -> Result<String, String> {
        let (config, size) = self.take(files, &saved.config)?;
        let described: ImageConfiguration = files.document(&saved.config)?;
        let promised = described.rootfs().diff_ids();
        if promised.len() != saved.layers.len() {
            return Err(format!(
                "{} speaks of {} layers, and there are {}",
                saved.config,
                promised.len(),
                saved.layers.len()
            ));
        }
        let mut layers = Vec::new();
        for (layer, promised) in saved.layers.iter().zip(promised) {
            files.get(layer)?.check(promised).map_err(|reason| format!("{layer} is damaged: {reason}"))?;
            let (digest, size) = self.take(files, layer)?;
            layers.push(json!({"mediaType": MediaType::ImageLayer.to_string(), "digest": digest, "size": size}));
        }
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MediaType::ImageManifest.to_string(),
            "config": {"mediaType": MediaType::ImageConfig.to_string(), "digest": config, "size": size},
            "layers": layers,
        });
        self.put(manifest.to_string().as_bytes()).map_err(|error| error.to_string())
    }

    /// The images of an OCI layout that have a name: (name, manifest digest).
    fn take_layout(&self, files: &Files) -> Result<Vec<(String, String)>, String> {
        let index: ImageIndex = files.document("index.json")?;
        let mut named = Vec::new();
        for entry in index.manifests() {
            let Some(name) = name(entry) else { continue };
            let mut descriptor = entry.clone();
            // An index may point at a further index, one entry for each platform.
            while let Ok(inner) = files.document::<ImageIndex>(&blob(&descriptor)) {
                descriptor = for_this_platform(inner.manifests())
                    .ok_or_else(|| format!("{name} is not made for this machine's architecture"))?
                    .clone();
            }
            let manifest: oci_spec::image::ImageManifest = files.document(&blob(&descriptor))?;
            for part in std::iter::once(manifest.config()).chain(manifest.layers()) {
                let (digest, _) = self.take(files, &blob(part))?;
                if digest != part.digest().as_ref() {
                    return Err(format!("{} is damaged: its content has the digest {digest}", blob(part)));
                }
            }
            let (digest, _) = self.take(files, &blob(&descriptor))?;
            named.push((name, digest));
        }
        Ok(named)
    }

    /// Moves a file of the archive among the blobs. Returns digest and size.
    fn take(&self, files: &Files, name: &str) -> Result<(String, u64), String> {
        let file = files.get(name)?;
        let target = self.blob(&file.digest);
        if !target.exists() {
            fs::hard_link(&file.path, &target).map_err(|error| format!("keep {name}: {error}"))?;
        }
        Ok((file.digest.clone(), file.size))
    }
}

/// The path of a blob in an OCI layout.
fn blob(descriptor: &Descriptor) -> String {
    format!("blobs/sha256/{}", hex(descriptor.digest().as_ref()))
}

/// The full name that an entry of `index.json` has, if any: containerd's and Docker's annotation
/// first, then the one of the OCI specification, which is often a bare tag and then no name.
fn name(entry: &Descriptor) -> Option<String> {
    let annotations = entry.annotations().as_ref()?;
    let full = annotations.get("io.containerd.image.name");
    let standard = annotations.get("org.opencontainers.image.ref.name");
    full.or(standard.filter(|name| name.contains(['/', ':']) && reference::parse(name).is_ok())).cloned()
}

/// The entry of an index that runs on this machine.
pub(crate) fn for_this_platform(manifests: &[Descriptor]) -> Option<&Descriptor> {
    let fits = |entry: &&Descriptor| {
        entry.platform().as_ref().is_some_and(|p| *p.os() == Os::Linux && *p.architecture() == Arch::default())
    };
    manifests.iter().find(fits).or(match manifests {
        [only] if only.platform().is_none() => Some(only),
        _ => None,
    })
}

/// A file of the archive, spooled.
#[derive(Clone)]
struct Spooled {
    path: PathBuf,
    digest: String,
    size: u64,
}

impl Spooled {
    /// Whether a layer's content, once decompressed, has the digest that its image promises.
    fn check(&self, promised: &str) -> Result<(), String> {
        if self.digest == promised {
            return Ok(());
        }
        let content = File::open(&self.path)
            .and_then(decompressed)
            .and_then(|mut content| copy_hashed(&mut content, &mut io::sink()));
        match content {
            Ok((digest, _)) if digest == promised => Ok(()),
            Ok((digest, _)) => Err(format!("its digest is {digest} instead of {promised}")),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// The regular files of an archive by name; links are followed.
struct Files(BTreeMap<PathBuf, Spooled>);

impl Files {
    fn spool(archive: File, spool: &Path) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        let mut links = Vec::new();
        let mut tar = tar::Archive::new(decompressed(archive)?);
        for (number, entry) in tar.entries()?.enumerate() {
            let mut entry = entry?;
            let name = clean(&entry.path()?);
            if entry.header().entry_type().is_file() {
                let path = spool.join(number.to_string());
                let (digest, size) = copy_hashed(&mut entry, &mut File::create(&path)?)?;
                files.insert(name, Spooled { path, digest, size });
            } else if let Some(target) = entry.link_name()? {
                let base = if entry.header().entry_type().is_symlink() { name.parent() } else { None };
                links.push((name.clone(), clean(&base.unwrap_or(Path::new("")).join(target))));
            }
        }
        for (name, target) in links {
            if let Some(file) = files.get(&target).cloned() {
                files.insert(name, file);
            }
        }
        Ok(Self(files))
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(Path::new(name))
    }

    fn get(&self, name: &str) -> Result<&Spooled, String> {
        self.0.get(&clean(Path::new(name))).ok_or_else(|| format!("{name} is missing in it"))
    }

    fn document<T: DeserializeOwned>(&self, name: &str) -> Result<T, String> {
        let file = self.get(name)?;
        if file.size > DOCUMENT_BYTES {
            return Err(format!("{name} has {} bytes", file.size));
        }
        let bytes = fs::read(&file.path).map_err(|error| format!("{name}: {error}"))?;
        serde_json::from_slice(&bytes).map_err(|error| format!("{name}: {error}"))
    }
}

/// A path of an archive relative to the archive's root, without `.` and `..`.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => clean.push(part),
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    clean
}

fn copy_hashed(from: &mut impl Read, to: &mut impl Write) -> io::Result<(String, u64)> {
    let (mut hash, mut size, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 16]);
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok((render(&hash.finalize()), size));
        }
        hash.update(&buffer[..read]);
        to.write_all(&buffer[..read])?;
        size += read as u64;
    }
}
