//! Addresses of Services of type LoadBalancer, in a whole cluster.

use std::{net::TcpListener, time::Duration};

use testbed::{Lab, NODE, Options, inside, wait};

const PATIENCE: Duration = Duration::from_secs(30);

fn lab() -> Lab {
    Lab::start(env!("CARGO_BIN_EXE_coracle"), Options::default())
}

/// Applies Services, each of a name, a port, and further lines of its metadata and of its spec.
fn services(lab: &Lab, all: &[(&str, u16, &str, &str)]) {
    let service = |(name, port, metadata, spec): &(&str, u16, &str, &str)| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n{metadata}spec:\n  type: LoadBalancer\n{spec}  \
             selector:\n    app: web\n  ports:\n  - port: {port}\n---\n"
        )
    };
    lab.apply(&all.iter().map(service).collect::<String>());
}

fn pools(lab: &Lab, data: &str) {
    let head =
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  namespace: kube-system\n  name: load-balancer-pools\ndata:\n";
    lab.apply(&format!("{head}{data}"));
}

/// Waits for what `kubectl get service` says of addresses, in the order of names.
fn addresses(lab: &Lab, want: &[(&str, &str)]) {
    wait(&format!("addresses {want:?}"), PATIENCE, || {
        let said = lab.kubectl("get services --no-headers");
        let rows = said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let found: Vec<_> = rows.filter(|row| row[1] == "LoadBalancer").map(|row| (row[0], row[3])).collect();
        if found == want { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

/// Waits for an event of a Service.
fn event(lab: &Lab, service: &str, reason: &str, text: &str) {
    wait(&format!("event {reason} of {service}"), PATIENCE, || {
        let said = lab.kubectl(&format!("describe service {service}"));
        let found = said.lines().any(|line| line.contains(reason) && line.contains(text));
        if found { Ok(()) } else { Err(said) }
    });
}

#[test]
fn the_nodes_own_address_while_ports_are_free() {
    if !inside("the_nodes_own_address_while_ports_are_free") {
        return;
    }
    let mut lab = lab();
    let busy = TcpListener::bind((NODE, 81)).expect("a port of the node");
    services(
        &lab,
        &[("a", 80, "", ""), ("b", 81, "", ""), ("c", 80, "", ""), ("d", 80, "", "  loadBalancerClass: x/y\n")],
    );
    let node = NODE.to_string();
    addresses(&lab, &[("a", &node), ("b", "<pending>"), ("c", "<pending>"), ("d", "<pending>")]);
    event(&lab, "a", "IPAllocated", &format!("Assigned {NODE}, the node's own address"));
    let program = format!("process {}", std::process::id());
    event(&lab, "b", "AllocationFailed", &program);
    event(&lab, "c", "AllocationFailed", &format!("TCP port 80 of {NODE} is taken by the Service default/a"));

    drop(busy);
    lab.kubectl("delete service a");
    addresses(&lab, &[("b", &node), ("c", &node), ("d", "<pending>")]);
    assert!(lab.kubectl("describe service d").contains("Events:                   <none>"));

    lab.kill();
    lab.up();
    services(&lab, &[("a", 80, "", "")]);
    event(&lab, "a", "AllocationFailed", &format!("TCP port 80 of {NODE} is taken by the Service default/c"));
    addresses(&lab, &[("a", "<pending>"), ("b", &node), ("c", &node), ("d", "<pending>")]);
    lab.kubectl("patch service c -p {\"spec\":{\"type\":\"NodePort\"}}");
    addresses(&lab, &[("a", &node), ("b", &node), ("d", "<pending>")]);
    assert_eq!(lab.kubectl("get service c -o jsonpath={.status.loadBalancer}"), "{}");
}

#[test]
fn addresses_come_from_pools() {
    if !inside("addresses_come_from_pools") {
        return;
    }
    let lab = lab();
    pools(&lab, "  lab: 192.0.2.8/30\n  kept: |\n    198.51.100.7\n    autoAssign: false\n");
    let kept = "  annotations:\n    metallb.io/address-pool: kept\n";
    services(&lab, &[("a", 80, "", ""), ("b", 80, "", ""), ("c", 80, "", ""), ("d", 80, kept, "")]);
    addresses(&lab, &[("a", "192.0.2.9"), ("b", "192.0.2.10"), ("c", "<pending>"), ("d", "198.51.100.7")]);
    event(&lab, "d", "IPAllocated", "Assigned 198.51.100.7 of the pool \"kept\"");
    event(&lab, "c", "AllocationFailed", "No IPv4 address is free in \"lab\"");

    pools(&lab, "  lab: 192.0.2.8/30, many\n");
    wait("event of the ConfigMap", PATIENCE, || {
        let said = lab.kubectl("describe configmap load-balancer-pools -n kube-system");
        if said.contains("\"many\" is no range of addresses") { Ok(()) } else { Err(said) }
    });
    pools(&lab, "  lab: 192.0.2.10-192.0.2.12\n");
    // The pool of d is gone.
    addresses(&lab, &[("a", "192.0.2.11"), ("b", "192.0.2.10"), ("c", "192.0.2.12"), ("d", "<pending>")]);
    event(&lab, "d", "AllocationFailed", "There is no pool \"kept\"");
    lab.kubectl("delete configmap load-balancer-pools -n kube-system");
    let node = NODE.to_string();
    addresses(&lab, &[("a", &node), ("b", "<pending>"), ("c", "<pending>"), ("d", "<pending>")]);
    event(&lab, "c", "AllocationFailed", "is taken by the Service default/a");
    // Those of different Services come in any order.
    let events = wait("events", PATIENCE, || {
        let events = lab.kubectl("get events --field-selector involvedObject.kind=Service --no-headers");
        let ours = events.lines().filter(|line| line.contains("IPAllocated") || line.contains("AllocationFailed"));
        let count = ours.count();
        if count < 10 { Err(events) } else { Ok(count) }
    });
    assert_eq!(events, 10);
}
