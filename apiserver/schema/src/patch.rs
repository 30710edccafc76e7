use serde_json::Value;

use crate::error::Error;

mod strategic;

/// Applies a JSON merge patch (RFC 7386).
pub fn merge_patch(object: &mut Value, patch: &Value) {
    json_patch::merge(object, patch);
}

/// Applies a JSON patch (RFC 6902); on an error the object is as it was.
pub fn json_patch(object: &mut Value, patch: Value) -> Result<(), Error> {
    let patch: json_patch::Patch = serde_json::from_value(patch).map_err(|error| Error::Patch(error.to_string()))?;
    json_patch::patch(object, &patch).map_err(|error| Error::Patch(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn merge_and_json_patches() {
        let mut object = json!({"a": {"b": 1, "c": 2}});
        merge_patch(&mut object, &json!({"a": {"b": null, "d": 3}}));
        assert_eq!(object, json!({"a": {"c": 2, "d": 3}}));
        json_patch(&mut object, json!([{"op": "replace", "path": "/a/c", "value": 5}])).unwrap();
        assert_eq!(object, json!({"a": {"c": 5, "d": 3}}));
        let before = object.clone();
        for patch in [
            json!({"op": "add"}),
            json!([{"op": "jump", "path": "/a"}]),
            json!([{"op": "remove", "path": "/a/c"}, {"op": "remove", "path": "/x"}]),
            json!([{"op": "test", "path": "/a/c", "value": 6}]),
        ] {
            assert!(json_patch(&mut object, patch).is_err());
            assert_eq!(object, before);
        }
    }
}
