//! What others do to our tables, what a restart finds there, and who stays where.

use proxy::kernel::Plane;
use state::Protocol::{Tcp, Udp};

use crate::cluster::{Cluster, PortOf};
use crate::lab::*;
use crate::world::{World, ip};

const WEB: [PortOf; 2] = [(Tcp, 80, Some(30001)), (Udp, 80, None)];
const TABLE: &str = "ip coracle-c0ffee";

/// The Services "web", "sticky" and "guarded" on three pods.
fn cluster() -> Cluster {
    (0..3).for_each(|pod| serve(&format!("pod{pod}"), "0.0.0.0:8080"));
    let mut cluster = Cluster::new();
    cluster.service("web", "10.96.0.80", &WEB);
    cluster.service_with("sticky", "10.96.0.81", &WEB[1..], |service| service.affinity = Some(100));
    cluster.service_with("guarded", "10.96.0.82", &WEB[1..], |service| {
        service.load_balancer_ips = vec![[198, 51, 100, 2].into()];
        service.source_ranges = vec!["203.0.113.0/24".parse().expect("a network")];
    });
    for name in ["web", "sticky", "guarded"] {
        cluster.endpoints(name, &WEB, 8080, &PODS);
    }
    cluster
}

#[test]
fn what_others_do_is_mended() {
    lab("resync::what_others_do_is_mended", || {
        let mut cluster = cluster();
        cluster.service_with("six", V6.web, &WEB, |service| {
            (service.affinity, service.external_local) = (Some(100), true);
            service.load_balancer_ips = vec![address(V6.balanced)];
            service.source_ranges = vec!["2001:db8::/64".parse().expect("a network")];
        });
        cluster.endpoints("six", &WEB, 8080, &V6.pods[..1]);
        let mut plane = plane();
        plane.apply(cluster.snapshot()).expect("apply");
        assert_eq!(plane.resync().expect("resync"), [""; 0], "what we made is what we want");
        let damage = [
            "delete element T services { 10.96.0.80 . tcp . 80 }",
            "delete element T services { 10.96.0.80 . tcp . 80 }; add element T services { 10.96.0.80 . tcp . 80 : drop }",
            "add element T refused { 10.96.0.80 . tcp . 80 }",
            "flush set T allowed",
            "delete element T local { 192.0.2.1 }",
            "flush map T sticky",
            "flush chain T n3",
            "flush chain T nat-output; delete chain T nat-output",
            "insert rule T filter-forward drop",
            "add rule T filter-forward drop",
            "insert rule T n3 drop",
            "add chain T strange { type filter hook forward priority 0; policy drop; }; add rule T strange drop",
            "add chain T filter-forward { type filter hook forward priority -10; policy drop; }",
            "add set T strange { type ipv4_addr; }",
            "add table T { flags dormant; }",
            "flush table T",
            "delete table T",
            "flush ruleset",
            "flush set ip6 coracle-c0ffee allowed",
            "flush chain ip6 coracle-c0ffee nat-postrouting",
        ];
        for (done, command) in damage.iter().enumerate() {
            nft(&command.replace(" T", &format!(" {TABLE}")));
            let differences = plane.resync().expect("resync");
            assert!(!differences.is_empty(), "{command}");
            assert_eq!(plane.resync().expect("resync"), [""; 0], "{command} is mended at once");
            assert_eq!(plane.mended(), done as u64 + 1);
            tcp("pod0", "10.96.0.80:80").expect("an answer");
            udp("node", "10.96.0.81:80").expect("an answer");
        }
    });
}

/// The handle of our table: a number that only this table ever had.
fn handle() -> String {
    let listed = run(&format!("nft -a list table {TABLE}"));
    listed.lines().find(|line| line.contains("# handle")).expect("a handle").to_owned()
}

/// Who answers each of many requests.
fn sticks(from: &str) -> String {
    let ask = || udp(from, "10.96.0.81:80").expect("an answer").0;
    let first = ask();
    (0..30).for_each(|_| assert_eq!(ask(), first));
    first
}

