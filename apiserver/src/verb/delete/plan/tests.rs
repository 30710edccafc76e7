use super::*;

fn now() -> jiff::Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn with(policy: Option<Policy>, grace: Option<i64>) -> Options {
    Options { policy, grace, ..Options::default() }
}

#[test]
fn nothing_waits() {
    let object = json!({"metadata": {"name": "a"}});
    assert_eq!(plan("/configmaps", &object, &with(None, None), now()), Step::Go(object.clone()));
}

#[test]
fn finalizers_wait() {
    let object = json!({"metadata": {"name": "a", "generation": 1, "finalizers": ["x"]}});
    let Step::Mark(marked) = plan("/configmaps", &object, &with(None, None), now()) else { panic!() };
    assert_eq!(marked["metadata"]["deletionTimestamp"], "2026-01-01T00:00:00Z");
    assert_eq!(marked["metadata"]["generation"], 2);
    assert_eq!(plan("/configmaps", &marked, &with(None, None), now()), Step::Keep);
}

#[test]
fn policies_are_finalizers() {
    for (policy, had, has) in [
        (Policy::Orphan, json!([]), json!(["orphan"])),
        (Policy::Foreground, json!(["orphan", "x"]), json!(["x", "foregroundDeletion"])),
        (Policy::Background, json!(["orphan", "x"]), json!(["x"])),
    ] {
        let object = json!({"metadata": {"finalizers": had}});
        let Step::Mark(marked) = plan("/configmaps", &object, &with(Some(policy), None), now()) else { panic!() };
        assert_eq!(marked["metadata"]["finalizers"], has);
    }
    let object = json!({"metadata": {"finalizers": ["orphan"]}});
    assert!(matches!(plan("/configmaps", &object, &with(Some(Policy::Background), None), now()), Step::Go(_)));
}

#[test]
fn pods_get_their_grace_on_a_node_only() {
    let pod = |node: &str, phase: &str| {
        json!({
            "metadata": {"name": "a"},
            "spec": {"nodeName": node, "terminationGracePeriodSeconds": 20},
            "status": {"phase": phase},
        })
    };
    assert!(matches!(plan("/pods", &pod("", "Pending"), &with(None, None), now()), Step::Go(_)));
    assert!(matches!(plan("/pods", &pod("n", "Failed"), &with(None, None), now()), Step::Go(_)));
    assert!(matches!(plan("/pods", &pod("n", "Running"), &with(None, Some(0)), now()), Step::Go(_)));
    let Step::Mark(marked) = plan("/pods", &pod("n", "Running"), &with(None, None), now()) else { panic!() };
    assert_eq!(marked["metadata"]["deletionTimestamp"], "2026-01-01T00:00:20Z");
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 20);
    assert_eq!(plan("/pods", &marked, &with(None, Some(30)), now()), Step::Keep);
    let Step::Mark(sooner) = plan("/pods", &marked, &with(None, Some(5)), now()) else { panic!() };
    assert_eq!(sooner["metadata"]["deletionGracePeriodSeconds"], 5);
    assert!(matches!(plan("/pods", &marked, &with(None, Some(0)), now()), Step::Go(_)));
}
