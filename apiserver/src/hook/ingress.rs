//! What the admission plugin DefaultIngressClass does, and what is checked of new Ingresses only.

use schema::FieldError;
use serde_json::Value;

use crate::answer;
use crate::call::Call;
use crate::object::{self, text};
use crate::status::{Status, invalid};

const CLASSES: &str = "networking.k8s.io/ingressclasses";
const IS_DEFAULT: &str = "/metadata/annotations/ingressclass.kubernetes.io~1is-default-class";
/// How a class was named before there were IngressClasses.
const CLASS: &str = "/metadata/annotations/kubernetes.io~1ingress.class";

/// A new Ingress without a class gets the default one.
pub(super) fn admit(call: &Call, ingress: &mut Value) -> Result<(), Status> {
    if ingress.pointer("/spec/ingressClassName").is_some() || ingress.pointer(CLASS).is_some() {
        return Ok(());
    }
    let classes = call.server.store.list(CLASSES, None).1;
    let classes = classes.iter().map(|entry| answer::read(&entry.bytes)).collect::<Result<Vec<_>, _>>()?;
    if let Some(class) = default(&classes) {
        object::map(ingress, "spec").insert("ingressClassName".into(), class.into());
    }
    Ok(())
}

/// The newest default class; of two that are as new, the first by name.
fn default(classes: &[Value]) -> Option<&str> {
    let defaults = classes.iter().filter(|class| class.pointer(IS_DEFAULT).is_some_and(|is| is == "true"));
    let age = |class: &&Value| {
        (std::cmp::Reverse(text(class, "/metadata/creationTimestamp").to_owned()), name(class).to_owned())
    };
    defaults.min_by_key(age).map(name)
}

fn name(class: &Value) -> &str {
    text(class, "/metadata/name")
}

/// The two ways to name a class must not differ in a new Ingress.
pub(super) fn check(old: Option<&Value>, ingress: &Value) -> Vec<FieldError> {
    let (class, annotation) = (text(ingress, "/spec/ingressClassName"), ingress.pointer(CLASS).and_then(Value::as_str));
    match annotation {
        Some(annotation) if old.is_none() && !class.is_empty() && class != annotation => {
            let why = "must match `ingressClassName` when both are specified";
            vec![invalid("annotations.kubernetes.io/ingress.class", annotation, why)]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_newest_default_class() {
        let class = |name: &str, created: &str, default: &str| {
            let annotations = json!({"ingressclass.kubernetes.io/is-default-class": default});
            json!({"metadata": {"name": name, "creationTimestamp": created, "annotations": annotations}})
        };
        let (old, new) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        for (classes, expected) in [
            (vec![], None),
            (vec![class("a", old, "false")], None),
            (vec![class("a", old, "true"), class("b", new, "false")], Some("a")),
            (vec![class("a", old, "true"), class("b", new, "true")], Some("b")),
            (vec![class("b", new, "true"), class("a", new, "true")], Some("a")),
        ] {
            assert_eq!(default(&classes), expected);
        }
    }

    #[test]
    fn both_names_of_a_class_are_one() {
        let ingress = |class: &str| {
            json!({
                "metadata": {"annotations": {"kubernetes.io/ingress.class": "nginx"}},
                "spec": {"ingressClassName": class},
            })
        };
        assert_eq!(check(None, &ingress("nginx")).len(), 0);
        assert_eq!(check(None, &ingress("other")).len(), 1);
        assert_eq!(check(Some(&ingress("other")), &ingress("other")).len(), 0);
    }
}
