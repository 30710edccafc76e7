//! Which Ingresses are ours (KEP-1453).

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::{Ingress, IngressClass};

/// The controllers that IngressClasses of ours name: that of the class `nginx`, whose manifests are served here, and
/// that of `coracle`.
pub const CONTROLLERS: [&str; 2] = ["k8s.io/ingress-nginx", "coracle.dev/ingress-controller"];
/// The classes that are ours even while no IngressClass has their name.
const CLASSES: [&str; 2] = ["nginx", "coracle"];
const CLASS: &str = "kubernetes.io/ingress.class";
const DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";

/// Whether an Ingress is ours: by the class that it names in its spec, or else in the annotation of old. One without a
/// class goes to the default class; where there is none, it is ours unless there are classes of others, too.
pub(super) fn is_ours(ingress: &Ingress, classes: &BTreeMap<String, Arc<IngressClass>>) -> bool {
    let ours = |class: &IngressClass| {
        let controller = class.spec.as_ref().and_then(|spec| spec.controller.as_deref());
        controller.is_some_and(|controller| CONTROLLERS.contains(&controller))
    };
    if let Some(name) = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref()) {
        return classes.get(name).map_or_else(|| CLASSES.contains(&name), |class| ours(class));
    }
    if let Some(name) = ingress.metadata.annotations.as_ref().and_then(|annotations| annotations.get(CLASS)) {
        return CLASSES.contains(&name.as_str());
    }
    let is_default = |class: &&Arc<IngressClass>| {
        let annotations = class.metadata.annotations.as_ref();
        annotations.and_then(|annotations| annotations.get(DEFAULT)).is_some_and(|value| value == "true")
    };
    let mut defaults = classes.values().filter(is_default).peekable();
    match defaults.peek() {
        Some(_) => defaults.any(|class| ours(class)),
        None => classes.values().all(|class| ours(class)),
    }
}
