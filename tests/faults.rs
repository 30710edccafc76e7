//! Faults: a cluster that is killed, stopped, started twice, or given what cannot run.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::TcpListener,
    process::Command,
    time::Duration,
};

use testbed::{Lab, NODE, Options, Traces, inside, need, need_root, processes, text, wait};

const PATIENCE: Duration = Duration::from_secs(30);
const CORACLE: &str = env!("CARGO_BIN_EXE_coracle");

fn lab() -> Lab {
    Lab::start(CORACLE, Options::default())
}

/// The NodePort lesson, its pods ready.
fn deployed(lab: &Lab) {
    lab.apply(include_str!("../examples/nodeport.yaml"));
    lab.kubectl("rollout status deployment/nginx-deploy --timeout=30s");
}

/// An answer from the lesson's NodePort.
fn answers(lab: &Lab) {
    wait("answer", PATIENCE, || lab.curl(&format!("http://{NODE}:30001")));
}

/// Waits until a pod's status is as wanted.
fn status(lab: &Lab, pod: &str, what: &str, wanted: impl Fn(&serde_json::Value) -> bool) {
    wait(what, PATIENCE, || {
        let pod = lab.get(&format!("pod {pod}"));
        if wanted(&pod["status"]) { Ok(()) } else { Err(pod["status"].to_string()) }
    });
}

/// Waits until an event says this.
fn event(lab: &Lab, parts: &[&str]) {
    wait("event", PATIENCE, || {
        let events = lab.kubectl("get events -A");
        let found = events.lines().any(|line| parts.iter().all(|part| line.contains(part)));
        if found { Ok(()) } else { Err(events) }
    });
}

/// The processes of containers of the built-in image.
fn containers() -> BTreeMap<u32, String> {
    processes().into_iter().filter(|(_, command)| command.starts_with("/coracle echo")).collect()
}

/// The restart counts of the lesson's pods, by name.
fn restarts(lab: &Lab) -> BTreeMap<String, u64> {
    let pods = lab.get("pods -l env=demo");
    let pods = pods["items"].as_array().expect("a list");
    let count = |pod: &serde_json::Value| {
        let restarts = pod["status"]["containerStatuses"][0]["restartCount"].as_u64().expect("a count");
        (pod["metadata"]["name"].as_str().expect("a name").to_owned(), restarts)
    };
    pods.iter().map(count).collect()
}

#[test]
fn an_image_that_does_not_exist() {
    if !inside("an_image_that_does_not_exist") {
        return;
    }
    let lab = lab();
    lab.kubectl("run lost --image=127.0.0.1:9/nothing/here:1");
    let reasons = ["ErrImagePull", "ImagePullBackOff"];
    let waiting = |status: &serde_json::Value, reasons: &[&str]| {
        reasons.contains(&status["containerStatuses"][0]["state"]["waiting"]["reason"].as_str().unwrap_or_default())
    };
    status(&lab, "lost", "reason", |status| waiting(status, &reasons));
    status(&lab, "lost", "back-off", |status| waiting(status, &reasons[1..]));
    event(&lab, &["pod/lost", "Failed to pull image \"127.0.0.1:9/nothing/here:1\"", "refused"]);
    event(&lab, &["pod/lost", "Error: ImagePullBackOff"]);
    event(&lab, &["pod/lost", "Back-off pulling image"]);
    lab.kubectl("run found --image=coracle/echo");
    lab.kubectl("wait --for=condition=Ready pod/found --timeout=30s");
    lab.apply("apiVersion: v1\nkind: Pod\nmetadata:\n  name: badly-named\nspec:\n  containers:\n  - name: main\n    image: 'Not/A:Name:'\n");
    status(&lab, "badly-named", "InvalidImageName", |status| waiting(status, &["InvalidImageName"]));
    lab.kubectl("delete pod lost badly-named");
}

