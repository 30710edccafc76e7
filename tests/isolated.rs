//! The demonstration, clusters in namespaces of their own, and a firewall in the way.

use std::{
    os::unix::fs::MetadataExt as _,
    process::{Command, Output},
    time::Duration,
};

use testbed::{Lab, NODE, Options, Traces, inside, need, need_root, text, wait};

const PATIENCE: Duration = Duration::from_secs(30);
const CORACLE: &str = env!("CARGO_BIN_EXE_coracle");

fn ordinary(arguments: &str) -> Options {
    Options { ordinary: true, ..Options::with(arguments) }
}

/// What a demonstration shows, and that nothing of it stays.
fn demonstrates(lab: &Lab, before: &Traces) {
    let output: Output = lab.demo();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    for part in [
        "node ready after",
        "→ three pods ready and answering",
        "(NodePort)",
        ":30001 → Service 10.",
        "By name: http://nodeport-svc.default.svc.cluster.local/",
        "3 of 3 pods answered",
        "nothing is left behind",
    ] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    before.assert_back("coracle-demo");
    let left: Vec<_> = std::fs::read_dir(lab.scratch())
        .expect("the directory")
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|name| name != "coracle")
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_demonstration_as_root() {
    if !inside("the_demonstration_as_root") {
        return;
    }
    let lab = Lab::prepare(CORACLE, Options::default());
    demonstrates(&lab, &Traces::now());
}

#[test]
fn the_demonstration_as_an_ordinary_user() {
    if !inside("the_demonstration_as_an_ordinary_user") {
        return;
    }
    let lab = Lab::prepare(CORACLE, ordinary(""));
    demonstrates(&lab, &Traces::now());
}

/// Load balancers over the host's 127.0.0.1, as far as their ports may be opened there.
fn balances(lab: &Lab, privileged: bool) {
    lab.apply(include_str!("../examples/loadbalancer.yaml"));
    let said = wait("answer", PATIENCE, || lab.curl("http://127.0.0.1:8080"));
    assert!(said.starts_with("pod: web-"), "{said}");
    assert_eq!(lab.kubectl("get service web-lb -o jsonpath={.status.loadBalancer.ingress[0].ip}"), "10.240.0.2");
    lab.kubectl("expose deployment web --port=80 --type=LoadBalancer");
    wait("answer or advice", PATIENCE, || match (privileged, lab.curl("http://127.0.0.1")) {
        (true, answer) => answer.map(drop),
        (false, Err(_)) if lab.said().contains("net.ipv4.ip_unprivileged_port_start=80") => Ok(()),
        (false, other) => Err(format!("{other:?}")),
    });
    lab.kubectl("delete deployment/web service/web service/web-lb");
}

/// The NodePort lesson over the host's 127.0.0.1, and everything else that works from there.
fn teaches(lab: &Lab) {
    lab.apply(include_str!("../examples/nodeport.yaml"));
    lab.kubectl("rollout status deployment/nginx-deploy --timeout=30s");
    let mut pods = std::collections::BTreeSet::new();
    wait("answers of three pods", PATIENCE, || {
        let answer = lab.curl("http://127.0.0.1:30001")?;
        pods.insert(answer.lines().next().unwrap_or_default().to_owned());
        if pods.len() == 3 { Ok(()) } else { Err(format!("{pods:?}")) }
    });
    let name = lab.kubectl("get pods -l env=demo -o jsonpath={.items[0].metadata.name}");
    assert!(lab.kubectl(&format!("exec {name} -- /coracle --version")).starts_with("coracle "));
    lab.kubectl(&format!("logs {name}"));
    // From inside the node's network, whoever runs it.
    let answer = lab.says(&["dig", "nodeport-svc"]);
    assert!(
        answer.contains("the cluster IP of Service default/nodeport-svc (NodePort; 3 of 3 endpoints ready)"),
        "{answer}"
    );
    lab.kubectl("delete deployment nginx-deploy");
    lab.kubectl("delete service nodeport-svc");
    wait("end of the NodePort", PATIENCE, || match lab.curl("http://127.0.0.1:30001") {
        Ok(answer) => Err(answer),
        Err(_) => Ok(()),
    });
}

#[test]
fn an_isolated_cluster_of_root() {
    if !inside("an_isolated_cluster_of_root") {
        return;
    }
    need_root();
    let mut lab = Lab::prepare(CORACLE, Options::with("--isolated"));
    let before = Traces::now();
    lab.up();
    assert!(lab.says(&["status"]).contains("isolated"));
    teaches(&lab);
    balances(&lab, true);
    lab.import_nginx();
    // All uids are mapped.
    lab.kubectl("run nobody --image=nginx --overrides '{\"spec\":{\"securityContext\":{\"runAsUser\":65534}}}' --command -- sh -c 'id -u && sleep 1000'");
    lab.kubectl("wait --for=condition=Ready pod/nobody --timeout=30s");
    wait("uid", PATIENCE, || {
        let log = lab.kubectl("logs nobody");
        if log == "65534\n" { Ok(()) } else { Err(log) }
    });
    lab.kubectl("run web --image=nginx");
    lab.kubectl("wait --for=condition=Ready pod/web --timeout=30s");
    // Pods reach the API server, which knows none of them without a token.
    let url = "https://kubernetes.default.svc --output /dev/null --write-out %{http_code}";
    let code = lab.kubectl(&format!("exec nobody -- curl --silent --insecure --max-time 5 {url}"));
    assert_eq!(code, "401");
    let resolved = lab.kubectl("exec nobody -- getent hosts kubernetes.default.svc.cluster.local");
    assert!(resolved.starts_with("10.96.0.1 "), "{resolved}");
    lab.stop();
    before.assert_back(&lab.id());
    lab.up();
    lab.kubectl("wait --for=condition=Ready pod/web --timeout=30s");
    assert_eq!(lab.says(&["down"]).trim(), "stopped");
    lab.ended();
    before.assert_back(&lab.id());
}

