use http::Response;
use schema::{JsonPatch, TypeId};
use serde_json::Value;

use super::create::store_new;
use super::modify::modify;
use super::update::{laid, part};
use crate::answer;
use crate::body::Body;
use crate::call::Call;
use crate::media;
use crate::object::{self, text};
use crate::owners;
use crate::status::{Details, Status, forbidden, invalid, required};

/// The most operations of a JSON patch, as in Kubernetes.
const OPERATIONS: usize = 10_000;

const STRATEGIC: &str = "application/strategic-merge-patch+json";
/// The media types of patches. Strategic ones are for the kinds that the built-in table knows.
const ACCEPTED: [&str; 4] = ["application/json-patch+json", "application/merge-patch+json", STRATEGIC, media::APPLY];

/// A patch, by its content type.
pub(super) enum Patch {
    Json(JsonPatch),
    Merge(Value),
    Strategic(Value),
    /// A configuration: what `kubectl apply --server-side` sends.
    Apply(Value),
}

/// Changes an object by a patch; on a conflict with another write the patch is applied anew.
pub(crate) async fn patch(call: &Call) -> Result<Response<Body>, Status> {
    let (patch, told) = read(call)?;
    if let Patch::Apply(applied) = &patch
        && call.subresource.is_empty()
        && call.server.store.get(&call.key()).is_none()
    {
        return apply_new(call, applied.clone()).await;
    }
    let warnings = std::sync::Mutex::new(Vec::new());
    let bytes = modify(call, part(call), |old| {
        let mut new = match &patch {
            Patch::Apply(config) => owners::apply(call, part(call), Some(old), config)?,
            patch => {
                let mut new = old.clone();
                call.to_shown(&mut new);
                lay(call, patch, &mut new, call.resource.type_id)?;
                new
            }
        };
        call.check_kind(&mut new, &call.resource.api_version(), &call.resource.kind)?;
        let told = match &patch {
            Patch::Apply(_) => call.prune(&mut new, call.resource.type_id, told.clone())?,
            _ => call.prune_or(&mut new, call.resource.type_id, told.clone(), |why| {
                Status::of_fields("", "", &[invalid("patch", shown(call, &patch, old), why)])
            })?,
        };
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
    object::metadata(&mut new).entry("name").or_insert_with(|| call.name.as_str().into());
    let mut new = owners::apply(call, part(call), None, &new)?;
    let warnings = call.prune(&mut new, call.resource.type_id, Vec::new())?;
    call.to_stored(&mut new);
    let bytes = store_new(call, new).await?;
    answer::object(call, 201, &bytes, &warnings)
}

/// The patch in the body, and the keys that it has twice.
pub(super) fn read(call: &Call) -> Result<(Patch, Vec<String>), Status> {
    let json = || {
        let undecodable = |error| Status::bad_request(format!("error decoding patch: {error}"));
        schema::parse(&call.body).map_err(undecodable)
    };
    if !owners::applies(call) && call.query.get("force").is_some() {
        return Err(call.bad_option(forbidden("force", "may not be specified for non-apply patch")));
    }
    match media::content_type(&call.headers) {
        "application/json-patch+json" => {
            let (patch, _) = json()?;
            if !patch.is_array() {
                let message = "json: cannot unmarshal object into Go value of type jsonpatch.Patch";
                return Err(Status::bad_request(message));
            }
            let patch = JsonPatch::read(patch).map_err(|error| Status::bad_request(error.to_string()))?;
            if patch.len() > OPERATIONS {
                let message = format!(
                    "Request entity too large: The allowed maximum operations in a JSON patch is {OPERATIONS}, got {}",
                    patch.len()
                );
                return Err(Status::new(413, "RequestEntityTooLarge", message));
            }
            Ok((Patch::Json(patch), Vec::new()))
        }
        "application/merge-patch+json" => json().map(|(patch, told)| (Patch::Merge(patch), told)),
        STRATEGIC if call.server.registry.is_builtin(call.resource.type_id) => {
            json().map(|(patch, told)| (Patch::Strategic(patch), told))
        }
        media::APPLY => {
            if call.query.get("fieldManager").is_none() {
                return Err(call.bad_option(required("fieldManager", "is required for apply patch")));
            }
            media::from_yaml(&call.body).map(|(value, told)| (Patch::Apply(value), told))
        }
        _ => {
            let builtin = call.server.registry.is_builtin(call.resource.type_id);
            let accepted = ACCEPTED.iter().copied().filter(|accepted| builtin || *accepted != STRATEGIC);
            Err(Status::unsupported_media(&accepted.collect::<Vec<_>>().join(", ")))
        }
    }
}

/// What a Status about the outcome of a patch shows: a strategic patch itself, else what it makes of the object.
fn shown(call: &Call, patch: &Patch, old: &Value) -> String {
    if let Patch::Strategic(patch) = patch {
        return in_go(patch);
    }
    let mut patched = old.clone();
    call.to_shown(&mut patched);
    // It could be laid before.
    lay(call, patch, &mut patched, call.resource.type_id).map_or_else(|_| String::new(), |()| patched.to_string())
}

/// A value as Go prints it.
fn in_go(value: &Value) -> String {
    let words = |words: Vec<String>| words.join(" ");
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", words(items.iter().map(in_go).collect())),
        Value::Object(fields) => {
            let mut entries: Vec<String> =
                fields.iter().map(|(key, value)| format!("{key}:{}", in_go(value))).collect();
            entries.sort();
            format!("map[{}]", words(entries))
        }
        scalar => scalar.to_string(),
    }
}

/// Lays a patch over an object of that type.
pub(super) fn lay(call: &Call, patch: &Patch, object: &mut Value, ty: TypeId) -> Result<(), Status> {
    let unusable = |error: schema::Error| Status::bad_request(error.to_string());
    match patch {
        // What is wrong with which operation is not told, as in Kubernetes.
        Patch::Json(patch) => patch.apply(object).map_err(|_| {
            let message = "the server rejected our request due to an error in our request";
            Status::new(422, "Invalid", message).with(Details::default())
        }),
        Patch::Merge(value) if !value.is_object() => Err(Status::bad_request("Invalid JSON Patch")),
        Patch::Merge(value) => {
            schema::merge_patch(object, value);
            Ok(())
        }
        Patch::Strategic(value) => call.server.registry.strategic_merge(object, value, ty).map_err(unusable),
        // What has owners is not laid over: see `owners`.
        Patch::Apply(_) => Err(Status::unsupported_media(&ACCEPTED.join(", "))),
    }
}
