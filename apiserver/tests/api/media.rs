use apiserver::ApiServer;
use serde_json::{Value, json};

use crate::support::{Answer, raw, start};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
const METADATA: &str = "as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

async fn get(server: &ApiServer, uri: &str, accept: &str) -> Answer {
    raw(server, "GET", uri, &[("accept", accept)], "").await
}

async fn make(server: &ApiServer, name: &str) {
    let body = json!({"metadata": {"name": name}, "data": {"key": "value"}}).to_string();
    assert_eq!(raw(server, "POST", MAPS, &[], &body).await.code, 201);
}

fn content_type(answer: &Answer) -> &str {
    answer.headers["content-type"].to_str().unwrap()
}

/// The texts that are somewhere in a message, in that order.
#[track_caller]
fn holds(bytes: &[u8], texts: &[&str]) {
    let mut rest = bytes;
    for text in texts {
        let at = rest.windows(text.len()).position(|window| window == text.as_bytes());
        rest = &rest[at.unwrap_or_else(|| panic!("{text} in {:?}", String::from_utf8_lossy(bytes)))..];
    }
}

#[tokio::test]
async fn protobuf_answers() {
    let (server, _client) = start().await;
    make(&server, "a").await;
    let one = format!("{MAPS}/a");
    let answer = get(&server, &one, PROTOBUF).await;
    assert_eq!((answer.code, content_type(&answer)), (200, PROTOBUF));
    assert!(answer.body.starts_with(b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12"), "{:?}", answer.body);
    holds(&answer.body, &["\x0a\x01a", "default", "key", "value"]);
    // What was answered can be sent again.
    let both = [("content-type", PROTOBUF), ("accept", PROTOBUF)];
    let renamed = raw(&server, "POST", &format!("{MAPS}?dryRun=All"), &both, answer.body.clone()).await;
    assert_eq!(renamed.code, 400);
    assert_eq!(content_type(&renamed), PROTOBUF);
    holds(&renamed.body, &["Status", "resourceVersion should not be set"]);
    let replaced = raw(&server, "PUT", &one, &both, answer.body.clone()).await;
    assert_eq!((replaced.code, &replaced.body), (200, &answer.body));

    make(&server, "b").await;
    let list = get(&server, MAPS, PROTOBUF).await;
    holds(&list.body, &["v1", "ConfigMapList", "\x0a\x01a", "\x0a\x01b"]);
    let list = get(&server, MAPS, &format!("{PROTOBUF};{METADATA}")).await;
    holds(&list.body, &["meta.k8s.io/v1", "PartialObjectMetadataList", "\x0a\x01a", "\x0a\x01b"]);
    assert!(!list.body.windows(5).any(|window| window == b"value"));
    let gone = raw(&server, "GET", &format!("{MAPS}/nope"), &[("accept", PROTOBUF)], "").await;
    assert_eq!((gone.code, content_type(&gone)), (404, PROTOBUF));
    holds(&gone.body, &["v1", "Status", "Failure", "configmaps \"nope\" not found", "NotFound"]);
    let options = b"k8s\0\x0a\x13\x0a\x02v1\x12\x0dDeleteOptions\x12\x06\x12\x04\x0a\x02id";
    let refused = raw(&server, "DELETE", &one, &both, &options[..]).await;
    assert_eq!(refused.code, 409, "{:?}", refused.body);
    let done = raw(&server, "DELETE", &one, &[("accept", PROTOBUF)], "").await;
    assert_eq!((done.code, content_type(&done)), (200, PROTOBUF));
    holds(&done.body, &["Status", "Success", "configmaps"]);
}

#[tokio::test]
async fn protobuf_watches() {
    let (server, _client) = start().await;
    make(&server, "a").await;
    make(&server, "b").await;
    let uri = format!("{MAPS}?watch=true&timeoutSeconds=1");
    for (accept, kind) in [(PROTOBUF.to_owned(), "ConfigMap"), (format!("{PROTOBUF};{METADATA}"), "PartialObject")] {
        let answer = get(&server, &uri, &accept).await;
        assert_eq!((answer.code, content_type(&answer)), (200, "application/vnd.kubernetes.protobuf;stream=watch"));
        let mut rest = &answer.body[..];
        for name in ["\x0a\x01a", "\x0a\x01b"] {
            let (length, tail) = rest.split_first_chunk().unwrap();
            let (event, tail) = tail.split_at(u32::from_be_bytes(*length) as usize);
            holds(event, &["\x0a\x05ADDED\x12", "k8s\0", kind, name]);
            rest = tail;
        }
        assert!(rest.is_empty());
    }
    assert_eq!(get(&server, &uri, "application/yaml").await.code, 406);
}

#[tokio::test]
async fn forms_and_formats() {
    let (server, _client) = start().await;
    make(&server, "a").await;
    let one = format!("{MAPS}/a");
    let table = get(&server, &one, TABLE).await.json();
    assert_eq!((&table["kind"], &table["rows"][0]["cells"][0]), (&json!("Table"), &json!("a")));
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let whole = get(&server, &format!("{MAPS}?includeObject=Object"), TABLE).await.json();
    assert_eq!(whole["rows"][0]["object"]["data"]["key"], "value");
    let metadata = get(&server, &one, &format!("application/json;{METADATA}")).await.json();
    assert_eq!((&metadata["kind"], metadata.get("data")), (&json!("PartialObjectMetadata"), None));
    let yaml = get(&server, MAPS, "application/yaml").await;
    assert_eq!(content_type(&yaml), "application/yaml");
    assert!(yaml.body.starts_with(b"apiVersion: v1\nitems:\n"), "{:?}", yaml.body);
    let pretty = get(&server, &format!("{one}?pretty=true"), "*/*").await;
    assert!(pretty.body.starts_with(b"{\n  \""), "{:?}", pretty.body);
    let refused = get(&server, &one, "text/html").await;
    let message = "only the following media types are accepted: application/json, application/yaml, \
                   application/vnd.kubernetes.protobuf";
    assert_eq!((refused.code, &refused.json()["message"]), (406, &Value::from(message)));
    let missing = get(&server, &format!("{MAPS}/nope"), "application/yaml").await;
    assert!(missing.body.starts_with(b"apiVersion: v1\ncode: 404\n"), "{:?}", missing.body);
    let groups = get(&server, "/apis", PROTOBUF).await;
    assert_eq!(content_type(&groups), PROTOBUF);
    holds(&groups.body, &["APIGroupList", "apps/v1"]);
    holds(&get(&server, "/api", PROTOBUF).await.body, &["v1", "APIVersions", "v1"]);
    assert_eq!(get(&server, "/apis", TABLE).await.code, 406);
}

#[tokio::test]
async fn large_answers_are_compressed() {
    let (server, _client) = start().await;
    for name in ["a", "b", "c"] {
        let large = json!({"metadata": {"name": name}, "data": {"a": "x".repeat(100 << 10)}});
        raw(&server, "POST", MAPS, &[], large.to_string()).await;
    }
    let plain = raw(&server, "GET", MAPS, &[("accept-encoding", "deflate, gzip;q=0")], "").await;
    assert!(!plain.headers.contains_key("content-encoding") && plain.body.len() > 300 << 10);
    let packed = raw(&server, "GET", MAPS, &[("accept-encoding", "deflate, gzip")], "").await;
    assert_eq!(
        (&packed.headers["content-encoding"], &packed.headers["vary"]),
        (&"gzip".parse().unwrap(), &"Accept-Encoding".parse().unwrap())
    );
    assert!(packed.body.len() < 20 << 10);
    let mut whole = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&packed.body[..]), &mut whole).unwrap();
    assert_eq!(whole, plain.body);
    let uri = format!("{MAPS}?watch=true&timeoutSeconds=1");
    let watch = raw(&server, "GET", &uri, &[("accept-encoding", "gzip")], "").await;
    assert!(!watch.headers.contains_key("content-encoding"));
}
