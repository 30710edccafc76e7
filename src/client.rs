//! The way to a cluster that is not in this process: by a kubeconfig, or as a pod of it.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, bail};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::time::timeout;

/// How long the API server may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(5);

/// A client of the cluster of a kubeconfig; without one that of $KUBECONFIG, of ~/.kube/config or, in a pod, of its
/// service account. One that does not answer may come later.
///
/// # Errors
/// A kubeconfig that cannot be used, an API server that does not take its credentials.
pub(crate) async fn connect(kubeconfig: Option<&Path>) -> anyhow::Result<Client> {
    let client = Client::try_from(access(kubeconfig).await?).context("use the kubeconfig")?;
    greet(&client).await?;
    Ok(client)
}

async fn access(kubeconfig: Option<&Path>) -> anyhow::Result<Config> {
    let Some(path) = kubeconfig else {
        return Config::infer().await.context("find a cluster: give its kubeconfig with --kubeconfig");
    };
    let kubeconfig = Kubeconfig::read_from(path).with_context(|| format!("read {}", path.display()))?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    config.with_context(|| format!("use {}", path.display()))
}

/// Finds out whether the API server takes us.
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
