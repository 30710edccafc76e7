use serde_json::{Value, json};

use crate::error::Error;
use crate::registry::Registry;

fn prune(kind: &str, group: &str, mut object: Value) -> (Value, Result<Vec<String>, Error>) {
    let registry = Registry::builtin();
    let ty = registry.type_of(group, "v1", kind).unwrap();
    let told = registry.prune(&mut object, ty);
    (object, told)
}

#[test]
fn unknown_fields_are_dropped_and_told() {
    let (pruned, told) = prune(
        "Pod",
        "",
        json!({
            "apiVersion": "v1", "kind": "Pod", "foo": 1,
            "metadata": {"name": "a", "labels": {"any": "thing"}, "creationTimestamp": null},
            "spec": {"containers": [{"name": "c", "imagee": "x", "ports": []}], "nodeName": null},
        }),
    );
    assert_eq!(told.unwrap(), ["unknown field \"foo\"", "unknown field \"spec.containers[0].imagee\""]);
    assert_eq!(
        pruned,
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {"any": "thing"}},
            "spec": {"containers": [{"name": "c"}]},
        })
    );
}

#[test]
fn what_does_not_fit_is_told_as_go_tells_it() {
    let container = |field: &str, value: Value| json!({"spec": {"containers": [{field: value}]}});
    for (kind, group, object, message) in [
        (
            "Deployment",
            "apps",
            json!({"spec": {"replicas": "3"}}),
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "Deployment",
            "apps",
            json!({"spec": {"replicas": 1.5}}),
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "Pod",
            "",
            container("env", json!([{"name": "A", "value": true}])),
            "json: cannot unmarshal bool into Go struct field EnvVar.spec.containers.env.value of type string",
        ),
        (
            "Pod",
            "",
            container("ports", json!({"containerPort": 1})),
            "json: cannot unmarshal object into Go struct field Container.spec.containers.ports of type []v1.ContainerPort",
        ),
        (
            "Pod",
            "",
            json!({"metadata": {"labels": {"a": 1}}}),
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        ("Pod", "", json!([]), "json: cannot unmarshal array into Go value of type v1.Pod"),
        (
            "Pod",
            "",
            container("resources", json!({"limits": {"cpu": "lots"}})),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        ("Secret", "", json!({"data": {"a": "not base64!"}}), "illegal base64 data at input byte 3"),
        (
            "Service",
            "",
            json!({"spec": {"ports": [{"targetPort": true}]}}),
            "json: cannot unmarshal bool into Go value of type int32",
        ),
        (
            "Pod",
            "",
            json!({"metadata": {"creationTimestamp": "yesterday"}}),
            "parsing time \"yesterday\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"yesterday\" as \"2006\"",
        ),
    ] {
        assert_eq!(prune(kind, group, object).1, Err(Error::Decode(message.to_owned())));
    }
}

#[test]
fn shapes_that_have_more_than_one_form() {
    let service = json!({"spec": {"ports": [{"port": 80, "targetPort": "http"}, {"port": 81, "targetPort": 8080}]}});
    assert_eq!(prune("Service", "", service.clone()), (service, Ok(Vec::new())));
    let limits = |cpu: Value| json!({"spec": {"containers": [{"resources": {"limits": {"cpu": cpu}}}]}});
    for (given, kept) in [(json!(2), "2"), (json!(0.5), "500m"), (json!("1024Mi"), "1Gi")] {
        assert_eq!(prune("Pod", "", limits(given)).0, limits(json!(kept)));
    }
    let time = |text: &str| json!({"metadata": {"creationTimestamp": text}});
    assert_eq!(prune("Pod", "", time("2026-01-01T02:00:00.5+02:00")).0, time("2026-01-01T00:00:00Z"));
    let lease = |text: &str| json!({"spec": {"renewTime": text}});
    assert_eq!(
        prune("Lease", "coordination.k8s.io", lease("2026-01-01T00:00:00.5Z")).0,
        lease("2026-01-01T00:00:00.500000Z")
    );
    let secret = json!({"data": {"a": "YWI=", "b": "YQ==", "c": "YWJj", "d": ""}});
    assert_eq!(prune("Secret", "", secret.clone()), (secret, Ok(Vec::new())));
    assert_eq!(prune("ConfigMap", "", json!({"data": {"a": null}})).0, json!({"data": {"a": ""}}));
}
