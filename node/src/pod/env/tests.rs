use super::*;
use serde_json::json;

fn from<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn pod() -> Pod {
    from(json!({
        "metadata": {"name": "p", "namespace": "dev", "uid": "u", "labels": {"app": "web"}},
        "spec": {"nodeName": "n", "containers": []},
    }))
}

fn sources() -> Sources {
    let mut sources = Sources { namespace: "dev".into(), ..Sources::default() };
    sources.addresses.pod = "10.244.0.9".into();
    sources.capacity = (4000, 8 << 30);
    sources
        .config_maps
        .insert("conf".into(), Some(from(json!({"metadata": {"namespace": "dev"}, "data": {"A": "1", "B": "2"}}))));
    sources.secrets.insert("pass".into(), Some(from(json!({"data": {"key": "c2VjcmV0"}}))));
    sources
}

fn env(container: serde_json::Value) -> Result<Vec<(String, String)>, String> {
    let services = [("WEB_SERVICE_HOST".to_owned(), "10.96.0.5".to_owned())];
    environment(&pod(), &from(container), &sources(), &services)
}

#[test]
fn every_source_of_a_variable_is_read() {
    let container = json!({"name": "c",
        "resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "64Mi"}},
        "envFrom": [{"prefix": "P_", "configMapRef": {"name": "conf"}}],
        "env": [
            {"name": "PLAIN", "value": "x"},
            {"name": "P_B", "value": "over"},
            {"name": "BOTH", "value": "$(PLAIN)-$(P_A)-$(WEB_SERVICE_HOST)-$(NO)-$$(PLAIN)"},
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            {"name": "MEM", "valueFrom": {"resourceFieldRef":
                {"resource": "requests.memory", "divisor": "1Mi"}}},
            {"name": "CONF", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "A"}}},
            {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "pass", "key": "key"}}},
            {"name": "GONE", "valueFrom": {"secretKeyRef":
                {"name": "pass", "key": "other", "optional": true}}},
        ],
    });
    let expected = [
        ("P_A", "1"),
        ("P_B", "over"),
        ("PLAIN", "x"),
        ("BOTH", "x-1-10.96.0.5-$(NO)-$(PLAIN)"),
        ("NAME", "p"),
        ("APP", "web"),
        ("IP", "10.244.0.9"),
        ("CPU", "2"),
        ("MEM", "64"),
        ("CONF", "1"),
        ("SECRET", "secret"),
        ("WEB_SERVICE_HOST", "10.96.0.5"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(env(container).unwrap(), expected);
}

#[test]
fn what_is_missing_is_named() {
    let var =
        |from: serde_json::Value| env(json!({"name": "c", "env": [{"name": "X", "valueFrom": from}]})).unwrap_err();
    assert_eq!(var(json!({"configMapKeyRef": {"name": "none", "key": "A"}})), "configmap \"none\" not found");
    assert_eq!(
        var(json!({"configMapKeyRef": {"name": "conf", "key": "Z"}})),
        "couldn't find key Z in ConfigMap dev/conf"
    );
    assert_eq!(var(json!({"secretKeyRef": {"name": "none", "key": "A"}})), "secret \"none\" not found");
    let error = env(json!({"name": "c", "envFrom": [{"secretRef": {"name": "none"}}]}));
    assert_eq!(error.unwrap_err(), "secret \"none\" not found");
    let fine = json!({"name": "c", "envFrom": [{"secretRef": {"name": "n", "optional": true}}]});
    assert_eq!(env(fine).unwrap().len(), 1);
}

#[test]
fn services_become_variables() {
    let services: Vec<Service> = from(json!([
        {"metadata": {"name": "my-web"}, "spec": {"clusterIP": "10.96.0.7", "ports": [
            {"name": "http-main", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]}},
        {"metadata": {"name": "headless"}, "spec": {"clusterIP": "None", "ports": [{"port": 1}]}},
    ]));
    let env = service_variables(&services);
    for (name, value) in [
        ("MY_WEB_SERVICE_HOST", "10.96.0.7"),
        ("MY_WEB_SERVICE_PORT", "80"),
        ("MY_WEB_SERVICE_PORT_HTTP_MAIN", "80"),
        ("MY_WEB_PORT", "tcp://10.96.0.7:80"),
        ("MY_WEB_PORT_53_UDP", "udp://10.96.0.7:53"),
        ("MY_WEB_PORT_53_UDP_PROTO", "udp"),
        ("MY_WEB_PORT_80_TCP_ADDR", "10.96.0.7"),
    ] {
        assert_eq!(get(&env, name).as_deref(), Some(value), "{name}");
    }
    assert!(!env.iter().any(|(name, _)| name.starts_with("HEADLESS")));
}
