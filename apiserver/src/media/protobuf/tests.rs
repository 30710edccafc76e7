use schema::Form;
use serde_json::Map;

use super::*;

/// A field of bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
    field.extend_from_slice(bytes);
    field
}

fn number(at: u8, value: u8) -> Vec<u8> {
    vec![at << 3, value]
}

fn envelope(version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let meta = [field(1, version.as_bytes()), field(2, kind.as_bytes())].concat();
    [MAGIC.to_vec(), field(1, &meta), field(2, raw), field(3, b""), field(4, b"")].concat()
}

#[test]
fn a_config_map() {
    let labels = field(11, &[field(1, b"app"), field(2, b"web")].concat());
    let metadata = [field(1, b"x"), field(2, b""), number(7, 0), field(8, b""), labels].concat();
    let data = field(2, &[field(1, b"k"), field(2, b"v")].concat());
    let bytes = envelope("v1", "ConfigMap", &[field(1, &metadata), data].concat());
    let expected = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "x", "labels": {"app": "web"}}, "data": {"k": "v"},
    });
    assert_eq!(decode(&Registry::builtin(), &bytes).as_ref(), Ok(&expected));
    // Without the zeros that Go writes.
    let metadata = [field(1, b"x"), field(11, &[field(1, b"app"), field(2, b"web")].concat())].concat();
    let data = field(2, &[field(1, b"k"), field(2, b"v")].concat());
    let bytes = envelope("v1", "ConfigMap", &[field(1, &metadata), data].concat());
    assert_eq!(encode(&Registry::builtin(), &expected), Ok(bytes));
}

#[test]
fn inlined_members_ports_and_pointers() {
    let get = field(2, &[field(1, b"/"), field(2, &[number(1, 1), field(3, b"http")].concat())].concat());
    let probe = field(10, &[field(1, &get), number(2, 0)].concat());
    let empty_dir = field(1, &[field(1, b"tmp"), field(2, &field(2, b""))].concat());
    let container = field(2, &[field(1, b"c"), probe].concat());
    let spec = field(2, &[empty_dir, container, number(4, 0), number(11, 0)].concat());
    let pod = decode(&Registry::builtin(), &envelope("v1", "Pod", &spec)).unwrap();
    let expected = json!({
        "volumes": [{"name": "tmp", "emptyDir": {}}],
        "containers": [{"name": "c", "livenessProbe": {"httpGet": {"path": "/", "port": "http"}}}],
        "terminationGracePeriodSeconds": 0,
    });
    assert_eq!(pod["spec"], expected);
    let written = encode(&Registry::builtin(), &pod).unwrap();
    assert_eq!(decode(&Registry::builtin(), &written), Ok(pod));
}

#[test]
fn broken_messages() {
    let registry = Registry::builtin();
    let whole = envelope("v1", "ConfigMap", &field(1, &field(1, b"x")));
    for cut in 0..whole.len() {
        // Whatever comes of a part, it comes without a panic.
        let _ = decode(&registry, &whole[..cut]);
    }
    assert!(decode(&registry, b"{}").is_err());
    assert!(decode(&registry, &envelope("v1", "Nope", b"")).is_err());
    assert!(decode(&registry, &envelope("v1", "ConfigMap", &number(1, 5))).is_err());
}

#[test]
fn every_resource_has_its_messages() {
    let registry = Registry::builtin();
    for resource in registry.resources() {
        let name = &registry.ty(resource.type_id).name;
        assert!(messages().contains_key(name.as_ref()), "{name}");
    }
}

/// A value with every field of its type, but for types within themselves.
fn filled(registry: &Registry, shape: &Shape, path: &mut Vec<TypeId>) -> Option<Value> {
    Some(match shape {
        Shape::String => "text \"ü\"".into(),
        Shape::Bytes => "AP8=".into(),
        Shape::Int32 => i32::MIN.into(),
        Shape::Int64 => i64::MAX.into(),
        Shape::Double => (-0.5).into(),
        Shape::Bool => true.into(),
        // Two of what is small: pods in lists in lists would become large.
        Shape::List(item) if matches!(**item, Shape::Type(_)) => vec![filled(registry, item, path)?].into(),
        Shape::List(item) => vec![filled(registry, item, path)?, filled(registry, item, path)?].into(),
        Shape::Map(item) => json!({"b": filled(registry, item, path)?, "a.b/c": filled(registry, item, path)?}),
        Shape::Type(ty) if path.contains(ty) => return None,
        Shape::Type(ty) => {
            let kind = registry.ty(*ty);
            match kind.form {
                Form::Struct => {
                    path.push(*ty);
                    let mut object = Map::new();
                    for field in &kind.fields {
                        // Objects within objects have neither on the wire.
                        let typed = !kind.kinds.is_empty() && matches!(&*field.name, "kind" | "apiVersion");
                        if let Some(value) = filled(registry, &field.shape, path).filter(|_| !typed) {
                            object.insert(field.name.to_string(), value);
                        }
                    }
                    path.pop();
                    object.into()
                }
                Form::Any if kind.name.ends_with("OrArray") => json!([{"type": "string"}, {"type": "object"}]),
                Form::Any if kind.name.ends_with("OrStringArray") => json!(["a", "b"]),
                Form::Any if kind.name.ends_with("OrBool") => json!({"type": "string"}),
                Form::Object | Form::Any => json!({"a": [1, null, {"b": 0.5}]}),
                Form::Quantity => "100m".into(),
                Form::IntOrString => "25%".into(),
                Form::Time => "2026-01-02T03:04:05Z".into(),
                Form::MicroTime => "1969-01-02T03:04:05.000006Z".into(),
            }
        }
    })
}

