use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crate::writer::Outcome;
use crate::{Change, Entry, Error, Event, EventKind, Expect, Key, Op};

/// Writes that become durable together: checked and numbered one after the other, each on top of those before it.
pub(crate) struct Group<M> {
    /// The last revision given.
    pub(crate) revision: u64,
    /// When it was taken.
    pub(crate) now: Instant,
    /// What was accepted, for the watchers.
    pub(crate) events: Vec<Arc<Event<M>>>,
    /// The same, for the backend.
    pub(crate) ops: Vec<Op>,
    /// The objects that the group has changed, as it leaves them.
    touched: HashMap<Key, Option<Arc<Entry<M>>>>,
}

impl<M> Group<M> {
    /// An empty group after `revision`.
    pub(crate) fn new(revision: u64, now: Instant) -> Self {
        Group { revision, now, events: Vec::new(), ops: Vec::new(), touched: HashMap::new() }
    }

    /// Accepts a write and gives it the next revision, or refuses it. `live` knows what the group has not touched.
    pub(crate) fn add(
        &mut self,
        key: Key,
        expect: Expect,
        change: Change<M>,
        live: impl FnOnce(&Key) -> Option<Arc<Entry<M>>>,
    ) -> Outcome<M> {
        let previous = match self.touched.get(&key) {
            Some(touched) => touched.clone(),
            None => live(&key),
        };
        check(expect, &change, previous.as_ref())?;
        // All versions of an object share their strings.
        let key = previous.as_ref().map_or(key, |previous| previous.key.clone());
        self.revision += 1;
        let (kind, draft) = match change {
            Change::Put(draft) => (EventKind::Put, draft),
            Change::Delete(draft) => (EventKind::Delete, draft),
        };
        let told = match (kind, &previous) {
            (EventKind::Delete, _) => "DELETED",
            (EventKind::Put, None) => "ADDED",
            (EventKind::Put, Some(_)) => "MODIFIED",
        };
        let (entry, line) = draft.seal(key.clone(), self.revision, told);
        let entry = Arc::new(entry);
        let kept = (kind == EventKind::Put).then(|| entry.clone());
        self.ops.push(Op {
            key: key.clone(),
            before: previous.as_ref().map(|entry| entry.revision),
            after: kept.as_ref().map(|entry| (entry.revision, entry.bytes.clone())),
        });
        self.touched.insert(key, kept);
        let event = Event { revision: self.revision, kind, entry: entry.clone(), previous, line, at: self.now };
        self.events.push(Arc::new(event));
        Ok(entry)
    }
}

/// The precondition of a write against the version that is there.
fn check<M>(expect: Expect, change: &Change<M>, current: Option<&Arc<Entry<M>>>) -> Result<(), Error<M>> {
    match (expect, current) {
        (Expect::Absent, Some(entry)) => Err(Error::Exists(entry.clone())),
        (Expect::Absent, None) if matches!(change, Change::Put(_)) => Ok(()),
        (_, None) => Err(Error::Missing),
        (Expect::Revision(revision), Some(entry)) if entry.revision != revision => Err(Error::Conflict(entry.clone())),
        (Expect::Revision(_) | Expect::Present, Some(_)) => Ok(()),
    }
}
