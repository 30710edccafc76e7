//! Services of type LoadBalancer, as a client on another machine meets them.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd as _,
    process::Command,
    thread,
    time::Duration,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::json;
use testbed::{Lab, NODE, OUTSIDE, Options, Stream, Traces, inside, need, run, text, wait};

const PATIENCE: Duration = Duration::from_secs(30);
/// How long the other machine waits for an answer.
const LIMIT: Duration = Duration::from_secs(2);
const CORACLE: &str = env!("CARGO_BIN_EXE_coracle");
/// The cluster's DNS.
const DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// The addresses of the pool, on the wire to the other machine, and one that it has later.
const POOL: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 168, 50, 100), Ipv4Addr::new(192, 168, 50, 101)];
const MORE: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 99);

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec: {containers: [{name: web, image: coracle/echo}]}
";

/// A Service in front of the pod, and what else there is to say in its spec.
fn balanced(name: &str, port: u16, more: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: LoadBalancer, selector: {{app: web}}, \
         ports: [{{name: http, port: {port}, targetPort: 80}}]{more}}}\n"
    )
}

/// The pod and a Service that keeps the client's address.
fn web() -> String {
    POD.to_owned() + &balanced("web", 80, ", externalTrafficPolicy: Local")
}

fn pools(lab: &Lab, data: &str) {
    lab.apply(&format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: load-balancer-pools, namespace: kube-system}}\ndata: {{{data}}}\n"
    ));
}

/// What kubectl shows of a Service as its outer address.
fn external(lab: &Lab, service: &str) -> String {
    let row = lab.kubectl(&format!("get service {service} --no-headers"));
    row.split_whitespace().nth(3).unwrap_or_default().to_owned()
}

/// Waits until a Service has this outer address.
fn given(lab: &Lab, service: &str, address: Ipv4Addr) {
    wait(&format!("address {address} of {service}"), PATIENCE, || match external(lab, service) {
        shown if shown == address.to_string() => Ok(()),
        other => Err(other),
    });
}

fn ip(arguments: &str) -> String {
    text(Command::new(need("ip")).args(arguments.split(' ')))
}

