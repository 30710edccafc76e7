//! Logs and shells by the kubelet API.

use crate::fixture::{Cluster, in_time, node_test};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::path::Path;
use tokio::net::UnixStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest},
};

async fn open(cluster: &Cluster, path: &str) -> WebSocketStream<UnixStream> {
    asking(cluster, path, "v5.channel.k8s.io, v4.channel.k8s.io").await
}

/// A WebSocket of the first of these subprotocols.
async fn asking(cluster: &Cluster, path: &str, protocols: &'static str) -> WebSocketStream<UnixStream> {
    let socket: &Path = &cluster.dir.path().join("kubelet.sock");
    let stream = UnixStream::connect(socket).await.unwrap();
    let mut request = format!("ws://node{path}").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", protocols.parse().unwrap());
    let (socket, answer) = client_async(request, stream).await.unwrap();
    assert_eq!(protocols.split(',').next(), answer.headers()["sec-websocket-protocol"].to_str().ok());
    socket
}

/// Standard output, standard error and the Status at the end.
async fn all(socket: &mut WebSocketStream<UnixStream>) -> (String, String, Value) {
    let mut streams = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    while let Some(message) = in_time(socket.next()).await {
        if let Message::Binary(bytes) = message.unwrap() {
            streams[usize::from(bytes[0])].extend_from_slice(&bytes[1..]);
        }
    }
    let text = |n: usize| String::from_utf8(streams[n].clone()).unwrap();
    (text(1), text(2), serde_json::from_slice(&streams[3]).unwrap())
}

#[test]
fn commands_run_with_their_streams_and_exit_codes() {
    node_test(|| async {
        let cluster = Cluster::start().await;
        cluster.pod("p", "sleep", json!({})).await;
        cluster.ready("p").await;
        let exec = |args: &str| format!("/exec/default/p/c?command=%2Fcoracle&{args}");
        let mut socket = open(&cluster, &exec("command=say&command=hi&stdout=true&stderr=true")).await;
        assert_eq!(all(&mut socket).await, ("hi\n".into(), "".into(), json!({"metadata": {}, "status": "Success"})));
        let mut socket = open(&cluster, &exec("command=exit&command=5&stdout=true&stderr=true")).await;
        let (_, _, status) = all(&mut socket).await;
        assert_eq!(status["reason"], "NonZeroExitCode");
        assert_eq!(status["details"]["causes"][0], json!({"reason": "ExitCode", "message": "5"}));
        let mut socket = open(&cluster, &exec("command=bogus&stdout=true&stderr=true")).await;
        assert_eq!(all(&mut socket).await.1, "bogus: unknown command\n");
        let mut socket = open(&cluster, &exec("command=copy&stdin=true&stdout=true")).await;
        socket.send(Message::binary(&b"\0typed"[..])).await.unwrap();
        socket.send(Message::binary(&b"\xff\0"[..])).await.unwrap();
        assert_eq!(all(&mut socket).await.0, "typed");
        let mut socket = open(&cluster, &exec("command=say&command=hi&stdin=true&stdout=true&tty=true")).await;
        assert_eq!(all(&mut socket).await.0, "hi\r\n");
        let mut socket = open(&cluster, "/exec/default/p/c?command=none&stdout=true").await;
        assert_eq!(all(&mut socket).await.2["reason"], "InternalError");
        cluster.finish().await;
    });
}

#[test]
fn a_running_container_is_attached_to() {
    node_test(|| async {
        let cluster = Cluster::start().await;
        cluster
            .pod("p", "copy", json!({"restartPolicy": "Never", "containers": [{"stdin": true, "stdinOnce": true}]}))
            .await;
        cluster.ready("p").await;
        let mut socket = open(&cluster, "/attach/default/p/c?stdin=true&stdout=true&stderr=true").await;
        socket.send(Message::binary(&b"\0typed"[..])).await.unwrap();
        socket.send(Message::binary(&b"\xff\0"[..])).await.unwrap();
        assert_eq!(all(&mut socket).await.0, "typed");
        cluster.phase("p", "Succeeded").await;
        cluster.finish().await;
    });
}

