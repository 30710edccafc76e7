//! Gives each node its range of pod addresses.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;

use crate::cache::{Change, Key};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::queue::Queue;

const COMPONENT: &str = "cidrAllocator";

/// Listens for nodes without a range. A range that becomes free is tried for again by those that found none.
pub(crate) fn listen(cluster: &Arc<Cluster>, queue: &Arc<Queue<Key>>) {
    let (keys, nodes) = (queue.clone(), cluster.nodes.clone());
    cluster.nodes.listen(move |change: &Change<Node>| match &change.after {
        Some(node) if range(node).is_none() => keys.add(Key::of(&node.metadata)),
        Some(_) => {}
        None => keys.extend(nodes.all().iter().filter(|n| range(n).is_none()).map(|n| Key::of(&n.metadata))),
    });
}

fn range(node: &Node) -> Option<&str> {
    node.spec.as_ref()?.pod_cidr.as_deref().filter(|range| !range.is_empty())
}

/// Gives one node the first free range. One at a time: the cache knows of the range given last.
pub(crate) async fn reconcile(cluster: &Cluster, key: &Key) -> Result<Option<Duration>, Error> {
    let Some(node) = cluster.nodes.get(key).filter(|node| range(node).is_none()) else { return Ok(None) };
    let taken: BTreeSet<Ipv4Net> = cluster.nodes.all().iter().filter_map(|node| range(node)?.parse().ok()).collect();
    let Some(free) = first_free(&cluster.config.pods, cluster.config.node_prefix, &taken) else {
        let message = format!("Node {} status is now: CIDRNotAvailable", key.name);
        cluster.events.normal(COMPONENT, &*node, "CIDRNotAvailable", message);
        return Ok(None);
    };
    let mut after = (*node).clone();
    let spec = after.spec.get_or_insert_default();
    spec.pod_cidr = Some(free.to_string());
    spec.pod_cidrs = Some(vec![free.to_string()]);
    cluster.update(&cluster.nodes, &node, &after).await?;
    Ok(None)
}

/// The first range of `prefix` in `whole` that overlaps none of `taken`.
fn first_free(whole: &Ipv4Net, prefix: u8, taken: &BTreeSet<Ipv4Net>) -> Option<Ipv4Net> {
    let overlaps = |range: &Ipv4Net| taken.iter().any(|t| t.contains(&range.network()) || range.contains(&t.network()));
    whole.subnets(prefix).ok()?.find(|range| !overlaps(range))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_range_that_overlaps_none_is_given() {
        let net = |text: &str| text.parse::<Ipv4Net>().expect("a range");
        let cases: [(&str, u8, &[&str], Option<&str>); 5] = [
            ("10.244.0.0/16", 24, &[], Some("10.244.0.0/24")),
            ("10.244.0.0/16", 24, &["10.244.0.0/24", "10.244.2.0/24"], Some("10.244.1.0/24")),
            ("10.244.0.0/16", 24, &["10.244.0.0/23"], Some("10.244.2.0/24")),
            ("10.244.0.0/23", 24, &["10.244.0.0/24", "10.244.1.128/25"], None),
            ("10.244.0.0/24", 16, &[], None),
        ];
        for (whole, prefix, taken, free) in cases {
            let taken = taken.iter().map(|t| net(t)).collect();
            assert_eq!(first_free(&net(whole), prefix, &taken), free.map(net), "{whole} without {taken:?}");
        }
    }
}
