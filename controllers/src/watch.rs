//! Keeps a cache fed by one watch.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{ApiResource, DynamicResourceScope};
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{Config, Event, Result, watcher};
use kube::{Api, Client, Resource};
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cache::{Cache, Object};

/// Watches all objects of a kind, or those in a namespace, into `cache` until `shutdown`.
pub(crate) async fn feed<K: Object>(
    client: Client,
    namespace: Option<&str>,
    config: Config,
    cache: Arc<Cache<K>>,
    shutdown: CancellationToken,
) {
    let mut events = watch(client, &ApiResource::erase::<K>(&()), namespace, config);
    while let Some(Some(event)) = shutdown.run_until_cancelled(events.next()).await {
        match event.map(read) {
            Ok(Ok(event)) => cache.apply(event),
            Ok(Err(error)) => tracing::warn!(kind = %K::kind(&()), %error, "an object is not understood"),
            Err(error) => {
                tracing::debug!(kind = %K::kind(&()), %error, "watch failed, trying again")
            }
        }
    }
}

/// A watch of any kind: one in the program, and not one for each type, with two ways to read each of them.
fn watch(
    client: Client,
    resource: &ApiResource,
    namespace: Option<&str>,
    config: Config,
) -> BoxStream<'static, Result<Event<Raw>>> {
    let api = match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, resource),
        None => Api::all_with(client, resource),
    };
    watcher(api, config).backoff(Delays::default()).boxed()
}

fn read<K: Object>(event: Event<Raw>) -> serde_json::Result<Event<K>> {
    let object = |raw: Raw| {
        let mut object: K = serde_json::from_str(raw.text.get())?;
        // Nobody here reads it, and it is often the larger half of an object.
        object.meta_mut().managed_fields = None;
        Ok(object)
    };
    Ok(match event {
        Event::Apply(raw) => Event::Apply(object(raw)?),
        Event::Delete(raw) => Event::Delete(object(raw)?),
        Event::Init => Event::Init,
        Event::InitApply(raw) => Event::InitApply(object(raw)?),
        Event::InitDone => Event::InitDone,
    })
}

/// An object as it came.
#[derive(Clone, Debug)]
struct Raw {
    /// Only the version, which a watcher needs.
    metadata: ObjectMeta,
    text: Box<RawValue>,
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Head {
            metadata: Version,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Version {
            resource_version: Option<String>,
        }
        let text = Box::<RawValue>::deserialize(from)?;
        let Head { metadata } = serde_json::from_str(text.get()).map_err(D::Error::custom)?;
        let metadata = ObjectMeta { resource_version: metadata.resource_version, ..ObjectMeta::default() };
        Ok(Raw { metadata, text })
    }
}

impl Resource for Raw {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn group(kind: &ApiResource) -> Cow<'_, str> {
        kind.group.as_str().into()
    }
    fn version(kind: &ApiResource) -> Cow<'_, str> {
        kind.version.as_str().into()
    }
    fn kind(kind: &ApiResource) -> Cow<'_, str> {
        kind.kind.as_str().into()
    }
    fn plural(kind: &ApiResource) -> Cow<'_, str> {
        kind.plural.as_str().into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
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
