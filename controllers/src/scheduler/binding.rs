//! Tells the API server where a pod goes.

use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Status};
use kube::Api;
use kube::api::PostParams;

use crate::cluster::Cluster;
use crate::error::Error;

/// Posts the pod's `binding` subresource; the uid keeps a new pod of the same name from being bound instead.
pub(super) async fn bind(cluster: &Cluster, pod: &Pod, node: &str) -> Result<(), Error> {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let binding = Binding {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: pod.metadata.namespace.clone(),
            uid: pod.metadata.uid.clone(),
            ..Default::default()
        },
        target: ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Node".into()),
            name: Some(node.into()),
            ..Default::default()
        },
    };
    let api: Api<Pod> = cluster.api(pod.metadata.namespace.as_deref().unwrap_or_default());
    let _: Status = api.create_subresource("binding", &name, &PostParams::default(), &binding).await?;
    Ok(())
}
