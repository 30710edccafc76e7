//! Keeps a cache fed by one watch.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::Api;
use kube::runtime::utils::Backoff;
use kube::runtime::{WatchStreamExt, watcher};
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

/// The pauses after failures of a watch: short at first, since everything waits for it.
pub(crate) struct Delays(Duration);

const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(10);

impl Default for Delays {
    fn default() -> Delays {
        Delays(SHORTEST)
    }
}

impl Iterator for Delays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let delay = self.0;
        self.0 = (delay * 2).min(LONGEST);
        Some(delay)
    }
}

impl Backoff for Delays {
    fn reset(&mut self) {
        self.0 = SHORTEST;
    }
}
