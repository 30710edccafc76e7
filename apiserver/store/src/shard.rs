use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::history::{Bell, History};
use crate::{Audience, Entry, Event, EventKind, Key};

/// Namespace and name, in the order of lists: that of `namespace/name` as bytes, which is the order of the keys that
/// Kubernetes has in etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    namespace: Arc<str>,
    name: Arc<str>,
}

/// One resource: its live objects and its history.
pub(crate) struct Shard<M>(RwLock<State<M>>);

/// What is behind the lock of a [`Shard`].
pub(crate) struct State<M> {
    pub(crate) live: BTreeMap<Place, Arc<Entry<M>>>,
    pub(crate) history: History<M>,
}

impl Place {
    pub(crate) fn of(key: &Key) -> Self {
        Place { namespace: key.namespace.clone(), name: key.name.clone() }
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        if self.namespace == other.namespace {
            return self.name.cmp(&other.name);
        }
        // A slash is in no namespace, so one of these is never the beginning of the other.
        let [a, b] = [self, other].map(|place| place.namespace.bytes().chain([b'/']));
        a.cmp(b)
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<M: Audience> Shard<M> {
    /// An empty resource whose history begins after `revision`.
    pub(crate) fn new(revision: u64) -> Self {
        Shard(RwLock::new(State { live: BTreeMap::new(), history: History::new(revision) }))
    }

    /// Nothing panics while it holds the lock for writing but for a lack of memory, so a poisoned lock is taken as is.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State<M>> {
        self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, State<M>> {
        self.0.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Ends every watch of this resource once it has seen all events.
    pub(crate) fn close(&self) {
        self.read().history.bells().for_each(|bell| {
            bell.send_replace(true);
        });
    }
}

impl<M: Audience> State<M> {
    /// Puts a committed event into the live objects and the history; `bells` are to be rung when the lock is released.
    pub(crate) fn publish(&mut self, event: &Arc<Event<M>>, bells: &mut Vec<Bell>) {
        let place = Place::of(&event.entry.key);
        match event.kind {
            EventKind::Put => self.live.insert(place, event.entry.clone()),
            EventKind::Delete => self.live.remove(&place),
        };
        self.history.push(event, bells);
    }

    /// The objects of a namespace, or of all, from `start` on, handed to `read` as they were at a revision that the
    /// history reaches back to.
    pub(crate) fn range<T>(
        &self,
        at: u64,
        namespace: Option<&str>,
        start: Option<(&str, &str)>,
        read: impl FnOnce(&mut dyn Iterator<Item = &Arc<Entry<M>>>) -> T,
    ) -> T {
        let (in_namespace, name) = start.unwrap_or((namespace.unwrap_or_default(), ""));
        let first = Place { namespace: in_namespace.into(), name: name.into() };
        let bounds = (Bound::Included(first), Bound::Unbounded);
        let changed = self.history.changed_since(at);
        let mut past = changed.range(bounds.clone()).peekable();
        let mut live = self.live.range(bounds).peekable();
        let merged = std::iter::from_fn(|| {
            loop {
                let order = match (live.peek(), past.peek()) {
                    (Some((now, _)), Some((then, _))) => now.cmp(then),
                    (_, None) => Ordering::Less,
                    (None, _) => Ordering::Greater,
                };
                if order == Ordering::Less {
                    return live.next().map(|(_, entry)| entry);
                }
                if order == Ordering::Equal {
                    live.next();
                }
                let (_, entry) = past.next()?;
                if let Some(entry) = entry {
                    return Some(*entry);
                }
            }
        });
        read(&mut merged.take_while(|entry| namespace.is_none_or(|wanted| *entry.key.namespace == *wanted)))
    }
}
