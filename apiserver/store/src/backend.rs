use bytes::Bytes;

use crate::{Key, OpenError, Snapshots};

/// Where a [`Store`](crate::Store) keeps its objects between two runs.
///
/// The store asks it for everything once, and then only hands it groups of writes; it never reads again.
pub trait Backend: Send + 'static {
    /// Everything that is stored. Called once, before any [`Backend::commit`].
    fn load(&mut self) -> Result<Loaded, OpenError>;

    /// Makes a group of writes durable, all or none, with `revision` as the last one given. Returns when a power cut
    /// cannot take them back. After an error the outcome is unknown, and the store commits nothing more.
    fn commit(&mut self, revision: u64, ops: &[Op]) -> Result<(), String>;

    /// Where snapshot files go; nothing for a backend that does not outlive its process.
    fn snapshots(&self) -> Option<Snapshots>;
}

/// What [`Backend::load`] found.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The last revision that was given, also when its object is deleted since.
    pub revision: u64,
    /// The live objects, in no particular order.
    pub records: Vec<Record>,
}

/// One live object as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is called.
    pub key: Key,
    /// The revision of this version.
    pub revision: u64,
    /// Its JSON.
    pub bytes: Bytes,
}

/// One write of a group.
#[derive(Clone, Debug)]
pub struct Op {
    /// The object that is written.
    pub key: Key,
    /// The revision of the version that was live before, counting earlier writes of the same group.
    pub before: Option<u64>,
    /// The revision and bytes of the new version; nothing when the object is deleted.
    pub after: Option<(u64, Bytes)>,
}
