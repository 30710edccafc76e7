//! `coracle trace` in a cluster that has what students get wrong.

use std::time::Duration;

use testbed::{Lab, NODE, Options, inside, wait};

const PATIENCE: Duration = Duration::from_secs(30);
const CORACLE: &str = env!("CARGO_BIN_EXE_coracle");

/// A pod of the echo program with these arguments; the rest of the container and of the labels may be given.
fn pod(name: &str, app: &str, arguments: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {app}}}}}\nspec:\n  terminationGracePeriodSeconds: 0\n  \
         containers:\n  - {{name: c, image: coracle/echo, args: [{arguments}]{more}}}\n---\n"
    )
}

fn service(name: &str, spec: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n---\n")
}

/// What `coracle trace` prints, and whether the probe got through.
fn trace(lab: &Lab, arguments: &str) -> (bool, String) {
    let arguments: Vec<&str> = ["trace"].into_iter().chain(arguments.split(' ')).collect();
    let output = lab.coracle(&arguments);
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said)
}

/// Traces until all of this is said, with the other ending never.
fn expect(lab: &Lab, arguments: &str, through: bool, parts: &[&str]) {
    wait(&format!("trace {arguments}"), PATIENCE, || {
        let (success, said) = trace(lab, arguments);
        let all = parts.iter().all(|part| said.contains(part));
        if all && success == through { Ok(()) } else { Err(format!("{success} {parts:?}\n{said}")) }
    });
}

/// Two good pods, and Services that lead to them.
fn good() -> String {
    let port = ", ports: [{name: http, containerPort: 8080}]";
    pod("web-1", "web", "--http, '8080', --udp, '5353'", port)
        + &pod("web-2", "web", "--http, '8080', --udp, '5353'", port)
        + &service(
            "web",
            "type: NodePort, selector: {app: web}, ports: [{name: http, port: 80, targetPort: http, nodePort: 30001}]",
        )
}

