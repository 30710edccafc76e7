//! The lessons in `examples/`, as a student runs them: with kubectl, curl and dig.

use std::{collections::BTreeSet, path::PathBuf, process::Command, time::Duration};

use testbed::{Lab, NODE, Options, inside, need, nginx, outside, run, text, wait};

const PATIENCE: Duration = Duration::from_secs(30);

fn lab() -> Lab {
    Lab::start(env!("CARGO_BIN_EXE_coracle"), Options::default())
}

/// A lab that has the nginx image.
fn lab_with_nginx() -> Lab {
    let lab = lab();
    let archive = nginx(lab.scratch());
    let output = lab.coracle(&["image", "import", &archive.display().to_string()]);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "docker.io/library/nginx:latest", "{output:?}");
    lab
}

/// Applies a lesson's manifest.
fn apply(lab: &Lab, example: &str) {
    lab.kubectl(&format!("apply -f {}/examples/{example}", env!("CARGO_MANIFEST_DIR")));
}

/// The value of a line `key: value` of an answer of the echo program.
fn value<'a>(answer: &'a str, key: &str) -> &'a str {
    let line = answer.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("no {key} in {answer:?}"))
}

/// Asks until so many pods have answered.
fn answering(count: usize, mut ask: impl FnMut() -> Result<String, String>) -> BTreeSet<String> {
    let mut pods = BTreeSet::new();
    wait(&format!("answer of {count} pods"), PATIENCE, || {
        pods.insert(value(&ask()?, "pod").to_owned());
        if pods.len() >= count { Ok(()) } else { Err(format!("{pods:?}")) }
    });
    pods
}

#[test]
fn nodeport() {
    if !inside("nodeport") {
        return;
    }
    let lab = lab();
    apply(&lab, "nodeport.yaml");
    lab.kubectl("rollout status deployment/nginx-deploy --timeout=30s");
    let from_node = answering(3, || lab.curl(&format!("http://{NODE}:30001")));
    let from_outside = answering(3, || lab.curl_outside(&format!("http://{NODE}:30001")));
    let on_localhost = answering(3, || lab.curl("http://127.0.0.1:30001"));
    assert_eq!(from_node, from_outside);
    assert_eq!(from_node, on_localhost);
    let cluster_ip = lab.kubectl("get service nodeport-svc -o jsonpath={.spec.clusterIP}");
    assert_eq!(answering(3, || lab.curl(&format!("http://{cluster_ip}"))), from_node);
}

#[test]
fn nodeport_with_nginx() {
    if !inside("nodeport_with_nginx") {
        return;
    }
    let lab = lab_with_nginx();
    let manifest = include_str!("../examples/nodeport.yaml").replace("coracle/echo", "nginx");
    lab.apply(&manifest);
    lab.kubectl("rollout status deployment/nginx-deploy --timeout=30s");
    // kubectl hears of the pods before the data plane does.
    let page = wait("page", PATIENCE, || lab.curl(&format!("http://{NODE}:30001")));
    assert!(page.contains("Welcome to nginx!"), "{page}");
}

#[test]
fn frontend_and_backends() {
    if !inside("frontend_and_backends") {
        return;
    }
    let lab = lab();
    apply(&lab, "frontend.yaml");
    lab.kubectl("wait --for=condition=Ready pod --all --timeout=30s");
    let backends = answering(2, || {
        let answer = lab.curl(&format!("http://{NODE}:30007"))?;
        if answer.contains("pod: frontend") { Ok(answer) } else { Err(answer) }
    });
    assert_eq!(backends, ["backend-1", "backend-2"].map(str::to_owned).into());
}

