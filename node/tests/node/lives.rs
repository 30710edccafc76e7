//! The lives of pods: restarts, probes, ends, and agents that come and go.

use crate::fixture::{Cluster, condition, container, in_time, node_test, status};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use std::time::{Duration, Instant};

fn restarts(pod: &Pod) -> i32 {
    container(pod).restart_count
}

#[test]
fn containers_start_again_and_back_off() {
    node_test(|| async {
        let cluster = Cluster::start().await;
        cluster.pod("crash", "say hello + exit 3", json!({})).await;
        let pod = cluster.waits("crash", "CrashLoopBackOff").await;
        let state = container(&pod);
        assert_eq!(state.restart_count, 1);
        let last = state.last_state.unwrap().terminated.unwrap();
        assert_eq!((last.exit_code, last.reason.as_deref()), (3, Some("Error")));
        cluster.event("crash", "BackOff Back-off restarting failed container c in pod crash_default(").await;
        let (code, text) = cluster.kubelet("/containerLogs/default/crash/c?previous=true").await;
        assert_eq!((code, text.as_str()), (200, "hello\n"));
        cluster.finish().await;
    });
}

#[test]
fn pods_that_end_stay_ended() {
    node_test(|| async {
        let mut cluster = Cluster::start().await;
        let never = json!({"restartPolicy": "Never"});
        cluster.pod("well", "say bye", never.clone()).await;
        cluster.pod("badly", "exit 7", never).await;
        let failing = json!({"restartPolicy": "OnFailure", "activeDeadlineSeconds": 1});
        cluster.pod("late", "sleep", failing).await;
        let well = cluster.phase("well", "Succeeded").await;
        assert_eq!(container(&well).state.unwrap().terminated.unwrap().reason.as_deref(), Some("Completed"));
        let badly = cluster.phase("badly", "Failed").await;
        assert_eq!(container(&badly).state.unwrap().terminated.unwrap().exit_code, 7);
        let late = cluster.phase("late", "Failed").await;
        assert_eq!(status(&late, |s| s.reason.clone()), "DeadlineExceeded");
        assert_eq!(cluster.logs("well", |_| true).await, "bye\n");
        cluster.stop_agent().await;
        cluster.start_agent().await;
        cluster.pod("after", "sleep", json!({})).await;
        cluster.ready("after").await;
        for name in ["well", "badly", "late"] {
            assert_eq!(restarts(&cluster.phase(name, if name == "well" { "Succeeded" } else { "Failed" }).await), 0);
            cluster.delete(name).await;
            cluster.gone(name).await;
        }
        cluster.finish().await;
    });
}

