use super::*;

fn seen(client: &str, transport: Transport, kind: u16, code: u16, plugin: &'static str) -> Seen {
    let client = client.parse().unwrap();
    Seen { client, transport, kind, dnssec: kind == 28, code, plugin, asked: 50, answered: 600 }
}

#[test]
fn tallies_of_threads_and_tasks_are_added_up() {
    let metrics = Metrics::default();
    let meter = metrics.meter("dns://:53", ".", 2);
    let quick = seen("10.0.0.1:1", Transport::Udp, 1, 0, "kubernetes");
    meter.count(Counter::Thread(0), &quick, Duration::from_micros(3));
    meter.count(Counter::Thread(1), &quick, Duration::from_micros(3));
    meter.count(Counter::Task, &quick, Duration::from_millis(1));
    meter.count(Counter::Task, &seen("[::1]:1", Transport::Tcp, 28, 2, "forward"), Duration::from_secs(60));
    meter.count(Counter::Thread(1), &seen("10.0.0.1:1", Transport::Udp, 99, 3, "cache"), Duration::ZERO);
    // After a reload it is the same one.
    metrics.meter("dns://:53", ".", 2).count(Counter::Thread(0), &quick, Duration::ZERO);
    let mut out = Exposition::default();
    metrics.expose(&mut out);
    let text = out.text();
    let zone = "server=\"dns://:53\",zone=\".\",view=\"\"";
    for line in [
        "# TYPE coredns_dns_requests_total counter".to_owned(),
        format!("coredns_dns_requests_total{{{zone},proto=\"udp\",family=\"1\",type=\"A\"}} 4"),
        format!("coredns_dns_requests_total{{{zone},proto=\"udp\",family=\"1\",type=\"other\"}} 1"),
        format!("coredns_dns_requests_total{{{zone},proto=\"tcp\",family=\"2\",type=\"AAAA\"}} 1"),
        format!("coredns_dns_do_requests_total{{{zone}}} 1"),
        format!("coredns_dns_responses_total{{{zone},rcode=\"NOERROR\",plugin=\"kubernetes\"}} 4"),
        format!("coredns_dns_responses_total{{{zone},rcode=\"NXDOMAIN\",plugin=\"cache\"}} 1"),
        format!("coredns_dns_responses_total{{{zone},rcode=\"SERVFAIL\",plugin=\"forward\"}} 1"),
        "# TYPE coredns_dns_request_duration_seconds histogram".to_owned(),
        format!("coredns_dns_request_duration_seconds_bucket{{{zone},le=\"0.00025\"}} 4"),
        format!("coredns_dns_request_duration_seconds_bucket{{{zone},le=\"0.001\"}} 5"),
        format!("coredns_dns_request_duration_seconds_bucket{{{zone},le=\"8.192\"}} 5"),
        format!("coredns_dns_request_duration_seconds_bucket{{{zone},le=\"+Inf\"}} 6"),
        format!("coredns_dns_request_duration_seconds_count{{{zone}}} 6"),
        format!("coredns_dns_request_size_bytes_bucket{{{zone},proto=\"udp\",le=\"100\"}} 5"),
        format!("coredns_dns_response_size_bytes_bucket{{{zone},proto=\"udp\",le=\"511\"}} 0"),
        format!("coredns_dns_response_size_bytes_sum{{{zone},proto=\"udp\"}} 3000"),
    ] {
        assert!(text.lines().any(|other| other == line), "{line}\nin\n{text}");
    }
    assert_eq!(text.matches("# TYPE coredns_dns_requests_total").count(), 1);
    assert!(!text.contains("type=\"MX\""), "nothing that was never counted");
}

#[test]
fn values_of_labels_are_escaped() {
    let mut out = Exposition::default();
    out.gauge("x", "Help.", &[("a", "q\"b\\c\nd")], 1.5);
    assert_eq!(out.text(), "# HELP x Help.\n# TYPE x gauge\nx{a=\"q\\\"b\\\\c\\nd\"} 1.5\n");
}
