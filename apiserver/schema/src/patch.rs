use json_patch::PatchOperation;
use json_patch::jsonptr::Pointer;
use serde_json::Value;

use crate::depth::{DEPTH, deeper_than};
use crate::error::Error;

mod strategic;

/// How much the copies of one JSON patch may add to the object, in bytes of JSON, as in Kubernetes.
const COPIED: usize = 3 << 20;

/// A JSON patch (RFC 6902), read and ready to be applied.
#[derive(Clone, Debug)]
pub struct JsonPatch(Vec<PatchOperation>);

impl JsonPatch {
    /// Reads the list of operations; [`Error::Patch`] says what is none.
    pub fn read(patch: Value) -> Result<Self, Error> {
        let operations = serde_json::from_value(patch).map_err(|error| Error::Patch(error.to_string()))?;
        Ok(JsonPatch(operations))
    }

    /// How many operations it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// It has no operations.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Applies one operation after the other; on an error the object may be half changed.
    pub fn apply(&self, object: &mut Value) -> Result<(), Error> {
        let mut copied = 0;
        for operation in &self.0 {
            if nests_too_deep(operation, object) {
                return Err(Error::Patch(format!("the object would be nested deeper than {DEPTH} levels")));
            }
            if let PatchOperation::Copy(copy) = operation
                && let Ok(value) = copy.from.resolve(object)
            {
                copied += serde_json::to_string(value).map_or(0, |text| text.len());
                if copied > COPIED {
                    let message = format!(
                        "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {COPIED}"
                    );
                    return Err(Error::Patch(message));
                }
            }
            if let PatchOperation::Test(test) = operation
                && test.value.is_null()
                && is_absent(object, &test.path)
            {
                continue;
            }
            let applied = json_patch::patch_unsafe(object, std::slice::from_ref(operation));
            applied.map_err(|error| Error::Patch(error.to_string()))?;
        }
        Ok(())
    }
}

/// What an operation puts somewhere would reach too deep. Were it not looked at each time, operations could nest an
/// object deeper than what walks it has stack for.
fn nests_too_deep(operation: &PatchOperation, object: &Value) -> bool {
    let (path, value) = match operation {
        PatchOperation::Add(add) => (&add.path, Some(&add.value)),
        PatchOperation::Replace(replace) => (&replace.path, Some(&replace.value)),
        PatchOperation::Copy(copy) => (&copy.path, copy.from.resolve(object).ok()),
        PatchOperation::Move(moved) => (&moved.path, moved.from.resolve(object).ok()),
        PatchOperation::Remove(_) | PatchOperation::Test(_) => return false,
    };
    let levels = DEPTH.checked_sub(path.count());
    levels.is_none_or(|levels| value.is_some_and(|value| deeper_than(value, levels)))
}

/// Nothing is there, in an object that is: to a test in Kubernetes that is as good as null, and kube-rs adds finalizers
/// by such a test.
fn is_absent(object: &Value, path: &Pointer) -> bool {
    path.split_back().is_some_and(|(parent, name)| {
        parent.resolve(object).is_ok_and(|parent| parent.is_object() && parent.get(&*name.decoded()).is_none())
    })
}

