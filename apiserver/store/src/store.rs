use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::shard::{Place, Shard};
use crate::writer::{Request, Write, Writer};
use crate::{Audience, Backend, Change, Entry, Error, Expect, Key, Limits, OpenError, Topic, Watch};

/// The largest object: a little more than the largest body of a request, since defaults add to it. Many small patches
/// could otherwise make one of any size.
const OBJECT_BYTES: usize = 4 << 20;

/// Reads the metadata that is kept beside an object's bytes; used for what the backend holds when the store opens.
pub type Parse<M> = fn(&Key, &[u8]) -> Result<M, String>;

/// The store. Clones are handles to the same one; when the last is dropped, it closes by itself.
pub struct Store<M> {
    live: Arc<Live<M>>,
    writer: mpsc::Sender<Request<M>>,
}

/// What readers and the writer share.
pub(crate) struct Live<M> {
    shards: RwLock<HashMap<Arc<str>, Arc<Shard<M>>>>,
    /// The last revision that readers can see. The writer moves it while it holds the locks of all shards of a group,
    /// so under the lock of one shard it is the revision of what that shard holds.
    pub(crate) published: watch::Sender<u64>,
    /// The revision at which the store was opened: the history begins after it.
    opened: u64,
    pub(crate) limits: Limits,
}

/// A part of a list, all of it as of one revision.
pub struct Page<M> {
    /// The revision of this list: a watch after it misses nothing and repeats nothing.
    pub revision: u64,
    /// The objects, in the order of namespace and name.
    pub entries: Vec<Arc<Entry<M>>>,
    /// How many objects come after these.
    pub remaining: usize,
}

impl<M> Clone for Store<M> {
    fn clone(&self) -> Self {
        Store { live: self.live.clone(), writer: self.writer.clone() }
    }
}