#[test]
fn a_container_that_fails() {
    if !inside("a_container_that_fails") {
        return;
    }
    let lab = lab();
    lab.import_nginx();
    lab.kubectl("run failing --image=nginx --command -- sh -c 'exit 3'");
    status(&lab, "failing", "CrashLoopBackOff", |status| {
        let container = &status["containerStatuses"][0];
        container["state"]["waiting"]["reason"] == "CrashLoopBackOff"
            && container["lastState"]["terminated"]["exitCode"] == 3
            && container["lastState"]["terminated"]["reason"] == "Error"
            && container["restartCount"].as_u64() > Some(0)
    });
    event(&lab, &["pod/failing", "BackOff", "Back-off restarting failed container"]);
    let shown = lab.kubectl("describe pod failing");
    assert!(shown.contains("CrashLoopBackOff") && shown.contains("Exit Code:    3"), "{shown}");

    lab.kubectl("run missing --image=nginx --restart=Never --command -- /no/such/program");
    status(&lab, "missing", "failed start", |status| {
        let text = status.to_string();
        text.contains("/no/such/program") && text.contains("no such file or directory")
    });
    lab.kubectl("run done --image=nginx --restart=Never --command -- sh -c 'exit 0'");
    status(&lab, "done", "Succeeded", |status| status["phase"] == "Succeeded");
    lab.kubectl("run ended --image=nginx --restart=Never --command -- sh -c 'exit 5'");
    status(&lab, "ended", "Failed", |status| {
        status["phase"] == "Failed" && status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 5
    });
}

#[test]
fn a_container_that_takes_too_much_memory() {
    if !inside("a_container_that_takes_too_much_memory") {
        return;
    }
    need_root();
    let lab = lab();
    lab.import_nginx();
    lab.apply(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: hungry\nspec:\n  restartPolicy: Never\n  containers:\n  - name: main\n    image: nginx\n    command: [sh, -c, 'x=$(cat /dev/urandom)']\n    resources:\n      limits:\n        memory: 24Mi\n",
    );
    status(&lab, "hungry", "OOMKilled", |status| {
        let end = &status["containerStatuses"][0]["state"]["terminated"];
        end["reason"] == "OOMKilled" && end["exitCode"] == 137
    });
}

#[test]
fn what_is_taken_is_named() {
    if !inside("what_is_taken_is_named") {
        return;
    }
    let mut lab = Lab::prepare(CORACLE, Options::default());
    let before = Traces::now();
    let taken = TcpListener::bind("127.0.0.1:6443").expect("a listener");
    let said = lab.complains(&["up"]);
    assert!(said.contains("127.0.0.1:6443") && said.contains("--api-port") && said.contains("in use"), "{said}");
    before.assert_back(&lab.id());
    drop(taken);

    lab.up();
    let said = lab.complains(&["up"]);
    assert!(
        said.contains("already") && said.contains("coracle down") && said.contains(&lab.pid().to_string()),
        "{said}"
    );
    let said = lab.complains(&["up", "--detach"]);
    assert!(said.contains("already") && said.contains("coracle down"), "{said}");
    assert!(lab.says(&["status"]).contains("Ready"), "the first one goes on");
    for (arguments, named) in [
        (&["up", "--service-cidr", "10.96.0.0/28"][..], "--service-cidr"),
        (&["up", "--service-cidr", "fd00::/112"], "--service-cidr"),
        (&["up", "--pod-cidr", "10.96.0.0/16"], "overlap"),
        (&["up", "--node-ports", "5-4"], "range of ports"),
        (&["up", "--node-name", "No_Name"], "--node-name"),
        (&["image", "import", "/does/not/exist.tar"], "/does/not/exist.tar"),
    ] {
        let said = lab.complains(arguments);
        assert!(said.contains(named), "{arguments:?}: {said}");
    }
}

#[test]
fn no_root_where_it_is_needed() {
    if !inside("no_root_where_it_is_needed") {
        return;
    }
    let lab = Lab::prepare(CORACLE, Options { ordinary: true, ..Options::default() });
    let said = lab.complains(&["up"]);
    assert!(said.contains("needs root") && said.contains("sudo") && said.contains("--isolated"), "{said}");
    let said = lab.complains(&["status"]);
    assert!(said.contains("no cluster runs") && said.contains("coracle up"), "{said}");
    let said = lab.complains(&["kubeconfig"]);
    assert!(said.contains("coracle up"), "{said}");
    assert!(lab.says(&["down"]).contains("there is no cluster"));
}

