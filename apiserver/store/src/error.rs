use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::Entry;

/// Why a write was refused or a watch ended.
#[derive(thiserror::Error)]
pub enum Error<M> {
    /// [`Expect::Absent`](crate::Expect::Absent), but this object is live.
    #[error("{} exists already", .0.key)]
    Exists(Arc<Entry<M>>),
    /// A live object was expected and there is none.
    #[error("there is no such object")]
    Missing,
    /// [`Expect::Revision`](crate::Expect::Revision) named another version than this live one.
    #[error("{} has changed: it is at revision {}", .0.key, .0.revision)]
    Conflict(Arc<Entry<M>>),
    /// The history no longer reaches back to where the watch stands: list again (HTTP 410 Gone).
    #[error("the history begins after revision {oldest}")]
    Compacted {
        /// The oldest revision that a watch of this resource can start after.
        oldest: u64,
    },
    /// The write could not be made durable, or cannot be stored at all. It was not published. After a disk error the
    /// store refuses every write until it is opened again; reads and watches go on.
    #[error("the store cannot write: {0}")]
    Storage(String),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// The object has more bytes than this.
    #[error("the object is larger than {0} bytes")]
    TooLarge(usize),
}

impl<M> Clone for Error<M> {
    fn clone(&self) -> Self {
        match self {
            Error::Exists(entry) => Error::Exists(entry.clone()),
            Error::Missing => Error::Missing,
            Error::Conflict(entry) => Error::Conflict(entry.clone()),
            Error::Compacted { oldest } => Error::Compacted { oldest: *oldest },
            Error::Storage(reason) => Error::Storage(reason.clone()),
            Error::Closed => Error::Closed,
            Error::TooLarge(limit) => Error::TooLarge(*limit),
        }
    }
}

/// As the message: entries are large, and `M` need not be `Debug`.
impl<M> fmt::Debug for Error<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Error::Exists(_) => "Exists",
            Error::Missing => "Missing",
            Error::Conflict(_) => "Conflict",
            Error::Compacted { .. } => "Compacted",
            Error::Storage(_) => "Storage",
            Error::Closed => "Closed",
            Error::TooLarge(_) => "TooLarge",
        };
        write!(f, "{name}({self})")
    }
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the directory open.
    #[error("{} is in use by another process: stop that one, or choose another data directory", .0.display())]
    Locked(PathBuf),
    /// sled's files are broken and no snapshot can replace them. Nothing was changed or removed.
    #[error("the store in {} is broken ({reason}) and there is no valid snapshot to recover from: \
             restore the directory from a backup, or move it away to start empty", dir.display())]
    Broken {
        /// The directory of the store.
        dir: PathBuf,
        /// What sled or the check of its contents said.
        reason: String,
    },
    /// An object in the store cannot be parsed by this version.
    #[error("{object} in the store cannot be read: {reason}")]
    Unreadable {
        /// The object's key.
        object: String,
        /// What the parser said.
        reason: String,
    },
    /// The disk or the system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    Disk {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or directory it was tried on.
        path: PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },
}

impl OpenError {
    /// For `map_err`: the failure of `action` on `path`.
    pub(crate) fn disk(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> OpenError {
        let path = path.into();
        move |source| OpenError::Disk { action, path, source }
    }
}
