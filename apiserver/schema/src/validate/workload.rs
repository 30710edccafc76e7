use serde_json::{Map, Value};

use super::{cron, immutable, is_true, items, labels, non_negative, number, pod, text};
use crate::field_error::Report;
use crate::path::Path;
use crate::selector::LabelSelector;

mod rollout;

pub(super) use rollout::amount;

pub(super) fn deployment(report: &mut Report, object: &Value, old: Option<&Value>) {
    let (path, spec) = (Path::Root.field("spec"), spec(object));
    counts(report, &path, spec, &["replicas", "minReadySeconds", "revisionHistoryLimit"]);
    selector(report, &path, spec, "deployment");
    template(report, &path, spec, "ReplicaSet");
    rollout::deployment(report, &path.field("strategy"), spec);
    let deadline = number(spec, "progressDeadlineSeconds");
    if let Some(deadline) = deadline {
        non_negative(report, &path, spec, "progressDeadlineSeconds");
        if deadline <= number(spec, "minReadySeconds").unwrap_or(0) {
            let detail = "must be greater than minReadySeconds";
            report.invalid(&path.field("progressDeadlineSeconds"), deadline, detail);
        }
    }
    same_selector(report, &path, spec, old);
}

pub(super) fn replica_set(report: &mut Report, object: &Value, old: Option<&Value>) {
    let (path, spec) = (Path::Root.field("spec"), spec(object));
    counts(report, &path, spec, &["replicas", "minReadySeconds"]);
    selector(report, &path, spec, "deployment");
    template(report, &path, spec, "ReplicaSet");
    same_selector(report, &path, spec, old);
}

pub(super) fn daemon_set(report: &mut Report, object: &Value, old: Option<&Value>) {
    let (path, spec) = (Path::Root.field("spec"), spec(object));
    counts(report, &path, spec, &["minReadySeconds", "revisionHistoryLimit"]);
    selector(report, &path, spec, "daemonset");
    template(report, &path, spec, "DaemonSet");
    rollout::daemon_set(report, &path.field("updateStrategy"), spec);
    same_selector(report, &path, spec, old);
}

pub(super) fn stateful_set(report: &mut Report, object: &Value, old: Option<&Value>) {
    let (path, spec) = (Path::Root.field("spec"), spec(object));
    counts(report, &path, spec, &["replicas", "minReadySeconds", "revisionHistoryLimit"]);
    match text(spec, "podManagementPolicy") {
        "" => report.required(&path.field("podManagementPolicy"), ""),
        "OrderedReady" | "Parallel" => {}
        other => {
            let detail = "must be 'OrderedReady' or 'Parallel'";
            report.invalid(&path.field("podManagementPolicy"), other, detail);
        }
    }
    selector(report, &path, spec, "statefulset");
    template_with_claims(report, &path, spec);
    rollout::stateful_set(report, &path.field("updateStrategy"), spec);
    const FREE: [&str; 7] = [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ];
    if let Some(old) = old.map(self::spec)
        && without(spec, &FREE) != without(old, &FREE)
    {
        let detail = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
            'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
            'minReadySeconds' are forbidden";
        report.forbidden(&path, detail);
    }
}

pub(super) fn replication_controller(report: &mut Report, object: &Value, _: Option<&Value>) {
    let (path, spec) = (Path::Root.field("spec"), spec(object));
    counts(report, &path, spec, &["replicas", "minReadySeconds"]);
    let Some(labels) = spec.get("selector").and_then(Value::as_object).filter(|labels| !labels.is_empty()) else {
        return report.required(&path.field("selector"), "");
    };
    labels::labels(report, &path.field("selector"), spec.get("selector"));
    if spec.get("template").is_none() {
        return report.required(&path.field("template"), "");
    }
    matches_template(report, &path, spec, &LabelSelector::from_map(labels));
    template(report, &path, spec, "ReplicationController");
}

pub(super) fn job(report: &mut Report, object: &Value, old: Option<&Value>) {
    let (path, spec) = (Path::Root.field("spec"), spec(object));
    job_spec(report, &path, spec);
    match spec.get("selector") {
        None => report.required(&path.field("selector"), ""),
        Some(chosen) => {
            labels::selector(report, &path.field("selector"), chosen);
            if let Ok(chosen) = LabelSelector::from_object(Some(chosen)) {
                matches_template(report, &path, spec, &chosen);
            }
        }
    }
    if let Some(old) = old.map(self::spec) {
        immutable(report, &path, spec, old, "selector");
        immutable(report, &path, spec, old, "completionMode");
        let indexed = text(spec, "completionMode") == "Indexed";
        if !(indexed && spec.get("completions") == spec.get("parallelism")) {
            immutable(report, &path, spec, old, "completions");
        }
        if !is_true(old, "suspend") {
            immutable(report, &path, spec, old, "template");
        }
    }
}

