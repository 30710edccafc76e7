//! `coracle demo`: a cluster starts, runs a lesson, shows what happened, and is gone.

use std::{
    collections::BTreeSet,
    fs,
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;

use crate::{
    cluster::Cluster,
    config::Options,
    data::Dir,
    isolated::Inside,
    lesson::{self, Deployed},
    progress::{Progress, complain, say},
    up::stop_signals,
};

/// Requests to the NodePort, and as many to the ClusterIP.
const REQUESTS: usize = 6;
/// Further ones to the ClusterIP until every pod has answered: each request draws its pod.
const PATIENCE: usize = 60;
/// Pods of the lesson.
const PODS: usize = 3;

/// Runs the demonstration.
///
/// # Errors
/// What hinders it, with what to do about it.
pub(crate) async fn run() -> anyhow::Result<()> {
    let directory = Scratch::new()?;
    let progress = Progress::person();
    let shown = show(Options::isolated(&directory.0, "/proc/self/exe"), &progress).await;
    match &shown {
        Ok(()) => {
            say(format_args!("\nStopped; nothing is left behind. `coracle up --isolated` starts a cluster that stays."))
        }
        Err(error) => progress.failed(error),
    }
    shown
}

async fn show(options: Options, progress: &Progress) -> anyhow::Result<()> {
    let began = Instant::now();
    let shutdown = stop_signals()?;
    let cluster = Cluster::with_node(options.clone(), &|step| progress.step(step)).await?;
    let client = cluster.client();
    let (node, inside) = cluster.node().zip(cluster.inside()).context("the demonstration's node is isolated")?;
    progress.step("starting the node");
    let lesson = async {
        client.list_core_api_versions().await?;
        let served = began.elapsed();
        cluster.node_ready().await?;
        let ready = began.elapsed();
        progress.step("deploying examples/nodeport.yaml");
        let applied = Instant::now();
        lesson::create(&client).await?;
        let deployed = lesson::ready(&client).await?;
        let first = lesson::get(&inside, node, deployed.node_port).await?;
        let took = Times { served, ready, deployed: applied.elapsed() };
        progress.ready(&took.render());
        drop(first);
        talk(&inside, &options, node, &deployed).await
    };
    let result = tokio::select! {
        result = lesson => result,
        () = shutdown.cancelled() => Ok(()),
    };
    cluster.shutdown().await?;
    result
}

/// What took how long.
struct Times {
    served: Duration,
    ready: Duration,
    deployed: Duration,
}

impl Times {
    fn render(&self) -> String {
        format!(
            "A Kubernetes cluster of one node, in namespaces of its own\n  API serving after      {:>5} ms\n  node ready after       {:>5} ms\n  examples/nodeport.yaml applied → three pods ready and answering: {} ms",
            self.served.as_millis(),
            self.ready.as_millis(),
            self.deployed.as_millis()
        )
    }
}

/// Asks the Service in both ways and shows the paths.
async fn talk(inside: &Inside, options: &Options, node: Ipv4Addr, service: &Deployed) -> anyhow::Result<()> {
    let Deployed { cluster_ip, port, node_port, dns_name } = service;
    let mut pods = BTreeSet::new();
    say(format_args!("\nFrom outside: http://{node}:{node_port}/ (NodePort)"));
    for _ in 0..REQUESTS {
        let answer = lesson::get(inside, node, *node_port).await?;
        let of = |key: &str| answer.get(key).cloned().unwrap_or_default();
        say(format_args!(
            "  {}  client → node {node}:{node_port} → Service {cluster_ip}:{port} → pod {}",
            of("pod"),
            of("address")
        ));
        pods.insert(of("pod"));
    }
    let dns = options.dns();
    let resolved = lesson::resolve(inside, dns, dns_name).await?;
    say(format_args!("\nBy name: http://{dns_name}/ (DNS at {dns} says {resolved}, the ClusterIP)"));
    let mut asked = REQUESTS;
    while asked < 2 * REQUESTS || (pods.len() < PODS && asked < PATIENCE) {
        let answer = lesson::get(inside, resolved, *port).await?;
        let of = |key: &str| answer.get(key).cloned().unwrap_or_default();
        say(format_args!("  {}  client → Service {resolved}:{port} → pod {}", of("pod"), of("address")));
        pods.insert(of("pod"));
        asked += 1;
    }
    say(format_args!("\n{} of {PODS} pods answered {asked} requests", pods.len()));
    Ok(())
}

/// A directory that is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("coracle-demo-{}", std::process::id()));
        Dir::new(&path)?;
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        open_up(&self.0);
        if let Err(error) = fs::remove_dir_all(&self.0) {
            complain(format_args!("could not remove {}: {error}", self.0.display()));
        }
    }
}

/// Overlayfs makes directories that even their owner cannot read.
fn open_up(dir: &Path) {
    let Ok(meta) = fs::symlink_metadata(dir) else { return };
    if !meta.is_dir() {
        return;
    }
    if meta.permissions().mode() & 0o700 != 0o700 {
        // What cannot be opened cannot be removed either, which is said then.
        let _ = fs::set_permissions(dir, fs::Permissions::from_mode(0o700));
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        open_up(&entry.path());
    }
}
