//! A cluster with a node: containers run, and streams go through the client in the process.

use coracle::{Cluster, Options};
use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{AttachParams, LogParams, PostParams},
    runtime::wait::{await_condition, conditions::is_pod_running},
};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{all, object, soon, until};

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

#[tokio::test]
async fn pods_run_and_are_talked_to() {
    if !testbed::inside("node::pods_run_and_are_talked_to") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let options = Options::isolated(directory.path(), env!("CARGO_BIN_EXE_coracle"));
    let cluster = Cluster::builder().node(options).start().await.unwrap();
    cluster.node_ready().await.unwrap();
    let pods: Api<Pod> = all(&cluster.client());
    let container = json!({"name": "main", "image": "coracle/echo", "ports": [{"containerPort": 80}]});
    let pod = object(json!({
        "metadata": {"name": "echo"},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    }));
    until("a service account", async || pods.create(&PostParams::default(), &pod).await.is_ok()).await;
    soon("the pod runs", await_condition(pods.clone(), "echo", is_pod_running())).await.unwrap();

    let mut process = pods.exec("echo", ["/coracle", "--version"], &AttachParams::default()).await.unwrap();
    let said = tokio_util::io::ReaderStream::new(process.stdout().unwrap()).try_collect::<Vec<_>>().await.unwrap();
    assert!(String::from_utf8(said.concat()).unwrap().starts_with("coracle "));
    let status = soon("a status", process.take_status().unwrap()).await.unwrap();
    assert_eq!(status.status.as_deref(), Some("Success"), "{status:?}");
    process.join().await.unwrap();

    let mut ports = pods.portforward("echo", &[80]).await.unwrap();
    let mut stream = ports.take_stream(80).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: echo\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    soon("an answer", stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");

    let container = json!({"name": "main", "image": "coracle/echo", "command": ["/coracle", "--version"]});
    let once = object(json!({
        "metadata": {"name": "once"},
        "spec": {"containers": [container], "restartPolicy": "Never"},
    }));
    pods.create(&PostParams::default(), &once).await.unwrap();
    let ended = |pod: Option<&Pod>| pod.is_some_and(|pod| phase(pod) == "Succeeded");
    soon("the pod ends", await_condition(pods.clone(), "once", ended)).await.unwrap();
    let logs = pods.logs("once", &LogParams::default()).await.unwrap();
    assert!(logs.starts_with("coracle "), "{logs}");
    let follow = LogParams { follow: true, ..LogParams::default() };
    let lines = futures::AsyncBufReadExt::lines(pods.log_stream("once", &follow).await.unwrap());
    let lines: Vec<_> = soon("the end of the logs", lines.try_collect()).await.unwrap();
    assert_eq!(lines, logs.lines().collect::<Vec<_>>());
    soon("the end", cluster.shutdown()).await.unwrap();
}
