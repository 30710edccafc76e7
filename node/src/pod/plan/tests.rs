use super::*;
use crate::pod::record::{Ended, Waiting};
use serde_json::json;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn spec(policy: &str, init: &[&str], sidecars: &[&str], apps: &[&str]) -> PodSpec {
    let sidecars = sidecars.iter().map(|name| json!({"name": name, "restartPolicy": "Always"}));
    let init: Vec<_> = sidecars.chain(init.iter().map(|name| json!({"name": name}))).collect();
    let apps: Vec<_> = apps.iter().map(|name| json!({"name": name})).collect();
    serde_json::from_value(json!({"restartPolicy": policy, "initContainers": init, "containers": apps})).unwrap()
}

fn running() -> Slot {
    Slot { starts: 1, started: true, run: Run::Running { id: "x".into(), since: at(0) }, ..Slot::default() }
}

fn ended(code: i32, finished: i64) -> Slot {
    Slot {
        starts: 1,
        run: Run::Ended(Ended {
            id: "x".into(),
            code,
            signal: None,
            reason: "Error".into(),
            message: None,
            started: at(0),
            finished: at(finished),
        }),
        ..Slot::default()
    }
}

fn record(slots: &[(&str, Slot)]) -> Record {
    Record {
        started: Some(at(0)),
        slots: slots.iter().map(|(name, slot)| ((*name).to_owned(), slot.clone())).collect(),
        ..Record::default()
    }
}

#[test]
fn starts_follow_the_order_and_the_policy() {
    let two = |policy| spec(policy, &["i"], &[], &["a", "b"]);
    let cases = [
        ("init first", two("Always"), record(&[]), vec!["i"]),
        ("init runs", two("Always"), record(&[("i", running())]), vec![]),
        ("then all apps", two("Always"), record(&[("i", ended(0, 1))]), vec!["a", "b"]),
        ("a failed init again", two("OnFailure"), record(&[("i", ended(1, 1))]), vec!["i"]),
        ("an app that ended well, always", spec("Always", &[], &[], &["a"]), record(&[("a", ended(0, 1))]), vec!["a"]),
        (
            "only the failed one, on failure",
            spec("OnFailure", &[], &[], &["a", "b"]),
            record(&[("a", ended(0, 1)), ("b", ended(2, 1))]),
            vec!["b"],
        ),
        ("none, never", spec("Never", &[], &[], &["a", "b"]), record(&[("a", ended(1, 1)), ("b", running())]), vec![]),
        ("sidecar before init", spec("Never", &["i"], &["s"], &["a"]), record(&[]), vec!["s"]),
        (
            "a crashed sidecar beside running apps",
            spec("Never", &[], &["s"], &["a"]),
            record(&[("s", ended(1, 1)), ("a", running())]),
            vec!["s"],
        ),
    ];
    for (what, spec, record, expected) in cases {
        let plan = plan(&spec, &record, at(100));
        assert_eq!(plan.start, expected, "{what}");
        assert_eq!(plan.outcome, None, "{what}");
    }
}

#[test]
fn pods_end_when_nothing_runs_again() {
    let cases = [
        ("Never", ended(0, 1), ended(0, 1), Some(Outcome::Succeeded)),
        ("Never", ended(0, 1), ended(3, 1), Some(Outcome::Failed(None))),
        ("Never", ended(0, 1), running(), None),
        ("OnFailure", ended(0, 1), ended(0, 1), Some(Outcome::Succeeded)),
        ("OnFailure", ended(0, 1), ended(1, 1), None),
        ("Always", ended(0, 1), ended(0, 1), None),
    ];
    for (policy, a, b, outcome) in cases {
        let spec = spec(policy, &[], &["s"], &["a", "b"]);
        let record = record(&[("s", running()), ("a", a), ("b", b)]);
        assert_eq!(plan(&spec, &record, at(100)).outcome, outcome, "{policy}");
    }
    let spec = spec("Never", &["i"], &[], &["a"]);
    let failed = plan(&spec, &record(&[("i", ended(1, 1))]), at(2));
    assert_eq!(failed.outcome, Some(Outcome::Failed(None)));
}

#[test]
fn back_offs_wake_the_pod() {
    let spec = spec("Always", &[], &[], &["a"]);
    let mut slot = ended(1, 100);
    slot.crashes.next(at(90), at(90));
    let waits = plan(&spec, &record(&[("a", slot.clone())]), at(105));
    assert_eq!((waits.start.len(), waits.wake), (0, Some(at(110))));
    let starts = plan(&spec, &record(&[("a", slot.clone())]), at(110));
    assert_eq!(starts.start, ["a"]);
    slot.interrupted = true;
    let at_once = plan(&spec, &record(&[("a", slot)]), at(101));
    assert_eq!(at_once.start, ["a"]);
    let pulling = Slot {
        waiting: Some(Waiting {
            reason: "ErrImagePull".into(),
            message: String::new(),
            since: at(100),
            retry: at(110),
        }),
        ..Slot::default()
    };
    let shown = plan(&spec, &record(&[("a", pulling.clone())]), at(100));
    assert_eq!((shown.start.len(), shown.wake), (0, Some(at(102))));
    let waits = plan(&spec, &record(&[("a", pulling)]), at(103));
    assert_eq!((waits.start.len(), waits.wake), (0, Some(at(110))));
}

#[test]
fn the_active_deadline_ends_the_pod() {
    let mut spec = spec("Always", &[], &[], &["a"]);
    spec.active_deadline_seconds = Some(30);
    let record = record(&[("a", running())]);
    assert_eq!(plan(&spec, &record, at(29)).wake, Some(at(30)));
    assert!(matches!(plan(&spec, &record, at(30)).outcome, Some(Outcome::Failed(Some(("DeadlineExceeded", _))))));
}

#[test]
fn an_interrupted_init_container_runs_again() {
    let spec = spec("Always", &["i"], &[], &["a"]);
    let mut slot = ended(0, 1);
    slot.interrupted = true;
    assert_eq!(plan(&spec, &record(&[("i", slot)]), at(2)).start, ["i"]);
}

#[test]
fn ephemeral_containers_start_once_and_do_not_count() {
    let mut spec = spec("Always", &["i"], &[], &["a"]);
    spec.ephemeral_containers = serde_json::from_value(json!([{"name": "e", "targetContainerName": "a"}])).unwrap();
    let plan = |slots: &[(&str, Slot)]| super::plan(&spec, &record(slots), at(5));
    assert_eq!(plan(&[("i", ended(1, 1))]).start, ["e", "i"], "it helps where an init container fails");
    let both = [("i", ended(0, 1)), ("a", running()), ("e", ended(1, 1))];
    assert_eq!(plan(&both), Plan { initialized: true, ..Plan::default() });
    spec.restart_policy = Some("Never".into());
    let done = [("i", ended(0, 1)), ("a", ended(0, 1)), ("e", running())];
    assert_eq!(super::plan(&spec, &record(&done), at(5)).outcome, Some(Outcome::Succeeded));
}
