//! What the fuzz targets of the API server do: ask one in the process, which holds one pod, for something on trial. It
//! has to answer, and not with a fault of its own. Those of DNS are in [`names`].

pub mod names;

use std::sync::OnceLock;

use apiserver::{ApiServer, Config, Identity};
use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Full};
use store::{Limits, Memory, Store};
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;

/// The collection of pods.
pub const PODS: &str = "/api/v1/namespaces/default/pods";
/// The media type of Kubernetes' protobuf.
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

const POD: &str = r#"{"metadata":{"name":"p","labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i",
    "ports":[{"containerPort":80}],"env":[{"name":"e","value":"v"}]}],"volumes":[{"name":"v","emptyDir":{}}]}}"#;

struct Lab {
    server: ApiServer,
    runtime: Runtime,
}

fn lab() -> &'static Lab {
    static LAB: OnceLock<Lab> = OnceLock::new();
    LAB.get_or_init(|| {
        let store = Store::open(Memory, apiserver::parse, Limits::default()).expect("memory opens");
        let server = ApiServer::new(Config::default(), store);
        let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
        let lab = Lab { server, runtime };
        let namespace = br#"{"metadata":{"name":"default"}}"#;
        assert_eq!(lab.ask("POST", "/api/v1/namespaces", "", namespace), Some(201));
        assert_eq!(lab.ask("POST", PODS, "", POD.as_bytes()), Some(201));
        lab
    })
}

impl Lab {
    /// The code of the answer; None for what is no path, which HTTP lets nobody ask.
    fn ask(&self, method: &str, uri: &str, content_type: &str, body: &[u8]) -> Option<u16> {
        let uri: Uri = uri.parse().ok()?;
        let request = Request::builder().method(method).uri(uri).header("content-type", content_type);
        // The answer is written in the format of the question.
        let request = request.header("accept", if content_type == PROTOBUF { PROTOBUF } else { "*/*" });
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).ok()?;
        self.runtime.block_on(async {
            let answer = self.server.service(Identity::admin()).oneshot(request).await.expect("never fails");
            let code = answer.status().as_u16();
            let body = answer.into_body().collect().await.expect("a whole body").to_bytes();
            assert!(code < 500 || matches!(code, 501 | 503 | 504), "{code}: {}", String::from_utf8_lossy(&body));
            Some(code)
        })
    }
}

/// Asks, and panics where the server has failed.
pub fn ask(method: &str, uri: &str, content_type: &str, body: &[u8]) {
    lab().ask(method, uri, content_type, body);
}

/// Any text as a value in a query.
pub fn escaped(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("%{byte:02x}")).collect()
}
