use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// The key of the item itself in fieldsV1.
const SELF: &str = ".";

/// A set of fields, as a tree of path elements in the spelling of fieldsV1: `f:name` a field, `k:{…}` an item by its
/// keys, `v:…` an item of a set, `i:…` an item by its place. The JSON in them is canonical: keys sorted, no blanks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FieldSet {
    /// The item itself is in the set.
    pub(super) member: bool,
    pub(super) children: BTreeMap<String, FieldSet>,
}

impl FieldSet {
    /// Of the JSON in `fieldsV1`; None when it is none.
    pub(super) fn parse(fields: &Value) -> Option<Self> {
        let mut set = FieldSet::default();
        for (element, below) in fields.as_object()? {
            if element == SELF {
                set.member = true;
                continue;
            }
            let mut child = Self::parse(below)?;
            child.member |= child.children.is_empty();
            set.children.insert(canonical(element)?, child);
        }
        Some(set)
    }

    /// The JSON for `fieldsV1`.
    pub(super) fn into_value(self) -> Value {
        let mut fields = Map::new();
        if self.member && !self.children.is_empty() {
            fields.insert(SELF.to_owned(), Value::Object(Map::new()));
        }
        fields.extend(self.children.into_iter().map(|(element, child)| (element, child.into_value())));
        Value::Object(fields)
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }

    /// Adds a child, unless there is nothing in it.
    pub(super) fn insert(&mut self, element: impl Into<String>, child: FieldSet) {
        if !child.is_empty() {
            self.children.insert(element.into(), child);
        }
    }

    pub(super) fn union(&mut self, other: FieldSet) {
        self.member |= other.member;
        for (element, child) in other.children {
            self.children.entry(element).or_default().union(child);
        }
    }

    pub(super) fn subtract(&mut self, other: &FieldSet) {
        self.member &= !other.member;
        if other.children.is_empty() {
            return;
        }
        self.children.retain(|element, child| {
            if let Some(less) = other.children.get(element) {
                child.subtract(less);
            }
            !child.is_empty()
        });
    }

    pub(super) fn intersection(&self, other: &FieldSet) -> FieldSet {
        let mut both = FieldSet { member: self.member && other.member, children: BTreeMap::new() };
        if !other.children.is_empty() {
            for (element, child) in &self.children {
                if let Some(same) = other.children.get(element) {
                    both.insert(element.as_str(), child.intersection(same));
                }
            }
        }
        both
    }

    /// Every member's path, such as `.spec.ports[port=80,protocol="TCP"].name`; what is above comes first.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect(&mut String::new(), &mut paths);
        paths
    }

    fn collect(&self, path: &mut String, paths: &mut Vec<String>) {
        if self.member {
            paths.push(path.clone());
        }
        let before = path.len();
        for (element, child) in &self.children {
            path.push_str(&spoken(element));
            child.collect(path, paths);
            path.truncate(before);
        }
    }
}

fn canonical(element: &str) -> Option<String> {
    let (kind, rest) = element.split_at_checked(2)?;
    match kind {
        "f:" => Some(element.to_owned()),
        "i:" => rest.parse::<i64>().ok().map(|_| element.to_owned()),
        "k:" => {
            let keys: Map<String, Value> = serde_json::from_str(rest).ok()?;
            Some(format!("k:{}", Value::Object(keys)))
        }
        "v:" => serde_json::from_str::<Value>(rest).ok().map(|value| format!("v:{value}")),
        _ => None,
    }
}

/// A path element as messages have it.
pub(super) fn spoken(element: &str) -> String {
    let (kind, rest) = element.split_at_checked(2).unwrap_or(("", element));
    match kind {
        "f:" => format!(".{rest}"),
        "k:" => {
            let keys: Map<String, Value> = serde_json::from_str(rest).unwrap_or_default();
            let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("[{}]", keys.join(","))
        }
        "v:" => format!("[={rest}]"),
        _ => format!("[{rest}]"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(fields: Value) -> FieldSet {
        FieldSet::parse(&fields).unwrap()
    }

    #[test]
    fn there_and_back() {
        let fields = json!({
            "f:metadata": {"f:finalizers": {".": {}, "v:\"a/b\"": {}}},
            "f:spec": {"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:name": {}}}},
        });
        assert_eq!(set(fields.clone()).into_value(), fields);
        let loose = json!({"f:a": {"k:{ \"protocol\": \"TCP\", \"port\":80 }": {}}});
        assert_eq!(set(loose).into_value(), json!({"f:a": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {}}}));
        for wrong in [json!([]), json!({"x": {}}), json!({"f:a": 1}), json!({"k:[]": {}}), json!({"i:x": {}})] {
            assert_eq!(FieldSet::parse(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn operations() {
        let first = set(json!({"f:a": {".": {}, "f:b": {}, "f:c": {}}, "f:d": {}}));
        let second = set(json!({"f:a": {"f:b": {}}, "f:e": {}}));
        let mut union = first.clone();
        union.union(second.clone());
        assert_eq!(union.into_value(), json!({"f:a": {".": {}, "f:b": {}, "f:c": {}}, "f:d": {}, "f:e": {}}));
        let mut less = first.clone();
        less.subtract(&second);
        assert_eq!(less.into_value(), json!({"f:a": {".": {}, "f:c": {}}, "f:d": {}}));
        assert_eq!(first.intersection(&second).into_value(), json!({"f:a": {"f:b": {}}}));
    }

    #[test]
    fn paths() {
        let fields = json!({"f:a": {".": {}, "k:{\"n\":\"x\",\"p\":1}": {"f:b": {}}, "v:\"s\"": {}}, "i:0": {}});
        assert_eq!(set(fields).paths(), [".a", ".a[n=\"x\",p=1].b", ".a[=\"s\"]", "[0]"]);
    }
}