#[test]
fn a_restart_changes_only_what_differs() {
    lab("resync::a_restart_changes_only_what_differs", || {
        let mut cluster = cluster();
        let mut first = plane();
        first.apply(cluster.snapshot()).expect("apply");
        let (whole, before) = (handle(), sticks("pod0"));
        drop(first);
        nft("add chain ip coracle-c0ffee n9; add rule ip coracle-c0ffee n9 drop");
        cluster.remove("guarded");
        cluster.endpoints("web", &WEB, 8080, &PODS[..1]);
        let mut second = plane();
        second.apply(cluster.snapshot()).expect("apply");
        assert_eq!(second.resync().expect("resync"), [""; 0]);
        assert_eq!((handle(), sticks("pod0"), second.mended()), (whole.clone(), before.clone(), 0));
        let rules = run(&format!("nft list table {TABLE}"));
        assert!(!rules.contains("10.96.0.82") && !rules.contains("n9"), "{rules}");
        // An upgrade has other rules: the table is replaced, and what clients remember goes over.
        nft("delete element ip coracle-c0ffee services { 10.96.0.80 . udp . 80 }");
        nft("flush chain ip coracle-c0ffee nat-output; add set ip coracle-c0ffee older { type ipv4_addr; }");
        let mut third = plane();
        third.apply(cluster.snapshot()).expect("apply");
        assert_eq!(third.resync().expect("resync"), [""; 0]);
        assert_ne!(handle(), whole);
        let remembered = run(&format!("nft list map {TABLE} affinity"));
        assert!(remembered.contains("10.244.0.2 . 10.96.0.81 . udp . 80 timeout 1m40s expires 1m"), "{remembered}");
        assert_eq!(sticks("pod0"), before);
    });
}

#[test]
fn a_client_leaves_its_endpoint_only_when_it_has_to() {
    lab("resync::a_client_leaves_its_endpoint_only_when_it_has_to", || {
        let mut cluster = cluster();
        let mut plane = plane();
        cluster.endpoints("sticky", &WEB, 8080, &PODS[1..2]);
        plane.apply(cluster.snapshot()).expect("apply");
        assert_eq!(sticks("node"), "pod1");
        cluster.endpoints("sticky", &WEB, 8080, &PODS);
        plane.apply(cluster.snapshot()).expect("apply");
        assert_eq!(sticks("node"), "pod1", "others came");
        cluster.endpoints("sticky", &WEB, 8080, &[PODS[0], PODS[2]]);
        plane.apply(cluster.snapshot()).expect("apply");
        let second = sticks("node");
        cluster.endpoints("sticky", &WEB, 8080, &PODS);
        plane.apply(cluster.snapshot()).expect("apply");
        assert_eq!(sticks("node"), second, "the first one came back");
    });
}

#[test]
fn affinity_ends() {
    lab("resync::affinity_ends", || {
        let mut cluster = cluster();
        cluster.service_with("sticky", "10.96.0.81", &WEB[1..], |service| service.affinity = Some(1));
        let mut plane = plane();
        plane.apply(cluster.snapshot()).expect("apply");
        let first = sticks("pod1");
        let remembered = || run(&format!("nft list map {TABLE} affinity")).contains("10.244.0.3 . 10.96.0.81");
        assert!(remembered());
        wait("the end of the time", || !remembered());
        // Two in three times it is another one.
        wait("another endpoint", || {
            wait("the end of the time", || !remembered());
            udp("pod1", "10.96.0.81:80").expect("an answer").0 != first
        });
    });
}

#[test]
fn the_node_gets_other_addresses() {
    lab("resync::the_node_gets_other_addresses", || {
        let cluster = cluster();
        let mut plane = plane();
        plane.apply(cluster.snapshot()).expect("apply");
        let before = sticks("pod0");
        run("ip addr add 192.0.2.7/24 dev out");
        let mut config = config();
        for addresses in [["192.0.2.1", "192.0.2.7"], ["192.0.2.7", "192.0.2.1"]] {
            config.node_addresses = addresses.map(|address| address.parse().expect("an address")).into();
            plane.reconfigure(config.clone()).expect("reconfigure");
            plane.apply(cluster.snapshot()).expect("apply");
            assert_eq!(tcp("outside", "192.0.2.7:30001").expect("an answer").1, config.node_addresses[0]);
            assert_eq!(plane.resync().expect("resync"), [""; 0]);
            assert_eq!(sticks("pod0"), before);
        }
        assert_eq!(plane.mended(), 0);
        config.cluster_id = "beef00".into();
        assert!(plane.reconfigure(config).is_err());
    });
}

#[test]
fn the_kernel_has_what_the_snapshots_say() {
    lab("resync::the_kernel_has_what_the_snapshots_say", || {
        let mut world = World::new(7);
        let mut config = config();
        config.node_addresses = [ip(true, 7, 1), ip(true, 7, 2), ip(false, 7, 1)].into();
        config.pod_cidrs = ["10.244.0.0/16", "2001:db8:244::/48"].map(range).into();
        config.service_cidrs = ["10.96.0.0/16", "2001:db8:96::/48"].map(range).into();
        let mut plane = Plane::open(config).expect("a data plane");
        for step in 0..30 {
            (0..world.dice.roll(8)).for_each(|_| world.turn());
            plane.apply(world.snapshot()).expect("apply");
            // A fresh load of the same Snapshot would change nothing.
            assert_eq!(plane.resync().expect("resync"), [""; 0], "step {step}");
        }
    });
}
