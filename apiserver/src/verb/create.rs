use http::Response;
use serde_json::Value;
use store::{Error, Expect};

use super::write::{Write, failed, tried, write};
use crate::body::Body;
use crate::call::Call;
use crate::status::{Status, required};
use crate::{admit, answer, object, owners};

/// How often a generated name is tried anew when it is taken.
const NAME_TRIES: usize = 8;
/// What generated names end with: no vowels and nothing that reads like another letter.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// The longest base of a generated name.
const BASE_LIMIT: usize = 58;

/// Stores a new object.
pub(crate) async fn create(call: &Call) -> Result<Response<Body>, Status> {
    let (mut new, warnings) = call.read_object()?;
    call.to_stored(&mut new);
    let bytes = store_new(call, new).await?;
    answer::object(call, 201, &bytes, &warnings)
}

/// Admits and stores an object in its stored form; answers with its bytes.
pub(super) async fn store_new(call: &Call, mut new: Value) -> Result<bytes::Bytes, Status> {
    let dry_run = call.dry_run()?;
    owners::check_manager(call)?;
    begin(call, &mut new)?;
    let base = object::text(&new, "/metadata/generateName").to_owned();
    let generated = object::text(&new, "/metadata/name").is_empty() && !base.is_empty();
    for attempt in 1.. {
        if generated {
            object::metadata(&mut new).insert("name".into(), generated_name(&base).into());
        }
        let name = object::text(&new, "/metadata/name").to_owned();
        let key = call.key_of(&name);
        // A name that is taken is said before anything else that could be wrong.
        let taken = call.server.store.get(&key).is_some();
        if taken && !generated {
            return Err(Status::already_exists(&call.resource, &name));
        }
        admit::namespace(call, &name)?;
        // Only a generated name is tried again.
        let mut admitted = if generated { new.clone() } else { std::mem::take(&mut new) };
        let reservation = admit::create(call, &name, &mut admitted)?;
        if dry_run {
            return Ok(tried(&admitted, None));
        }
        let ready = Write { key, expect: Expect::Absent, old: None, new: &admitted, gone: false, reservation };
        match write(call, ready).await {
            Ok(entry) => return Ok(entry.bytes.clone()),
            Err(Error::Exists(_)) if generated && attempt < NAME_TRIES => {}
            Err(Error::Exists(_)) => return Err(Status::already_exists(&call.resource, &name)),
            Err(error) => return Err(failed(error)),
        }
    }
    unreachable!("the loop ends by returning")
}

/// What the system sets in the metadata of every new object.
fn begin(call: &Call, new: &mut Value) -> Result<(), Status> {
    let metadata = object::metadata(new);
    let given = |field: &str| metadata.get(field).and_then(Value::as_str).unwrap_or_default();
    if !given("resourceVersion").is_empty() {
        // Kubernetes answers 500 here; what a client got wrong is no fault of this server.
        return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
    }
    if !given("namespace").is_empty() && given("namespace") != call.namespace {
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Status::bad_request(message));
    }
    if !call.name.is_empty() && given("name") != call.name {
        let message =
            format!("the name of the object ({}) does not match the name on the URL ({})", given("name"), call.name);
        return Err(Status::bad_request(message));
    }
    if given("name").is_empty() && given("generateName").is_empty() {
        let cause = required("metadata.name", "name or generateName is required");
        return Err(Status::invalid(&call.resource, "", &[cause]));
    }
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"] {
        metadata.remove(field);
    }
    if !call.namespace.is_empty() {
        metadata.insert("namespace".into(), call.namespace.as_str().into());
    }
    metadata.insert("uid".into(), uuid::Uuid::new_v4().to_string().into());
    metadata.insert("creationTimestamp".into(), admit::now().into());
    if admit::is_counted(call) {
        metadata.insert("generation".into(), 1.into());
    }
    if call.resource.subresource("status").is_some()
        && let Value::Object(fields) = new
    {
        fields.remove("status");
    }
    Ok(())
}

fn generated_name(base: &str) -> String {
    let mut name: String = base.chars().take(BASE_LIMIT).collect();
    let bytes = uuid::Uuid::new_v4();
    // Bytes 6 and 8 of a uuid have fixed bits.
    for byte in &bytes.as_bytes()[..5] {
        name.push(char::from(LETTERS[usize::from(*byte) % LETTERS.len()]));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names() {
        let name = generated_name("web-");
        assert_eq!(name.len(), 9);
        assert!(name.starts_with("web-") && name.bytes().skip(4).all(|byte| LETTERS.contains(&byte)));
        assert_eq!(generated_name(&"x".repeat(80)).len(), BASE_LIMIT + 5);
    }
}
