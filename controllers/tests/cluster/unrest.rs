//! Seeded faults: whatever goes wrong on the way, at rest everything is as it was asked for.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::json;

use crate::faults::Faults;
use crate::lab::{Lab, deployment, is_ready};

/// How many seeds are played; the panic names the one that failed.
const SEEDS: u64 = 10;
const STEPS: usize = 25;

#[tokio::test(flavor = "multi_thread")]
async fn at_rest_everything_is_as_asked_for() {
    for seed in 1..=SEEDS {
        play(seed).await;
    }
}

async fn play(seed: u64) {
    let mut lab = Lab::unlucky(Faults::seeded(seed)).await;
    lab.node("n1").await;
    lab.node("n2").await;
    let dice = Faults::seeded(seed + 1000);
    let names = ["a", "b", "c"];
    for name in names {
        let ports = json!([{"port": 80, "targetPort": "http"}]);
        lab.create::<Service>(json!({"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": ports}}))
            .await;
    }
    for _ in 0..STEPS {
        let name = names[dice.below(3) as usize];
        let deployments = lab.api::<Deployment>();
        let exists = deployments.get_opt(name).await.expect("a read works").is_some();
        match dice.below(6) {
            0 if exists => drop(deployments.delete(name, &DeleteParams::background()).await),
            1 => drop(lab.api::<Pod>().delete_collection(&DeleteParams::default(), &Default::default()).await),
            _ if exists => {
                let image = format!("web:{}", dice.below(3));
                let wanted = deployment(name, dice.below(6) as u32, &image);
                lab.merge::<Deployment>(name, wanted).await;
            }
            _ => drop(lab.create::<Deployment>(deployment(name, dice.below(6) as u32, "web:0")).await),
        }
    }
    lab.until(&format!("rest after seed {seed}"), async || at_rest(&lab).await.then_some(())).await;
    lab.end().await;
}

/// Replicas met, no orphans, slices right.
async fn at_rest(lab: &Lab) -> bool {
    let (deployments, sets) = (lab.list::<Deployment>().await, lab.list::<ReplicaSet>().await);
    let pods = lab.list::<Pod>().await;
    let uids: BTreeSet<String> = deployments
        .iter()
        .filter_map(|d| d.metadata.uid.clone())
        .chain(sets.iter().filter_map(|s| s.metadata.uid.clone()))
        .collect();
    let owned = |references: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference]| {
        references.len() == 1 && uids.contains(&references[0].uid)
    };
    let no_orphans =
        sets.iter().all(|set| owned(set.owner_references())) && pods.iter().all(|pod| owned(pod.owner_references()));
    let met = deployments.iter().all(|deployment| {
        let (spec, status) =
            (deployment.spec.clone().unwrap_or_default(), deployment.status.clone().unwrap_or_default());
        let of = |pod: &&Pod| pod.labels().get("app") == deployment.metadata.name.as_ref();
        let image = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.containers[0].image.clone());
        let wanted = spec.template.spec.and_then(|spec| spec.containers[0].image.clone());
        let own: Vec<&Pod> = pods.iter().filter(of).collect();
        let replicas = spec.replicas.unwrap_or(1);
        own.len() as i32 == replicas
            && own.iter().all(|pod| is_ready(pod) && image(pod) == wanted)
            && status.available_replicas.unwrap_or(0) == replicas
            && status.updated_replicas.unwrap_or(0) == replicas
            && status.observed_generation == deployment.metadata.generation
    });
    no_orphans && met && slices_right(lab, &pods).await
}

async fn slices_right(lab: &Lab, pods: &[Pod]) -> bool {
    let slices = lab.list::<EndpointSlice>().await;
    lab.list::<Service>().await.iter().filter(|service| service.name_any() != "kubernetes").all(|service| {
        let name = service.name_any();
        let own = slices.iter().filter(|slice| slice.labels().get("kubernetes.io/service-name") == Some(&name));
        let mut shown: Vec<String> =
            own.flat_map(|s| s.endpoints.iter().flatten()).flat_map(|e| e.addresses.clone()).collect();
        let of = pods.iter().filter(|pod| pod.labels().get("app") == Some(&name));
        let mut actual: Vec<String> = of.filter_map(|pod| pod.status.clone()?.pod_ip).collect();
        shown.sort();
        actual.sort();
        shown == actual
    })
}
