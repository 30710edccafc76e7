//! A small controller, and how it is tested: `cargo run --example controller`, `cargo test --example controller`.
//!
//! It keeps a Service for each Deployment that has the annotation `expose`, whose value is the port that
//! the pods listen on. The cluster it works on is in this process and needs nothing on the machine.

use std::{sync::Arc, time::Duration};

use coracle::Cluster;
use futures::StreamExt as _;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Service};
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    runtime::{controller::Action, controller::Controller, wait::await_condition, watcher},
};
use serde_json::json;

/// The annotation, and the name of the field manager.
const EXPOSE: &str = "expose";

/// Makes the Service of one Deployment as it has to be.
async fn reconcile(deployment: Arc<Deployment>, client: Arc<Client>) -> Result<Action, kube::Error> {
    let (name, namespace) = (deployment.name_any(), deployment.namespace().unwrap_or_default());
    let services: Api<Service> = Api::namespaced((*client).clone(), &namespace);
    let port = deployment.annotations().get(EXPOSE).and_then(|port| port.parse::<u16>().ok());
    if let Some(port) = port {
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            // The owner's end is the Service's, too: the garbage collector sees to it.
            "metadata": {"name": name, "ownerReferences": [deployment.controller_owner_ref(&())]},
            "spec": {
                "selector": deployment.spec.as_ref().map(|spec| &spec.selector.match_labels),
                "ports": [{"port": 80, "targetPort": port}],
            },
        });
        services.patch(&name, &PatchParams::apply(EXPOSE).force(), &Patch::Apply(service)).await?;
    } else if let Some(service) = services.get_opt(&name).await?
        && service.owner_references().iter().any(|owner| Some(&owner.uid) == deployment.metadata.uid.as_ref())
    {
        services.delete(&name, &DeleteParams::default()).await?;
    }
    Ok(Action::await_change())
}

/// Runs the controller for as long as it is polled.
async fn run(client: Client) {
    Controller::new(Api::<Deployment>::all(client.clone()), watcher::Config::default())
        .owns(Api::<Service>::all(client.clone()), watcher::Config::default())
        .run(reconcile, |_, _, _| Action::requeue(Duration::from_secs(1)), Arc::new(client))
        .for_each(|result| async {
            if let Err(error) = result {
                eprintln!("{error}");
            }
        })
        .await;
}

/// A Deployment whose pods are to be reached by a port.
fn web(port: u16) -> Deployment {
    let labels = json!({"app": "web"});
    let deployment = json!({
        "metadata": {"name": "web", "annotations": {EXPOSE: port.to_string()}},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "web", "image": "nginx"}]},
            },
        },
    });
    serde_json::from_value(deployment).expect("a Deployment")
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cluster = Cluster::builder().start().await?;
    let controller = tokio::spawn(run(cluster.client()));
    let deployments: Api<Deployment> = Api::default_namespaced(cluster.client());
    deployments.create(&PostParams::default(), &web(3000)).await?;
    let services: Api<Service> = Api::default_namespaced(cluster.client());
    let service = await_condition(services, "web", |service: Option<&Service>| service.is_some()).await?;
    let address = service.and_then(|service| service.spec?.cluster_ip).unwrap_or_default();
    println!("the controller has made the Service web, whose address is {address}");
    controller.abort();
    cluster.shutdown().await
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    use kube::api::PropagationPolicy;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Waits for the Service to be so.
    async fn until(services: &Api<Service>, holds: impl Fn(Option<&Service>) -> bool) {
        let waiting = await_condition(services.clone(), "web", holds);
        tokio::time::timeout(PATIENCE, waiting).await.expect("in time").expect("a watch");
    }

    /// The pods' port that the Service leads to.
    fn port(service: Option<&Service>) -> Option<i32> {
        match service?.spec.as_ref()?.ports.as_ref()?.first()?.target_port.as_ref()? {
            IntOrString::Int(port) => Some(*port),
            IntOrString::String(_) => None,
        }
    }

    #[tokio::test]
    async fn a_service_follows_its_deployment() -> anyhow::Result<()> {
        let cluster = Cluster::builder().start().await?;
        let controller = tokio::spawn(run(cluster.client()));
        let deployments: Api<Deployment> = Api::default_namespaced(cluster.client());
        let services: Api<Service> = Api::default_namespaced(cluster.client());
        let annotate = async |value| {
            let patch = json!({"metadata": {"annotations": {EXPOSE: value}}});
            deployments.patch("web", &PatchParams::default(), &Patch::Merge(patch)).await
        };

        deployments.create(&PostParams::default(), &web(3000)).await?;
        until(&services, |service| port(service) == Some(3000)).await;
        annotate(json!("8080")).await?;
        until(&services, |service| port(service) == Some(8080)).await;
        annotate(json!(null)).await?;
        until(&services, |service| service.is_none()).await;
        annotate(json!("3000")).await?;
        until(&services, |service| port(service) == Some(3000)).await;
        let params = DeleteParams { propagation_policy: Some(PropagationPolicy::Background), ..Default::default() };
        deployments.delete("web", &params).await?;
        until(&services, |service| service.is_none()).await;

        controller.abort();
        cluster.shutdown().await
    }
}
