//! The cluster's DNS as pods, people and other programs meet it.

use std::{
    net::{Ipv4Addr, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Message, Query},
    rr::{Name, RecordType},
};
use serde_json::json;
use testbed::{Following, Lab, Options, Stream, inside, need, run, text, wait};

const PATIENCE: Duration = Duration::from_secs(30);
const CORACLE: &str = env!("CARGO_BIN_EXE_coracle");
const DNS: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 96, 0, 10), 53);

/// How long a look-up may take: resolvers ask again after 2.5 or 5 seconds, so nothing was lost when none took longer.
const LOST: u32 = 2000;

/// A resolver of C, compiled for a C library.
fn lookup(compiler: &str, arguments: &[&str], to: &Path) -> PathBuf {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dns/lookup.c");
    text(Command::new(need(compiler)).args(arguments).arg("-o").arg(to).arg(source));
    to.to_owned()
}

/// A pod of the image with the resolvers.
fn pod(namespace: &str, name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  terminationGracePeriodSeconds: 0\n  \
         containers:\n  - {{name: c, image: resolvers, imagePullPolicy: Never, command: [sleep, '1000']}}\n---\n"
    )
}

fn service(namespace: &str, name: &str, address: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{clusterIP: {address}, ports: [{{port: 80}}]}}\n---\n"
    )
}

/// The addresses that a server has for a name.
fn dig(arguments: &str) -> String {
    let output = text(Command::new(need("dig")).args(["+short", "+tries=1", "+time=10"]).args(arguments.split(' ')));
    output.trim().to_owned()
}

/// What one round of look-ups printed, without the times, which have to be short.
fn found(output: &str) -> Vec<&str> {
    let (lines, end) = output.trim_end().rsplit_once('\n').expect("look-ups and what came of them");
    let slowest = end.strip_prefix("failed 0, slowest ").and_then(|end| end.strip_suffix(" ms"));
    let slowest: u32 = slowest.unwrap_or_else(|| panic!("{output}")).parse().expect("milliseconds");
    assert!(slowest < LOST, "a question was lost: {output}");
    lines.lines().collect()
}

#[test]
fn pods_resolve_names_while_everything_else_comes_and_goes() {
    if !inside("pods_resolve_names_while_everything_else_comes_and_goes") {
        return;
    }
    let mut lab = Lab::start(CORACLE, Options::default());
    let musl = lookup("musl-gcc", &["-static"], &lab.scratch().join("musl"));
    let glibc = lookup("cc", &[], &lab.scratch().join("glibc"));
    let programs = [musl, glibc, need("getent"), need("sleep")];
    lab.import(&testbed::programs(lab.scratch(), "resolvers", &programs), "resolvers");
    let services =
        service("default", "web", "10.96.7.1") + "apiVersion: v1\nkind: Namespace\nmetadata: {name: dev}\n---\n";
    lab.apply(&(services + &service("dev", "web", "10.96.7.2") + &pod("default", "one") + &pod("default", "two")));
    lab.apply(&pod("dev", "three"));
    lab.kubectl("wait --for=condition=Ready pod/one pod/two --timeout=30s");
    lab.kubectl("wait --for=condition=Ready pod/three --namespace dev --timeout=30s");

    resolve_by_each_library(&lab);
    resolve_in_storms(&lab);
    a_and_aaaa_by_one_socket();

    let config = lab.data().join("kubeconfig");
    let mut alone = Command::new(CORACLE);
    alone.args(["dns", "--port", "1053", "--kubeconfig"]).arg(config);
    let alone = Following::of(alone);
    let ask_alone = |name: &str| dig(&format!("@127.0.0.1 -p 1053 {name}.svc.cluster.local"));
    alone.until("first lines", PATIENCE, |said| said.contains(".:1053") && said.contains("Coracle-"));
    wait("answer of `coracle dns`", PATIENCE, || match ask_alone("web.dev").as_str() {
        "10.96.7.2" => Ok(()),
        other => Err(format!("{other:?} {}", alone.said())),
    });
    lab.kill();
    assert_eq!(ask_alone("web.default"), "10.96.7.1", "it goes on without the API server");
    lab.up();
    let said = wait("pod that the agent has found again", PATIENCE, || {
        let output = run(&mut lab.kubectl_command("exec one -- musl 1 web web.dev"));
        let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(said.into_owned()) } else { Err(error.into_owned()) }
    });
    assert_eq!(found(&said), ["web 10.96.7.1", "web.dev 10.96.7.2"]);
    lab.apply(&service("default", "later", "10.96.7.3"));
    wait("answer after the API server came back", PATIENCE, || match ask_alone("later.default").as_str() {
        "10.96.7.3" => Ok(()),
        other => Err(format!("{other:?} {}", alone.said())),
    });
    assert_eq!(ask_alone("web.default"), "10.96.7.1");
}

