use std::sync::Arc;

use apiserver::{ApiServer, Config, Identity, Io};
use kube::Client;
use store::{Limits, Memory, Store};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use crate::support::{namespace, raw};

fn server_with(kubelet: apiserver::Kubelet) -> ApiServer {
    let store = Store::open(Memory, apiserver::parse, Limits::default()).expect("memory opens");
    ApiServer::new(Config { kubelet, ..Config::default() }, store)
}

/// A server whose nodes answer every request with its first line.
fn server() -> ApiServer {
    let kubelet: apiserver::Kubelet = Arc::new(|node: &str| {
        let (near, far) = duplex(64 << 10);
        tokio::spawn(echo(far, node.to_owned()));
        Box::pin(async move { Ok(Box::new(near) as Box<dyn Io>) })
    });
    server_with(kubelet)
}

async fn echo(mut connection: DuplexStream, node: String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.expect("a request"));
    }
    let head = String::from_utf8(head).expect("text");
    let line = format!("{node} {}\n", head.lines().next().unwrap_or_default());
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{line}", line.len());
    connection.write_all(answer.as_bytes()).await.expect("the client waits");
}

#[tokio::test]
async fn logs_come_from_the_node_of_the_pod() {
    let server = server();
    namespace(&Client::new(server.service(Identity::admin()), "default"), "default").await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = |name: &str, node: &str, containers: &str| {
        format!(r#"{{"metadata":{{"name":"{name}"}},"spec":{{{node}"containers":[{containers}]}}}}"#)
    };
    let one = r#"{"name":"c","image":"i"}"#;
    let two = r#"{"name":"a","image":"i"},{"name":"b","image":"i"}"#;
    for body in [pod("one", r#""nodeName":"n1","#, one), pod("two", r#""nodeName":"n1","#, two), pod("un", "", one)] {
        let made = raw(&server, "POST", pods, &[], &body).await;
        assert_eq!(made.code, 201, "{:?}", made.body);
    }
    let logs = raw(&server, "GET", &format!("{pods}/one/log?tailLines=5&follow=true"), &[], "").await;
    let expected = "n1 GET /containerLogs/default/one/c?tailLines=5&follow=true HTTP/1.1\n";
    assert_eq!((logs.code, &*logs.body), (200, expected.as_bytes()));
    assert_eq!(logs.headers["content-type"], "text/plain");
    let logs = raw(&server, "GET", &format!("{pods}/two/log?container=b"), &[], "").await;
    assert!(logs.body.starts_with(b"n1 GET /containerLogs/default/two/b"), "{:?}", logs.body);
    let which = raw(&server, "GET", &format!("{pods}/two/log"), &[], "").await;
    assert_eq!(which.code, 400);
    assert_eq!(which.json()["message"], "a container name must be specified for pod two, choose one of: [a b]");
    let unbound = raw(&server, "GET", &format!("{pods}/un/log"), &[], "").await;
    assert_eq!(unbound.json()["message"], "pod un does not have a host assigned");
    assert_eq!(raw(&server, "GET", &format!("{pods}/none/log"), &[], "").await.code, 404);
}

/// A kubelet that upgrades, and then sends back what it gets.
async fn upgrade(mut connection: DuplexStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.expect("a request"));
    }
    let head = String::from_utf8(head).expect("text").to_lowercase();
    assert!(head.starts_with("get /exec/default/p/c?command=ls&stdin=true "), "{head}");
    assert!(head.contains("sec-websocket-protocol: v5.channel.k8s.io"), "{head}");
    let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                  sec-websocket-protocol: v5.channel.k8s.io\r\n\r\n";
    connection.write_all(answer.as_bytes()).await.expect("the client waits");
    let mut bytes = [0; 16];
    while let Ok(count @ 1..) = connection.read(&mut bytes).await {
        connection.write_all(&bytes[..count]).await.expect("the client reads");
    }
}

#[tokio::test]
async fn exec_is_upgraded_and_copied_both_ways() {
    let kubelet: apiserver::Kubelet = Arc::new(|_: &str| {
        let (near, far) = duplex(64 << 10);
        tokio::spawn(upgrade(far));
        Box::pin(async move { Ok(Box::new(near) as Box<dyn Io>) })
    });
    let server = server_with(kubelet);
    namespace(&Client::new(server.service(Identity::admin()), "default"), "default").await;
    let pod = r#"{"metadata":{"name":"p"},"spec":{"nodeName":"n","containers":[{"name":"c","image":"i"}]}}"#;
    assert_eq!(raw(&server, "POST", "/api/v1/namespaces/default/pods", &[], pod).await.code, 201);
    let dir = tempfile::tempdir().unwrap();
    let listener = std::os::unix::net::UnixListener::bind(dir.path().join("api.sock")).unwrap();
    let shutdown = tokio_util::sync::CancellationToken::new();
    let serving = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { server.serve_unix(listener, Identity::admin(), shutdown).await }
    });
    let mut stream = tokio::net::UnixStream::connect(dir.path().join("api.sock")).await.unwrap();
    let request = "GET /api/v1/namespaces/default/pods/p/exec?command=ls&container=c&stdin=true HTTP/1.1\r\n\
                   host: api\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-protocol: v5.channel.k8s.io\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    assert!(head.starts_with("http/1.1 101 ") && head.contains("sec-websocket-protocol: v5.channel.k8s.io"), "{head}");
    stream.write_all(b"hello").await.unwrap();
    let mut back = [0; 5];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"hello");
    shutdown.cancel();
    serving.await.unwrap().unwrap();
    assert_eq!(stream.read(&mut back).await.unwrap(), 0, "the shutdown ends it");
}
