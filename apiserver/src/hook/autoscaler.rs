use serde_json::{Value, json};

use super::Conversion;
use crate::object::{list, text};

/// `autoscaling/v1` autoscalers are stored as `v2` ones.
pub(super) static CONVERSION: Conversion =
    Conversion { stored: ("autoscaling", "v2", "HorizontalPodAutoscaler"), inward, outward };

/// What v1 says in a number for the CPU is one of the metrics of v2: the part of the object, the number, the list of
/// metrics, and where a metric has the number.
const PARTS: [(&str, &str, &str, &str); 2] = [
    ("spec", "targetCPUUtilizationPercentage", "metrics", "target"),
    ("status", "currentCPUUtilizationPercentage", "currentMetrics", "current"),
];

fn inward(autoscaler: &mut Value) {
    autoscaler["apiVersion"] = "autoscaling/v2".into();
    for (part, number, metrics, value) in PARTS {
        let Some(fields) = autoscaler.get_mut(part).and_then(Value::as_object_mut) else { continue };
        if let Some(percentage) = fields.remove(number) {
            let mut measured = json!({"averageUtilization": percentage});
            if part == "spec" {
                measured["type"] = "Utilization".into();
            }
            fields.insert(metrics.into(), json!([{"type": "Resource", "resource": {"name": "cpu", value: measured}}]));
        }
    }
}

/// Other metrics than the one for the CPU are not shown.
fn outward(autoscaler: &mut Value) {
    autoscaler["apiVersion"] = "autoscaling/v1".into();
    for (part, number, metrics, value) in PARTS {
        let cpu = list(&autoscaler[part], &format!("/{metrics}"));
        let cpu = cpu.iter().find(|metric| text(metric, "/resource/name") == "cpu");
        let percentage =
            cpu.and_then(|metric| metric.pointer(&format!("/resource/{value}/averageUtilization"))).cloned();
        let Some(fields) = autoscaler.get_mut(part).and_then(Value::as_object_mut) else { continue };
        for field in [metrics, "behavior", "conditions"] {
            fields.remove(field);
        }
        if let Some(percentage) = percentage {
            fields.insert(number.into(), percentage);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let first = json!({
            "apiVersion": "autoscaling/v1", "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 80},
        });
        let mut autoscaler = first.clone();
        inward(&mut autoscaler);
        let metric = json!({"type": "Utilization", "averageUtilization": 80});
        assert_eq!(autoscaler["spec"]["metrics"][0]["resource"]["target"], metric);
        outward(&mut autoscaler);
        assert_eq!(autoscaler, first);
    }
}
