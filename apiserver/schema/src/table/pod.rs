use jiff::Timestamp;
use serde_json::Value;

use super::Row;
use super::age::human_duration;
use super::cells::{or, text};

/// What `kubectl get pods` says of a pod.
pub(super) fn cells(row: &Row<'_>) -> Vec<Value> {
    let count = Count::of(row);
    let restarts = match count.last_restart.filter(|_| count.restarts != 0) {
        Some(last) => {
            format!("{} ({} ago)", count.restarts, human_duration(row.now.duration_since(last).as_secs()))
        }
        None => count.restarts.to_string(),
    };
    let ip = row.list("/status/podIPs").first().map_or(row.text("/status/podIP", ""), |ip| text(ip, "ip"));
    vec![
        row.name().into(),
        format!("{}/{}", count.ready, count.containers).into(),
        count.reason.into(),
        restarts.into(),
        row.age("/metadata/creationTimestamp").into(),
        or(ip, "<none>").into(),
        row.text("/spec/nodeName", "<none>").into(),
        row.text("/status/nominatedNodeName", "<none>").into(),
        gates(row).into(),
    ]
}

#[derive(Default)]
struct Count {
    containers: usize,
    ready: usize,
    reason: String,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

impl Count {
    fn of(row: &Row<'_>) -> Self {
        let phase = row.text("/status/phase", "");
        let mut count = Self { containers: row.list("/spec/containers").len(), ..Self::default() };
        count.reason = row.text("/status/reason", phase).to_owned();
        if condition(row, "PodScheduled").is_some_and(|found| text(found, "reason") == "SchedulingGated") {
            count.reason = "SchedulingGated".to_owned();
        }
        let sidecars = Self::sidecars(row);
        count.containers += sidecars.len();
        let mut of_sidecars = Self::default();
        let initializing = count.init_containers(row, &sidecars, &mut of_sidecars);
        if !initializing || is_true(condition(row, "Initialized")) {
            count.restarts = of_sidecars.restarts;
            count.last_restart = of_sidecars.last_restart;
            count.main_containers(row);
        }
        if row.is_deleted() && row.text("/status/reason", "") == "NodeLost" {
            count.reason = "Unknown".to_owned();
        } else if row.is_deleted() && !matches!(phase, "Succeeded" | "Failed") {
            count.reason = "Terminating".to_owned();
        }
        count
    }

    /// The init containers that run on beside the others.
    fn sidecars<'a>(row: &Row<'a>) -> Vec<&'a str> {
        let all = row.list("/spec/initContainers").iter();
        all.filter(|init| text(init, "restartPolicy") == "Always").map(|init| text(init, "name")).collect()
    }

    fn restarted(&mut self, status: &Value) {
        self.restarts += status.get("restartCount").and_then(Value::as_i64).unwrap_or(0);
        let finished = status.pointer("/lastState/terminated/finishedAt").and_then(Value::as_str);
        self.last_restart = self.last_restart.max(finished.and_then(|time| time.parse().ok()));
    }

    /// Counts up to the first that is not done, and tells whether there is one.
    fn init_containers(&mut self, row: &Row<'_>, sidecars: &[&str], of_sidecars: &mut Self) -> bool {
        let total = row.list("/spec/initContainers").len();
        for (at, status) in row.list("/status/initContainerStatuses").iter().enumerate() {
            self.restarted(status);
            let sidecar = sidecars.contains(&text(status, "name"));
            if sidecar {
                of_sidecars.restarted(status);
            }
            let terminated = status.pointer("/state/terminated");
            if terminated.is_some_and(|state| exit_code(state) == 0) {
                continue;
            }
            if sidecar && is_flag(status, "started") {
                self.ready += usize::from(is_flag(status, "ready"));
                continue;
            }
            let waiting = status.pointer("/state/waiting").map_or("", |state| text(state, "reason"));
            self.reason = match terminated {
                Some(state) => format!("Init:{}", ended(state)),
                None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
                None => format!("Init:{at}/{total}"),
            };
            return true;
        }
        false
    }

    fn main_containers(&mut self, row: &Row<'_>) {
        let mut running = false;
        for status in row.list("/status/containerStatuses").iter().rev() {
            self.restarted(status);
            let waiting = status.pointer("/state/waiting").map_or("", |state| text(state, "reason"));
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if let Some(state) = status.pointer("/state/terminated") {
                self.reason = ended(state);
            } else if is_flag(status, "ready") && status.pointer("/state/running").is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && running {
            let ready = is_true(condition(row, "Ready"));
            self.reason = if ready { "Running" } else { "NotReady" }.to_owned();
        }
    }
}

fn exit_code(state: &Value) -> i64 {
    state.get("exitCode").and_then(Value::as_i64).unwrap_or(0)
}

/// Why a container ended.
fn ended(state: &Value) -> String {
    let signal = state.get("signal").and_then(Value::as_i64).unwrap_or(0);
    match text(state, "reason") {
        "" if signal != 0 => format!("Signal:{signal}"),
        "" => format!("ExitCode:{}", exit_code(state)),
        reason => reason.to_owned(),
    }
}

fn is_flag(value: &Value, field: &str) -> bool {
    value.get(field) == Some(&Value::Bool(true))
}

fn condition<'a>(row: &Row<'a>, ty: &str) -> Option<&'a Value> {
    row.list("/status/conditions").iter().find(|condition| text(condition, "type") == ty)
}

fn is_true(condition: Option<&Value>) -> bool {
    condition.is_some_and(|condition| text(condition, "status") == "True")
}

fn gates(row: &Row<'_>) -> String {
    let gates = row.list("/spec/readinessGates");
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let open = gates.iter().filter(|gate| is_true(condition(row, text(gate, "conditionType"))));
    format!("{}/{}", open.count(), gates.len())
}
