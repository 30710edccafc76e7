//! Discovery and OpenAPI, as clients fetch and keep them.

use crate::support::{raw, start};

const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const V3_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";

#[tokio::test]
async fn aggregated_discovery() {
    let (server, _client) = start().await;
    let list = |version: &str| format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
    let (v2, beta) = (list("v2"), list("v2beta1"));
    for (accept, content_type, version) in [
        (format!("{v2},{beta},application/json"), v2.as_str(), "apidiscovery.k8s.io/v2"),
        (format!("{beta},application/json"), beta.as_str(), "apidiscovery.k8s.io/v2beta1"),
        (list("v3") + ",application/json", "application/json", "v1"),
        (format!("application/json,{v2}"), "application/json", "v1"),
    ] {
        let answer = raw(&server, "GET", "/apis", &[("accept", &accept)], "").await;
        assert_eq!(answer.headers["content-type"], content_type, "{accept}");
        assert_eq!(answer.json()["apiVersion"], version, "{accept}");
    }
    let first = raw(&server, "GET", "/api", &[("accept", &v2)], "").await;
    let tag = first.headers["etag"].to_str().unwrap();
    let again = raw(&server, "GET", "/api", &[("accept", &v2), ("if-none-match", tag)], "").await;
    assert_eq!((again.code, again.body.len()), (304, 0));
}

#[tokio::test]
async fn openapi_is_kept_by_its_hash() {
    let (server, _client) = start().await;
    let index = raw(&server, "GET", "/openapi/v3", &[], "").await.json();
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    let hash = url.strip_prefix("/openapi/v3/apis/apps/v1?hash=").unwrap();

    let hashed = raw(&server, "GET", url, &[], "").await;
    assert_eq!((hashed.code, hashed.json()["openapi"].as_str()), (200, Some("3.0.0")));
    assert_eq!(hashed.headers["cache-control"], "public, immutable");
    assert!(hashed.headers["expires"].to_str().unwrap().ends_with(" GMT"));
    assert_eq!(hashed.headers["etag"], format!("\"{hash}\""));
    let plain = raw(&server, "GET", "/openapi/v3/apis/apps/v1", &[], "").await;
    assert_eq!(plain.headers["cache-control"], "no-cache, private");
    assert_eq!(plain.body, hashed.body);
    let old = raw(&server, "GET", "/openapi/v3/apis/apps/v1?hash=x", &[], "").await;
    assert_eq!((old.code, old.headers["location"].to_str().unwrap()), (301, url));
    assert_eq!(raw(&server, "GET", "/openapi/v3/apis/nope/v1", &[], "").await.code, 404);
    assert_eq!(raw(&server, "GET", "/openapi/v1", &[], "").await.code, 404);

    for (path, protobuf) in [(url, V3_PROTOBUF), ("/openapi/v2", V2_PROTOBUF)] {
        let accept = protobuf.replace(".v1.0", "@v1.0");
        let answer = raw(&server, "GET", path, &[("accept", &accept)], "").await;
        assert_eq!((answer.code, answer.headers["content-type"].to_str().unwrap()), (200, protobuf));
        let tag = answer.headers["etag"].to_str().unwrap();
        let again = raw(&server, "GET", path, &[("accept", &accept), ("if-none-match", tag)], "").await;
        assert_eq!((again.code, again.body.len()), (304, 0));
        assert_eq!(raw(&server, "GET", path, &[("accept", "text/html")], "").await.code, 406);
    }
}
