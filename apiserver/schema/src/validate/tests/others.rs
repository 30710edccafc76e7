use serde_json::{Value, json};

use super::faults;

const GROUP: &str = "rbac.authorization.k8s.io";

#[test]
fn roles_and_bindings() {
    let role = |rule: Value| faults(GROUP, "Role", json!({"rules": [rule]}), None);
    let pods = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]});
    assert_eq!(role(pods), Vec::<String>::new());
    assert_eq!(
        role(json!({})),
        [
            "rules[0].verbs: Required value: verbs must contain at least one value",
            "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
            "rules[0].resources: Required value: resource rules must supply at least one resource",
        ]
    );
    assert_eq!(
        role(json!({"verbs": ["get"], "nonResourceURLs": ["/x"]})),
        ["rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs"]
    );
    let binding = |kind: &str, name: &str| json!({"roleRef": {"kind": kind, "name": name}, "subjects": [{"kind": "User", "name": "u"}]});
    let wrong = |binding: Value, old: Option<Value>| faults(GROUP, "RoleBinding", binding, old);
    assert_eq!(wrong(binding("Role", "r"), None), Vec::<String>::new());
    assert_eq!(
        wrong(binding("Pod", "r"), None),
        ["roleRef.kind: Unsupported value: \"Pod\": supported values: \"ClusterRole\", \"Role\""]
    );
    let changed = wrong(binding("Role", "s"), Some(binding("Role", "r")));
    assert!(changed[0].starts_with("roleRef: Invalid value: ") && changed[0].ends_with(": cannot change roleRef"));
}

#[test]
fn claims_and_volumes() {
    let claim =
        |size: &str, mode: &str| json!({"spec": {"accessModes": [mode], "resources": {"requests": {"storage": size}}}});
    let faults = |claim: Value, old: Option<Value>| faults("", "PersistentVolumeClaim", claim, old);
    assert_eq!(faults(claim("1Gi", "ReadWriteOnce"), None), Vec::<String>::new());
    assert_eq!(
        faults(json!({"spec": {}}), None),
        [
            "spec.accessModes: Required value: at least 1 access mode is required",
            "spec.resources[storage]: Required value",
        ]
    );
    assert_eq!(faults(claim("2Gi", "ReadWriteOnce"), Some(claim("1Gi", "ReadWriteOnce"))), Vec::<String>::new());
    let changed = faults(claim("1Gi", "ReadOnlyMany"), Some(claim("1Gi", "ReadWriteOnce")));
    assert!(changed[0].starts_with("spec: Forbidden: spec is immutable after creation except"));
    let volume = json!({"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}});
    assert_eq!(
        super::faults("", "PersistentVolume", volume, None),
        ["spec: Required value: must specify a volume type"]
    );
}

#[test]
fn ingresses() {
    let rule = |path: Value| {
        let spec = json!({"rules": [{"host": "a.b", "http": {"paths": [path]}}]});
        faults("networking.k8s.io", "Ingress", json!({"spec": spec}), None)
    };
    let backend = json!({"service": {"name": "s", "port": {"number": 80}}});
    assert_eq!(rule(json!({"path": "/", "pathType": "Prefix", "backend": backend})), Vec::<String>::new());
    let root = "spec.rules[0].http.paths[0]";
    assert_eq!(
        rule(json!({"path": "/", "backend": backend})),
        [format!("{root}.pathType: Required value: pathType must be specified")]
    );
    assert_eq!(
        rule(json!({"path": "x", "pathType": "Exact", "backend": {"service": {"name": "s"}}})),
        [
            format!("{root}.path: Invalid value: \"x\": must be an absolute path"),
            format!("{root}.backend: Required value: port name or number is required"),
        ]
    );
    let both = json!({"name": "http", "number": 80});
    for (backend, expected) in [
        (
            json!({"service": {"name": "s", "port": both}}),
            ": Invalid value: \"\": cannot set both port name & port number",
        ),
        (json!({}), ": Invalid value: \"\": resource or service backend is required"),
        (json!({"resource": {"kind": "Bucket"}}), ".resource.name: Required value"),
    ] {
        let found = rule(json!({"path": "/", "pathType": "Prefix", "backend": backend}));
        assert_eq!(found, [format!("{root}.backend{expected}")]);
    }
    let host = |host: &str| {
        let spec = json!({"rules": [{"host": host}], "tls": [{"hosts": [host]}]});
        let found = faults("networking.k8s.io", "Ingress", json!({"spec": spec}), None);
        found.into_iter().map(|text| text.split(": ").nth(3).unwrap_or_default()[..24].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(host("*.a.b"), Vec::<String>::new());
    assert_eq!(host("a.*.b"), ["a wildcard DNS-1123 subd"; 2]);
    assert_eq!(host("A.b"), ["a lowercase RFC 1123 sub"; 2]);
}

#[test]
fn autoscalers_nodes_and_classes() {
    let scaler = json!({"spec": {"minReplicas": 3, "maxReplicas": 2, "scaleTargetRef": {"kind": "Deployment"}}});
    assert_eq!(
        faults("autoscaling", "HorizontalPodAutoscaler", scaler, None),
        [
            "spec.maxReplicas: Invalid value: 2: must be greater than or equal to `minReplicas`",
            "spec.scaleTargetRef.name: Required value",
        ]
    );
    let node = |cidr: &str| json!({"spec": {"podCIDR": cidr, "taints": [{"key": "a", "effect": "NoSchedule"}]}});
    assert_eq!(faults("", "Node", node("10.0.0.0/24"), Some(node(""))), Vec::<String>::new());
    assert_eq!(
        faults("", "Node", node("10.0.1.0/24"), Some(node("10.0.0.0/24"))),
        ["spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid"]
    );
    let class = |value: i64| json!({"value": value});
    assert_eq!(
        faults("scheduling.k8s.io", "PriorityClass", class(2), Some(class(1))),
        ["value: Forbidden: may not be changed in an update."]
    );
}