#[test]
fn mistakes_are_found() {
    if !inside("mistakes_are_found") {
        return;
    }
    let lab = Lab::start(CORACLE, Options::default());
    lab.import_busybox();
    let local = "apiVersion: v1\nkind: Pod\nmetadata: {name: shy, labels: {app: shy}}\nspec:\n  terminationGracePeriodSeconds: 0\n  \
                 containers:\n  - {name: c, image: busybox, imagePullPolicy: Never, command: [busybox, httpd, -f, -p, '127.0.0.1:8080']}\n---\n";
    let probe = ", readinessProbe: {httpGet: {port: 8080, path: /, httpHeaders: []}, periodSeconds: 1}";
    let manifest = good()
        + local
        + &pod("sick", "sick", "--http, '80'", probe)
        + &pod("crash", "crash", "--nonsense", "")
        + &service("shy", "selector: {app: shy}, ports: [{port: 80, targetPort: 8080}]")
        + &service("sick", "selector: {app: sick}, ports: [{port: 80, targetPort: 8080}]")
        + &service("crash", "selector: {app: crash}, ports: [{port: 80}]")
        + &service("typo", "selector: {app: wbe}, ports: [{port: 80}]")
        + &service("wrong", "selector: {app: web}, ports: [{port: 80, targetPort: 81}]")
        + &service("named", "selector: {app: web}, ports: [{port: 80, targetPort: htpp}]")
        + &service("head", "clusterIP: None, selector: {app: web}, ports: [{port: 80, targetPort: http}]")
        + &service("bare", "ports: [{port: 80}]")
        + &service("dns", "selector: {app: web}, ports: [{port: 53, targetPort: 5353, protocol: UDP}]")
        + &service("alias", "type: ExternalName, externalName: web.default.svc.cluster.local");
    lab.apply(&manifest);
    lab.kubectl("wait --for=condition=Ready pod/web-1 pod/web-2 pod/shy --timeout=30s");

    let whole =
        ["web.default.svc.cluster.local → 10.", "default/web, ClusterIP 10.", "2 of 2 usable", "it went to 10.244.0."];
    expect(&lab, "web", true, &whole);
    expect(
        &lab,
        "--from web-1 web",
        true,
        &["TCP from Pod web-1 (10.244.0.", "it went to 10.244.0.", "It gets through."],
    );
    expect(&lab, &format!("{NODE}:30001"), true, &["NodePort 30001 of every node", "it went to 10.244.0."]);
    expect(&lab, "localhost:30001 --http /", true, &["relayed on localhost", "GET /: HTTP/1.1 200 OK"]);
    expect(&lab, "web --http /x", true, &["GET /x: HTTP/1.1 200 OK", "container c, port http 8080"]);
    expect(&lab, "dns --udp", true, &["UDP from the node coracle", "it went to 10.244.0."]);
    expect(&lab, "head", true, &["default/head is headless", "Pod web-"]);
    expect(&lab, "kubernetes.default", true, &["443/TCP", "connected"]);
    expect(&lab, "alias:80", true, &["default/alias is only an alias of web.default.svc.cluster.local"]);

    let lost: [(&str, &[&str]); 15] = [
        ("shy", &["Lost at Pod: Pod shy", "its program listens on 127.0.0.1:8080 only", "0.0.0.0"]),
        (
            "wrong",
            &["Lost at Pod: Pod web-", "nothing in it listens on TCP port 81, only on 8080", "it went to 10.244.0."],
        ),
        ("--from shy wrong", &["TCP from Pod shy", "Lost at Pod: Pod web-", "nothing in it listens on TCP port 81"]),
        (
            "sick",
            &[
                "Lost at Endpoints",
                "its readiness probe (GET :8080/) does not succeed: Readiness probe failed",
                "only on 80",
            ],
        ),
        ("crash", &["Lost at Endpoints", "Pod crash: container c: CrashLoopBackOff", "exit code 2"]),
        ("typo", &["Lost at Selector", "pods have app=crash (crash)", "app=web (web-1, web-2)"]),
        ("named", &["Lost at Port", "targetPort \"htpp\"", "http (8080)"]),
        ("bare", &["Lost at Service", "has no selector"]),
        ("head:80", &["Lost at Port", "headless", "Ask for port 8080."]),
        ("wbe", &["Lost at DNS: there is no Service wbe", "Did you mean web?"]),
        ("web.dev", &["Lost at DNS: there is no namespace dev", "Did you mean web.default?"]),
        ("web:8080", &["Lost at Port: 8080 is targetPort", "refused"]),
        ("dns", &["Lost at Port: Service default/dns has port 53 with UDP", "--udp"]),
        ("10.96.99.99:80", &["Lost at Address: 10.96.99.99:80 is no address"]),
        ("--from nobody web", &["there is no Pod nobody in the namespace default"]),
    ];
    for (arguments, parts) in lost {
        expect(&lab, arguments, false, parts);
    }
    // Without the cluster's own directory, as on any machine that can reach it.
    let kubeconfig = lab.data().join("kubeconfig").display().to_string();
    let elsewhere = ["by the cluster's state", "TCP from this machine", "it went to 10.244.0."];
    expect(&lab, &format!("--kubeconfig {kubeconfig} web"), true, &elsewhere);
    let rejected = trace(&lab, "web:70000").1;
    assert!(rejected.contains("\"70000\" is no port"), "{rejected}");
}

#[test]
fn an_isolated_node_is_entered() {
    if !inside("an_isolated_node_is_entered") {
        return;
    }
    let lab = Lab::start(CORACLE, Options { ordinary: true, ..Options::with("--isolated") });
    lab.apply(&(good() + &service("wrong", "selector: {app: web}, ports: [{port: 80, targetPort: 81}]")));
    lab.kubectl("wait --for=condition=Ready pod/web-1 pod/web-2 --timeout=30s");
    expect(&lab, "web", true, &["2 of 2 usable", "it went to 10.244.0."]);
    expect(&lab, "--from web-1 web", true, &["TCP from Pod web-1 (10.244.0.", "it went to 10.244.0."]);
    expect(&lab, "--from web-1 localhost:8080", true, &["Pod        Pod web-1", "connected"]);
    expect(&lab, "10.240.0.2:30001", true, &["it went to 10.244.0."]);
    expect(&lab, "localhost:30001", true, &["from this machine", "a relay in user space"]);
    expect(&lab, "wrong", false, &["nothing in it listens on TCP port 81, only on 8080", "it went to 10.244.0."]);
}
