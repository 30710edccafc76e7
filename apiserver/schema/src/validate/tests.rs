use serde_json::{Value, json};

use super::validate;
use crate::registry::Registry;

mod others;
mod pods;
mod policies;
mod services;
mod workloads;

/// What is wrong with an object after it was read and defaulted, one text for each fault.
fn faults(group: &str, kind: &str, object: Value, old: Option<Value>) -> Vec<String> {
    let registry = Registry::builtin();
    let resource = registry.kind(group, "v1", kind).unwrap();
    let read = |mut object: Value| {
        if object.pointer("/metadata/name").is_none() {
            object["metadata"]["name"] = "x".into();
        }
        if resource.namespaced && object.pointer("/metadata/namespace").is_none() {
            object["metadata"]["namespace"] = "default".into();
        }
        assert_eq!(registry.prune(&mut object, resource.type_id), Ok(Vec::new()));
        registry.set_defaults(&mut object, resource.type_id);
        object
    };
    let old = old.map(read);
    validate(resource, &read(object), old.as_ref()).iter().map(ToString::to_string).collect()
}

/// Puts `value` where `pointer` leads in `object`.
fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match object.pointer_mut(parent).unwrap() {
        Value::Array(items) => items.push(value),
        parent => parent[key] = value,
    }
    object
}

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', \
    and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for \
    validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";

#[test]
fn names_and_other_metadata() {
    let meta = |meta: Value| faults("", "ConfigMap", json!({"metadata": meta}), None);
    for (value, expected) in [
        (json!({"name": "a.b-c"}), vec![]),
        (
            json!({"name": "", "generateName": "a-"}),
            vec!["metadata.name: Required value: name or generateName is required"],
        ),
        (json!({"labels": {"a": "b", "example.com/c": ""}}), vec![]),
        (json!({"finalizers": ["example.com/a", "kubernetes"]}), vec![]),
        (
            json!({"finalizers": ["mine"]}),
            vec![
                "metadata.finalizers[0]: Invalid value: \"mine\": name is neither a standard finalizer name nor is it fully qualified",
            ],
        ),
        (
            json!({"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": ""}]}),
            vec!["metadata.ownerReferences[0].uid: Invalid value: \"\": uid must not be empty"],
        ),
        (
            json!({"annotations": {"big": "x".repeat(262_144)}}),
            vec!["metadata.annotations: Too long: may not be more than 262144 bytes"],
        ),
    ] {
        assert_eq!(meta(value), expected);
    }
    let upper = meta(json!({"name": "Upper"}));
    assert!(
        upper[0].starts_with("metadata.name: Invalid value: \"Upper\": a lowercase RFC 1123 subdomain must consist")
    );
    let label = meta(json!({"labels": {"a b": "c/d"}}));
    assert!(label[0].starts_with("metadata.labels: Invalid value: \"a b\": name part must consist of"), "{label:?}");
    assert!(label[1].starts_with("metadata.labels: Invalid value: \"c/d\": a valid label must be"));
    let service = faults("", "Service", json!({"metadata": {"name": "1a"}, "spec": {"ports": [{"port": 1}]}}), None);
    assert!(service[0].starts_with("metadata.name: Invalid value: \"1a\": a DNS-1035 label must consist of"));
    let role = json!({"metadata": {"name": "system:a"}});
    assert_eq!(faults("rbac.authorization.k8s.io", "ClusterRole", role, None), Vec::<String>::new());
    let namespace = json!({"metadata": {"name": "a", "namespace": "b"}});
    assert_eq!(faults("", "Namespace", namespace, None), ["metadata.namespace: Forbidden: not allowed on this type"]);
    let renamed = faults("", "ConfigMap", json!({"metadata": {"name": "b"}}), Some(json!({"metadata": {"name": "a"}})));
    assert_eq!(renamed, ["metadata.name: Invalid value: \"b\": field is immutable"]);
}

fn pod() -> Value {
    json!({"spec": {"containers": [{"name": "c", "image": "i"}]}})
}

