//! The `kubernetes` Service in `default`, by which pods find the API server; its endpoint is not a pod.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service, ServicePort, ServiceSpec,
};
use k8s_openapi::api::discovery::v1::{self as discovery, EndpointConditions, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::cache::{Cache, Key, Object};
use crate::cluster::Cluster;
use crate::config::Config;
use crate::error::Error;
use crate::queue::Queue;

const NAMESPACE: &str = "default";
const NAME: &str = "kubernetes";
const PORT: &str = "https";

fn key() -> Key {
    Key::new(NAMESPACE, NAME)
}

/// Listens for the namespace and the three objects.
pub(crate) fn listen(cluster: &Arc<Cluster>, queue: &Arc<Queue<Key>>) {
    let keys = queue.clone();
    cluster.namespaces.listen(move |change| {
        let name = change.after.as_ref().and_then(|namespace| namespace.metadata.name.as_deref());
        keys.extend(name.filter(|name| *name == NAMESPACE).map(|_| key()));
    });
    hear(&cluster.services, queue);
    hear(&cluster.endpoints, queue);
    hear(&cluster.slices, queue);
}

fn hear<K: Object>(cache: &Cache<K>, queue: &Arc<Queue<Key>>) {
    let keys = queue.clone();
    cache.listen(move |change| {
        keys.extend(change.newest().map(|object| Key::of(object.meta())).filter(|k| *k == key()));
    });
}

/// Creates or mends the Service, its Endpoints and its EndpointSlice.
pub(crate) async fn reconcile(cluster: &Cluster, key: &Key) -> Result<Option<Duration>, Error> {
    if cluster.namespaces.get(&Key::new("", NAMESPACE)).is_none() {
        return Ok(None);
    }
    keep(cluster, &cluster.services, key, service(&cluster.config), |after: &mut Service, wanted| {
        let ports = wanted.spec.and_then(|spec| spec.ports);
        after.spec.get_or_insert_default().ports = ports;
    })
    .await?;
    keep(cluster, &cluster.endpoints, key, endpoints(&cluster.config), |after: &mut Endpoints, wanted| {
        after.subsets = wanted.subsets;
    })
    .await?;
    keep(cluster, &cluster.slices, key, slice(&cluster.config), |after: &mut EndpointSlice, wanted| {
        after.endpoints = wanted.endpoints;
        after.ports = wanted.ports;
    })
    .await?;
    Ok(None)
}

async fn keep<K: Object>(
    cluster: &Cluster,
    cache: &Cache<K>,
    key: &Key,
    wanted: K,
    mend: fn(&mut K, K),
) -> Result<(), Error> {
    match cache.get(key) {
        None => match cluster.create(cache, &wanted).await {
            Err(error) if error.is_already_exists() => Ok(()),
            other => other.map(drop),
        },
        Some(before) => {
            let mut after = (*before).clone();
            mend(&mut after, wanted);
            cluster.update(cache, &before, &after).await
        }
    }
}

fn metadata(labels: &[(&str, &str)]) -> ObjectMeta {
    let labels: BTreeMap<String, String> = labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    ObjectMeta {
        name: Some(NAME.into()),
        namespace: Some(NAMESPACE.into()),
        labels: Some(labels),
        ..Default::default()
    }
}

fn service(config: &Config) -> Service {
    let first = Ipv4Addr::from_bits(config.services.network().to_bits().wrapping_add(1)).to_string();
    Service {
        metadata: metadata(&[("component", "apiserver"), ("provider", "kubernetes")]),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".into()),
            cluster_ip: Some(first.clone()),
            cluster_ips: Some(vec![first]),
            ip_families: Some(vec!["IPv4".into()]),
            ip_family_policy: Some("SingleStack".into()),
            session_affinity: Some("None".into()),
            ports: Some(vec![ServicePort {
                name: Some(PORT.into()),
                protocol: Some("TCP".into()),
                port: 443,
                target_port: Some(IntOrString::Int(config.api.port().into())),
                ..Default::default()
            }]),
            ..Default::default()
        }),
        status: None,
    }
}

fn endpoints(config: &Config) -> Endpoints {
    Endpoints {
        metadata: metadata(&[("endpointslice.kubernetes.io/skip-mirror", "true")]),
        subsets: Some(vec![EndpointSubset {
            addresses: Some(vec![EndpointAddress { ip: config.api.ip().to_string(), ..Default::default() }]),
            not_ready_addresses: None,
            ports: Some(vec![EndpointPort {
                name: Some(PORT.into()),
                port: config.api.port().into(),
                protocol: Some("TCP".into()),
                app_protocol: None,
            }]),
        }]),
    }
}

fn slice(config: &Config) -> EndpointSlice {
    EndpointSlice {
        metadata: metadata(&[("kubernetes.io/service-name", NAME)]),
        address_type: "IPv4".into(),
        endpoints: Some(vec![discovery::Endpoint {
            addresses: vec![config.api.ip().to_string()],
            conditions: Some(EndpointConditions { ready: Some(true), serving: None, terminating: None }),
            ..Default::default()
        }]),
        ports: Some(vec![discovery::EndpointPort {
            name: Some(PORT.into()),
            port: Some(config.api.port().into()),
            protocol: Some("TCP".into()),
            app_protocol: None,
        }]),
    }
}
