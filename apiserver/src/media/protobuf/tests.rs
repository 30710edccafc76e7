use serde_json::json;

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
    assert_eq!(decode(&Registry::builtin(), &bytes), Ok(expected));
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
