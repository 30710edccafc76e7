//! The ranges of a cluster's Services: its ServiceCIDRs (KEP-1880).

use std::collections::BTreeMap;

use futures::{StreamExt as _, future};
use ipnet::IpNet;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::{
    Api, Client, ResourceExt as _,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::sync::watch;

/// Follows them for ever; None until they are known. A cluster that has no such objects, or does not show them, has no
/// ranges, which costs no more than that addresses of no Service are not refused.
pub(super) async fn follow(client: Client, ranges: watch::Sender<Option<Vec<IpNet>>>) {
    let events = watcher(Api::<ServiceCIDR>::all(client), watcher::Config::default()).default_backoff();
    let mut events = std::pin::pin!(events);
    let mut known = BTreeMap::new();
    let mut listed = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => known.clear(),
            Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => {
                known.insert(object.name_any(), read(&object));
            }
            Ok(watcher::Event::Delete(object)) => {
                known.remove(&object.name_any());
            }
            Ok(watcher::Event::InitDone) => listed = true,
            Err(watcher::Error::InitialListFailed(kube::Error::Api(status))) if matches!(status.code, 403 | 404) => {
                tracing::info!("the cluster does not say which addresses are Services': {}", status.message);
                ranges.send_replace(Some(Vec::new()));
                return future::pending().await;
            }
            Err(error) => tracing::debug!("watch of servicecidrs: {error}"),
        }
        if listed {
            ranges.send_replace(Some(known.values().flatten().copied().collect()));
        }
    }
}

fn read(object: &ServiceCIDR) -> Vec<IpNet> {
    let ranges = object.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
    ranges.filter_map(|range| range.parse().ok()).collect()
}