#[test]
fn killed_and_started_again_nothing_is_lost() {
    if !inside("killed_and_started_again_nothing_is_lost") {
        return;
    }
    let mut lab = lab();
    deployed(&lab);
    answers(&lab);
    let (pids, counts) = (containers(), restarts(&lab));
    assert_eq!((pids.len(), counts.len()), (3, 3), "{pids:?} {counts:?}");
    let address = lab.kubectl("get service nodeport-svc -o jsonpath={.spec.clusterIP}");
    for number in 0..5 {
        lab.kubectl(&format!("create configmap acknowledged-{number} --from-literal=number={number}"));
    }
    lab.kill();
    assert_eq!(containers(), pids, "containers live on");
    for _ in 0..6 {
        lab.curl(&format!("http://{NODE}:30001")).expect("the NodePort answers while Coracle is dead");
        lab.curl(&format!("http://{address}")).expect("the ClusterIP answers while Coracle is dead");
    }
    lab.up();
    for number in 0..5 {
        let kept = lab.kubectl(&format!("get configmap acknowledged-{number} -o jsonpath={{.data.number}}"));
        assert_eq!(kept, number.to_string());
    }
    answers(&lab);
    lab.kubectl("scale deployment/nginx-deploy --replicas=4");
    lab.kubectl("rollout status deployment/nginx-deploy --timeout=30s");
    let now = restarts(&lab);
    assert!(now.values().all(|count| *count == 0) && now.len() == 4, "{now:?}");
    assert!(counts.keys().all(|pod| now.contains_key(pod)), "{counts:?} {now:?}");
    let after = containers();
    assert!(pids.keys().all(|pid| after.contains_key(pid)), "adopted: {pids:?} {after:?}");
    lab.kubectl(&format!("exec {} -- /coracle --version", counts.keys().next().expect("a pod")));
    // Those that were adopted are still looked after.
    let name = counts.keys().next().expect("a pod");
    lab.kubectl(&format!("delete pod {name} --timeout=30s"));
    wait("another pod", PATIENCE, || {
        let now = restarts(&lab);
        if now.len() == 4 && !now.contains_key(name) { Ok(()) } else { Err(format!("{now:?}")) }
    });
}

#[test]
fn killed_again_and_again_while_it_works() {
    if !inside("killed_again_and_again_while_it_works") {
        return;
    }
    let mut lab = lab();
    for replicas in [3, 6, 2, 5] {
        if replicas == 3 {
            lab.apply(include_str!("../examples/nodeport.yaml"));
        } else {
            lab.kubectl(&format!("scale deployment/nginx-deploy --replicas={replicas}"));
        }
        // In the midst of it.
        lab.kill();
        lab.up();
    }
    wait("five ready pods and no more", PATIENCE, || {
        let pods = lab.kubectl("get pods -l env=demo --no-headers");
        let ready = pods.lines().filter(|line| line.contains("1/1") && line.contains("Running")).count();
        let running = containers().len();
        if (ready, pods.lines().count(), running) == (5, 5, 5) {
            Ok(())
        } else {
            Err(format!("{running} processes\n{pods}"))
        }
    });
    answers(&lab);
}

#[test]
fn killed_and_without_nftables_pods_reach_services_from_their_sockets() {
    if !inside("killed_and_without_nftables_pods_reach_services_from_their_sockets") {
        return;
    }
    need_root();
    let mut lab = Lab::prepare(CORACLE, Options::default());
    let before = Traces::now();
    lab.up();
    // By address, because names die with the cluster's process.
    let manifest = include_str!("../examples/frontend.yaml").replace("http://backend", "http://10.96.7.7");
    lab.apply(&manifest.replace(
        "spec:\n  selector:\n    tier: backend",
        "spec:\n  clusterIP: 10.96.7.7\n  selector:\n    tier: backend",
    ));
    lab.kubectl("wait --for=condition=Ready pod --all --timeout=30s");
    let frontend = lab.kubectl("get pod frontend -o jsonpath={.status.podIP}");
    let by_way_of = |lab: &Lab| {
        wait("answer of a backend", PATIENCE, || {
            let answer = lab.curl(&format!("http://{frontend}"))?;
            if answer.starts_with("pod: backend-") { Ok(()) } else { Err(answer) }
        })
    };
    by_way_of(&lab);
    lab.kill();
    let table = format!("coracle-{}", lab.id());
    text(Command::new(need("nft")).args(["flush", "map", "ip", &table, "services"]));
    lab.curl("http://10.96.7.7").expect_err("the node goes by nftables");
    by_way_of(&lab);
    assert!(lab.says(&["down"]).contains("nothing of it is left"));
    before.assert_back(&lab.id());
}

