//! What only a pod's node can answer: logs, exec, attach and port-forward, forwarded to its kubelet API.

use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::copy_bidirectional;

use crate::body::{self, Body};
use crate::call::Call;
use crate::object::{list, text};
use crate::status::Status;
use crate::{answer, query};

/// The subresources of pods that go this way.
pub(crate) const SUBRESOURCES: [&str; 4] = ["log", "exec", "attach", "portforward"];

/// Names the container to take where a request names none.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
/// The largest error message of a kubelet that is passed on.
const ERROR_LIMIT: usize = 64 << 10;

/// Forwards a call to the kubelet API of the pod's node and streams both ways.
pub(crate) async fn forward(call: &Call, mut parts: Parts) -> Result<Response<Body>, Status> {
    let entry = call.server.store.get(&call.key()).ok_or_else(|| call.not_found())?;
    let pod = answer::read(&entry.bytes)?;
    let path = target(&pod, &call.subresource, call.query.get("container"))?;
    let node = text(&pod, "/spec/nodeName");
    if node.is_empty() {
        return Err(Status::bad_request(format!("pod {} does not have a host assigned", call.name)));
    }
    let query = query::without(parts.uri.query().unwrap_or_default(), "container");
    let upgrade = parts.extensions.remove::<hyper::upgrade::OnUpgrade>();
    let response = ask(call, node, &format!("{path}?{query}")).await?;
    match response.status() {
        StatusCode::SWITCHING_PROTOCOLS => Ok(splice(call, upgrade, response)),
        status if status.is_success() => Ok(stream(call, response)),
        _ => Err(refused(response).await),
    }
}

/// Joins the client's connection with that of an upgraded answer, until either ends or the server does.
pub(crate) fn splice(
    call: &Call,
    upgrade: Option<hyper::upgrade::OnUpgrade>,
    mut response: Response<Incoming>,
) -> Response<Body> {
    // A client in this process has no connection to be upgraded: it gets the backend's.
    let Some(upgrade) = upgrade else { return response.map(|_| body::full("")) };
    let far = hyper::upgrade::on(&mut response);
    let shutdown = call.server.shutdown.clone();
    tokio::spawn(async move {
        let (near, far) = match tokio::try_join!(upgrade, far) {
            Ok(both) => both,
            Err(error) => return tracing::debug!(%error, "failed to upgrade"),
        };
        let (mut near, mut far) = (TokioIo::new(near), TokioIo::new(far));
        tokio::select! {
            () = shutdown.cancelled() => {}
            // Either end may just go; there is nobody left to tell.
            _ = copy_bidirectional(&mut near, &mut far) => {}
        }
    });
    response.map(|_| body::full(""))
}

/// The path of the kubelet API.
fn target(pod: &Value, subresource: &str, container: Option<&str>) -> Result<String, Status> {
    let (namespace, name) = (text(pod, "/metadata/namespace"), text(pod, "/metadata/name"));
    let kind = match subresource {
        "portforward" => return Ok(format!("/portForward/{namespace}/{name}")),
        "log" => "containerLogs",
        other => other,
    };
    let container = self::container(pod, container).map_err(Status::bad_request)?;
    Ok(format!("/{kind}/{namespace}/{name}/{container}"))
}

