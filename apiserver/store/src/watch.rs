use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use crate::shard::Shard;
use crate::{Error, Event};

/// A cursor into the history of one resource. It holds no queue: a watch that nobody asks costs the writer nothing,
/// and when the history has moved past it, [`Watch::next`] says so.
pub struct Watch<M> {
    shard: Arc<Shard<M>>,
    closed: watch::Receiver<bool>,
    /// The store's last published revision.
    published: Arc<AtomicU64>,
    cursor: u64,
    batch: usize,
}

impl<M> Watch<M> {
    /// A watch of what comes after `cursor`, if the history reaches back that far.
    pub(crate) fn start(
        shard: Arc<Shard<M>>,
        published: Arc<AtomicU64>,
        cursor: u64,
        batch: usize,
    ) -> Result<Self, Error<M>> {
        let oldest = shard.read().compacted();
        if cursor < oldest {
            return Err(Error::Compacted { oldest });
        }
        Ok(Watch { closed: shard.closed.subscribe(), shard, published, cursor, batch: batch.max(1) })
    }

    /// The next events, each one once and in order of their revisions; waits until there is at least one.
    ///
    /// Returns at most [`Limits::watch_batch`](crate::Limits::watch_batch) at a time. It may be dropped while it waits
    /// without losing anything. Errors: [`Error::Compacted`] when the history has moved past this watch, and
    /// [`Error::Closed`] when the store was closed and every event has been returned.
    pub async fn next(&mut self) -> Result<Vec<Arc<Event<M>>>, Error<M>> {
        loop {
            let closed = *self.closed.borrow_and_update();
            let events =
                self.shard.read().after(self.cursor, self.batch).map_err(|oldest| Error::Compacted { oldest })?;
            if let Some(last) = events.last() {
                self.cursor = last.revision;
                return Ok(events);
            }
            if closed || self.closed.changed().await.is_err() {
                return Err(Error::Closed);
            }
        }
    }

    /// The revision that a bookmark may carry: everything of this resource up to it has been returned by
    /// [`Watch::next`]. It grows with the whole store while this resource rests.
    pub fn progress(&self) -> u64 {
        let state = self.shard.read();
        match state.after(self.cursor, 1) {
            Ok(waiting) if waiting.is_empty() => self.cursor.max(self.published.load(Ordering::Acquire)),
            _ => self.cursor,
        }
    }
}
