//! How clusters come and go.

use std::{fs, path::PathBuf, process::Command};

use coracle::Cluster;
use futures::TryStreamExt as _;
use k8s_openapi::api::{
    authentication::v1::SelfSubjectReview,
    core::v1::{ConfigMap, Namespace},
};
use kube::{
    Api,
    api::{ListParams, PostParams, WatchParams},
};

use crate::{map, soon, until};

fn threads() -> usize {
    fs::read_dir("/proc/self/task").expect("/proc").count()
}

/// What the process has open, but for what tells that, and for the source of randomness, which it keeps.
fn open() -> Vec<PathBuf> {
    let entries = fs::read_dir("/proc/self/fd").expect("/proc").flatten();
    let mut targets: Vec<_> = entries.filter_map(|entry| fs::read_link(entry.path()).ok()).collect();
    targets.retain(|target| !target.ends_with("fd") && !target.ends_with("urandom"));
    targets.sort();
    targets
}

fn listening() -> usize {
    let table = |file: &str| fs::read_to_string(file).expect("/proc");
    [table("/proc/self/net/tcp"), table("/proc/self/net/tcp6")].join("\n").matches(" 0A ").count()
}

#[tokio::test]
async fn it_is_ready_when_it_has_started() {
    let cluster = Cluster::builder().start().await.unwrap();
    let namespaces: Api<Namespace> = Api::all(cluster.client());
    let names = namespaces.list(&ListParams::default()).await.unwrap();
    let names: Vec<_> = names.into_iter().filter_map(|namespace| namespace.metadata.name).collect();
    assert_eq!(names, ["default", "kube-node-lease", "kube-public", "kube-system"]);
    let version = cluster.client().apiserver_version().await.unwrap();
    assert!(version.git_version.starts_with("v1.36"), "{version:?}");
    cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn clusters_do_not_know_each_other() {
    let clusters: Vec<_> = futures::future::join_all((0..20).map(|_| Cluster::builder().api_only().start())).await;
    for (number, cluster) in clusters.iter().enumerate() {
        let maps: Api<ConfigMap> = Api::default_namespaced(cluster.as_ref().unwrap().client());
        maps.create(&PostParams::default(), &map(&format!("map-{number}"))).await.unwrap();
    }
    for (number, cluster) in clusters.iter().enumerate() {
        let maps: Api<ConfigMap> = Api::default_namespaced(cluster.as_ref().unwrap().client());
        let names: Vec<_> = maps.list(&ListParams::default()).await.unwrap().into_iter().collect();
        assert_eq!(names.len(), 1);
        assert_eq!(names[0].metadata.name, Some(format!("map-{number}")));
    }
}

#[tokio::test]
async fn nothing_is_left_of_a_dropped_cluster() {
    let metrics = tokio::runtime::Handle::current().metrics();
    let (files, before) = (open(), threads());
    let cluster = Cluster::builder().start().await.unwrap();
    cluster.kubeconfig().unwrap();
    assert!(threads() > before && metrics.num_alive_tasks() > 0, "a store has a thread, controllers are tasks");
    {
        let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
        let mut changes = std::pin::pin!(maps.watch(&WatchParams::default(), "0").await.unwrap());
        drop(cluster);
        let rest = async { while changes.try_next().await.is_ok_and(|change| change.is_some()) {} };
        soon("watches end", rest).await;
        until("no thread is left", async || threads() == before).await;
        assert!(maps.create(&PostParams::default(), &map("late")).await.is_err());
    }
    // A client is a task, too.
    until("no task is left", async || metrics.num_alive_tasks() == 0).await;
    assert_eq!(open(), files);
}

#[tokio::test]
async fn a_durable_cluster_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let builder = Cluster::builder().durable(directory.path());
    let cluster = builder.clone().start().await.unwrap();
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    let made = maps.create(&PostParams::default(), &map("kept")).await.unwrap();
    let refused = builder.clone().start().await.expect_err("the store is open");
    assert!(format!("{refused:#}").contains("open the store"), "{refused:#}");
    cluster.shutdown().await.unwrap();

    let cluster = builder.start().await.unwrap();
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    assert_eq!(maps.get("kept").await.unwrap(), made);
    cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn clients_are_who_they_are_said_to_be() {
    let cluster = Cluster::builder().api_only().start().await.unwrap();
    for (client, user, group) in [
        (cluster.client(), "system:admin", "system:masters"),
        (cluster.client_as("jane", &["developers"]), "jane", "developers"),
    ] {
        let reviews: Api<SelfSubjectReview> = Api::all(client);
        let review = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await.unwrap();
        let seen = review.status.and_then(|status| status.user_info).unwrap();
        assert_eq!(seen.username.as_deref(), Some(user));
        assert_eq!(seen.groups.unwrap(), [group, "system:authenticated"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_listens_only_when_a_kubeconfig_is_asked_for() {
    let kubectl = testbed::need("kubectl");
    let before = listening();
    let cluster = Cluster::builder().api_only().start().await.unwrap();
    assert_eq!(listening(), before);
    let kubeconfig = cluster.kubeconfig().unwrap();
    assert_eq!(kubeconfig.current_context.as_deref(), Some("coracle"));
    let server = kubeconfig.clusters[0].cluster.as_ref().and_then(|cluster| cluster.server.clone()).unwrap();
    assert!(server.starts_with("https://127.0.0.1:"), "{server}");

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("kubeconfig");
    fs::write(&file, cluster.kubeconfig_yaml().unwrap()).unwrap();
    let command = ["get", "namespace", "default", "-o", "name"];
    let said = tokio::task::spawn_blocking(move || {
        testbed::text(Command::new(kubectl).arg("--kubeconfig").arg(file).env("HOME", directory.path()).args(command))
    });
    assert_eq!(said.await.unwrap(), "namespace/default\n");
    cluster.shutdown().await.unwrap();
    assert!(std::net::TcpStream::connect(server.trim_start_matches("https://")).is_err());
}