impl<M: Audience + Send + Sync + 'static> Store<M> {
    /// Loads everything from the backend and starts the writer's thread.
    pub fn open(mut backend: impl Backend, parse: Parse<M>, limits: Limits) -> Result<Self, OpenError> {
        let loaded = backend.load()?;
        let live = Live {
            shards: RwLock::default(),
            published: watch::Sender::new(loaded.revision),
            opened: loaded.revision,
            limits,
        };
        // Two objects of one resource or namespace share the string.
        let mut names: HashMap<Arc<str>, Arc<str>> = HashMap::new();
        let mut share = |name: &Arc<str>| names.entry(name.clone()).or_insert_with(|| name.clone()).clone();
        for record in loaded.records {
            let key = Key::new(share(&record.key.resource), share(&record.key.namespace), record.key.name);
            let meta = parse(&key, &record.bytes)
                .map_err(|reason| OpenError::Unreadable { object: key.to_string(), reason })?;
            let place = Place::of(&key);
            let shard = live.shard(&key.resource);
            let entry = Entry { key, revision: record.revision, bytes: record.bytes, meta };
            shard.write().live.insert(place, Arc::new(entry));
        }
        let live = Arc::new(live);
        let (sender, requests) = mpsc::channel(limits.queue.max(1));
        Writer::spawn(live.clone(), Box::new(backend), requests).map_err(OpenError::disk("start", "the writer"))?;
        Ok(Store { live, writer: sender })
    }

    /// Writes one object: returns when the write is durable and published, with the new version (of a deletion: the
    /// final state). The write happens as well when the caller goes away meanwhile.
    ///
    /// Errors: [`Error::Exists`], [`Error::Missing`] and [`Error::Conflict`] by the precondition,
    /// [`Error::Storage`], [`Error::Closed`]. A deletion of what is not there is always [`Error::Missing`].
    pub async fn commit(&self, key: Key, expect: Expect, change: Change<M>) -> Result<Arc<Entry<M>>, Error<M>> {
        if key.holds_nul() {
            return Err(Error::Storage("the key holds a NUL byte".into()));
        }
        if change.draft().revision_at > change.draft().bytes.len() {
            return Err(Error::Storage("the place of the revision is outside of the object".into()));
        }
        if matches!(&change, Change::Put(draft) if draft.bytes.len() > OBJECT_BYTES) {
            return Err(Error::TooLarge(OBJECT_BYTES));
        }
        let (reply, answer) = oneshot::channel();
        let write = Write { key, expect, change, reply };
        self.writer.send(Request::Write(write)).await.map_err(|_| Error::Closed)?;
        answer.await.unwrap_or(Err(Error::Closed))
    }

    /// The live version of an object.
    pub fn get(&self, key: &Key) -> Option<Arc<Entry<M>>> {
        self.live.get(key)
    }

    /// The live objects of a resource, in one namespace or in all, in the order of `namespace/name`; with the revision
    /// that a watch continues from.
    pub fn list(&self, resource: &str, namespace: Option<&str>) -> (u64, Vec<Arc<Entry<M>>>) {
        let page = self.page(resource, namespace, None, None, usize::MAX);
        page.map_or_else(|_| (self.revision(), Vec::new()), |page| (page.revision, page.entries))
    }

    /// Up to `limit` objects of a resource, from `start` on (a namespace and name, which need not exist): those that are
    /// live, or that were at a revision. Fails with [`Error::Compacted`] when the history does not reach back that far;
    /// a revision of the future is that of now.
    pub fn page(
        &self,
        resource: &str,
        namespace: Option<&str>,
        at: Option<u64>,
        start: Option<(&str, &str)>,
        limit: usize,
    ) -> Result<Page<M>, Error<M>> {
        // Read first: a resource that is not there may come, with an object and a newer revision, a moment later.
        let published = self.revision();
        let Some(shard) = self.live.find(resource) else {
            let revision = at.map_or(published, |at| at.min(published));
            if revision < self.live.opened {
                return Err(Error::Compacted { oldest: self.live.opened });
            }
            return Ok(Page { revision, entries: Vec::new(), remaining: 0 });
        };
        let state = shard.read();
        let published = self.revision();
        let revision = at.map_or(published, |at| at.min(published));
        let oldest = state.history.compacted();
        if revision < oldest {
            return Err(Error::Compacted { oldest });
        }
        Ok(state.range(revision, namespace, start, |objects| {
            let entries = objects.take(limit).cloned().collect();
            Page { revision, entries, remaining: objects.count() }
        }))
    }

    /// What happens to a topic of a resource after that revision. Fails with [`Error::Compacted`] when the history does
    /// not reach back that far, as after a restart. A revision of the future is waited for.
    pub fn watch(&self, resource: &str, topic: Topic, after: u64) -> Result<Watch<M>, Error<M>> {
        Watch::start(self.live.clone(), resource, topic, after)
    }

    /// Waits for a revision to be published, but not longer than that; says whether it is.
    pub async fn reach(&self, revision: u64, patience: Duration) -> bool {
        let mut published = self.live.published.subscribe();
        let reached = published.wait_for(|published| *published >= revision);
        tokio::time::timeout(patience, reached).await.is_ok_and(|reached| reached.is_ok())
    }

    /// The revision of the last published write: 0 in a new store, and kept over restarts and deletions.
    pub fn revision(&self) -> u64 {
        self.live.revision()
    }

    /// Finishes the writes that were queued before, writes a snapshot and releases the backend. Later writes fail with
    /// [`Error::Closed`]; reads go on; watches end when they have seen everything.
    pub async fn close(&self) {
        let (reply, done) = oneshot::channel();
        if self.writer.send(Request::Close(reply)).await.is_ok() {
            // An error means that somebody else's close came first; the writer is gone then, too.
            let _ = done.await;
        }
        self.writer.closed().await;
    }
}

impl<M: Audience> Live<M> {
    pub(crate) fn revision(&self) -> u64 {
        *self.published.borrow()
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Entry<M>>> {
        let shard = self.find(&key.resource)?;
        shard.read().live.get(&Place::of(key)).cloned()
    }

    /// The shard of a resource that was written or watched before.
    fn find(&self, resource: &str) -> Option<Arc<Shard<M>>> {
        self.shards.read().unwrap_or_else(|poisoned| poisoned.into_inner()).get(resource).cloned()
    }

    /// The shard of a resource, made when it is new.
    pub(crate) fn shard(&self, resource: &str) -> Arc<Shard<M>> {
        if let Some(shard) = self.find(resource) {
            return shard;
        }
        let mut shards = self.shards.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        shards.entry(resource.into()).or_insert_with(|| Arc::new(Shard::new(self.opened))).clone()
    }

    /// Every shard, in the order of the resources.
    pub(crate) fn all(&self) -> Vec<Arc<Shard<M>>> {
        let shards = self.shards.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut all: Vec<_> = shards.iter().map(|(name, shard)| (name.clone(), shard.clone())).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all.into_iter().map(|(_, shard)| shard).collect()
    }
}