#[test]
fn logs_are_followed_to_the_end() {
    node_test(|| async {
        let cluster = Cluster::start().await;
        cluster.pod("p", "say one + wait /go + say two", json!({"restartPolicy": "Never"})).await;
        cluster.ready("p").await;
        let follow = cluster.kubelet("/containerLogs/default/p/c?follow=true");
        let go = async {
            cluster.logs("p", |text| text == "one\n").await;
            let mut socket =
                open(&cluster, "/exec/default/p/c?command=%2Fcoracle&command=write&command=%2Fgo&command=x").await;
            all(&mut socket).await
        };
        let (followed, (.., status)) = tokio::join!(follow, go);
        assert_eq!(status["status"], "Success");
        assert_eq!(followed, (200, "one\ntwo\n".to_owned()));
        let (_, text) = cluster.kubelet("/containerLogs/default/p/c?tailLines=1&timestamps=true").await;
        assert!(text.starts_with("20") && text.ends_with("Z two\n"), "{text}");
        cluster.finish().await;
    });
}

#[test]
fn what_is_not_there_is_named() {
    node_test(|| async {
        let cluster = Cluster::start().await;
        cluster.pod("p", "sleep", json!({"containers": [{"image": "bad/image"}]})).await;
        cluster.waits("p", "ErrImagePull").await;
        for (path, code, text) in [
            ("/healthz", 200, "ok"),
            ("/nothing", 404, "404 page not found"),
            ("/containerLogs/default/none/c", 404, "pods \"none\" not found"),
            ("/containerLogs/default/p/x", 400, "container x is not valid for pod p"),
            ("/containerLogs/default/p/c", 400, "is waiting to start: ErrImagePull"),
            ("/containerLogs/default/p/c?previous=1", 400, "previous terminated container \"c\" in pod"),
            ("/exec/default/p/c?command=x", 500, "container not found (\"c\")"),
            ("/portForward/default/p", 400, "Upgrade request required"),
            ("/portForward/default/none", 404, "pods \"none\" not found"),
            ("/pods", 200, "\"kind\":\"PodList\""),
        ] {
            let (got, body) = cluster.kubelet(path).await;
            assert_eq!(got, code, "{path}: {body}");
            assert!(body.contains(text), "{path}: {body}");
        }
        cluster.finish().await;
    });
}

#[test]
fn ports_are_forwarded_over_channels() {
    node_test(|| async {
        let cluster = Cluster::start().await;
        cluster.pod("p", "serve 8080", json!({})).await;
        cluster.logs("p", |text| text == "listening\n").await;
        // What Python's client asks for. Each port has a channel for data and one for errors.
        let mut socket = asking(&cluster, "/portForward/default/p?ports=8080&ports=81", "v4.channel.k8s.io").await;
        socket.send(Message::binary(&b"\0GET /x HTTP/1.1\r\n\r\n"[..])).await.unwrap();
        let mut channels = [const { Vec::new() }; 4];
        while let Some(Ok(message)) = in_time(socket.next()).await {
            if let Message::Binary(bytes) = message {
                channels[usize::from(bytes[0])].extend_from_slice(&bytes[1..]);
            }
        }
        let [data, error, none, refused] = channels;
        assert!(data.starts_with(b"\x90\x1fHTTP/1.1 200 OK\r\n") && data.ends_with(b"/x"), "{data:?}");
        assert_eq!((&error[..], &none[..]), (&b"\x90\x1f"[..], &b"\x51\0"[..]));
        let refused = String::from_utf8_lossy(&refused[2..]).into_owned();
        assert!(refused.starts_with("error forwarding port 81 to pod p_default"), "{refused}");
        assert!(refused.contains("dial tcp4 127.0.0.1:81: connect: connection refused"), "{refused}");
        cluster.finish().await;
    });
}
