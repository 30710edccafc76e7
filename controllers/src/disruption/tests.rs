use serde_json::{Value, json};

use super::*;

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn budget(spec: Value, disrupted: Value) -> PodDisruptionBudget {
    let status = json!({
        "disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0,
        "disruptedPods": disrupted,
    });
    serde_json::from_value(json!({"metadata": {"generation": 3}, "spec": spec, "status": status})).unwrap()
}

fn pods(ready: &[bool]) -> Vec<Arc<Pod>> {
    let pod = |(at, ready): (usize, &bool)| {
        let status = if *ready { "True" } else { "False" };
        let pod = json!({
            "metadata": {"name": format!("p{at}"), "labels": {"app": "a"}},
            "status": {"conditions": [{"type": "Ready", "status": status}]},
        });
        Arc::new(serde_json::from_value(pod).unwrap())
    };
    ready.iter().enumerate().map(pod).collect()
}

#[test]
fn what_may_go() {
    let none = || json!({});
    for (spec, ready, sizes, evicted, expected) in [
        (json!({"minAvailable": 2}), &[true, true, true][..], 0, none(), (3, 2, 3, 1)),
        (json!({"minAvailable": 2}), &[true, true, false], 0, none(), (2, 2, 3, 0)),
        (json!({"minAvailable": "50%"}), &[true, true, true], 3, none(), (3, 2, 3, 1)),
        (json!({"maxUnavailable": 1}), &[true, true], 3, none(), (2, 2, 3, 0)),
        (json!({"maxUnavailable": "30%"}), &[true, true, true], 3, none(), (3, 2, 3, 1)),
        (json!({"maxUnavailable": 1}), &[true], 0, none(), (1, 0, 0, 0)),
        (json!({"minAvailable": 1}), &[true, true, true], 0, json!({"p0": "2025-12-31T23:59:00Z"}), (2, 1, 3, 1)),
        (json!({"minAvailable": 1}), &[true, true, true], 0, json!({"p0": "2025-12-31T23:50:00Z"}), (3, 1, 3, 2)),
        (json!({"minAvailable": 1}), &[true, true, true], 0, json!({"gone": "2025-12-31T23:59:59Z"}), (3, 1, 3, 2)),
    ] {
        let budget = budget(spec.clone(), evicted);
        let (status, again) = plan(&budget, &pods(ready), sizes, now());
        let is = (status.current_healthy, status.desired_healthy, status.expected_pods, status.disruptions_allowed);
        let (healthy, desired, pods, allowed) = expected;
        assert_eq!(is, (Some(healthy), Some(desired), Some(pods), Some(allowed)), "{spec}");
        assert_eq!(again.is_some(), status.disrupted_pods.is_some());
        assert_eq!(status.observed_generation, Some(3));
        let condition = &status.conditions.unwrap()[0];
        assert_eq!(condition.status == "True", allowed > 0);
    }
}

#[test]
fn selectors() {
    let pod = pods(&[true]).remove(0);
    for (selector, fits) in [
        (json!(null), false),
        (json!({}), true),
        (json!({"matchLabels": {"app": "a"}}), true),
        (json!({"matchLabels": {"app": "b"}}), false),
    ] {
        assert_eq!(selects(&budget(json!({"selector": selector}), json!({})), &pod), fits, "{selector}");
    }
}
