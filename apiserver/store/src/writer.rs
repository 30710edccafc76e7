use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use crate::store::Live;
use crate::{Audience, Backend, Change, Entry, Error, Expect, Key};

mod group;

use group::Group;

/// One write in the queue.
pub(crate) struct Write<M> {
    pub(crate) key: Key,
    pub(crate) expect: Expect,
    pub(crate) change: Change<M>,
    pub(crate) reply: oneshot::Sender<Outcome<M>>,
}

pub(crate) type Outcome<M> = Result<Arc<Entry<M>>, Error<M>>;

/// What the queue carries.
pub(crate) enum Request<M> {
    Write(Write<M>),
    /// Finish; answered when the backend is released.
    Close(oneshot::Sender<()>),
}

/// The one place where objects change: a thread that takes whatever waits as one group.
pub(crate) struct Writer<M> {
    live: Arc<Live<M>>,
    backend: Box<dyn Backend>,
    /// The disk error after which nothing is written any more: what the disk holds then is unknown, and a second
    /// fdatasync after a failed one would report a success that means nothing.
    failed: Option<String>,
    /// Writes since the last snapshot file.
    unsaved: usize,
    /// How many objects the last one holds.
    saved: usize,
    /// When the histories of resources that rest were last looked at.
    trimmed: Instant,
    snapshot: Option<JoinHandle<()>>,
}

impl<M: Audience + Send + Sync + 'static> Writer<M> {
    pub(crate) fn spawn(
        live: Arc<Live<M>>,
        backend: Box<dyn Backend>,
        requests: mpsc::Receiver<Request<M>>,
    ) -> std::io::Result<()> {
        let writer =
            Writer { live, backend, failed: None, unsaved: 0, saved: 0, trimmed: Instant::now(), snapshot: None };
        thread::Builder::new().name("store-writer".into()).spawn(move || writer.run(requests)).map(drop)
    }

    fn run(mut self, mut requests: mpsc::Receiver<Request<M>>) {
        let mut closing = None;
        while closing.is_none()
            && let Some(first) = requests.blocking_recv()
        {
            let mut writes = Vec::new();
            let mut next = Some(first);
            while let Some(request) = next {
                match request {
                    Request::Write(write) => writes.push(write),
                    Request::Close(reply) => closing = Some(reply),
                }
                let full = writes.len() >= self.live.limits.group || closing.is_some();
                next = if full { None } else { requests.try_recv().ok() };
            }
            self.commit(writes);
            self.save_now_and_then();
        }
        self.finish();
        // The receiver goes last: `Store::close` waits for that.
        if let Some(reply) = closing {
            let _ = reply.send(());
        }
        drop(requests);
    }

    /// Checks, numbers, stores, publishes and acknowledges a group of writes.
    fn commit(&mut self, writes: Vec<Write<M>>) {
        let mut group = Group::new(self.live.revision(), Instant::now());
        let mut answers = Vec::with_capacity(writes.len());
        for Write { key, expect, change, reply } in writes {
            let outcome = group.add(key, expect, change, |key| self.live.get(key));
            answers.push((reply, outcome));
        }
        let stored = self.store(&group);
        if stored.is_ok() {
            self.publish(group);
        }
        for (reply, outcome) in answers {
            // The refused writes of a failed group were checked against versions that now never were.
            let answer = stored.clone().map_err(Error::Storage).and(outcome);
            let _ = reply.send(answer);
        }
    }

    fn store(&mut self, group: &Group<M>) -> Result<(), String> {
        if let Some(reason) = &self.failed {
            return Err(reason.clone());
        }
        if group.ops.is_empty() {
            return Ok(());
        }
        let backend = &mut self.backend;
        let result = catch_unwind(AssertUnwindSafe(|| backend.commit(group.revision, &group.ops)))
            .unwrap_or_else(|panic| Err(panic_message(&*panic)));
        if let Err(reason) = &result {
            tracing::error!("the store stops writing until it is opened again: {reason}");
            self.failed = Some(format!("{reason}; nothing is written until the server is restarted"));
        }
        self.unsaved += group.ops.len();
        result
    }

    fn publish(&mut self, group: Group<M>) {
        let mut shards = BTreeMap::new();
        for event in &group.events {
            let resource = &event.entry.key.resource;
            shards.entry(resource.clone()).or_insert_with(|| self.live.shard(resource));
        }
        // All locks of the group at once, so that no reader sees a revision without everything up to it.
        let mut states: BTreeMap<_, _> = shards.iter().map(|(name, shard)| (name, shard.write())).collect();
        let mut bells = Vec::new();
        for event in &group.events {
            if let Some(state) = states.get_mut(&event.entry.key.resource) {
                state.publish(event, &mut bells);
            }
        }
        states.values_mut().for_each(|state| state.history.trim(&self.live.limits, group.now));
        self.live.published.send_replace(group.revision);
        drop(states);
        bells.sort_by_key(Arc::as_ptr);
        bells.dedup_by(|a, b| Arc::ptr_eq(a, b));
        bells.iter().for_each(|bell| bell.send_modify(|_| ()));
        if group.now - self.trimmed > self.live.limits.history_age / 5 {
            self.trimmed = group.now;
            self.live.all().iter().for_each(|shard| shard.write().history.trim(&self.live.limits, group.now));
        }
    }

    /// Starts a snapshot when enough was written since the last one and none is under way.
    fn save_now_and_then(&mut self) {
        let busy = self.snapshot.as_ref().is_some_and(|thread| !thread.is_finished());
        if !busy && self.unsaved >= self.live.limits.snapshot_every.max(self.saved) {
            self.save(self.entries());
        }
    }

    fn entries(&self) -> Vec<Arc<Entry<M>>> {
        self.live.all().iter().flat_map(|shard| shard.read().live.values().cloned().collect::<Vec<_>>()).collect()
    }

    /// Writes a snapshot file on a thread of its own. Only this thread changes the entries, so they are those of the
    /// published revision.
    fn save(&mut self, entries: Vec<Arc<Entry<M>>>) {
        (self.unsaved, self.saved) = (0, entries.len());
        let Some(snapshots) = self.backend.snapshots() else {
            return;
        };
        let revision = self.live.revision();
        let write = move || {
            let records = entries.iter().map(|entry| (&entry.key, entry.revision, &entry.bytes));
            if let Err(error) = snapshots.write(revision, records) {
                tracing::warn!("failed to write a snapshot of the store: {error}");
            }
        };
        match thread::Builder::new().name("store-snapshot".into()).spawn(write) {
            Ok(thread) => self.snapshot = Some(thread),
            Err(error) => tracing::warn!("failed to start a snapshot of the store: {error}"),
        }
    }

    /// A last snapshot, and the end of all watches. The backend is dropped before anybody hears of it.
    fn finish(mut self) {
        let join = |thread: Option<JoinHandle<()>>| thread.map(JoinHandle::join);
        join(self.snapshot.take());
        if self.unsaved > 0 && self.failed.is_none() {
            let entries = self.entries();
            self.save(entries);
            join(self.snapshot.take());
        }
        self.live.all().iter().for_each(|shard| shard.close());
    }
}

/// What a panic said, in one line.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    format!("it panicked: {text}").replace('\n', " ")
}
