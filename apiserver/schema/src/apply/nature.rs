use std::sync::LazyLock;

use serde_json::{Map, Value};

use crate::registry::Registry;
use crate::types::{Form, ListType, Merge, Shape, Text, Type};

/// How the fields of a place are owned.
#[derive(Clone, Copy)]
pub(super) enum Nature<'a> {
    /// As a whole.
    Leaf,
    /// Field by field.
    Struct(&'a Type),
    /// Key by key.
    Map(&'a Shape),
    /// A list of scalars, each by itself.
    Set,
    /// A list of objects, each by itself and by these keys.
    Keyed(&'a [Text], &'a Shape),
}

/// Types, besides specs, statuses and strategies, that Kubernetes holds by value: they are there, if empty, in
/// everything that has them.
const BY_VALUE: [&str; 6] = [
    "DaemonEndpoint",
    "EventSource",
    "NodeDaemonEndpoints",
    "NodeSystemInfo",
    "ObjectMeta",
    "VolumeResourceRequirements",
];

/// An object without fields: what stands for one that is not there yet.
pub(super) static NOTHING: LazyLock<Value> = LazyLock::new(|| Value::Object(Map::new()));
static NULL: Value = Value::Null;

impl<'a> Nature<'a> {
    pub(super) fn of(registry: &'a Registry, shape: &'a Shape, merge: Option<&'a Merge>) -> Self {
        let atomic = merge.and_then(|merge| merge.map_type.as_deref()) == Some("atomic");
        match shape {
            Shape::Type(id) => match registry.ty(*id) {
                ty if ty.form == Form::Struct && !ty.atomic && !atomic => Self::Struct(ty),
                _ => Self::Leaf,
            },
            Shape::Map(item) if !atomic => Self::Map(item),
            Shape::List(item) => merge.map_or(Self::Leaf, |merge| Self::list(merge, item)),
            _ => Self::Leaf,
        }
    }

    /// Lists that do not say how they are applied are applied as they are patched.
    fn list(merge: &'a Merge, item: &'a Shape) -> Self {
        match &merge.list {
            Some(ListType::Atomic) => Self::Leaf,
            Some(ListType::Set) => Self::Set,
            Some(ListType::Map(keys)) => Self::Keyed(keys, item),
            None => match (merge.patch_strategy.as_deref(), &merge.patch_merge_key) {
                (Some("merge" | "merge,retainKeys"), Some(key)) => Self::Keyed(std::slice::from_ref(key), item),
                (Some("merge" | "merge,retainKeys"), None) => Self::Set,
                _ => Self::Leaf,
            },
        }
    }

    /// The nature of what stands under a key; a leaf where nothing is known.
    pub(super) fn field(self, registry: &'a Registry, name: &str) -> Nature<'a> {
        match self {
            Self::Struct(ty) => {
                let field = ty.field(name);
                field.map_or(Self::Leaf, |field| Self::of(registry, &field.shape, field.merge.as_deref()))
            }
            Self::Map(item) => Self::of(registry, item, None),
            _ => Self::Leaf,
        }
    }

    /// The nature of the items of a list.
    pub(super) fn item(self, registry: &'a Registry) -> Nature<'a> {
        match self {
            Self::Keyed(_, item) => Self::of(registry, item, None),
            _ => Self::Leaf,
        }
    }

    /// The path element of an item of a list; the error is the key that it lacks.
    pub(super) fn element(self, registry: &Registry, item: &Value) -> Result<String, &'a str> {
        let Self::Keyed(keys, shape) = self else { return Ok(format!("v:{item}")) };
        let mut named = Map::new();
        for key in keys {
            let default = || match shape {
                Shape::Type(id) => registry.ty(*id).field(key)?.default.as_deref(),
                _ => None,
            };
            let value = item.get(key.as_ref()).or_else(default).ok_or(key.as_ref())?;
            named.insert(key.as_ref().to_owned(), value.clone());
        }
        Ok(format!("k:{}", Value::Object(named)))
    }

    /// What stands in Kubernetes' own form for a field that is absent: structs that are held by value are there, and
    /// so are required fields.
    pub(super) fn absent(self, registry: &Registry, name: &str) -> Option<&'static Value> {
        let Self::Struct(ty) = self else { return None };
        let field = ty.field(name)?;
        let by_value = |id| {
            let name = registry.ty(id).go_name();
            ["Spec", "Status", "Strategy"].iter().any(|end| name.ends_with(end)) || BY_VALUE.contains(&name)
        };
        match &field.shape {
            Shape::Type(id) if registry.ty(*id).form == Form::Struct && (field.required || by_value(*id)) => {
                Some(&*NOTHING)
            }
            _ if field.required => Some(&NULL),
            _ => None,
        }
    }
}

/// The entries of an object; none for null; None for anything else.
pub(super) fn entries(value: Option<&Value>) -> Option<&Map<String, Value>> {
    match value {
        None | Some(Value::Null) => NOTHING.as_object(),
        Some(Value::Object(entries)) => Some(entries),
        _ => None,
    }
}

/// The items of a list; none for null; None for anything else.
pub(super) fn items(value: Option<&Value>) -> Option<&[Value]> {
    match value {
        None | Some(Value::Null) => Some(&[]),
        Some(Value::Array(items)) => Some(items),
        _ => None,
    }
}
