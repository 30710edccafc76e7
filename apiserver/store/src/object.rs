use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

/// What names an object: its resource, namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// `group/plural`, as `apps/deployments`; `/pods` for the core group.
    pub resource: Arc<str>,
    /// The namespace; empty when the object is cluster-scoped.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
}

impl Key {
    /// A key of these three parts. None of them may hold a NUL byte; [`Store::commit`](crate::Store::commit) refuses it.
    pub fn new(resource: impl Into<Arc<str>>, namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Key { resource: resource.into(), namespace: namespace.into(), name: name.into() }
    }

    /// `resource NUL namespace NUL name`: the key on the disk.
    pub(crate) fn encode(&self) -> Vec<u8> {
        [self.resource.as_bytes(), self.namespace.as_bytes(), self.name.as_bytes()].join(&0)
    }

    /// The reverse of [`Key::encode`]; nothing when the bytes are not a key.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Key> {
        let mut parts = std::str::from_utf8(bytes).ok()?.split('\0');
        let key = Key::new(parts.next()?, parts.next()?, parts.next()?);
        parts.next().is_none().then_some(key)
    }

    pub(crate) fn holds_nul(&self) -> bool {
        [&self.resource, &self.namespace, &self.name].iter().any(|part| part.contains('\0'))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_ref() {
            "" => write!(f, "{} {}", self.resource, self.name),
            namespace => write!(f, "{} {namespace}/{}", self.resource, self.name),
        }
    }
}

/// One version of an object.
#[derive(Debug)]
pub struct Entry<M> {
    /// What it is called.
    pub key: Key,
    /// The revision that made this version: its `metadata.resourceVersion`.
    pub revision: u64,
    /// The JSON of the object, with `metadata.resourceVersion` in it.
    pub bytes: Bytes,
    /// What the caller keeps parsed beside the bytes.
    pub meta: M,
}

/// An object on its way into the store, complete but for its revision.
#[derive(Clone, Debug)]
pub struct Draft<M> {
    /// The JSON with an empty `"resourceVersion":""`.
    pub bytes: Vec<u8>,
    /// Where in `bytes` the decimal revision goes: between those quotes.
    pub revision_at: usize,
    /// What to keep parsed beside the bytes.
    pub meta: M,
}

impl<M> Draft<M> {
    /// The entry that this draft is once it has a revision, and the line that tells a watch of it; `revision_at` must
    /// lie within the bytes. Both share one allocation.
    pub(crate) fn seal(self, key: Key, revision: u64, told: &str) -> (Entry<M>, Bytes) {
        let digits = revision.to_string();
        let (head, tail) = self.bytes.split_at(self.revision_at);
        let parts = [LINE[0], told, LINE[1]].map(str::as_bytes);
        let start = parts.iter().map(|part| part.len()).sum();
        let [open, told, object] = parts;
        let line: Bytes = [open, told, object, head, digits.as_bytes(), tail, LINE[2].as_bytes()].concat().into();
        let bytes = line.slice(start..line.len() - LINE[2].len());
        (Entry { key, revision, bytes, meta: self.meta }, line)
    }
}

/// What stands around the word for the change and the object in a line of a watch.
const LINE: [&str; 3] = [r#"{"type":""#, r#"","object":"#, "}\n"];

/// The precondition of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// No object of that key is live: a create.
    Absent,
    /// The live object is exactly this version: optimistic locking.
    Revision(u64),
    /// There is a live object, of whatever version.
    Present,
}

/// What a write does.
#[derive(Clone, Debug)]
pub enum Change<M> {
    /// This becomes the live object.
    Put(Draft<M>),
    /// The object goes. The draft is its final state, which watchers see with the revision of the deletion.
    Delete(Draft<M>),
}

impl<M> Change<M> {
    pub(crate) fn draft(&self) -> &Draft<M> {
        match self {
            Change::Put(draft) | Change::Delete(draft) => draft,
        }
    }
}

/// Whether an [`Event`] made a version or removed the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The object was created or replaced; created when there is no previous version.
    Put,
    /// The object was deleted.
    Delete,
}

/// One committed write, as watchers see it.
#[derive(Debug)]
pub struct Event<M> {
    /// The revision of the write.
    pub revision: u64,
    /// What the write did.
    pub kind: EventKind,
    /// The new version, or the final state of a deleted object.
    pub entry: Arc<Entry<M>>,
    /// The version that was live before: what a selector is compared with to tell ADDED, MODIFIED and DELETED apart.
    pub previous: Option<Arc<Entry<M>>>,
    /// The event as one line of a watch, `{"type":"ADDED","object":…}`, for who is to be told of every change.
    pub line: Bytes,
    /// When it was committed.
    pub(crate) at: Instant,
}
