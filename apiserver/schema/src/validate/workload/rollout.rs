use serde_json::Value;

use super::super::{non_negative, text};
use crate::field_error::Report;
use crate::path::Path;

pub(super) fn deployment(report: &mut Report, path: &Path<'_>, spec: &Value) {
    let strategy = spec.get("strategy").unwrap_or(&Value::Null);
    let rolling = strategy.get("rollingUpdate");
    match (text(strategy, "type"), rolling) {
        ("Recreate", Some(_)) => {
            let detail = "may not be specified when strategy `type` is 'Recreate'";
            report.forbidden(&path.field("rollingUpdate"), detail);
        }
        ("Recreate", None) => {}
        ("RollingUpdate", rolling) => {
            pair(report, &path.field("rollingUpdate"), rolling, |unavailable, surge| unavailable == 0 && surge == 0);
        }
        (other, _) => report.one_of(&path.field("type"), other, &["Recreate", "RollingUpdate"]),
    }
}

pub(super) fn daemon_set(report: &mut Report, path: &Path<'_>, spec: &Value) {
    let strategy = spec.get("updateStrategy").unwrap_or(&Value::Null);
    match text(strategy, "type") {
        "OnDelete" => {}
        "RollingUpdate" => {
            let rolling = strategy.get("rollingUpdate");
            pair(report, &path.field("rollingUpdate"), rolling, |unavailable, surge| {
                (unavailable == 0) == (surge == 0)
            });
        }
        other => report.one_of(&path.field("type"), other, &["OnDelete", "RollingUpdate"]),
    }
}

pub(super) fn stateful_set(report: &mut Report, path: &Path<'_>, spec: &Value) {
    let strategy = spec.get("updateStrategy").unwrap_or(&Value::Null);
    match (text(strategy, "type"), strategy.get("rollingUpdate")) {
        ("OnDelete", Some(rolling)) => {
            let detail = "only allowed for updateStrategy 'RollingUpdate'";
            report.invalid(&path.field("rollingUpdate"), rolling.clone(), detail);
        }
        ("RollingUpdate", Some(rolling)) => {
            non_negative(report, &path.field("rollingUpdate"), rolling, "partition");
        }
        ("OnDelete" | "RollingUpdate", None) => {}
        (other, _) => report.one_of(&path.field("type"), other, &["OnDelete", "RollingUpdate"]),
    }
}

/// How many pods may be missing and how many too many; `stuck` tells the pairs that would never
/// get on.
fn pair(report: &mut Report, path: &Path<'_>, rolling: Option<&Value>, stuck: fn(i64, i64) -> bool) {
    let Some(rolling) = rolling else {
        return report.required(path, "this should be defaulted and never be nil");
    };
    let unavailable = amount(report, &path.field("maxUnavailable"), rolling.get("maxUnavailable"));
    let surge = amount(report, &path.field("maxSurge"), rolling.get("maxSurge"));
    if let (Some(unavailable), Some(surge)) = (unavailable, surge)
        && stuck(unavailable, surge)
    {
        let value = rolling.get("maxUnavailable").cloned().unwrap_or(Value::Null);
        let detail =
            if surge == 0 { "may not be 0 when `maxSurge` is 0" } else { "may not be set when `maxSurge` is set" };
        report.invalid(&path.field("maxUnavailable"), value, detail);
    }
    if unavailable.is_some_and(|percent| percent > 100) && rolling["maxUnavailable"].is_string() {
        let value = rolling["maxUnavailable"].clone();
        report.invalid(&path.field("maxUnavailable"), value, "must not be greater than 100%");
    }
}

/// A number or a percentage, as its number.
pub(in super::super) fn amount(report: &mut Report, path: &Path<'_>, value: Option<&Value>) -> Option<i64> {
    match value {
        Some(Value::String(text)) => {
            let digits = text.strip_suffix('%').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            let percent = digits.and_then(|digits| digits.parse().ok());
            if percent.is_none() {
                let detail = "a valid percent string must be a numeric string followed by an ending '%' \
                    (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
                report.invalid(path, text.as_str(), detail);
            }
            percent
        }
        value => {
            let number = value.and_then(Value::as_i64).unwrap_or(0);
            if number < 0 {
                report.invalid(path, number, "must be greater than or equal to 0");
            }
            Some(number)
        }
    }
}
