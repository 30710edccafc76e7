//! Scaling the old sets down during a rolling update.

use k8s_openapi::api::apps::v1::Deployment;

use super::sets::{Sets, Slot};
use super::strategy;

/// Takes pods from the old sets as far as availability allows, unhealthy ones first; answers whether it took any.
pub(super) fn scale(deployment: &Deployment, sets: &mut Sets) -> bool {
    if sets.old.iter().map(Slot::size).sum::<i32>() == 0 {
        return false;
    }
    let floor = strategy::replicas(deployment) - strategy::max_unavailable(deployment);
    let missing = sets.new.as_ref().map_or(0, |new| new.size() - new.available());
    let room = sets.total() - floor - missing;
    if room <= 0 {
        return false;
    }
    let available = sets.available();
    let unhealthy = drop_unhealthy(deployment, &mut sets.old, room);
    let healthy = drop_healthy(deployment, &mut sets.old, available - floor);
    unhealthy + healthy > 0
}

/// Pods that are not available cost nothing to lose.
fn drop_unhealthy(deployment: &Deployment, old: &mut [Slot], room: i32) -> i32 {
    let mut dropped = 0;
    for slot in old {
        let (size, available) = (slot.size(), slot.available());
        let drop = (room - dropped).min(size - available);
        if size > 0 && drop > 0 {
            slot.scale(deployment, size - drop);
            dropped += drop;
        }
    }
    dropped
}

/// Available pods go only as far as more are available than have to be.
fn drop_healthy(deployment: &Deployment, old: &mut [Slot], spare: i32) -> i32 {
    let mut dropped = 0;
    for slot in old {
        let drop = (spare - dropped).min(slot.size());
        if drop > 0 {
            slot.scale(deployment, slot.size() - drop);
            dropped += drop;
        }
    }
    dropped
}
