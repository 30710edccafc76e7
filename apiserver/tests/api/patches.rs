//! What patches, field validation and deletions answer, on the wire.

use apiserver::ApiServer;
use serde_json::{Value, json};

use crate::support::{Answer, raw, start};

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const PODS: &str = "/api/v1/namespaces/default/pods";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn send(server: &ApiServer, method: &str, uri: &str, ty: &str, body: &Value) -> Answer {
    raw(server, method, uri, &[("content-type", ty)], &body.to_string()).await
}

async fn patch(server: &ApiServer, uri: &str, ty: &str, body: &Value) -> Answer {
    send(server, "PATCH", uri, ty, body).await
}

async fn post(server: &ApiServer, uri: &str, body: &Value) -> Answer {
    send(server, "POST", uri, "application/json", body).await
}

fn warnings(answer: &Answer) -> Vec<&str> {
    answer.headers.get_all("warning").iter().map(|value| value.to_str().unwrap()).collect()
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "x"}]}})
}

async fn deployment(server: &ApiServer) -> String {
    let mut template = pod("");
    template["metadata"] = json!({"labels": {"app": "d"}});
    let spec = json!({"selector": {"matchLabels": {"app": "d"}}, "template": template});
    let made = post(server, DEPLOYMENTS, &json!({"metadata": {"name": "d"}, "spec": spec})).await;
    assert_eq!(made.code, 201, "{:?}", made.body);
    format!("{DEPLOYMENTS}/d")
}

#[tokio::test]
async fn what_cannot_be_patched() {
    let (server, _client) = start().await;
    let uri = deployment(&server).await;
    let unusable = "the server rejected our request due to an error in our request";
    let many = json!(vec![json!({"op": "test", "path": "/kind", "value": "Deployment"}); 10_001]);
    for (ty, body, code, message) in [
        (JSON, json!([{"op": "test", "path": "/spec/replicas", "value": 7}]), 422, unusable),
        (JSON, json!([{"op": "add", "path": "/spec/a/b", "value": 7}]), 422, unusable),
        (
            JSON,
            many,
            413,
            "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001",
        ),
        (
            MERGE,
            json!({"metadata": {"name": "e"}}),
            400,
            "the name of the object (e) does not match the name on the URL (d)",
        ),
        (
            STRATEGIC,
            json!({"metadata": {"namespace": "e"}}),
            400,
            "the namespace of the object (e) does not match the namespace on the request (default)",
        ),
        (
            MERGE,
            json!({"apiVersion": "apps/v2"}),
            400,
            "the API version in the data (apps/v2) does not match the expected API version (apps/v1)",
        ),
        (STRATEGIC, json!({"spec": {"$retainKeys": 1}}), 400, "invalid patch format of retainKeys"),
        (
            MERGE,
            json!({"metadata": {"resourceVersion": "1"}, "spec": {"replicas": 3}}),
            409,
            "Operation cannot be fulfilled on deployments.apps \"d\": the object has been modified; please apply your \
             changes to the latest version and try again",
        ),
        (
            MERGE,
            json!({"spec": {"selector": {"matchLabels": {"app": "e"}}}}),
            422,
            "Deployment.apps \"d\" is invalid: [spec.template.metadata.labels: Invalid value: {\"app\":\"d\"}: \
             `selector` does not match template `labels`, spec.selector: Invalid value: \
             {\"matchLabels\":{\"app\":\"e\"}}: field is immutable]",
        ),
    ] {
        let answer = patch(&server, &uri, ty, &body).await;
        assert_eq!((answer.code, answer.json()["message"].as_str().unwrap()), (code, message));
    }
    let answer = patch(&server, &uri, MERGE, &json!({"metadata": {"uid": "other"}})).await;
    assert_eq!(answer.code, 409, "{:?}", answer.body);
    assert_eq!(patch(&server, &uri, "application/json", &json!({})).await.code, 415);
    let scale = patch(&server, &format!("{uri}/scale"), MERGE, &json!({"spec": {"replicas": -1}})).await;
    assert_eq!(
        scale.json()["message"],
        "Scale.autoscaling \"d\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"
    );
    let scale = patch(&server, &format!("{uri}/scale"), STRATEGIC, &json!({"spec": {"replicas": 4}})).await;
    assert_eq!(scale.json()["spec"]["replicas"], 4);
}

