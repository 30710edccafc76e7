use hickory_proto::rr::RecordType;
use serde_json::json;
use state::Kind;

use super::*;
use crate::fixture;

#[test]
fn directives() {
    let all = "kubernetes a.example 10.0.0.0/8 {\nendpoint_pod_names\nignore empty_service\nzonal\npods verified\n\
               ttl 3600\nnamespaces a b\nlabels a in (b, c)\nfallthrough\nkubeconfig /x y\n}";
    let bodies = [
        ("pods maybe", "pods must be one of: disabled, verified, insecure"),
        ("ttl 3601", "'3601' is not a number from 0 to 3600"),
        ("ignore all", "unable to parse ignore value: 'all'"),
        ("namespaces", "wrong argument count or unexpected line ending after 'namespaces'"),
        ("noendpoints now", "wrong argument count or unexpected line ending after 'now'"),
        ("namespaces x\nnamespace_labels a=b", "namespaces and namespace_labels cannot both be set"),
        ("zonal\nnoendpoints", "zonal requires the endpoint cache; remove noendpoints"),
        ("labels a b", "'a b' is no label selector"),
        ("nope", "unknown property 'nope'"),
    ];
    let bodies = bodies.map(|(body, want)| (format!("kubernetes a.example {{\n{body}\n}}"), want));
    let others = [
        ("kubernetes in-addr.arpa".into(), "non-reverse zone name must be used"),
        ("kubernetes a\nkubernetes b".into(), "kubernetes can only be used once per server block"),
        (all.into(), ""),
    ];
    for (directive, want) in bodies.into_iter().chain(others) {
        let error = fixture::try_servers(&directive, Default::default()).err();
        assert_eq!(error.map(|error| error.message).unwrap_or_default(), want, "{directive}");
    }
}

#[test]
fn only_what_is_needed_is_watched() {
    let kinds = |set: fn(&mut Options)| {
        let mut options = fixture::options();
        set(&mut options);
        options.scope().kinds
    };
    assert_eq!(kinds(|_| {}), [Kind::Service, Kind::Namespace, Kind::Slice]);
    assert_eq!(kinds(|options| options.endpoints = false), [Kind::Service, Kind::Namespace]);
    assert!(kinds(|options| options.pods = Pods::Verified).contains(&Kind::Pod));
}

#[tokio::test]
async fn aliases_are_followed() {
    let hosts = "hosts {\n192.0.2.80 www.example.org\nfallthrough\n}\nkubernetes cluster.local";
    let servers = Arc::new(fixture::servers(hosts, fixture::cluster().snapshot()));
    let alias = "ext.default.svc.cluster.local.";
    let answers = fixture::answers(alias, RecordType::A, &servers).await;
    assert_eq!(answers.len(), 2, "{answers:?}");
    assert!(answers[0].contains("CNAME www.example.org.") && answers[1].contains("192.0.2.80"), "{answers:?}");
    let inside = fixture::answers("alias.default.svc.cluster.local.", RecordType::A, &servers).await;
    assert!(inside[1].starts_with("web.default.svc.cluster.local.") && inside[1].ends_with("10.96.0.20"), "{inside:?}");
    let circle = fixture::request("circle.default.svc.cluster.local.", RecordType::A, &servers);
    let failure = servers.clone().handle(circle).await.err().unwrap();
    assert_eq!(failure.code, ResponseCode::ServFail, "{}", failure.reason);
}

#[test]
fn a_thread_reads_the_newest_of_the_zones_it_asks() {
    let mut index = fixture::cluster();
    let zones = || Zones::new(fixture::zone(fixture::cluster().snapshot()));
    let (one, other) = (zones(), zones());
    let has = |zones: &Zones| zones.read(|zone| zone.service("default", "new").is_some());
    assert_eq!([has(&one), has(&other)], [false, false]);
    index.apply(fixture::service("default", "new", json!({"clusterIP": "10.96.9.9"})));
    one.take(index.snapshot());
    assert_eq!([has(&one), has(&other), has(&one)], [true, false, true]);
}
