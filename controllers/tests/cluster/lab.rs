//! A cluster for one test: API server, controllers, and as many pretended nodes as it asks for.

use std::fmt::Debug;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use apiserver::{ApiServer, Identity};
use controllers::Config;
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use store::{Limits, Memory, Store};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::faults::Faults;
use crate::quiet::{Noted, Notes};

/// How long a condition may take to come true: longer than what a controller waits after a dozen injected failures.
const DEADLINE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(2);

pub(crate) struct Lab {
    /// Straight to the API server, whatever the controllers suffer.
    pub(crate) client: Client,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
}

impl Lab {
    pub(crate) async fn new() -> Lab {
        Lab::configured(|_| {}).await
    }

    /// A lab whose controllers are told otherwise by `configure`.
    pub(crate) async fn configured(configure: impl FnOnce(&mut Config)) -> Lab {
        Lab::with(configure, |server| Client::new(server, "default")).await
    }

    /// A lab whose controllers reach the API server through `faults`.
    pub(crate) async fn unlucky(faults: Faults) -> Lab {
        Lab::with(|_| {}, |server| Client::new(faults.around(server), "default")).await
    }

    /// A lab whose controllers' requests are noted.
    pub(crate) async fn noted(notes: Notes) -> Lab {
        Lab::with(|_| {}, |server| Client::new(Noted { server, notes }, "default")).await
    }

    async fn with(configure: impl FnOnce(&mut Config), connect: impl FnOnce(apiserver::Service) -> Client) -> Lab {
        let store = Store::open(Memory, apiserver::parse, Limits::default()).expect("an empty store opens");
        let server = ApiServer::new(apiserver::Config::default(), store);
        let client = Client::new(server.service(Identity::admin()), "default");
        let theirs = connect(server.service(Identity::admin()));
        let mut config = Config::new(SocketAddrV4::new(Ipv4Addr::new(172, 18, 0, 2), 6443));
        config.ca = Some("-----BEGIN CERTIFICATE-----\n".into());
        configure(&mut config);
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(controllers::run(theirs, config, shutdown.clone()));
        let lab = Lab { client, shutdown, tasks };
        lab.until("the default namespace", async || lab.get::<k8s_openapi::api::core::v1::Namespace>("default").await)
            .await;
        lab
    }

    pub(crate) async fn end(mut self) {
        self.shutdown.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        tokio::time::timeout(DEADLINE, all).await.expect("everything ends when told to");
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    /// A cluster-scoped object.
    pub(crate) async fn get<K>(&self, name: &str) -> Option<K>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        Api::<K>::all(self.client.clone()).get_opt(name).await.expect("a read works")
    }

    pub(crate) async fn create<K>(&self, object: Value) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Serialize + Debug,
    {
        let object: K = serde_json::from_value(object).expect("a well-formed object");
        let namespace = object.namespace().unwrap_or_else(|| "default".into());
        let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
        api.create(&PostParams::default(), &object).await.expect("the object is created")
    }

    pub(crate) async fn merge<K>(&self, name: &str, patch: Value) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        self.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.expect("the patch is taken")
    }

    pub(crate) async fn list<K>(&self) -> Vec<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        self.api::<K>().list(&ListParams::default()).await.expect("the list is read").items
    }

    /// Waits until `look` finds something.
    pub(crate) async fn until<T>(&self, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
        let waiting = async {
            loop {
                if let Some(found) = look().await {
                    return found;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        match tokio::time::timeout(DEADLINE, waiting).await {
            Ok(found) => found,
            Err(_) => panic!("{what}: not within {DEADLINE:?}\n{}", self.dump().await),
        }
    }

    /// What there is, for a test that failed.
    async fn dump(&self) -> String {
        let mut lines = vec![];
        for pod in self.list::<Pod>().await {
            lines.push(format!("pod {} {:?} {:?}", pod.name_any(), pod.metadata.owner_references, pod.status));
        }
        for set in self.list::<k8s_openapi::api::apps::v1::ReplicaSet>().await {
            lines.push(format!("set {} {:?}", set.name_any(), set.status));
        }
        for event in self.list::<k8s_openapi::api::core::v1::Event>().await {
            lines.push(format!("event {:?} {:?} {:?}", event.involved_object.name, event.reason, event.message));
        }
        lines.join("\n")
    }

    /// Adds a node that runs pods in no time; cancelling the token lets it fall silent.
    pub(crate) async fn node(&mut self, name: &str) -> CancellationToken {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}});
        let node: Node = serde_json::from_value(node).expect("a node");
        nodes.create(&PostParams::default(), &node).await.expect("the node registers");
        let token = self.shutdown.child_token();
        self.tasks.spawn(live(self.client.clone(), name.to_owned(), token.clone()));
        token
    }
}

