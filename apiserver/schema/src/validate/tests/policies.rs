//! Kinds that say what others may do, and what programs write down.

use serde_json::{Value, json};

use super::faults;

const CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

#[test]
fn network_policies() {
    let spec = |spec: Value| faults("networking.k8s.io", "NetworkPolicy", json!({"spec": spec}), None);
    let from = |peer: Value| spec(json!({"podSelector": {}, "ingress": [{"from": [peer]}]}));
    assert_eq!(from(json!({"ipBlock": {"cidr": "10.0.0.0/8"}})), Vec::<String>::new());
    assert_eq!(from(json!({})), ["spec.ingress[0].from[0]: Required value: must specify a peer"]);
    assert_eq!(
        from(json!({"podSelector": {}, "ipBlock": {"cidr": "x"}})),
        [
            "spec.ingress[0].from[0]: Forbidden: may not specify both ipBlock and another peer".to_owned(),
            format!("spec.ingress[0].from[0].ipBlock.cidr: Invalid value: \"x\": {CIDR}"),
        ]
    );
    assert_eq!(
        spec(json!({"podSelector": {}, "policyTypes": ["Both"]})),
        ["spec.policyTypes[0]: Unsupported value: \"Both\": supported values: \"Egress\", \"Ingress\""]
    );
    assert_eq!(
        spec(json!({"podSelector": {}, "egress": [{"ports": [{"port": 80, "endPort": 79}, {"endPort": 1}]}]})),
        [
            "spec.egress[0].ports[0].endPort: Invalid value: 79: must be greater than or equal to `port`",
            "spec.egress[0].ports[1].endPort: Invalid value: 1: may not be specified when `port` is not specified",
        ]
    );
}

#[test]
fn quotas_and_limits() {
    let quota = |hard: Value| faults("", "ResourceQuota", json!({"spec": {"hard": hard}}), None);
    let good = json!({"pods": "4", "requests.cpu": "1", "limits.memory": "1Gi", "count/deployments.apps": "2"});
    assert_eq!(quota(good), Vec::<String>::new());
    assert_eq!(
        quota(json!({"pods": "-1"})),
        ["spec.hard[pods]: Invalid value: \"-1\": must be greater than or equal to 0"]
    );
    assert_eq!(quota(json!({"pots": "1"})).len(), 2);
    let limits = |limit: Value| faults("", "LimitRange", json!({"spec": {"limits": [limit]}}), None);
    assert_eq!(limits(json!({"type": "Container", "max": {"cpu": "1"}, "min": {"cpu": "100m"}})), Vec::<String>::new());
    assert_eq!(
        limits(json!({"type": "Pod", "max": {"cpu": "1"}, "min": {"cpu": "2"}})),
        ["spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1"]
    );
}

#[test]
fn budgets() {
    let spec = |spec: Value| faults("policy", "PodDisruptionBudget", json!({"spec": spec}), None);
    assert_eq!(spec(json!({"minAvailable": "50%"})), Vec::<String>::new());
    assert_eq!(
        spec(json!({"minAvailable": -1})),
        ["spec.minAvailable: Invalid value: -1: must be greater than or equal to 0"]
    );
    assert_eq!(
        spec(json!({"maxUnavailable": "101%"})),
        ["spec.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%"]
    );
    assert_eq!(spec(json!({"unhealthyPodEvictionPolicy": "Never"})).len(), 1);
}

#[test]
fn webhooks() {
    let faults = |webhook: Value| {
        faults("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", json!({"webhooks": [webhook]}), None)
    };
    let good = json!({
        "name": "a.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"url": "https://a"},
        "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
    });
    assert_eq!(faults(good), Vec::<String>::new());
    assert_eq!(
        faults(json!({"name": "a", "timeoutSeconds": 60, "rules": [{}]})),
        [
            "webhooks[0].name: Invalid value: \"a\": should be a domain with at least three segments separated by dots",
            "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
            "webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun",
            "webhooks[0].admissionReviewVersions: Required value: must specify one of v1, v1beta1",
            "webhooks[0].timeoutSeconds: Invalid value: 60: the timeout value must be between 1 and 30 seconds",
            "webhooks[0].rules[0].operations: Required value",
            "webhooks[0].rules[0].apiGroups: Required value",
            "webhooks[0].rules[0].apiVersions: Required value",
            "webhooks[0].rules[0].resources: Required value",
        ]
    );
}

#[test]
fn records_and_classes() {
    let lease = json!({"spec": {"leaseDurationSeconds": 0, "holderIdentity": ""}});
    for (group, kind, object, old, expected) in [
        (
            "coordination.k8s.io",
            "Lease",
            lease,
            None,
            vec![
                "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
                "spec.holderIdentity: Invalid value: \"\": must not be empty",
            ],
        ),
        (
            "",
            "Event",
            json!({"involvedObject": {"kind": "Pod", "namespace": "dev"}}),
            None,
            vec!["involvedObject.namespace: Invalid value: \"dev\": does not match event.namespace"],
        ),
        ("", "Event", json!({"involvedObject": {"kind": "Node"}}), None, vec![]),
        (
            "apps",
            "ControllerRevision",
            json!({"revision": -1}),
            None,
            vec![
                "data: Required value: data is mandatory",
                "revision: Invalid value: -1: must be greater than or equal to 0",
            ],
        ),
        (
            "networking.k8s.io",
            "IngressClass",
            json!({"spec": {"controller": "nginx"}}),
            Some(json!({"spec": {"controller": "example.com/nginx"}})),
            vec![
                "spec.controller: Invalid value: \"nginx\": must be a domain-prefixed path (such as \"acme.io/foo\")",
                "spec.controller: Invalid value: \"nginx\": field is immutable",
            ],
        ),
        (
            "node.k8s.io",
            "RuntimeClass",
            json!({"handler": "b"}),
            Some(json!({"handler": "a"})),
            vec!["handler: Invalid value: \"b\": field is immutable"],
        ),
        (
            "storage.k8s.io",
            "StorageClass",
            json!({"provisioner": "p", "reclaimPolicy": "Keep"}),
            None,
            vec!["reclaimPolicy: Unsupported value: \"Keep\": supported values: \"Delete\", \"Retain\""],
        ),
        (
            "scheduling.k8s.io",
            "PriorityClass",
            json!({"value": 1, "preemptionPolicy": "Never"}),
            Some(json!({"value": 1})),
            vec!["preemptionPolicy: Invalid value: \"Never\": field is immutable"],
        ),
        (
            "",
            "PersistentVolume",
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/b"}}}),
            Some(
                json!({"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/a"}}}),
            ),
            vec!["spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation"],
        ),
        (
            "",
            "PersistentVolumeClaim",
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "0"}}}}),
            None,
            vec!["spec.resources[storage]: Invalid value: \"0\": must be greater than zero"],
        ),
    ] {
        assert_eq!(faults(group, kind, object, old), expected, "{kind}");
    }
}
