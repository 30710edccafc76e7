//! Who owns which fields: what the API server knows of a write that [`schema::Ownership`] needs.

use std::borrow::Cow;

use schema::{ApplyError, Ownership, TypeId};
use serde_json::Value;

use crate::call::Call;
use crate::hook;
use crate::media;
use crate::object::{self, text};
use crate::server::stored_under;
use crate::status::Status;
use crate::verb::Part;
use crate::{admit, status};

/// The longest name of a manager, in bytes.
const NAME_LIMIT: usize = 128;

/// The manager that a write is made as: the one it names, or its User-Agent up to the first slash.
fn manager(call: &Call) -> String {
    if let Some(manager) = call.query.get("fieldManager") {
        return manager.to_owned();
    }
    let agent = call.headers.get(http::header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    match agent.split('/').next() {
        None | Some("") => "unknown".to_owned(),
        Some(product) => product.chars().take(NAME_LIMIT).collect(),
    }
}

/// 422 for a `fieldManager` that is none.
pub(crate) fn check_manager(call: &Call) -> Result<(), Status> {
    let Some(manager) = call.query.get("fieldManager") else { return Ok(()) };
    let fault = if manager.len() > NAME_LIMIT {
        schema::FieldError::new(
            schema::ErrorType::TooLong,
            "fieldManager",
            manager,
            format!("may not be more than {NAME_LIMIT} bytes"),
        )
    } else if let Some((at, letter)) = manager.chars().enumerate().find(|(_, letter)| letter.is_control()) {
        let why = format!("invalid character U+{:04X} (at position {at})", u32::from(letter));
        status::invalid("fieldManager", manager, why)
    } else {
        return Ok(());
    };
    Err(call.bad_option(fault))
}

/// Whether the request is a server-side apply.
pub(crate) fn applies(call: &Call) -> bool {
    media::content_type(&call.headers) == media::APPLY
}

/// Writes down who owns the fields of the next version. `given` is what it had as `managedFields`; `new` has none
/// yet. Both versions are in the stored form.
pub(crate) fn settle(call: &Call, old: Option<&Value>, new: &mut Value, given: Option<Value>) {
    // An apply has said who owns what; what the server itself does on the way of another request is nobody's.
    let settled = applies(call) || matches!(call.subresource.as_str(), "binding" | "eviction");
    let owners = if settled { given } else { with(call, |ownership| ownership.update(old, new, given.as_ref())) };
    if let Some(owners) = owners {
        object::metadata(new).insert("managedFields".into(), owners);
    }
}

/// Whether two versions are the same but for the times in `managedFields`.
pub(crate) fn same(old: &Value, new: &Value) -> bool {
    same_but(old, new, &["metadata", "managedFields", "time"])
}

fn same_but(old: &Value, new: &Value, path: &[&str]) -> bool {
    match (path, old, new) {
        ([], ..) => true,
        ([name, below @ ..], Value::Object(old), Value::Object(new)) => {
            let same = |(field, was): (&String, &Value)| {
                let is = new.get(field);
                is.is_some_and(|is| if field == name { same_but(was, is, below) } else { was == is })
            };
            old.len() == new.len() && old.iter().all(same)
        }
        (_, Value::Array(old), Value::Array(new)) => {
            old.len() == new.len() && old.iter().zip(new).all(|(was, is)| same_but(was, is, path))
        }
        _ => old == new,
    }
}

/// Applies a configuration in the form of the resource to the stored object, if there is one; answers in the form of
/// the resource.
pub(crate) fn apply(call: &Call, part: Part, live: Option<&Value>, config: &Value) -> Result<Value, Status> {
    let resource = &call.resource;
    let (version, kind) = (resource.api_version(), &resource.kind);
    if text(config, "/apiVersion") != version || text(config, "/kind") != kind {
        let (version, kind) = (text(config, "/apiVersion"), text(config, "/kind"));
        let slash = if version.contains('/') { "" } else { "/" };
        return Err(Status::bad_request(format!("invalid object type: {slash}{version}, Kind={kind}")));
    }
    if config.pointer("/metadata/managedFields").is_some_and(|fields| !fields.is_null()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let shown = live.map(|live| {
        let mut shown = live.clone();
        call.to_shown(&mut shown);
        shown
    });
    let mut config = config.clone();
    own_part(call, part, &mut config);
    let force = call.query.is_true("force");
    let applied = with(call, |ownership| ownership.apply(shown.as_ref(), &config, call.resource.type_id, force));
    applied.map_err(|error| match error {
        ApplyError::Conflict { message, causes } => {
            Status::new(409, "Conflict", message).with(status::Details::default()).because(causes)
        }
        ApplyError::Untyped(faults) => {
            let faults = match &faults[..] {
                [fault] => fault.clone(),
                _ => format!("errors:\n  {}", faults.join("\n  ")),
            };
            let (group, version) = (&resource.group, &resource.version);
            let what = format!("{}/{}; {group}/{version}, Kind={kind}", call.namespace, call.name);
            // Kubernetes answers 500 here; what a client got wrong is never a fault of this server.
            Status::bad_request(format!("failed to create typed patch object ({what}): {faults}"))
        }
    })
}

/// What a path is not about is not applied there.
fn own_part(call: &Call, part: Part, config: &mut Value) {
    let Value::Object(fields) = config else { return };
    match part {
        Part::Main if call.resource.subresource("status").is_some() => drop(fields.remove("status")),
        Part::Status => {
            fields.retain(|name, _| matches!(name.as_str(), "apiVersion" | "kind" | "metadata" | "status"));
            if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
                for field in ["finalizers", "ownerReferences", "generateName"] {
                    metadata.remove(field);
                }
            }
        }
        _ => {}
    }
}

fn with<T>(call: &Call, act: impl FnOnce(Ownership<'_>) -> T) -> T {
    let (manager, version, now) = (manager(call), call.resource.api_version(), admit::now());
    act(Ownership {
        registry: &call.server.registry,
        manager: &manager,
        version: &version,
        subresource: &call.subresource,
        now: &now,
        view: &|object, version| view(call, object, version),
    })
}

/// An object, stored or in the form of any resource of its kind, in the form of one version.
fn view<'a>(call: &Call, object: &'a Value, version: &str) -> Option<(TypeId, Cow<'a, Value>)> {
    let has = text(object, "/apiVersion");
    let own = call.conversion.is_none() && version == has;
    if own && call.resource.version == version.rsplit('/').next().unwrap_or_default() {
        return Some((call.resource.type_id, Cow::Borrowed(object)));
    }
    let (group, number) = version.rsplit_once('/').unwrap_or(("", version));
    let resource = call.server.registry.resource(group, number, &call.resource.plural)?;
    if stored_under(resource) != *call.stored {
        return None;
    }
    let mut other = Cow::Borrowed(object);
    if has != version {
        // From the form of the call's resource over the stored one.
        if has == call.resource.api_version() {
            call.to_stored(other.to_mut());
        }
        if let Some(conversion) = hook::conversion(resource) {
            (conversion.outward)(other.to_mut());
        }
    }
    Some((resource.type_id, other))
}
