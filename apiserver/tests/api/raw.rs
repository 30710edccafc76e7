use serde_json::{Value, json};

use crate::support::{raw, start};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn paths_and_methods() {
    let (server, _client) = start().await;
    for (method, uri, code) in [
        ("GET", "/version", 200),
        ("GET", "/healthz", 200),
        ("GET", "/readyz?verbose", 200),
        ("GET", "/api", 200),
        ("GET", "/apis", 200),
        ("GET", "/apis/apps", 200),
        ("GET", "/apis/apps/v1", 200),
        ("GET", "/api/v1", 200),
        ("GET", "/nope", 404),
        ("GET", "/apis/nope", 404),
        ("GET", "/api/v1/nopes", 404),
        ("GET", "/api/v1/pods/a", 404),
        ("GET", "/api/v1/namespaces/default/nodes", 404),
        ("POST", "/api/v1/pods", 405),
        ("POST", "/api", 405),
        ("DELETE", "/api/v1/namespaces", 405),
        ("PUT", MAPS, 405),
        ("POST", "/api/v1/namespaces/default/serviceaccounts/default/token", 404),
    ] {
        let answer = raw(&server, method, uri, &[], "").await;
        assert_eq!(answer.code, code, "{method} {uri}: {:?}", answer.body);
        if code >= 400 {
            assert_eq!(answer.json()["kind"], "Status", "{method} {uri}");
        }
    }
    let version = raw(&server, "GET", "/version", &[], "").await.json();
    assert_eq!((&version["major"], &version["gitVersion"]), (&json!("1"), &json!("v1.36.0+coracle")));
}

#[tokio::test]
async fn media_types() {
    let (server, _client) = start().await;
    let yaml = "metadata:\n  name: a\n  labels: {on: 'yes'}\ndata:\n  key: |\n    text\n";
    let answer = raw(&server, "POST", MAPS, &[("content-type", "application/yaml")], yaml).await;
    assert_eq!(answer.code, 201, "{:?}", answer.body);
    assert_eq!(answer.json()["data"]["key"], "text\n");
    let one = format!("{MAPS}/a");
    let answer = raw(&server, "GET", &one, &[("accept", "application/yaml")], "").await;
    assert!(answer.body.starts_with(b"apiVersion: v1\n"), "{:?}", answer.body);
    let protobuf = "application/vnd.kubernetes.protobuf";
    assert_eq!(raw(&server, "POST", MAPS, &[("content-type", protobuf)], "k8s").await.code, 400);
    assert_eq!(raw(&server, "POST", MAPS, &[("content-type", "application/cbor")], "").await.code, 415);
    let metadata = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let answer = raw(&server, "GET", MAPS, &[("accept", metadata)], "").await.json();
    assert_eq!(answer["kind"], "PartialObjectMetadataList");
    assert_eq!((&answer["items"][0]["metadata"]["name"], answer["items"][0].get("data")), (&json!("a"), None));
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let answer = raw(&server, "GET", &format!("{MAPS}?includeObject=None"), &[("accept", table)], "").await.json();
    assert_eq!(answer["rows"][0]["cells"][0], "a");
    assert!(answer["rows"][0]["object"].is_null());
}

#[tokio::test]
async fn bad_bodies() {
    let (server, _client) = start().await;
    let deep = "[".repeat(100_000);
    let bombs = format!("a: &a [x]\n{}", "b: [*a,*a,*a]\n".repeat(3));
    for (content_type, body, code) in [
        ("application/json", "{", 400),
        ("application/json", "[]", 400),
        ("application/json", "", 400),
        ("application/json", deep.as_str(), 400),
        ("application/yaml", "a: [", 400),
        ("application/yaml", deep.as_str(), 400),
        ("application/yaml", bombs.as_str(), 422),
        ("application/json", r#"{"kind":"Pod","apiVersion":"v1"}"#, 400),
        ("application/json", r#"{"kind":"ConfigMap","apiVersion":"apps/v1"}"#, 400),
        ("application/json", r#"{"metadata":{"name":"a","namespace":"other"}}"#, 400),
        ("application/json", r#"{"metadata":{"name":7}}"#, 400),
        ("application/json", r#"{"metadata":{"name":"A_b"}}"#, 422),
    ] {
        let answer = raw(&server, "POST", MAPS, &[("content-type", content_type)], body).await;
        assert_eq!(answer.code, code, "{:?}", answer.body);
        assert_eq!(answer.json()["status"], "Failure");
    }
    let large = format!(r#"{{"metadata":{{"name":"a"}},"data":{{"a":"{}"}}}}"#, "x".repeat(3 << 20));
    assert_eq!(raw(&server, "POST", MAPS, &[], &large).await.code, 413);
}

#[tokio::test]
async fn field_validation() {
    let (server, _client) = start().await;
    let body = r#"{"metadata":{"name":"a"},"spec":{"replicas":1,"foo":1,"foo":2,
        "selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},
        "spec":{"containers":[{"name":"c","image":"i"}]}}}}"#;
    let uri = |validation: &str| format!("/apis/apps/v1/namespaces/default/deployments?fieldValidation={validation}");
    let strict = raw(&server, "POST", &uri("Strict"), &[], body).await;
    assert_eq!(strict.code, 400);
    let message = strict.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("strict decoding error: "), "{message}");
    assert!(message.contains("unknown field \"spec.foo\"") && message.contains("duplicate field \"spec.foo\""));
    let warned = raw(&server, "POST", &uri("Warn"), &[], body).await;
    assert_eq!(warned.code, 201, "{:?}", warned.body);
    let warnings: Vec<_> = warned.headers.get_all("warning").iter().map(|value| value.to_str().unwrap()).collect();
    assert!(warnings.contains(&r#"299 - "unknown field \"spec.foo\"""#), "{warnings:?}");
    assert_eq!(warned.json()["spec"].get("foo"), None);
}

#[tokio::test]
async fn reviews() {
    let (server, _client) = start().await;
    let review = raw(&server, "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", &[], "{}").await.json();
    assert_eq!(review["status"]["userInfo"]["username"], "system:admin");
    let as_other = [("impersonate-user", "jane"), ("impersonate-group", "devs")];
    let uri = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let review = raw(&server, "POST", uri, &as_other, "{}").await.json();
    let user = json!({"username": "jane", "groups": ["devs", "system:authenticated"]});
    assert_eq!(review["status"]["userInfo"], user);
    let ask = r#"{"spec":{"resourceAttributes":{"verb":"get","resource":"pods"}}}"#;
    let answer = raw(&server, "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &[], ask).await;
    assert_eq!((answer.code, &answer.json()["status"]["allowed"]), (201, &json!(true)));
}

#[tokio::test]
async fn events_are_the_same_in_both_groups() {
    let (server, _client) = start().await;
    let event = json!({
        "metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"},
        "reason": "Started", "message": "m", "type": "Normal", "count": 2,
    });
    let made = raw(&server, "POST", "/api/v1/namespaces/default/events", &[], &event.to_string()).await;
    assert_eq!(made.code, 201, "{:?}", made.body);
    let list = raw(&server, "GET", "/apis/events.k8s.io/v1/namespaces/default/events", &[], "").await.json();
    let other: &Value = &list["items"][0];
    assert_eq!((&other["apiVersion"], &other["note"]), (&json!("events.k8s.io/v1"), &json!("m")));
    assert_eq!(other["regarding"]["name"], "p");
    let uri = "/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Dp";
    assert_eq!(raw(&server, "GET", uri, &[], "").await.json()["items"].as_array().unwrap().len(), 1);
}
