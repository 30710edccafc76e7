use schema::{FieldSelector, LabelSelector};
use serde_json::Value;
use store::Entry;

use crate::call::Call;
use crate::meta::Meta;
use crate::status::Status;

/// The objects of a collection that a request is about.
#[derive(Debug)]
pub(super) struct Selection {
    namespace: String,
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Selection {
    /// What the path and the query select; 400 for a selector that cannot be read.
    pub(super) fn of(call: &Call) -> Result<Self, Status> {
        let unreadable = |error: schema::Error| Status::bad_request(error.to_string());
        let labels = LabelSelector::parse(call.query.get("labelSelector").unwrap_or_default());
        let mut fields = call.query.get("fieldSelector").unwrap_or_default().to_owned();
        if !call.name.is_empty() {
            fields = format!("metadata.name={},{fields}", call.name);
        }
        Ok(Selection {
            namespace: call.namespace.clone(),
            labels: labels.map_err(unreadable)?,
            fields: FieldSelector::parse(&fields, &call.resource).map_err(unreadable)?,
        })
    }

    /// Whether there are no selectors.
    pub(super) fn is_all(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    pub(super) fn matches(&self, entry: &Entry<Meta>) -> bool {
        (self.namespace.is_empty() || *self.namespace == *entry.key.namespace)
            && self.labels.matches(|key| entry.meta.label(key))
            && self.matches_fields(entry)
    }

    /// Only an object that passes on what is kept parsed is read.
    fn matches_fields(&self, entry: &Entry<Meta>) -> bool {
        if self.fields.is_everything() {
            return true;
        }
        let is = |path: &str, value: &str| self.fields.exactly(path).is_none_or(|wanted| wanted == value);
        is("metadata.name", &entry.key.name)
            && is("metadata.namespace", &entry.key.namespace)
            && is("spec.nodeName", &entry.meta.node)
            && serde_json::from_slice::<Value>(&entry.bytes).is_ok_and(|object| self.fields.matches(&object))
    }
}