/// The same with false in place of true.
fn zeroed(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), zeroed(value))).collect(),
        Value::Array(items) => items.iter().map(zeroed).collect(),
        Value::Bool(_) => false.into(),
        other => other.clone(),
    }
}

#[test]
fn every_kind_comes_back_as_it_went() {
    let registry = Registry::builtin();
    let kinds = registry
        .resources()
        .flat_map(|resource| [resource.kind.to_string(), resource.list_kind()].map(|kind| (resource.clone(), kind)));
    for (resource, kind) in kinds {
        let Some(ty) = registry.type_of(&resource.group, &resource.version, &kind) else { continue };
        let mut object = filled(&registry, &Shape::Type(ty), &mut Vec::new()).unwrap();
        object["kind"] = kind.as_str().into();
        object["apiVersion"] = resource.api_version().into();
        for object in [zeroed(&object), object] {
            let bytes = encode(&registry, &object).unwrap_or_else(|error| panic!("{kind}: {error}"));
            let back = decode(&registry, &bytes).unwrap_or_else(|error| panic!("{kind}: {error}"));
            similar(&kind, &object, &back);
        }
    }
}

/// Equal but for what is false, which may be missing in what came back.
fn similar(path: &str, left: &Value, right: &Value) {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            for name in right.keys() {
                assert!(left.contains_key(name), "{path}.{name} came from nowhere");
            }
            for (name, left) in left {
                match right.get(name) {
                    Some(right) => similar(&format!("{path}.{name}"), left, right),
                    None => assert_eq!(left, false, "{path}.{name}"),
                }
            }
        }
        (Value::Array(left), Value::Array(right)) => {
            assert_eq!(left.len(), right.len(), "{path}");
            left.iter().zip(right).for_each(|(left, right)| similar(path, left, right));
        }
        (left, right) => assert_eq!(left, right, "{path}"),
    }
}

#[test]
fn lists_times_and_schemas() {
    let registry = Registry::builtin();
    let items = [json!({"metadata": {"name": "a"}}), json!({"metadata": {"name": "b"}, "data": {"k": "v"}})];
    let metadata = json!({"resourceVersion": "7", "remainingItemCount": 0});
    let pieces =
        list::<Failure>(&registry, ["v1", "ConfigMapList"], metadata.clone(), items.clone().into_iter().map(Ok));
    let expected = json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": metadata, "items": items});
    assert_eq!(decode(&registry, &pieces.unwrap().concat()), Ok(expected));
    for schema in [
        json!({"items": {"type": "string"}, "additionalProperties": false, "default": null}),
        json!({"items": [], "additionalProperties": true, "maximum": 0.0, "properties": {"a": {"type": "object"}}}),
        json!({"dependencies": {"a": {"type": "string"}, "b": ["c"]}}),
    ] {
        let versions = json!([{"name": "v1", "served": false, "storage": true, "schema": {"openAPIV3Schema": schema}}]);
        let mut crd = json!({
            "kind": "CustomResourceDefinition", "apiVersion": "apiextensions.k8s.io/v1",
            "spec": {"versions": versions},
        });
        let back = decode(&registry, &encode(&registry, &crd).unwrap()).unwrap();
        let schema = crd.pointer_mut("/spec/versions/0/schema/openAPIV3Schema").unwrap();
        for empty in ["items", "default"] {
            // Neither an empty list nor null is on the wire.
            if schema[empty].is_null() || schema[empty] == json!([]) {
                schema.as_object_mut().unwrap().remove(empty);
            }
        }
        assert_eq!(back["spec"], crd["spec"]);
    }
}

#[test]
fn frames() {
    assert_eq!(frame("ADDED", b"xyz"), *b"\0\0\0\x0e\x0a\x05ADDED\x12\x05\x0a\x03xyz");
}
