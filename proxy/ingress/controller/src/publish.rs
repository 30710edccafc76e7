//! What the API server is told: the statuses of Ingresses, Events, and the Service with its EndpointSlice.

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures::StreamExt as _;
use ingress::Objects;
use k8s_openapi::api::core::v1::{ObjectReference, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource};
use serde_json::{Value, json};
use state::Key;

use crate::door;

/// Under which name fields are owned and events reported.
const NAME: &str = "coracle-ingress";
/// How many writes are under way at once.
const WRITES: usize = 16;

/// Something to be written.
#[derive(Debug, Clone)]
pub(crate) enum Write {
    /// The addresses of an Ingress; none take them away.
    Status(Key, Vec<IpAddr>),
    /// An Event about an Ingress: its reason and message.
    Event(ObjectReference, EventType, &'static str, String),
    /// The Service of all Ingresses.
    Service,
    /// Its EndpointSlice.
    Slice(Value),
    /// Neither of them any more.
    Withdraw,
}

/// The statuses that are not as they should be: those of the `served` Ingresses have the `addresses`, and from others
/// is taken what was written here.
pub(crate) fn statuses(objects: &Objects, served: &BTreeSet<Key>, addresses: &[IpAddr]) -> Vec<Write> {
    let status = |(key, ingress): (&Key, &std::sync::Arc<Ingress>)| {
        let wanted = match served.contains(key) {
            true => addresses,
            false if written(ingress) => &[],
            false => return None,
        };
        let current = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
        let current = current.into_iter().flatten().map(|entry| entry.ip.as_ref()?.parse().ok());
        (!current.eq(wanted.iter().copied().map(Some))).then(|| Write::Status(key.clone(), wanted.to_vec()))
    };
    objects.ingresses.iter().filter_map(status).collect()
}

/// True when the addresses of an Ingress are from here, by its managed fields.
pub(crate) fn written(ingress: &Ingress) -> bool {
    let owns = |fields: &Value| fields.pointer("/f:status/f:loadBalancer/f:ingress").is_some();
    ingress.metadata.managed_fields.iter().flatten().any(|entry| {
        entry.manager.as_deref() == Some(NAME) && entry.fields_v1.as_ref().is_some_and(|fields| owns(&fields.0))
    })
}

/// Writes to the API server.
#[derive(Clone)]
pub(crate) struct Publisher {
    client: Client,
    reporter: Reporter,
    /// Counts the repetitions of an event that always says the same.
    counting: Recorder,
}

impl Publisher {
    pub(crate) fn new(client: Client, node: &str) -> Self {
        let reporter = Reporter { controller: NAME.into(), instance: Some(node.into()) };
        Publisher { counting: Recorder::new(client.clone(), reporter.clone()), client, reporter }
    }

    /// Writes all of it; false when some of it should be tried again.
    pub(crate) async fn write(self, writes: Vec<Write>) -> bool {
        let written = futures::stream::iter(writes).map(|write| self.one(write)).buffer_unordered(WRITES);
        written.fold(true, |all, written| std::future::ready(all && written)).await
    }

    async fn one(&self, write: Write) -> bool {
        let result = match write.clone() {
            Write::Status(key, addresses) => self.status(&key, &addresses).await,
            Write::Event(about, kind, reason, note) => self.event(&about, kind, reason, note).await,
            Write::Service => self.service().await,
            Write::Slice(slice) => {
                let api = self.api::<EndpointSlice>(door::NAMESPACE);
                api.patch(door::NAME, &PatchParams::apply(NAME).force(), &Patch::Apply(slice)).await.map(drop)
            }
            Write::Withdraw => self.withdraw().await,
        };
        match result {
            Ok(()) => true,
            // The object is gone, or its namespace is going.
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404 | 409) => true,
            Err(error) => {
                tracing::warn!("failed to write {write:?}: {error}");
                matches!(write, Write::Event(..))
            }
        }
    }

    /// All kinds as one type, of which nothing but the metadata is looked at.
    fn api<K: Resource<DynamicType = ()>>(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &ApiResource::erase::<K>(&()))
    }

    async fn status(&self, key: &Key, addresses: &[IpAddr]) -> kube::Result<()> {
        let api = self.api::<Ingress>(&key.namespace);
        let entries: Vec<_> = addresses.iter().map(|address| json!({"ip": address})).collect();
        let entries = if entries.is_empty() { Value::Null } else { entries.into() };
        let patch = Patch::Merge(json!({"status": {"loadBalancer": {"ingress": entries}}}));
        let params = PatchParams { field_manager: Some(NAME.into()), ..PatchParams::default() };
        api.patch_status(&key.name, &params, &patch).await.map(drop)
    }

    async fn event(
        &self,
        about: &ObjectReference,
        kind: EventType,
        reason: &'static str,
        note: String,
    ) -> kube::Result<()> {
        // What a recorder takes for a repetition has the first one's words.
        let recorder = match kind {
            EventType::Normal => self.counting.clone(),
            EventType::Warning => Recorder::new(self.client.clone(), self.reporter.clone()),
        };
        let action = "Sync".into();
        let event = Event { type_: kind, reason: reason.into(), note: Some(note), action, secondary: None };
        recorder.publish(&event, about).await
    }

    async fn service(&self) -> kube::Result<()> {
        let service = serde_json::from_value(door::service()).map_err(kube::Error::SerdeError)?;
        let api = self.api::<Service>(door::NAMESPACE);
        api.create(&PostParams::default(), &service).await.map(drop)
    }

    /// Removes the Service, unless someone else made it.
    async fn withdraw(&self) -> kube::Result<()> {
        let api = self.api::<Service>(door::NAMESPACE);
        let service = api.get(door::NAME).await?;
        let (label, value) = door::MANAGED_BY;
        if service.metadata.labels.as_ref().and_then(|labels| labels.get(label)).is_none_or(|found| found != value) {
            return Ok(());
        }
        let this = Preconditions { uid: service.metadata.uid, resource_version: None };
        api.delete(door::NAME, &DeleteParams { preconditions: Some(this), ..DeleteParams::default() }).await?;
        let slices = self.api::<EndpointSlice>(door::NAMESPACE);
        slices.delete(door::NAME, &DeleteParams::default()).await.map(drop)
    }
}

#[cfg(test)]
mod tests;
