//! A Namespace: that it is there, and its labels.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::Key;
use crate::service::key;

/// A Namespace as a label selector sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Its name; the namespace is empty.
    pub key: Key,
    /// Its labels and their values, sorted.
    pub labels: Box<[(Arc<str>, Arc<str>)]>,
}

impl Namespace {
    pub(crate) fn read(meta: &ObjectMeta) -> Self {
        let labels = meta.labels.iter().flatten().map(|(label, value)| (label.as_str().into(), value.as_str().into()));
        Namespace { key: key(meta), labels: labels.collect() }
    }
}
