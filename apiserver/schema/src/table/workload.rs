use serde_json::Value;

use super::Row;
use super::age::{human_duration, since};
use super::cells::text;

pub(super) fn ready(row: &Row<'_>) -> Value {
    format!("{}/{}", row.int("/status/readyReplicas"), row.int("/spec/replicas")).into()
}

pub(super) fn job_status(row: &Row<'_>) -> Value {
    let has = |ty: &str| {
        let mut all = row.list("/status/conditions").iter();
        all.any(|condition| text(condition, "type") == ty && text(condition, "status") == "True")
    };
    let named = |ty: &'static str| has(ty).then_some(ty);
    let status = named("Complete")
        .or_else(|| named("Failed"))
        .or_else(|| row.is_deleted().then_some("Terminating"))
        .or_else(|| named("Suspended"))
        .or_else(|| named("FailureTarget"))
        .or_else(|| named("SuccessCriteriaMet"));
    status.unwrap_or("Running").into()
}

pub(super) fn completions(row: &Row<'_>) -> Value {
    let done = row.int("/status/succeeded");
    let parallel = row.int("/spec/parallelism");
    match row.at("/spec/completions").and_then(Value::as_i64) {
        Some(wanted) => format!("{done}/{wanted}"),
        None if parallel > 1 => format!("{done}/1 of {parallel}"),
        None => format!("{done}/1"),
    }
    .into()
}

pub(super) fn job_duration(row: &Row<'_>) -> Value {
    let time = |pointer: &str| row.text(pointer, "").parse::<jiff::Timestamp>().ok();
    let end = time("/status/completionTime").unwrap_or(row.now);
    let start = time("/status/startTime");
    start.map_or(String::new(), |start| human_duration(end.duration_since(start).as_secs())).into()
}

pub(super) fn suspended(row: &Row<'_>) -> Value {
    match row.at("/spec/suspend") {
        Some(Value::Bool(true)) => "True",
        Some(_) => "False",
        None => "<unset>",
    }
    .into()
}

pub(super) fn last_schedule(row: &Row<'_>) -> Value {
    since(row.text("/status/lastScheduleTime", ""), row.now).unwrap_or_else(|| "<none>".to_owned()).into()
}

pub(super) fn owner(row: &Row<'_>) -> Value {
    let mut owners = row.list("/metadata/ownerReferences").iter();
    let Some(owner) = owners.find(|owner| owner.get("controller") == Some(&Value::Bool(true))) else {
        return "<none>".into();
    };
    let kind = text(owner, "kind").to_lowercase();
    let group = text(owner, "apiVersion").split_once('/').map_or(String::new(), |(group, _)| format!(".{group}"));
    format!("{kind}{group}/{}", text(owner, "name")).into()
}

/// A number or a percentage; `N/A` when it is absent.
pub(super) fn int_or_string(row: &Row<'_>, pointer: &str) -> Value {
    match row.at(pointer) {
        Some(Value::String(text)) => text.as_str().into(),
        Some(other) => other.to_string().into(),
        None => "N/A".into(),
    }
}

pub(super) fn scale_target(row: &Row<'_>) -> Value {
    let target = |field: &str| row.text(field, "");
    format!("{}/{}", target("/spec/scaleTargetRef/kind"), target("/spec/scaleTargetRef/name")).into()
}

pub(super) fn min_replicas(row: &Row<'_>) -> Value {
    row.at("/spec/minReplicas").map_or("<unset>".to_owned(), Value::to_string).into()
}

/// What each metric is at and what it should be.
pub(super) fn scale_metrics(row: &Row<'_>) -> Value {
    if let Some(target) = row.at("/spec/targetCPUUtilizationPercentage") {
        let current = row.at("/status/currentCPUUtilizationPercentage");
        let current = current.map_or("<unknown>".to_owned(), |percent| format!("{percent}%"));
        return format!("cpu: {current}/{target}%").into();
    }
    let current = row.list("/status/currentMetrics");
    let metrics = row.list("/spec/metrics").iter().enumerate();
    let texts: Vec<String> = metrics.map(|(at, metric)| scale_metric(metric, current.get(at))).collect();
    match texts.len() {
        0 => "<none>".into(),
        1 | 2 => texts.join(", ").into(),
        more => format!("{} + {} more...", texts[..2].join(", "), more - 2).into(),
    }
}

fn scale_metric(metric: &Value, current: Option<&Value>) -> String {
    let ty = text(metric, "type");
    let field = match ty {
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        "Pods" => "pods",
        "Object" => "object",
        "External" => "external",
        _ => return "<unknown type>".to_owned(),
    };
    let target = metric.pointer(&format!("/{field}/target"));
    let current = current.and_then(|current| current.pointer(&format!("/{field}/current")));
    let amount = |from: Option<&Value>| {
        let from = from?;
        if let Some(percent) = from.get("averageUtilization").and_then(Value::as_i64) {
            return Some(format!("{percent}%"));
        }
        let value = text(from, "averageValue");
        let value = if value.is_empty() { text(from, "value") } else { value };
        (!value.is_empty()).then(|| value.to_owned())
    };
    let unknown = || "<unknown>".to_owned();
    let text = format!("{}/{}", amount(current).unwrap_or_else(unknown), amount(target).unwrap_or_else(unknown));
    match field {
        "resource" | "containerResource" => format!("{}: {text}", self::text(&metric[field], "name")),
        _ => text,
    }
}
