use serde_json::{Value, json};

use super::*;
use crate::registry::Registry;

fn told(group: &str, plural: &str, object: Value) -> Vec<String> {
    warnings(Registry::builtin().resource(group, "v1", plural).unwrap(), &object, None)
}

#[test]
fn deprecated_resources() {
    let registry = Registry::builtin();
    let of = |plural: &str| deprecation(registry.resource("", "v1", plural).unwrap());
    let endpoints = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice";
    assert_eq!(of("endpoints").as_deref(), Some(endpoints));
    assert_eq!(of("pods"), None);
}

#[test]
fn pods_and_their_templates() {
    let env = |value: &str| json!({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": value}]});
    let port = json!({"containerPort": 80, "protocol": "TCP"});
    for (spec, expected) in [
        (json!({"containers": [{"name": "c"}]}), None),
        (
            json!({"nodeSelector": {"beta.kubernetes.io/arch": "amd64"}}),
            Some(
                "spec.nodeSelector[beta.kubernetes.io/arch]: deprecated since v1.14; use \"kubernetes.io/arch\" instead",
            ),
        ),
        (
            json!({"containers": [env("2")]}),
            Some(
                "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
            ),
        ),
        (json!({"containers": [env("$(A):2")]}), None),
        (
            json!({"containers": [{"ports": [port, port]}]}),
            Some("spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]"),
        ),
        (
            json!({"terminationGracePeriodSeconds": -1}),
            Some(
                "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
            ),
        ),
        (
            json!({"containers": [{"resources": {"limits": {"memory": "500m"}}}]}),
            Some(
                "spec.containers[0].resources.limits[memory]: fractional byte value \"500m\" is invalid, must be an integer",
            ),
        ),
        (
            json!({"imagePullSecrets": [{"name": "a"}, {"name": "a"}]}),
            Some("spec.imagePullSecrets[1].name: duplicate name \"a\""),
        ),
        (
            json!({"volumes": [{"name": "v", "gitRepo": {}}]}),
            Some("spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+"),
        ),
        (
            json!({"topologySpreadConstraints": [{"topologyKey": "zone"}]}),
            Some("spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod"),
        ),
    ] {
        let pod = json!({"metadata": {"name": "a"}, "spec": spec});
        assert_eq!(told("", "pods", pod.clone()), expected.into_iter().collect::<Vec<_>>());
        let deployment = json!({"metadata": {"name": "a"}, "spec": {"template": pod}});
        let within = expected.map(|text| text.replace("spec.", "spec.template.spec."));
        assert_eq!(told("apps", "deployments", deployment), within.into_iter().collect::<Vec<_>>());
    }
    let dotted = told("", "pods", json!({"metadata": {"name": "a.b"}, "spec": {}}));
    let words = "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; \
                 a DNS label is recommended: [a lowercase RFC 1123 label must";
    assert!(dotted[0].starts_with(words), "{dotted:?}");
}

#[test]
fn services() {
    for (spec, expected) in [
        (json!({"externalIPs": []}), None),
        (
            json!({"externalIPs": ["192.0.2.1"]}),
            Some("spec.externalIPs is deprecated and may no longer be implemented in some clusters"),
        ),
        (
            json!({"externalIPs": ["192.0.2.1"], "clusterIP": "None"}),
            Some("spec.externalIPs is ignored for headless services"),
        ),
        (
            json!({"externalIPs": ["192.0.2.1"], "type": "ExternalName"}),
            Some("spec.externalIPs is ignored when spec.type is \"ExternalName\""),
        ),
        (
            json!({"loadBalancerIP": "192.0.2.1", "clusterIP": "None"}),
            Some("spec.loadBalancerIP is ignored for headless services"),
        ),
        (
            json!({"trafficDistribution": "PreferClose"}),
            Some("spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\""),
        ),
        (json!({"trafficDistribution": "PreferSameZone"}), None),
    ] {
        let service = json!({"metadata": {"name": "s"}, "spec": spec});
        assert_eq!(told("", "services", service), expected.into_iter().collect::<Vec<_>>(), "{spec}");
    }
}

#[test]
fn others() {
    let service = json!({"metadata": {"name": "s"}, "spec": {"type": "ClusterIP", "externalName": "x"}});
    assert_eq!(
        told("", "services", service.clone()),
        ["spec.externalName is ignored when spec.type is not \"ExternalName\""]
    );
    let services = Registry::builtin();
    let services = services.resource("", "v1", "services").unwrap();
    assert!(warnings(services, &service, Some(&service)).is_empty(), "nothing has changed");
    let account = json!({"metadata": {"annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}}});
    assert_eq!(told("", "serviceaccounts", account).len(), 1);
}
