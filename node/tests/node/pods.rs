//! What is in a pod, and what is said about it.

use crate::fixture::{Cluster, IMAGE, condition, container, node_test, object, status};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Secret, Service};
use kube::{Api, api::PostParams};
use serde_json::json;
use std::time::Instant;

#[test]
fn a_pod_runs_serves_and_goes() {
    node_test(|| async {
        let cluster = Cluster::start().await;
        let began = Instant::now();
        cluster.pod("web", "serve 80", json!({"containers": [{"readinessProbe": {"httpGet": {"port": 80}}}]})).await;
        let pod = cluster.ready("web").await;
        println!("ready after {:?}", began.elapsed());
        assert_eq!(status(&pod, |s| s.phase.clone()), "Running");
        assert_eq!(status(&pod, |s| s.host_ip.clone()), "10.111.0.1");
        for type_ in ["PodReadyToStartContainers", "Initialized", "ContainersReady"] {
            assert_eq!(condition(&pod, type_), "True", "{type_}");
        }
        let address = status(&pod, |s| s.pod_ip.clone());
        assert_eq!(address, "10.244.0.2");
        let state = container(&pod);
        assert!(state.container_id.unwrap().starts_with("coracle://"));
        assert!(state.image_id.starts_with("sha256:"));
        assert_eq!(state.image, "docker.io/coracle/everything:1");
        for event in ["Pulled Container image", "Created ", "Started "] {
            cluster.event("web", event).await;
        }
        let dir = cluster.pod_dir(&pod);
        assert!(dir.join("c/0.log").exists());
        cluster.delete("web").await;
        cluster.gone("web").await;
        cluster.event("web", "Killing Stopping container c").await;
        assert!(!dir.exists());
        cluster.finish().await;
    });
}

#[test]
fn pods_reach_each_other_and_the_node() {
    node_test(|| async {
        let cluster = Cluster::start().await;
        cluster.pod("one", "serve 80", json!({})).await;
        let one = cluster.ready("one").await;
        let address = status(&one, |s| s.pod_ip.clone());
        let probe = json!({"tcpSocket": {"port": 80}});
        cluster.pod("two", "serve 80", json!({"containers": [{"readinessProbe": probe}]})).await;
        let two = cluster.ready("two").await;
        assert_ne!(status(&two, |s| s.pod_ip.clone()), address);
        let other = json!({"httpGet": {"port": 80, "host": address}});
        let host = json!({"hostNetwork": true, "containers": [{"readinessProbe": other}]});
        cluster.pod("three", "serve 8080", host).await;
        let three = cluster.ready("three").await;
        assert_eq!(status(&three, |s| s.pod_ip.clone()), "10.111.0.1");
        cluster.finish().await;
    });
}

#[test]
fn the_node_is_registered_and_lives() {
    node_test(|| async {
        let cluster = Cluster::start().await;
        cluster.pod("p", "sleep", json!({})).await;
        cluster.ready("p").await;
        let node = Api::<Node>::all(cluster.client.clone()).get("n1").await.unwrap();
        let labels = node.metadata.labels.unwrap();
        assert_eq!(labels["kubernetes.io/hostname"], "n1");
        assert_eq!(labels["test"], "yes");
        let status = node.status.unwrap();
        assert_eq!(status.capacity.unwrap()["pods"].0, "110");
        assert_eq!(status.node_info.unwrap().kubelet_version, "v1.36.0");
        let ready = status.conditions.unwrap().into_iter().find(|c| c.type_ == "Ready").unwrap();
        assert_eq!((ready.status.as_str(), ready.reason.as_deref()), ("True", Some("KubeletReady")));
        let leases = Api::<Lease>::namespaced(cluster.client.clone(), "kube-node-lease");
        assert!(leases.get("n1").await.unwrap().spec.unwrap().renew_time.is_some());
        cluster.finish().await;
    });
}

