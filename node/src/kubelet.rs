//! The kubelet API, as the API server's logs, exec, attach and port-forward use it, on a Unix socket.

mod channel;
mod dial;
mod forward;
mod logs;
mod query;
mod shell;
mod upgrade;

pub(crate) use logs::tail;

use crate::{
    pod::containers,
    pods::{Live, Pods},
};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use query::Query;
use serde_json::json;
use std::{convert::Infallible, io, sync::Arc};
use tokio::{net::UnixListener, sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// Connections at a time; more wait.
const CONNECTIONS: usize = 1024;

type Body = UnsyncBoxBody<Bytes, io::Error>;
type Answer = Response<Body>;

/// Serves until `shutdown`.
pub(crate) async fn serve(pods: Arc<Pods>, socket: UnixListener, shutdown: CancellationToken) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&socket, &room) => accepted,
        };
        let (stream, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "failed to accept on the kubelet socket");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        let (pods, stop) = (pods.clone(), shutdown.clone());
        connections.spawn(async move {
            let service = service_fn(|request| {
                let (pods, stop) = (pods.clone(), stop.clone());
                async move { Ok::<_, Infallible>(answer(&pods, request, stop).await) }
            });
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "kubelet connection ended");
            }
            drop(permit);
        });
    }
}

async fn accept(
    socket: &UnixListener,
    room: &Arc<Semaphore>,
) -> io::Result<(tokio::net::UnixStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = room.clone().acquire_owned().await.map_err(io::Error::other)?;
    Ok((socket.accept().await?.0, permit))
}

async fn answer(pods: &Arc<Pods>, request: Request<Incoming>, stop: CancellationToken) -> Answer {
    let path = request.uri().path().to_owned();
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let reading = matches!(*request.method(), Method::GET | Method::POST);
    match (reading, parts.as_slice()) {
        (true, ["healthz"]) => text(StatusCode::OK, "ok"),
        (true, ["pods"]) => list(pods),
        (true, ["containerLogs", namespace, name, container]) => match find(pods, namespace, name, container) {
            Ok((live, _)) => logs::answer(pods, &live, container, &query, stop),
            Err(answer) => *answer,
        },
        (true, [verb @ ("exec" | "attach"), namespace, name, container]) => {
            match find(pods, namespace, name, container) {
                Ok((live, true)) => shell::answer(&live, container, *verb == "exec", &query, request, stop),
                Ok((_, false)) => {
                    text(StatusCode::INTERNAL_SERVER_ERROR, &format!("container not found (\"{container}\")"))
                }
                Err(answer) => *answer,
            }
        }
        (true, ["dial", address]) => dial::answer(address, request, stop).await,
        (true, ["portForward", namespace, name]) => forward::answer(pods, namespace, name, &query, request, stop),
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

/// The pod, and whether the container runs.
fn find(pods: &Pods, namespace: &str, name: &str, container: &str) -> Result<(Live, bool), Box<Answer>> {
    let key = (namespace.to_owned(), name.to_owned());
    let Some(live) = pods.live().get(&key).cloned() else {
        let message = format!("pods {name:?} not found");
        return Err(Box::new(text(StatusCode::NOT_FOUND, &message)));
    };
    if !live.pod.spec.iter().flat_map(containers).any(|(_, known)| known.name == container) {
        let message = format!("container {container} is not valid for pod {name}");
        return Err(Box::new(text(StatusCode::BAD_REQUEST, &message)));
    }
    let running = live.containers.get(container).is_some_and(|(_, runs)| *runs);
    Ok((live, running))
}

fn list(pods: &Pods) -> Answer {
    let items: Vec<_> = pods.live().values().map(|live| live.pod.clone()).collect();
    let items: Vec<&k8s_openapi::api::core::v1::Pod> = items.iter().map(AsRef::as_ref).collect();
    let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items});
    json_answer(StatusCode::OK, &list)
}

/// Errors, too, are text: the API server makes a Status of them.
fn text(status: StatusCode, body: &str) -> Answer {
    let body = Full::new(Bytes::from(body.to_owned())).map_err(|never| match never {});
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = status;
    answer
}

fn json_answer(status: StatusCode, value: &serde_json::Value) -> Answer {
    let mut answer = text(status, &value.to_string());
    let json = http::HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, json);
    answer
}
