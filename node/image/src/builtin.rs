//! The image that is the binary itself.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use serde_json::json;

use crate::{
    Error, Store, normalize,
    store::{digest, hex},
};

impl Store {
    /// Puts an image whose only file is `/coracle`, a hard link or copy of `exe`, with the entry
    /// point `/coracle echo`. Does nothing when the same file is already there under that name.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be linked or copied.
    pub fn add_builtin(&self, reference: &str, exe: &Path) -> Result<(), Error> {
        let reference = normalize(reference)?;
        let file = fs::metadata(exe).map_err(Error::io("read", exe))?;
        // The layer is named by what tells one build from another: hashing the file would cost
        // more than all of the rest of a cluster's start.
        let version = format!("{} {} {} {}", exe.display(), file.len(), file.mtime_nsec(), file.mtime());
        let layer = digest(version.as_bytes());
        let root = self.dir.join("layers").join(hex(&layer));
        if !root.exists() {
            let incoming = self.incoming();
            fs::create_dir_all(&incoming).map_err(Error::io("make", &incoming))?;
            let target = incoming.join("coracle");
            if fs::hard_link(exe, &target).is_err() {
                fs::copy(exe, &target).map_err(Error::io("copy the binary to", &target))?;
            }
            fs::rename(&incoming, &root).map_err(Error::io("rename to", &root))?;
        }
        let config = json!({
            "architecture": oci_spec::image::Arch::default(), "os": "linux",
            "config": {"Entrypoint": ["/coracle", "echo"], "Env": ["PATH=/"], "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [layer]},
        });
        let config = config.to_string().into_bytes();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": self.put(&config)?, "size": config.len(),
            },
            "layers": [{
                "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": file.len(),
            }],
        });
        let manifest = self.put(manifest.to_string().as_bytes())?;
        self.tag(&reference, &manifest, true)
    }
}