#[test]
fn killed_and_taken_down_nothing_is_left() {
    if !inside("killed_and_taken_down_nothing_is_left") {
        return;
    }
    let mut lab = Lab::prepare(CORACLE, Options::default());
    let before = Traces::now();
    lab.up();
    deployed(&lab);
    lab.kill();
    assert_eq!(containers().len(), 3);
    let said = lab.complains(&["status"]);
    assert!(said.contains("no cluster runs"), "{said}");
    assert!(lab.says(&["down"]).contains("nothing of it is left"));
    before.assert_back(&lab.id());
    // The objects stay.
    lab.up();
    lab.kubectl("wait --for=condition=Available deployment/nginx-deploy --timeout=30s");
    answers(&lab);
    lab.stop();
    before.assert_back(&lab.id());
}

#[test]
fn stopped_nothing_is_left_and_started_again_all_is_back() {
    if !inside("stopped_nothing_is_left_and_started_again_all_is_back") {
        return;
    }
    let mut lab = Lab::prepare(CORACLE, Options::default());
    let before = Traces::now();
    lab.up();
    deployed(&lab);
    let address = lab.kubectl("get service nodeport-svc -o jsonpath={.spec.clusterIP}");
    lab.interrupt();
    before.assert_back(&lab.id());

    lab.up();
    assert_eq!(lab.kubectl("get service nodeport-svc -o jsonpath={.spec.clusterIP}"), address);
    let mut pods = BTreeSet::new();
    wait("answers of three pods", PATIENCE, || {
        pods.insert(lab.curl(&format!("http://{address}"))?.lines().next().unwrap_or_default().to_owned());
        if pods.len() == 3 { Ok(()) } else { Err(format!("{pods:?}")) }
    });
    assert_eq!(lab.says(&["down"]).trim(), "stopped");
    lab.ended();
    before.assert_back(&lab.id());
    assert!(lab.says(&["down"]).contains("not running"));
}

#[test]
fn detached_it_has_the_same_commands() {
    if !inside("detached_it_has_the_same_commands") {
        return;
    }
    let lab = Lab::prepare(CORACLE, Options::default());
    let before = Traces::now();
    let summary = lab.says(&["up", "--detach"]);
    for part in ["Coracle is up", "https://127.0.0.1:6443", "10.96.0.10", "KUBECONFIG="] {
        assert!(summary.contains(part), "{summary}");
    }
    deployed(&lab);
    answers(&lab);
    let status = lab.says(&["status"]);
    for part in ["running     process", "https://127.0.0.1:6443", "coracle 192.168.50.2 Ready", "3 Running"] {
        assert!(status.contains(part), "{status}");
    }
    let kubeconfig = lab.says(&["kubeconfig"]);
    assert_eq!(kubeconfig, std::fs::read_to_string(lab.data().join("kubeconfig")).expect("the kubeconfig"));
    assert!(kubeconfig.contains("server: https://127.0.0.1:6443"), "{kubeconfig}");
    assert_eq!(lab.says(&["down"]).trim(), "stopped");
    before.assert_back(&lab.id());
}

#[test]
fn two_clusters_side_by_side() {
    if !inside("two_clusters_side_by_side") {
        return;
    }
    let before = Traces::now();
    let first = lab();
    let mut other = Lab::prepare(
        CORACLE,
        Options::with("--api-port 7443 --pod-cidr 10.245.0.0/16 --service-cidr 10.112.0.0/16 --node-ports 31000-31999"),
    );
    other.up();
    deployed(&first);
    other.apply(&include_str!("../examples/nodeport.yaml").replace("30001", "31001"));
    other.kubectl("rollout status deployment/nginx-deploy --timeout=30s");
    answers(&first);
    wait("answer", PATIENCE, || other.curl(&format!("http://{NODE}:31001")));
    other.stop();
    let id = other.id();
    drop(other);
    answers(&first);
    let first_id = first.id();
    drop(first);
    before.assert_back(&id);
    before.assert_back(&first_id);
}