#[test]
fn a_node_port_is_chosen_or_refused() {
    if !inside("a_node_port_is_chosen_or_refused") {
        return;
    }
    let lab = lab();
    apply(&lab, "nodeport.yaml");
    apply(&lab, "nodeport-auto.yaml");
    let port: u16 = lab.kubectl("get service any-port -o jsonpath={.spec.ports[0].nodePort}").parse().expect("a port");
    assert!((30000..=32767).contains(&port) && port != 30001, "{port}");
    lab.kubectl("rollout status deployment/nginx-deploy --timeout=30s");
    answering(3, || lab.curl(&format!("http://{NODE}:{port}")));

    let service = |name: &str, port: u32| {
        include_str!("../examples/nodeport-auto.yaml")
            .replace("any-port", name)
            .replace("- port: 80", &format!("- port: 80\n    nodePort: {port}"))
    };
    let refused = |manifest: &str| lab.kubectl_fails(&format!("apply -f {}", lab.manifest(manifest).display()));
    assert_eq!(
        refused(&service("taken", 30001)).trim(),
        "The Service \"taken\" is invalid: spec.ports[0].nodePort: Invalid value: 30001: provided port is already allocated"
    );
    assert_eq!(
        refused(&service("outside", 80)).trim(),
        "The Service \"outside\" is invalid: spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767"
    );
}

#[test]
fn a_load_balancer() {
    if !inside("a_load_balancer") {
        return;
    }
    let lab = lab();
    apply(&lab, "loadbalancer.yaml");
    lab.kubectl("rollout status deployment/web --timeout=30s");
    let address = || lab.kubectl("get service web-lb -o jsonpath={.status.loadBalancer.ingress[*].ip}");
    wait("address", PATIENCE, || if address() == NODE.to_string() { Ok(()) } else { Err(address()) });
    answering(3, || lab.curl_outside(&format!("http://{NODE}:8080")));
    answering(3, || lab.curl(&format!("http://{NODE}:8080")));

    lab.apply(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  namespace: kube-system\n  name: load-balancer-pools\n\
         data:\n  lab: 192.168.50.200-192.168.50.210\n",
    );
    wait("address of the pool", PATIENCE, || if address() == "192.168.50.200" { Ok(()) } else { Err(address()) });
    // Pods and the node itself need no announcement.
    answering(3, || lab.curl("http://192.168.50.200:8080"));
}

#[test]
fn cluster_ip_by_name_and_named_port() {
    if !inside("cluster_ip_by_name_and_named_port") {
        return;
    }
    let lab = lab_with_nginx();
    apply(&lab, "clusterip.yaml");
    lab.kubectl("rollout status deployment/backend --timeout=30s");
    lab.kubectl("wait --for=condition=Ready pod/client --timeout=30s");
    for name in ["backend-service", "backend-service.default", "backend-service.default.svc.cluster.local"] {
        let answer = lab.kubectl(&format!("exec client -- curl --silent --max-time 5 http://{name}"));
        assert!(value(&answer, "address").ends_with(":3000"), "{answer}");
    }
    answering(2, || lab.curl(&format!("http://{NODE}:30080")));
}

#[test]
fn a_headless_service_follows_scaling() {
    if !inside("a_headless_service_follows_scaling") {
        return;
    }
    let lab = lab();
    apply(&lab, "headless.yaml");
    let mut seen = Vec::new();
    for replicas in [3, 5, 1] {
        lab.kubectl(&format!("scale deployment/members --replicas={replicas}"));
        seen.push(wait(&format!("DNS answer of {replicas} addresses"), PATIENCE, || {
            let found = lab.dig("members.default.svc.cluster.local");
            if found.len() == replicas { Ok(found) } else { Err(format!("{found:?}")) }
        }));
    }
    let pods = lab.get("pods -l app=members");
    let addresses =
        pods["items"].as_array().into_iter().flatten().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    let addresses: Vec<_> = addresses.filter_map(|pod| pod["status"]["podIP"].as_str()?.parse().ok()).collect();
    assert_eq!(seen.last(), Some(&addresses));
}

