//! `coracle up`: in the foreground, or detached.

use std::{
    fs::OpenOptions,
    os::{fd::AsFd as _, unix::fs::OpenOptionsExt as _},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::{
    process::{Pid, PidfdFlags, pidfd_open},
    thread::{ThreadNameSpaceType, move_into_thread_name_spaces},
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::Cluster,
    config::Options,
    data::Dir,
    progress::{Note, Progress, complain},
};

/// What `status` wants to know of a running cluster, kept in `cluster.json`.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Facts {
    /// `https://127.0.0.1:6443`
    pub api: String,
    /// The node's name.
    pub node: String,
    /// The node's address.
    pub address: String,
    /// The address of DNS, in the pods' network.
    pub dns: String,
    /// The cluster's domain.
    pub domain: String,
    /// The node has namespaces of its own.
    pub isolated: bool,
    /// A process in these namespaces.
    pub inside: Option<u32>,
}

impl Facts {
    const FILE: &str = "cluster.json";

    /// Those of the cluster in a directory.
    pub(crate) fn read(dir: &Dir) -> anyhow::Result<Self> {
        let path = dir.join(Self::FILE);
        let text = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("read {}", path.display()))
    }

    /// Those of a cluster that has to run.
    ///
    /// # Errors
    /// When none does.
    pub(crate) fn of_running(dir: &Dir) -> anyhow::Result<Self> {
        if dir.pid().is_none() {
            bail!("no cluster runs with the data directory {}: start it with `coracle up`", dir.path().display());
        }
        Self::read(dir)
    }

    /// Moves this process, which must have one thread, to where the cluster's network is.
    ///
    /// # Errors
    /// When the kernel does not let it in.
    pub(crate) fn enter(&self) -> anyhow::Result<()> {
        let Some(process) = self.inside else { return Ok(()) };
        let pid = Pid::from_raw(process.cast_signed()).context("no process")?;
        let namespaces = ThreadNameSpaceType::USER | ThreadNameSpaceType::NETWORK;
        let moved = pidfd_open(pid, PidfdFlags::empty())
            .and_then(|process| move_into_thread_name_spaces(process.as_fd(), namespaces));
        moved.context("enter the isolated node's network; is the cluster another user's?")
    }

    fn of(options: &Options, cluster: &Cluster) -> Option<Self> {
        Some(Self {
            api: format!("https://{}", cluster.api()?),
            node: options.node_name.clone(),
            address: cluster.node()?.to_string(),
            dns: options.dns().to_string(),
            domain: options.cluster_domain.clone(),
            isolated: options.isolated,
            inside: cluster.process_inside(),
        })
    }

    fn write(&self, dir: &Dir) -> anyhow::Result<()> {
        let path = dir.join(Self::FILE);
        std::fs::write(&path, serde_json::to_vec_pretty(self)?).with_context(|| format!("write {}", path.display()))
    }

    fn summary(&self, dir: &Dir, took: Duration) -> String {
        let place = if self.isolated { " (isolated; NodePorts and load balancers are on 127.0.0.1 too)" } else { "" };
        let kubeconfig = dir.join("kubeconfig");
        format!(
            "Coracle is up, after {} ms\n  API         {}\n  node        {} {}{place}\n  DNS         {}\n  kubeconfig  {}\n\n  export KUBECONFIG={}",
            took.as_millis(),
            self.api,
            self.node,
            self.address,
            self.dns,
            kubeconfig.display(),
            kubeconfig.display()
        )
    }
}

/// Runs a cluster until SIGINT or SIGTERM; a second signal aborts.
///
/// # Errors
/// What hinders the cluster, with what to do about it.
pub(crate) async fn run(options: Options, detached: bool) -> anyhow::Result<()> {
    let began = Instant::now();
    let progress = if detached {
        rustix::process::setsid().context("leave the terminal's session")?;
        Progress::Notes
    } else {
        Progress::person()
    };
    let result = start(options, &progress, began).await;
    if let Err(error) = &result {
        progress.failed(error);
    }
    result
}

async fn start(options: Options, progress: &Progress, began: Instant) -> anyhow::Result<()> {
    let shutdown = stop_signals()?;
    let dir = Dir::new(&options.data_dir)?;
    let mut cluster = Cluster::with_node(options.clone(), &|step| progress.step(step)).await?;
    let facts = Facts::of(&options, &cluster).context("the cluster has a node")?;
    facts.write(&dir)?;
    if let Some(recovered) = cluster.recovered() {
        complain(format_args!("the store was damaged and has been mended: {recovered}"));
    }
    progress.step("starting the node");
    let node_ready = cluster.node_ready();
    let ready = tokio::select! {
        ready = node_ready => ready,
        ended = cluster.ended() => return ended,
        () = shutdown.cancelled() => Ok(()),
    };
    if ready.is_ok() && !shutdown.is_cancelled() {
        progress.ready(&facts.summary(&dir, began.elapsed()));
        tokio::select! {
            ended = cluster.ended() => return ended,
            () = shutdown.cancelled() => {}
        }
    }
    cluster.shutdown().await?;
    ready
}

/// A token that the first SIGINT or SIGTERM cancels; the second one ends the process.
pub(crate) fn stop_signals() -> anyhow::Result<CancellationToken> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let shutdown = CancellationToken::new();
    let first = shutdown.clone();
    tokio::spawn(async move {
        let mut next = async || tokio::select! { _ = interrupt.recv() => {} _ = terminate.recv() => {} };
        next().await;
        first.cancel();
        next().await;
        std::process::exit(130);
    });
    Ok(shutdown)
}

/// Starts the same command in the background and shows its progress until it is ready.
///
/// # Errors
/// What the cluster says.
pub(crate) async fn detach(options: &Options) -> anyhow::Result<()> {
    let dir = Dir::new(&options.data_dir)?;
    std::fs::create_dir_all(dir.path()).with_context(|| {
        format!("make {}: choose a directory you may write to with --data-dir", dir.path().display())
    })?;
    let log_path = dir.join("coracle.log");
    let log = OpenOptions::new().append(true).create(true).mode(0o600).open(&log_path);
    let log = log.with_context(|| format!("open {}", log_path.display()))?;
    let mut child = Command::new(std::env::current_exe().context("find the own binary")?)
        .args(std::env::args_os().skip(1).filter(|arg| arg != "--detach"))
        .arg("--detached")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .context("start the cluster in the background")?;
    let progress = Progress::person();
    let output = child.stdout.take().context("read the cluster's progress")?;
    let mut lines = BufReader::new(output).lines();
    while let Some(line) = lines.next_line().await? {
        match serde_json::from_str(&line) {
            Ok(Note::Step(step)) => progress.step(&step),
            Ok(Note::Ready(summary)) => {
                progress.ready(&summary);
                return Ok(());
            }
            Ok(Note::Failed(reason)) => {
                let error = anyhow::anyhow!(reason);
                progress.failed(&error);
                return Err(error);
            }
            Err(_) => {}
        }
    }
    bail!("the cluster ended while it started; see {}", log_path.display())
}
