use std::sync::Arc;

use tokio::sync::watch;

use crate::shard::Shard;
use crate::store::Live;
use crate::{Audience, Error, Event, Topic};

/// A cursor into the history of one resource. It holds no queue: a watch that nobody asks costs the writer nothing,
/// and when the history has moved past it, [`Watch::next`] says so.
pub struct Watch<M: Audience> {
    live: Arc<Live<M>>,
    shard: Arc<Shard<M>>,
    topic: Topic,
    closed: watch::Receiver<bool>,
    cursor: u64,
}

impl<M: Audience> Watch<M> {
    /// A watch of what comes after `cursor`, if the history reaches back that far.
    pub(crate) fn start(live: Arc<Live<M>>, resource: &str, topic: Topic, cursor: u64) -> Result<Self, Error<M>> {
        let shard = live.shard(resource);
        let closed = shard.write().history.join(&topic, cursor).map_err(|oldest| Error::Compacted { oldest })?;
        Ok(Watch { live, shard, topic, closed, cursor })
    }

    /// The next events, each one once and in order of their revisions; waits until there is at least one.
    ///
    /// Returns at most [`Limits::watch_batch`](crate::Limits::watch_batch) at a time. It may be dropped while it waits
    /// without losing anything. Errors: [`Error::Compacted`] when the history has moved past this watch, and
    /// [`Error::Closed`] when the store was closed and every event has been returned.
    pub async fn next(&mut self) -> Result<Vec<Arc<Event<M>>>, Error<M>> {
        let batch = self.live.limits.watch_batch.max(1);
        loop {
            let closed = *self.closed.borrow_and_update();
            let events = self.shard.read().history.after(&self.topic, self.cursor, batch);
            let events = events.map_err(|oldest| Error::Compacted { oldest })?;
            if let Some(last) = events.last() {
                self.cursor = last.revision;
                return Ok(events);
            }
            if closed || self.closed.changed().await.is_err() {
                return Err(Error::Closed);
            }
        }
    }

    /// The revision that a bookmark may carry: everything of this topic up to it has been returned by
    /// [`Watch::next`]. It grows with the whole store while this topic rests.
    pub fn progress(&self) -> u64 {
        let state = self.shard.read();
        match state.history.after(&self.topic, self.cursor, 1) {
            Ok(waiting) if waiting.is_empty() => self.cursor.max(self.live.revision()),
            _ => self.cursor,
        }
    }
}

impl<M: Audience> Drop for Watch<M> {
    fn drop(&mut self) {
        if self.topic != Topic::All {
            self.shard.write().history.leave(&self.topic);
        }
    }
}
