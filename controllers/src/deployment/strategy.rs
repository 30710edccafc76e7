//! The numbers of a Deployment's strategy: how far it may go above and below its size.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

pub(super) fn replicas(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

pub(super) fn is_recreate(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
}

/// How many pods there may be above the size.
pub(super) fn max_surge(deployment: &Deployment) -> i32 {
    fenceposts(deployment).0
}

/// How many pods may be missing from the size.
pub(super) fn max_unavailable(deployment: &Deployment) -> i32 {
    fenceposts(deployment).1.min(replicas(deployment))
}

/// Surge rounds up, unavailability down; when both come out as zero one pod may be missing, or nothing could move.
fn fenceposts(deployment: &Deployment) -> (i32, i32) {
    if is_recreate(deployment) {
        return (0, 0);
    }
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let of = replicas(deployment);
    let surge = part(rolling.and_then(|r| r.max_surge.as_ref()), of, true);
    let unavailable = part(rolling.and_then(|r| r.max_unavailable.as_ref()), of, false);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

/// A number, or a percentage of `of`; a quarter when nothing is said.
pub(crate) fn part(value: Option<&IntOrString>, of: i32, up: bool) -> i32 {
    let percent = match value {
        Some(IntOrString::Int(number)) => return (*number).max(0),
        Some(IntOrString::String(text)) => text.trim_end_matches('%').parse::<i64>().unwrap_or(0).max(0),
        None => 25,
    };
    let hundredths = percent * i64::from(of);
    let whole = if up { (hundredths + 99) / 100 } else { hundredths / 100 };
    i32::try_from(whole).unwrap_or(i32::MAX)
}
