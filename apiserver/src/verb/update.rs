use http::Response;
use serde_json::Value;

use super::modify::{Part, modify};
use crate::answer;
use crate::body::Body;
use crate::call::Call;
use crate::hook;
use crate::object::{copy_metadata, text};
use crate::status::{Status, invalid};

/// Replaces an object, or its status.
pub(crate) async fn update(call: &Call) -> Result<Response<Body>, Status> {
    let (mut new, warnings) = call.read_object()?;
    call.to_stored(&mut new);
    if call.subresource.is_empty() && text(&new, "/metadata/resourceVersion").is_empty() && names_its_version(call) {
        let missing = invalid("metadata.resourceVersion", 0, "must be specified for an update");
        return Err(Status::invalid(&call.resource, &call.name, &[missing]));
    }
    let bytes = modify(call, part(call), |old| Ok(laid(call, old, &new))).await?;
    answer::object(call, 200, &bytes, &warnings)
}

/// Built-in kinds that are replaced only by who says which version; of the whole group where no kind is named.
const CONDITIONAL: [(&str, &str); 9] = [
    ("admissionregistration.k8s.io", ""),
    ("apiextensions.k8s.io", ""),
    ("apiregistration.k8s.io", ""),
    ("coordination.k8s.io", "Lease"),
    ("node.k8s.io", "RuntimeClass"),
    ("policy", "PodDisruptionBudget"),
    ("storage.k8s.io", "CSIDriver"),
    ("storage.k8s.io", "CSINode"),
    ("storage.k8s.io", "VolumeAttachment"),
];

/// Custom kinds are of that sort, too.
fn names_its_version(call: &Call) -> bool {
    let resource = &call.resource;
    let is = |(group, kind): &(&str, &str)| *group == resource.group && (kind.is_empty() || *kind == resource.kind);
    !call.server.registry.is_builtin(resource.type_id) || CONDITIONAL.iter().any(is)
}

/// The part of an object that a path is about.
pub(super) fn part(call: &Call) -> Part {
    match call.subresource.as_str() {
        "status" | "approval" => Part::Status,
        "ephemeralcontainers" | "resize" => Part::All,
        _ => Part::Main,
    }
}

/// What a subresource of a pod takes of the new version.
pub(super) fn laid(call: &Call, old: &Value, new: &Value) -> Value {
    match call.subresource.as_str() {
        sub @ ("ephemeralcontainers" | "resize") => {
            let mut laid = hook::pod::part(sub, old, new);
            copy_metadata(&["managedFields"], new, &mut laid);
            laid
        }
        _ => new.clone(),
    }
}