/// The container that is meant.
fn container<'a>(pod: &'a Value, asked: Option<&'a str>) -> Result<&'a str, String> {
    let names =
        |field: &str| -> Vec<&'a str> { list(pod, field).iter().map(|container| text(container, "/name")).collect() };
    let (main, init) = (names("/spec/containers"), names("/spec/initContainers"));
    let name = text(pod, "/metadata/name");
    let asked =
        asked.or_else(|| pod["metadata"]["annotations"][DEFAULT_CONTAINER].as_str().filter(|name| main.contains(name)));
    match (asked, main.as_slice()) {
        (Some(asked), _) => {
            let known =
                main.contains(&asked) || init.contains(&asked) || names("/spec/ephemeralContainers").contains(&asked);
            if known { Ok(asked) } else { Err(format!("container {asked} is not valid for pod {name}")) }
        }
        (None, [only]) => Ok(only),
        (None, _) => {
            let mut message =
                format!("a container name must be specified for pod {name}, choose one of: [{}]", main.join(" "));
            if !init.is_empty() {
                message.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            Err(message)
        }
    }
}

/// Sends the request over a connection of its own.
async fn ask(call: &Call, node: &str, target: &str) -> Result<Response<Incoming>, Status> {
    let mut sender = connect(call, node).await?;
    let mut request = Request::builder().method(Method::GET).uri(target).header(header::HOST, "kubelet");
    for (name, value) in &call.headers {
        if passes(name) {
            request = request.header(name, value);
        }
    }
    let request = request.body(body::full("")).map_err(|error| Status::bad_request(error.to_string()))?;
    sender.send_request(request).await.map_err(dialing)
}

fn dialing(error: impl std::fmt::Display) -> Status {
    Status::internal(format!("error dialing backend: {error}"))
}

/// A connection to the kubelet API of a node.
pub(crate) async fn connect(call: &Call, node: &str) -> Result<http1::SendRequest<Body>, Status> {
    let io = (call.server.config.kubelet)(node).await.map_err(dialing)?;
    shake(TokioIo::new(io)).await.map_err(dialing)
}

/// HTTP on a connection, which lives as long as what is asked on it.
pub(crate) async fn shake(
    io: impl hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
) -> hyper::Result<http1::SendRequest<Body>> {
    let (sender, connection) = http1::handshake(io).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to a backend");
        }
    });
    Ok(sender)
}

/// The headers of an upgrade are the kubelet's business; all others are the API server's.
fn passes(name: &HeaderName) -> bool {
    matches!(name.as_str(), "connection" | "upgrade" | "accept" | "x-stream-protocol-version")
        || name.as_str().starts_with("sec-websocket-")
}

/// The body as it comes, until the server ends its streams.
fn stream(call: &Call, response: Response<Incoming>) -> Response<Body> {
    use futures::StreamExt;
    let shutdown = call.server.shutdown.clone().cancelled_owned();
    let (parts, body) = response.into_parts();
    let chunks = body.into_data_stream().take_until(shutdown);
    let mut response = Response::new(body::stream(chunks.filter_map(|chunk| async { chunk.ok() })));
    // What streams is logs; clients that are generated read nothing without a type.
    let content_type = parts.headers.get(header::CONTENT_TYPE).cloned();
    let content_type = content_type.unwrap_or(HeaderValue::from_static("text/plain"));
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

/// What a kubelet says of an error.
pub(crate) async fn said(response: Response<Incoming>) -> String {
    let body = Limited::new(response.into_body(), ERROR_LIMIT).collect().await;
    body.map(|body| String::from_utf8_lossy(&body.to_bytes()).trim().to_owned()).unwrap_or_default()
}

/// The kubelet's error message as a Status.
async fn refused(response: Response<Incoming>) -> Status {
    let code = response.status().as_u16();
    let message = said(response).await;
    match code {
        400 => Status::bad_request(message),
        404 => Status::new(404, "NotFound", message),
        _ => Status::internal(message),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn containers() {
        let pod = |annotation: &str, names: &[&str]| {
            let containers: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
            json!({
                "metadata": {"name": "x", "annotations": {"kubectl.kubernetes.io/default-container": annotation}},
                "spec": {"containers": containers},
            })
        };
        assert_eq!(container(&pod("", &["a"]), None), Ok("a"));
        assert_eq!(container(&pod("b", &["a", "b"]), None), Ok("b"));
        assert_eq!(container(&pod("b", &["a", "b"]), Some("a")), Ok("a"));
        assert_eq!(container(&pod("", &["a"]), Some("z")), Err("container z is not valid for pod x".into()));
        let why = "a container name must be specified for pod x, choose one of: [a b]";
        assert_eq!(container(&pod("", &["a", "b"]), None), Err(why.into()));
    }
}
