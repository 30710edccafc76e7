use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use crate::shard::Place;
use crate::{Audience, Entry, Event, EventKind, Limits, Topic};

/// What an event costs beside the versions it holds, and a version beside its bytes, roughly.
const OVERHEAD: usize = 256;

/// Wakes those who wait for events; turns true when the store closes.
pub(crate) type Bell = Arc<watch::Sender<bool>>;

/// The events of one resource that are remembered, and those who wait for more.
pub(crate) struct History<M> {
    all: Lane<M>,
    /// The same events by topic, for the topics that are watched.
    lanes: HashMap<Topic, Lane<M>>,
    /// The cost of the events, as [`cost`] counts it.
    bytes: usize,
}

/// The remembered events of one topic.
struct Lane<M> {
    events: VecDeque<Arc<Event<M>>>,
    /// Events up to this revision are not there any more.
    compacted: u64,
    bell: Bell,
}

impl<M: Audience> History<M> {
    /// A history that begins after `revision`.
    pub(crate) fn new(revision: u64) -> Self {
        let all = Lane { events: VecDeque::new(), compacted: revision, bell: Arc::new(watch::Sender::new(false)) };
        History { all, lanes: HashMap::new(), bytes: 0 }
    }

    /// Remembers a committed event; `bells` are to be rung when the lock is released.
    pub(crate) fn push(&mut self, event: &Arc<Event<M>>, bells: &mut Vec<Bell>) {
        self.bytes += cost(event);
        self.all.push(event.clone(), bells);
        if !self.lanes.is_empty() {
            for topic in Topic::of(event) {
                if let Some(lane) = self.lanes.get_mut(&topic) {
                    lane.push(event.clone(), bells);
                }
            }
        }
    }

    /// Forgets the oldest events beyond the limits.
    pub(crate) fn trim(&mut self, limits: &Limits, now: Instant) {
        let many = |history: &Self| history.all.events.len() > limits.history_events.max(1);
        let large = |history: &Self| history.bytes > limits.history_bytes && history.all.events.len() > 1;
        let old = |event: &Event<M>| now.saturating_duration_since(event.at) > limits.history_age;
        while many(self) || large(self) || self.all.events.front().is_some_and(|event| old(event)) {
            let Some(oldest) = self.all.pop() else { break };
            self.bytes -= cost(&oldest);
            if !self.lanes.is_empty() {
                for topic in Topic::of(&oldest) {
                    let lane = self.lanes.get_mut(&topic);
                    lane.filter(|lane| lane.oldest() == Some(oldest.revision)).and_then(Lane::pop);
                }
            }
        }
    }

    /// The oldest revision that a watch can start after, or a list can be of.
    pub(crate) fn compacted(&self) -> u64 {
        self.all.compacted
    }

    /// Up to `limit` events of a topic after `revision`, in order; an error when some of them are forgotten.
    pub(crate) fn after(&self, topic: &Topic, revision: u64, limit: usize) -> Result<Vec<Arc<Event<M>>>, u64> {
        let lane = self.lanes.get(topic).unwrap_or(&self.all);
        if revision < lane.compacted {
            return Err(lane.compacted);
        }
        Ok(lane.events.range(lane.place(revision)..).take(limit).cloned().collect())
    }

    /// Lets somebody watch a topic from a revision on; an error when the history does not reach back that far.
    pub(crate) fn join(&mut self, topic: &Topic, after: u64) -> Result<watch::Receiver<bool>, u64> {
        if after < self.all.compacted {
            return Err(self.all.compacted);
        }
        if *topic == Topic::All {
            return Ok(self.all.bell.subscribe());
        }
        let lane = self.lanes.get(topic);
        let bell = match lane {
            Some(lane) if lane.compacted <= after => return Ok(lane.bell.subscribe()),
            Some(lane) => lane.bell.clone(),
            None => Arc::new(watch::Sender::new(*self.all.bell.borrow())),
        };
        let events = self.all.events.range(self.all.place(after)..);
        let events = events.filter(|event| topic.holds(event)).cloned().collect();
        let heard = bell.subscribe();
        self.lanes.insert(topic.clone(), Lane { events, compacted: after, bell });
        Ok(heard)
    }

    /// Forgets a topic when the one who leaves was the last to watch it.
    pub(crate) fn leave(&mut self, topic: &Topic) {
        if self.lanes.get(topic).is_some_and(|lane| lane.bell.receiver_count() <= 1) {
            self.lanes.remove(topic);
        }
    }

    /// What the objects that have changed since a revision were then: nothing for those that were not there.
    pub(crate) fn changed_since(&self, revision: u64) -> BTreeMap<Place, Option<&Arc<Entry<M>>>> {
        let mut changed = BTreeMap::new();
        for event in self.all.events.range(self.all.place(revision)..) {
            changed.entry(Place::of(&event.entry.key)).or_insert(event.previous.as_ref());
        }
        changed
    }

    /// The bells of all who wait.
    pub(crate) fn bells(&self) -> impl Iterator<Item = &Bell> {
        std::iter::once(&self.all).chain(self.lanes.values()).map(|lane| &lane.bell)
    }
}

impl<M> Lane<M> {
    fn push(&mut self, event: Arc<Event<M>>, bells: &mut Vec<Bell>) {
        self.events.push_back(event);
        if self.bell.receiver_count() > 0 {
            bells.push(self.bell.clone());
        }
    }

    fn pop(&mut self) -> Option<Arc<Event<M>>> {
        let oldest = self.events.pop_front()?;
        self.compacted = oldest.revision;
        Some(oldest)
    }

    fn oldest(&self) -> Option<u64> {
        self.events.front().map(|event| event.revision)
    }

    /// Where the events after a revision begin.
    fn place(&self, revision: u64) -> usize {
        self.events.partition_point(|event| event.revision <= revision)
    }
}

/// What only the history holds of an event: the version that it replaced, and the last state of what is deleted.
fn cost<M>(event: &Event<M>) -> usize {
    let version = |entry: &Arc<Entry<M>>| entry.bytes.len() + OVERHEAD;
    let last = if event.kind == EventKind::Delete { version(&event.entry) } else { 0 };
    OVERHEAD + event.previous.as_ref().map_or(0, version) + last
}
