use http::Response;
use serde_json::Value;

use super::create::store_new;
use super::modify::modify;
use super::update::{laid, part};
use crate::answer;
use crate::body::Body;
use crate::call::Call;
use crate::media;
use crate::object::{self, text};
use crate::status::Status;

/// The most operations of a JSON patch, as in Kubernetes.
const OPERATIONS: usize = 10_000;

const ACCEPTED: &str = "application/json-patch+json, application/merge-patch+json, \
                        application/strategic-merge-patch+json, application/apply-patch+yaml";

/// A patch, by its content type.
enum Patch {
    Json(Value),
    Merge(Value),
    Strategic(Value),
    /// What `kubectl apply --server-side` sends. Without the ownership of fields it is merged like a strategic patch.
    Apply(Value),
}

/// Changes an object by a patch; on a conflict with another write the patch is applied anew.
pub(crate) async fn patch(call: &Call) -> Result<Response<Body>, Status> {
    let patch = read(call)?;
    if let Patch::Apply(applied) = &patch
        && call.subresource.is_empty()
        && call.server.store.get(&call.key()).is_none()
    {
        return apply_new(call, applied.clone()).await;
    }
    let warnings = std::sync::Mutex::new(Vec::new());
    let bytes = modify(call, part(call), |old| {
        let mut new = old.clone();
        call.to_shown(&mut new);
        apply(call, &patch, &mut new)?;
        let told = call.prune(&mut new, call.resource.type_id, Vec::new())?;
        *warnings.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = told;
        call.to_stored(&mut new);
        Ok(laid(call, old, &new))
    });
    let bytes = bytes.await?;
    let warnings = warnings.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    answer::object(call, 200, &bytes, &warnings)
}

/// Server-side apply of what is not there creates it.
async fn apply_new(call: &Call, mut new: Value) -> Result<Response<Body>, Status> {
    if !text(&new, "/metadata/uid").is_empty() {
        let why = "uid mismatch: the provided object specified uid, and no existing object was found";
        return Err(Status::conflict(&call.resource, &call.name, why));
    }
    call.check_kind(&mut new, &call.resource.api_version(), &call.resource.kind)?;
    object::metadata(&mut new).entry("name").or_insert_with(|| call.name.as_str().into());
    let warnings = call.prune(&mut new, call.resource.type_id, Vec::new())?;
    call.to_stored(&mut new);
    let bytes = store_new(call, new).await?;
    answer::object(call, 201, &bytes, &warnings)
}

fn read(call: &Call) -> Result<Patch, Status> {
    let json = || media::from_json(&call.body).map(|(value, _)| value);
    match media::content_type(&call.headers) {
        "application/json-patch+json" => {
            let patch = json()?;
            let operations = patch.as_array().map_or(0, Vec::len);
            if operations > OPERATIONS {
                let message =
                    format!("The allowed maximum operations in a JSON patch is {OPERATIONS}, got {operations}");
                return Err(Status::new(413, "RequestEntityTooLarge", message));
            }
            Ok(Patch::Json(patch))
        }
        "application/merge-patch+json" => json().map(Patch::Merge),
        "application/strategic-merge-patch+json" => json().map(Patch::Strategic),
        "application/apply-patch+yaml" => {
            if call.query.get("fieldManager").is_none() {
                let message = "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required \
                               for apply patch";
                return Err(Status::new(422, "Invalid", message));
            }
            media::from_yaml(&call.body).map(|(value, _)| Patch::Apply(value))
        }
        _ => Err(Status::unsupported_media(ACCEPTED)),
    }
}

fn apply(call: &Call, patch: &Patch, object: &mut Value) -> Result<(), Status> {
    let registry = &call.server.registry;
    let unusable = |error: schema::Error| match error {
        schema::Error::Patch(message) if matches!(patch, Patch::Json(_)) => {
            let message = format!("the server rejected our request due to an error in our request: {message}");
            Status::new(422, "Invalid", message)
        }
        error => Status::bad_request(error.to_string()),
    };
    match patch {
        Patch::Json(operations) => schema::json_patch(object, operations.clone()).map_err(unusable)?,
        Patch::Merge(value) if !value.is_object() => {
            return Err(Status::bad_request("the patch is not an object"));
        }
        Patch::Merge(value) => schema::merge_patch(object, value),
        Patch::Strategic(value) | Patch::Apply(value) => {
            registry.strategic_merge(object, value, call.resource.type_id).map_err(unusable)?;
        }
    }
    call.check_kind(object, &call.resource.api_version(), &call.resource.kind)
}
