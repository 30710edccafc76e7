use serde_json::{Map, Value};

use super::{immutable, items, text};
use crate::field_error::Report;
use crate::path::Path;
use crate::quantity;

const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
/// The fields of a PersistentVolume's spec that are no source of storage.
const NO_SOURCES: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];
/// The fields of a claim's spec that may change: the controllers bind it and it may grow.
const CLAIM_FREE: [&str; 4] = ["resources", "storageClassName", "volumeAttributesClassName", "volumeName"];

pub(super) fn claim(report: &mut Report, claim: &Value, old: Option<&Value>) {
    let path = Path::Root.field("spec");
    let spec = claim.get("spec").unwrap_or(&Value::Null);
    modes(report, &path, spec, "at least 1 access mode is required");
    mode(report, &path, spec);
    let size = |value: Option<&Value>| value.and_then(Value::as_str).and_then(quantity::parse);
    let wanted = spec.pointer("/resources/requests/storage");
    match (wanted, size(wanted)) {
        (None, _) => report.required(&path.field("resources").key("storage"), ""),
        (Some(wanted), Some(size)) if size <= quantity::Quantity::default() => {
            report.invalid(&path.field("resources").key("storage"), wanted.clone(), "must be greater than zero");
        }
        _ => {}
    }
    if let Some(is) = claim.pointer("/status/capacity/storage")
        && size(wanted) < size(Some(is))
    {
        let path = path.field("resources");
        let path = path.field("requests");
        report.forbidden(&path.field("storage"), "field can not be less than status.capacity");
    }
    let Some(old) = old.and_then(|old| old.get("spec")) else { return };
    let bound_elsewhere = ["volumeName", "storageClassName"]
        .iter()
        .any(|field| !text(old, field).is_empty() && text(old, field) != text(spec, field));
    if bound_elsewhere || fixed(spec) != fixed(old) {
        let detail = "spec is immutable after creation except resources.requests and \
            volumeAttributesClassName for bound claims";
        report.forbidden(&path, detail);
    }
}

fn fixed(spec: &Value) -> Map<String, Value> {
    let fields = spec.as_object().into_iter().flatten();
    let fields = fields.filter(|(field, _)| !CLAIM_FREE.contains(&field.as_str()));
    fields.map(|(field, value)| (field.clone(), value.clone())).collect()
}

pub(super) fn volume(report: &mut Report, volume: &Value, old: Option<&Value>) {
    let path = Path::Root.field("spec");
    let spec = volume.get("spec").unwrap_or(&Value::Null);
    modes(report, &path, spec, "");
    let capacity = spec.get("capacity").and_then(Value::as_object);
    match capacity {
        None => report.required(&path.field("capacity"), ""),
        Some(capacity) if !capacity.contains_key("storage") || capacity.len() > 1 => {
            let keys: Vec<&str> = capacity.keys().map(String::as_str).collect();
            report.not_supported(&path.field("capacity"), keys, &["storage"]);
        }
        Some(_) => {}
    }
    let sources = spec.as_object().into_iter().flatten();
    let mut sources = sources.map(|(field, _)| field.as_str()).filter(|field| !NO_SOURCES.contains(field));
    if sources.next().is_none() {
        report.required(&path, "must specify a volume type");
    }
    for source in sources {
        report.forbidden(&path.field(source), "may not specify more than 1 volume type");
    }
    mode(report, &path, spec);
    let Some(old) = old.and_then(|old| old.get("spec")) else { return };
    let sources = |spec: &Value| {
        let fields = spec.as_object().cloned().unwrap_or_default();
        fields.into_iter().filter(|(field, _)| !NO_SOURCES.contains(&field.as_str())).collect::<Map<_, _>>()
    };
    if sources(spec) != sources(old) {
        let detail = "spec.persistentvolumesource is immutable after creation";
        report.forbidden(&path.field("persistentvolumesource"), detail);
    }
    immutable(report, &path, spec, old, "volumeMode");
}

fn mode(report: &mut Report, path: &Path<'_>, spec: &Value) {
    let mode = text(spec, "volumeMode");
    if !matches!(mode, "" | "Block" | "Filesystem") {
        report.not_supported(&path.field("volumeMode"), mode, &["Block", "Filesystem"]);
    }
}

fn modes(report: &mut Report, path: &Path<'_>, spec: &Value, detail: &str) {
    let path = path.field("accessModes");
    let modes = items(spec, "accessModes");
    if modes.is_empty() {
        report.required(&path, detail);
    }
    for mode in modes.iter().filter_map(Value::as_str).filter(|mode| !MODES.contains(mode)) {
        report.not_supported(&path, mode, &MODES);
    }
}

pub(super) fn class(report: &mut Report, class: &Value, old: Option<&Value>) {
    if text(class, "provisioner").is_empty() {
        report.required(&Path::Root.field("provisioner"), "");
    }
    for (field, supported) in
        [("reclaimPolicy", ["Delete", "Retain"]), ("volumeBindingMode", ["Immediate", "WaitForFirstConsumer"])]
    {
        report.one_of(&Path::Root.field(field), text(class, field), &supported);
    }
    let Some(old) = old else { return };
    for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
        if class.get(field) != old.get(field) {
            let detail = format!("updates to {field} are forbidden.");
            report.forbidden(&Path::Root.field(field), detail);
        }
    }
}
