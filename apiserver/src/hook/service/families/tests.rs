use super::*;

const FOUR: &[&str] = &["IPv4"];
const BOTH: &[&str] = &["IPv4", "IPv6"];

/// The policy and families that a Service comes to have, or what is wrong with it.
fn settled(configured: &[&str], old: Option<Value>, spec: Value) -> String {
    let old = old.map(|spec| json!({"spec": spec}));
    let mut service = json!({"spec": spec});
    match settle(configured, old.as_ref(), &mut service) {
        Ok(()) => {
            format!("{} {}", text(&service, "/spec/ipFamilyPolicy"), names(&service).collect::<Vec<_>>().join(" "))
        }
        Err(errors) => errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
    }
}

#[test]
fn new_services() {
    let headless = |mut spec: Value| {
        spec["clusterIP"] = "None".into();
        spec["clusterIPs"] = json!(["None"]);
        spec
    };
    let selecting = headless(json!({"selector": {"a": "b"}}));
    for (configured, spec, expected) in [
        (FOUR, json!({}), "SingleStack IPv4"),
        (&["IPv6"][..], json!({}), "SingleStack IPv6"),
        (&["IPv6", "IPv4"], json!({"ipFamilyPolicy": "PreferDualStack"}), "PreferDualStack IPv6 IPv4"),
        (BOTH, json!({}), "SingleStack IPv4"),
        (BOTH, json!({"ipFamilies": ["IPv6"]}), "SingleStack IPv6"),
        (BOTH, json!({"clusterIP": "fd00::9", "clusterIPs": ["fd00::9"]}), "SingleStack IPv6"),
        (FOUR, json!({"ipFamilyPolicy": "PreferDualStack"}), "PreferDualStack IPv4"),
        (BOTH, json!({"ipFamilyPolicy": "PreferDualStack"}), "PreferDualStack IPv4 IPv6"),
        (BOTH, json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]}), "RequireDualStack IPv6 IPv4"),
        (FOUR, headless(json!({})), "RequireDualStack IPv4 IPv6"),
        (FOUR, headless(json!({"ipFamilyPolicy": "SingleStack"})), "SingleStack IPv4"),
        (FOUR, selecting.clone(), "SingleStack IPv4"),
        (BOTH, selecting, "SingleStack IPv4"),
        (FOUR, json!({"type": "ExternalName"}), " "),
        (
            FOUR,
            json!({"ipFamilyPolicy": "RequireDualStack"}),
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
        ),
        (
            FOUR,
            json!({"ipFamilies": ["IPv6"]}),
            "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
        ),
        (
            FOUR,
            json!({"clusterIP": "fd00::9", "clusterIPs": ["fd00::9"]}),
            "spec.clusterIPs[0]: Invalid value: [\"fd00::9\"]: IPv6 is not configured on this cluster",
        ),
        (
            BOTH,
            json!({"ipFamilies": ["IPv4", "IPv6"]}),
            "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when \
             multiple IP families are specified",
        ),
    ] {
        assert_eq!(settled(configured, None, spec.clone()), expected, "{configured:?} {spec}");
    }
}

#[test]
fn up_to_two_families_and_back() {
    let one = json!({"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"], "clusterIPs": ["10.0.0.9"]});
    let two = |policy: &str| json!({"ipFamilyPolicy": policy, "ipFamilies": ["IPv4", "IPv6"], "clusterIPs": ["10.0.0.9", "fd00::9"]});
    let prefers = json!({"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv4"], "clusterIPs": ["10.0.0.9"]});
    let fewer =
        json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"], "clusterIPs": ["10.0.0.9"]});
    for (old, new, expected) in [
        (one.clone(), prefers.clone(), "PreferDualStack IPv4 IPv6"),
        (prefers.clone(), prefers, "PreferDualStack IPv4"),
        (two("PreferDualStack"), json!({"clusterIPs": ["10.0.0.9", "fd00::9"]}), "PreferDualStack IPv4 IPv6"),
        (two("RequireDualStack"), two("SingleStack"), "SingleStack IPv4"),
        (
            two("RequireDualStack"),
            fewer,
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": must be 'SingleStack' to release the secondary cluster IP",
        ),
        (
            one,
            two("SingleStack"),
            "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when \
             multiple cluster IPs are specified; spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be \
             'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified",
        ),
    ] {
        assert_eq!(settled(BOTH, Some(old.clone()), new.clone()), expected, "{old} {new}");
    }
    let mut service = json!({"spec": two("SingleStack")});
    settle(BOTH, Some(&json!({"spec": two("PreferDualStack")})), &mut service).unwrap();
    assert_eq!(service["spec"]["clusterIPs"], json!(["10.0.0.9"]));
}