/// A pretended node: it renews its Lease, says that it is ready, and runs what is bound to it.
pub(crate) async fn live(client: Client, name: String, stop: CancellationToken) {
    let beat = async {
        loop {
            heartbeat(&client, &name).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let config = watcher::Config::default().fields(&format!("spec.nodeName={name}"));
    let pods: Api<Pod> = Api::all(client.clone());
    let run = async {
        let mut events = std::pin::pin!(watch(pods, config).default_backoff());
        while let Some(event) = events.next().await {
            if let Ok(Event::Apply(pod) | Event::InitApply(pod)) = event {
                run(&client, &pod).await;
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = beat => {}
        () = run => {}
    }
}

async fn heartbeat(client: &Client, name: &str) {
    let nodes: Api<Node> = Api::all(client.clone());
    let ready = json!({"type": "Ready", "status": "True", "reason": "KubeletReady"});
    let room = json!({"cpu": "4", "memory": "8Gi", "pods": "110"});
    let status = json!({"status": {"conditions": [ready], "allocatable": room.clone(), "capacity": room}});
    let node = nodes.get_opt(name).await.ok().flatten();
    let is_ready = node.as_ref().and_then(|node| node.status.as_ref()?.conditions.as_ref()).is_some_and(|conditions| {
        conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    });
    if node.is_some() && !is_ready {
        let patched = nodes.patch_status(name, &PatchParams::default(), &Patch::Strategic(status)).await;
        patched.expect("the node's status is taken");
    }
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let renewed = json!({"metadata": {"name": name}, "spec": {"renewTime": MicroTime(Timestamp::now())}});
    let patched = leases.patch(name, &PatchParams::default(), &Patch::Merge(renewed.clone())).await;
    if patched.is_err() {
        let lease: Lease = serde_json::from_value(renewed).expect("a lease");
        // The namespace may not be there yet: the next beat tries again.
        let _ = leases.create(&PostParams::default(), &lease).await;
    }
}

/// Does with a pod what a node does: it runs and is ready, or is gone. Conflicts do not matter: the next event tells.
async fn run(client: &Client, pod: &Pod) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    if pod.metadata.deletion_timestamp.is_some() {
        let _ = pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await;
        return;
    }
    let status = pod.status.clone().unwrap_or_default();
    let runs = status.pod_ip.is_some();
    let is_ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
    let image = pod.spec.as_ref().and_then(|spec| spec.containers[0].image.clone()).unwrap_or_default();
    if image == "broken" || runs && is_ready {
        return;
    }
    // Of all nodes, since an EndpointSlice has an address once.
    static ADDRESSES: AtomicU16 = AtomicU16::new(1);
    let ip = status.pod_ip.unwrap_or_else(|| {
        let [third, fourth] = ADDRESSES.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        format!("10.244.{third}.{fourth}")
    });
    let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": Timestamp::now().to_string()});
    let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [ready]}});
    let _ = pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(status)).await;
}

/// A Deployment of this many pods of this image.
pub(crate) fn deployment(name: &str, replicas: u32, image: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": image, "ports": [{"name": "http", "containerPort": 80}]}]},
            },
        },
    })
}

pub(crate) fn pod(name: &str, cpu: &str) -> Value {
    let container = json!({"name": "c", "image": "web", "resources": {"requests": {"cpu": cpu}}});
    json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": {"containers": [container]}})
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}