#[test]
fn namespaces_keep_names_apart() {
    if !inside("namespaces_keep_names_apart") {
        return;
    }
    let lab = lab();
    apply(&lab, "namespaces.yaml");
    lab.kubectl("wait --for=condition=Ready pod/web-dev --namespace dev --timeout=30s");
    lab.kubectl("wait --for=condition=Ready pod/web-default --timeout=30s");
    for namespace in ["dev", "default"] {
        let [address] = lab.dig(&format!("web.{namespace}.svc.cluster.local"))[..] else { panic!("one address") };
        wait("answer", PATIENCE, || {
            let answer = lab.curl(&format!("http://{address}"))?;
            if value(&answer, "pod") == format!("web-{namespace}") { Ok(()) } else { Err(answer) }
        });
    }
    let all = lab.kubectl("get pods -A");
    assert!(all.contains("web-dev") && all.contains("web-default"), "{all}");
    lab.kubectl("delete namespace dev --timeout=30s");
    assert!(lab.dig("web.dev.svc.cluster.local").is_empty());
    assert_eq!(lab.dig("web.default.svc.cluster.local").len(), 1);
}

#[test]
fn two_containers_share_a_pod() {
    if !inside("two_containers_share_a_pod") {
        return;
    }
    let lab = lab_with_nginx();
    apply(&lab, "two-containers.yaml");
    lab.kubectl("wait --for=condition=Ready pod/two-containers --timeout=30s");
    let address = lab.kubectl("get pod two-containers -o jsonpath={.status.podIP}");
    wait("page", PATIENCE, || {
        let page = lab.curl(&format!("http://{address}"))?;
        if page == "written by the other container\n" { Ok(()) } else { Err(page) }
    });
    let page = lab.kubectl("exec two-containers -c writer -- curl --silent http://127.0.0.1");
    assert_eq!(page, "written by the other container\n");
    let ready = lab.kubectl("get pod two-containers");
    assert!(ready.contains("2/2"), "{ready}");
}

#[test]
fn the_cluster_heals_itself() {
    if !inside("the_cluster_heals_itself") {
        return;
    }
    let lab = lab();
    apply(&lab, "nodeport.yaml");
    lab.kubectl("rollout status deployment/nginx-deploy --timeout=30s");
    let address = lab.kubectl("get service nodeport-svc -o jsonpath={.spec.clusterIP}");
    let ask = || lab.curl(&format!("http://{NODE}:30001"));

    let pods = lab.get("pods -l env=demo");
    let first = pods["items"][0]["metadata"]["name"].as_str().expect("a pod").to_owned();
    let second = pods["items"][1]["metadata"]["name"].as_str().expect("a pod").to_owned();
    // The container's first process is process 1 in there and obeys nobody inside: end it from here.
    let id = pods["items"][0]["metadata"]["uid"].as_str().expect("a uid").to_owned();
    end_container_of(&id);
    wait("restarted container", PATIENCE, || {
        ask()?;
        let restarts =
            lab.kubectl(&format!("get pod {first} -o jsonpath={{.status.containerStatuses[0].restartCount}}"));
        if restarts == "1" { Ok(()) } else { Err(restarts) }
    });

    lab.kubectl(&format!("delete pod {second} --wait=false"));
    for replicas in [3, 5, 2] {
        lab.kubectl(&format!("scale deployment/nginx-deploy --replicas={replicas}"));
        wait(&format!("set of {replicas} ready pods"), PATIENCE, || {
            ask()?;
            let pods = lab.kubectl("get pods -l env=demo --no-headers");
            let ready = pods.lines().filter(|line| line.contains("1/1") && line.contains("Running")).count();
            if ready == replicas && pods.lines().count() == replicas { Ok(()) } else { Err(pods) }
        });
        answering(replicas, ask);
    }
    assert_eq!(lab.kubectl("get service nodeport-svc -o jsonpath={.spec.clusterIP}"), address);
    assert!(!lab.kubectl("get pods -l env=demo -o name").contains(&second), "{second} is gone for good");
}