/// Applies a JSON merge patch (RFC 7386).
pub fn merge_patch(object: &mut Value, patch: &Value) {
    json_patch::merge(object, patch);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn patched(mut object: Value, patch: Value) -> Result<Value, Error> {
        JsonPatch::read(patch)?.apply(&mut object).map(|()| object)
    }

    #[test]
    fn merge_patches() {
        for (object, patch, after) in [
            (json!({"a": {"b": 1, "c": 2}}), json!({"a": {"b": null, "d": 3}}), json!({"a": {"c": 2, "d": 3}})),
            (json!({"a": [1, 2]}), json!({"a": [3]}), json!({"a": [3]})),
            (json!({"a": 1}), json!({"b": {"c": null, "d": {"e": null}}}), json!({"a": 1, "b": {"d": {}}})),
            (json!({"a": "x"}), json!({"a": {"b": 1}}), json!({"a": {"b": 1}})),
        ] {
            let mut object = object;
            merge_patch(&mut object, &patch);
            assert_eq!(object, after);
        }
    }

    #[test]
    fn operations() {
        let object = || json!({"a/b": 1, "m~n": 2, "list": ["x", "y"], "o": {"k": "v"}});
        let one = |op: Value| json!([op]);
        let with = |field: &str, value: Value| {
            let mut object = object();
            object[field] = value;
            object
        };
        for (patch, after) in [
            (one(json!({"op": "add", "path": "/list/-", "value": "z"})), with("list", json!(["x", "y", "z"]))),
            (one(json!({"op": "add", "path": "/list/0", "value": "z"})), with("list", json!(["z", "x", "y"]))),
            (one(json!({"op": "add", "path": "/o", "value": null})), with("o", json!(null))),
            (one(json!({"op": "replace", "path": "/a~1b", "value": 5})), with("a/b", json!(5))),
            (one(json!({"op": "replace", "path": "/m~0n", "value": 5})), with("m~n", json!(5))),
            (one(json!({"op": "remove", "path": "/list/1"})), with("list", json!(["x"]))),
            (one(json!({"op": "copy", "from": "/o/k", "path": "/o/l"})), with("o", json!({"k": "v", "l": "v"}))),
            (one(json!({"op": "move", "from": "/o/k", "path": "/o/l"})), with("o", json!({"l": "v"}))),
            (one(json!({"op": "test", "path": "/o", "value": {"k": "v"}})), object()),
            (one(json!({"op": "test", "path": "/absent", "value": null})), object()),
            (one(json!({"op": "add", "path": "", "value": 1})), json!(1)),
        ] {
            assert_eq!(patched(object(), patch.clone()), Ok(after), "{patch}");
        }
        for patch in [
            json!({"op": "add"}),
            one(json!({"op": "jump", "path": "/o"})),
            one(json!({"op": "add", "path": "o", "value": 1})),
            one(json!({"op": "add", "path": "/absent/k", "value": 1})),
            one(json!({"op": "add", "path": "/list/3", "value": 1})),
            one(json!({"op": "replace", "path": "/absent", "value": 1})),
            one(json!({"op": "remove", "path": "/list/2"})),
            one(json!({"op": "move", "from": "/o", "path": "/o/k"})),
            one(json!({"op": "test", "path": "/list", "value": []})),
            one(json!({"op": "test", "path": "/absent", "value": 1})),
            one(json!({"op": "test", "path": "/o", "value": null})),
            one(json!({"op": "test", "path": "/absent/k", "value": null})),
        ] {
            assert!(patched(object(), patch.clone()).is_err(), "{patch}");
        }
    }

    #[test]
    fn copies_are_bounded() {
        let copy = json!({"op": "copy", "from": "/a", "path": "/a/-"});
        let grown = patched(json!({"a": ["x".repeat(100)]}), json!(vec![copy; 64]));
        let message = grown.unwrap_err().to_string();
        assert!(message.contains("exceeding the limit 3145728"), "{message}");
    }

    #[test]
    fn nesting_is_bounded() {
        let deeper = json!([{"op": "copy", "from": "/a", "path": "/b"}, {"op": "move", "from": "/b", "path": "/a/a"}]);
        let mut object = json!({"a": {"x": {"x": 1}}});
        let patch = JsonPatch::read(deeper).unwrap();
        let times = (0..1000).take_while(|_| patch.apply(&mut object).is_ok()).count();
        assert!((1..DEPTH).contains(&times), "{times}");
        let path = "/a".repeat(200);
        assert!(patched(json!({}), json!([{"op": "add", "path": path, "value": 1}])).is_err());
    }
}
