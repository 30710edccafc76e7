use serde_json::{Value, json};

use super::faults;

fn service(spec: Value) -> Value {
    json!({"spec": spec})
}

#[test]
fn services() {
    let faults = |spec: Value| faults("", "Service", service(spec), None);
    let port = json!([{"port": 80}]);
    for (spec, expected) in [
        (json!({"ports": port}), vec![]),
        (json!({}), vec!["spec.ports: Required value"]),
        (json!({"clusterIP": "None"}), vec![]),
        (json!({"type": "ExternalName"}), vec!["spec.externalName: Required value"]),
        (json!({"type": "ExternalName", "externalName": "a.b"}), vec![]),
        (
            json!({"type": "Magic", "ports": port}),
            vec![
                "spec.type: Unsupported value: \"Magic\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
            ],
        ),
        (json!({"ports": [{"port": 80, "name": "a"}, {"port": 81}]}), vec!["spec.ports[1].name: Required value"]),
        (
            json!({"ports": [{"port": 80, "name": "a"}, {"port": 80, "name": "a"}]}),
            vec![
                "spec.ports[1].name: Duplicate value: \"a\"",
                "spec.ports[1]: Duplicate value: {\"port\":80,\"protocol\":\"TCP\"}",
            ],
        ),
        (
            json!({"ports": [{"port": 0, "targetPort": 1}]}),
            vec!["spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"],
        ),
        (
            json!({"ports": [{"port": 80, "nodePort": 30001}]}),
            vec!["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
        ),
        (
            json!({"ports": [{"port": 80, "targetPort": "Web"}]}),
            vec![
                "spec.ports[0].targetPort: Invalid value: \"Web\": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
            ],
        ),
        (
            json!({"type": "NodePort", "clusterIP": "None", "ports": port}),
            vec!["spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services"],
        ),
        (
            json!({"clusterIP": "10.0.0", "clusterIPs": ["10.0.0"], "ports": port}),
            vec![
                "spec.clusterIPs[0]: Invalid value: \"10.0.0\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ],
        ),
        (
            json!({"sessionAffinity": "Cookie", "ports": port}),
            vec!["spec.sessionAffinity: Unsupported value: \"Cookie\": supported values: \"ClientIP\", \"None\""],
        ),
    ] {
        assert_eq!(faults(spec), expected);
    }
}

/// What is wrong with a Service of one port that has these fields.
fn of(spec: &Value, old: Option<&Value>) -> Vec<String> {
    let whole = |spec: &Value| {
        let mut spec = spec.clone();
        spec["ports"] = json!([{"port": 80}]);
        service(spec)
    };
    faults("", "Service", whole(spec), old.map(whole))
}

#[test]
fn addresses_and_families() {
    for (spec, expected) in [
        (
            json!({"clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9", "fd00::9"], "ipFamilies": ["IPv4", "IPv6"]}),
            vec![],
        ),
        (
            json!({"clusterIPs": ["10.0.0.9"]}),
            vec!["spec.clusterIPs: Invalid value: [\"10.0.0.9\"]: must be empty when `clusterIP` is not specified"],
        ),
        (
            json!({"clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.8"]}),
            vec!["spec.clusterIPs: Invalid value: [\"10.0.0.8\"]: first value must match `clusterIP`"],
        ),
        (
            json!({"clusterIP": "None", "clusterIPs": ["None", "10.0.0.9"]}),
            vec!["spec.clusterIPs: Invalid value: [\"None\",\"10.0.0.9\"]: 'None' must be the first and only value"],
        ),
        (
            json!({"clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9", "10.0.0.8"]}),
            vec![
                "spec.clusterIPs: Invalid value: [\"10.0.0.9\",\"10.0.0.8\"]: may specify no more than one IP for each IP family",
            ],
        ),
        (
            json!({"clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9"], "ipFamilies": ["IPv6"]}),
            vec![
                "spec.clusterIPs[0]: Invalid value: \"10.0.0.9\": expected an IPv6 value as indicated by `ipFamilies[0]`",
            ],
        ),
        (
            json!({"ipFamilies": ["IPv4", "IPv4"], "ipFamilyPolicy": "Both"}),
            vec![
                "spec.ipFamilies[1]: Duplicate value: \"IPv4\"",
                "spec.ipFamilyPolicy: Unsupported value: \"Both\": supported values: \"PreferDualStack\", \"RequireDualStack\", \"SingleStack\"",
            ],
        ),
        (
            json!({"ipFamilies": ["IPv5"]}),
            vec!["spec.ipFamilies[0]: Unsupported value: \"IPv5\": supported values: \"IPv4\", \"IPv6\""],
        ),
        (
            json!({"type": "ExternalName", "externalName": "a.b", "ipFamilies": ["IPv4"]}),
            vec!["spec.ipFamilies: Forbidden: may not be set for ExternalName services"],
        ),
        (json!({"externalIPs": ["192.0.2.1", "2001:db8::1"]}), vec![]),
        (
            json!({"externalIPs": ["127.0.0.1", "0.0.0.0", "fe80::1", "224.0.0.1", "x"]}),
            vec![
                "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
                "spec.externalIPs[1]: Invalid value: \"0.0.0.0\": may not be unspecified (0.0.0.0)",
                "spec.externalIPs[2]: Invalid value: \"fe80::1\": may not be in the link-local range (169.254.0.0/16, fe80::/10)",
                "spec.externalIPs[3]: Invalid value: \"224.0.0.1\": may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
                "spec.externalIPs[4]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ],
        ),
    ] {
        assert_eq!(of(&spec, None), expected, "{spec}");
    }
    let at = |all: Value| json!({"clusterIP": all[0], "clusterIPs": all});
    let (one, two) = (at(json!(["10.96.0.9"])), at(json!(["10.96.0.9", "fd00::9"])));
    assert_eq!(of(&one, Some(&two)).len() + of(&two, Some(&one)).len(), 0, "a second one comes and goes");
    for (new, old, field, value) in [
        (one.clone(), at(json!(["10.96.0.8"])), "clusterIPs[0]", "[\"10.96.0.9\"]"),
        (two, at(json!(["10.96.0.9", "fd00::8"])), "clusterIPs[1]", "[\"10.96.0.9\",\"fd00::9\"]"),
        (one, at(json!(["None"])), "clusterIPs[0]", "[\"10.96.0.9\"]"),
        (json!({"ipFamilies": ["IPv6"]}), json!({"ipFamilies": ["IPv4"]}), "ipFamilies[0]", "[\"IPv6\"]"),
    ] {
        let expected = format!("spec.{field}: Invalid value: {value}: may not change once set");
        assert_eq!(of(&new, Some(&old)), [expected]);
    }
}

