//! What can go wrong with images.

use std::path::{Path, PathBuf};

/// An operation on images that failed. The texts read well after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The reference does not parse: `nginx:`, `UPPER/case`, …
    #[error("parse image reference {reference:?}: {reason}")]
    Reference {
        /// As it was given.
        reference: String,
        /// What the parser says.
        reason: String,
    },
    /// The registry has no such image, or does not show it without credentials.
    #[error("pull image {reference:?}: not found, or it needs credentials: {reason}")]
    NotFound {
        /// Normalised.
        reference: String,
        /// What the registry says.
        reason: String,
    },
    /// The registry could not be asked, or sent something else than an image for this platform.
    #[error("pull image {reference:?}: {reason}")]
    Pull {
        /// Normalised.
        reference: String,
        /// The error and its causes.
        reason: String,
    },
    /// A file to import is neither what `docker save` writes nor an OCI image layout.
    #[error("import {}: {reason}", path.display())]
    Import {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No image of that name is in the store.
    #[error("find image {0:?} in the store")]
    Unknown(String),
    /// A layer is not a tar archive, or not the one that its digest promises.
    #[error("unpack layer {layer}: {reason}")]
    Layer {
        /// Its diff id.
        layer: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of the store could not be read or written.
    #[error("{step} {}: {source}", path.display())]
    Io {
        /// The verb: `write`, `rename`, …
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A document in the store does not parse: the store is damaged.
    #[error("read {}: {source}; remove the image and pull or import it again", path.display())]
    Document {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        source: serde_json::Error,
    },
}

impl Error {
    /// Names the step and the file of an I/O error: `.map_err(Error::io("write", path))`.
    pub(crate) fn io<E: Into<std::io::Error>>(step: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { step, path, source: source.into() }
    }
}
