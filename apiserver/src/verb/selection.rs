use schema::{FieldSelector, LabelSelector};
use store::{Entry, Topic};

use crate::call::Call;
use crate::meta::Meta;
use crate::status::Status;

/// The objects of a collection that a request is about.
#[derive(Debug)]
pub(super) struct Selection {
    /// Of the path or a field selector; "" for all.
    namespace: String,
    /// The objects have namespaces.
    namespaced: bool,
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Selection {
    /// What the path and the query select; 400 for a selector that cannot be read.
    pub(super) fn of(call: &Call) -> Result<Self, Status> {
        let unreadable = |error: schema::Error| Status::bad_request(error.to_string());
        let labels = LabelSelector::parse(call.query.get("labelSelector").unwrap_or_default()).map_err(unreadable)?;
        let mut fields = call.query.get("fieldSelector").unwrap_or_default().to_owned();
        if !call.name.is_empty() {
            if !fields.is_empty() && !fields.split(',').any(|term| term == format!("metadata.name={}", call.name)) {
                return Err(Status::bad_request("fieldSelector metadata.name doesn't match requested name"));
            }
            fields = format!("metadata.name={}", call.name);
        }
        let fields = FieldSelector::parse(&fields, &call.resource).map_err(unreadable)?;
        let mut namespace = call.namespace.clone();
        if let Some(selected) = fields.exactly("metadata.namespace").filter(|_| namespace.is_empty()) {
            namespace = selected.to_owned();
        }
        Ok(Selection { namespace, namespaced: call.resource.namespaced, labels, fields })
    }

    /// Whether there are no selectors.
    pub(super) fn is_all(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// The one namespace that the objects are in, where there is one.
    pub(super) fn namespace(&self) -> Option<&str> {
        Some(self.namespace.as_str()).filter(|namespace| !namespace.is_empty())
    }

    /// The namespace and name of the one object that it can be.
    pub(super) fn object(&self) -> Option<(&str, &str)> {
        let name = self.fields.exactly("metadata.name")?;
        (!self.namespaced || !self.namespace.is_empty()).then_some((&self.namespace, name))
    }

    /// The narrowest topic that all its events are in.
    pub(super) fn topic(&self) -> Topic {
        if let Some((namespace, name)) = self.object() {
            return Topic::Object(namespace.into(), name.into());
        }
        match self.fields.exactly("spec.nodeName").filter(|node| !node.is_empty()) {
            Some(node) => Topic::Audience(node.into()),
            None => self.namespace().map_or(Topic::All, |namespace| Topic::Namespace(namespace.into())),
        }
    }

    /// An object is read only for a field that is not kept beside it.
    pub(super) fn matches(&self, entry: &Entry<Meta>) -> bool {
        (self.namespace.is_empty() || *self.namespace == *entry.key.namespace)
            && self.labels.matches(|key| entry.meta.label(key))
            && self.fields.matches(&entry.bytes, |path| match path {
                "metadata.name" => Some(&*entry.key.name),
                "metadata.namespace" => Some(&*entry.key.namespace),
                "spec.nodeName" => Some(entry.meta.node.as_deref().unwrap_or_default()),
                _ => None,
            })
    }
}