#[test]
fn ports() {
    let faults = |ports: Value| faults("", "Service", service(json!({"type": "NodePort", "ports": ports})), None);
    let dns = |name: &str, protocol: &str| json!({"name": name, "port": 53, "protocol": protocol, "nodePort": 30053});
    assert_eq!(faults(json!([dns("a", "TCP"), dns("b", "UDP"), dns("c", "SCTP")])), Vec::<String>::new());
    assert_eq!(
        faults(json!([dns("a", "TCP"), {"name": "b", "port": 54, "nodePort": 30053}])),
        ["spec.ports[1].nodePort: Duplicate value: 30053"]
    );
    let named = faults(json!([{"port": 1, "appProtocol": "a b"}]));
    assert!(named[0].starts_with("spec.ports[0].appProtocol: Invalid value: \"a b\": name part must consist of"));
}

const ONLY_BALANCED: &str = "Forbidden: may only be used when `type` is 'LoadBalancer'";

#[test]
fn traffic() {
    let local = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30009});
    let policy =
        |field: &str| format!("spec.{field}: Unsupported value: \"Near\": supported values: \"Cluster\", \"Local\"");
    for (spec, expected) in [
        (local.clone(), vec![]),
        (json!({"trafficDistribution": "PreferSameNode", "internalTrafficPolicy": "Local"}), vec![]),
        (json!({"internalTrafficPolicy": "Near"}), vec![policy("internalTrafficPolicy")]),
        (json!({"type": "NodePort", "externalTrafficPolicy": "Near"}), vec![policy("externalTrafficPolicy")]),
        (
            json!({"externalTrafficPolicy": "Local"}),
            vec![
                "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services"
                    .to_owned(),
            ],
        ),
        (
            json!({"type": "NodePort", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30009}),
            vec![
                "spec.healthCheckNodePort: Invalid value: 30009: may only be set when `type` is 'LoadBalancer' and \
                 `externalTrafficPolicy` is 'Local'"
                    .to_owned(),
            ],
        ),
        (
            json!({"trafficDistribution": "PreferFar"}),
            vec![
                "spec.trafficDistribution: Unsupported value: \"PreferFar\": supported values: \"PreferClose\", \
                 \"PreferSameNode\", \"PreferSameZone\""
                    .to_owned(),
            ],
        ),
        (
            json!({"type": "LoadBalancer", "loadBalancerSourceRanges": [" 10.0.0.0/8 ", "10.0.0.1"]}),
            vec![
                "spec.LoadBalancerSourceRanges[1]: Invalid value: \"10.0.0.1\": must be a valid CIDR value, \
                 (e.g. 10.9.8.0/24 or 2001:db8::/64)"
                    .to_owned(),
            ],
        ),
        (
            json!({"loadBalancerSourceRanges": ["10.0.0.0/8"], "allocateLoadBalancerNodePorts": false, "loadBalancerClass": "a/b"}),
            ["LoadBalancerSourceRanges", "allocateLoadBalancerNodePorts", "loadBalancerClass"]
                .map(|field| format!("spec.{field}: {ONLY_BALANCED}"))
                .into(),
        ),
        (
            json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}}}),
            vec![
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 86401: must be greater than 0 and \
                 less than 86400"
                    .to_owned(),
            ],
        ),
    ] {
        assert_eq!(of(&spec, None), expected, "{spec}");
    }
    let mut moved = local.clone();
    moved["healthCheckNodePort"] = 30010.into();
    assert_eq!(of(&moved, Some(&local)), ["spec.healthCheckNodePort: Forbidden: field is immutable"]);
    let class = |name: &str| json!({"type": "LoadBalancer", "loadBalancerClass": name});
    assert_eq!(
        of(&class("a/b"), Some(&class("a/c"))),
        ["spec.loadBalancerClass: Invalid value: \"a/b\": may not change once set"]
    );
    assert_eq!(of(&class("a/b"), Some(&json!({}))), Vec::<String>::new());
}

