//! What is left of a cluster whose process was killed.

use crate::{Error, network};
use std::{fs, io, path::Path};

/// Ends the shims of a cluster that does not run, and removes its links, addresses, routes and
/// cgroups. `data_dir` is that of its [`crate::Config`].
///
/// # Errors
/// [`Error::Link`] and [`Error::Io`] when the kernel refuses.
pub async fn cleanup(cluster_id: &str, data_dir: &Path) -> Result<(), Error> {
    let pods = fs::read_dir(data_dir.join("pods")).into_iter().flatten().flatten();
    let shutdowns = pods.map(|pod| async move {
        let dir = pod.path();
        let ended = match shim::Client::connect(&dir).await {
            Ok(client) => client.shutdown().await.map_err(|error| error.to_string()),
            Err(_) => match shim::clear(&dir) {
                // The pod ended well, or never began.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                cleared => cleared.map_err(|error| error.to_string()),
            },
        };
        if let Err(error) = ended {
            tracing::warn!(%error, pod = %dir.display(), "failed to end a pod");
        }
    });
    futures::future::join_all(shutdowns).await;
    shim::remove_cgroup(&cgroup(cluster_id));
    network::remove_remains(cluster_id, data_dir).await
}

/// The cluster's own level of each cgroup hierarchy; those of pods are below.
pub(crate) fn cgroup(cluster_id: &str) -> String {
    format!("coracle-{cluster_id}")
}
