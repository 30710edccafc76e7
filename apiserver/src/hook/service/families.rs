//! Which families of addresses a Service has, by its policy and what the cluster has (KEP-563).

use schema::FieldError;
use serde_json::{Value, json};

use super::{family, has_address};
use crate::object::{self, list, text};
use crate::status::invalid;

const LISTS: [&str; 2] = ["clusterIPs", "ipFamilies"];

/// Completes `ipFamilyPolicy` and `ipFamilies`, and drops the second address and family of a Service that is to have
/// one. `configured` has the families of the cluster, the default one first.
pub(super) fn settle(configured: &[&str], old: Option<&Value>, service: &mut Value) -> Result<(), Vec<FieldError>> {
    if !has_address(service) || old.is_some_and(|old| is_same_preference(old, service)) {
        return Ok(());
    }
    let free = is_free(service);
    if text(service, "/spec/ipFamilyPolicy").is_empty() {
        let before = old.map_or("", |old| text(old, "/spec/ipFamilyPolicy"));
        let default = if free { "RequireDualStack" } else { "SingleStack" };
        let policy = if before.is_empty() { default } else { before };
        object::map(service, "spec").insert("ipFamilyPolicy".into(), policy.into());
    }
    let single = text(service, "/spec/ipFamilyPolicy") == "SingleStack";
    if let Some(old) = old.filter(|_| single) {
        for field in LISTS {
            let spec = object::map(service, "spec");
            if let Some(Value::Array(all)) = spec.get_mut(field).filter(|all| Some(&**all) == old["spec"].get(field)) {
                all.truncate(1);
            }
        }
    }
    let mut families: Vec<String> = names(service).map(str::to_owned).collect();
    let mut errors = unfit(old, service, single);
    for (at, ip) in list(service, "/spec/clusterIPs").iter().enumerate().skip(families.len()) {
        let Some(of) = ip.as_str().and_then(|ip| ip.parse().ok()).map(family) else { break };
        if configured.contains(&of) {
            families.push(of.to_owned());
        } else {
            let why = format!("{of} is not configured on this cluster");
            errors.push(invalid(format!("spec.clusterIPs[{at}]"), list(service, "/spec/clusterIPs"), why));
        }
    }
    if errors.is_empty() && !free {
        errors = missing(configured, text(service, "/spec/ipFamilyPolicy"), &families);
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    if families.is_empty() {
        families.extend(configured.first().map(|family| (*family).to_owned()));
    }
    if !single && families.len() == 1 && (free || configured.len() == 2) {
        families.push(if families[0] == "IPv4" { "IPv6" } else { "IPv4" }.to_owned());
    }
    object::map(service, "spec").insert("ipFamilies".into(), json!(families));
    Ok(())
}

fn names(service: &Value) -> impl Iterator<Item = &str> {
    list(service, "/spec/ipFamilies").iter().filter_map(Value::as_str)
}

/// Headless and without a selector: its endpoints are the client's, of whatever family.
fn is_free(service: &Value) -> bool {
    let selects = service["spec"]["selector"].as_object().is_some_and(|selector| !selector.is_empty());
    text(service, "/spec/clusterIP") == "None" && !selects
}

/// A Service that prefers two families is not given another, nor one taken, unless the client asks for that.
fn is_same_preference(old: &Value, new: &Value) -> bool {
    let same = |field: &str| old["spec"].get(field) == new["spec"].get(field);
    text(new, "/spec/ipFamilyPolicy") == "PreferDualStack"
        && ["type", "ipFamilyPolicy", "clusterIPs", "ipFamilies"].into_iter().all(same)
}

/// Where the policy and the lengths of the lists contradict each other.
fn unfit(old: Option<&Value>, service: &Value, single: bool) -> Vec<FieldError> {
    let length = |service: &Value, field: &str| service["spec"][field].as_array().map_or(0, Vec::len);
    let mut errors = Vec::new();
    for (field, one, many) in [
        ("clusterIPs", "secondary cluster IP", "multiple cluster IPs"),
        ("ipFamilies", "secondary IP family", "multiple IP families"),
    ] {
        let (now, before) = (length(service, field), old.map_or(0, |old| length(old, field)));
        let why = if single && now == 2 {
            format!("must be 'RequireDualStack' or 'PreferDualStack' when {many} are specified")
        } else if !single && now != 0 && now < before {
            format!("must be 'SingleStack' to release the {one}")
        } else {
            continue;
        };
        errors.push(invalid("spec.ipFamilyPolicy", text(service, "/spec/ipFamilyPolicy"), why));
    }
    errors
}

/// What is asked for and the cluster has not.
fn missing(configured: &[&str], policy: &str, families: &[String]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if policy == "RequireDualStack" && configured.len() < 2 {
        let why = "this cluster is not configured for dual-stack services";
        errors.push(invalid("spec.ipFamilyPolicy", policy, why));
    }
    let unknown = families.iter().enumerate().filter(|(_, family)| !configured.contains(&family.as_str()));
    errors.extend(unknown.map(|(at, family)| {
        invalid(format!("spec.ipFamilies[{at}]"), family.as_str(), "not configured on this cluster")
    }));
    errors
}

#[cfg(test)]
mod tests;
