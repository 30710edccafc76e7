//! Keeps a cache fed by one watch.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::Api;
use kube::runtime::utils::Backoff;
use kube::runtime::{WatchStreamExt, watcher};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cache::{Cache, Object};

/// Watches `api` into `cache` until `shutdown`.
pub(crate) async fn feed<K: Object>(
    api: Api<K>,
    config: watcher::Config,
    cache: Arc<Cache<K>>,
    shutdown: CancellationToken,
) {
    let mut events = std::pin::pin!(watcher(api, config).backoff(Delays::default()));
    while let Some(Some(event)) = shutdown.run_until_cancelled(events.next()).await {
        match event {
            Ok(event) => cache.apply(event.modify(|object| {
                // Nobody here reads it, and it is often the larger half of an object.
                object.meta_mut().managed_fields = None;
            })),
            Err(error) => {
                tracing::debug!(kind = %K::kind(&()), %error, "watch failed, trying again")
            }
        }
    }
}

/// The pauses after failures of a watch: short at first, since everything waits for it. A watch that held for longer than
/// the pause before it begins anew, even if there was nothing to tell.
pub(crate) struct Delays {
    next: Duration,
    /// The failure before, and the pause after it.
    last: Option<(Instant, Duration)>,
}

const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(10);

impl Default for Delays {
    fn default() -> Delays {
        Delays { next: SHORTEST, last: None }
    }
}

impl Iterator for Delays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        if self.last.is_some_and(|(failed, pause)| now > failed + 2 * pause) {
            self.reset();
        }
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST);
        self.last = Some((now, pause));
        Some(pause)
    }
}

impl Backoff for Delays {
    fn reset(&mut self) {
        *self = Delays::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_held_is_begun_at_once() {
        let mut delays = Delays::default();
        let pauses = async |delays: &mut Delays, held: Duration| {
            let pause = delays.next().expect("there is always one");
            tokio::time::advance(pause + held).await;
            pause.as_millis()
        };
        for expected in [10, 20, 40, 80] {
            assert_eq!(pauses(&mut delays, Duration::ZERO).await, expected);
        }
        assert_eq!(pauses(&mut delays, Duration::from_millis(161)).await, 160);
        assert_eq!(pauses(&mut delays, Duration::ZERO).await, 10);
    }
}
