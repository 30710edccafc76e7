//! A node in namespaces of its own, and waiting for things to become true.

use apiserver::{ApiServer, Identity};
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Namespace, Pod};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, PostParams},
};
use node::{Agent, Config, Network, NetworkConfig};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    env, fs,
    hash::{BuildHasher, RandomState},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, LazyLock, Mutex},
    time::{Duration, Instant},
};
use store::{Limits, Memory, Store};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Says that the test runs in its namespaces already.
const INSIDE: &str = "CORACLE_TEST_INSIDE";
/// The image whose program is `everything`.
pub(crate) const IMAGE: &str = "coracle/everything:1";
/// Each test's own: cgroups are not in its namespaces, and the end of one cluster removes all of the same id.
pub(crate) static CLUSTER_ID: LazyLock<String> =
    LazyLock::new(|| format!("{:06x}", RandomState::new().hash_one(0) & 0xff_ffff));

/// Runs a test inside fresh user, network, mount and pid namespaces with one user.
pub(crate) fn node_test<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    if env::var_os(INSIDE).is_none() {
        let thread = std::thread::current();
        let name = thread.name().expect("tests run on named threads").to_owned();
        let status = Command::new("unshare")
            .args(["-Urnmp", "--mount-proc", "--fork", "--kill-child"])
            .arg(env::current_exe().unwrap())
            .args(["--exact", &name, "--nocapture"])
            .env(INSIDE, "1")
            .stdin(Stdio::null())
            .status()
            .expect("unshare is needed: apt-get install util-linux");
        assert!(status.success(), "in its namespaces: {status}");
        return;
    }
    let _ = tracing_subscriber::fmt().with_env_filter(env::var("RUST_LOG").unwrap_or_default()).try_init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(test());
}

/// The program that is the shim and runs in the containers.
fn exe() -> PathBuf {
    let exe = env::current_exe().unwrap();
    let exe = exe.ancestors().nth(2).unwrap().join("examples/everything");
    assert!(exe.exists(), "{} is missing: cargo build -p coracle-node --examples", exe.display());
    exe
}

/// An API server and a node.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) dir: TempDir,
    pub(crate) images: image::Store,
    /// What was asked to be pulled; pulls of `good/…` succeed.
    pub(crate) pulled: Arc<Mutex<Vec<String>>>,
    _server: ApiServer,
    network: Network,
    agent: Option<(JoinHandle<Result<(), node::Error>>, CancellationToken)>,
}

