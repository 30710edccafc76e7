//! The Services that Ingresses name.

use std::sync::Arc;

use k8s_openapi::api::networking::v1::IngressBackend;
use state::{Address, Key};

use super::Objects;
use crate::annotations::Complaint;
use crate::upstream::{Upstream, Upstreams, ports};

/// The Service that a backend names, and what is wrong with it: requests are answered 503 then. `virtual_ip` is
/// `service-upstream`.
pub(super) fn find(
    namespace: &str,
    named: &IngressBackend,
    virtual_ip: bool,
    objects: &Objects,
    upstreams: &mut Upstreams,
) -> (Option<Arc<Upstream>>, Option<Complaint>) {
    let Some(service) = &named.service else {
        let message = "a backend is a resource, and only Services are known here".to_owned();
        return (None, Some(("UnsupportedBackend", message)));
    };
    let key = Key::new(namespace, service.name.as_str());
    let Some(known) = objects.snapshot.services.get(&key) else {
        let message = format!("the Service {key} does not exist: its requests are answered 503");
        return (None, Some(("MissingService", message)));
    };
    let port = service.port.as_ref();
    let port = port.and_then(|port| port.name.clone().or_else(|| port.number.map(|number| number.to_string())));
    let port = port.unwrap_or_default();
    let Some(upstream) = upstreams.get(&key, &port, virtual_ip, &objects.snapshot) else {
        let ports = ports(known).map(|port| match &*port.name {
            "" => port.port.to_string(),
            name => format!("{} ({name})", port.port),
        });
        let ports: Vec<String> = ports.collect();
        let message = format!(
            "the Service {key} has no port {port} (it has {}): its requests are answered 503",
            ports.join(", ")
        );
        return (None, Some(("MissingPort", message)));
    };
    let complaint = match &known.address {
        _ if !upstream.endpoints().is_empty() => None,
        Address::ExternalName(name) => Some((
            "UnsupportedBackend",
            format!(
                "the Service {key} stands for {name}, which is neither an address nor a Service of this cluster that \
                 has endpoints: its requests are answered 503"
            ),
        )),
        _ => Some((
            "NoEndpoints",
            format!("the Service {key} has no ready endpoints: until it has some, its requests are answered 503"),
        )),
    };
    (Some(upstream), complaint)
}

/// The first port of a Service.
pub(super) fn first_port(key: &Key, objects: &Objects, upstreams: &mut Upstreams) -> Option<Arc<Upstream>> {
    let port = ports(objects.snapshot.services.get(key)?).next()?.port;
    upstreams.get(key, &port.to_string(), false, &objects.snapshot)
}
