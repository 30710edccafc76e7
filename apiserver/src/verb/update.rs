use http::Response;
use serde_json::Value;

use super::modify::{Part, modify};
use crate::answer;
use crate::body::Body;
use crate::call::Call;
use crate::hook;
use crate::status::Status;

/// Replaces an object, or its status.
pub(crate) async fn update(call: &Call) -> Result<Response<Body>, Status> {
    let (mut new, warnings) = call.read_object()?;
    call.to_stored(&mut new);
    let bytes = modify(call, part(call), |old| Ok(laid(call, old, &new))).await?;
    answer::object(call, 200, &bytes, &warnings)
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
        sub @ ("ephemeralcontainers" | "resize") => hook::pod::part(sub, old, new),
        _ => new.clone(),
    }
}
