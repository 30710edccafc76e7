//! A pod before its first container: directory, volumes, namespaces, link.

use super::{fetch, files};
use crate::{pods::Pods, volume};
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use std::{fs, io, net::Ipv4Addr, path::Path, sync::Arc};

/// Why a pod has no sandbox.
#[derive(Debug)]
pub(crate) enum Trouble {
    Volume(volume::Failed),
    /// Follows `Failed to create pod sandbox: `.
    Sandbox(String),
}

/// Makes everything that a pod needs before its first container. On an error nothing runs.
pub(crate) async fn make(
    pods: &Arc<Pods>,
    pod: &Arc<Pod>,
    dir: &Path,
    address: Option<Ipv4Addr>,
) -> Result<shim::Client, Trouble> {
    let spec = pod.spec.clone().unwrap_or_default();
    if spec.host_users == Some(false) {
        return Err(Trouble::Sandbox("hostUsers: false is not supported on this node".into()));
    }
    let known = address.unwrap_or(pods.config.node_address).to_string();
    volumes(pods, pod, dir, known.clone()).await?;
    etc(pods, pod, &spec, dir, &known)
        .map_err(|error| Trouble::Sandbox(format!("write the files of /etc: {error}")))?;
    let sandbox = sandbox(pods, pod, &spec, dir);
    let failed = |error: shim::Error| Trouble::Sandbox(error.to_string());
    let shim = shim::Client::spawn(&pods.config.exe, &sandbox).await.map_err(failed)?;
    if let Some(address) = address
        && let Err(error) = pods.links.add(shim.pid(), address).await
    {
        let _ = shim.shutdown().await;
        return Err(Trouble::Sandbox(format!("failed to {error}")));
    }
    Ok(shim)
}

/// Makes the pod's volumes, or brings them up to date.
pub(crate) async fn volumes(pods: &Pods, pod: &Arc<Pod>, dir: &Path, address: String) -> Result<(), Trouble> {
    let none = pod.spec.as_ref().is_none_or(|spec| spec.volumes.is_none());
    if none {
        return Ok(());
    }
    let sources = fetch::sources(pods, pod, address).await.map_err(Trouble::Sandbox)?;
    let (dir, pod) = (dir.to_owned(), pod.clone());
    tokio::task::spawn_blocking(move || volume::make(&dir, &pod, &sources))
        .await
        .map_err(|error| Trouble::Sandbox(error.to_string()))?
        .map_err(Trouble::Volume)
}

fn sandbox(pods: &Pods, pod: &Pod, spec: &PodSpec, dir: &Path) -> shim::Sandbox {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let context = spec.security_context.as_ref();
    let sysctls = context.and_then(|context| context.sysctls.clone());
    shim::Sandbox {
        dir: dir.to_owned(),
        hostname: names(pods, pod, spec).0,
        host_network: spec.host_network.unwrap_or(false),
        host_ipc: spec.host_ipc.unwrap_or(false),
        host_pid: spec.host_pid.unwrap_or(false),
        share_processes: spec.share_process_namespace.unwrap_or(false),
        cgroup: Some(format!("coracle-{}/{uid}", pods.config.cluster_id)),
        limits: super::limits::pod_limits(spec),
        sysctls: sysctls.into_iter().flatten().map(|s| (s.name, s.value)).collect(),
        tmpfs: volume::tmpfs(dir, spec),
    }
}

fn names(pods: &Pods, pod: &Pod, spec: &PodSpec) -> (String, Option<String>) {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    files::hostname(spec, name, namespace, &pods.config.cluster_domain)
}

/// Writes the files that every container gets.
fn etc(pods: &Pods, pod: &Pod, spec: &PodSpec, dir: &Path, address: &str) -> io::Result<()> {
    let etc = dir.join("etc");
    fs::create_dir_all(&etc)?;
    let aliases = spec.host_aliases.as_deref().unwrap_or_default();
    let host_network = spec.host_network.unwrap_or(false);
    let (host, full) = names(pods, pod, spec);
    let hosts = if host_network {
        fs::read_to_string("/etc/hosts").unwrap_or_default() + &files::aliased(aliases)
    } else {
        files::hosts(address, &host, full.as_deref(), aliases)
    };
    let host = if host_network { rustix::system::uname().nodename().to_string_lossy().into_owned() } else { host };
    let own = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let config = &pods.config;
    let resolv =
        files::resolv(spec, namespace, &config.cluster_domain, config.dns_address, &files::Resolv::parse(&own));
    fs::write(etc.join("hosts"), hosts)?;
    fs::write(etc.join("hostname"), format!("{host}\n"))?;
    fs::write(etc.join("resolv.conf"), resolv.text())
}
