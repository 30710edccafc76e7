use http::Response;
use serde_json::{Value, json};

use crate::answer;
use crate::body::Body;
use crate::call::Call;
use crate::object::{self, copy, list, text};
use crate::status::Status;
use crate::verb::{Part, modify};

/// The finalizer that the namespace controller takes away when a namespace is empty.
const FINALIZER: &str = "kubernetes";
/// The label by which selectors can name a namespace.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

pub(super) fn create(namespace: &mut Value) {
    let spec = object::map(namespace, "spec");
    let finalizers = spec.entry("finalizers").or_insert_with(|| json!([]));
    if let Value::Array(finalizers) = finalizers
        && !finalizers.iter().any(|finalizer| finalizer == FINALIZER)
    {
        finalizers.push(FINALIZER.into());
    }
    namespace["status"] = json!({"phase": "Active"});
    label(namespace);
}

/// The finalizers of the spec change by the finalize subresource only.
pub(super) fn update(old: &Value, new: &mut Value) {
    copy("spec", old, new);
    label(new);
}

pub(super) fn deleting(namespace: &mut Value) {
    object::map(namespace, "status").insert("phase".into(), "Terminating".into());
}

fn label(namespace: &mut Value) {
    let name = text(namespace, "/metadata/name").to_owned();
    let labels = object::metadata(namespace).entry("labels").or_insert_with(|| json!({}));
    if let Value::Object(labels) = labels {
        labels.insert(NAME_LABEL.into(), name.into());
    }
}

/// `PUT …/finalize`: sets the finalizers of the spec; with the last one a namespace that is terminating goes.
pub(crate) async fn finalize(call: &Call) -> Result<Response<Body>, Status> {
    let (new, warnings) = call.read_object()?;
    let bytes = modify(call, Part::All, |old| {
        let mut edited = old.clone();
        let metadata = object::metadata(&mut edited);
        if let Some(version) = new.pointer("/metadata/resourceVersion") {
            metadata.insert("resourceVersion".into(), version.clone());
        }
        let finalizers = list(&new, "/spec/finalizers");
        let spec = object::map(&mut edited, "spec");
        if finalizers.is_empty() {
            spec.remove("finalizers");
        } else {
            spec.insert("finalizers".into(), json!(finalizers));
        }
        Ok(edited)
    });
    answer::object(call, 200, &bytes.await?, &warnings)
}
