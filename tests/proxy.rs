//! `coracle proxy` in kube-proxy's place: on a machine of its own, with nothing else of Coracle there.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use serde_json::{Value, json};
use testbed::{Following, Lab, Options, Stream, inside, need, run, text, wait};

const PATIENCE: Duration = Duration::from_secs(30);
const CORACLE: &str = env!("CARGO_BIN_EXE_coracle");

/// Where the API server is, on the wire to the node; and the node.
const API: &str = "192.168.60.1";
const NODE: &str = "192.168.60.2";
/// Another address of the node's.
const SECOND: &str = "192.168.60.3";
/// The pods, in namespaces `pod0` and `pod1` behind the node.
const PODS: [&str; 2] = ["10.200.0.2", "10.200.0.3"];
const CLUSTER_IP: &str = "10.96.70.1:80";

fn ip(arguments: &str) {
    text(Command::new(need("ip")).args(arguments.split(' ')));
}

/// A command in a network namespace.
fn at(namespace: &str, program: &str, arguments: &str) -> Command {
    let mut command = Command::new(need("ip"));
    command.args(["netns", "exec", namespace, program]).args(arguments.split_whitespace());
    command
}

/// A machine with two pods, and a wire to where the API server is.
fn machine() {
    ip("netns add node");
    ip("link add wire type veth peer name eth0 netns node");
    ip(&format!("addr add {API}/24 dev wire"));
    ip("link set wire up");
    ip("-n node link set lo up");
    ip(&format!("-n node addr add {NODE}/24 dev eth0"));
    ip(&format!("-n node addr add {SECOND}/24 dev eth0"));
    ip("-n node link set eth0 up");
    ip(&format!("-n node route add default via {API}"));
    text(at("node", "sh", "-c").arg("echo 1 > /proc/sys/net/ipv4/ip_forward"));
    for (pod, address) in PODS.iter().enumerate() {
        ip(&format!("netns add pod{pod}"));
        ip(&format!("-n node link add pod{pod} type veth peer name eth0 netns pod{pod}"));
        ip(&format!("-n node addr add 169.254.1.1/32 dev pod{pod} scope link"));
        ip(&format!("-n node link set pod{pod} up"));
        ip(&format!("-n node route add {address}/32 dev pod{pod} src {NODE}"));
        ip(&format!("-n pod{pod} link set lo up"));
        ip(&format!("-n pod{pod} addr add {address}/32 dev eth0"));
        ip(&format!("-n pod{pod} link set eth0 up"));
        ip(&format!("-n pod{pod} route add 169.254.1.1 dev eth0 scope link"));
        ip(&format!("-n pod{pod} route add default via 169.254.1.1 dev eth0"));
    }
    // A table of someone else's.
    text(&mut at("node", "nft", "add table ip theirs"));
}

/// All that a proxy could change of the machine.
fn machine_now() -> String {
    let nft = text(&mut at("node", "nft", "list ruleset"));
    let ip = ["-4 -o addr", "-4 route show table all", "rule", "-6 rule", "-br link"];
    nft + &ip.map(|what| text(&mut at("node", "ip", what))).concat()
}

/// The proxy's process.
struct Proxy(Child);

impl Proxy {
    /// With arguments it is without privileges.
    fn start(lab: &Lab, arguments: &str) -> Self {
        let kubeconfig = lab.scratch().join("elsewhere");
        let log = fs::File::options().append(true).create(true).open(lab.scratch().join("proxy.log")).expect("a log");
        // Root without any right, unless it is to change rules.
        let rights = if arguments.is_empty() { "" } else { "--bounding-set=-all --inh-caps=-all" };
        let mut command = at("node", "setpriv", rights);
        command.args([CORACLE, "proxy", "--hostname-override=edge", "--kubeconfig"]).arg(kubeconfig);
        command.args(arguments.split_whitespace());
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("the log")).stderr(log);
        Self(command.spawn().expect("coracle proxy starts"))
    }

    /// Ends it, and waits until it has.
    fn end(self, by: Signal) -> bool {
        let pid = Pid::from_child(&self.0);
        kill_process(pid, by).expect("it runs");
        self.ended()
    }

    /// Waits until it has ended.
    fn ended(mut self) -> bool {
        self.0.wait().expect("it ends").success()
    }
}

/// What the proxies of a test have said.
fn said(lab: &Lab) -> String {
    fs::read_to_string(lab.scratch().join("proxy.log")).unwrap_or_default()
}

/// A request over a new connection: the address of the pod that answered.
fn ask(to: SocketAddr) -> std::io::Result<String> {
    let limit = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&to, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: service\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let pod = answer.lines().find_map(|line| line.strip_prefix("address: ")).unwrap_or_default();
    Ok(pod.trim_end_matches(":8080").to_owned())
}

/// The same, from where the API server is.
fn ask_here(to: &str) -> Result<String, String> {
    ask(to.parse().expect("an address and port")).map_err(|error| error.to_string())
}

