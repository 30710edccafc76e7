use serde_json::{Value, json};

use super::{Object, child, fill, made, set, text};

/// The rolling update's own defaults are in the table; this makes the place for them.
pub(super) fn rolling_update(strategy: &mut Object) {
    if matches!(text(strategy, "type"), "" | "RollingUpdate") {
        made(strategy, "rollingUpdate");
    }
}

/// An autoscaler that says how it scales in one direction says so in both, and in full.
pub(super) fn scaling_rules(behavior: &mut Object) {
    let double = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    for (direction, policies) in [("scaleUp", json!([pods, double])), ("scaleDown", json!([double]))] {
        let Some(rules) = made(behavior, direction) else { continue };
        if direction == "scaleUp" {
            fill(rules, "stabilizationWindowSeconds", 0);
        }
        fill(rules, "selectPolicy", "Max");
        fill(rules, "policies", policies);
    }
}

/// Labels and selector come from the template.
pub(super) fn replication_controller(controller: &mut Object) {
    let labels = template_labels(controller);
    if let (Some(spec), Some(labels)) = (child(controller, "spec"), &labels) {
        fill(spec, "selector", labels.clone());
    }
    copy_labels(controller, labels);
}

pub(super) fn job(job: &mut Object) {
    bind_job(job);
    let labels = template_labels(job);
    copy_labels(job, labels);
    let Some(spec) = child(job, "spec") else {
        return;
    };
    if !spec.contains_key("parallelism") {
        fill(spec, "completions", 1);
    }
    fill(spec, "parallelism", 1);
    let per_index = spec.contains_key("backoffLimitPerIndex");
    fill(spec, "backoffLimit", if per_index { i32::MAX } else { 6 });
    fill(spec, "completionMode", "NonIndexed");
    fill(spec, "suspend", false);
    let replacement = if spec.contains_key("podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    fill(spec, "podReplacementPolicy", replacement);
}

fn template_labels(object: &mut Object) -> Option<Value> {
    let template = child(child(object, "spec")?, "template")?;
    child(template, "metadata")?.get("labels").cloned()
}

fn copy_labels(object: &mut Object, labels: Option<Value>) {
    if let (Some(labels), Some(metadata)) = (labels, made(object, "metadata")) {
        fill(metadata, "labels", labels);
    }
}

/// Gives a Job that does not select its pods itself the selector and the labels that bind it to
/// its own pods, once it has its uid.
fn bind_job(job: &mut Object) {
    let Some(metadata) = child(job, "metadata") else { return };
    let (uid, name) = (text(metadata, "uid").to_owned(), text(metadata, "name").to_owned());
    let Some(spec) = child(job, "spec") else { return };
    let chosen = spec.contains_key("selector") || spec.get("manualSelector") == Some(&Value::Bool(true));
    if uid.is_empty() || chosen {
        return;
    }
    let labels = made(spec, "template").and_then(|template| made(template, "metadata"));
    if let Some(labels) = labels.and_then(|metadata| made(metadata, "labels")) {
        for (key, value) in [("controller-uid", &uid), ("job-name", &name)] {
            set(labels, key, value.as_str());
            set(labels, &format!("batch.kubernetes.io/{key}"), value.as_str());
        }
    }
    set(spec, "selector", json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}));
}
