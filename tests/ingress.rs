//! Ingresses, as people use them: with kubectl, curl and openssl.

use std::{process::Command, time::Duration};

use testbed::{Lab, Options, inside, need, run, wait};

const PATIENCE: Duration = Duration::from_secs(30);

fn lab() -> Lab {
    Lab::start(env!("CARGO_BIN_EXE_coracle"), Options::default())
}

/// Applies a lesson's manifest.
fn apply(lab: &Lab, example: &str) {
    lab.kubectl(&format!("apply -f {}/examples/{example}", env!("CARGO_MANIFEST_DIR")));
}

/// The address of all Ingresses inside the cluster, once there is one.
fn cluster_ip(lab: &Lab) -> String {
    let find = "get service ingress --namespace kube-system --ignore-not-found -o jsonpath={.spec.clusterIP}";
    wait("Service of the Ingresses", PATIENCE, || match lab.kubectl(find) {
        none if none.is_empty() => Err(none),
        address => Ok(address),
    })
}

/// What `https://HOST/PATH` answers at an address.
fn https(host: &str, path: &str, address: &str) -> Result<String, String> {
    let mut curl = Command::new(need("curl"));
    curl.args(["--silent", "--show-error", "--insecure", "--max-time", "5", "--fail"]);
    curl.args(["--resolve", &format!("{host}:443:{address}"), &format!("https://{host}{path}")]);
    let output = run(&mut curl);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// How many threads the cluster has for Ingresses.
fn threads(lab: &Lab) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", lab.pid())).expect("the cluster's threads");
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("ingress-")).count()
}

#[test]
fn an_ingress_is_served_with_the_first_one_and_after_a_kill() {
    if !inside("an_ingress_is_served_with_the_first_one_and_after_a_kill") {
        return;
    }
    let mut lab = lab();
    assert_eq!(lab.kubectl("get services --namespace kube-system -o name").trim(), "service/kube-dns");
    assert_eq!(threads(&lab), 0);
    let classes = lab.kubectl("get ingressclasses --no-headers -o custom-columns=:metadata.name,:spec.controller");
    assert_eq!(
        classes.split_whitespace().collect::<Vec<_>>(),
        ["coracle", "coracle.dev/ingress-controller", "nginx", "k8s.io/ingress-nginx"]
    );
    apply(&lab, "ingress.yaml");
    let address = cluster_ip(&lab);
    let answers = |lab: &Lab| {
        wait("answer of admin", PATIENCE, || {
            let answer = https("admin.app.com", "/x", &address)?;
            if answer.contains("pod: admin-") && answer.contains("GET /x") { Ok(()) } else { Err(answer) }
        });
        assert_eq!(cluster_ip(lab), address);
    };
    answers(&lab);
    wait("events", PATIENCE, || {
        let said = lab.kubectl("describe ingress app");
        let told = "Secret \"default/app-tls\" was not found. Using default certificate for admin.app.com, app.com";
        let all = said.contains("Scheduled for sync") && said.matches(told).count() == 1;
        if all { Ok(()) } else { Err(said) }
    });
    let counted = |lab: &Lab| {
        let log = std::fs::read_to_string(lab.data().join("ingress.log")).unwrap_or_default();
        let metrics = lab.curl("http://10.244.0.1:10254/metrics")?;
        let all = log.contains("\"GET /x HTTP/2.0\" 200") && metrics.contains("nginx_ingress_controller_requests{");
        if all { lab.curl("http://10.244.0.1:10254/healthz") } else { Err(log + &metrics) }
    };
    assert!(threads(&lab) > 0);
    assert_eq!(wait("log and metrics", PATIENCE, || counted(&lab)), "ok");
    lab.kill();
    lab.up();
    answers(&lab);
    // What is no longer ours loses its address.
    let addressed = |name: &str| lab.kubectl(&format!("get ingress {name} -o jsonpath={{.status.loadBalancer}}"));
    wait(
        "address",
        PATIENCE,
        || if addressed("app").contains("192.168.50.2") { Ok(()) } else { Err(addressed("app")) },
    );
    lab.kubectl("patch ingress app --type=merge --patch {\"spec\":{\"ingressClassName\":\"other\"}}");
    wait("no address", PATIENCE, || if addressed("app") == "{}" { Ok(()) } else { Err(addressed("app")) });
    lab.kubectl("delete ingress --all");
    wait("end of the Service", PATIENCE, || {
        let services = lab.kubectl("get services,endpointslices --namespace kube-system -o name");
        if services.contains("ingress") { Err(services) } else { Ok(()) }
    });
    wait("end of the threads", PATIENCE, || match threads(&lab) {
        0 => Ok(()),
        some => Err(some.to_string()),
    });
}

#[test]
fn an_isolated_node_serves_ingresses_too() {
    if !inside("an_isolated_node_serves_ingresses_too") {
        return;
    }
    let lab = Lab::start(env!("CARGO_BIN_EXE_coracle"), Options::with("--isolated"));
    apply(&lab, "ingress.yaml");
    wait("answer of admin", PATIENCE, || {
        let answer = https("admin.app.com", "/x", "127.0.0.1")?;
        if answer.contains("pod: admin-") { Ok(()) } else { Err(answer) }
    });
}

#[test]
fn an_ingress_without_a_class_gets_the_default_one() {
    if !inside("an_ingress_without_a_class_gets_the_default_one") {
        return;
    }
    let lab = lab();
    lab.kubectl("create ingress plain --rule=plain.com/=web:80");
    assert_eq!(lab.kubectl("get ingress plain -o jsonpath={.spec.ingressClassName}"), "nginx");
    let refused = lab.kubectl_fails("create ingress wrong --rule=a.*.com/=web:80");
    assert!(
        refused.contains("spec.rules[0].host: Invalid value: \"a.*.com\": a wildcard DNS-1123 subdomain"),
        "{refused}"
    );
}