/// The same, from another thread that is in the namespace.
fn ask_from(namespace: &'static str, to: &str) -> Result<String, String> {
    let to = to.parse().expect("an address and port");
    let asking = thread::spawn(move || {
        enter(namespace);
        ask(to).map_err(|error| error.to_string())
    });
    asking.join().expect("no panic")
}

fn enter(namespace: &str) {
    let file = fs::File::open(format!("/run/netns/{namespace}")).expect("a namespace");
    move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(LinkNameSpaceType::Network)).expect("setns");
}

/// Requests one after the other, from a namespace or from where the API server is.
fn stream(namespace: Option<&'static str>, to: &str) -> Stream {
    let to = to.parse().expect("an address and port");
    Stream::start(move || {
        namespace.map(enter);
        move || match ask(to) {
            Ok(pod) if PODS.contains(&pod.as_str()) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
}

/// A Service without a selector and its slice, for endpoints that Coracle knows nothing of.
fn service(name: &str, spec: Value, pods: &[&str]) -> String {
    let endpoint = |address: &&str| json!({"addresses": [address], "conditions": {"ready": true}, "nodeName": "edge"});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
        "ports": [{"port": 8080, "protocol": "TCP"}],
        "endpoints": pods.iter().map(endpoint).collect::<Vec<_>>(),
    });
    json!({"apiVersion": "v1", "kind": "List", "items": [service, slice]}).to_string()
}

fn web(pods: &[&str]) -> String {
    let ports = json!([{"port": 80, "targetPort": 8080, "nodePort": 30080}]);
    service("web", json!({"type": "NodePort", "clusterIP": "10.96.70.1", "ports": ports}), pods)
}

fn outer(pods: &[&str]) -> String {
    let ports = json!([{"port": 80, "targetPort": 8080, "nodePort": 30081}]);
    let spec = json!({
        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 31999, "ports": ports,
    });
    service("outer", spec, pods)
}

/// Waits until exactly these pods answer.
fn answered(namespace: &'static str, to: &str, pods: &[&str]) {
    wait(&format!("answers of {pods:?} at {to}"), PATIENCE, || {
        let mut seen = Vec::new();
        for _ in 0..20 {
            seen.push(ask_from(namespace, to)?);
        }
        seen.sort();
        seen.dedup();
        if seen == pods { Ok(()) } else { Err(format!("{seen:?}")) }
    });
}

/// A page of the proxy: its status, and the head and body. From where the API server is, or from the node.
fn page(namespace: Option<&str>, url: &str) -> Result<(u16, String), String> {
    let arguments = format!("--silent --show-error --max-time 5 --include {url}");
    let output = match namespace {
        Some(namespace) => run(&mut at(namespace, "curl", &arguments)),
        None => run(Command::new(need("curl")).args(arguments.split(' '))),
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let status = said.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.map(|status| (status, said)).ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Waits until a page has this status and says this.
fn says(namespace: Option<&str>, url: &str, status: u16, part: &str) {
    wait(&format!("{status} and {part:?} of {url}"), PATIENCE, || match page(namespace, url)? {
        (found, said) if found == status && said.contains(part) => Ok(()),
        (found, said) => Err(format!("{found} {said}")),
    });
}

/// The node's object, which nobody else keeps, and the way to the API server from there.
fn register(lab: &Lab) {
    let kubeconfig = fs::read_to_string(lab.data().join("kubeconfig")).expect("a kubeconfig");
    let elsewhere = kubeconfig.replace("127.0.0.1", API);
    assert_ne!(elsewhere, kubeconfig);
    fs::write(lab.scratch().join("elsewhere"), elsewhere).expect("a file");
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "edge"},
        "spec": {"podCIDR": "10.200.0.0/24", "podCIDRs": ["10.200.0.0/24"]},
    });
    lab.apply(&node.to_string());
    addresses(lab, NODE);
}

fn addresses(lab: &Lab, address: &str) {
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": address}]}});
    lab.kubectl(&format!("patch node edge --subresource status --type merge --patch '{status}'"));
}