/// By short, namespaced and full names.
fn resolve_by_each_library(lab: &Lab) {
    let names = "web web.dev web.default.svc.cluster.local web.dev.svc.cluster.local. kube-dns.kube-system";
    let want = [
        "web 10.96.7.1",
        "web.dev 10.96.7.2",
        "web.default.svc.cluster.local 10.96.7.1",
        "web.dev.svc.cluster.local. 10.96.7.2",
        "kube-dns.kube-system 10.96.0.10",
    ];
    for library in ["musl", "glibc"] {
        assert_eq!(found(&lab.kubectl(&format!("exec one -- {library} 1 {names}"))), want, "{library}");
    }
    assert_eq!(found(&lab.kubectl("exec three --namespace dev -- musl 1 web")), ["web 10.96.7.2"]);
    let hosts = lab.kubectl("exec one -- getent ahostsv4 web.dev");
    assert!(hosts.starts_with("10.96.7.2 ") && hosts.contains("web.dev"), "{hosts}");
    let hosts = lab.kubectl("exec one -- getent hosts 10.96.0.10");
    assert_eq!(hosts.split_whitespace().collect::<Vec<_>>(), ["10.96.0.10", "kube-dns.kube-system.svc.cluster.local"]);
}

/// Each name is up to six questions, for two families with up to three domains of the search list.
fn resolve_in_storms(lab: &Lab) {
    let names = "web web.dev kube-dns.kube-system.svc";
    let said = thread::scope(|scope| {
        let storm = |pod| scope.spawn(move || lab.kubectl(&format!("exec {pod} 300 {names}")));
        let storms = ["one -- musl", "two -- glibc", "three --namespace dev -- musl"].map(storm);
        storms.map(|storm| storm.join().expect("a storm ends"))
    });
    for said in said {
        found(&said);
    }
}

/// A question for an address.
fn question(id: u16, name: &str, kind: RecordType) -> Vec<u8> {
    let mut question = Message::query();
    question.metadata.id = id;
    question.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    question.to_vec().expect("a packet")
}

/// A socket towards the cluster's DNS.
fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    socket.connect(DNS).expect("a route to DNS");
    socket
}

/// Connection tracking loses one of such a pair elsewhere.
fn a_and_aaaa_by_one_socket() {
    let name = "web.default.svc.cluster.local.";
    for id in 0..200 {
        let socket = socket();
        socket.send(&question(2 * id, name, RecordType::A)).expect("sent");
        socket.send(&question(2 * id + 1, name, RecordType::AAAA)).expect("sent");
        let mut seen = [0, 1].map(|_| {
            let mut packet = [0; 512];
            let length = socket.recv(&mut packet).unwrap_or_else(|error| panic!("pair {id}: {error}"));
            let answer = Message::from_vec(&packet[..length]).expect("an answer");
            (answer.metadata.id - 2 * id, answer.answers.len())
        });
        seen.sort();
        assert_eq!(seen, [(0, 1), (1, 0)]);
    }
}

