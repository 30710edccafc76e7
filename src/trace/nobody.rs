//! Why no endpoint of a Service can be used, and what to do; pure.

use k8s_openapi::api::core::v1::Pod;
use state::{Port, Service, Target as TargetPort};

use super::{
    Lost,
    path::Known,
    pods::{instead, list, name, named, port_names, takes, written},
};

/// The reason; `elsewhere` when a traffic policy of Local leaves out endpoints that could be used.
pub(super) fn nobody(known: &Known, service: &Service, port: &Port, elsewhere: bool) -> Lost {
    let (key, namespace) = (&service.key, &service.key.namespace);
    if elsewhere {
        let nodes = service.endpoints.iter().filter_map(|endpoint| endpoint.node.as_deref());
        let mut nodes: Vec<&str> = nodes.collect();
        nodes.sort_unstable();
        nodes.dedup();
        let why = format!(
            "the traffic policy of Service {key} is Local, and no ready endpoint is on this node, only on {}",
            list(nodes)
        );
        return Lost::new("Policy", why, "Run a pod on this node too, or set the policy to Cluster.");
    }
    let selector = known.object.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
    if selector.is_empty() {
        let help = "Give it a selector, or make an EndpointSlice with the label kubernetes.io/service-name.";
        let why = match service.endpoints.is_empty() {
            true => format!("Service {key} has no selector, and no EndpointSlice is made for it by hand"),
            false => {
                format!("Service {key} has no selector, and none of the endpoints made by hand is ready at this port")
            }
        };
        return Lost::new("Service", why, help);
    }
    let chosen: Vec<&Pod> = known.pods.iter().filter(|pod| takes(&selector, pod)).collect();
    let selector_text = written(&selector);
    if chosen.is_empty() {
        let mut why = format!(
            "the selector of Service {key}, {selector_text}, takes no pod: {}",
            instead(&selector, &known.pods)
        );
        if !known.elsewhere.is_empty() {
            let pods = list(known.elsewhere.iter().map(ToString::to_string));
            why += &format!(
                "; there are such pods in another namespace: {pods}, but a Service takes only those of its own"
            );
        }
        return Lost::new("Selector", why, format!("Compare: kubectl get pods -n {namespace} --show-labels"));
    }
    let troubled = chosen.iter().filter_map(|pod| Some((*pod, known.trouble(pod)?)));
    let troubled: Vec<(&Pod, String)> = troubled.collect();
    if let (true, Some((first, first_why))) = (troubled.len() == chosen.len(), troubled.first()) {
        let each = list(troubled.iter().map(|(pod, why)| format!("Pod {}: {why}", name(pod))));
        let why = format!("no pod of Service {key} is ready: {each}");
        let help = match first_why.contains("exit code") {
            true => format!("kubectl logs {} -n {namespace} --previous", name(first)),
            false => format!("kubectl describe pod {} -n {namespace}", name(first)),
        };
        return Lost::new("Endpoints", why, help);
    }
    if let TargetPort::Name(target) = &port.target
        && !chosen.iter().any(|pod| named(pod, target, port.protocol).is_some())
    {
        let names: std::collections::BTreeSet<String> = chosen.iter().flat_map(|pod| port_names(pod)).collect();
        let have = if names.is_empty() { "none with a name".into() } else { list(names) };
        let why = format!(
            "targetPort {target:?} of Service {key} is no {} port of its pods; they have {have}",
            port.protocol
        );
        return Lost::new("Port", why, "Let targetPort be the name, or the number, of a port of the container.");
    }
    let why = format!("pods of Service {key} are ready, but its EndpointSlices have none of them yet");
    Lost::new("Endpoints", why, format!("Try again; if it stays so: kubectl get endpointslices -n {namespace}"))
}
