//! The Corefile of a cluster, in the ConfigMap `kube-system/coredns` as everywhere: read, and followed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, Resource as _,
    api::ObjectMeta,
    runtime::{
        WatchStreamExt as _,
        events::{Event, EventType, Recorder, Reporter},
        watcher,
    },
};
use state::{Scope, Snapshot};
use tokio::sync::watch::Receiver;
use tokio_util::sync::CancellationToken;

/// Where the ConfigMap is, its name, and its key.
pub(crate) const NAMESPACE: &str = "kube-system";
const NAME: &str = "coredns";
const KEY: &str = "Corefile";

/// How many watches of different scopes are kept for the next Corefile.
const SCOPES: usize = 4;

/// The ConfigMap with this Corefile.
pub(crate) fn config_map(corefile: String) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta { name: Some(NAME.into()), namespace: Some(NAMESPACE.into()), ..ObjectMeta::default() },
        data: Some(BTreeMap::from([(KEY.to_owned(), corefile)])),
        ..ConfigMap::default()
    }
}

fn text(map: &ConfigMap) -> Option<&String> {
    map.data.as_ref()?.get(KEY)
}

/// The cluster's Corefile, if it has one.
///
/// # Errors
/// When the API server cannot be asked.
pub(crate) async fn read(client: &Client) -> anyhow::Result<Option<String>> {
    let map = Api::<ConfigMap>::namespaced(client.clone(), NAMESPACE).get_opt(NAME).await;
    let map = map.with_context(|| format!("read the ConfigMap {NAMESPACE}/{NAME}"))?;
    Ok(map.as_ref().and_then(text).cloned())
}

/// Gives every new Corefile to the server, for ever. With one that is wrong, and when there is none any more, the
/// server goes on as it was; an Event and the log say what is wrong. `running` is what it has.
pub(crate) async fn follow(client: Client, server: Arc<dns::Server>, mut running: String) {
    let only = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
    let maps = watcher(Api::<ConfigMap>::namespaced(client.clone(), NAMESPACE), only).default_backoff();
    let mut maps = std::pin::pin!(maps.applied_objects());
    let recorder = Recorder::new(client, Reporter { controller: "coredns".into(), instance: None });
    while let Some(map) = maps.next().await {
        let map = match map {
            Ok(map) => map,
            Err(error) => {
                tracing::debug!("watch of the Corefile: {error}");
                continue;
            }
        };
        let Some(corefile) = text(&map).filter(|corefile| **corefile != running) else { continue };
        running.clone_from(corefile);
        match server.reload(corefile).await {
            Ok(()) => tracing::info!("dns goes on with the new Corefile of {NAMESPACE}/{NAME}"),
            Err(error) => refuse(&recorder, &map, &error).await,
        }
    }
}

async fn refuse(recorder: &Recorder, map: &ConfigMap, error: &dns::Error) {
    tracing::warn!("dns goes on with its old Corefile, the new one in {NAMESPACE}/{NAME} is refused: {error}");
    let event = Event {
        type_: EventType::Warning,
        reason: "InvalidCorefile".into(),
        note: Some(format!("{error}; DNS goes on with the one before")),
        action: "Reload".into(),
        secondary: None,
    };
    if let Err(error) = recorder.publish(&event, &map.object_ref(&())).await {
        tracing::debug!("event about the Corefile: {error}");
    }
}

/// The Snapshots for a server's Corefiles: watches that go on from one to the next, so that no Corefile begins with
/// nothing known; `all` is one of everything, where there is one.
pub(crate) fn snapshots(
    client: Client,
    all: Option<Receiver<Arc<Snapshot>>>,
    stop: CancellationToken,
) -> dns::Snapshots {
    let known = Mutex::new(Vec::from_iter(all.map(|all| (Scope::default(), all))));
    Arc::new(move |scope| {
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, receiver)) = known.iter().find(|(wider, _)| covers(wider, &scope)) {
            return receiver.clone();
        }
        let receiver = state::watch(client.clone(), scope.clone(), stop.clone());
        if known.len() == SCOPES {
            known.remove(0);
        }
        known.push((scope, receiver.clone()));
        receiver
    })
}

/// True when `wider` has all that is in `scope`. Labels are not in a Snapshot, so only the API server can choose by them.
fn covers(wider: &Scope, scope: &Scope) -> bool {
    wider.labels == scope.labels
        && (wider.namespaces.is_empty() || wider.namespaces == scope.namespaces)
        && scope.kinds.iter().all(|kind| wider.kinds.contains(kind))
}