#[test]
fn an_ingress_leads_by_host_and_path() {
    if !inside("an_ingress_leads_by_host_and_path") {
        return;
    }
    let lab = lab();
    let first = secret(&lab, "first");
    apply(&lab, "ingress.yaml");
    for name in ["frontend", "backend", "admin"] {
        lab.kubectl(&format!("rollout status deployment/{name} --timeout=30s"));
    }
    let shown = wait("address", PATIENCE, || {
        let shown = lab.kubectl("get ingress app --no-headers");
        if shown.contains(&NODE.to_string()) { Ok(shown) } else { Err(shown) }
    });
    let columns: Vec<_> = shown.split_whitespace().take(6).collect();
    assert_eq!(columns, ["app", "nginx", "app.com,admin.app.com", &NODE.to_string(), "80,", "443"]);
    let ask = |authority: &PathBuf, url: &str| {
        let mut curl = outside("curl");
        curl.args(["--silent", "--show-error", "--max-time", "5", "--cacert"]).arg(authority);
        for (host, port) in [("app.com", 443), ("admin.app.com", 443), ("app.com", 80)] {
            curl.args(["--resolve", &format!("{host}:{port}:{NODE}")]);
        }
        let output = run(curl.args(["--write-out", "%{http_code}", url]));
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(said(&output.stdout)) } else { Err(said(&output.stderr)) }
    };
    for (url, pod, request) in [
        ("https://app.com/", "frontend-", "GET /"),
        ("https://app.com/other", "frontend-", "GET /other"),
        ("https://app.com/api/users", "backend-", "GET /users"),
        ("https://app.com/api", "backend-", "GET /"),
        ("https://admin.app.com/", "admin-", "GET /"),
    ] {
        wait(url, PATIENCE, || {
            let answer = ask(&first, url)?;
            let right = answer.contains(&format!("pod: {pod}")) && answer.contains(&format!("request: {request}\n"));
            if right { Ok(()) } else { Err(answer) }
        });
    }
    assert!(ask(&first, "http://app.com/").expect("a redirect").ends_with("308"));
    let described = lab.kubectl("describe ingress app");
    assert!(described.contains("app-tls terminates app.com,admin.app.com"), "{described}");
    assert!(!described.contains("Warning"), "{described}");
    let second = secret(&lab, "second");
    wait("new certificate", PATIENCE, || ask(&second, "https://app.com/"));
    assert!(ask(&first, "https://app.com/").is_err());
}

/// Makes a certificate as the lesson does, puts it into the Secret, and returns its file.
fn secret(lab: &Lab, name: &str) -> PathBuf {
    let file = |ending: &str| lab.scratch().join(format!("{name}.{ending}"));
    let mut openssl = Command::new(need("openssl"));
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "365", "-subj", "/CN=app.com"]);
    openssl.args(["-addext", "subjectAltName=DNS:app.com,DNS:admin.app.com", "-keyout"]);
    text(openssl.arg(file("key")).arg("-out").arg(file("crt")));
    let (certificate, key) = (file("crt"), file("key"));
    let files = format!("--cert={} --key={}", certificate.display(), key.display());
    let made = lab.kubectl(&format!("create secret tls app-tls {files} --dry-run=client -o yaml"));
    lab.apply(&made);
    certificate
}

/// Kills the container process of the pod with this uid, which is in the paths of its mounts.
fn end_container_of(uid: &str) {
    let pid = wait("process of the pod", PATIENCE, || {
        let echo = |pid: &u32| {
            let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
            command.starts_with("/coracle\0echo") && mounts.contains(uid)
        };
        let processes = std::fs::read_dir("/proc").map_err(|error| error.to_string())?;
        let mut pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        pids.find(echo).ok_or_else(|| format!("none with mounts of {uid}"))
    });
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
}
