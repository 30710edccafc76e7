use hickory_proto::rr::RecordType;

use super::*;
use crate::fixture;

const KUBERNETES: &str = "autopath @kubernetes\nkubernetes cluster.local {\npods verified\n}";

async fn asked(directives: &str, client: [u8; 4], name: &str) -> String {
    let servers = Arc::new(fixture::servers(directives, fixture::dual().snapshot()));
    let mut request = fixture::request(name, RecordType::A, &servers);
    request.context.client.set_ip(client.into());
    let packet = request.question().to_vec().unwrap();
    let quick = servers.quick(&packet, &mut [0; 512], 0);
    let Body::Message(message) = servers.clone().handle(request).await.unwrap().body else { panic!("{name}: silence") };
    if let Some(length) = quick {
        assert_eq!(message.metadata.response_code, ResponseCode::NoError, "{name}: {length}");
    }
    let line = |r: &Record| format!("{} {}", r.name.to_ascii().trim_end_matches(".cluster.local."), r.data);
    let answers = message.answers.iter().map(line).collect::<Vec<_>>().join("; ");
    format!("{} {answers}", message.metadata.response_code)
}

#[tokio::test]
async fn the_path_is_followed() {
    let file = std::env::temp_dir().join(format!("autopath-{}", std::process::id()));
    std::fs::write(&file, "nameserver 192.0.2.1\nsearch old.\nsearch jobs.svc.cluster.local dev.svc.cluster.local\n")
        .unwrap();
    let from_file = format!("autopath cluster.local {}\nkubernetes cluster.local", file.display());
    let (dev, nobody) = ([10, 244, 0, 21], [10, 244, 0, 99]);
    let table = [
        // A name of its own namespace, of another, of none.
        (KUBERNETES, dev, "dual.dev.svc.cluster.local.", "No Error dual.dev.svc 10.96.0.30"),
        (
            KUBERNETES,
            dev,
            "web.default.dev.svc.cluster.local.",
            "No Error web.default.dev.svc web.default.svc.cluster.local.; web.default.svc 10.96.0.20",
        ),
        (
            KUBERNETES,
            dev,
            "early.default.svc.cluster.local.dev.svc.cluster.local.",
            "No Error early.default.svc.cluster.local.dev.svc early.default.svc.cluster.local.; early.default.svc 10.244.0.10",
        ),
        (KUBERNETES, dev, "nope.dev.svc.cluster.local.", "Non-Existent Domain "),
        // Not the first of its path; not a pod's; a pod that is not verified.
        (KUBERNETES, dev, "web.default.default.svc.cluster.local.", "Non-Existent Domain "),
        (KUBERNETES, nobody, "web.default.dev.svc.cluster.local.", "Non-Existent Domain "),
        (
            "autopath @kubernetes\nkubernetes cluster.local",
            dev,
            "web.default.dev.svc.cluster.local.",
            "Non-Existent Domain ",
        ),
        (
            &from_file,
            nobody,
            "dual.jobs.svc.cluster.local.",
            "No Error dual.jobs.svc dual.dev.svc.cluster.local.; dual.dev.svc 10.96.0.30",
        ),
    ];
    for (directives, client, name, want) in table {
        assert_eq!(asked(directives, client, name).await, want, "{directives} {client:?} {name}");
    }
    std::fs::remove_file(file).unwrap();
}

#[test]
fn directives() {
    for (directive, want) in [
        ("autopath", "no resolv-conf specified"),
        ("autopath @forward", "@forward has no search paths"),
        ("autopath @kubernetes", ""),
    ] {
        let error = fixture::try_servers(directive, Default::default()).err();
        assert_eq!(error.map(|error| error.message).unwrap_or_default(), want, "{directive}");
    }
}
