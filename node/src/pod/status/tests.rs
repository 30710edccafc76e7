use super::*;
use crate::pod::record::Waiting;
use serde_json::{Value, json};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn pod(spec: Value) -> Pod {
    let meta = json!({"name": "p", "namespace": "default", "uid": "u", "generation": 1});
    serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap()
}

fn ended(code: i32) -> Ended {
    Ended {
        id: "e".into(),
        code,
        signal: None,
        reason: if code == 0 { "Completed" } else { "Error" }.into(),
        message: None,
        started: at(10),
        finished: at(20),
    }
}

fn running() -> Slot {
    Slot {
        starts: 1,
        run: Run::Running { id: "r".into(), since: at(10) },
        started: true,
        ready: true,
        ..Slot::default()
    }
}

/// The status as JSON, for a record with that one container `a`.
fn status(slot: Slot, outcome: Option<Outcome>, before: &PodStatus) -> Value {
    let record = Record {
        sandbox: true,
        address: Some([10, 244, 0, 2].into()),
        started: Some(at(5)),
        slots: [("a".to_owned(), slot)].into(),
        ..Record::default()
    };
    let view = View { record: &record, outcome: outcome.as_ref(), initialized: true, host: "192.0.2.1", now: at(21) };
    let pod = pod(json!({"containers": [{"name": "a", "image": "nginx"}]}));
    serde_json::to_value(render(&pod, before, &view)).unwrap()
}

fn condition_of<'a>(status: &'a Value, type_: &str) -> &'a Value {
    let all = status["conditions"].as_array().unwrap();
    all.iter().find(|c| c["type"] == type_).unwrap()
}

#[test]
fn a_running_pod_is_ready() {
    let conditions = Some(
        serde_json::from_value(json!([
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": at(1).to_string()},
            {"type": "Initialized", "status": "True", "lastTransitionTime": at(2).to_string()},
            {"type": "Ready", "status": "False", "lastTransitionTime": at(2).to_string()},
        ]))
        .unwrap(),
    );
    let before = PodStatus { conditions, ..PodStatus::default() };
    let status = status(running(), None, &before);
    assert_eq!(status["phase"], "Running");
    assert_eq!(status["podIP"], "10.244.0.2");
    assert_eq!(status["hostIPs"], json!([{"ip": "192.0.2.1"}]));
    let container = &status["containerStatuses"][0];
    assert_eq!(container["containerID"], "coracle://r");
    assert_eq!(container["state"]["running"]["startedAt"], json!(at(10)));
    for (type_, since) in [("PodScheduled", 1), ("Initialized", 2), ("Ready", 21)] {
        let condition = condition_of(&status, type_);
        assert_eq!(condition["status"], "True", "{type_}");
        assert_eq!(condition["lastTransitionTime"], json!(at(since)), "{type_}");
    }
}

#[test]
fn a_new_pod_is_pending() {
    let status = status(Slot::default(), None, &PodStatus::default());
    assert_eq!(status["phase"], "Pending");
    let state = &status["containerStatuses"][0]["state"];
    assert_eq!(state, &json!({"waiting": {"reason": "ContainerCreating"}}));
    let ready = condition_of(&status, "Ready");
    assert_eq!(ready["reason"], "ContainersNotReady");
    assert_eq!(ready["message"], "containers with unready status: [a]");
}

#[test]
fn a_crash_loop_shows_its_delay_and_the_last_end() {
    let mut slot = running();
    slot.starts = 3;
    slot.end(ended(1));
    slot.crashes.next(at(15), at(15));
    let status = status(slot, None, &PodStatus::default());
    let container = &status["containerStatuses"][0];
    assert_eq!(status["phase"], "Running");
    assert_eq!(container["restartCount"], 2);
    assert_eq!(container["state"]["waiting"]["reason"], "CrashLoopBackOff");
    assert_eq!(container["state"]["waiting"]["message"], "back-off 10s restarting failed container=a pod=p_default(u)");
    assert_eq!(container["lastState"]["terminated"]["exitCode"], 1);
}

#[test]
fn a_failed_pull_becomes_a_back_off() {
    for (since, reason) in [(20, "ErrImagePull"), (10, "ImagePullBackOff")] {
        let slot = Slot {
            waiting: Some(Waiting {
                reason: "ErrImagePull".into(),
                message: "not found".into(),
                since: at(since),
                retry: at(since + 30),
            }),
            ..Slot::default()
        };
        let status = status(slot, None, &PodStatus::default());
        let waiting = &status["containerStatuses"][0]["state"]["waiting"];
        assert_eq!(waiting["reason"], reason);
        assert!(waiting["message"].as_str().unwrap().ends_with("not found"));
    }
}

#[test]
fn done_pods_show_how_they_ended() {
    for (code, outcome, phase, reason) in
        [(0, Outcome::Succeeded, "Succeeded", "PodCompleted"), (1, Outcome::Failed(None), "Failed", "PodFailed")]
    {
        let mut slot = running();
        slot.end(ended(code));
        let status = status(slot, Some(outcome), &PodStatus::default());
        assert_eq!(status["phase"], phase);
        assert_eq!(condition_of(&status, "Ready")["reason"], reason);
        let state = &status["containerStatuses"][0]["state"];
        assert_eq!(state["terminated"]["exitCode"], code);
    }
}

#[test]
fn durations_read_as_in_go() {
    assert_eq!(duration(10), "10s");
    assert_eq!(duration(80), "1m20s");
    assert_eq!(duration(300), "5m0s");
}
