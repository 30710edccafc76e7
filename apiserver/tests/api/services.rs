use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Service;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::support::{object, start, status};

fn service(name: &str, spec: Value) -> Service {
    object(json!({"metadata": {"name": name}, "spec": spec}))
}

fn node_port(service: &Service) -> Option<i32> {
    service.spec.as_ref()?.ports.as_ref()?.first()?.node_port
}

fn address(service: &Service) -> String {
    service.spec.clone().unwrap_or_default().cluster_ip.unwrap_or_default()
}

async fn create(client: &Client, name: &str, spec: Value) -> kube::Result<Service> {
    let services: Api<Service> = Api::default_namespaced(client.clone());
    services.create(&PostParams::default(), &service(name, spec)).await
}

#[tokio::test]
async fn addresses() {
    let (_server, client) = start().await;
    let made = create(&client, "a", json!({"ports": [{"port": 80}]})).await.unwrap();
    assert!(address(&made).starts_with("10."), "{made:?}");
    let spec = made.spec.unwrap();
    assert_eq!(spec.cluster_ips.unwrap(), [spec.cluster_ip.unwrap()]);
    assert_eq!(spec.ip_families.unwrap(), ["IPv4"]);
    let named = create(&client, "b", json!({"clusterIP": "10.96.0.1", "ports": [{"port": 80}]})).await.unwrap();
    assert_eq!(address(&named), "10.96.0.1");
    let taken = status(create(&client, "c", json!({"clusterIP": "10.96.0.1", "ports": [{"port": 80}]})).await);
    assert_eq!(
        taken.message,
        "Service \"c\" is invalid: spec.clusterIPs: Invalid value: [\"10.96.0.1\"]: failed to allocate IP 10.96.0.1: \
         provided IP is already allocated"
    );
    let headless = create(&client, "d", json!({"clusterIP": "None", "ports": [{"port": 80}]})).await.unwrap();
    assert_eq!(address(&headless), "None");
    let name = create(&client, "e", json!({"type": "ExternalName", "externalName": "example.com"})).await.unwrap();
    assert_eq!(address(&name), "");
}

#[tokio::test]
async fn node_ports() {
    let (_server, client) = start().await;
    let ports = |port: Value| json!({"type": "NodePort", "ports": [port]});
    let made = create(&client, "a", ports(json!({"port": 80, "nodePort": 30001}))).await.unwrap();
    assert_eq!(node_port(&made), Some(30001));
    let free = create(&client, "b", ports(json!({"port": 80}))).await.unwrap();
    assert!((30000..=32767).contains(&node_port(&free).unwrap()));
    let taken = status(create(&client, "x", ports(json!({"port": 80, "nodePort": 30001}))).await);
    assert_eq!(taken.code, 422);
    assert_eq!(
        taken.message,
        "Service \"x\" is invalid: spec.ports[0].nodePort: Invalid value: 30001: provided port is already allocated"
    );
    let outside = status(create(&client, "x", ports(json!({"port": 80, "nodePort": 29999}))).await);
    assert_eq!(
        outside.message,
        "Service \"x\" is invalid: spec.ports[0].nodePort: Invalid value: 29999: provided port is not in the valid \
         range. The range of valid ports is 30000-32767"
    );
}

#[tokio::test]
async fn what_is_held_is_freed() {
    let (_server, client) = start().await;
    let services: Api<Service> = Api::default_namespaced(client.clone());
    let spec = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30007}]});
    let made = create(&client, "a", spec.clone()).await.unwrap();
    let plain = Patch::Merge(json!({"spec": {"type": "ClusterIP"}}));
    let after = services.patch("a", &PatchParams::default(), &plain).await.unwrap();
    assert_eq!((node_port(&after), address(&after)), (None, address(&made)));
    create(&client, "b", spec.clone()).await.unwrap();
    services.delete("b", &DeleteParams::default()).await.unwrap();
    create(&client, "c", spec.clone()).await.unwrap();
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let tried = service("d", json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30008}]}));
    services.create(&dry, &tried).await.unwrap();
    services.create(&PostParams::default(), &tried).await.unwrap();
    let moved = Patch::Merge(json!({"spec": {"clusterIP": "10.96.0.77", "clusterIPs": ["10.96.0.77"]}}));
    let refused = status(services.patch("c", &PatchParams::default(), &moved).await);
    assert!(refused.message.contains("may not change once set"), "{}", refused.message);
}

#[tokio::test]
async fn a_status_frees_nothing_and_the_last_finalizer_all() {
    let (_server, client) = start().await;
    let services: Api<Service> = Api::default_namespaced(client.clone());
    let spec = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30007}]});
    create(&client, "a", spec.clone()).await.unwrap();
    let address = json!({"status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}});
    services.patch_status("a", &PatchParams::default(), &Patch::Merge(address)).await.unwrap();
    assert_eq!(status(create(&client, "b", spec.clone()).await).code, 422);
    let held = Patch::Merge(json!({"metadata": {"finalizers": ["example.com/x"]}}));
    services.patch("a", &PatchParams::default(), &held).await.unwrap();
    services.delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(status(create(&client, "b", spec.clone()).await).code, 422);
    let freed = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    services.patch("a", &PatchParams::default(), &freed).await.unwrap();
    create(&client, "b", spec).await.unwrap();
}

#[tokio::test]
async fn nothing_is_given_twice() {
    let (_server, client) = start().await;
    let tasks: Vec<_> = (0..200)
        .map(|at| {
            let client = client.clone();
            let spec = json!({"type": "NodePort", "ports": [{"port": 80}]});
            tokio::spawn(async move { create(&client, &format!("s{at}"), spec).await.unwrap() })
        })
        .collect();
    let (mut addresses, mut ports) = (BTreeSet::new(), BTreeSet::new());
    for task in tasks {
        let made = task.await.unwrap();
        assert!(addresses.insert(address(&made)) && ports.insert(node_port(&made)));
    }
}

#[tokio::test]
async fn a_server_over_a_filled_store_knows_what_is_held() {
    let dir = tempfile::tempdir().unwrap();
    let spec = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30001}]});
    for name in ["a", "b"] {
        let backend = store::Sled::open(dir.path()).unwrap();
        let store = store::Store::open(backend, apiserver::parse, store::Limits::default()).unwrap();
        let server = apiserver::ApiServer::new(apiserver::Config::default(), store.clone());
        let client = Client::new(server.service(apiserver::Identity::admin()), "default");
        if name == "a" {
            crate::support::namespace(&client, "default").await;
            create(&client, name, spec.clone()).await.unwrap();
        } else {
            assert_eq!(status(create(&client, name, spec.clone()).await).code, 422);
        }
        store.close().await;
    }
}
