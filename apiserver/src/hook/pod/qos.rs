use serde_json::Value;

use crate::object::list;

/// The quality of service of a pod, by the requests and limits for CPU and memory of its containers.
pub(super) fn class(pod: &Value) -> &'static str {
    let containers = || list(pod, "/spec/containers").iter().chain(list(pod, "/spec/initContainers"));
    let amount = |container: &Value, kind: &str, resource: &str| {
        let amount = container.get("resources")?.get(kind)?.get(resource)?;
        let text = amount.as_str().map_or_else(|| amount.to_string(), str::to_owned);
        (!is_zero(&text)).then_some(text)
    };
    let pairs = || containers().flat_map(|container| ["cpu", "memory"].map(|resource| (container, resource)));
    let any = pairs().any(|(container, resource)| {
        amount(container, "requests", resource).is_some() || amount(container, "limits", resource).is_some()
    });
    let full = pairs().all(|(container, resource)| {
        let limit = amount(container, "limits", resource);
        // Defaulting has made the request of a mere limit, so both are there.
        limit.is_some() && limit == amount(container, "requests", resource)
    });
    match (any, full) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn is_zero(quantity: &str) -> bool {
    let number = quantity.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    number.parse::<f64>().is_ok_and(|number| number == 0.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn classes() {
        let pod = |resources: Value| json!({"spec": {"containers": [{"resources": resources}]}});
        let both = json!({"cpu": "1", "memory": "1Gi"});
        for (resources, expected) in [
            (json!({}), "BestEffort"),
            (json!({"requests": {"cpu": "0"}}), "BestEffort"),
            (json!({"requests": {"cpu": "100m"}}), "Burstable"),
            (json!({"requests": both, "limits": both}), "Guaranteed"),
            (json!({"requests": {"cpu": "1", "memory": "1Mi"}, "limits": both}), "Burstable"),
            (json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}), "Burstable"),
        ] {
            assert_eq!(class(&pod(resources.clone())), expected, "{resources}");
        }
    }
}
