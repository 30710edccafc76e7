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
    let spec = json!({"type": "LoadBalancer", "ports": [{"port": 80, "nodePort": 30007}]});
    create(&client, "a", spec.clone()).await.unwrap();
    let address = json!({"status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}});
    let told = services.patch_status("a", &PatchParams::default(), &Patch::Merge(address)).await.unwrap();
    let ingress = told.status.unwrap().load_balancer.unwrap().ingress.unwrap();
    assert_eq!(ingress[0].ip_mode.as_deref(), Some("VIP"));
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

#[tokio::test]
async fn ports_for_health() {
    let (_server, client) = start().await;
    let services: Api<Service> = Api::default_namespaced(client.clone());
    let local = |port: u16, health: u16| {
        json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": health,
            "ports": [{"port": 80, "nodePort": port}]})
    };
    let health = |service: &Service| service.spec.clone().unwrap_or_default().health_check_node_port;
    let made = create(&client, "a", local(30001, 0)).await.unwrap();
    let given = health(&made).unwrap();
    assert!((30000..=32767).contains(&given) && given != 30001);
    let set =
        async |spec: Value| services.patch("a", &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await;
    assert_eq!(health(&set(json!({"healthCheckNodePort": null})).await.unwrap()), Some(given), "it stays");
    let moved = status(set(json!({"healthCheckNodePort": 30002})).await);
    assert!(moved.message.ends_with("spec.healthCheckNodePort: Forbidden: field is immutable"), "{}", moved.message);
    let taken = status(create(&client, "b", local(30003, given.try_into().unwrap())).await);
    assert!(taken.message.ends_with("provided port is already allocated"), "{}", taken.message);
    let own = status(create(&client, "b", local(30003, 30003)).await);
    assert!(own.message.ends_with("provided port is already allocated"), "{}", own.message);
    assert_eq!(health(&set(json!({"externalTrafficPolicy": "Cluster"})).await.unwrap()), None);
    let named = create(&client, "b", local(30003, given.try_into().unwrap())).await.unwrap();
    assert_eq!(health(&named), Some(given));
}

#[tokio::test]
async fn two_families() {
    let mut config = apiserver::Config::default();
    config.services.push("fd00:10:96::/112".parse().unwrap());
    let store = store::Store::open(store::Memory, apiserver::parse, store::Limits::default()).unwrap();
    let server = apiserver::ApiServer::new(config, store);
    let client = Client::new(server.service(apiserver::Identity::admin()), "default");
    crate::support::namespace(&client, "default").await;
    let services: Api<Service> = Api::default_namespaced(client.clone());
    let policy = |policy: &str| json!({"ipFamilyPolicy": policy, "ports": [{"port": 80}]});
    let addresses = |service: &Service| service.spec.clone().unwrap().cluster_ips.unwrap();
    let one = create(&client, "a", json!({"ports": [{"port": 80}]})).await.unwrap();
    assert_eq!(addresses(&one).len(), 1);
    let set =
        async |spec: Value| services.patch("a", &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await;
    let two = set(json!({"ipFamilyPolicy": "PreferDualStack"})).await.unwrap();
    assert_eq!(addresses(&two)[0], addresses(&one)[0]);
    assert!(addresses(&two)[1].starts_with("fd00:10:96::"), "{two:?}");
    assert_eq!(two.spec.unwrap().ip_families.unwrap(), ["IPv4", "IPv6"]);
    let second = addresses(&services.get("a").await.unwrap())[1].clone();
    let six = json!({"clusterIP": second, "ports": [{"port": 80}]});
    assert!(status(create(&client, "b", six.clone()).await).message.ends_with("provided IP is already allocated"));
    let back = set(json!({"ipFamilyPolicy": "SingleStack"})).await.unwrap();
    assert_eq!(addresses(&back), addresses(&one));
    let freed = create(&client, "b", six).await.unwrap();
    assert_eq!((addresses(&freed), freed.spec.unwrap().ip_families.unwrap()), (vec![second], vec!["IPv6".to_owned()]));
    let both = create(&client, "c", policy("RequireDualStack")).await.unwrap();
    assert_eq!(addresses(&both).len(), 2);
    let (_single, client) = start().await;
    let refused = status(create(&client, "c", policy("RequireDualStack")).await);
    assert!(refused.message.ends_with("this cluster is not configured for dual-stack services"), "{}", refused.message);
}
