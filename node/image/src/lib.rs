//! Container images on disk: pulled from registries, imported from files, unpacked into the layers
//! that overlayfs stacks.
//!
//! A [`Store`] is a directory in the shape of the OCI image layout, with two additions: one small
//! file for each reference, and the unpacked layers. All state is in these files and every change
//! is a rename, so that several processes (the node agent, `coracle image import`) share it.
//!
//! ```text
//! blobs/sha256/<hex>        manifests, configurations, compressed layers
//! references/<hex>.json     reference → digest of its manifest
//! layers/<hex>/             a layer's files, named by diff id
//! ```

mod archive;
mod builtin;
mod error;
mod pull;
mod reference;
mod store;
mod unpack;

pub use error::Error;
pub use oci_spec::image::ImageConfiguration;
pub use pull::Credentials;
pub use reference::normalize;
pub use store::{Image, Store};
pub use unpack::Unpacked;
