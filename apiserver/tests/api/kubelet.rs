use std::sync::Arc;

use apiserver::{ApiServer, Config, Identity, Io};
use kube::Client;
use store::{Limits, Memory, Store};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use crate::support::{namespace, raw};

/// A server whose nodes answer every request with its first line.
fn server() -> ApiServer {
    let store = Store::open(Memory, apiserver::parse, Limits::default()).expect("memory opens");
    let kubelet: apiserver::Kubelet = Arc::new(|node: &str| {
        let (near, far) = duplex(64 << 10);
        tokio::spawn(echo(far, node.to_owned()));
        Box::pin(async move { Ok(Box::new(near) as Box<dyn Io>) })
    });
    ApiServer::new(Config { kubelet, ..Config::default() }, store)
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
    let logs = raw(&server, "GET", &format!("{pods}/two/log?container=b"), &[], "").await;
    assert!(logs.body.starts_with(b"n1 GET /containerLogs/default/two/b"), "{:?}", logs.body);
    let which = raw(&server, "GET", &format!("{pods}/two/log"), &[], "").await;
    assert_eq!(which.code, 400);
    assert_eq!(which.json()["message"], "a container name must be specified for pod two, choose one of: [a b]");
    let unbound = raw(&server, "GET", &format!("{pods}/un/log"), &[], "").await;
    assert_eq!(unbound.json()["message"], "pod un does not have a host assigned");
    assert_eq!(raw(&server, "GET", &format!("{pods}/none/log"), &[], "").await.code, 404);
}
