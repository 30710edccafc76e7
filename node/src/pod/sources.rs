//! Where values in containers come from: ConfigMaps, Secrets, and the pod's own fields.

use crate::quantity;
use k8s_openapi::{
    api::core::v1::{ConfigMap, Container, Pod, PodSpec, ResourceFieldSelector, ResourceRequirements, Secret},
    apimachinery::pkg::api::resource::Quantity,
};
use std::collections::{BTreeMap, BTreeSet};

/// What a pod's containers and volumes refer to, fetched before it is needed. `None` is something
/// that does not exist.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    pub(crate) config_maps: BTreeMap<String, Option<ConfigMap>>,
    pub(crate) secrets: BTreeMap<String, Option<Secret>>,
    /// Tokens of the pod's service account, by audience ("" is the API server's own).
    pub(crate) tokens: BTreeMap<String, String>,
    pub(crate) addresses: Addresses,
    /// The node's processors in thousandths and memory in bytes: the limits where none are set.
    pub(crate) capacity: (u64, u64),
    pub(crate) namespace: String,
}

/// The addresses that fields refer to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Addresses {
    pub(crate) pod: String,
    pub(crate) node: String,
}

type Entries = Vec<(String, Vec<u8>)>;

impl Sources {
    /// All entries of a ConfigMap.
    pub(crate) fn config_map(&self, name: &str, optional: bool) -> Result<Entries, String> {
        match self.config_maps.get(name).and_then(Option::as_ref) {
            Some(map) => {
                let text = map.data.iter().flatten();
                let text = text.map(|(key, value)| (key.clone(), value.clone().into_bytes()));
                let binary = map.binary_data.iter().flatten();
                let binary = binary.map(|(key, value)| (key.clone(), value.0.clone()));
                Ok(text.chain(binary).collect())
            }
            None if optional => Ok(Vec::new()),
            None => Err(format!("configmap {name:?} not found")),
        }
    }

    /// All entries of a Secret.
    pub(crate) fn secret(&self, name: &str, optional: bool) -> Result<Entries, String> {
        match self.secrets.get(name).and_then(Option::as_ref) {
            Some(secret) => {
                let data = secret.data.iter().flatten();
                Ok(data.map(|(key, value)| (key.clone(), value.0.clone())).collect())
            }
            None if optional => Ok(Vec::new()),
            None => Err(format!("secret {name:?} not found")),
        }
    }

    /// One entry of a ConfigMap; `None` when it is optional and not there.
    pub(crate) fn config_map_key(&self, name: &str, key: &str, optional: bool) -> Result<Option<Vec<u8>>, String> {
        let what = || format!("ConfigMap {}/{name}", self.namespace);
        pick(self.config_map(name, optional)?, key, optional, what)
    }

    /// One entry of a Secret; `None` when it is optional and not there.
    pub(crate) fn secret_key(&self, name: &str, key: &str, optional: bool) -> Result<Option<Vec<u8>>, String> {
        let what = || format!("Secret {}/{name}", self.namespace);
        pick(self.secret(name, optional)?, key, optional, what)
    }
}

fn pick(entries: Entries, key: &str, optional: bool, what: impl Fn() -> String) -> Result<Option<Vec<u8>>, String> {
    match entries.into_iter().find(|(known, _)| known == key) {
        Some((_, value)) => Ok(Some(value)),
        None if optional => Ok(None),
        None => Err(format!("couldn't find key {key} in {}", what())),
    }
}

/// The names of ConfigMaps and Secrets that a pod refers to, and the audiences of its tokens with
/// their lifetimes in seconds.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) config_maps: BTreeSet<String>,
    pub(crate) secrets: BTreeSet<String>,
    pub(crate) tokens: BTreeMap<String, i64>,
}

