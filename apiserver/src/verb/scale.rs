use http::Response;
use serde_json::{Value, json};

use super::modify::{Part, modify};
use super::patch::{self, Patch};
use crate::answer;
use crate::body::Body;
use crate::call::Call;
use crate::object::{self, text};
use crate::owners;
use crate::status::{Status, invalid};

/// The scale subresource: an `autoscaling/v1` Scale over an object with `spec.replicas`.
pub(crate) async fn scale(call: &Call, verb: &str) -> Result<Response<Body>, Status> {
    let bytes = match verb {
        "get" => call.server.store.get(&call.key()).ok_or_else(|| call.not_found())?.bytes.clone(),
        "update" => {
            let mut scale = call.read_other()?.unwrap_or_default();
            call.check_kind(&mut scale, "autoscaling/v1", "Scale")?;
            modify(call, Part::Main, |old| scaled(call, old, &scale)).await?
        }
        _ => {
            let (patch, _) = patch::read(call)?;
            let ty = call.server.registry.type_of("autoscaling", "v1", "Scale");
            let ty = ty.ok_or_else(Status::no_such_path)?;
            modify(call, Part::Main, |old| {
                if let Patch::Apply(scale) = &patch {
                    return applied(call, old, scale);
                }
                let mut scale = of(old);
                patch::lay(call, &patch, &mut scale, ty)?;
                call.check_kind(&mut scale, "autoscaling/v1", "Scale")?;
                scaled(call, old, &scale)
            })
            .await?
        }
    };
    answer::value(call, 200, &of(&answer::read(&bytes)?), &[])
}

/// An object with a Scale applied: whoever owns its replicas does so as one of the object's own fields.
fn applied(call: &Call, old: &Value, scale: &Value) -> Result<Value, Status> {
    let mut scale = scale.clone();
    call.check_kind(&mut scale, "autoscaling/v1", "Scale")?;
    let config = json!({
        "apiVersion": call.resource.api_version(),
        "kind": call.resource.kind,
        "metadata": scale["metadata"],
        "spec": scale["spec"],
    });
    owners::apply(call, Part::Main, Some(old), &config)
}

/// The Scale of an object.
fn of(object: &Value) -> Value {
    let metadata = |field: &str| object["metadata"][field].clone();
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": metadata("name"),
            "namespace": metadata("namespace"),
            "uid": metadata("uid"),
            "resourceVersion": metadata("resourceVersion"),
            "creationTimestamp": metadata("creationTimestamp"),
        },
        "spec": {"replicas": number("/spec/replicas")},
        "status": {"replicas": number("/status/replicas"), "selector": selector(object)},
    })
}

/// The object's selector in the form of a query.
fn selector(object: &Value) -> String {
    let selector = &object["spec"]["selector"];
    let labels = selector["matchLabels"].as_object().or_else(|| {
        let plain = selector.as_object()?;
        plain.values().all(Value::is_string).then_some(plain)
    });
    let equal = labels.into_iter().flatten();
    let mut terms: Vec<String> =
        equal.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    for expression in object::list(selector, "/matchExpressions") {
        let key = text(expression, "/key");
        let values: Vec<&str> = object::list(expression, "/values").iter().filter_map(Value::as_str).collect();
        let values = values.join(",");
        terms.push(match text(expression, "/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    terms.join(",")
}

fn scaled(call: &Call, old: &Value, scale: &Value) -> Result<Value, Status> {
    let replicas = scale.pointer("/spec/replicas").cloned().unwrap_or_else(|| 0.into());
    if !replicas.as_i64().is_some_and(|count| (0..=i64::from(i32::MAX)).contains(&count)) {
        let error = invalid("spec.replicas", replicas, "must be greater than or equal to 0");
        return Err(Status::of_fields("Scale.autoscaling", &call.name, &[error]));
    }
    let mut new = old.clone();
    object::map(&mut new, "spec").insert("replicas".into(), replicas);
    if let Some(version) = scale.pointer("/metadata/resourceVersion").filter(|version| version.is_string()) {
        object::metadata(&mut new).insert("resourceVersion".into(), version.clone());
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors() {
        let with = |selector: Value| selector_of(json!({"spec": {"selector": selector}}));
        let selector_of_expression = json!({"matchLabels": {"a": "1"}, "matchExpressions": [
            {"key": "b", "operator": "In", "values": ["x", "y"]}, {"key": "c", "operator": "DoesNotExist"}]});
        assert_eq!(with(selector_of_expression), "a=1,b in (x,y),!c");
        assert_eq!(with(json!({"a": "1", "b": "2"})), "a=1,b=2");
        assert_eq!(with(json!(null)), "");
    }

    fn selector_of(object: Value) -> String {
        selector(&object)
    }
}
