//! A server in the process, over a store in memory.

use apiserver::{ApiServer, Config, Identity};
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use serde_json::Value;
use store::{Limits, Memory, Store};
use tower::ServiceExt;

/// A server with the namespace `default`, and a client of it.
pub(crate) async fn start() -> (ApiServer, Client) {
    start_with(Limits::default()).await
}

pub(crate) async fn start_with(limits: Limits) -> (ApiServer, Client) {
    let store = Store::open(Memory, apiserver::parse, limits).expect("memory opens");
    let server = ApiServer::new(Config::default(), store);
    let client = Client::new(server.service(Identity::admin()), "default");
    namespace(&client, "default").await;
    (server, client)
}

pub(crate) async fn namespace(client: &Client, name: &str) {
    let namespace = Namespace {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        ..Namespace::default()
    };
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.create(&PostParams::default(), &namespace).await.expect("a new namespace");
}

/// An object from JSON.
pub(crate) fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("the shape of the kind")
}

/// The Status behind a failed call.
#[track_caller]
pub(crate) fn status<T: std::fmt::Debug>(result: kube::Result<T>) -> kube::core::Status {
    match result {
        Err(kube::Error::Api(status)) => *status,
        other => panic!("not refused by the server: {other:?}"),
    }
}

/// An answer to a raw request.
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: bytes::Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

/// A raw request: method, path and query, headers, body.
pub(crate) async fn raw(
    server: &ApiServer,
    method: &str,
    uri: &str,
    headers: &[(&str, &str)],
    body: impl AsRef<[u8]>,
) -> Answer {
    let mut request = http::Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request =
        request.body(http_body_util::Full::new(bytes::Bytes::copy_from_slice(body.as_ref()))).expect("a request");
    let response = server.service(Identity::admin()).oneshot(request).await.expect("never fails");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes();
    Answer { code: parts.status.as_u16(), headers: parts.headers, body }
}
