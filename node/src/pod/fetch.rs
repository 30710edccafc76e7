//! Fetching what a pod refers to, before it is needed.

use super::sources::{Addresses, Sources, wanted};
use crate::pods::Pods;
use futures::future::try_join_all;
use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount},
};
use kube::api::{Api, ListParams, PostParams};

/// Everything that a pod's containers and volumes refer to. `address` is the pod's.
pub(crate) async fn sources(pods: &Pods, pod: &Pod, address: String) -> Result<Sources, String> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let wanted = pod.spec.as_ref().map(wanted).unwrap_or_default();
    let maps: Api<ConfigMap> = Api::namespaced(pods.client.clone(), &namespace);
    let secrets: Api<Secret> = Api::namespaced(pods.client.clone(), &namespace);
    let text = |error: kube::Error| error.to_string();
    let maps = wanted.config_maps.into_iter().map(|name| {
        let maps = &maps;
        async move { Ok((name.clone(), maps.get_opt(&name).await.map_err(text)?)) }
    });
    let secrets = wanted.secrets.into_iter().map(|name| {
        let secrets = &secrets;
        async move { Ok((name.clone(), secrets.get_opt(&name).await.map_err(text)?)) }
    });
    let tokens = wanted.tokens.into_iter().map(|(audience, seconds)| async move {
        let token = token(pods, pod, &audience, seconds).await.map_err(text)?;
        Ok::<_, String>((audience, token))
    });
    let (maps, secrets, tokens) = tokio::try_join!(try_join_all(maps), try_join_all(secrets), try_join_all(tokens))?;
    Ok(Sources {
        config_maps: maps.into_iter().collect(),
        secrets: secrets.into_iter().collect(),
        tokens: tokens.into_iter().collect(),
        addresses: Addresses { pod: address, node: pods.config.node_address.to_string() },
        capacity: pods.capacity,
        namespace,
    })
}

/// A token of the pod's service account, bound to the pod.
async fn token(pods: &Pods, pod: &Pod, audience: &str, seconds: i64) -> Result<String, kube::Error> {
    let meta = &pod.metadata;
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let spec = pod.spec.as_ref();
    let account = spec.and_then(|spec| spec.service_account_name.as_deref());
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: (!audience.is_empty()).then(|| vec![audience.to_owned()]),
            expiration_seconds: Some(seconds),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: meta.name.clone(),
                uid: meta.uid.clone(),
            }),
        }),
        ..TokenRequest::default()
    };
    let api: Api<ServiceAccount> = Api::namespaced(pods.client.clone(), namespace);
    let account = account.filter(|account| !account.is_empty()).unwrap_or("default");
    let made = api.create_token_request(account, &PostParams::default(), &request).await?;
    Ok(made.status.and_then(|status| status.token).unwrap_or_default())
}

/// The variables of the Services that a pod sees: those of its namespace, and `kubernetes`.
pub(crate) async fn services(pods: &Pods, pod: &Pod) -> Result<Vec<(String, String)>, String> {
    let text = |error: kube::Error| error.to_string();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let links = pod.spec.as_ref().and_then(|spec| spec.enable_service_links);
    let mut services = Vec::new();
    if links.unwrap_or(true) {
        let api: Api<Service> = Api::namespaced(pods.client.clone(), namespace);
        services = api.list(&ListParams::default()).await.map_err(text)?.items;
    }
    let master = |service: &Service| service.metadata.name.as_deref() == Some("kubernetes");
    if namespace != "default" || !services.iter().any(master) {
        services.retain(|service| !master(service));
        let api: Api<Service> = Api::namespaced(pods.client.clone(), "default");
        services.extend(api.get_opt("kubernetes").await.map_err(text)?);
    }
    Ok(super::env::service_variables(&services))
}
