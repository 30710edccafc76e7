//! The work queue of a controller: each key at most once, never twice at the same time, failures later and later.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::Error;

/// The delay after a first failure; it doubles up to [`LONGEST_DELAY`].
const FIRST_DELAY: Duration = Duration::from_millis(5);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// The longest delay where nothing failed but something takes its time.
const SHORT_DELAY: Duration = Duration::from_secs(2);

/// Keys waiting to be worked on. It holds each key once, so it is bounded by the number of objects.
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    wake: Notify,
}

struct State<T> {
    due: BTreeSet<(Instant, u64, T)>,
    /// Where each waiting key stands in `due`.
    places: HashMap<T, (Instant, u64)>,
    running: BTreeSet<T>,
    /// Keys that came again while they were being worked on, and when they are due.
    again: BTreeMap<T, Instant>,
    failures: HashMap<T, u32>,
    next: u64,
}

impl<T: Clone + Ord + Hash + Debug> Queue<T> {
    pub(crate) fn new() -> Queue<T> {
        Queue {
            state: Mutex::new(State {
                due: BTreeSet::new(),
                places: HashMap::new(),
                running: BTreeSet::new(),
                again: BTreeMap::new(),
                failures: HashMap::new(),
                next: 0,
            }),
            wake: Notify::new(),
        }
    }

    /// Asks for `key` to be worked on now.
    pub(crate) fn add(&self, key: T) {
        self.add_at(key, Instant::now());
    }

    /// Asks for `key` to be worked on after `delay`; an earlier request stands.
    pub(crate) fn add_after(&self, key: T, delay: Duration) {
        self.add_at(key, Instant::now() + delay);
    }

    /// Asks for each of `keys` to be worked on now.
    pub(crate) fn extend(&self, keys: impl IntoIterator<Item = T>) {
        keys.into_iter().for_each(|key| self.add(key));
    }

    fn add_at(&self, key: T, at: Instant) {
        self.lock().add(key, at);
        self.wake.notify_one();
    }

    /// Works on keys as they fall due, `limit` at a time, until `shutdown`. `work` answers when it wants to see the
    /// key again.
    pub(crate) async fn run<'a>(
        &'a self,
        limit: usize,
        shutdown: CancellationToken,
        work: impl Fn(T) -> BoxFuture<'a, Result<Option<Duration>, Error>>,
    ) {
        let mut running = FuturesUnordered::new();
        loop {
            let mut wait = None;
            while running.len() < limit {
                let taken = self.lock().take(Instant::now());
                match taken {
                    Ok(key) => {
                        let future = work(key.clone());
                        running.push(async move { (key, future.await) });
                    }
                    Err(next) => {
                        wait = next;
                        break;
                    }
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some((key, result)) = running.next() => self.done(key, result),
                () = self.wake.notified() => {}
                () = sleep_until(wait) => {}
            }
        }
    }

    fn done(&self, key: T, result: Result<Option<Duration>, Error>) {
        let mut state = self.lock();
        state.running.remove(&key);
        let now = Instant::now();
        if let Some(at) = state.again.remove(&key) {
            state.add(key.clone(), at);
        }
        match result {
            Ok(later) => {
                state.failures.remove(&key);
                if let Some(delay) = later {
                    state.add(key, now + delay);
                }
            }
            Err(error) => {
                let failures = state.failures.entry(key.clone()).or_default();
                let patience = if matches!(error, Error::Remaining(..)) { SHORT_DELAY } else { LONGEST_DELAY };
                let delay = delay(*failures).min(patience);
                *failures += 1;
                if error.is_conflict() || matches!(error, Error::Remaining(..)) {
                    tracing::debug!(?key, %error, ?delay, "trying again");
                } else {
                    tracing::warn!(?key, %error, ?delay, "failed to reconcile, trying again");
                }
                state.add(key, now + delay);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone + Ord + Hash> State<T> {
    fn add(&mut self, key: T, at: Instant) {
        if self.running.contains(&key) {
            let due = self.again.entry(key).or_insert(at);
            *due = (*due).min(at);
            return;
        }
        if let Some(place) = self.places.get(&key) {
            if place.0 <= at {
                return;
            }
            self.due.remove(&(place.0, place.1, key.clone()));
        }
        self.next += 1;
        self.places.insert(key.clone(), (at, self.next));
        self.due.insert((at, self.next, key));
    }

    /// The next key that is due, or when one will be.
    fn take(&mut self, now: Instant) -> Result<T, Option<Instant>> {
        match self.due.first() {
            Some((at, _, _)) if *at > now => Err(Some(*at)),
            None => Err(None),
            Some(_) => {
                let Some((_, _, key)) = self.due.pop_first() else {
                    return Err(None);
                };
                self.places.remove(&key);
                self.running.insert(key.clone());
                Ok(key)
            }
        }
    }
}

fn delay(failures: u32) -> Duration {
    FIRST_DELAY.saturating_mul(1u32.checked_shl(failures.min(20)).unwrap_or(u32::MAX)).min(LONGEST_DELAY)
}

/// Waits until `at`; for ever when there is nothing to wait for.
pub(crate) async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_key_waits_once_at_its_earliest_time() {
        let queue = Queue::new();
        queue.add_after("a", Duration::from_secs(60));
        queue.add("a");
        queue.add_after("a", Duration::from_secs(5));
        let mut state = queue.lock();
        assert_eq!(state.take(Instant::now()), Ok("a"));
        assert_eq!(state.take(Instant::now()), Err(None));
    }

    #[test]
    fn a_key_that_comes_while_it_runs_runs_again_afterwards() {
        let queue = Queue::new();
        queue.add("a");
        assert_eq!(queue.lock().take(Instant::now()), Ok("a"));
        queue.add("a");
        assert_eq!(queue.lock().take(Instant::now()), Err(None));
        queue.done("a", Ok(None));
        assert_eq!(queue.lock().take(Instant::now()), Ok("a"));
    }

    #[test]
    fn delays_grow_to_a_limit() {
        let delays: Vec<u128> = [0, 1, 4, 30].iter().map(|n| delay(*n).as_millis()).collect();
        assert_eq!(delays, [5, 10, 80, 60_000]);
    }

    #[tokio::test]
    async fn failures_are_tried_again() {
        let queue = Arc::new(Queue::new());
        let tries = Arc::new(AtomicUsize::new(0));
        let shutdown = CancellationToken::new();
        queue.add("a");
        let (count, stop) = (tries.clone(), shutdown.clone());
        let work = |_| -> BoxFuture<'_, Result<Option<Duration>, Error>> {
            if count.fetch_add(1, Ordering::SeqCst) == 2 {
                stop.cancel();
                return Box::pin(async { Ok(None) });
            }
            Box::pin(async { Err(Error::Remaining("a".into(), 1)) })
        };
        tokio::time::timeout(Duration::from_secs(5), queue.run(2, shutdown, work)).await.expect("three tries");
        assert_eq!(tries.load(Ordering::SeqCst), 3);
    }
}
