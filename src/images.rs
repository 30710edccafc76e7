//! `coracle image`.

use std::path::PathBuf;

use anyhow::bail;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};

use crate::{data::Dir, progress::say, unix};

/// What to do with images.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Take the images of a file that `docker save` or an OCI tool wrote
    Import {
        /// The file: a tar archive, plain or compressed with gzip or zstd
        file: PathBuf,
    },
    /// List the images that are here
    Ls,
    /// Remove an image
    Rm {
        /// Its name, like nginx:latest
        reference: String,
    },
}

/// Works on the files of the cluster in `dir`, whether it runs or not.
///
/// # Errors
/// What the store says; an image in use is not removed.
pub(crate) async fn run(command: Command, dir: &Dir) -> anyhow::Result<()> {
    let images = image::Store::open(&dir.join("images"))?;
    match command {
        Command::Import { file } => {
            for image in tokio::task::spawn_blocking(move || images.import(&file)).await?? {
                say(image.reference);
            }
        }
        Command::Ls => {
            let list = images.list()?;
            let width = list.iter().map(|image| image.reference.len()).max().unwrap_or(0).max(9);
            say(format_args!("{:width$}  {:12}  {:>9}", "REFERENCE", "ID", "SIZE"));
            for image in list {
                let id = image.id.trim_start_matches("sha256:").get(..12).unwrap_or_default().to_owned();
                say(format_args!("{:width$}  {id:12}  {:>6.1} MB", image.reference, image.size as f64 / 1e6));
            }
        }
        Command::Rm { reference } => {
            let reference = image::normalize(&reference)?;
            if let Some(pod) = user(dir, &reference).await? {
                bail!("image {reference} is used by pod {pod}: delete the pod first");
            }
            images.remove(&reference)?;
            say(reference);
        }
    }
    Ok(())
}

/// A pod that was made from an image, when the cluster runs.
async fn user(dir: &Dir, reference: &str) -> anyhow::Result<Option<String>> {
    if dir.pid().is_none() {
        return Ok(None);
    }
    let pods = Api::<Pod>::all(unix::client(dir.api_socket(), "coracle")).list(&ListParams::default()).await?;
    let uses = |pod: &Pod| {
        let spec = pod.spec.as_ref();
        let containers = spec.into_iter().flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()));
        let mut names = containers.filter_map(|container| container.image.as_deref());
        names.any(|name| image::normalize(name).is_ok_and(|name| name == reference))
    };
    let name = |pod: Pod| {
        let meta = pod.metadata;
        format!("{}/{}", meta.namespace.unwrap_or_default(), meta.name.unwrap_or_default())
    };
    Ok(pods.into_iter().find(uses).map(name))
}