#[test]
fn what_a_load_balancer_tells() {
    let told = |ty: &str, ingress: Value| {
        let status = json!({"loadBalancer": {"ingress": [ingress]}});
        let service = json!({"spec": {"type": ty, "ports": [{"port": 80}]}, "status": status});
        faults("", "Service", service, None)
    };
    let at = "status.loadBalancer.ingress";
    for (ingress, expected) in [
        (json!({"ip": "192.0.2.1"}), vec![]),
        (json!({"ip": "192.0.2.1", "ipMode": "Proxy"}), vec![]),
        (json!({"hostname": "a.b"}), vec![]),
        (
            json!({"ip": "192.0.2.1", "ipMode": "DNS"}),
            vec![format!("{at}[0].ipMode: Unsupported value: \"DNS\": supported values: \"Proxy\", \"VIP\"")],
        ),
        (
            json!({"hostname": "a.b", "ipMode": "VIP"}),
            vec![format!("{at}[0].ipMode: Forbidden: may not be specified when `ip` is not set")],
        ),
        (
            json!({"hostname": "192.0.2.1"}),
            vec![format!("{at}[0].hostname: Invalid value: \"192.0.2.1\": must be a DNS name, not an IP address")],
        ),
    ] {
        assert_eq!(told("LoadBalancer", ingress), expected);
    }
    assert_eq!(
        told("NodePort", json!({"ip": "192.0.2.1"})),
        [format!("{at}: Forbidden: may only be used when `spec.type` is 'LoadBalancer'")]
    );
}
