//! Having a container's image: the pull policy, and what is said about it.

use super::start::Refused;
use crate::pods::Pods;
use ::image::{Credentials, Image, normalize};
use k8s_openapi::api::core::v1::{Container, Pod, Secret};
use kube::api::Api;
use std::time::Instant;

/// What to do for an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Action {
    Use,
    Pull,
    /// Not here, and it may not be pulled.
    Never,
}

/// Kubernetes' rule: `Always` is the default for the tag latest (or none), else `IfNotPresent`.
/// `here` is `Some(imported)` for an image in the store: what was imported is never pulled over.
pub(crate) fn action(policy: Option<&str>, reference: &str, here: Option<bool>) -> Action {
    let latest = reference.ends_with(":latest");
    let policy = policy.filter(|policy| !policy.is_empty());
    let policy = policy.unwrap_or(if latest { "Always" } else { "IfNotPresent" });
    match (policy, here) {
        (_, Some(true)) | ("Never" | "IfNotPresent", Some(_)) => Action::Use,
        ("Never", None) => Action::Never,
        _ => Action::Pull,
    }
}

/// The image of a container, pulled if need be.
pub(crate) async fn have(pods: &Pods, pod: &Pod, container: &Container, path: &str) -> Result<Image, Refused> {
    let given = container.image.clone().unwrap_or_default();
    let reference = normalize(&given).map_err(|error| {
        let text = format!("Failed to apply default image tag {given:?}: {error}");
        pods.note(pod, path, true, "InspectFailed", text.clone());
        Refused::new("InvalidImageName", text)
    })?;
    let failed = |error: ::image::Error| Refused::new("ImageInspectError", error.to_string());
    let here = pods.images.resolve(&reference).map_err(failed)?;
    let policy = container.image_pull_policy.as_deref();
    match action(policy, &reference, here.as_ref().map(|image| image.imported)) {
        Action::Use => {
            let text = format!("Container image {given:?} already present on machine");
            pods.note(pod, path, false, "Pulled", text);
        }
        Action::Never => {
            let text = format!("Container image {given:?} is not present with pull policy of Never");
            pods.note(pod, path, true, "ErrImageNeverPull", text.clone());
            return Err(Refused::new("ErrImageNeverPull", text));
        }
        Action::Pull => pull(pods, pod, &given, &reference, path).await?,
    }
    let image =
        match here {
            Some(image) if action(policy, &reference, Some(image.imported)) == Action::Use => image,
            _ => pods.images.resolve(&reference).map_err(failed)?.ok_or_else(|| {
                Refused::new("ErrImagePull", format!("{reference} is not in the store after its pull"))
            })?,
        };
    Ok(image)
}

async fn pull(pods: &Pods, pod: &Pod, given: &str, reference: &str, path: &str) -> Result<(), Refused> {
    pods.note(pod, path, false, "Pulling", format!("Pulling image {given:?}"));
    let began = Instant::now();
    let credentials = credentials(pods, pod, reference).await;
    let pulled = (pods.config.pull)(reference.to_owned(), credentials).await;
    pulled.map_err(|error| {
        let text = format!("Failed to pull image {given:?}: {error}");
        pods.note(pod, path, true, "Failed", text);
        Refused::new("ErrImagePull", error)
    })?;
    let took = began.elapsed().as_millis();
    let took = if took < 1000 { format!("{took}ms") } else { format!("{}.{:03}s", took / 1000, took % 1000) };
    let size = pods.images.resolve(reference).ok().flatten();
    let size = size.map_or(0, |image| image.size);
    let text = format!(
        "Successfully pulled image {given:?} in {took} ({took} including waiting). \
         Image size: {size} bytes."
    );
    pods.note(pod, path, false, "Pulled", text);
    Ok(())
}

/// The first of the pod's imagePullSecrets that knows the registry.
async fn credentials(pods: &Pods, pod: &Pod, reference: &str) -> Option<Credentials> {
    let secrets = pod.spec.as_ref()?.image_pull_secrets.as_ref()?;
    let namespace = pod.metadata.namespace.as_deref()?;
    let api: Api<Secret> = Api::namespaced(pods.client.clone(), namespace);
    for secret in secrets {
        let Ok(Some(secret)) = api.get_opt(&secret.name).await else {
            continue;
        };
        let json = secret.data.as_ref().and_then(|data| data.get(".dockerconfigjson"));
        let found = json.and_then(|json| Credentials::from_docker_config(&json.0, reference));
        if found.is_some() {
            return found;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pull_policy_has_kubernetes_defaults() {
        let (tagged, latest) = ("docker.io/library/a:1", "docker.io/library/a:latest");
        for (policy, reference, here, expected) in [
            (None, latest, Some(false), Action::Pull),
            (None, latest, Some(true), Action::Use),
            (None, tagged, Some(false), Action::Use),
            (None, tagged, None, Action::Pull),
            (Some("Always"), tagged, Some(false), Action::Pull),
            (Some("IfNotPresent"), latest, Some(false), Action::Use),
            (Some("IfNotPresent"), latest, None, Action::Pull),
            (Some("Never"), latest, Some(false), Action::Use),
            (Some("Never"), latest, None, Action::Never),
        ] {
            assert_eq!(action(policy, reference, here), expected, "{policy:?} {reference} {here:?}");
        }
    }
}
