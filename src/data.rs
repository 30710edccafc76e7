//! The data directory of one cluster: where everything of it is, and whose it is.
//!
//! ```text
//! id            the cluster's id, six hex digits, part of every name made on the machine
//! lock          held by the running cluster; its process id is in it
//! cluster.json  how it was started, for `status` and `down`
//! kubeconfig    for kubectl
//! coracle.log   what a detached cluster says
//! ingress.log   the requests that Ingresses answered, and ingress.log.1 those before them
//! store/ pki/ images/ node/    the parts' own
//! run/          Unix sockets
//! ```

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, flock};

/// The kernel's limit for the path of a Unix socket, less the longest name in `run/`.
const LONGEST: usize = 108 - "/run/kubelet.sock".len() - 1;

/// A cluster's directory.
#[derive(Clone, Debug)]
pub(crate) struct Dir {
    path: PathBuf,
}

/// Held while a cluster runs; nobody else can run it then.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Dir {
    /// The default directory: under /var/lib for root, the user's data directory otherwise.
    #[must_use]
    pub(crate) fn default_path() -> PathBuf {
        if rustix::process::geteuid().is_root() {
            return PathBuf::from("/var/lib/coracle");
        }
        let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
        let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/tmp".into()));
        data.unwrap_or_else(|| home().join(".local/share")).join("coracle")
    }

    /// The directory at `path`, which need not exist.
    ///
    /// # Errors
    /// When the path cannot be made absolute, or sockets below it would have too long a path.
    pub(crate) fn new(path: &Path) -> anyhow::Result<Self> {
        let path = std::path::absolute(path).with_context(|| format!("resolve {}", path.display()))?;
        let length = path.as_os_str().len();
        if length > LONGEST {
            bail!(
                "{} has {length} characters and sockets are made in it: choose a --data-dir of at most {LONGEST}",
                path.display()
            );
        }
        Ok(Self { path })
    }

    /// Makes what is missing and takes the lock.
    ///
    /// # Errors
    /// When it cannot be made, or a cluster runs there already.
    pub(crate) fn lock(&self) -> anyhow::Result<Lock> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o711);
        for dir in ["", "run", "images", "node"] {
            let dir = self.path.join(dir);
            builder.create(&dir).with_context(|| {
                format!("make {}: choose a directory you may write to with --data-dir", dir.display())
            })?;
        }
        let path = self.path.join("lock");
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = options.with_context(|| format!("open {}", path.display()))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let pid = self.pid().map(|pid| format!(" (process {pid})")).unwrap_or_default();
            bail!(
                "a cluster runs with the data directory {} already{pid}: stop it with `coracle down`, or give this one its own --data-dir",
                self.path.display()
            );
        }
        file.set_len(0)?;
        write!(file, "{}", std::process::id())?;
        Ok(Lock { _file: file })
    }

    /// The process that runs this cluster, if one does.
    #[must_use]
    pub(crate) fn pid(&self) -> Option<i32> {
        let mut file = File::open(self.path.join("lock")).ok()?;
        if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
            return None;
        }
        let mut text = String::new();
        file.read_to_string(&mut text).ok()?;
        text.trim().parse().ok()
    }

    /// The cluster's id, drawn when there is none.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub(crate) fn id(&self) -> anyhow::Result<String> {
        let path = self.path.join("id");
        if let Ok(id) = fs::read_to_string(&path) {
            let id = id.trim().to_owned();
            if id.len() == 6 && id.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Ok(id);
            }
        }
        let mut bytes = [0; 3];
        File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut bytes)).context("read /dev/urandom")?;
        let id = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        fs::write(&path, &id).with_context(|| format!("write {}", path.display()))?;
        Ok(id)
    }

    /// A path below it.
    #[must_use]
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Where it is.
    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The API server's Unix socket, for programs that may read this directory: no TLS, all rights.
    #[must_use]
    pub(crate) fn api_socket(&self) -> PathBuf {
        self.path.join("run/api.sock")
    }

    /// The node agent's Unix socket.
    #[must_use]
    pub(crate) fn kubelet_socket(&self) -> PathBuf {
        self.path.join("run/kubelet.sock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_locked_once_and_keeps_its_id() {
        let temp = tempfile::tempdir().expect("tempdir");
        let dir = Dir::new(&temp.path().join("a")).expect("new");
        assert_eq!(dir.pid(), None);
        let lock = dir.lock().expect("lock");
        assert_eq!(dir.pid(), Some(std::process::id().cast_signed()));
        let error = dir.lock().expect_err("second").to_string();
        assert!(error.contains("already") && error.contains("coracle down"), "{error}");
        let id = dir.id().expect("id");
        assert_eq!(dir.id().expect("id"), id);
        drop(lock);
        assert_eq!(dir.pid(), None);
        dir.lock().expect("again");
    }

    #[test]
    fn a_long_path_is_refused_before_a_socket_fails() {
        let error = Dir::new(Path::new(&format!("/{}", "x".repeat(100)))).expect_err("too long").to_string();
        assert!(error.contains("--data-dir"), "{error}");
    }
}
