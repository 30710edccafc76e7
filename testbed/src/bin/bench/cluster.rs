//! What a watch of a cluster hears, made up.

use serde_json::{Value, json};
use state::{Index, Kind, Object, Service, Slice};

/// A Service.
pub(crate) fn service(namespace: &str, name: &str, spec: &Value) -> anyhow::Result<Object> {
    let object = json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec});
    Ok(Object::Service(Service::from(&serde_json::from_value(object)?)))
}

/// The EndpointSlice of a Service.
pub(crate) fn slice(namespace: &str, service: &str, ports: &Value, endpoints: Vec<Value>) -> anyhow::Result<Object> {
    let labels = json!({"kubernetes.io/service-name": service});
    let object = json!({
        "metadata": {"namespace": namespace, "name": format!("{service}-x"), "labels": labels},
        "addressType": "IPv4", "ports": ports, "endpoints": endpoints,
    });
    Ok(Object::Slice(Slice::from(&serde_json::from_value(object)?)))
}

/// What the watch has heard.
pub(crate) fn index(objects: impl Iterator<Item = anyhow::Result<Object>>) -> anyhow::Result<Index> {
    let mut cluster = Index::default();
    for kind in Kind::ALL {
        cluster.reset(kind, Vec::new());
    }
    for object in objects {
        cluster.apply(object?);
    }
    Ok(cluster)
}
