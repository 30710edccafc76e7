//! Layers unpacked side by side, as overlayfs stacks them.
//!
//! Whiteouts become overlayfs' character device 0:0, opaque directories its extended attribute.
//! No entry of a layer can reach outside of the layer's directory: every path is resolved by the
//! kernel with that directory as its root (`openat2`, `RESOLVE_IN_ROOT`).

mod entry;
#[cfg(test)]
mod tests;

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest as _, Sha256};

use self::entry::Root;
use crate::{
    Error, Image, Store,
    store::{hex, render},
};

/// An image's layers, ready to be mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// Directories for overlayfs' `lowerdir`, the top one first.
    pub lower: Vec<PathBuf>,
    /// Some files belong to users that this user namespace does not have and were given to its
    /// root: the image runs, but only as root.
    pub squashed: bool,
}

impl Store {
    /// Unpacks the layers of an image that are not unpacked already. Blocks on disk work.
    ///
    /// # Errors
    /// [`Error::Layer`] when a layer is damaged or hostile; nothing of it stays.
    pub fn unpack(&self, image: &Image) -> Result<Unpacked, Error> {
        let manifest = self.manifest(&image.digest)?;
        let mut unpacked = Unpacked { lower: Vec::new(), squashed: false };
        for (diff_id, layer) in image.config.rootfs().diff_ids().iter().zip(manifest.layers()) {
            let (dir, squashed) = self.unpack_layer(diff_id, layer.digest().as_ref())?;
            unpacked.lower.insert(0, dir);
            unpacked.squashed |= squashed;
        }
        Ok(unpacked)
    }

    fn unpack_layer(&self, diff_id: &str, blob: &str) -> Result<(PathBuf, bool), Error> {
        let dir = self.dir.join("layers").join(hex(diff_id));
        let mark = dir.with_extension("squashed");
        if dir.exists() {
            return Ok((dir, mark.exists()));
        }
        let lock_path = self.dir.join("incoming").join(format!("{}.lock", hex(diff_id)));
        let lock = File::create(&lock_path).map_err(Error::io("create", &lock_path))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(Error::io("lock", &lock_path))?;
        if dir.exists() {
            return Ok((dir, mark.exists()));
        }
        let incoming = self.incoming();
        let refuse = |reason: String| Error::Layer { layer: diff_id.to_owned(), reason };
        let squashed = unpack_to(&self.blob(blob), &incoming, diff_id).map_err(|error| {
            // The directory has a name that nothing else looks for; the first error is what matters.
            let _ = fs::remove_dir_all(&incoming);
            refuse(error.to_string())
        })?;
        if squashed {
            File::create(&mark).map_err(Error::io("create", &mark))?;
        }
        fs::rename(&incoming, &dir).map_err(Error::io("rename to", &dir))?;
        Ok((dir, squashed))
    }
}

/// Unpacks a blob into a new directory. Returns whether owners were squashed.
fn unpack_to(blob: &Path, dir: &Path, diff_id: &str) -> io::Result<bool> {
    fs::create_dir(dir)?;
    let mut root = Root::open(dir)?;
    let mut archive = tar::Archive::new(Hashed { inner: decompressed(File::open(blob)?)?, hash: Sha256::new() });
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = entry.path()?.into_owned();
        root.add(&mut entry).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", name.display())))?;
    }
    root.finish()?;
    // What follows the end mark of the archive belongs to its digest.
    let mut hashed = archive.into_inner();
    io::copy(&mut hashed, &mut io::sink())?;
    let found = render(&hashed.hash.finalize());
    if found != diff_id {
        return Err(io::Error::other(format!("its content has the digest {found}")));
    }
    Ok(root.squashed)
}

/// A reader that hashes what passes through it.
struct Hashed<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}

/// The content of a file that may be compressed with gzip or zstd, told by its first bytes.
pub(crate) fn decompressed(file: File) -> io::Result<Box<dyn Read>> {
    let mut file = BufReader::with_capacity(1 << 16, file);
    Ok(match file.fill_buf()? {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::with_buffer(file)?),
        _ => Box::new(file),
    })
}
