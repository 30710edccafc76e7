use state::Protocol;

use super::*;
use crate::cluster::{Cluster, endpoint};

const PORTS: &[crate::cluster::PortOf] = &[(Protocol::Tcp, 80, None)];

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).expect("a time")
}

#[test]
fn a_change_that_waits_for_too_long_is_ill() {
    let metrics = Metrics::default();
    let health = |now| metrics.health(at(now));
    assert_eq!(health(1000), Health { updated: None, healthy: true });
    metrics.tally().queued(&Snapshot::default(), &Snapshot::default(), at(1000));
    metrics.tally().queued(&Snapshot::default(), &Snapshot::default(), at(1050));
    assert!(health(1059).healthy && !health(1060).healthy);
    metrics.tally().synced(Duration::from_millis(3), true, at(1070));
    assert_eq!(health(2000), Health { updated: Some(at(1070)), healthy: true });
}

#[test]
fn changes_are_of_services_or_of_endpoints() {
    let mut cluster = Cluster::new();
    let mut tally = Tally::default();
    let mut old = cluster.snapshot();
    let mut queue = |cluster: &Cluster| {
        let new = cluster.snapshot();
        tally.queued(&old, &new, at(1));
        old = new;
        let counts = (tally.services.pending, tally.endpoints.pending);
        tally.synced(Duration::ZERO, false, at(1));
        assert_eq!((tally.services.pending, tally.endpoints.pending), (0, 0));
        (counts, (tally.services.total, tally.endpoints.total))
    };
    cluster.service("web", "10.96.0.7", PORTS);
    assert_eq!(queue(&cluster), ((1, 0), (1, 0)));
    cluster.endpoints("web", PORTS, 8080, &["10.244.0.2"]);
    assert_eq!(queue(&cluster), ((0, 1), (1, 1)));
    cluster.service("web", "10.96.0.8", PORTS);
    assert_eq!(queue(&cluster), ((1, 0), (2, 1)));
    assert_eq!(queue(&cluster), ((0, 0), (2, 1)));
}

#[test]
fn the_page_has_the_names_of_kube_proxy() {
    let mut cluster = Cluster::new();
    cluster.service_with("web", "10.96.0.7", PORTS, |service| service.external_local = true);
    let mut other = endpoint("10.244.1.2");
    other.node = Some("other".into());
    cluster.endpoints_with("web", PORTS, 8080, vec![other]);
    let metrics = Metrics::default();
    metrics.synced(Duration::from_millis(2), true);
    metrics.synced(Duration::from_millis(3), false);
    metrics.failed();
    metrics.forgot(2, Duration::from_secs(20));
    metrics.mended();
    metrics.asked(true, false);
    let text = metrics.text(&cluster.snapshot(), "node");
    for line in [
        "# TYPE kubeproxy_sync_proxy_rules_duration_seconds histogram",
        "kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family=\"IPv4\",le=\"0.001\"} 0",
        "kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family=\"IPv4\",le=\"0.002\"} 1",
        "kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family=\"IPv4\",le=\"16.384\"} 2",
        "kubeproxy_sync_proxy_rules_duration_seconds_sum{ip_family=\"IPv6\"} 0.005",
        "kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"} 1",
        "kubeproxy_sync_partial_proxy_rules_duration_seconds_count{ip_family=\"IPv6\"} 1",
        "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family=\"IPv4\"} 0",
        "kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family=\"IPv4\"} 1",
        "kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total{ip_family=\"IPv6\"} 0",
        "kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family=\"IPv4\"} 2",
        "kubeproxy_conntrack_reconciler_sync_duration_seconds_bucket{ip_family=\"IPv4\",le=\"16.384\"} 0",
        "kubeproxy_conntrack_reconciler_sync_duration_seconds_bucket{ip_family=\"IPv4\",le=\"+Inf\"} 1",
        "kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family=\"IPv4\",traffic_policy=\"external\"} 1",
        "kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family=\"IPv6\",traffic_policy=\"external\"} 0",
        "kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family=\"IPv4\",traffic_policy=\"internal\"} 0",
        "kubeproxy_sync_proxy_rules_service_changes_pending 0",
        "kubeproxy_sync_proxy_rules_endpoint_changes_total 0",
        "kubeproxy_proxy_livez_total{code=\"503\"} 1",
        "kubeproxy_proxy_healthz_total{code=\"200\"} 0",
        "coracle_proxy_mended_total 1",
    ] {
        assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
    }
}