#[test]
fn containers_see_their_files_and_variables() {
    node_test(|| async {
        let cluster = Cluster::start().await;
        let params = PostParams::default();
        let map: ConfigMap = object(json!({"metadata": {"name": "conf"}, "data": {"a": "from the map\n"}}));
        Api::default_namespaced(cluster.client.clone()).create(&params, &map).await.unwrap();
        let secret: Secret = object(json!({"metadata": {"name": "pass"}, "data": {"key": "aGlkZGVu"}}));
        Api::default_namespaced(cluster.client.clone()).create(&params, &secret).await.unwrap();
        let service: Service = object(json!({"metadata": {"name": "db"}, "spec": {"ports": [{"port": 5432}]}}));
        Api::default_namespaced(cluster.client.clone()).create(&params, &service).await.unwrap();
        let commands = "cat /conf/a + cat /etc/hosts + cat /etc/resolv.conf + cat /etc/hostname + env SECRET + \
                        env DB_SERVICE_PORT + env IP + say $(IP)! + write /scratch/x y + cat /scratch/x + \
                        write /memory/x z + cat /memory/x + say done + sleep";
        let more = json!({
            "volumes": [
                {"name": "conf", "configMap": {"name": "conf"}},
                {"name": "scratch", "emptyDir": {}},
                {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            ],
            "containers": [{
                "env": [
                    {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "pass", "key": "key"}}},
                    {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                ],
                "volumeMounts": [
                    {"name": "conf", "mountPath": "/conf"},
                    {"name": "scratch", "mountPath": "/scratch"},
                    {"name": "memory", "mountPath": "/memory"},
                ],
            }],
        });
        cluster.pod("files", commands, more).await;
        let text = cluster.logs("files", |text| text.contains("done\n")).await;
        for wanted in [
            "from the map\n",
            "\n10.244.0.2\tfiles\n",
            "search default.svc.cluster.local svc.cluster.local cluster.local",
            "nameserver 10.96.0.10\noptions ndots:5\n",
            "\nfiles\n",
            "SECRET=hidden\n",
            "DB_SERVICE_PORT=5432\n",
            "IP=10.244.0.2\n10.244.0.2!\nyzdone",
        ] {
            assert!(text.contains(wanted), "{wanted:?} is not in {text}");
        }
        cluster.finish().await;
    });
}

#[test]
fn what_can_not_run_says_why() {
    node_test(|| async {
        let cluster = Cluster::start().await;
        let container_is = |value| json!({"containers": [value]});
        cluster.pod("pull", "sleep", container_is(json!({"image": "bad/image"}))).await;
        cluster.pod("never", "sleep", container_is(json!({"image": "bad/i:1", "imagePullPolicy": "Never"}))).await;
        cluster.pod("name", "sleep", container_is(json!({"image": "BAD"}))).await;
        cluster.pod("user", "sleep", json!({"securityContext": {"runAsUser": 1000}})).await;
        let from = json!([{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "no", "key": "x"}}}]);
        cluster.pod("config", "sleep", container_is(json!({"env": from}))).await;
        cluster.pod("program", "", container_is(json!({"command": ["/none"], "args": []}))).await;
        let volumes = json!({"volumes": [{"name": "v", "nfs": {"server": "s", "path": "/"}}]});
        cluster.pod("mount", "sleep", volumes).await;
        cluster.waits("pull", "ErrImagePull").await;
        cluster.event("pull", "Failed Failed to pull image \"bad/image\": manifest unknown").await;
        cluster.event("pull", "BackOff Back-off pulling image \"bad/image\"").await;
        cluster.waits("pull", "ImagePullBackOff").await;
        cluster.waits("never", "ErrImageNeverPull").await;
        cluster.waits("name", "InvalidImageName").await;
        cluster.waits("user", "CreateContainerError").await;
        cluster.event("user", "but this node has only user 0").await;
        cluster.waits("config", "CreateContainerConfigError").await;
        cluster.event("config", "Error: configmap \"no\" not found").await;
        cluster.waits("program", "CrashLoopBackOff").await;
        cluster.event("mount", "FailedMount MountVolume.SetUp failed for volume \"v\" : volumes of type nfs").await;
        // What was missing comes.
        let map: ConfigMap = object(json!({"metadata": {"name": "no"}, "data": {"x": "1"}}));
        Api::default_namespaced(cluster.client.clone()).create(&PostParams::default(), &map).await.unwrap();
        cluster.ready("config").await;
        cluster.finish().await;
    });
}

#[test]
fn images_are_pulled_when_they_are_not_there() {
    node_test(|| async {
        let cluster = Cluster::start().await;
        cluster.pod("p", "sleep", json!({"containers": [{"image": "good/image:2"}]})).await;
        cluster.ready("p").await;
        assert_eq!(*cluster.pulled.lock().unwrap(), ["docker.io/good/image:2"]);
        cluster.event("p", "Pulling Pulling image \"good/image:2\"").await;
        cluster.event("p", "Pulled Successfully pulled image \"good/image:2\" in").await;
        assert!(IMAGE.ends_with(":1"));
        cluster.finish().await;
    });
}

#[test]
fn many_pods_start_side_by_side() {
    node_test(|| async {
        let cluster = Cluster::start().await;
        let began = Instant::now();
        let names: Vec<String> = (0..20).map(|number| format!("p{number}")).collect();
        for name in &names {
            cluster
                .pod(name, "serve 80", json!({"containers": [{"readinessProbe": {"tcpSocket": {"port": 80}}}]}))
                .await;
        }
        let mut addresses = std::collections::BTreeSet::new();
        for name in &names {
            addresses.insert(status(&cluster.ready(name).await, |s| s.pod_ip.clone()));
        }
        println!("{} ready after {:?}", names.len(), began.elapsed());
        assert_eq!(addresses.len(), names.len());
        cluster.finish().await;
    });
}
