//! `coracle dns`: the cluster's DNS alone, for any Kubernetes; it takes CoreDNS's place.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{client, corefile, up::stop_signals};

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
    // The cluster's names get SERVFAIL for as long as the API server does not answer.
    let client = client::connect(options.kubeconfig.as_deref()).await?;
    let text = match &options.conf {
        Some(path) => import(path)?,
        None if options.corefile_from_cluster => {
            corefile::read(&client).await?.context("the cluster has no Corefile in kube-system/coredns")?
        }
        // What a machine has one of is left to those who ask for it.
        None => dns::standard(&options.cluster_domain).replace("    prometheus :9153\n", ""),
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
            Some(_) => reread(&server, &text).await,
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

/// What to do about a port.
fn advise(error: dns::Error) -> anyhow::Error {
    let advice = match &error {
        dns::Error::Listen { server, .. } if !server.contains("://") => {
            "this port is not to be had: give the directive another one in the Corefile"
        }
        dns::Error::Listen { error, .. } => match error.kind() {
            io::ErrorKind::AddrInUse => "another program has this port: choose another one with --port",
            io::ErrorKind::PermissionDenied => "this port needs root: choose one from 1024 on with --port",
            _ => "start DNS",
        },
        _ => "start DNS",
    };
    anyhow::Error::from(error).context(advice)
}

/// A Corefile that is all in the file: errors name it, and what it imports is beside it.
fn import(path: &Path) -> anyhow::Result<String> {
    let path = std::path::absolute(path)?;
    Ok(format!("import \"{}\"\n", path.display().to_string().replace('"', "\\\"")))
}

/// Lets the server read again what the Corefile imports, as often as its `reload` says.
async fn reread(server: &dns::Server, corefile: &str) {
    let mut known = String::new();
    while let Some(pause) = server.interval().await {
        sleep(pause).await;
        let error = server.reload(corefile).await.err().map(|error| error.to_string()).unwrap_or_default();
        if !error.is_empty() && error != known {
            tracing::error!("goes on with the old Corefile: {error}");
        }
        known = error;
    }
    std::future::pending().await
}
