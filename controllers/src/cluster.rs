//! What every controller is handed: the client, the caches of all kinds, and the ways to write.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Namespace, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Resource};
use serde_json::{Value, json};

use crate::cache::{Cache, Key, Object, Scope, Term};
use crate::config::Config;
use crate::diff::diff;
use crate::error::Error;
use crate::events::Recorder;
use crate::kinds::Kinds;
use crate::owner::controller;

/// The cluster as the controllers see it.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) config: Config,
    pub(crate) events: Recorder,
    pub(crate) kinds: Kinds,
    pub(crate) namespaces: Arc<Cache<Namespace>>,
    pub(crate) service_accounts: Arc<Cache<ServiceAccount>>,
    /// Only those named `kube-root-ca.crt`.
    pub(crate) root_cas: Arc<Cache<ConfigMap>>,
    pub(crate) services: Arc<Cache<Service>>,
    pub(crate) endpoints: Arc<Cache<Endpoints>>,
    pub(crate) slices: Arc<Cache<EndpointSlice>>,
    pub(crate) deployments: Arc<Cache<Deployment>>,
    pub(crate) replica_sets: Arc<Cache<ReplicaSet>>,
    pub(crate) pods: Arc<Cache<Pod>>,
    pub(crate) budgets: Arc<Cache<PodDisruptionBudget>>,
    pub(crate) nodes: Arc<Cache<Node>>,
    /// Only those in `kube-node-lease`.
    pub(crate) leases: Arc<Cache<Lease>>,
}

impl Cluster {
    pub(crate) fn new(client: Client, config: Config, events: Recorder) -> Cluster {
        Cluster {
            kinds: Kinds::new(client.clone()),
            client,
            config,
            events,
            namespaces: Arc::new(Cache::new(|_| vec![])),
            service_accounts: Arc::new(Cache::new(|_| vec![])),
            root_cas: Arc::new(Cache::new(|_| vec![])),
            services: Arc::new(Cache::new(|_| vec![])),
            endpoints: Arc::new(Cache::new(|_| vec![])),
            slices: Arc::new(Cache::new(|slice| service_of(slice).map(Term::Service).into_iter().collect())),
            deployments: Arc::new(Cache::new(|_| vec![])),
            replica_sets: Arc::new(Cache::new(|set| owners(&set.metadata))),
            pods: Arc::new(Cache::new(pod_terms)),
            budgets: Arc::new(Cache::new(|_| vec![])),
            nodes: Arc::new(Cache::new(|_| vec![])),
            leases: Arc::new(Cache::new(|_| vec![])),
        }
    }

    /// Waits until every cache has its first list.
    pub(crate) async fn ready(&self) {
        self.namespaces.ready().await;
        self.service_accounts.ready().await;
        self.root_cas.ready().await;
        self.services.ready().await;
        self.endpoints.ready().await;
        self.slices.ready().await;
        self.deployments.ready().await;
        self.replica_sets.ready().await;
        self.pods.ready().await;
        self.budgets.ready().await;
        self.nodes.ready().await;
        self.leases.ready().await;
    }

    pub(crate) fn api<K: Object>(&self, namespace: &str) -> Api<K> {
        <K::Scope as Scope>::api(self.client.clone(), namespace)
    }

    /// Creates `object` and lets `cache` know at once.
    pub(crate) async fn create<K: Object>(&self, cache: &Cache<K>, object: &K) -> Result<K, Error> {
        let api = self.api(object.meta().namespace.as_deref().unwrap_or_default());
        let created: K = api.create(&PostParams::default(), object).await?;
        cache.observe(created.clone());
        Ok(created)
    }

    /// Makes `before` into `after`, if they differ; fails with a conflict when somebody wrote in between.
    pub(crate) async fn update<K: Object>(&self, cache: &Cache<K>, before: &K, after: &K) -> Result<(), Error> {
        self.patch(cache, before, after, false).await
    }

    /// The same for the status.
    pub(crate) async fn update_status<K: Object>(&self, cache: &Cache<K>, before: &K, after: &K) -> Result<(), Error> {
        self.patch(cache, before, after, true).await
    }

    async fn patch<K: Object>(&self, cache: &Cache<K>, before: &K, after: &K, status: bool) -> Result<(), Error> {
        let (old, new) = (value(before)?, value(after)?);
        let Some(mut patch) = diff(&old, &new) else {
            return Ok(());
        };
        let meta = before.meta();
        let fields = patch.as_object_mut().map(|o| o.entry("metadata").or_insert_with(|| json!({})));
        if let Some(Value::Object(fields)) = fields {
            fields.insert("resourceVersion".into(), json!(meta.resource_version));
            fields.insert("uid".into(), json!(meta.uid));
        }
        let api: Api<K> = self.api(meta.namespace.as_deref().unwrap_or_default());
        let name = meta.name.as_deref().unwrap_or_default();
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        let written = if status {
            api.patch_status(name, &params, &patch).await?
        } else {
            api.patch(name, &params, &patch).await?
        };
        cache.observe(written);
        Ok(())
    }

    /// Deletes exactly this object (by uid); one that is gone already is fine.
    pub(crate) async fn delete<K: Object>(
        &self,
        cache: &Cache<K>,
        object: &K,
        params: DeleteParams,
    ) -> Result<(), Error> {
        let meta = object.meta();
        let params = params.preconditions(Preconditions { uid: meta.uid.clone(), resource_version: None });
        let api: Api<K> = self.api(meta.namespace.as_deref().unwrap_or_default());
        match api.delete(meta.name.as_deref().unwrap_or_default(), &params).await {
            Ok(answer) => match answer.left() {
                Some(dying) if dying.meta().deletion_timestamp.is_some() => cache.observe(dying),
                _ => cache.forget(object),
            },
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

fn value<K: Object>(object: &K) -> Result<Value, Error> {
    serde_json::to_value(object).map_err(|e| kube::Error::SerdeError(e).into())
}

/// The Service that a slice belongs to, by its label.
pub(crate) fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let name = slice.metadata.labels.as_ref()?.get("kubernetes.io/service-name")?;
    Some(Key::new(slice.meta().namespace.as_deref()?, name))
}

fn owners(meta: &ObjectMeta) -> Vec<Term> {
    let references = meta.owner_references.iter().flatten();
    let mut terms: Vec<Term> = references.map(|owner| Term::Owner(owner.uid.clone())).collect();
    if controller(meta).is_none() {
        terms.push(Term::Orphan(meta.namespace.clone().unwrap_or_default()));
    }
    terms
}

fn pod_terms(pod: &Pod) -> Vec<Term> {
    let mut terms = owners(&pod.metadata);
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    terms.push(Term::Node(node.unwrap_or_default()));
    terms
}
