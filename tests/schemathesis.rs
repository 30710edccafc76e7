//! Schemathesis makes requests up from the published OpenAPI documents: none is to end in a 5xx.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use coracle::Cluster;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, PostParams},
    core::GroupVersionKind,
};
use serde_json::{Value, json};
use testbed::{need, run};

const REQUIREMENTS: &str = include_str!("schemathesis.txt");

/// Arguments of every run.
const ARGUMENTS: [&str; 14] = [
    "--config-file=settings.toml",
    "run",
    "--phases=fuzzing",
    "--checks=not_a_server_error",
    // Requests for each operation.
    "--max-examples=4",
    // They judge the generator, not the server, and fail where the machine is busy.
    "--suppress-health-check=all",
    "--seed=36",
    // What is behind a proxy answers for itself, and 503 where nothing is.
    "--exclude-path-regex=/proxy",
    "--workers=1",
    "--continue-on-failure",
    "--warnings=off",
    "--no-color",
    "--tls-verify=authority.pem",
    "--request-cert=admin.pem",
];

/// How long one answer may take: watches are left out.
const ANSWER: Duration = Duration::from_secs(30);
/// Requests are about this namespace, where there is an object of this name that outlives its deletion.
const SETTINGS: &str = "[parameters]
\"path.namespace\" = \"default\"
\"path.name\" = \"a\"
\"query.watch\" = \"false\"
";

/// What is asked about: documents, and the paths in them.
const RUNS: [(&str, &str); 3] = [
    ("api/v1", "/(pods|services|configmaps)(/|$)"),
    ("apis/apps/v1", "/(deployments|statefulsets)(/|$)"),
    ("apis/autoscaling/v2", "."),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_ends_in_a_5xx() {
    let schemathesis = tokio::task::spawn_blocking(install).await.expect("it is installed");
    let cluster = Cluster::builder().api_only().start().await.expect("a cluster");
    for (version, kind, spec) in objects() {
        create(&cluster.client(), version, kind, spec).await;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let server = access(&cluster, dir.path());
    let runs = RUNS.map(|(document, paths)| {
        let mut command = Command::new(&schemathesis);
        command.current_dir(dir.path()).stdin(Stdio::null()).args(ARGUMENTS);
        command.arg(format!("--request-timeout={}", ANSWER.as_secs()));
        command.arg(format!("--url={server}")).arg(format!("--include-path-regex={paths}"));
        command.arg(format!("{server}/openapi/v3/{document}"));
        tokio::task::spawn_blocking(move || run(&mut command))
    });
    for (ran, (document, _)) in runs.into_iter().zip(RUNS) {
        let output = ran.await.expect("it ends");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{document}: {said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("generated"), "{document}: {said}");
    }
}

/// Writes what a client needs into a directory; the address of the server.
fn access(cluster: &Cluster, dir: &Path) -> String {
    let config = cluster.kubeconfig_yaml().expect("a port");
    let field = |name: &str| {
        let at = config.find(&format!("{name}: ")).unwrap_or_else(|| panic!("no {name} in {config}"));
        config[at + name.len() + 2..].lines().next().unwrap_or_default().trim_matches(['"', '\'']).to_owned()
    };
    let pem = |name| STANDARD.decode(field(name)).expect("base64");
    fs::write(dir.join("authority.pem"), pem("certificate-authority-data")).expect("a file");
    let pair = [pem("client-certificate-data"), pem("client-key-data")].concat();
    fs::write(dir.join("admin.pem"), pair).expect("a file");
    fs::write(dir.join("settings.toml"), SETTINGS).expect("a file");
    field("server")
}

/// The objects that requests name: group and version, kind, and more of each.
fn objects() -> [(&'static str, &'static str, Value); 6] {
    let template = json!({
        "metadata": {"labels": {"app": "a"}},
        "spec": {"containers": [{"name": "main", "image": "a"}]},
    });
    let workload = json!({"spec": {"selector": {"matchLabels": {"app": "a"}}, "template": template}});
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"});
    [
        ("v1", "Pod", json!({"spec": template["spec"]})),
        ("v1", "Service", json!({"spec": {"ports": [{"port": 80}]}})),
        ("v1", "ConfigMap", json!({"data": {"a": "b"}})),
        ("apps/v1", "Deployment", workload.clone()),
        ("apps/v1", "StatefulSet", workload),
        ("autoscaling/v2", "HorizontalPodAutoscaler", json!({"spec": {"maxReplicas": 2, "scaleTargetRef": target}})),
    ]
}

/// Creates one, with a finalizer that nobody takes away.
async fn create(client: &Client, version: &str, kind: &str, mut object: Value) {
    object["metadata"] = json!({"name": "a", "finalizers": ["example.com/stays"]});
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let objects: Api<DynamicObject> = Api::namespaced_with(client.clone(), "default", &resource);
    let object = serde_json::from_value(object).expect("an object");
    objects.create(&PostParams::default(), &object).await.expect("a new object");
}

/// Schemathesis in a virtual environment below `target/`, made anew when its requirements change.
fn install() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("schemathesis");
    let (program, done) = (dir.join("bin/schemathesis"), dir.join("requirements.txt"));
    if fs::read_to_string(&done).is_ok_and(|made| made == REQUIREMENTS) {
        return program;
    }
    let made = run(Command::new(need("python3")).args(["-m", "venv", "--clear"]).arg(&dir));
    assert!(made.status.success(), "install python3-venv: {}", String::from_utf8_lossy(&made.stdout));
    let wanted = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schemathesis.txt");
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", wanted];
    let installed = run(Command::new(dir.join("bin/python")).args(pip));
    let why = String::from_utf8_lossy(&installed.stderr);
    assert!(installed.status.success(), "pip cannot install tests/schemathesis.txt: {why}");
    fs::write(done, REQUIREMENTS).expect("a file");
    program
}
