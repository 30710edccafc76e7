use serde_json::Value;

use super::{Object, child, copy_missing, fill, made, set, text};

/// What is set in a Pod itself and not in the template of one, such as the requests that follow from limits.
pub(super) fn pod(pod: &mut Object) {
    let Some(spec) = child(pod, "spec") else {
        return;
    };
    for list in ["containers", "initContainers"] {
        let Some(Value::Array(containers)) = spec.get_mut(list) else {
            continue;
        };
        for container in containers.iter_mut().filter_map(Value::as_object_mut) {
            if let Some(resources) = child(container, "resources") {
                copy_missing(resources, "limits", "requests");
            }
        }
    }
    fill(spec, "enableServiceLinks", true);
    if spec.get("hostNetwork") == Some(&Value::Bool(true)) {
        host_ports(spec);
    }
}

fn host_ports(spec: &mut Object) {
    for list in ["containers", "initContainers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        let ports = containers.into_iter().flatten().filter_map(|container| container.get_mut("ports")?.as_array_mut());
        for port in ports.flatten().filter_map(Value::as_object_mut) {
            if let Some(number) = port.get("containerPort").cloned() {
                fill(port, "hostPort", number);
            }
        }
    }
}

/// `serviceAccount` is the old name of `serviceAccountName` and always follows it.
pub(super) fn spec(spec: &mut Object) {
    let name = match text(spec, "serviceAccountName") {
        "" => text(spec, "serviceAccount"),
        name => name,
    };
    let name = name.to_owned();
    if !name.is_empty() {
        set(spec, "serviceAccountName", name.clone());
        set(spec, "serviceAccount", name);
    }
}

pub(super) fn container(container: &mut Object) {
    let policy = pull_policy(text(container, "image"));
    fill(container, "imagePullPolicy", policy);
}

pub(super) fn image_volume(source: &mut Object) {
    let policy = pull_policy(text(source, "reference"));
    fill(source, "pullPolicy", policy);
}

/// An image whose tag is `latest`, said or not, is looked for anew each time.
fn pull_policy(image: &str) -> &'static str {
    let last = image.rsplit('/').next().unwrap_or(image);
    let tag = match last.split_once('@') {
        Some((name, _)) => name.split_once(':').map_or("a digest", |(_, tag)| tag),
        None => last.split_once(':').map_or("latest", |(_, tag)| tag),
    };
    if tag == "latest" { "Always" } else { "IfNotPresent" }
}

/// A volume without a source is an emptyDir.
pub(super) fn volume(volume: &mut Object) {
    if volume.keys().all(|key| key == "name") {
        made(volume, "emptyDir");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_pull_policy_follows_the_tag() {
        for (image, policy) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.27", "IfNotPresent"),
            ("localhost:5000/nginx", "Always"),
            ("localhost:5000/a/nginx:v1", "IfNotPresent"),
            ("nginx@sha256:00", "IfNotPresent"),
            ("nginx:latest@sha256:00", "Always"),
            ("", "Always"),
        ] {
            assert_eq!(super::pull_policy(image), policy, "{image}");
        }
    }
}
