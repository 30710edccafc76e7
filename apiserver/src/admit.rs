//! Admission: what every write passes between the verb and the store. Defaults, the kind's hook, rules.

use schema::{Cause, FieldError, Resource};
use serde_json::Value;
use store::Key;

use crate::call::Call;
use crate::hook::service::Reservation;
use crate::hook::{self, Conversion};
use crate::object::{self, copy, copy_metadata, is_deleting, list, text};
use crate::owners;
use crate::status::{Details, Status, forbidden};
use crate::verb::Part;

/// The present, as `metadata` has times: RFC 3339 in whole seconds.
pub(crate) fn now() -> String {
    stamp(jiff::Timestamp::now())
}

/// A time as `metadata` has it.
pub(crate) fn stamp(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// New objects need a namespace that is there and stays.
pub(crate) fn namespace(call: &Call, name: &str) -> Result<(), Status> {
    if call.namespace.is_empty() {
        return Ok(());
    }
    let namespaces = call.server.registry.resource("", "v1", "namespaces").ok_or_else(Status::no_such_path)?;
    let namespace = call.server.store.get(&Key::new("/namespaces", "", call.namespace.as_str()));
    let namespace = namespace.ok_or_else(|| Status::not_found(namespaces, &call.namespace))?;
    if !namespace.meta.deleting {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {} because it is being terminated", call.namespace);
    let cause = Cause {
        reason: "NamespaceTerminating",
        message: format!("namespace {} is being terminated", call.namespace),
        field: "metadata.namespace".into(),
    };
    Err(Status::forbidden(&call.resource, name, &why).because(vec![cause]))
}

/// Completes and checks a new object, and reserves what it needs.
pub(crate) fn create(call: &Call, name: &str, new: &mut Value) -> Result<Option<Reservation>, Status> {
    let (registry, resource, hook) = (&call.server.registry, &call.resource, call.hook());
    shallow(new)?;
    registry.set_defaults(new, stored(call).type_id);
    let given = object::metadata(new).remove("managedFields");
    owners::settle(call, None, new, given);
    (hook.create)(new);
    (hook.admit)(call, new)?;
    let mut causes = rules(call, None, new);
    causes.extend((hook.check)(None, new));
    if !causes.is_empty() {
        return Err(Status::invalid(resource, name, &causes));
    }
    call.warnings.add(&schema::warnings(stored(call), new, None));
    (hook.reserve)(&call.server, None, new).map_err(|causes| Status::invalid(resource, name, &causes))
}

/// What is nested too deep could be stored, but not read again. Managed fields are as deep as what they are about.
fn shallow(new: &Value) -> Result<(), Status> {
    let metadata = new["metadata"].as_object().into_iter().flatten().filter(|(name, _)| *name != "managedFields");
    let others = new.as_object().into_iter().flatten().filter(|(name, _)| *name != "metadata");
    match metadata.chain(others).any(|(_, value)| schema::is_too_deep(value)) {
        true => Err(Status::bad_request("the object is nested too deep")),
        false => Ok(()),
    }
}

/// Completes and checks the next version of an object. Afterwards `new` is what is to be stored, but for its revision.
pub(crate) fn update(call: &Call, part: Part, old: &Value, new: &mut Value) -> Result<Option<Reservation>, Status> {
    let (registry, resource, hook) = (&call.server.registry, &call.resource, call.hook());
    shallow(new)?;
    names(call, old, new)?;
    let given = object::metadata(new).remove("managedFields");
    keep(call, part, old, new);
    let mut causes = Vec::new();
    causes.extend(new_finalizers(old, new));
    registry.set_defaults(new, stored(call).type_id);
    owners::settle(call, Some(old), new, given);
    if part == Part::Main {
        (hook.update)(old, new);
        causes.extend((hook.check)(Some(old), new));
    }
    if call.subresource != "binding" {
        count(old, new);
    }
    match call.subresource.as_str() {
        sub @ ("ephemeralcontainers" | "resize") => {
            causes.extend(rules(call, None, new));
            causes.extend(hook::pod::check_part(sub, old, new));
        }
        _ => causes.extend(rules(call, Some(old), new)),
    }
    if !causes.is_empty() {
        return Err(Status::invalid(resource, &call.name, &causes));
    }
    if part != Part::Main {
        return Ok(None);
    }
    call.warnings.add(&schema::warnings(stored(call), new, Some(old)));
    (hook.reserve)(&call.server, Some(old), new).map_err(|causes| Status::invalid(resource, &call.name, &causes))
}

/// The resource of the stored form.
fn stored(call: &Call) -> &Resource {
    let of = |conversion: &Conversion| {
        let (group, version, kind) = conversion.stored;
        call.server.registry.kind(group, version, kind)
    };
    call.conversion.and_then(of).unwrap_or(&call.resource)
}

/// The rules that the table of kinds knows.
fn rules(call: &Call, old: Option<&Value>, new: &Value) -> Vec<FieldError> {
    schema::validate(stored(call), new, old)
}

/// An update names the object that it is for.
fn names(call: &Call, old: &Value, new: &Value) -> Result<(), Status> {
    let name = text(new, "/metadata/name");
    if name.is_empty() {
        let message =
            format!("the name of the object ({} based on URL) was undeterminable: name must be provided", call.name);
        return Err(Status::bad_request(message));
    }
    if name != call.name {
        let message = format!("the name of the object ({name}) does not match the name on the URL ({})", call.name);
        return Err(Status::bad_request(message));
    }
    let namespace = text(new, "/metadata/namespace");
    if !namespace.is_empty() && namespace != call.namespace {
        return Err(Status::bad_request(format!(
            "the namespace of the object ({namespace}) does not match the namespace on the request ({})",
            call.namespace
        )));
    }
    let (uid, is) = (text(new, "/metadata/uid"), text(old, "/metadata/uid"));
    if !uid.is_empty() && uid != is {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {is}");
        return Err(Status::conflict(&call.resource, &call.name, &why));
    }
    Ok(())
}

/// What an update of one part cannot change comes from the old version.
fn keep(call: &Call, part: Part, old: &Value, new: &mut Value) {
    match part {
        Part::Main => {
            if call.resource.subresource("status").is_some() {
                copy("status", old, new);
            }
        }
        Part::Status => {
            let mut kept = old.clone();
            copy("status", new, &mut kept);
            copy_metadata(&["labels", "annotations"], new, &mut kept);
            *new = kept;
        }
        Part::All => {}
    }
    copy("apiVersion", old, new);
    copy("kind", old, new);
    let system = ["namespace", "uid", "creationTimestamp", "generation", "resourceVersion"];
    copy_metadata(&system, old, new);
    if part != Part::All {
        copy_metadata(&["deletionTimestamp", "deletionGracePeriodSeconds"], old, new);
    }
    let metadata = object::metadata(new);
    metadata.remove("managedFields");
    metadata.remove("selfLink");
}

/// An object that is going takes no more finalizers.
fn new_finalizers(old: &Value, new: &Value) -> Option<FieldError> {
    let (had, has) = (list(old, "/metadata/finalizers"), list(new, "/metadata/finalizers"));
    let added: Vec<&Value> = has.iter().filter(|finalizer| !had.contains(finalizer)).collect();
    if !is_deleting(old) || added.is_empty() {
        return None;
    }
    let added: Vec<String> = added.iter().map(|name| name.to_string()).collect();
    let why = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
        added.join(", ")
    );
    Some(forbidden("metadata.finalizers", &why))
}

/// Built-in kinds whose objects have a generation, by group.
const COUNTED: [(&str, &[&str]); 12] = [
    ("", &["Pod", "PodTemplate", "ReplicationController"]),
    (
        "admissionregistration.k8s.io",
        &[
            "MutatingAdmissionPolicy",
            "MutatingAdmissionPolicyBinding",
            "MutatingWebhookConfiguration",
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicyBinding",
            "ValidatingWebhookConfiguration",
        ],
    ),
    ("apiextensions.k8s.io", &["CustomResourceDefinition"]),
    ("apps", &["DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"]),
    ("batch", &["CronJob", "Job"]),
    ("discovery.k8s.io", &["EndpointSlice"]),
    ("flowcontrol.apiserver.k8s.io", &["FlowSchema", "PriorityLevelConfiguration"]),
    ("networking.k8s.io", &["Ingress", "IngressClass", "NetworkPolicy"]),
    ("policy", &["PodDisruptionBudget"]),
    ("resource.k8s.io", &["DeviceClass", "ResourceSlice"]),
    ("scheduling.k8s.io", &["PriorityClass"]),
    ("storage.k8s.io", &["CSIDriver"]),
];

/// Whether new objects of the resource get a generation: custom ones always do.
pub(crate) fn is_counted(call: &Call) -> bool {
    let resource = &call.resource;
    let row = COUNTED.iter().find(|(group, _)| *group == resource.group);
    !call.server.registry.is_builtin(resource.type_id) || row.is_some_and(|(_, kinds)| kinds.contains(&&*resource.kind))
}

/// The generation counts the versions of everything but metadata and status.
fn count(old: &Value, new: &mut Value) {
    let Some(generation) = old.pointer("/metadata/generation").and_then(Value::as_i64) else { return };
    if !wish(old).eq(wish(new)) {
        object::metadata(new).insert("generation".into(), (generation + 1).into());
    }
}

fn wish(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let fields = object.as_object().into_iter().flatten();
    fields.filter(|(name, _)| !matches!(name.as_str(), "metadata" | "status"))
}

/// The details of a Status about one object that is there.
pub(crate) fn details(call: &Call, object: &Value) -> Details {
    Details {
        name: text(object, "/metadata/name").to_owned(),
        group: call.resource.group.to_string(),
        kind: call.resource.plural.to_string(),
        uid: text(object, "/metadata/uid").to_owned(),
        ..Details::default()
    }
}
