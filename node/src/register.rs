//! The Node object and its Lease: what the machine is, and that it lives.

use crate::pods::Pods;
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::{
            ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeSpec,
            NodeStatus, NodeSystemInfo,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference, Time},
    },
};
use kube::api::{Api, Patch, PatchParams, PostParams};
use std::{collections::BTreeMap, fs, net::IpAddr, sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often the Lease is renewed, and for how long it counts.
const RENEW: Duration = Duration::from_secs(10);
const LEASE_SECONDS: i32 = 40;
/// How often the status is reported when nothing changes.
const REPORT: Duration = Duration::from_secs(300);
/// Pause after the API server did not answer.
const RETRY: Duration = Duration::from_millis(200);
/// Pods that a node takes (kubelet's default).
const PODS: u32 = 110;
/// Images listed in a Node's status (kubelet's limit).
const IMAGES: usize = 50;
/// The Kubernetes version whose kubelet this behaves as.
const VERSION: &str = "v1.36.0";

/// Registers the node and keeps it alive until `shutdown`.
pub(crate) async fn run(pods: Arc<Pods>, shutdown: CancellationToken) {
    let api: Api<Node> = Api::all(pods.client.clone());
    let mut reported: Option<Instant> = None;
    loop {
        let beat = async {
            let node = api.get_opt(&pods.config.node_name).await?;
            if due(node.as_ref(), reported.map(|at| at.elapsed())) {
                let uid = report(&pods).await?;
                reported = Some(Instant::now());
                tracing::debug!(node = pods.config.node_name, uid, "node reported");
            }
            renew(&pods).await
        };
        let done: Result<(), kube::Error> = tokio::select! {
            () = shutdown.cancelled() => return,
            done = beat => done,
        };
        let pause = match done {
            Ok(()) => RENEW,
            Err(error) => {
                tracing::warn!(%error, "failed to report the node");
                reported = None;
                RETRY
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Whether the status is to be reported, which was done that long ago: at first, now and then, and when the node
/// controller did not hear of the node in time and gave it up.
fn due(node: Option<&Node>, reported: Option<Duration>) -> bool {
    let conditions = node.map(|node| node.status.as_ref().and_then(|status| status.conditions.as_ref()));
    let ready = conditions.map(|all| all.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True"));
    reported.is_none_or(|ago| ago > REPORT) || ready == Some(false)
}

/// Makes or updates the Node; its uid.
async fn report(pods: &Pods) -> Result<String, kube::Error> {
    let api: Api<Node> = Api::all(pods.client.clone());
    let name = &pods.config.node_name;
    let node = node(pods);
    let known = match api.get_opt(name).await? {
        Some(_) => {
            let labels = serde_json::json!({"metadata": {"labels": node.metadata.labels}});
            api.patch(name, &PatchParams::default(), &Patch::Merge(labels)).await?
        }
        None => api.create(&PostParams::default(), &node).await?,
    };
    let before = known.status.unwrap_or_default();
    let status = status(pods, &before, Timestamp::now());
    let patch = serde_json::json!({"status": status});
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(known.metadata.uid.unwrap_or_default())
}

/// Renews the Lease, or makes it.
async fn renew(pods: &Pods) -> Result<(), kube::Error> {
    let api: Api<Lease> = Api::namespaced(pods.client.clone(), "kube-node-lease");
    let name = &pods.config.node_name;
    let now = MicroTime(Timestamp::now());
    let renewed = serde_json::json!({"spec": {"renewTime": now, "holderIdentity": name}});
    let patch = Patch::Merge(renewed);
    match api.patch(name, &PatchParams::default(), &patch).await {
        Err(kube::Error::Api(answer)) if answer.code == 404 => {}
        done => return done.map(drop),
    }
    let nodes: Api<Node> = Api::all(pods.client.clone());
    let uid = nodes.get_opt(name).await?.and_then(|node| node.metadata.uid);
    let owner = uid.map(|uid| OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: name.clone(),
        uid,
        ..OwnerReference::default()
    });
    let lease = Lease {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some("kube-node-lease".into()),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(name.clone()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }),
    };
    api.create(&PostParams::default(), &lease).await.map(drop)
}

fn node(pods: &Pods) -> Node {
    let config = &pods.config;
    let mut labels = BTreeMap::new();
    for (key, value) in [
        ("kubernetes.io/hostname", config.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", architecture()),
    ] {
        labels.insert(key.to_owned(), value.to_owned());
    }
    labels.extend(config.labels.clone());
    Node {
        metadata: ObjectMeta { name: Some(config.node_name.clone()), labels: Some(labels), ..ObjectMeta::default() },
        spec: Some(NodeSpec {
            pod_cidr: Some(config.pod_cidr.to_string()),
            pod_cidrs: Some(vec![config.pod_cidr.to_string()]),
            ..NodeSpec::default()
        }),
        status: Some(status(pods, &NodeStatus::default(), Timestamp::now())),
    }
}

fn status(pods: &Pods, before: &NodeStatus, now: Timestamp) -> NodeStatus {
    let config = &pods.config;
    let address = |type_: &str, address: String| NodeAddress { type_: type_.into(), address };
    let (cpu, memory) = pods.capacity;
    let storage = rustix::fs::statvfs(&config.data_dir);
    let storage = storage.map_or(0, |fs| fs.f_blocks * fs.f_frsize);
    let capacity: BTreeMap<String, Quantity> = [
        ("cpu", (cpu / 1000).to_string()),
        ("memory", format!("{}Ki", memory >> 10)),
        ("ephemeral-storage", format!("{}Ki", storage >> 10)),
        ("pods", PODS.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), Quantity(value)))
    .into();
    NodeStatus {
        addresses: Some(
            [IpAddr::from(config.node_address)]
                .iter()
                .chain(&config.more_addresses)
                .map(|own| address("InternalIP", own.to_string()))
                .chain([address("Hostname", config.node_name.clone())])
                .collect(),
        ),
        allocatable: Some(capacity.clone()),
        capacity: Some(capacity),
        conditions: Some(conditions(before, now)),
        daemon_endpoints: Some(NodeDaemonEndpoints { kubelet_endpoint: Some(DaemonEndpoint { port: 10250 }) }),
        images: Some(images(&pods.images)),
        node_info: Some(info()),
        ..NodeStatus::default()
    }
}

/// The conditions that kubelet reports. Those of others are kept.
fn conditions(before: &NodeStatus, now: Timestamp) -> Vec<NodeCondition> {
    let table = [
        ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ];
    let known = before.conditions.iter().flatten();
    let others = known.clone().filter(|known| table.iter().all(|row| row.0 != known.type_)).cloned();
    let ours = table.iter().map(|(type_, status, reason, message)| {
        let same = known.clone().find(|c| c.type_ == *type_ && c.status == *status);
        let since = same.and_then(|known| known.last_transition_time.clone());
        NodeCondition {
            type_: (*type_).into(),
            status: (*status).into(),
            reason: Some((*reason).into()),
            message: Some((*message).into()),
            last_heartbeat_time: Some(Time(now)),
            last_transition_time: Some(since.unwrap_or(Time(now))),
        }
    });
    ours.chain(others).collect()
}

fn images(store: &image::Store) -> Vec<ContainerImage> {
    let mut images = store.list().unwrap_or_default();
    images.sort_by_key(|image| std::cmp::Reverse(image.size));
    images.truncate(IMAGES);
    let listed = images
        .into_iter()
        .map(|image| ContainerImage { names: Some(vec![image.reference]), size_bytes: i64::try_from(image.size).ok() });
    listed.collect()
}

fn info() -> NodeSystemInfo {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let release = read("/etc/os-release");
    let pretty = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    NodeSystemInfo {
        architecture: architecture().into(),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        container_runtime_version: concat!("coracle://", env!("CARGO_PKG_VERSION")).into(),
        kernel_version: rustix::system::uname().release().to_string_lossy().into_owned(),
        kube_proxy_version: String::new(),
        kubelet_version: VERSION.into(),
        machine_id: read("/etc/machine-id"),
        operating_system: "linux".into(),
        os_image: pretty.unwrap_or("Linux").trim_matches('"').into(),
        system_uuid: read("/etc/machine-id"),
        swap: None,
    }
}

/// The architecture as Go, and so Kubernetes, names it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The machine's processors in thousandths and memory in bytes.
pub(crate) fn capacity() -> (u64, u64) {
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64);
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let total = total.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    (cpus * 1000, total.unwrap_or(0) << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_reported_at_first_now_and_then_and_when_it_was_given_up() {
        let node = |ready: &str| -> Node {
            let conditions = serde_json::json!([{"type": "Ready", "status": ready}]);
            serde_json::from_value(serde_json::json!({"metadata": {}, "status": {"conditions": conditions}})).unwrap()
        };
        let (well, lost, new) = (node("True"), node("Unknown"), Node::default());
        let (soon, late) = (Some(Duration::from_secs(10)), Some(REPORT + RENEW));
        for (node, reported, expected) in [
            (None, None, true),
            (Some(&well), None, true),
            (Some(&well), soon, false),
            (Some(&well), late, true),
            (Some(&lost), soon, true),
            (Some(&new), soon, true),
            // Somebody has deleted it.
            (None, soon, false),
        ] {
            assert_eq!(due(node, reported), expected, "{node:?} {reported:?}");
        }
    }
}