/// Questions one after the other.
fn stream() -> Stream {
    Stream::start(|| {
        let (socket, mut id) = (socket(), 0);
        move || {
            id = u16::wrapping_add(id, 1);
            socket.send(&question(id, "kubernetes.default.svc.cluster.local.", RecordType::A)).expect("sent");
            let mut packet = [0; 512];
            let answer = socket.recv(&mut packet).map_err(|error| error.to_string());
            let answer = answer.and_then(|length| Message::from_vec(&packet[..length]).map_err(|e| e.to_string()));
            match answer {
                Ok(answer) if answer.metadata.id == id && answer.answers.len() == 1 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        }
    })
}

/// Puts a Corefile into the cluster: `extra` is added to its block.
fn put(lab: &Lab, extra: &str) {
    let corefile = format!(
        ".:53 {{\n    errors\n    health\n    ready\n    prometheus :9153\n    {extra}\n    kubernetes cluster.local in-addr.arpa ip6.arpa {{\n        \
         pods verified\n        fallthrough in-addr.arpa ip6.arpa\n    }}\n    reload\n    loadbalance\n}}\n"
    );
    let patch = json!({"data": {"Corefile": corefile}});
    lab.kubectl(&format!("patch configmap coredns --namespace kube-system --type merge --patch '{patch}'"));
}

#[test]
fn the_corefile_is_a_config_map() {
    if !inside("the_corefile_is_a_config_map") {
        return;
    }
    let lab = Lab::start(CORACLE, Options::default());
    let stream = stream();
    // What is told first is what was before: the standard one, as it was made.
    assert!(lab.kubectl("get configmap coredns -n kube-system -o jsonpath={.data.Corefile}").starts_with(".:53 {\n"));
    // Without a forwarder, so that a name of the world fails at once.
    put(&lab, "");
    pages(&lab);
    for number in 1..5 {
        put(&lab, &format!("hosts {{\n        192.0.2.{number} legacy.example\n        fallthrough\n    }}"));
        let began = Instant::now();
        wait("answer of the new Corefile", PATIENCE, || match dig("@10.96.0.10 legacy.example") {
            address if address == format!("192.0.2.{number}") => Ok(()),
            other => Err(other),
        });
        // Not only when the next look is due.
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    }

    put(&lab, "tpyo");
    let event = wait("event", PATIENCE, || {
        let events = lab.kubectl("get events -n kube-system --field-selector type=Warning");
        if events.contains("InvalidCorefile") { Ok(events) } else { Err(events) }
    });
    assert!(event.contains("configmap/coredns") && event.contains("Corefile:6") && event.contains("tpyo"), "{event}");
    assert!(lab.said().contains("tpyo"), "{}", lab.said());
    assert_eq!(dig("@10.96.0.10 legacy.example"), "192.0.2.4");
    lab.kubectl("delete configmap coredns --namespace kube-system");
    assert_eq!(dig("@10.96.0.10 legacy.example"), "192.0.2.4");
    stream.end();

    assert_eq!(dig("@10.96.0.10 +tcp kubernetes.default.svc.cluster.local"), "10.96.0.1");
    assert_eq!(dig("@10.96.0.10 -x 10.96.0.10"), "kube-dns.kube-system.svc.cluster.local.");
    let name = "kubernetes.default.svc.cluster.local";
    let edns = text(Command::new(need("dig")).args(["@10.96.0.10", "+bufsize=4096", name]));
    assert!(edns.contains("EDNS: version: 0, flags:; udp: 1232"), "{edns}");
    let services = lab.kubectl("get services -n kube-system --no-headers");
    let row: Vec<_> = services.split_whitespace().take(5).collect();
    assert_eq!(row, ["kube-dns", "ClusterIP", "10.96.0.10", "<none>", "53/UDP,53/TCP,9153/TCP"]);
}

/// What operators look at.
fn pages(lab: &Lab) {
    let page = |place: &str| lab.curl(&format!("http://10.96.0.10:{place}"));
    wait("OK of /health", PATIENCE, || match page("8080/health")?.as_str() {
        "OK" => Ok(()),
        other => Err(other.into()),
    });
    wait("OK of /ready", PATIENCE, || match page("8181/ready")?.as_str() {
        "OK" => Ok(()),
        other => Err(other.into()),
    });
    let metrics = page("9153/metrics").expect("a page of metrics");
    for name in ["coredns_build_info", "coredns_dns_requests_total", "coredns_dns_request_duration_seconds_bucket"] {
        assert!(metrics.contains(name), "no {name} in {metrics}");
    }
}
