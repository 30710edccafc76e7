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
    assert_eq!(plan("/pods", &marked, &with(None, None), now()), Step::Keep);
    let later = "2026-01-01T00:00:10Z".parse().unwrap();
    for (asked, end) in [(5, "2026-01-01T00:00:05Z"), (-7, "2026-01-01T00:00:01Z")] {
        let Step::Mark(sooner) = plan("/pods", &marked, &with(None, Some(asked)), later) else { panic!() };
        assert_eq!(sooner["metadata"]["deletionTimestamp"], end, "counted from where it began");
        assert_eq!(sooner["metadata"]["generation"], marked["metadata"]["generation"]);
    }
    assert!(matches!(plan("/pods", &marked, &with(None, Some(0)), now()), Step::Go(_)));
    let Step::Mark(negative) = plan("/pods", &pod("n", "Running"), &with(None, Some(-5)), now()) else { panic!() };
    assert_eq!(negative["metadata"]["deletionGracePeriodSeconds"], 1);
}

#[test]
fn jobs_leave_their_pods_to_old_clients() {
    let finalizers =
        |object: &Value, policy: Option<Policy>| match plan("batch/jobs", object, &with(policy, None), now()) {
            Step::Mark(marked) => marked["metadata"]["finalizers"].clone(),
            Step::Go(_) => json!(null),
            Step::Keep => panic!(),
        };
    let job = json!({"metadata": {"name": "a"}});
    assert_eq!(finalizers(&job, None), json!(["orphan"]));
    assert_eq!(finalizers(&job, Some(Policy::Background)), json!(null));
    let chosen = json!({"metadata": {"name": "a", "finalizers": ["foregroundDeletion"]}});
    assert_eq!(finalizers(&chosen, None), json!(["foregroundDeletion"]));
}

#[test]
fn options() {
    for (body, message) in [
        (
            json!({"propagationPolicy": "x"}),
            "propagationPolicy: Unsupported value: \"x\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"",
        ),
        (
            json!({"propagationPolicy": "Orphan", "orphanDependents": true}),
            "propagationPolicy: Invalid value: \"Orphan\": orphanDependents and deletionPropagation cannot be both set",
        ),
        (json!({"dryRun": ["Some"]}), "dryRun: Unsupported value: [\"Some\"]: supported values: \"All\""),
        (
            json!({"ignoreStoreReadErrorWithClusterBreakingPotential": true}),
            "ignoreStoreReadErrorWithClusterBreakingPotential: Invalid value: true: is not supported",
        ),
    ] {
        let refused = Options::read(&body).unwrap_err();
        assert_eq!(
            (refused.code, refused.message),
            (422, format!("DeleteOptions.meta.k8s.io \"\" is invalid: {message}"))
        );
    }
    let read = Options::read(&json!({"orphanDependents": false, "dryRun": ["All"]})).unwrap();
    assert_eq!((read.policy, read.dry_run), (Some(Policy::Background), true));
}
