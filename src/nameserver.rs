//! `coracle dns`: the cluster's DNS alone, for any Kubernetes; it takes CoreDNS's place.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{corefile, up::stop_signals};

/// How long the API server may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which cluster, and how its names are served.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How to reach the API server. Else $KUBECONFIG, ~/.kube/config or, in a pod, its service account
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The Corefile. Else one that serves the cluster's domain and forwards to /etc/resolv.conf
    #[arg(long, value_name = "FILE", conflicts_with = "corefile_from_cluster")]
    conf: Option<PathBuf>,
    /// Take the Corefile from the ConfigMap kube-system/coredns, and follow its changes
    #[arg(long)]
    corefile_from_cluster: bool,
    /// DNS domain of the cluster, where no Corefile is given
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,
    /// Port to listen on where the Corefile says 53
    #[arg(long, value_name = "PORT", default_value_t = 53)]
    port: u16,
}

/// Serves until SIGINT or SIGTERM, and as long after that as the Corefile's `lameduck` says.
///
/// # Errors
/// A kubeconfig or Corefile that cannot be used, a port that is taken.
pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let shutdown = stop_signals()?;
    let client = Client::try_from(access(&options).await?).context("use the kubeconfig")?;
    greet(&client).await?;
    let text = match &options.conf {
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?,
        None if options.corefile_from_cluster => {
            corefile::read(&client).await?.context("the cluster has no Corefile in kube-system/coredns")?
        }
        None => dns::standard(&options.cluster_domain),
    };
    let watching = CancellationToken::new();
    let config = dns::Config { corefile: text.clone(), address: None, port: options.port };
    let sources = corefile::snapshots(client.clone(), None, watching.clone());
    let server = dns::Server::bind(config, dns::Sockets::host(), sources).await.map_err(advise)?;
    tracing::info!("Coracle-{}", env!("CARGO_PKG_VERSION"));
    tracing::info!("{}/{}", std::env::consts::OS, std::env::consts::ARCH);
    let server = Arc::new(server);
    let following = async {
        match &options.conf {
            Some(path) => reread(&server, path, text).await,
            None if options.corefile_from_cluster => corefile::follow(client, server.clone(), text).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = server.run(shutdown) => {}
        () = following => {}
    }
    watching.cancel();
    Ok(())
}

async fn access(options: &Options) -> anyhow::Result<Config> {
    let Some(path) = &options.kubeconfig else {
        return Config::infer().await.context("find a cluster: give its kubeconfig with --kubeconfig");
    };
    let kubeconfig = Kubeconfig::read_from(path).with_context(|| format!("read {}", path.display()))?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    config.with_context(|| format!("use {}", path.display()))
}

/// Finds out whether the API server takes us. One that does not answer may come later: the cluster's names get
/// SERVFAIL until then.
async fn greet(client: &Client) -> anyhow::Result<()> {
    match timeout(PATIENCE, client.apiserver_version()).await {
        Ok(Ok(_)) => {}
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 401 | 403) => {
            bail!("the API server does not take the kubeconfig's credentials: {}", status.message)
        }
        Ok(Err(error)) => {
            let error = anyhow::Error::from(error);
            tracing::warn!("the API server does not answer yet: {error:#}");
        }
        Err(_) => tracing::warn!("the API server does not answer within {PATIENCE:?}"),
    }
    Ok(())
}

/// What to do about a port.
fn advise(error: dns::Error) -> anyhow::Error {
    let advice = match &error {
        dns::Error::Listen { error, .. } => match error.kind() {
            io::ErrorKind::AddrInUse => "another program has this port: choose another one with --port",
            io::ErrorKind::PermissionDenied => "this port needs root: choose one from 1024 on with --port",
            _ => "start DNS",
        },
        _ => "start DNS",
    };
    anyhow::Error::from(error).context(advice)
}

/// Gives the server what comes into the file, as often as the Corefile's `reload` says.
async fn reread(server: &dns::Server, path: &std::path::Path, mut running: String) {
    let mut interval = dns::reload_interval(&running);
    while let Some(pause) = interval {
        sleep(pause).await;
        let text = match std::fs::read_to_string(path) {
            Ok(text) if text != running => text,
            _ => continue,
        };
        match server.reload(&text).await {
            Ok(()) => interval = dns::reload_interval(&text),
            Err(error) => tracing::error!("goes on with the old Corefile: {}: {error}", path.display()),
        }
        running = text;
    }
    std::future::pending().await
}