/// What a URL answers on the other machine, which resolves names by the cluster's DNS at this address.
fn visit(lab: &Lab, dns: Ipv4Addr, url: &str) -> Result<String, String> {
    let resolver = lab.scratch().join("resolv.conf");
    fs::write(&resolver, format!("nameserver {dns}\n")).expect("a file");
    // Mounts made there are not seen here.
    let script = "mount --bind \"$0\" /etc/resolv.conf && exec curl --silent --show-error --max-time 5 \"$1\"";
    let output = run(testbed::outside("sh").args(["-c", script]).arg(resolver).arg(url));
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// Waits until the pod answers there, and says that this is its client.
fn visited(lab: &Lab, dns: Ipv4Addr, url: &str, client: Ipv4Addr) {
    wait(&format!("answer of {url} to {client}"), PATIENCE, || match visit(lab, dns, url)? {
        answer if answer.starts_with("pod: web\n") && answer.contains(&format!("client: {client}:")) => Ok(()),
        answer => Err(answer),
    });
}

/// The records of the cluster's DNS.
fn dig(arguments: &str) -> String {
    text(
        Command::new(need("dig"))
            .args([&format!("@{DNS}"), "+short", "+tries=1", "+time=10"])
            .args(arguments.split(' ')),
    )
}

/// Moves this thread to the other machine, for good.
fn go_outside() {
    let outside = fs::File::open("/run/netns/outside").expect("a namespace");
    move_into_link_name_space(outside.as_fd(), Some(LinkNameSpaceType::Network)).expect("setns");
}

/// Requests over new connections, one after the other, from the other machine.
fn stream(to: Ipv4Addr) -> Stream {
    let to = SocketAddr::from((to, 80));
    Stream::start(move || {
        go_outside();
        move || match ask_tcp(to) {
            Ok(answer) if answer.contains("pod: web") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
}

/// What is said over a connection, to HTTP and to anything else.
fn ask_tcp(to: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// What is said to a datagram.
fn ask_udp(to: SocketAddr) -> io::Result<String> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    // What comes from elsewhere is not heard.
    socket.connect(to)?;
    socket.set_read_timeout(Some(LIMIT))?;
    socket.send(b"who")?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

#[test]
fn the_node_gives_its_own_address_and_it_has_a_name() {
    if !inside("the_node_gives_its_own_address_and_it_has_a_name") {
        return;
    }
    let mut lab = Lab::prepare(CORACLE, Options::default());
    let before = Traces::now();
    lab.up();
    ip(&format!("-n outside route add {DNS} via {NODE}"));
    lab.apply(&web());
    given(&lab, "web", NODE);
    assert_eq!(lab.get("service web")["status"]["loadBalancer"]["ingress"], json!([{"ip": NODE, "ipMode": "VIP"}]));
    visited(&lab, DNS, "http://web.default.lb.cluster.local", OUTSIDE);
    lab.kubectl("patch service web --patch '{\"spec\":{\"externalTrafficPolicy\":\"Cluster\"}}'");
    visited(&lab, DNS, "http://web.default.lb.cluster.local", NODE);

    assert_eq!(dig("SRV _http._tcp.web.default.lb.cluster.local"), "0 100 80 web.default.lb.cluster.local.\n");
    assert!(dig(&format!("-x {NODE}")).contains("web.default.lb.cluster.local."), "{}", dig(&format!("-x {NODE}")));
    let explained = lab.says(&["dig", "web.default.lb"]);
    assert!(explained.contains("the address of the load balancer of Service default/web (1 of 1"), "{explained}");

    of_others(&lab);
    only_for_some(&lab);
    killed(&mut lab);

    lab.kubectl("patch service web --patch '{\"spec\":{\"type\":\"ClusterIP\",\"externalTrafficPolicy\":null,\"loadBalancerSourceRanges\":null}}'");
    wait("end of the name", PATIENCE, || match dig("web.default.lb.cluster.local").as_str() {
        "" => Ok(()),
        other => Err(other.to_owned()),
    });
    assert_eq!(external(&lab, "web"), "<none>");
    silent(&lab, &format!("http://{NODE}"));
    lab.kubectl("patch service web --patch '{\"spec\":{\"type\":\"LoadBalancer\"}}'");
    given(&lab, "web", NODE);

    // Of a cluster that was killed, too, nothing stays.
    lab.kill();
    assert!(lab.says(&["down"]).contains("nothing of it is left"));
    ip(&format!("-n outside route del {DNS}"));
    before.assert_back(&lab.id());
}

/// Waits until nobody answers the other machine there.
fn silent(lab: &Lab, url: &str) {
    wait("end of the answers", PATIENCE, || match lab.curl_outside(url) {
        Ok(answer) => Err(answer),
        Err(_) => Ok(()),
    });
}

/// Another program's `loadBalancerClass`: it gives a name only, which DNS leads to.
fn of_others(lab: &Lab) {
    lab.apply(&balanced("others", 80, ", loadBalancerClass: example.com/other"));
    let theirs = json!({"status": {"loadBalancer": {"ingress": [{"hostname": "lb.example.com"}]}}});
    lab.kubectl(&format!("patch service others --subresource status --type merge --patch '{theirs}'"));
    wait("alias", PATIENCE, || match dig("CNAME others.default.lb.cluster.local").as_str() {
        "lb.example.com.\n" => Ok(()),
        other => Err(other.to_owned()),
    });
    assert_eq!(external(lab, "others"), "lb.example.com");
    lab.kubectl("delete service others");
}

/// `loadBalancerSourceRanges`: the other machine is not among them, and then is.
fn only_for_some(lab: &Lab) {
    let ranges = |ranges: &str| {
        lab.kubectl(&format!(
            "patch service web --patch '{}'",
            json!({"spec": {"loadBalancerSourceRanges": [ranges]}})
        ));
    };
    let url = format!("http://{NODE}");
    ranges("203.0.113.0/24");
    silent(lab, &url);
    ranges(&format!("{OUTSIDE}/32"));
    visited(lab, DNS, &url, NODE);
}

/// The address stays, and answers all the time.
fn killed(lab: &mut Lab) {
    let events = |lab: &Lab| lab.kubectl("get events --field-selector involvedObject.kind=Service -o name");
    let (stream, said) = (stream(NODE), events(lab));
    lab.kill();
    lab.curl_outside(&format!("http://{NODE}")).expect("it answers while Coracle is dead");
    lab.up();
    lab.apply(&balanced("later", 8080, ""));
    given(lab, "later", NODE);
    visited(lab, DNS, "http://later.default.lb.cluster.local:8080", NODE);
    assert_eq!(external(lab, "web"), NODE.to_string());
    let now = events(lab);
    let of_later = now.lines().filter(|name| name.contains("/later.")).count();
    assert_eq!(now.lines().count(), said.lines().count() + of_later, "{said}\n{now}");
    stream.end();
}

#[test]
fn addresses_of_a_pool_are_found_on_the_wire() {
    if !inside("addresses_of_a_pool_are_found_on_the_wire") {
        return;
    }
    let mut lab = Lab::prepare(CORACLE, Options::default());
    let before = Traces::now();
    lab.up();
    let [dns, web] = POOL;
    // The other machine thinks that the first address is with a machine that has gone.
    ip(&format!("-n outside neigh replace {dns} lladdr 02:00:00:00:00:99 dev eth0 nud stale"));
    pools(&lab, &format!("lab: {dns}-{web}"));
    // It has no way to the cluster's DNS but this one.
    lab.kubectl("patch service kube-dns --namespace kube-system --patch '{\"spec\":{\"type\":\"LoadBalancer\"}}'");
    given(&lab, "kube-dns --namespace kube-system", dns);
    announced(dns.into());
    lab.apply(&self::web());
    given(&lab, "web", web);
    visited(&lab, dns, "http://web.default.lb.cluster.local", OUTSIDE);
    announced(web.into());
    pools(&lab, &format!("lab: {MORE}-{web}"));
    lab.apply(&balanced("more", 80, ""));
    given(&lab, "more", MORE);

    let stream = stream(web);
    lab.kill();
    lab.up();
    stream.end();
    // They are found anew.
    ip("-n outside neigh flush all");
    visited(&lab, dns, "http://more.default.lb.cluster.local", NODE);
    visited(&lab, dns, "http://web.default.lb.cluster.local", OUTSIDE);
    for (service, address) in [("kube-dns --namespace kube-system", dns), ("web", web), ("more", MORE)] {
        announced(address.into());
        assert_eq!(external(&lab, service), address.to_string());
    }

    lab.kubectl("delete service more");
    wait("end of the announcement", PATIENCE, || {
        ip("-n outside neigh flush all");
        let answer = lab.curl_outside(&format!("http://{MORE}"));
        match ip(&format!("-n outside neigh show {MORE}")) {
            nobody if nobody.contains("FAILED") => Ok(()),
            other => Err(format!("{answer:?} {other}")),
        }
    });
    lab.stop();
    before.assert_back(&lab.id());
}

/// Waits until the other machine knows an address to be with the node.
fn announced(address: IpAddr) {
    let link = ip("-o link show eth0");
    let node = link.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).expect("a link address");
    wait(&format!("{node} for {address}"), PATIENCE, || match ip(&format!("-n outside neigh show {address}")) {
        known if known.contains(node) => Ok(()),
        other => Err(other),
    });
}

/// The addresses of the two machines in IPv6, and one of the pool.
const NODE6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x50, 0, 0, 0, 0, 0, 2);
const OUTSIDE6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x50, 0, 0, 0, 0, 0, 1);
const POOL6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x50, 0, 0, 0, 0, 0, 0x100);

/// A pod that answers over both transports at one port, and programs of the node that do, in IPv6, which pods lack.
const BOTH: &str = "
apiVersion: v1
kind: Pod
metadata: {name: both, labels: {app: both}}
spec: {containers: [{name: both, image: coracle/echo, args: [--tcp, '53', --udp, '53']}]}
---
apiVersion: v1
kind: Service
metadata: {name: both}
spec:
  type: LoadBalancer
  ipFamilyPolicy: RequireDualStack
  selector: {app: both}
  ports: [{name: tcp, port: 53}, {name: udp, port: 53, protocol: UDP}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: both-of-the-node
  labels: {kubernetes.io/service-name: both, endpointslice.kubernetes.io/managed-by: lesson}
addressType: IPv6
endpoints: [{addresses: ['fd00:50::2'], nodeName: coracle}]
ports: [{name: tcp, port: 5300}, {name: udp, port: 5300, protocol: UDP}]
";

/// Answers at an address of the node over both transports, until the test ends.
fn answers(at: (Ipv6Addr, u16)) {
    let (datagrams, connections) = (UdpSocket::bind(at).expect("a port"), TcpListener::bind(at).expect("a port"));
    let said = |client: SocketAddr| format!("node\nclient: {client}\n");
    thread::spawn(move || {
        while let Ok((_, client)) = datagrams.recv_from(&mut [0; 64]) {
            datagrams.send_to(said(client).as_bytes(), client).expect("an answer");
        }
    });
    thread::spawn(move || {
        while let Ok((mut stream, client)) = connections.accept() {
            let _ = stream.read(&mut [0; 512]).expect("a question");
            stream.write_all(said(client).as_bytes()).expect("an answer");
        }
    });
}

/// Waits until both transports answer in both families, at addresses that the other machine finds by the Service's name.
fn reached(addresses: (Ipv4Addr, Ipv6Addr), clients: [IpAddr; 2]) {
    let name = "both.default.lb.cluster.local";
    let addresses = [addresses.0.into(), addresses.1.into()];
    for ((address, kind), client) in addresses.into_iter().zip(["A", "AAAA"]).zip(clients) {
        let from = if client.is_ipv4() { format!("client: {client}:") } else { format!("client: [{client}]:") };
        wait(&format!("{address} to {client}"), PATIENCE, || {
            let mut dig = testbed::outside("dig");
            let found = text(dig.args([&format!("@{DNS}"), "+short", "+tries=1", "+time=10", name, kind]));
            if found.trim() != IpAddr::to_string(&address) {
                return Err(found);
            }
            let ask = |ask: fn(SocketAddr) -> io::Result<String>| {
                let asked = move || {
                    go_outside();
                    ask((address, 53).into())
                };
                thread::spawn(asked).join().expect("an end")
            };
            let own = if client.is_ipv4() { "pod: both\n" } else { "node\n" };
            match [ask(ask_tcp), ask(ask_udp)] {
                said if said.iter().flatten().filter(|said| said.starts_with(own) && said.contains(&from)).count()
                    == 2 =>
                {
                    Ok(())
                }
                said => Err(format!("{said:?}")),
            }
        });
    }
}

#[test]
fn two_families_and_two_transports() {
    if !inside("two_families_and_two_transports") {
        return;
    }
    ip(&format!("addr add {NODE6}/64 dev eth0 nodad"));
    ip(&format!("-n outside addr add {OUTSIDE6}/64 dev eth0 nodad"));
    ip(&format!("-6 route add default via {OUTSIDE6}"));
    ip(&format!("-n outside route add {DNS} via {NODE}"));
    answers((NODE6, 5300));
    let lab = Lab::start(CORACLE, Options::with("--service-cidr 10.96.0.0/12,fd00:96::/108"));
    lab.apply(BOTH);
    reached((NODE, NODE6), [NODE.into(), OUTSIDE6.into()]);
    assert_eq!(external(&lab, "both"), format!("{NODE},{NODE6}"));

    let [pool, ..] = POOL;
    pools(&lab, &format!("lab: '{pool}, {POOL6}'"));
    reached((pool, POOL6), [NODE.into(), OUTSIDE6.into()]);
    lab.kubectl("patch service both --patch '{\"spec\":{\"externalTrafficPolicy\":\"Local\"}}'");
    reached((pool, POOL6), [OUTSIDE.into(), OUTSIDE6.into()]);
    announced(POOL6.into());
}
