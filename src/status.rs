//! `coracle status`.

use std::collections::BTreeMap;

use anyhow::bail;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, api::ListParams};

use crate::{data::Dir, progress::say, unix, up::Facts};

/// Prints where the cluster is and how it is.
///
/// # Errors
/// When it does not run.
pub(crate) async fn run(dir: &Dir) -> anyhow::Result<()> {
    let Some(pid) = dir.pid() else {
        bail!("no cluster runs with the data directory {}: start it with `coracle up`", dir.path().display());
    };
    let facts = Facts::read(dir)?;
    let client = unix::client(dir.api_socket(), "coracle");
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?;
    let pods = Api::<Pod>::all(client).list(&ListParams::default()).await?;
    say(format_args!("running     process {pid}{}", if facts.isolated { ", isolated" } else { "" }));
    say(format_args!("API         {}", facts.api));
    say(format_args!("kubeconfig  {}", dir.join("kubeconfig").display()));
    say(format_args!("DNS         {}", facts.dns));
    for node in nodes {
        let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
        let ready = conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
        let name = node.metadata.name.unwrap_or_default();
        say(format_args!("node        {name} {} {}", facts.address, if ready { "Ready" } else { "NotReady" }));
    }
    let mut phases = BTreeMap::<String, usize>::new();
    for pod in pods {
        *phases.entry(pod.status.and_then(|status| status.phase).unwrap_or_default()).or_default() += 1;
    }
    let phases: Vec<_> = phases.iter().map(|(phase, count)| format!("{count} {phase}")).collect();
    say(format_args!("pods        {}", if phases.is_empty() { "none".to_owned() } else { phases.join(", ") }));
    Ok(())
}
