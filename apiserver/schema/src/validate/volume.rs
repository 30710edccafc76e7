use std::collections::BTreeSet;

use serde_json::Value;

use super::container::{no_backsteps, relative};
use super::{items, number, text};
use crate::field_error::Report;
use crate::names;
use crate::path::Path;

const HOST_PATHS: [&str; 8] =
    ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

/// Checks the volumes of a pod and answers their names.
pub(super) fn volumes<'a>(report: &mut Report, path: &Path<'_>, volumes: &'a [Value]) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    for (at, volume) in volumes.iter().enumerate() {
        let path = path.item(at);
        let name = text(volume, "name");
        let wrong = if name.is_empty() { Vec::new() } else { names::dns_label(name) };
        if name.is_empty() {
            report.required(&path.field("name"), "");
        } else if wrong.is_empty() && !seen.insert(name) {
            report.duplicate(&path.field("name"), name);
        }
        report.invalid_all(&path.field("name"), name, wrong);
        let sources = volume.as_object().into_iter().flatten().filter(|(field, _)| *field != "name");
        let mut count = 0;
        for (field, source) in sources {
            let path = path.field(field);
            if count > 0 {
                report.forbidden(&path, "may not specify more than 1 volume type");
            } else {
                self::source(report, &path, field, source);
            }
            count += 1;
        }
        if count == 0 {
            report.required(&path, "must specify a volume type");
        }
    }
    seen
}

fn source(report: &mut Report, path: &Path<'_>, kind: &str, source: &Value) {
    let required = match kind {
        "configMap" => Some("name"),
        "secret" => Some("secretName"),
        "hostPath" => Some("path"),
        "persistentVolumeClaim" => Some("claimName"),
        _ => None,
    };
    if let Some(field) = required.filter(|field| text(source, field).is_empty()) {
        report.required(&path.field(field), "");
    }
    match kind {
        "hostPath" => {
            no_backsteps(report, &path.field("path"), text(source, "path"));
            let ty = text(source, "type");
            if !HOST_PATHS.contains(&ty) {
                report.not_supported(&path.field("type"), ty, &HOST_PATHS);
            }
        }
        "nfs" => {
            for field in ["server", "path"].iter().filter(|field| text(source, field).is_empty()) {
                report.required(&path.field(field), "");
            }
            if !text(source, "path").is_empty() && !text(source, "path").starts_with('/') {
                report.invalid(&path.field("path"), text(source, "path"), "must be an absolute path");
            }
        }
        _ => {}
    }
    if let Some(mode) = number(source, "defaultMode") {
        self::mode(report, &path.field("defaultMode"), mode);
    }
    if matches!(kind, "configMap" | "secret") {
        keys(report, &path.field("items"), items(source, "items"));
    }
}

/// Which keys become which files.
fn keys(report: &mut Report, path: &Path<'_>, keys: &[Value]) {
    for (at, item) in keys.iter().enumerate() {
        let path = path.item(at);
        for field in ["key", "path"] {
            if text(item, field).is_empty() {
                report.required(&path.field(field), "");
            }
        }
        relative(report, &path.field("path"), text(item, "path"));
        if let Some(mode) = number(item, "mode") {
            self::mode(report, &path.field("mode"), mode);
        }
    }
}

fn mode(report: &mut Report, path: &Path<'_>, mode: i64) {
    if !(0..=0o777).contains(&mode) {
        report.invalid(path, mode, "must be a number between 0 and 0777 (octal), both inclusive");
    }
}