#[test]
fn init_containers_run_first_and_sidecars_beside() {
    node_test(|| async {
        let cluster = Cluster::start().await;
        let init = |name: &str, commands: &str| {
            let args: Vec<&str> = commands.split(' ').collect();
            json!({"name": name, "image": "coracle/everything:1", "command": ["/coracle"], "args": args,
                "volumeMounts": [{"name": "v", "mountPath": "/v"}]})
        };
        let mut sidecar = init("side", "serve 90");
        sidecar["restartPolicy"] = json!("Always");
        sidecar["startupProbe"] = json!({"httpGet": {"port": 90}});
        let more = json!({
            "volumes": [{"name": "v", "emptyDir": {}}],
            "initContainers": [init("first", "write /v/x 1"), sidecar, init("second", "cat /v/x")],
            "containers": [{"volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
        });
        cluster.pod("p", "cat /v/x + sleep", more).await;
        let pod = cluster.ready("p").await;
        let init = pod.status.unwrap().init_container_statuses.unwrap();
        let states: Vec<_> = init.iter().map(|s| (s.name.as_str(), s.ready, s.restart_count)).collect();
        assert_eq!(states, [("first", true, 0), ("side", true, 0), ("second", true, 0)], "{init:#?}");
        let (_, text) = cluster.kubelet("/containerLogs/default/p/second").await;
        assert_eq!(text, "1\n");
        cluster.finish().await;
    });
}

#[test]
fn probes_decide_on_readiness_and_restarts() {
    node_test(|| async {
        let cluster = Cluster::start().await;
        let probe =
            |path: &str| json!({"httpGet": {"port": 80, "path": path}, "periodSeconds": 1, "failureThreshold": 1});
        let exec = json!({"exec": {"command": ["/coracle", "cat", "/etc/hosts"]}, "periodSeconds": 1});
        let more = |container| json!({"containers": [container]});
        cluster.pod("live", "serve 80", more(json!({"livenessProbe": probe("/bad")}))).await;
        cluster.pod("unready", "serve 80", more(json!({"readinessProbe": probe("/bad")}))).await;
        cluster.pod("exec", "sleep", more(json!({"readinessProbe": exec}))).await;
        cluster.until("live", "restarted", |pod| restarts(pod) > 0).await;
        cluster.event("live", "Unhealthy Liveness probe failed: HTTP probe failed with statuscode: 500").await;
        cluster.event("live", "Killing Container c failed liveness probe, will be restarted").await;
        cluster.event("unready", "Unhealthy Readiness probe failed: HTTP probe failed with statuscode: 500").await;
        assert_eq!(condition(&cluster.phase("unready", "Running").await, "Ready"), "False");
        cluster.ready("exec").await;
        cluster.finish().await;
    });
}

#[test]
fn a_pod_that_the_node_controller_gave_up_is_ready_again() {
    node_test(|| async {
        let cluster = Cluster::start().await;
        cluster.pod("p", "sleep", json!({})).await;
        let pod = cluster.ready("p").await;
        let mut conditions = json!(pod.status.unwrap().conditions);
        let all = conditions.as_array_mut().unwrap();
        all.iter_mut().find(|c| c["type"] == "Ready").unwrap()["status"] = json!("False");
        let patch = Patch::Merge(json!({"status": {"conditions": conditions}}));
        cluster.pods().patch_status("p", &PatchParams::default(), &patch).await.unwrap();
        cluster.ready("p").await;
        cluster.finish().await;
    });
}

#[test]
fn deletion_is_graceful_but_not_endless() {
    node_test(|| async {
        let cluster = Cluster::start().await;
        let grace = |seconds: u32| json!({"terminationGracePeriodSeconds": seconds});
        let hook = json!({"preStop": {"exec": {"command": ["/coracle", "write", "/v/hook", "ran"]}}});
        let more = json!({
            "terminationGracePeriodSeconds": 30,
            "volumes": [{"name": "v", "hostPath": {"path": cluster.dir.path().join("shared"), "type": "DirectoryOrCreate"}}],
            "containers": [{"lifecycle": hook, "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
        });
        // Process 1 of a container ignores SIGTERM unless it handles it; this one shares its pod's processes.
        let mut shared = more;
        shared["shareProcessNamespace"] = json!(true);
        cluster.pod("polite", "sleep", shared).await;
        cluster.pod("stubborn", "sleep", grace(3600)).await;
        cluster.ready("polite").await;
        cluster.ready("stubborn").await;
        let began = Instant::now();
        cluster.delete("polite").await;
        cluster.gone("polite").await;
        assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
        assert_eq!(std::fs::read_to_string(cluster.dir.path().join("shared/hook")).unwrap(), "ran");
        cluster.delete("stubborn").await;
        let force = DeleteParams::default().grace_period(0);
        cluster.pods().delete("stubborn", &force).await.unwrap();
        cluster.gone("stubborn").await;
        cluster.finish().await;
    });
}

#[test]
fn a_killed_agent_leaves_pods_that_the_next_adopts() {
    node_test(|| async {
        let mut cluster = Cluster::start().await;
        cluster.pod("kept", "serve 80", json!({})).await;
        cluster.pod("unwanted", "sleep", json!({})).await;
        let before = cluster.ready("kept").await;
        let unwanted = cluster.pod_dir(&cluster.ready("unwanted").await);
        cluster.kill_agent().await;
        cluster.pods().delete("unwanted", &DeleteParams::default().grace_period(0)).await.unwrap();
        cluster.start_agent().await;
        cluster.pod("new", "sleep", json!({})).await;
        let new = cluster.ready("new").await;
        let after = cluster.ready("kept").await;
        assert_eq!(container(&before).container_id, container(&after).container_id);
        assert_eq!(restarts(&after), 0);
        assert_ne!(status(&new, |s| s.pod_ip.clone()), status(&after, |s| s.pod_ip.clone()));
        in_time(async {
            while unwanted.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        // Its end is heard of by the new agent.
        let probe = format!("http://{}/quit", status(&after, |s| s.pod_ip.clone()));
        let _ = tokio::process::Command::new("curl").args(["-s", &probe]).status().await;
        cluster.until("kept", "restarted", |pod| restarts(pod) == 1).await;
        cluster.finish().await;
    });
}

#[test]
fn a_stopped_cluster_starts_its_pods_anew() {
    node_test(|| async {
        let mut cluster = Cluster::start().await;
        cluster.pod("p", "serve 80", json!({"terminationGracePeriodSeconds": 30})).await;
        let before = cluster.ready("p").await;
        let began = Instant::now();
        cluster.stop_agent().await;
        assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
        cluster.start_agent().await;
        let after =
            cluster.until("p", "restarted", |pod| restarts(pod) == 1 && condition(pod, "Ready") == "True").await;
        assert_eq!(status(&before, |s| s.pod_ip.clone()), status(&after, |s| s.pod_ip.clone()));
        cluster.finish().await;
    });
}

#[test]
fn a_pod_whose_shim_was_killed_gets_a_new_sandbox() {
    node_test(|| async {
        let mut cluster = Cluster::start().await;
        cluster.pod("p", "serve 80", json!({})).await;
        let pod = cluster.ready("p").await;
        let kill = async |cluster: &Cluster| {
            let shim = shim::Client::connect(&cluster.pod_dir(&pod)).await.unwrap();
            let pid = rustix::process::Pid::from_raw(i32::try_from(shim.pid()).unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        };
        kill(&cluster).await;
        let again = |count: i32| move |pod: &Pod| restarts(pod) == count && condition(pod, "Ready") == "True";
        cluster.until("p", "restarted", again(1)).await;
        cluster.event("p", "SandboxChanged Pod sandbox changed, it will be killed and re-created.").await;
        cluster.kill_agent().await;
        kill(&cluster).await;
        cluster.start_agent().await;
        cluster.until("p", "restarted again", again(2)).await;
        cluster.finish().await;
    });
}
