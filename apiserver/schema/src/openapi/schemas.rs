use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::registry::Registry;
use crate::types::{Field, Form, ListType, Shape, Type, TypeId};

/// Kinds that every group version speaks of.
const SHARED: [&str; 2] = ["DeleteOptions", "Status"];

impl Registry {
    /// The types that a group version needs, by their OpenAPI names.
    pub(super) fn openapi_schemas(&self, group: &str, version: &str) -> Map<String, Value> {
        let mut wanted: Vec<TypeId> = Vec::new();
        for resource in self.resources_of(group, version) {
            wanted.push(resource.type_id);
            wanted.extend(self.type_of(group, version, &resource.list_kind()));
            let subresources = resource.subresources.iter();
            wanted.extend(subresources.filter_map(|sub| self.type_of(&sub.group, &sub.version, &sub.kind)));
        }
        wanted.extend(SHARED.iter().filter_map(|kind| self.type_of("", "v1", kind)));
        let mut seen = BTreeSet::new();
        let mut schemas = Map::new();
        while let Some(id) = wanted.pop() {
            if !seen.insert(id.0) {
                continue;
            }
            let ty = self.ty(id);
            ty.fields.iter().for_each(|field| references(&field.shape, &mut wanted));
            schemas.insert(ty.openapi_name(), self.schema(ty));
        }
        schemas
    }

    /// The reference to a type, for the body of a request or an answer.
    pub(super) fn reference(&self, id: TypeId) -> Value {
        json!({"$ref": format!("#/components/schemas/{}", self.ty(id).openapi_name())})
    }

    fn schema(&self, ty: &Type) -> Value {
        let mut schema = match ty.form {
            Form::Struct => self.object(ty),
            Form::Object => json!({"type": "object"}),
            Form::Any => json!({}),
            Form::Quantity => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
            Form::IntOrString => {
                json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
            }
            Form::Time | Form::MicroTime => json!({"type": "string", "format": "date-time"}),
        };
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

    fn object(&self, ty: &Type) -> Value {
        let properties: Map<String, Value> =
            ty.fields.iter().map(|field| (field.name.to_string(), self.property(field))).collect();
        let required = ty.fields.iter().filter(|field| field.required);
        let required: Vec<&str> = required.map(|field| field.name.as_ref()).collect();
        let mut schema = json!({"type": "object", "properties": properties});
        if !required.is_empty() {
            schema["required"] = required.into();
        }
        schema
    }

    fn property(&self, field: &Field) -> Value {
        let mut schema = self.shape(&field.shape);
        let mut set = |key: &str, value: Value| schema[key] = value;
        if let Some(default) = &field.default {
            set("default", Value::clone(default));
        }
        let Some(merge) = &field.merge else { return schema };
        match &merge.list {
            None => {}
            Some(ListType::Atomic) => set("x-kubernetes-list-type", "atomic".into()),
            Some(ListType::Set) => set("x-kubernetes-list-type", "set".into()),
            Some(ListType::Map(keys)) => {
                set("x-kubernetes-list-type", "map".into());
                let keys = keys.iter().map(|key| Value::from(key.as_ref()));
                set("x-kubernetes-list-map-keys", keys.collect());
            }
        }
        for (key, value) in [
            ("x-kubernetes-map-type", &merge.map_type),
            ("x-kubernetes-patch-strategy", &merge.patch_strategy),
            ("x-kubernetes-patch-merge-key", &merge.patch_merge_key),
        ] {
            if let Some(value) = value {
                set(key, value.as_ref().into());
            }
        }
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
            Shape::Type(id) => json!({"allOf": [self.reference(*id)]}),
            Shape::List(item) => json!({"type": "array", "items": self.shape(item)}),
            Shape::Map(item) => json!({"type": "object", "additionalProperties": self.shape(item)}),
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