#[tokio::test]
async fn field_validation() {
    let (server, _client) = start().await;
    let uri = deployment(&server).await;
    let (unknown, twice) = (r#"unknown field "spec.foo""#, r#"duplicate field "spec.replicas""#);
    let body = r#"{"spec": {"foo": 1, "replicas": 2, "replicas": 3}}"#;
    let quoted = |text: &str| format!("299 - \"{}\"", text.replace('"', "\\\""));
    for (mode, code, told) in [("", 200, true), ("Warn", 200, true), ("Ignore", 200, false), ("Strict", 422, false)] {
        for ty in [MERGE, STRATEGIC] {
            let query = format!("{uri}?fieldValidation={mode}");
            let answer = raw(&server, "PATCH", &query, &[("content-type", ty)], body).await;
            assert_eq!(answer.code, code, "{mode} {ty}: {:?}", answer.body);
            let expected = if told { vec![quoted(twice), quoted(unknown)] } else { vec![] };
            assert_eq!(warnings(&answer), expected, "{mode} {ty}");
            if code == 422 {
                let message = answer.json()["message"].as_str().unwrap().to_owned();
                let strict = format!("strict decoding error: {twice}, {unknown}");
                let shown = if ty == STRATEGIC { "\"map[spec:map[foo:1 replicas:3]]\"" } else { "\"{\\\"apiVersion" };
                assert!(message.starts_with(&format!(" \"\" is invalid: patch: Invalid value: {shown}")), "{message}");
                assert!(message.ends_with(&strict), "{message}");
            }
        }
    }
    let mut wrong = pod("a");
    wrong["spec"]["containers"][0]["foo"] = 1.into();
    let answer = post(&server, &format!("{PODS}?fieldValidation=Strict"), &wrong).await;
    let message = "Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: unknown field \
                   \"spec.containers[0].foo\"";
    assert_eq!((answer.code, answer.json()["message"].as_str().unwrap()), (400, message));
    let answer = post(&server, &format!("{PODS}?fieldValidation=Maybe&dryRun=All"), &wrong).await;
    let message = "CreateOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"Maybe\": supported \
                   values: \"Ignore\", \"Strict\", \"Warn\"";
    assert_eq!((answer.code, answer.json()["message"].as_str().unwrap()), (422, message));
    let answer = post(&server, &format!("{PODS}?dryRun=Some"), &pod("a")).await;
    assert_eq!(answer.code, 422, "{:?}", answer.body);
}

#[tokio::test]
async fn warnings_of_what_is_valid() {
    let (server, _client) = start().await;
    let mut old = pod("a.b");
    old["spec"]["nodeSelector"] = json!({"beta.kubernetes.io/os": "linux"});
    let answer = post(&server, PODS, &old).await;
    let told = warnings(&answer);
    assert!(told[0].starts_with("299 - \"metadata.name: this is used in the Pod's hostname, which can"), "{told:?}");
    let label = r#"spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead"#;
    assert_eq!(told[1], format!("299 - \"{label}\""));
    let answer = raw(&server, "GET", "/api/v1/namespaces/default/endpoints", &[], "").await;
    let deprecated = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice";
    assert_eq!(warnings(&answer), [format!("299 - \"{deprecated}\"")]);
}

#[tokio::test]
async fn some_updates_name_their_version() {
    let (server, _client) = start().await;
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let lease = post(&server, leases, &json!({"metadata": {"name": "l"}})).await.json();
    let put = async |body: &Value| send(&server, "PUT", &format!("{leases}/l"), "application/json", body).await;
    let refused = put(&json!({"metadata": {"name": "l"}})).await;
    let message = "Lease.coordination.k8s.io \"l\" is invalid: metadata.resourceVersion: Invalid value: 0: must be \
                   specified for an update";
    assert_eq!((refused.code, refused.json()["message"].as_str().unwrap()), (422, message));
    assert_eq!(put(&lease).await.code, 200);
    post(&server, MAPS, &json!({"metadata": {"name": "a"}})).await;
    let map = json!({"metadata": {"name": "a"}, "data": {"a": "b"}});
    assert_eq!(send(&server, "PUT", &format!("{MAPS}/a"), "application/json", &map).await.code, 200);
}

#[tokio::test]
async fn objects_do_not_grow_by_patches_without_end() {
    let (server, _client) = start().await;
    let uri = format!("{PODS}/a");
    post(&server, PODS, &pod("a")).await;
    let large = json!({"status": {"message": "x".repeat(2 << 20)}});
    assert_eq!(patch(&server, &format!("{uri}/status"), MERGE, &large).await.code, 200);
    let copy = json!([{"op": "copy", "from": "/status/message", "path": "/status/reason"}]);
    let refused = patch(&server, &format!("{uri}/status"), JSON, &copy).await;
    assert_eq!((refused.code, refused.json()["reason"].as_str().unwrap()), (413, "RequestEntityTooLarge"));
}

#[tokio::test]
async fn generations() {
    let (server, _client) = start().await;
    let made = post(&server, PODS, &pod("a")).await.json();
    assert_eq!(made["metadata"]["generation"], 1);
    let binding = json!({"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "n"}});
    assert_eq!(post(&server, &format!("{PODS}/a/binding"), &binding).await.code, 201);
    let uri = format!("{PODS}/a");
    for (ty, body, generation) in [
        (MERGE, json!({"metadata": {"labels": {"a": "b"}}}), 1),
        (MERGE, json!({"spec": {"activeDeadlineSeconds": 60}}), 2),
        (MERGE, json!({"status": {"phase": "Running"}}), 2),
    ] {
        let answer = patch(&server, &uri, ty, &body).await.json();
        assert_eq!(answer["metadata"]["generation"], generation, "{body}");
        assert_eq!(answer["status"]["phase"], "Pending");
    }
    let status = patch(&server, &format!("{uri}/status"), MERGE, &json!({"status": {"phase": "Running"}})).await.json();
    assert_eq!((&status["metadata"]["generation"], &status["status"]["phase"]), (&json!(2), &json!("Running")));
    let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
    let service = post(&server, "/api/v1/namespaces/default/services", &service).await.json();
    assert_eq!(service["metadata"].get("generation"), None, "{service}");
}

#[tokio::test]
async fn parts_of_pods() {
    let (server, _client) = start().await;
    post(&server, PODS, &pod("a")).await;
    let uri = format!("{PODS}/a/ephemeralcontainers");
    let debugger = json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": "busybox"}]}});
    let answer = patch(&server, &uri, STRATEGIC, &debugger).await;
    assert_eq!(answer.code, 200, "{:?}", answer.body);
    assert_eq!(answer.json()["spec"]["ephemeralContainers"][0]["terminationMessagePath"], "/dev/termination-log");
    let none = patch(&server, &uri, MERGE, &json!({"spec": {"ephemeralContainers": null}})).await.json();
    let message = "Pod \"a\" is invalid: spec.ephemeralContainers: Forbidden: existing ephemeral containers \"debug\" may \
                   not be removed";
    assert_eq!(none["message"], message);
    let image = patch(&server, &format!("{PODS}/a"), STRATEGIC, &json!({"spec": {"hostname": "b"}})).await.json();
    let message = image["message"].as_str().unwrap();
    assert!(message.starts_with("Pod \"a\" is invalid: spec: Forbidden: pod updates may not change"), "{message}");
    let uri = format!("{PODS}/a/resize");
    let resized = |image: &str| json!({"spec": {"containers": [{"name": "c", "image": image, "resources": {}}]}});
    assert_eq!(patch(&server, &uri, STRATEGIC, &resized("x")).await.code, 200);
    let message = "Pod \"a\" is invalid: spec: Forbidden: only cpu and memory resources are mutable";
    assert_eq!(patch(&server, &uri, STRATEGIC, &resized("y")).await.json()["message"], message);
}

#[tokio::test]
async fn deletions() {
    let (server, _client) = start().await;
    post(&server, MAPS, &json!({"metadata": {"name": "a"}})).await;
    let uri = format!("{MAPS}/a");
    let delete = async |body: Value| send(&server, "DELETE", &uri, "application/json", &body).await;
    let stale = delete(json!({"kind": "DeleteOptions", "preconditions": {"resourceVersion": "1"}})).await;
    assert_eq!(stale.code, 409, "{:?}", stale.body);
    assert_eq!(delete(json!({"kind": "Pod"})).await.code, 400);
    assert_eq!(delete(json!({"propagationPolicy": "Sometimes"})).await.code, 422);
    let gone = delete(json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": -1})).await;
    let gone = gone.json();
    assert_eq!((&gone["status"], &gone["details"]["name"]), (&json!("Success"), &json!("a")));
    assert!(!gone["details"]["uid"].as_str().unwrap().is_empty());
    let spec = json!({"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}}});
    let jobs = "/apis/batch/v1/namespaces/default/jobs";
    let made = post(&server, jobs, &json!({"metadata": {"name": "j"}, "spec": spec})).await;
    assert_eq!(made.code, 201, "{:?}", made.body);
    let held = raw(&server, "DELETE", &format!("{jobs}/j"), &[], "").await;
    assert_eq!(held.json()["metadata"]["finalizers"], json!(["orphan"]));
    assert!(warnings(&held)[0].starts_with("299 - \"child pods are preserved by default when jobs are deleted;"));
}