/// Everything that the containers and volumes of a pod refer to.
pub(crate) fn wanted(spec: &PodSpec) -> Wanted {
    let mut wanted = Wanted::default();
    let init = spec.init_containers.iter().flatten();
    for container in init.chain(&spec.containers) {
        for from in container.env_from.iter().flatten() {
            wanted.config_maps.extend(from.config_map_ref.iter().map(|r| r.name.clone()));
            wanted.secrets.extend(from.secret_ref.iter().map(|r| r.name.clone()));
        }
        for from in container.env.iter().flatten().filter_map(|v| v.value_from.as_ref()) {
            wanted.config_maps.extend(from.config_map_key_ref.iter().map(|r| r.name.clone()));
            wanted.secrets.extend(from.secret_key_ref.iter().map(|r| r.name.clone()));
        }
    }
    for volume in spec.volumes.iter().flatten() {
        wanted.config_maps.extend(volume.config_map.iter().map(|v| v.name.clone()));
        wanted.secrets.extend(volume.secret.iter().filter_map(|v| v.secret_name.clone()));
        let projected = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
        for source in projected {
            wanted.config_maps.extend(source.config_map.iter().map(|v| v.name.clone()));
            wanted.secrets.extend(source.secret.iter().map(|v| v.name.clone()));
            if let Some(token) = &source.service_account_token {
                let audience = token.audience.clone().unwrap_or_default();
                wanted.tokens.insert(audience, token.expiration_seconds.unwrap_or(3600));
            }
        }
    }
    wanted
}

/// A field of the pod by its path (the downward API).
pub(crate) fn field(pod: &Pod, path: &str, addresses: &Addresses) -> Result<String, String> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    let text = |text: Option<&String>| text.cloned().unwrap_or_default();
    let entry = |map: &Option<BTreeMap<String, String>>, key: &str| text(map.as_ref().and_then(|map| map.get(key)));
    let subscript = |of: &str| {
        let rest = path.strip_prefix(of)?.strip_prefix("['")?;
        rest.strip_suffix("']").map(str::to_owned)
    };
    if let Some(key) = subscript("metadata.labels") {
        return Ok(entry(&meta.labels, &key));
    }
    if let Some(key) = subscript("metadata.annotations") {
        return Ok(entry(&meta.annotations, &key));
    }
    Ok(match path {
        "metadata.name" => text(meta.name.as_ref()),
        "metadata.namespace" => text(meta.namespace.as_ref()),
        "metadata.uid" => text(meta.uid.as_ref()),
        "metadata.labels" => listed(meta.labels.as_ref()),
        "metadata.annotations" => listed(meta.annotations.as_ref()),
        "spec.nodeName" => text(spec.and_then(|spec| spec.node_name.as_ref())),
        "spec.serviceAccountName" => text(spec.and_then(|spec| spec.service_account_name.as_ref())),
        "status.podIP" | "status.podIPs" => addresses.pod.clone(),
        "status.hostIP" | "status.hostIPs" => addresses.node.clone(),
        other => return Err(format!("unsupported fieldPath: {other}")),
    })
}

/// `key="value"` lines, as volumes of the downward API have them.
fn listed(map: Option<&BTreeMap<String, String>>) -> String {
    let lines = map.into_iter().flatten();
    let lines: Vec<_> = lines.map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.join("\n")
}

/// A limit or request of a container in units of the divisor, rounded up.
pub(crate) fn resource(
    container: &Container,
    selector: &ResourceFieldSelector,
    capacity: (u64, u64),
) -> Result<String, String> {
    let resources = container.resources.clone().unwrap_or_default();
    let name = selector.resource.as_str();
    let unsupported = || format!("unsupported container resource : {name}");
    let (list, key) = name.split_once('.').ok_or_else(unsupported)?;
    let default = match key {
        "cpu" => capacity.0,
        "memory" => capacity.1.saturating_mul(1000),
        "ephemeral-storage" => 0,
        _ => return Err(unsupported()),
    };
    let milli = match list {
        "limits" => limit(&resources, key).unwrap_or(default),
        "requests" => request(&resources, key).unwrap_or(0),
        _ => return Err(unsupported()),
    };
    let one = Quantity("1".into());
    let divisor = quantity::milli(selector.divisor.as_ref().unwrap_or(&one));
    let divisor = divisor.filter(|divisor| *divisor > 0).unwrap_or(1000);
    Ok(milli.div_ceil(divisor).to_string())
}

/// A limit in thousandths.
pub(crate) fn limit(resources: &ResourceRequirements, key: &str) -> Option<u64> {
    quantity::milli(resources.limits.as_ref()?.get(key)?)
}

/// A request in thousandths; without one it is the limit.
pub(crate) fn request(resources: &ResourceRequirements, key: &str) -> Option<u64> {
    let own = resources.requests.as_ref().and_then(|requests| requests.get(key));
    own.and_then(quantity::milli).or_else(|| limit(resources, key))
}