impl Cluster {
    /// A cluster whose node is registered.
    pub(crate) async fn start() -> Self {
        let store = Store::open(Memory, apiserver::parse, Limits::default()).expect("memory opens");
        let server = ApiServer::new(apiserver::Config::default(), store);
        let client = Client::new(server.service(Identity::admin()), "default");
        for name in ["default", "kube-node-lease"] {
            let namespace: Namespace = object(json!({"metadata": {"name": name}}));
            Api::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        let images = image::Store::open(&dir.path().join("images")).unwrap();
        images.add_builtin(IMAGE, &exe()).unwrap();
        let network = Network::setup(network_config(dir.path())).await.unwrap();
        let mut cluster = Self { client, dir, images, pulled: Arc::default(), _server: server, network, agent: None };
        cluster.start_agent().await;
        cluster
    }

    /// Starts the agent, as the first one or after another.
    pub(crate) async fn start_agent(&mut self) {
        let (pulled, images) = (self.pulled.clone(), self.images.clone());
        let config = Config {
            node_name: "n1".into(),
            node_address: self.network.node_address(),
            more_addresses: Vec::new(),
            cluster_id: CLUSTER_ID.clone(),
            data_dir: self.dir.path().join("node"),
            pod_cidr: "10.244.0.0/24".parse().unwrap(),
            cluster_domain: "cluster.local".into(),
            dns_address: Ipv4Addr::new(10, 96, 0, 10),
            exe: exe(),
            single_uid: true,
            labels: BTreeMap::from([("test".to_owned(), "yes".to_owned())]),
            pull: Arc::new(move |reference, _| {
                pulled.lock().unwrap().push(reference.clone());
                let images = images.clone();
                Box::pin(async move {
                    if reference.contains("good") {
                        images.add_builtin(&reference, &exe()).map_err(|error| error.to_string())
                    } else {
                        Err("manifest unknown".into())
                    }
                })
            }),
            kubelet_socket: self.dir.path().join("kubelet.sock"),
        };
        let agent = Agent::new(config, self.images.clone(), self.client.clone()).await.unwrap();
        let stop = CancellationToken::new();
        self.agent = Some((tokio::spawn(agent.run(stop.clone())), stop));
    }

    /// Ends the agent as the end of the cluster does.
    pub(crate) async fn stop_agent(&mut self) {
        let (agent, stop) = self.agent.take().unwrap();
        stop.cancel();
        in_time(agent).await.unwrap().unwrap();
    }

    /// Ends the agent's tasks where they are, as a kill does.
    pub(crate) async fn kill_agent(&mut self) {
        let (agent, _) = self.agent.take().unwrap();
        agent.abort();
        assert!(in_time(agent).await.is_err());
    }

    /// Ends everything and looks for what must not be left.
    pub(crate) async fn finish(mut self) {
        if self.agent.is_some() {
            self.stop_agent().await;
        }
        self.network.teardown().await.unwrap();
        assert_eq!(links(), ["lo"]);
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let group = hierarchy.path().join(format!("coracle-{}", *CLUSTER_ID));
            assert!(!group.exists(), "{}", group.display());
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains(self.dir.path().to_str().unwrap()), "{mounts}");
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::default_namespaced(self.client.clone())
    }

