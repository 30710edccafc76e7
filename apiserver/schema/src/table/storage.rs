use serde_json::Value;

use super::Row;
use super::cells::{or, text};

const DEFAULT_CLASS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

pub(super) fn volume(row: &Row<'_>) -> Vec<Value> {
    let claim = match row.at("/spec/claimRef") {
        Some(claim) => format!("{}/{}", text(claim, "namespace"), text(claim, "name")),
        None => String::new(),
    };
    vec![
        row.name().into(),
        row.text("/spec/capacity/storage", "").into(),
        modes(row.list("/spec/accessModes")).into(),
        row.text("/spec/persistentVolumeReclaimPolicy", "").into(),
        phase(row).into(),
        claim.into(),
        row.text("/spec/storageClassName", "").into(),
        row.text("/spec/volumeAttributesClassName", "<unset>").into(),
        row.text("/status/reason", "").into(),
        row.age("/metadata/creationTimestamp").into(),
        row.text("/spec/volumeMode", "<unset>").into(),
    ]
}

pub(super) fn claim(row: &Row<'_>) -> Vec<Value> {
    let bound = !row.text("/spec/volumeName", "").is_empty();
    let when_bound = |text: String| if bound { text } else { String::new() };
    vec![
        row.name().into(),
        phase(row).into(),
        row.text("/spec/volumeName", "").into(),
        when_bound(row.text("/status/capacity/storage", "").to_owned()).into(),
        when_bound(modes(row.list("/status/accessModes"))).into(),
        row.text("/spec/storageClassName", "").into(),
        row.text("/spec/volumeAttributesClassName", "<unset>").into(),
        row.age("/metadata/creationTimestamp").into(),
        row.text("/spec/volumeMode", "<unset>").into(),
    ]
}

fn phase<'a>(row: &Row<'a>) -> &'a str {
    if row.is_deleted() { "Terminating" } else { row.text("/status/phase", "") }
}

/// Access modes in their short forms and their order.
fn modes(modes: &[Value]) -> String {
    const SHORT: [(&str, &str); 4] =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let has = |mode: &str| modes.iter().any(|other| other == mode);
    let short = SHORT.iter().filter(|(mode, _)| has(mode)).map(|(_, short)| *short);
    short.collect::<Vec<_>>().join(",")
}

pub(super) fn class_name(row: &Row<'_>) -> Value {
    let annotations = row.at("/metadata/annotations").unwrap_or(&Value::Null);
    let default = DEFAULT_CLASS.iter().any(|key| text(annotations, key) == "true");
    if default { format!("{} (default)", row.name()).into() } else { row.name().into() }
}

/// What is used of what is allowed, of the limits or of all else.
pub(super) fn quota(row: &Row<'_>, limits: bool) -> Value {
    let hard = row.map("/status/hard").into_iter().flatten();
    let wanted = hard.filter(|(name, _)| name.starts_with("limits") == limits);
    let texts = wanted.map(|(name, hard)| {
        let used = row.at("/status/used").map_or("", |used| text(used, name));
        format!("{name}: {}/{}", or(used, "0"), hard.as_str().unwrap_or_default())
    });
    texts.collect::<Vec<_>>().join(", ").into()
}
