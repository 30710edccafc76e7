//! The smallest JSON merge patch (RFC 7386) between two forms of an object.

use serde_json::{Map, Value};

/// What has to be merged into `before` to get `after`; `None` when they are the same.
pub(crate) fn diff(before: &Value, after: &Value) -> Option<Value> {
    match (before, after) {
        _ if before == after => None,
        (Value::Object(before), Value::Object(after)) => {
            let mut patch = Map::new();
            for (name, new) in after {
                let change = match before.get(name) {
                    Some(old) => diff(old, new),
                    None => Some(new.clone()),
                };
                patch.extend(change.map(|change| (name.clone(), change)));
            }
            for name in before.keys().filter(|name| !after.contains_key(*name)) {
                patch.insert(name.clone(), Value::Null);
            }
            Some(Value::Object(patch))
        }
        _ => Some(after.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::diff;
    use serde_json::json;

    #[test]
    fn the_patch_holds_only_what_changed() {
        let cases = [
            (json!({"a": 1}), json!({"a": 1}), None),
            (json!({"a": 1}), json!({"a": 2}), Some(json!({"a": 2}))),
            (json!({"a": 1, "b": 2}), json!({"a": 1}), Some(json!({"b": null}))),
            (json!({"a": {"b": 1, "c": 1}}), json!({"a": {"b": 2, "c": 1}}), Some(json!({"a": {"b": 2}}))),
            (json!({"a": [1, 2]}), json!({"a": [1]}), Some(json!({"a": [1]}))),
            (json!({}), json!({"a": {"b": {}}}), Some(json!({"a": {"b": {}}}))),
        ];
        for (before, after, patch) in cases {
            assert_eq!(diff(&before, &after), patch, "{before} to {after}");
        }
    }
}