#[test]
fn an_isolated_cluster_of_an_ordinary_user() {
    if !inside("an_isolated_cluster_of_an_ordinary_user") {
        return;
    }
    let mut lab = Lab::prepare(CORACLE, ordinary("--isolated"));
    let before = Traces::now();
    lab.up();
    teaches(&lab);
    balances(&lab, false);
    lab.import_nginx();
    lab.kubectl("run nobody --image=nginx --overrides '{\"spec\":{\"securityContext\":{\"runAsUser\":65534}}}'");
    wait("event", PATIENCE, || {
        let events = lab.kubectl("get events");
        let found =
            events.lines().any(|line| line.contains("pod/nobody") && line.contains("Failed") && line.contains("65534"));
        if found { Ok(()) } else { Err(events) }
    });
    lab.kubectl("run root --image=nginx --command -- sleep 1000");
    lab.kubectl("wait --for=condition=Ready pod/root --timeout=30s");
    assert_eq!(lab.kubectl("exec root -- id -u"), "0\n");
    assert_eq!(lab.says(&["down"]).trim(), "stopped");
    lab.ended();
    before.assert_back(&lab.id());
}

#[test]
fn an_ordinary_user_with_sub_ids_has_other_uids_too() {
    if !inside("an_ordinary_user_with_sub_ids_has_other_uids_too") {
        return;
    }
    need_root();
    assert!(need("newuidmap").exists());
    let mut lab = Lab::prepare(CORACLE, ordinary("--isolated"));
    let user = std::fs::metadata(lab.scratch()).map(|directory| directory.uid()).expect("the directory's owner");
    let passwd = std::fs::read_to_string("/etc/passwd").expect("passwd");
    for (file, content) in [
        ("passwd", format!("{passwd}student:x:{user}:{user}::/:/bin/sh\n")),
        ("subuid", format!("{user}:100000:65536\n")),
        ("subgid", format!("{user}:100000:65536\n")),
    ] {
        let granted = lab.scratch().join(file);
        std::fs::write(&granted, content).expect("written");
        text(Command::new(need("mount")).arg("--bind").arg(&granted).arg(format!("/etc/{file}")));
    }
    let before = Traces::now();
    lab.up();
    lab.import_nginx();
    let overrides = "{\"spec\":{\"securityContext\":{\"runAsUser\":1234}}}";
    lab.kubectl(&format!("run other --image=nginx --overrides '{overrides}' --command -- sleep 1000"));
    lab.kubectl("wait --for=condition=Ready pod/other --timeout=30s");
    assert_eq!(lab.kubectl("exec other -- id -u"), "1234\n");
    lab.stop();
    before.assert_back(&lab.id());
}

#[test]
fn an_isolated_cluster_that_is_killed_ends_with_all_its_processes() {
    if !inside("an_isolated_cluster_that_is_killed_ends_with_all_its_processes") {
        return;
    }
    let mut lab = Lab::prepare(CORACLE, Options::with("--isolated"));
    let before = Traces::now();
    lab.up();
    teaches(&lab);
    lab.kubectl("create configmap acknowledged");
    lab.kubectl("run one --image=coracle/echo");
    lab.kubectl("wait --for=condition=Ready pod/one --timeout=30s");
    lab.kill();
    // All but empty control groups is gone with the namespaces; those are, too, after the next command.
    before.assert_back("no control groups");
    assert!(lab.says(&["down"]).contains("nothing of it is left"));
    before.assert_back(&lab.id());
    lab.up();
    lab.kubectl("get configmap acknowledged");
    lab.kubectl("wait --for=condition=Ready pod/one --timeout=30s");
    lab.stop();
    before.assert_back(&lab.id());
}

#[test]
fn a_firewall_that_drops_is_no_hindrance() {
    if !inside("a_firewall_that_drops_is_no_hindrance") {
        return;
    }
    let nft = |arguments: &str| text(Command::new(need("nft")).arg(arguments));
    // What Docker does with iptables-nft.
    nft("add table ip filter");
    nft("add chain ip filter FORWARD { type filter hook forward priority filter; policy drop; }");
    nft("add chain ip filter DOCKER-USER");
    nft("add rule ip filter FORWARD counter jump DOCKER-USER");
    let mut lab = Lab::start(CORACLE, Options::default());
    lab.apply(include_str!("../examples/frontend.yaml"));
    lab.kubectl("wait --for=condition=Ready pod --all --timeout=30s");
    wait("answer from another machine, by way of two pods", PATIENCE, || {
        let answer = lab.curl_outside(&format!("http://{NODE}:30007"))?;
        if answer.contains("pod: backend-") { Ok(()) } else { Err(answer) }
    });
    assert!(nft("list chain ip filter FORWARD").contains(&lab.id()), "{}", nft("list ruleset"));
    lab.stop();
    let rules = nft("list chain ip filter FORWARD");
    assert!(!rules.contains(&lab.id()), "{rules}");
    assert!(rules.contains("policy drop") && rules.contains("DOCKER-USER"), "{rules}");
}
