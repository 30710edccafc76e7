//! `coracle down`: stops a running cluster, or removes what a crashed one left.

use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::{data::Dir, progress::say};

/// How long a cluster may take to stop its pods: the longest of them may use its grace period.
const PATIENCE: Duration = Duration::from_secs(60);

/// Stops the cluster in a directory; succeeds when there is none.
///
/// # Errors
/// When it does not stop, or something cannot be removed.
pub(crate) async fn run(dir: &Dir) -> anyhow::Result<()> {
    if !dir.join("id").exists() {
        say(format_args!("there is no cluster in {}", dir.path().display()));
        return Ok(());
    }
    let running = dir.pid();
    if let Some(pid) = running.and_then(Pid::from_raw) {
        kill_process(pid, Signal::TERM).with_context(|| format!("stop process {}", pid.as_raw_nonzero()))?;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while dir.pid().is_some() {
            if tokio::time::Instant::now() > deadline {
                bail!("process {} has not stopped after {PATIENCE:?}", pid.as_raw_nonzero());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let _lock = dir.lock()?;
    // An isolated node's remains went with its namespaces.
    if rustix::process::geteuid().is_root() {
        let id = dir.id()?;
        node::cleanup(&id, &dir.join("node")).await.context("remove the node's remains")?;
        tokio::task::spawn_blocking(move || proxy::kernel::cleanup(&id).and(proxy::bpf::cleanup(&id)))
            .await?
            .context("remove the kernel's data plane")?;
    }
    say(if running.is_some() { "stopped" } else { "it was not running; nothing of it is left" });
    Ok(())
}
