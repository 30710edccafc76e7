//! Resources of containers as cgroup values.

use super::sources::{limit, request};
use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use shim::Limits;

/// A container's limits.
pub(crate) fn limits(resources: Option<&ResourceRequirements>) -> Limits {
    let Some(resources) = resources else {
        return Limits { cpu_shares: Some(2), ..Limits::default() };
    };
    let shares = request(resources, "cpu").unwrap_or(0) * 1024 / 1000;
    Limits {
        memory: limit(resources, "memory").map(|milli| milli / 1000).filter(|b| *b > 0),
        cpu_shares: Some(shares.clamp(2, 262_144)),
        cpu_quota: limit(resources, "cpu").filter(|m| *m > 0).map(|m| (m * 100).max(1000)),
        pids: None,
    }
}

/// The limits of a pod as a whole: the sums, where every container has one.
pub(crate) fn pod_limits(spec: &PodSpec) -> Limits {
    let each: Vec<Limits> = spec.containers.iter().map(|c| limits(c.resources.as_ref())).collect();
    let sum = |of: fn(&Limits) -> Option<u64>| each.iter().map(of).sum::<Option<u64>>();
    let init = spec.init_containers.as_ref().is_some_and(|init| !init.is_empty());
    Limits {
        // Init containers may need more than all others together.
        memory: sum(|l| l.memory).filter(|_| !init),
        cpu_shares: sum(|l| l.cpu_shares),
        cpu_quota: sum(|l| l.cpu_quota).filter(|_| !init),
        pids: None,
    }
}

/// How readily the kernel kills a container, by the pod's quality of service (kubelet's
/// `GetContainerOOMScoreAdjust`). `memory` is the machine's, in bytes.
pub(crate) fn oom_score_adj(qos: Option<&str>, container: &Container, memory: u64) -> i32 {
    match qos {
        Some("Guaranteed") => -997,
        Some("Burstable") => {
            let resources = container.resources.as_ref();
            let asked = resources.and_then(|r| request(r, "memory")).unwrap_or(0) / 1000;
            let share = 1000_u64.saturating_mul(asked) / memory.max(1);
            1000_i32.saturating_sub(share.min(998) as i32).clamp(3, 999)
        }
        _ => 1000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn resources(value: serde_json::Value) -> ResourceRequirements {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn resources_become_cgroup_values() {
        let some = resources(json!({"requests": {"cpu": "250m", "memory": "64Mi"},
            "limits": {"cpu": "1500m", "memory": "128Mi"}}));
        let made = limits(Some(&some));
        assert_eq!(made.memory, Some(128 << 20));
        assert_eq!(made.cpu_shares, Some(256));
        assert_eq!(made.cpu_quota, Some(150_000));
        let only_limit = limits(Some(&resources(json!({"limits": {"cpu": "1"}}))));
        assert_eq!((only_limit.cpu_shares, only_limit.memory), (Some(1024), None));
        assert_eq!(limits(None).cpu_shares, Some(2));
    }

    #[test]
    fn quality_of_service_decides_who_is_killed() {
        let container: Container =
            serde_json::from_value(json!({"name": "c", "resources": {"requests": {"memory": "1Gi"}}})).unwrap();
        let score = |qos| oom_score_adj(qos, &container, 4 << 30);
        assert_eq!(score(Some("Guaranteed")), -997);
        assert_eq!(score(Some("Burstable")), 750);
        assert_eq!(score(Some("BestEffort")), 1000);
    }
}
