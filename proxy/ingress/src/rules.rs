//! From objects to a Table.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::networking::v1::{HTTPIngressPath, Ingress, IngressBackend, IngressClass};
use state::{Key, Snapshot};

use crate::upstream::Upstreams;
use crate::{Matcher, Path, Policy, Route, Rules, Table};

/// All that a Table is made of.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// Ingresses of every class.
    pub ingresses: BTreeMap<Key, Arc<Ingress>>,
    /// IngressClasses by name.
    pub classes: BTreeMap<String, Arc<IngressClass>>,
    /// The Secrets that Ingresses name: certificates, and users with their passwords.
    pub secrets: BTreeMap<Key, Arc<Secret>>,
    /// Services and their endpoints.
    pub snapshot: Arc<Snapshot>,
}

/// What follows from them.
#[derive(Debug, Default)]
pub struct Plan {
    /// The Table.
    pub table: Table,
    /// The Ingresses that are served.
    pub served: Vec<Key>,
    /// What people should know about them.
    pub remarks: Vec<Remark>,
}

/// Something to be told in an Event of an Ingress.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remark {
    /// The Ingress.
    pub ingress: Key,
    /// The event's reason, such as `UnknownAnnotation`.
    pub reason: &'static str,
    /// What is wrong, and what to do.
    pub message: String,
}

/// Makes the Table. Of two Ingresses with the same host and path the older one is right.
pub fn plan(objects: &Objects, upstreams: &mut Upstreams) -> Plan {
    let mut plan = Plan::default();
    let mut hosts: BTreeMap<String, Vec<Path>> = BTreeMap::new();
    for (key, ingress) in &objects.ingresses {
        let policy = Arc::new(Policy::default());
        for rule in ingress.spec.iter().flat_map(|spec| spec.rules.iter().flatten()) {
            let paths = hosts.entry(rule.host.clone().unwrap_or_default()).or_default();
            for path in rule.http.iter().flat_map(|http| &http.paths) {
                paths.push(read(key, path, &policy, objects, upstreams));
            }
        }
        plan.served.push(key.clone());
    }
    for (host, paths) in hosts {
        let rules = Rules::new(paths, None);
        match (host.strip_prefix("*."), host.is_empty()) {
            (_, true) => plan.table.any = rules,
            (Some(rest), _) => drop(plan.table.wildcards.insert(rest.into(), rules)),
            (None, _) => drop(plan.table.hosts.insert(host.into(), rules)),
        }
    }
    plan
}

fn read(
    ingress: &Key,
    path: &HTTPIngressPath,
    policy: &Arc<Policy>,
    objects: &Objects,
    upstreams: &mut Upstreams,
) -> Path {
    let text = path.path.as_deref().unwrap_or("/");
    let matcher = match path.path_type.as_str() {
        "Exact" => Matcher::Exact(text.into()),
        _ => Matcher::Prefix(text.trim_end_matches('/').into()),
    };
    let route = Route {
        ingress: ingress.clone(),
        path: text.into(),
        tls: false,
        backend: backend(ingress, &path.backend).and_then(|(key, port)| upstreams.get(&key, &port, &objects.snapshot)),
        policy: policy.clone(),
        canary: None,
        pattern: None,
    };
    Path { matcher, route: Arc::new(route) }
}

/// The Service and port that a backend names.
fn backend(ingress: &Key, backend: &IngressBackend) -> Option<(Key, String)> {
    let service = backend.service.as_ref()?;
    let port = service.port.as_ref()?;
    let port = port.name.clone().or_else(|| port.number.map(|number| number.to_string()))?;
    Some((Key::new(ingress.namespace.clone(), service.name.as_str()), port))
}
