use std::collections::{BTreeSet, HashMap};

use serde_json::{Map, Value, json};

use super::descriptions::{Descriptions, Index};
use crate::registry::Registry;
use crate::types::{Field, Form, ListType, Merge, Shape, Type, TypeId};

impl Registry {
    /// Gives each of the wanted types, and of those that they need, once, by its OpenAPI name.
    pub(super) fn openapi_schemas(&self, mut wanted: Vec<TypeId>, mut give: impl FnMut(&str, Value)) {
        let descriptions = Descriptions::unpack();
        let index = descriptions.index();
        let mut seen = BTreeSet::new();
        while let Some(id) = wanted.pop() {
            if !seen.insert(id.0) {
                continue;
            }
            let ty = self.ty(id);
            ty.fields.iter().for_each(|field| references(&field.shape, &mut wanted));
            give(&ty.openapi_name(), self.schema(ty, &index));
        }
    }

    /// The reference to a type, for the body of a request or an answer.
    pub(super) fn reference(&self, id: TypeId) -> Value {
        json!({"$ref": format!("#/components/schemas/{}", self.ty(id).openapi_name())})
    }

    fn schema(&self, ty: &Type, index: &Index<'_>) -> Value {
        let mut schema = match ty.form {
            Form::Struct => self.object(ty, index.fields(&ty.name)),
            Form::Object => json!({"type": "object"}),
            Form::Any => json!({}),
            Form::Quantity => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
            Form::IntOrString => {
                json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
            }
            Form::Time | Form::MicroTime => json!({"type": "string", "format": "date-time"}),
        };
        if let Some(text) = index.of(&ty.name) {
            schema["description"] = text.into();
        }
        if ty.atomic {
            schema["x-kubernetes-map-type"] = "atomic".into();
        }
        if !ty.kinds.is_empty() {
            let kinds = ty.kinds.iter();
            let kinds = kinds.map(|(group, version, kind)| json!({"group": group, "version": version, "kind": kind}));
            schema["x-kubernetes-group-version-kind"] = kinds.collect();
        }
        schema
    }

    fn object(&self, ty: &Type, mut texts: HashMap<&str, String>) -> Value {
        let property = |field: &Field| (field.name.to_string(), self.property(field, texts.remove(&*field.name)));
        let properties: Map<String, Value> = ty.fields.iter().map(property).collect();
        let required = ty.fields.iter().filter(|field| field.required);
        let required: Vec<&str> = required.map(|field| field.name.as_ref()).collect();
        let mut schema = json!({"type": "object", "properties": properties});
        if !required.is_empty() {
            schema["required"] = required.into();
        }
        schema
    }

    /// What a field holds; a reference stands alone, so that what is said beside it makes it an `allOf`.
    fn property(&self, field: &Field, text: Option<String>) -> Value {
        let mut schema = self.shape(&field.shape);
        let mut more = field.merge.as_deref().map(merge).unwrap_or_default();
        more.extend(field.default.as_deref().map(|default| ("default", default.clone())));
        more.extend(text.map(|text| ("description", text.into())));
        if !more.is_empty() && schema.get("$ref").is_some() {
            schema = json!({"allOf": [schema]});
        }
        more.into_iter().for_each(|(key, value)| schema[key] = value);
        schema
    }

    fn shape(&self, shape: &Shape) -> Value {
        match shape {
            Shape::String => json!({"type": "string"}),
            Shape::Bytes => json!({"type": "string", "format": "byte"}),
            Shape::Int32 => json!({"type": "integer", "format": "int32"}),
            Shape::Int64 => json!({"type": "integer", "format": "int64"}),
            Shape::Double => json!({"type": "number", "format": "double"}),
            Shape::Bool => json!({"type": "boolean"}),
            Shape::Type(id) => self.reference(*id),
            Shape::List(item) => json!({"type": "array", "items": self.item(item)}),
            Shape::Map(item) => json!({"type": "object", "additionalProperties": self.item(item)}),
        }
    }

    /// Whether `{}` is an object of that type.
    fn is_empty(&self, id: TypeId) -> bool {
        let ty = self.ty(id);
        ty.form == Form::Struct && !ty.fields.iter().any(|field| field.required)
    }

    /// An item of a list or map. Go's zero value is its default, where that is no null. Kubernetes says so of objects
    /// with required fields, too, but `{}` is none of those, and strict readers refuse the document.
    fn item(&self, shape: &Shape) -> Value {
        let item = self.shape(shape);
        match shape {
            Shape::Type(id) if self.is_empty(*id) => json!({"allOf": [item], "default": {}}),
            _ => with_zero(item, shape),
        }
    }
}

fn references(shape: &Shape, found: &mut Vec<TypeId>) {
    match shape {
        Shape::Type(id) => found.push(*id),
        Shape::List(item) | Shape::Map(item) => references(item, found),
        _ => {}
    }
}

fn with_zero(mut item: Value, shape: &Shape) -> Value {
    let zero = match shape {
        Shape::String => Value::from(""),
        Shape::Int32 | Shape::Int64 | Shape::Double => 0.into(),
        Shape::Bool => false.into(),
        _ => return item,
    };
    item["default"] = zero;
    item
}

/// How patches and server-side apply merge a field.
fn merge(merge: &Merge) -> Vec<(&'static str, Value)> {
    let mut said = match &merge.list {
        None => Vec::new(),
        Some(ListType::Atomic) => vec![("x-kubernetes-list-type", "atomic".into())],
        Some(ListType::Set) => vec![("x-kubernetes-list-type", "set".into())],
        Some(ListType::Map(keys)) => {
            let keys = keys.iter().map(|key| Value::from(key.as_ref())).collect();
            vec![("x-kubernetes-list-type", "map".into()), ("x-kubernetes-list-map-keys", keys)]
        }
    };
    for (key, value) in [
        ("x-kubernetes-map-type", &merge.map_type),
        ("x-kubernetes-patch-strategy", &merge.patch_strategy),
        ("x-kubernetes-patch-merge-key", &merge.patch_merge_key),
    ] {
        said.extend(value.as_deref().map(|value| (key, value.into())));
    }
    said
}
