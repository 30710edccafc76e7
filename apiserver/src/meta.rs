use std::sync::Arc;

use serde_json::Value;
use store::Audience;

use crate::object::{is_deleting, text};

/// What the server keeps beside an object's bytes, parsed once: what is asked of many objects at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Its labels, each key and each value with a NUL behind it: one piece of memory, however many there are.
    labels: Box<str>,
    /// `spec.nodeName`: every kubelet watches the pods of its node.
    pub node: Option<Arc<str>>,
    /// Its deletion has begun.
    pub deleting: bool,
}

impl Meta {
    /// Of a stored object; the error says what is not JSON.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let object: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        Ok(Self::of(&object))
    }

    pub(crate) fn of(object: &Value) -> Self {
        let labels = object.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
        let labels: Box<str> = labels
            .filter_map(|(key, value)| Some([key.as_str(), "\0", value.as_str()?, "\0"]))
            .flatten()
            .collect::<String>()
            .into();
        let node = Some(text(object, "/spec/nodeName")).filter(|node| !node.is_empty()).map(Arc::from);
        Meta { labels, node, deleting: is_deleting(object) }
    }

    /// The value of a label.
    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        let mut parts = self.labels.split('\0');
        while let (Some(label), Some(value)) = (parts.next(), parts.next()) {
            if label == key {
                return Some(value);
            }
        }
        None
    }
}

impl Audience for Meta {
    fn audience(&self) -> Option<&Arc<str>> {
        self.node.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_a_pod() {
        let pod = json!({"metadata": {"labels": {"b": "2", "a": "1"}}, "spec": {"nodeName": "n"}});
        let meta = Meta::of(&pod);
        assert_eq!((meta.label("a"), meta.label("b"), meta.label("c")), (Some("1"), Some("2"), None));
        assert_eq!((meta.node.as_deref(), meta.deleting), (Some("n"), false));
    }
}