#[test]
fn pods() {
    let none = Vec::<String>::new();
    assert_eq!(faults("", "Pod", pod(), None), none);
    let handlers = json!({"exec": {"command": ["a"]}, "tcpSocket": {"port": 1}});
    let in_container = [
        ("name", json!(""), "name: Required value"),
        ("image", json!(""), "image: Required value"),
        ("image", json!(" i"), "image: Invalid value: \" i\": must not have leading or trailing whitespace"),
        (
            "imagePullPolicy",
            json!("Now"),
            "imagePullPolicy: Unsupported value: \"Now\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
        ),
        ("ports", json!([{"containerPort": 0}]), "ports[0].containerPort: Required value"),
        (
            "ports",
            json!([{"containerPort": 70000}]),
            "ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            "ports",
            json!([{"containerPort": 1, "protocol": "X"}]),
            "ports[0].protocol: Unsupported value: \"X\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ),
        (
            "ports",
            json!([{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]),
            "ports[1].name: Duplicate value: \"a\"",
        ),
        (
            "ports",
            json!([{"containerPort": 1, "name": "80"}]),
            "ports[0].name: Invalid value: \"80\": must contain at least one letter (a-z)",
        ),
        ("env", json!([{"value": "x"}]), "env[0].name: Required value"),
        (
            "env",
            json!([{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
            "env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
        ),
        ("volumeMounts", json!([{"name": "v", "mountPath": "/v"}]), "volumeMounts[0].name: Not found: \"v\""),
        (
            "resources",
            json!({"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}),
            "resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        ),
        (
            "resources",
            json!({"limits": {"cpu": "-1"}}),
            "resources.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
        ),
        ("livenessProbe", json!({}), "livenessProbe: Required value: must specify a handler type"),
        ("readinessProbe", handlers, "readinessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type"),
        (
            "livenessProbe",
            json!({"tcpSocket": {"port": "web"}, "successThreshold": 2}),
            "livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ),
        (
            "readinessProbe",
            json!({"httpGet": {"port": 0}}),
            "readinessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
    ];
    for (field, value, expected) in in_container {
        let found = faults("", "Pod", with(pod(), &format!("/spec/containers/0/{field}"), value), None);
        let first = found.first().map(String::as_str).unwrap_or_default();
        assert_eq!(first.strip_prefix("spec.containers[0]."), Some(expected));
    }
    let in_spec = [
        ("containers", json!([]), "spec.containers: Required value".to_owned()),
        ("containers", json!([{"name": "A", "image": "i"}]), format!("spec.containers[0].name: Invalid value: \"A\": {LABEL}")),
        ("containers", json!([{"name": "a", "image": "i"}, {"name": "a", "image": "i"}]), "spec.containers[1].name: Duplicate value: \"a\"".to_owned()),
        ("restartPolicy", json!("Sometimes"), "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"".to_owned()),
        ("dnsPolicy", json!("None"), "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None".to_owned()),
        ("volumes", json!([{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]), "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type".to_owned()),
        ("volumes", json!([{"name": "v"}, {"name": "v"}]), "spec.volumes[1].name: Duplicate value: \"v\"".to_owned()),
        ("volumes", json!([{"name": "v", "secret": {}}]), "spec.volumes[0].secret.secretName: Required value".to_owned()),
        ("initContainers", json!([{"name": "c", "image": "i"}]), "spec.containers[0].name: Duplicate value: \"c\"".to_owned()),
    ];
    for (field, value, expected) in in_spec {
        assert_eq!(faults("", "Pod", with(pod(), &format!("/spec/{field}"), value), None), [expected]);
    }
}

#[test]
fn a_pod_stays_what_it_is() {
    let update = |pointer: &str, value: Value| faults("", "Pod", with(pod(), pointer, value), Some(pod()));
    assert_eq!(update("/spec/containers/0/image", json!("other:1")).len(), 1, "the pull policy follows the tag");
    let image = with(pod(), "/spec/containers/0/imagePullPolicy", json!("Always"));
    let changed = with(image.clone(), "/spec/containers/0/image", json!("other"));
    assert_eq!(faults("", "Pod", changed, Some(image)), Vec::<String>::new());
    assert_eq!(update("/spec/activeDeadlineSeconds", json!(5)), Vec::<String>::new());
    let moved = update("/spec/hostname", json!("h"));
    assert!(
        moved[0]
            .starts_with("spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,")
    );
    assert_eq!(
        update("/spec/containers/-", json!({"name": "d", "image": "i"})),
        ["spec.containers: Forbidden: pod updates may not add or remove containers"]
    );
}

#[test]
fn config_and_endpoints() {
    let key = faults("", "ConfigMap", json!({"data": {"a/b": ""}}), None);
    assert!(key[0].starts_with("data[a/b]: Invalid value: \"a/b\": a valid config key must consist of"));
    let big = json!({"data": {"a": "x".repeat((1 << 20) + 1)}});
    assert_eq!(faults("", "ConfigMap", big, None), [": Too long: may not be more than 1048576 bytes"]);
    let frozen = |data: &str| json!({"immutable": true, "data": {"a": data}});
    assert_eq!(
        faults("", "ConfigMap", frozen("b"), Some(frozen("a"))),
        ["data: Forbidden: field is immutable when `immutable` is set"]
    );
    let tls = json!({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}});
    assert_eq!(faults("", "Secret", tls, None), ["data[tls.key]: Required value"]);
    let subset = |ip: &str| json!({"subsets": [{"addresses": [{"ip": ip}], "ports": [{"port": 80}]}]});
    assert_eq!(faults("", "Endpoints", subset("10.0.0.1"), None), Vec::<String>::new());
    assert_eq!(
        faults("", "Endpoints", subset("127.0.0.1"), None),
        [
            "subsets[0].addresses[0].ip: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)"
        ]
    );
    let slice = |ty: &str, endpoints: Value| json!({"addressType": ty, "endpoints": endpoints});
    let faults = |slice: Value| faults("discovery.k8s.io", "EndpointSlice", slice, None);
    assert_eq!(faults(slice("IPv4", json!([{"addresses": ["10.0.0.1"]}]))), Vec::<String>::new());
    assert_eq!(
        faults(slice("", json!([{"addresses": []}]))),
        ["addressType: Required value", "endpoints[0].addresses: Required value: must contain at least 1 address"]
    );
}