#[test]
fn it_takes_the_place_of_kube_proxy() {
    if !inside("it_takes_the_place_of_kube_proxy") {
        return;
    }
    machine();
    let mut lab = Lab::start(CORACLE, Options::with(&format!("--listen {API}")));
    register(&lab);
    let _servers = [0, 1].map(|pod| Following::of(at(&format!("pod{pod}"), CORACLE, "echo --http 8080")));
    lab.apply(&web(&PODS));
    lab.apply(&outer(&PODS[..1]));
    let before = machine_now();
    without_privilege(&lab);
    assert!(text(&mut at("node", CORACLE, "proxy --cleanup")).contains("nothing"));

    let proxy = Proxy::start(&lab, "");
    answered("node", CLUSTER_IP, &PODS);
    answered("pod0", CLUSTER_IP, &PODS);
    wait("the NodePort", PATIENCE, || ask_here(&format!("{NODE}:30080")));
    pages(&lab);

    let (inner, outer) = (stream(Some("pod0"), CLUSTER_IP), stream(None, "192.168.60.2:30080"));
    lab.kill();
    answered("node", CLUSTER_IP, &PODS);
    lab.up();
    lab.apply(&web(&PODS[1..]));
    answered("node", CLUSTER_IP, &PODS[1..]);

    // Killed: what it has made goes on, and the next one takes it over with what changed meanwhile.
    assert!(!proxy.end(Signal::KILL));
    lab.apply(&web(&PODS));
    answered("node", CLUSTER_IP, &PODS[1..]);
    let proxy = Proxy::start(&lab, "");
    answered("node", CLUSTER_IP, &PODS);
    outer.end();

    // NodePorts are at the node's address, whatever that is; the rules for it come without a gap.
    for address in [SECOND, NODE] {
        addresses(&lab, address);
        wait("the NodePort at the new address", PATIENCE, || ask_here(&format!("{address}:30080")));
        says(None, &format!("http://{address}:31999"), 200, "\"localEndpoints\": 1");
    }

    // Ended: the same. Only --cleanup takes it away.
    assert!(proxy.end(Signal::TERM), "{}", said(&lab));
    answered("node", CLUSTER_IP, &PODS);
    inner.end();
    let removed = text(&mut at("node", CORACLE, "proxy --cleanup"));
    assert_eq!(removed, "removed the table ip coracle-proxy\n");
    assert_eq!(machine_now(), before);
    assert!(ask_from("node", CLUSTER_IP).is_err());
}

/// Someone who may not change rules is told so, but can have relays.
fn without_privilege(lab: &Lab) {
    assert!(!Proxy::start(lab, "--plane=kernel").ended(), "{}", said(lab));
    assert!(said(lab).contains("CAP_NET_ADMIN"), "{}", said(lab));
    let proxy = Proxy::start(lab, "--plane=auto");
    wait("the NodePort of a relay", PATIENCE, || ask_here(&format!("{NODE}:30080")));
    let mode = page(Some("node"), "http://127.0.0.1:10249/proxyMode").expect("a page").1;
    assert!(mode.ends_with("\r\n\r\nuserspace"), "{mode}");
    assert!(proxy.end(Signal::TERM), "{}", said(lab));
}

/// What operators and load balancers look at.
fn pages(lab: &Lab) {
    let (healthz, livez) = (format!("http://{NODE}:10256/healthz"), format!("http://{NODE}:10256/livez"));
    says(None, &healthz, 200, "\"nodeEligible\":true");
    let (_, livez_said) = page(None, &livez).expect("a page");
    assert!(livez_said.contains("\"healthy\":true") && !livez_said.contains("nodeEligible"), "{livez_said}");
    assert!(livez_said.contains("content-type: application/json\r\n"), "{livez_said}");
    let taints =
        |taints: &Value| format!("patch node edge --type merge --patch '{}'", json!({"spec": {"taints": taints}}));
    lab.kubectl(&taints(&json!([{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}])));
    says(None, &healthz, 503, "\"nodeEligible\":false");
    says(None, &livez, 200, "\"healthy\":true");
    lab.kubectl(&taints(&json!([])));
    says(None, &healthz, 200, "\"nodeEligible\":true");

    let own = |path: &str| page(Some("node"), &format!("http://127.0.0.1:10249/{path}")).expect("a page").1;
    assert!(own("proxyMode").ends_with("\r\n\r\nnftables"), "{}", own("proxyMode"));
    assert!(own("healthz").ends_with("\r\n\r\nok"), "{}", own("healthz"));
    let metrics = own("metrics");
    let value = |name: &str| {
        let found = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<f64>().ok());
        found.unwrap_or_else(|| panic!("no {name} in {metrics}"))
    };
    assert!(value("kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"}") >= 1.);
    assert_eq!(value("kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"}"), 1.);
    assert!(value("kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"}") > 1e9);
    assert!(value("kubeproxy_sync_proxy_rules_service_changes_total") >= 2.);
    assert!(value("kubeproxy_sync_proxy_rules_endpoint_changes_total") >= 2.);
    assert_eq!(value("kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family=\"IPv4\"}"), 0.);
    assert!(value("kubeproxy_proxy_healthz_total{code=\"503\"}") >= 1.);

    let outer_health = format!("http://{NODE}:31999");
    says(None, &outer_health, 200, "x-load-balancing-endpoint-weight: 1\r\n");
    lab.apply(&outer(&[]));
    says(None, &outer_health, 503, "\"localEndpoints\": 0");
    lab.apply(&outer(&PODS[..1]));
    says(None, &outer_health, 200, "\"localEndpoints\": 1");
    // The cluster's own node has none of them.
    says(None, &format!("http://{}:31999", testbed::NODE), 503, "\"localEndpoints\": 0");
}
