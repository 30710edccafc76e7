//! A cluster of one node, from its start to its rest.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use testbed::need;

use crate::meter::{cpu, megabytes};

/// Runs of everything that is quick; the median is printed.
const RUNS: usize = 5;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Enters namespaces and measures there.
pub(crate) fn outside(coracle: &Path, idle: u64) -> anyhow::Result<()> {
    let mut command = testbed::unshare();
    command.arg(std::env::current_exe()?).arg("lab-inside").arg(coracle).arg(idle.to_string());
    let status = command.status()?;
    if !status.success() {
        bail!("bench lab: {status}");
    }
    Ok(())
}

/// What one start took.
struct Start {
    served: Duration,
    ready: Duration,
    deployed: Duration,
}

/// Measures in the current namespaces.
pub(crate) fn inside(coracle: &Path, idle: u64) -> anyhow::Result<()> {
    testbed::uplink();
    let kubectl = median((0..RUNS).map(|_| kubectl()).collect::<Result<_, _>>()?);
    let mut starts = Vec::new();
    for _ in 0..RUNS {
        let (mut cluster, start) = start(coracle)?;
        cluster.end()?;
        starts.push(start);
    }
    let of = |part: fn(&Start) -> Duration| median(starts.iter().map(part).collect());
    println!("median of {RUNS} runs; in brackets: `kubectl version --client` in the same run = 1");
    let row = |what: &str, took: Duration| {
        println!("{what:50} {:8.1} ms  ({:.2})", took.as_secs_f64() * 1e3, took.as_secs_f64() / kubectl.as_secs_f64());
    };
    row("kubectl version --client", kubectl);
    row("start to /readyz", of(|start| start.served));
    row("start to a Ready node", of(|start| start.ready));
    row("manifest applied to three answers on the NodePort", of(|start| start.deployed));
    rest(coracle, idle)?;
    println!("{:50} {:8.1} MB", "binary", fs::metadata(coracle)?.len() as f64 / 1e6);
    Ok(())
}

fn kubectl() -> anyhow::Result<Duration> {
    let began = Instant::now();
    let output = Command::new(need("kubectl")).args(["version", "--client"]).output()?;
    if !output.status.success() {
        bail!("kubectl version --client: {}", output.status);
    }
    Ok(began.elapsed())
}

/// Memory and CPU of a cluster that does nothing.
fn rest(coracle: &Path, seconds: u64) -> anyhow::Result<()> {
    let (mut cluster, _) = start(coracle)?;
    let pid = cluster.process.id();
    cluster.request("DELETE", "/apis/apps/v1/namespaces/default/deployments/nginx-deploy", None)?;
    until("end of the pods", || {
        let pods = cluster.request("GET", "/api/v1/pods", None)?;
        Ok(pods["items"].as_array().is_some_and(Vec::is_empty).then_some(()))
    })?;
    let before = cpu(pid)?;
    let began = Instant::now();
    std::thread::sleep(Duration::from_secs(seconds));
    let used = cpu(pid)? - before;
    println!("{:50} {:8.1} MB", "idle resident memory", megabytes(pid, "VmRSS")?);
    println!("{:50} {:8.1} MB", "  of that not backed by the binary's file", megabytes(pid, "RssAnon")?);
    println!("{:50} {:8.2} % of a core, over {seconds} s", "idle CPU", used / began.elapsed().as_secs_f64() * 100.0);
    cluster.end()
}

struct Cluster {
    process: std::process::Child,
    directory: tempfile::TempDir,
}

fn start(coracle: &Path) -> anyhow::Result<(Cluster, Start)> {
    let directory = tempfile::tempdir()?;
    let began = Instant::now();
    let mut command = Command::new(coracle);
    command.arg("up").arg("--data-dir").arg(directory.path()).stdin(Stdio::null()).stdout(Stdio::null());
    let mut cluster = Cluster { process: command.spawn()?, directory };
    let started = measure(&mut cluster, began);
    match started {
        Ok(start) => Ok((cluster, start)),
        Err(error) => {
            cluster.end()?;
            Err(error)
        }
    }
}

fn measure(cluster: &mut Cluster, began: Instant) -> anyhow::Result<Start> {
    until("answer of /readyz", || Ok(cluster.exchange("GET", "/readyz", "").ok().filter(|text| text.ends_with("ok"))))?;
    let served = began.elapsed();
    until("Ready node", || {
        let node = cluster.request("GET", "/api/v1/nodes/coracle", None)?;
        let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        Ok(conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True").then_some(()))
    })?;
    let ready = began.elapsed();
    let applied = Instant::now();
    let labels = json!({"env": "demo"});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "nginx-deploy"},
        "spec": {"replicas": 3, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": "coracle/echo"}]}}},
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "nodeport-svc"},
        "spec": {"type": "NodePort", "selector": labels, "ports": [{"port": 80, "nodePort": 30001}]},
    });
    cluster.request("POST", "/apis/apps/v1/namespaces/default/deployments", Some(&deployment))?;
    cluster.request("POST", "/api/v1/namespaces/default/services", Some(&service))?;
    let mut pods = BTreeSet::new();
    until("answers of three pods", || {
        pods.extend(node_port());
        Ok((pods.len() == 3).then_some(()))
    })?;
    Ok(Start { served, ready, deployed: applied.elapsed() })
}

/// The name of the pod that answers, if one does.
fn node_port() -> Option<String> {
    let mut stream = TcpStream::connect((testbed::NODE, 30001)).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.lines().find_map(|line| line.strip_prefix("pod: ")).map(str::to_owned)
}

impl Cluster {
    fn exchange(&self, method: &str, path: &str, body: &str) -> anyhow::Result<String> {
        let mut stream = UnixStream::connect(self.directory.path().join("run/api.sock"))?;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    fn request(&self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let text = self.exchange(method, path, &body.map(ToString::to_string).unwrap_or_default())?;
        let (_, body) = text.split_once("\r\n\r\n").context("no HTTP answer")?;
        serde_json::from_str(body).with_context(|| format!("{method} {path}: {text}"))
    }

    fn end(&mut self) -> anyhow::Result<()> {
        let pid = rustix::process::Pid::from_raw(self.process.id().cast_signed()).context("no process")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        self.process.wait()?;
        Ok(())
    }
}

fn until<T>(what: &str, mut look: impl FnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    let began = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if began.elapsed() > PATIENCE {
            bail!("no {what} within {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all[all.len() / 2]
}