pub(super) fn cron_job(report: &mut Report, object: &Value, _: Option<&Value>) {
    let (path, spec) = (Path::Root.field("spec"), spec(object));
    let schedule = text(spec, "schedule");
    if schedule.is_empty() {
        report.required(&path.field("schedule"), "");
    } else if schedule.contains("TZ=") {
        let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        report.invalid(&path.field("schedule"), schedule, detail);
    } else if let Err(why) = cron::check(schedule) {
        report.invalid(&path.field("schedule"), schedule, why);
    }
    counts(report, &path, spec, &["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"]);
    let policies = ["Allow", "Forbid", "Replace"];
    report.one_of(&path.field("concurrencyPolicy"), text(spec, "concurrencyPolicy"), &policies);
    let path = path.field("jobTemplate");
    let job = spec.get("jobTemplate").and_then(|template| template.get("spec")).unwrap_or(&Value::Null);
    job_spec(report, &path.field("spec"), job);
    if is_true(job, "manualSelector") {
        let detail = "`manualSelector` must be unset or false when `jobTemplate` is used";
        report.invalid(&path.field("spec").field("manualSelector"), true, detail);
    }
}

fn job_spec(report: &mut Report, path: &Path<'_>, spec: &Value) {
    let fields = ["parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"];
    counts(report, path, spec, &fields);
    if text(spec, "completionMode") == "Indexed" && number(spec, "completions").is_none() {
        report.required(&path.field("completions"), "when completion mode is Indexed");
    }
    let path = path.field("template");
    let template = spec.get("template").unwrap_or(&Value::Null);
    pod::template(report, &path, template);
    let policy = template.get("spec").map_or("", |spec| text(spec, "restartPolicy"));
    let path = path.field("spec");
    match policy {
        "Always" => report.required(&path.field("restartPolicy"), "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" | "Never" => {}
        other => report.not_supported(&path.field("restartPolicy"), other, &["OnFailure", "Never"]),
    }
}

fn spec(object: &Value) -> &Value {
    object.get("spec").unwrap_or(&Value::Null)
}

fn without(spec: &Value, fields: &[&str]) -> Map<String, Value> {
    let all = spec.as_object().into_iter().flatten();
    let kept = all.filter(|(field, _)| !fields.contains(&field.as_str()));
    kept.map(|(field, value)| (field.clone(), value.clone())).collect()
}

fn counts(report: &mut Report, path: &Path<'_>, spec: &Value, fields: &[&str]) {
    fields.iter().for_each(|field| non_negative(report, path, spec, field));
}

/// Workloads of apps/v1 have a selector, it is not empty, and it selects their own pods.
fn selector(report: &mut Report, path: &Path<'_>, spec: &Value, kind: &str) {
    let selector_path = path.field("selector");
    let Some(chosen) = spec.get("selector") else {
        return report.required(&selector_path, "");
    };
    labels::selector(report, &selector_path, chosen);
    if labels::is_empty(chosen) {
        let detail = format!("empty selector is invalid for {kind}");
        return report.invalid(&selector_path, chosen.clone(), detail);
    }
    if let Ok(chosen) = LabelSelector::from_object(Some(chosen)) {
        matches_template(report, path, spec, &chosen);
    }
}

fn matches_template(report: &mut Report, path: &Path<'_>, spec: &Value, selector: &LabelSelector) {
    let labels = spec.pointer("/template/metadata/labels");
    if !selector.matches_labels(labels) {
        let path = path.field("template");
        let path = path.field("metadata");
        let value = labels.cloned().unwrap_or(Value::Null);
        report.invalid(&path.field("labels"), value, "`selector` does not match template `labels`");
    }
}

fn same_selector(report: &mut Report, path: &Path<'_>, spec: &Value, old: Option<&Value>) {
    if let Some(old) = old {
        immutable(report, path, spec, self::spec(old), "selector");
    }
}

/// The pods of a workload run for ever.
fn template(report: &mut Report, path: &Path<'_>, spec: &Value, kind: &str) {
    let path = path.field("template");
    let template = spec.get("template").unwrap_or(&Value::Null);
    pod::template(report, &path, template);
    let path = path.field("spec");
    let pod = self::spec(template);
    let policy = text(pod, "restartPolicy");
    if !policy.is_empty() && policy != "Always" {
        report.not_supported(&path.field("restartPolicy"), policy, &["Always"]);
    }
    if pod.get("activeDeadlineSeconds").is_some() {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        report.forbidden(&path.field("activeDeadlineSeconds"), detail);
    }
}

/// The claims of a StatefulSet are volumes of its pods by their names.
fn template_with_claims(report: &mut Report, path: &Path<'_>, spec: &Value) {
    let mut spec = spec.clone();
    let claims: Vec<Value> = items(&spec, "volumeClaimTemplates")
        .iter()
        .filter_map(|claim| claim.pointer("/metadata/name").cloned())
        .collect();
    if let Some(pod) = spec.pointer_mut("/template/spec").and_then(Value::as_object_mut)
        && !claims.is_empty()
    {
        let volumes = pod.entry("volumes").or_insert_with(|| Value::Array(Vec::new()));
        if let Some(volumes) = volumes.as_array_mut() {
            volumes.retain(|volume| !claims.iter().any(|claim| volume.get("name") == Some(claim)));
            volumes.extend(claims.iter().map(|name| serde_json::json!({"name": name, "ephemeral": {}})));
        }
    }
    template(report, path, &spec, "StatefulSet");
}
