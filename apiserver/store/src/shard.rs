use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::watch;

use crate::{Entry, Event, EventKind, Limits};

/// What an event costs beside the bytes of its object: the event, the entry and the parsed metadata, roughly.
const EVENT_OVERHEAD: usize = 512;

/// `(namespace, name)`: the order of lists.
pub(crate) type Place = (Arc<str>, Arc<str>);

/// One resource: its live objects, its history, and those who watch it.
pub(crate) struct Shard<M> {
    state: RwLock<State<M>>,
    /// Turns true when the store closes; every send wakes the watchers of this resource and no others.
    pub(crate) closed: watch::Sender<bool>,
}

/// What is behind the lock of a [`Shard`].
pub(crate) struct State<M> {
    pub(crate) live: BTreeMap<Place, Arc<Entry<M>>>,
    events: VecDeque<Arc<Event<M>>>,
    /// The cost of `events`, as [`cost`] counts it.
    bytes: usize,
    /// Events up to this revision are not in the history.
    compacted: u64,
}

impl<M> Shard<M> {
    /// An empty resource whose history begins after `revision`.
    pub(crate) fn new(revision: u64) -> Self {
        let state = State { live: BTreeMap::new(), events: VecDeque::new(), bytes: 0, compacted: revision };
        Shard { state: RwLock::new(state), closed: watch::Sender::new(false) }
    }

    /// Nothing panics while it holds the lock for writing but for a lack of memory, so a poisoned lock is taken as is.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State<M>> {
        self.state.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, State<M>> {
        self.state.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Wakes every watcher of this resource.
    pub(crate) fn wake(&self) {
        self.closed.send_modify(|_| ());
    }

    /// Ends every watch of this resource once it has seen all events.
    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
    }
}

impl<M> State<M> {
    /// Puts a committed event into the live objects and the history, and lets the history's oldest go.
    pub(crate) fn publish(&mut self, event: Arc<Event<M>>, limits: &Limits) {
        let place = (event.entry.key.namespace.clone(), event.entry.key.name.clone());
        match event.kind {
            EventKind::Put => self.live.insert(place, event.entry.clone()),
            EventKind::Delete => self.live.remove(&place),
        };
        self.bytes += cost(&event);
        self.events.push_back(event);
        while self.events.len() > limits.history_events.max(1)
            || (self.bytes > limits.history_bytes && self.events.len() > 1)
        {
            let Some(oldest) = self.events.pop_front() else {
                break;
            };
            self.bytes -= cost(&oldest);
            self.compacted = oldest.revision;
        }
    }

    /// The oldest revision that a watch can start after.
    pub(crate) fn compacted(&self) -> u64 {
        self.compacted
    }

    /// Up to `limit` events after `revision`, in order; an error when some of them have left the history.
    pub(crate) fn after(&self, revision: u64, limit: usize) -> Result<Vec<Arc<Event<M>>>, u64> {
        if revision < self.compacted {
            return Err(self.compacted);
        }
        let start = self.events.partition_point(|event| event.revision <= revision);
        Ok(self.events.range(start..).take(limit).cloned().collect())
    }

    /// The live objects of a namespace, or of all, that come after `start`.
    pub(crate) fn range<'a>(
        &'a self,
        namespace: Option<&'a str>,
        start: Option<(&str, &str)>,
    ) -> impl Iterator<Item = &'a Arc<Entry<M>>> {
        let empty: Arc<str> = Arc::from("");
        let lower = match start {
            Some((in_namespace, name)) => Bound::Excluded((in_namespace.into(), name.into())),
            None => Bound::Included((namespace.map_or_else(|| empty.clone(), Arc::from), empty)),
        };
        self.live
            .range((lower, Bound::Unbounded))
            .map(|(_, entry)| entry)
            .take_while(move |entry| namespace.is_none_or(|wanted| *entry.key.namespace == *wanted))
    }
}

fn cost<M>(event: &Event<M>) -> usize {
    event.entry.bytes.len() + EVENT_OVERHEAD
}
