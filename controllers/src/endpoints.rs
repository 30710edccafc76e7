//! Endpoints: the older form of EndpointSlices, one object for each Service, still kept for those who read it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::DeleteParams;

use crate::cache::Key;
use crate::cluster::Cluster;
use crate::endpoint::{self, Endpoint, HEADLESS};
use crate::error::Error;
use crate::queue::Queue;

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// The most addresses in one object.
const LARGEST: usize = 1000;

/// Listens for what concerns Endpoints.
pub(crate) fn listen(cluster: &Arc<Cluster>, queue: &Arc<Queue<Key>>) {
    endpoint::listen(cluster, queue);
    let keys = queue.clone();
    cluster.endpoints.listen(move |change| {
        keys.extend(change.newest().map(|endpoints| Key::of(&endpoints.metadata)));
    });
}

/// Makes the Endpoints of one Service tell of its pods.
pub(crate) async fn reconcile(cluster: &Cluster, key: &Key) -> Result<Option<Duration>, Error> {
    let existing = cluster.endpoints.get(key);
    let Some(service) = cluster.services.get(key) else {
        if let Some(endpoints) = existing.filter(|endpoints| is_ours(endpoints)) {
            cluster.delete(&cluster.endpoints, &*endpoints, DeleteParams::default()).await?;
        }
        return Ok(None);
    };
    if endpoint::selector(&service).is_none() || service.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let all = endpoint::endpoints(&service, &cluster.pods.namespace(&key.namespace));
    let wanted = plan(&service, &all);
    match existing {
        None => match cluster.create(&cluster.endpoints, &wanted).await {
            Err(error) if error.is_namespace_terminating() => {}
            created => drop(created?),
        },
        Some(before) => {
            let mut after = (*before).clone();
            after.subsets = wanted.subsets;
            after.metadata.labels = wanted.metadata.labels;
            let annotations = after.metadata.annotations.get_or_insert_default();
            annotations.remove(OVER_CAPACITY);
            annotations.extend(wanted.metadata.annotations.into_iter().flatten());
            if annotations.is_empty() {
                after.metadata.annotations = before.metadata.annotations.clone();
            }
            cluster.update(&cluster.endpoints, &before, &after).await?;
        }
    }
    Ok(None)
}

fn is_ours(endpoints: &Endpoints) -> bool {
    let labels = endpoints.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|by| by == MANAGER)
}

/// The Endpoints of `service`: subsets of the same ports, addresses of its main family in order. Pods on their way out
/// are left out.
fn plan(service: &Service, endpoints: &[Endpoint]) -> Endpoints {
    let publish = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
    // A pod that has none of the named ports is left out, but a headless Service needs no ports.
    let portless = service.spec.as_ref().and_then(|spec| spec.ports.as_ref()).is_none_or(Vec::is_empty);
    let reached = |e: &&Endpoint| (publish || !e.terminating) && (portless || !e.ports.is_empty());
    let family = endpoint::families(service)[0];
    let mut present: Vec<(&String, &Endpoint)> =
        endpoints.iter().filter(reached).filter_map(|endpoint| Some((endpoint.ip(family)?, endpoint))).collect();
    present.sort_by_key(|(ip, endpoint)| (!endpoint.ready, *ip));
    let over = present.len() > LARGEST;
    present.truncate(LARGEST);
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if endpoint::is_headless(service) {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    let annotations = over.then(|| BTreeMap::from([(OVER_CAPACITY.into(), "truncated".into())]));
    Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels),
            annotations,
            ..Default::default()
        },
        subsets: Some(subsets(&present)).filter(|subsets| !subsets.is_empty()),
    }
}

fn subsets(endpoints: &[(&String, &Endpoint)]) -> Vec<EndpointSubset> {
    let mut subsets: Vec<EndpointSubset> = vec![];
    for (ip, endpoint) in endpoints {
        let ports: Vec<EndpointPort> = endpoint.ports.iter().map(port).collect();
        let ports = Some(ports).filter(|ports| !ports.is_empty());
        let at = subsets.iter().position(|subset| subset.ports == ports).unwrap_or_else(|| {
            subsets.push(EndpointSubset { ports, ..Default::default() });
            subsets.len() - 1
        });
        let subset = &mut subsets[at];
        let list = if endpoint.ready { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        list.get_or_insert_default().push(EndpointAddress {
            ip: (*ip).clone(),
            hostname: endpoint.hostname.clone(),
            node_name: endpoint.node.clone(),
            target_ref: Some(endpoint.target.clone()),
        });
    }
    subsets
}

fn port(port: &k8s_openapi::api::discovery::v1::EndpointPort) -> EndpointPort {
    EndpointPort {
        name: port.name.clone().filter(|name| !name.is_empty()),
        port: port.port.unwrap_or(0),
        protocol: port.protocol.clone(),
        app_protocol: port.app_protocol.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    fn pod(name: &str, ready: bool, port: i32, leaving: bool) -> Arc<Pod> {
        let status = if ready { "True" } else { "False" };
        let mut object: Value = json!({
            "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}},
            "spec": {"nodeName": "n", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": port}]}]},
            "status": {"podIP": format!("10.0.0.{name}"), "conditions": [{"type": "Ready", "status": status}]},
        });
        if leaving {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        Arc::new(serde_json::from_value(object).expect("a pod"))
    }

    /// Ready addresses, others, and the first port of each subset.
    fn shown(endpoints: &Endpoints) -> Vec<(Vec<&str>, Vec<&str>, i32)> {
        fn ips(list: &Option<Vec<EndpointAddress>>) -> Vec<&str> {
            list.iter().flatten().map(|address| address.ip.as_str()).collect()
        }
        let subsets = endpoints.subsets.iter().flatten();
        subsets
            .map(|s| {
                let port = s.ports.as_ref().map_or(0, |ports| ports[0].port);
                (ips(&s.addresses), ips(&s.not_ready_addresses), port)
            })
            .collect()
    }

    /// A Service of the pods with these ports.
    fn service(ports: Value) -> Service {
        let spec = json!({"selector": {"app": "web"}, "ports": ports, "clusterIP": "None"});
        let metadata = json!({"name": "web", "namespace": "default"});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).expect("a service")
    }

    #[test]
    fn a_named_port_that_no_container_has_leads_nowhere() {
        let pods = [pod("1", true, 80, false)];
        for (ports, expected) in [
            (json!([{"port": 80, "targetPort": "http"}]), vec![(vec!["10.0.0.1"], vec![], 80)]),
            (json!([{"port": 80, "targetPort": "htpp"}]), vec![]),
            (json!([]), vec![(vec!["10.0.0.1"], vec![], 0)]),
        ] {
            let service = service(ports);
            assert_eq!(shown(&plan(&service, &endpoint::endpoints(&service, &pods))), expected);
        }
    }

    #[test]
    fn subsets_group_addresses_by_ports_and_readiness() {
        let service = service(json!([{"port": 80, "targetPort": "http"}]));
        let plan_of = |pods: &[Arc<Pod>]| plan(&service, &endpoint::endpoints(&service, pods));
        assert_eq!(plan_of(&[]).subsets, None);
        let pods = [
            pod("3", true, 80, false),
            pod("1", true, 80, false),
            pod("2", false, 80, false),
            pod("4", true, 90, false),
            pod("5", true, 80, true),
        ];
        let expected = vec![(vec!["10.0.0.1", "10.0.0.3"], vec!["10.0.0.2"], 80), (vec!["10.0.0.4"], vec![], 90)];
        assert_eq!(shown(&plan_of(&pods)), expected);
    }
}