    /// Makes a pod on the node with one container `c` that runs `commands`; `more` is merged into the spec.
    pub(crate) async fn pod(&self, name: &str, commands: &str, more: Value) -> Pod {
        let args: Vec<&str> = commands.split_whitespace().collect();
        let mut spec = json!({
            "nodeName": "n1",
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "c", "image": IMAGE, "command": ["/coracle"], "args": args}],
        });
        merge(&mut spec, more);
        let pod: Pod = object(json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": spec}));
        self.pods().create(&PostParams::default(), &pod).await.unwrap()
    }

    /// Waits until a pod is as wanted; it then.
    pub(crate) async fn until(&self, name: &str, what: &str, wanted: impl Fn(&Pod) -> bool) -> Pod {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let pod = self.pods().get(name).await.unwrap();
            if wanted(&pod) {
                return pod;
            }
            if Instant::now() > deadline {
                let status = serde_json::to_string_pretty(&pod.status).unwrap();
                panic!("{name} is not {what}: {status}\n{:#?}", self.events(name).await);
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }

    pub(crate) async fn ready(&self, name: &str) -> Pod {
        self.until(name, "ready", |pod| condition(pod, "Ready") == "True").await
    }

    pub(crate) async fn phase(&self, name: &str, phase: &str) -> Pod {
        self.until(name, phase, |pod| status(pod, |status| status.phase.clone()) == phase).await
    }

    /// Waits until the first container waits for that reason.
    pub(crate) async fn waits(&self, name: &str, reason: &str) -> Pod {
        let wanted = |pod: &Pod| container(pod).state.and_then(|s| s.waiting?.reason).as_deref() == Some(reason);
        self.until(name, reason, wanted).await
    }

    pub(crate) async fn delete(&self, name: &str) {
        self.pods().delete(name, &DeleteParams::default()).await.unwrap();
    }

    pub(crate) async fn gone(&self, name: &str) {
        let deadline = Instant::now() + PATIENCE;
        while let Some(pod) = self.pods().get_opt(name).await.unwrap() {
            assert!(Instant::now() < deadline, "{name} is still there: {:?}", pod.status);
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }

    /// `reason message` of the events about a pod.
    pub(crate) async fn events(&self, name: &str) -> Vec<String> {
        let api: Api<Event> = Api::default_namespaced(self.client.clone());
        let events = api.list(&ListParams::default()).await.unwrap().items;
        let about = events.into_iter().filter(|event| event.involved_object.name.as_deref() == Some(name));
        about.map(|event| format!("{} {}", event.reason.unwrap(), event.message.unwrap())).collect()
    }

    pub(crate) async fn event(&self, name: &str, wanted: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let events = self.events(name).await;
            if events.iter().any(|event| event.contains(wanted)) {
                return;
            }
            assert!(Instant::now() < deadline, "no event {wanted:?} in {events:#?}");
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }

    pub(crate) fn pod_dir(&self, pod: &Pod) -> PathBuf {
        self.dir.path().join("node/pods").join(pod.metadata.uid.as_ref().unwrap())
    }

    /// An answer of the kubelet API.
    pub(crate) async fn kubelet(&self, path: &str) -> (u16, String) {
        let output = tokio::process::Command::new("curl")
            .args(["-sS", "-w", "\n%{http_code}", "--max-time", "20", "--unix-socket"])
            .arg(self.dir.path().join("kubelet.sock"))
            .arg(format!("http://node{path}"))
            .output()
            .await
            .expect("curl is needed: apt-get install curl");
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, code) = text.rsplit_once('\n').unwrap();
        (code.parse().unwrap(), body.to_owned())
    }

    /// What container `c` of a pod printed, once it is as wanted.
    pub(crate) async fn logs(&self, name: &str, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (code, text) = self.kubelet(&format!("/containerLogs/default/{name}/c")).await;
            if code == 200 && wanted(&text) {
                return text;
            }
            assert!(Instant::now() < deadline, "logs of {name}: {code} {text} {:#?}", self.events(name).await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub(crate) fn network_config(dir: &Path) -> NetworkConfig {
    NetworkConfig {
        cluster_id: CLUSTER_ID.clone(),
        service_cidr: "10.96.0.0/12".parse().unwrap(),
        pod_cidr: "10.244.0.0/16".parse().unwrap(),
        dns_address: Ipv4Addr::new(10, 96, 0, 10),
        gateway: Ipv4Addr::new(10, 244, 0, 1),
        node_address: Some(Ipv4Addr::new(10, 111, 0, 1)),
        data_dir: dir.join("node"),
    }
}

/// The names of all links.
pub(crate) fn links() -> Vec<String> {
    let text = fs::read_to_string("/proc/net/dev").unwrap();
    let mut names: Vec<String> =
        text.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect();
    names.sort();
    names.retain(|name| name != "sit0" && name != "tunl0" && name != "ip6tnl0");
    names
}

pub(crate) fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("the shape of the kind")
}

/// Merges objects into objects, and the one container of `more` into that of `base`.
fn merge(base: &mut Value, more: Value) {
    match (base, more) {
        (Value::Object(base), Value::Object(more)) => {
            for (key, value) in more {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (Value::Array(base), Value::Array(more)) if base.len() == 1 && more.len() == 1 => {
            for value in more {
                merge(&mut base[0], value);
            }
        }
        (base, more) => *base = more,
    }
}

pub(crate) fn status(pod: &Pod, field: impl Fn(&k8s_openapi::api::core::v1::PodStatus) -> Option<String>) -> String {
    pod.status.as_ref().and_then(field).unwrap_or_default()
}

pub(crate) fn condition(pod: &Pod, type_: &str) -> String {
    status(pod, |status| status.conditions.iter().flatten().find(|c| c.type_ == type_).map(|c| c.status.clone()))
}

/// The status of the first container.
pub(crate) fn container(pod: &Pod) -> ContainerStatus {
    let status = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref()?.first().cloned());
    status.unwrap_or_default()
}

pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it took too long")
}
